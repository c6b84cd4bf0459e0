"""The target rules of linkerd-viz: which ports of pods are proxies, and which labels their series get.

Source: linkerd2, viz/charts/linkerd-viz/templates/prometheus.yaml, job ``linkerd-proxy``; the order is part of the rules.
"""

from __future__ import annotations

import re

from ebbtide import Relabelling, RelabelRule

_POD = "__meta_kubernetes_pod_"
_LABEL = f"{_POD}label_"
_LINKERD = f"{_LABEL}linkerd_io_"
_COPY = "__tmp_pod_label_"


def linkerd_rules(control_plane: str = "linkerd", container: str = "linkerd-proxy") -> Relabelling:
    """Return the rules, for a control plane in this namespace and proxies whose container has this name."""
    return Relabelling(
        [
            # Pods that ended keep their address for a while, and answer no more.
            RelabelRule(source_labels=[f"{_POD}phase"], regex="(Pending|Running)", action="keep"),
            RelabelRule(
                source_labels=[f"{_POD}container_name", f"{_POD}container_port_name", f"{_LINKERD}control_plane_ns"],
                regex=f"{re.escape(container)};linkerd-admin;{re.escape(control_plane)}",
                action="keep",
            ),
            RelabelRule(source_labels=["__meta_kubernetes_namespace"], target_label="namespace"),
            RelabelRule(source_labels=[f"{_POD}name"], target_label="pod"),
            # The Job that owns the pod, which must not become the label of Prometheus' own name.
            RelabelRule(source_labels=[f"{_LINKERD}proxy_job"], target_label="k8s_job"),
            _drop(f"{_LINKERD}proxy_job"),
            # deployment, statefulset and so on: the other owners.
            _copy(f"{_LINKERD}proxy_(.+)"),
            _drop(f"{_LINKERD}proxy_(.+)"),
            _copy(f"{_LINKERD}(.+)"),
            # Every other label of the pod, those of Linkerd without their prefix.
            _copy(f"{_LABEL}(.+)", f"{_COPY}$1"),
            _copy(f"{_COPY}linkerd_io_(.+)", f"{_COPY}$1"),
            _drop(f"{_COPY}linkerd_io_(.+)"),
            _copy(f"{_COPY}(.+)"),
        ]
    )


def _copy(pattern: str, replacement: str = "$1") -> RelabelRule:
    return RelabelRule(regex=pattern, replacement=replacement, action="labelmap")


def _drop(pattern: str) -> RelabelRule:
    return RelabelRule(regex=pattern, action="labeldrop")
