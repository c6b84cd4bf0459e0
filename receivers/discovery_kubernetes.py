"""Targets from Kubernetes: the proxies of all pods, followed by list and watch.

Strategy. One watch per namespace, or one for all of them. Of a pod nothing is kept but its target groups: the one that
Prometheus would make of it, through Linkerd's own target rules, so that a pod without a proxy costs next to nothing and
a change costs one pod. Changes that come in a burst, as at a rollout, are told together. What fails is said, folded, and
takes nothing away: what was known of a namespace stays until its list has come anew.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import trio
from pydantic import field_validator, model_validator

from ebbtide import (
    Api,
    ApiResource,
    ClusterSettings,
    Fault,
    FoldedLog,
    OptionError,
    ReceiveError,
    Relabelling,
    Watch,
    need_kubernetes,
    option,
)
from receivers.discovery import Groups, TargetGroup
from receivers.kubernetes_forward import Forwarding
from receivers.kubernetes_metadata import Attachments, AttachSettings
from receivers.kubernetes_pods import pod_group
from receivers.label_selector import LabelSelector
from receivers.linkerd_relabelling import linkerd_rules
from receivers.target_set import FORWARDED

TOGETHER_SECONDS = 0.25  # for which changes are collected before they are told
Finish = Callable[[TargetGroup], TargetGroup | None]

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123, as Kubernetes asks for it


class KubernetesDiscoverySettings(ClusterSettings):
    """Targets from Kubernetes."""

    kind: Literal["kubernetes"] = option("kubernetes", "Where targets come from.")
    role: Literal["pod"] = option("pod", "What to discover.")
    namespaces: list[str] = option([], "Namespaces to look into; none means all.", examples=[["shop", "linkerd-viz"]])
    label_selector: LabelSelector = option(
        "", "Label selector that pods must match.", examples=["app.kubernetes.io/part-of=shop"]
    )
    rules: Literal["linkerd", "none"] = option(
        "linkerd",
        '"linkerd": the target rules of linkerd-viz, so that targets are the proxies and have its labels. "none": every '
        "port of every pod, with `__meta_kubernetes_*` labels alone.",
    )
    attach_metadata: AttachSettings = option(
        AttachSettings(), "What else to ask for, as further `__meta_kubernetes_*` labels for rules of your own."
    )
    node_selector: LabelSelector = option(
        "", "Label selector of nodes; pods on others are left out. Needs `attach_metadata.node`."
    )
    control_plane: str = option("linkerd", "Namespace of the control plane whose proxies are meant.")
    container: str = option("linkerd-proxy", "Name of the proxies' container.")
    forward: bool = option(
        False, "Reach the pods by port-forwards, each a connection to the API server: from outside the cluster."
    )

    @field_validator("namespaces")
    @classmethod
    def _named(cls, namespaces: list[str]) -> list[str]:
        if not all(namespaces) or len(set(namespaces)) < len(namespaces):
            raise ValueError("a namespace is empty or named twice; name each once, or none for all of them")
        if not all(map(_NAMESPACE.fullmatch, namespaces)):
            raise ValueError(
                "not a name of a namespace; write at most 63 small letters, digits and dashes, such as shop"
            )
        return namespaces

    @model_validator(mode="after")
    def _nodes_are_known(self) -> Self:
        if self.node_selector and not self.attach_metadata.node:
            raise OptionError("needs attach_metadata = {node = true}; add it", "node_selector")
        return self


class KubernetesDiscovery:
    """Follows the pods of a cluster. ``api``, if given, stands for the one that the settings lead to.

    Raises ConfigError where the library for a kubeconfig is missing.
    """

    def __init__(
        self,
        settings: KubernetesDiscoverySettings,
        log: FoldedLog,
        name: str,
        api: Api | None = None,
        chance: random.Random | None = None,
    ):
        forwarded = f"{FORWARDED}://" if settings.forward else ""
        need_kubernetes(settings.kubeconfig, settings.context, forwarded, "discovery")
        self.settings = settings
        self._log = log
        self._name = name
        self._api = api or Api(settings.kubeconfig, settings.context)
        namespaces = settings.namespaces or [""]
        self._rules = linkerd_rules(settings.control_plane, settings.container) if settings.rules == "linkerd" else None
        self._forwarding = Forwarding(settings.kubeconfig, settings.context) if settings.forward else None
        self._attachments = Attachments(settings.attach_metadata, settings.node_selector, namespaces, self._api)
        # Rules are applied as soon as all is known that they may ask for: to the pod alone, if nothing is attached.
        early = None if self._attaches else self._finished
        self._pods = [
            Watch(
                self._api, ApiResource("pods", namespace, verbs=("list", "watch")), partial(_kept, early),
                {"labelSelector": settings.label_selector}, chance,
            )
            for namespace in namespaces
        ]  # fmt: skip
        self._watches: list[Watch[Any]] = [*self._attachments.watches, *self._pods]
        self._made: dict[str, _Made] = {}
        self._changed = trio.Event()
        self._told = False

    @property
    def _attaches(self) -> bool:
        return self.settings.attach_metadata != AttachSettings()

    async def run(self, update: Callable[[Groups], None]) -> None:
        """Tell of all groups once every namespace was tried, and at each change."""
        try:
            async with trio.open_nursery() as nursery:
                for watch in self._watches:
                    nursery.start_soon(watch.run, self._note, partial(self._failed, watch), partial(self._well, watch))
                for watch in self._watches:
                    await watch.tried.wait()
                while True:
                    await self._changed.wait()
                    await trio.sleep(TOGETHER_SECONDS)
                    self._changed = trio.Event()
                    self._told = True
                    update(self._groups())
        finally:
            await self._close()

    async def once(self) -> Groups:
        """List all pods. Raises ReceiveError where a namespace cannot be listed."""
        try:
            for watch in self._watches:
                await watch.refresh()
        except Fault as fault:
            raise ReceiveError(str(fault)) from fault
        finally:
            await self._close()
        return self._groups()

    def _groups(self) -> Groups:
        found = {group.source: group for watch in self._pods for group in watch.objects.values()}
        if not self._attaches:
            return found
        self._made = {source: self._with_more(group) for source, group in found.items()}
        return {source: made.group for source, made in self._made.items() if made.group is not None}

    def _with_more(self, pod: TargetGroup) -> _Made:
        """Attach to a pod's group what is known beside it, and apply the rules; what was made before, if nothing changed."""
        added = self._attachments(pod.labels) if pod.targets else {}
        before = self._made.get(pod.source)
        if before is not None and before.pod is pod and before.added == added:
            return before
        group = None if added is None else TargetGroup(pod.source, {**pod.labels, **added}, pod.targets)
        return _Made(pod, added, self._finished(group) if group is not None else None)

    def _finished(self, group: TargetGroup) -> TargetGroup | None:
        """Return the group as it is told; None where the rules leave nothing of it."""
        relabelled = _relabelled(self._rules, group)
        return relabelled if relabelled is None or self._forwarding is None else self._forwarding(relabelled)

    def _note(self) -> None:
        self._changed.set()

    def _failed(self, watch: Watch[Any], fault: Fault) -> None:
        self._log(
            logging.WARNING, f"kubernetes {watch.resource}", "receivers.%s: %s; its targets stay as they were",
            self._name, fault,
        )  # fmt: skip

    def _well(self, watch: Watch[Any]) -> None:
        self._log.recovered(
            f"kubernetes {watch.resource}",
            "receivers.%s: %s are followed again after %d failures",
            self._name,
            watch.resource,
        )
        if not self._told:  # it failed at first, and now has nothing to show
            self._changed.set()

    async def _close(self) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await self._api.aclose()


class _Made(NamedTuple):
    """A group, and what it was made of: the pod's own, and what was attached (None: the pod is left out)."""

    pod: TargetGroup
    added: Mapping[str, str] | None
    group: TargetGroup | None


def _kept(finish: Finish | None, pod: Mapping[str, Any]) -> TargetGroup | None:
    """Return the group of a pod, finished if all is known already; None where nothing of it is left."""
    group = pod_group(pod)
    return group if group is None or finish is None else finish(group)


def _relabelled(rules: Relabelling | None, group: TargetGroup) -> TargetGroup | None:
    if rules is None:
        return group
    relabelled = (rules({**group.labels, **target}) for target in group.targets)
    targets = tuple([target for target in relabelled if target is not None])
    return TargetGroup(group.source, {}, targets) if targets else None
