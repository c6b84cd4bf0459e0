"""The libraries that only Kubernetes needs, looked for before anything starts."""

from __future__ import annotations

import importlib.util

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
