"""What other objects say of a pod: its node, its namespace, and whose its owner is, as further ``__meta_*`` labels.

Nothing of it is asked for unless it is wanted: each kind is one more list and watch, and one more right.
Source: prometheus/prometheus, discovery/kubernetes/{pod,node,kubernetes}.go (``attach_metadata``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ebbtide import Api, ApiResource, Settings, Watch, option
from receivers.kubernetes_pods import POD, PREFIX, Labels, controller, described, name_of

_VERBS = ("list", "watch")


class AttachSettings(Settings):
    """What is asked for beside the pods."""

    node: bool = option(False, "Name, labels and annotations of the pod's node.")
    namespace: bool = option(False, "Labels and annotations of the pod's namespace.")
    deployment: bool = option(False, "Name of the Deployment whose ReplicaSet owns the pod.")
    job: bool = option(False, "Name of the Job that owns the pod.")
    cronjob: bool = option(False, "Name of the CronJob whose Job owns the pod.")


class Attachments:
    """The objects beside the pods, and what they add to the labels of one.

    With a ``node_selector`` pods on other nodes are left out.
    """

    def __init__(self, settings: AttachSettings, node_selector: str, namespaces: list[str], api: Api):
        self._settings = settings
        self._selects_nodes = bool(node_selector)
        follow = partial(_followed, api)
        self._nodes = follow("nodes", "api/v1", [""], _node, node_selector) if settings.node else []
        self._namespaces = follow("namespaces", "api/v1", [""], _namespace) if settings.namespace else []
        self._sets = (
            follow("replicasets", "apis/apps/v1", namespaces, partial(_owner, "Deployment"))
            if settings.deployment
            else []
        )
        self._jobs = follow("jobs", "apis/batch/v1", namespaces, partial(_owner, "CronJob")) if settings.cronjob else []

    @property
    def watches(self) -> list[Watch[Labels]]:
        """All that is to be followed."""
        return [*self._nodes, *self._namespaces, *self._sets, *self._jobs]

    def __call__(self, pod: Mapping[str, str]) -> Labels | None:
        """Return what is added to the labels of a pod; None where the pod is left out."""
        namespace = pod.get(f"{PREFIX}namespace", "")
        node = _found(self._nodes, pod.get(f"{POD}node_name", ""))
        if node is None and self._selects_nodes:
            return None
        added = {**(node or {}), **(_found(self._namespaces, namespace) or {})}
        added.update(self._owners(pod, namespace))
        return added

    def _owners(self, pod: Mapping[str, str], namespace: str) -> Iterator[tuple[str, str]]:
        kind, name = pod.get(f"{POD}controller_kind", ""), pod.get(f"{POD}controller_name", "")
        key = f"{namespace}/{name}"
        if kind == "ReplicaSet":
            yield from (_found(self._sets, key) or {}).items()
        elif kind == "Job":
            if self._settings.job:
                yield f"{POD}job_name", name
            yield from (_found(self._jobs, key) or {}).items()


def _followed(
    api: Api,
    plural: str,
    group: str,
    namespaces: list[str],
    keep: Callable[[Mapping[str, Any]], Labels | None],
    selector: str = "",
) -> list[Watch[Labels]]:
    resources = [ApiResource(plural, namespace, group=group, verbs=_VERBS) for namespace in namespaces]
    return [Watch(api, resource, keep, {"labelSelector": selector}) for resource in resources]


def _found(watches: list[Watch[Labels]], key: str) -> Labels | None:
    return next((watch.objects[key] for watch in watches if key in watch.objects), None)


def _node(node: Mapping[str, Any]) -> Labels:
    return {f"{PREFIX}node_name": name_of(node), **described(node, "node")}


def _namespace(namespace: Mapping[str, Any]) -> Labels:
    return described(namespace, "namespace")


def _owner(kind: str, item: Mapping[str, Any]) -> Labels | None:
    """The label that names the owner, where it is one of this kind."""
    found, name = controller(item)
    return {f"{POD}{kind.lower()}_name": name} if found == kind and name else None
