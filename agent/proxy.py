"""Which proxy of the environment leads to a destination: HTTP_PROXY, HTTPS_PROXY, NO_PROXY, in either case.

Strategy. The rules are those of Go's ``golang.org/x/net/http/httpproxy``, which the OpenTelemetry Collector obeys, so
that one environment means the same to both: https:// goes by HTTPS_PROXY, http:// by HTTP_PROXY; loopback never goes by
a proxy; NO_PROXY lists hosts (with their subdomains), ``.domains`` (subdomains alone), addresses, networks such as
``10.0.0.0/8``, each with a port or without, or ``*`` for all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ProxyError(ValueError):
    """A proxy variable that cannot be used; the text names it and does not show its value."""


def proxy_of(url: str, environ: Mapping[str, str], schemes: tuple[str, ...] = ("http", "https")) -> str | None:
    """Return the URL of the proxy to go through, or None; raise ProxyError where it is none of ``schemes``."""
    target = urlsplit(url)
    host = (target.hostname or "").rstrip(".")
    if not host or is_loopback(host) or _excluded(host, target.port or DEFAULT_PORTS.get(target.scheme), environ):
        return None
    name = "HTTPS_PROXY" if target.scheme == "https" else "HTTP_PROXY"
    proxy = _variable(name, environ)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        forms = " or ".join(f"{scheme}://host:port" for scheme in schemes)
        raise ProxyError(
            f"cannot use the proxy given by {name} in the environment: expected {forms}; "
            "correct it, or name the destination in NO_PROXY"
        )
    return proxy


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own."""
    address = _address(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def _variable(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(name, "").strip() or environ.get(name.lower(), "").strip()


def _excluded(host: str, port: int | None, environ: Mapping[str, str]) -> bool:
    entries = (entry.strip().lower() for entry in _variable("NO_PROXY", environ).split(","))
    return any(_matches(entry, host, _address(host), port) for entry in entries if entry)


def _matches(entry: str, host: str, address: Address | None, port: int | None) -> bool:
    """Tell whether one entry of NO_PROXY means this destination."""
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _within(address, entry)
    name, wanted = _split_port(entry)
    if wanted is not None and wanted != port:
        return False
    if address is not None:
        return _address(name) == address
    domain = name.removeprefix("*")
    return host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith(f".{domain}")


def _within(address: Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """``"host:80"``, ``"[::1]:80"`` -> name and port; a bare IPv6 address has none."""
    if _address(entry):
        return entry, None
    name, _, port = entry.rpartition(":")
    if name and port.isascii() and port.isdecimal():
        return name.strip("[]"), int(port)
    return entry.strip("[]"), None


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
