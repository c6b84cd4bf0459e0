"""What only Kubernetes needs, looked at before anything starts: libraries, and the kubeconfig that is named."""

from __future__ import annotations

import importlib.util

from agent.http_fault import Fault
from agent.kubernetes.access import find_access
from agent.kubernetes.address import is_address
from agent.plugin import ConfigError


def need_kubernetes(kubeconfig: str | None, context: str | None, url: str = "", option: str = "url") -> None:
    """Raise ConfigError, which points at ``option``, where a library is missing that these options call for.

    A port-forward needs WebSockets, a kubeconfig YAML; a pod's own service account needs neither.
    """
    forward, file = is_address(url), bool(kubeconfig or context)
    wanted = [name for name, needed in (("wsproto", forward), ("yaml", file)) if needed]
    if any(importlib.util.find_spec(name) is None for name in wanted):
        what = "open a port-forward into Kubernetes" if forward else "read a kubeconfig"
        raise ConfigError(
            f"cannot {what}: the libraries for it are not installed; run: pip install 'ebbtide[kubernetes]'", option
        )


def check_kubeconfig(kubeconfig: str | None, context: str | None, option: str = "kubeconfig") -> None:
    """Raise ConfigError, which points at ``option``, where a kubeconfig that is named leads nowhere; opens no connection."""
    if kubeconfig or context:
        try:
            find_access(kubeconfig, context)
        except Fault as fault:
            raise ConfigError(str(fault), option) from fault
