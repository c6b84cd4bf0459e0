"""Pods from outside their cluster: each of their targets is reached by a port-forward, and keeps the labels that it has."""

from __future__ import annotations

from collections.abc import Mapping

from receivers.discovery import TargetGroup
from receivers.kubernetes_pods import POD, PREFIX
from receivers.target_set import ADDRESS, CONTEXT, FORWARDED, KUBECONFIG, SCHEME

_INSTANCE = "instance"
_PORT = "80"  # of a target that has none, as where it is dialled


class Forwarding:
    """Leads the targets of pods through the API server of the cluster of ``kubeconfig`` and ``context``."""

    def __init__(self, kubeconfig: str | None, context: str | None):
        self._cluster = {name: value for name, value in ((KUBECONFIG, kubeconfig), (CONTEXT, context)) if value}

    def __call__(self, group: TargetGroup) -> TargetGroup:
        """Return the group with other addresses; ``instance`` is what it would be where the pod can be dialled."""
        return TargetGroup(group.source, group.labels, tuple([self._led(group.labels, one) for one in group.targets]))

    def _led(self, shared: Mapping[str, str], own: Mapping[str, str]) -> Mapping[str, str]:
        known = {**shared, **own}
        host, _, port = known[ADDRESS].rpartition(":")
        if not port.isdecimal():
            host, port = known[ADDRESS], _PORT
        place = f"{known[f'{PREFIX}namespace']}/pod/{known[f'{POD}name']}:{port}"
        return {_INSTANCE: f"{host}:{port}", **own, SCHEME: FORWARDED, ADDRESS: place, **self._cluster}
