"""A pod of the Kubernetes API as a target group: the names and values of Prometheus' ``__meta_kubernetes_*`` labels.

Strategy. All that is kept of a pod is its group, so that memory follows from what rules may ask for; names of labels are
made once and shared by all pods. What the API server sends is taken apart with care: a field of another type than it
should have counts as missing, and never fails the others.
Source: prometheus/prometheus, discovery/kubernetes/{pod,kubernetes,node}.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from receivers.discovery import TargetGroup

Object = Mapping[str, Any]
Labels = dict[str, str]

PREFIX = "__meta_kubernetes_"
POD = f"{PREFIX}pod_"
_CONTAINER = f"{POD}container_"
_NAMES_KEPT = 4096  # sanitised names that are remembered

_ATTRIBUTES = {
    f"{POD}node_name": "k8s.node.name",
    f"{POD}uid": "k8s.pod.uid",
    f"{_CONTAINER}name": "k8s.container.name",
}
"""What the labels of a series do not tell, and a resource should."""


def pod_group(pod: Object) -> TargetGroup | None:
    """Return the targets of a pod: one for each port of each container, or one for a container without ports.

    None for what is no pod. A pod without an address, because it is starting or was evicted, has no targets.
    """
    metadata, spec, status = _table(pod, "metadata"), _table(pod, "spec"), _table(pod, "status")
    name, namespace, address = _text(metadata, "name"), _text(metadata, "namespace"), _text(status, "podIP")
    if not name:
        return None
    source = f"pod/{namespace}/{name}"
    if not address:
        return TargetGroup(source, {}, ())
    labels: Labels = {
        f"{PREFIX}namespace": namespace,
        f"{POD}ip": address,
        f"{POD}ready": _ready(status),
        f"{POD}phase": _text(status, "phase"),
        f"{POD}node_name": _text(spec, "nodeName"),
        f"{POD}host_ip": _text(status, "hostIP"),
        f"{POD}uid": _text(metadata, "uid"),
        f"{POD}name": name,
        **_controlled(pod),
        **described(pod, "pod"),
    }
    return TargetGroup(source, labels, tuple(_targets(spec, status, address)))


def name_of(item: Object) -> str:
    """Return the name of an object."""
    return _text(_table(item, "metadata"), "name")


def described(item: Object, role: str) -> Labels:
    """Return the labels and annotations of an object, each with a second label that says it is there."""
    found: Labels = {}
    metadata = _table(item, "metadata")
    for field, word in (("labels", "label"), ("annotations", "annotation")):
        for name, value in _table(metadata, field).items():
            if isinstance(value, str):
                told, present = _names(role, word, name)
                found[told], found[present] = value, "true"
    return found


def resource_attributes(found: Mapping[str, str]) -> dict[str, str]:
    """Return what discovery knows of a target and its labels do not say, under OpenTelemetry's names."""
    return {name: found[label] for label, name in _ATTRIBUTES.items() if found.get(label)}


def _targets(spec: Object, status: Object, address: str) -> Iterator[Labels]:
    host = f"[{address}]" if ":" in address else address
    for field, statuses, init in (
        ("containers", "containerStatuses", "false"),
        ("initContainers", "initContainerStatuses", "true"),
    ):
        ids = {_text(one, "name"): _text(one, "containerID") for one in _tables(status, statuses)}
        for container in _tables(spec, field):
            name = _text(container, "name")
            about = {
                f"{_CONTAINER}name": name,
                f"{_CONTAINER}id": ids.get(name, ""),
                f"{_CONTAINER}image": _text(container, "image"),
                f"{_CONTAINER}init": init,
            }
            ports = list(_tables(container, "ports"))
            if not ports:
                yield {"__address__": address, **about}
            for port in ports:
                number = port.get("containerPort")
                text = str(number) if isinstance(number, int) else ""
                yield {
                    "__address__": f"{host}:{text}",
                    **about,
                    f"{_CONTAINER}port_name": _text(port, "name"),
                    f"{_CONTAINER}port_number": text,
                    f"{_CONTAINER}port_protocol": _text(port, "protocol"),
                }


def controller(item: Object) -> tuple[str, str]:
    """Return the kind and the name of the owner that manages an object; "" for none."""
    for owner in _tables(_table(item, "metadata"), "ownerReferences"):
        if owner.get("controller") is True:
            return _text(owner, "kind"), _text(owner, "name")
    return "", ""


def _controlled(pod: Object) -> Labels:
    kind, name = controller(pod)
    told = {f"{POD}controller_kind": kind, f"{POD}controller_name": name}
    return {label: value for label, value in told.items() if value}


def _ready(status: Object) -> str:
    for condition in _tables(status, "conditions"):
        if condition.get("type") == "Ready":
            return _text(condition, "status").lower()
    return "unknown"


@lru_cache(_NAMES_KEPT)
def _names(role: str, word: str, name: str) -> tuple[str, str]:
    plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return f"{PREFIX}{role}_{word}_{plain}", f"{PREFIX}{role}_{word}present_{plain}"


def _table(item: Object, name: str) -> Object:
    value = item.get(name)
    return value if isinstance(value, dict) else {}


def _tables(item: Object, name: str) -> Iterator[Object]:
    value = item.get(name)
    return (one for one in (value if isinstance(value, list) else ()) if isinstance(one, dict))


def _text(item: Object, name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""
