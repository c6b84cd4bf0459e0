"""Where a ``kubernetes://`` URL leads at this moment: a ready pod is chosen for each connection, and a port-forward opened.

Strategy. Nothing is watched. Each new connection asks the API server for the pods there are, which costs two small
requests, and takes the one that served before as long as it is ready, since what another replica answers is another
history. So a pod that went is never asked again, and one that came needs no notice. A pod where the connection failed
comes last at the next choice. Connections are kept by the HTTP client like any others.
Source: kubectl, pkg/cmd/portforward/portforward.go (services, named ports).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import trio

from agent.http_fault import Fault
from agent.kubernetes.address import Destination
from agent.kubernetes.api import Api, ApiResource, Object
from agent.kubernetes.portforward import PortForward, open_portforward
from agent.settings import show_duration

MOST_PODS = 3  # pods that are tried for one connection
CONNECT_SECONDS = 30.0  # that opening may take where the client sets no time


class Forwarder:
    """Opens connections into one cluster. Close it with ``aclose``."""

    def __init__(self, kubeconfig: str | None = None, context: str | None = None, api: Api | None = None):
        self._api = api or Api(kubeconfig, context)
        self._served: dict[Destination, str] = {}  # the pod that served last
        self._failed: dict[Destination, set[str]] = {}  # pods that failed since one served

    def backend(self, destination: Destination) -> httpcore.AsyncNetworkBackend:
        """Return what gives an HTTP client its connections: all of them to this destination."""
        return _Backend(self, destination)

    async def connect(self, destination: Destination) -> tuple[PortForward, str]:
        """Open a connection to a pod of the destination; return it and the pod's name. Raises Fault."""
        fault: Fault | None = None
        for pod, port in (await self._candidates(destination))[:MOST_PODS]:
            try:
                return await open_portforward(self._api, destination.namespace, pod, port), pod
            except Fault as error:
                if error.kind == "credentials":
                    raise
                fault = fault or error
                self.blame(destination, pod)
        raise fault or _none(destination, "there is none")

    def praise(self, destination: Destination, pod: str) -> None:
        """The pod answered: take it again. Where one pod is meant there is nothing to choose."""
        if destination.kind == "pod":
            return
        self._served[destination] = pod
        self._failed.pop(destination, None)

    def blame(self, destination: Destination, pod: str) -> None:
        """The pod failed: take another, if there is one."""
        if destination.kind != "pod":
            self._failed.setdefault(destination, set()).add(pod)

    async def aclose(self) -> None:
        """Close the connections to the API server; those into pods are the HTTP client's."""
        await self._api.aclose()

    async def _candidates(self, destination: Destination) -> list[tuple[str, int]]:
        """Return the pods that may serve, and the port of each, the best first. Raises Fault where there is none."""
        namespace, port = destination.namespace, destination.port
        if destination.kind == "pod":
            pod = await self._api.get(ApiResource("pods", namespace, destination.name, verbs=("get",)))
            return [(destination.name, _port_of(pod, port, destination))]
        selector = destination.selector
        if destination.kind == "service":
            service = await self._api.get(ApiResource("services", namespace, destination.name, verbs=("get",)))
            selector, port = _selector_of(service, destination), _target_port(service, destination)
        pods: list[Object] = []
        resource = ApiResource("pods", namespace, verbs=("get", "list"))
        await self._api.list_all(resource, {"labelSelector": selector}, pods.append)
        ready = [pod for pod in pods if _is_ready(pod)]
        if not ready:
            raise _none(destination, f"none of {len(pods)} is ready" if pods else f"no pod has the labels {selector!r}")
        last, failed = self._served.get(destination), self._failed.get(destination, set())
        ready.sort(key=lambda pod: (_name(pod) in failed, _name(pod) != last, _name(pod)))
        return [(_name(pod), _port_of(pod, port, destination)) for pod in ready[:MOST_PODS]]


class _Backend(httpcore.AsyncNetworkBackend):
    """Connections of an HTTP client, whatever host it asks for."""

    def __init__(self, forwarder: Forwarder, destination: Destination):
        self._forwarder = forwarder
        self._destination = destination

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Open one. Raises Fault."""
        seconds = CONNECT_SECONDS if timeout is None else timeout
        try:
            with trio.fail_after(seconds):
                stream, pod = await self._forwarder.connect(self._destination)
        except trio.TooSlowError:
            raise Fault(
                "timeout",
                f"cannot reach {self._destination.url}: opening a port-forward took more than {show_duration(seconds)}; "
                "check the API server, and the node of the pod",
            ) from None
        return _Stream(stream, self._forwarder, self._destination, pod)


class _Stream(httpcore.AsyncNetworkStream):
    """A port-forward as an HTTP client wants it; says how it went."""

    def __init__(self, stream: PortForward, forwarder: Forwarder, destination: Destination, pod: str):
        self._stream = stream
        self._forwarder = forwarder
        self._of = destination, pod

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read; deadlines are the caller's."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except Fault:
            self._forwarder.blame(*self._of)
            raise
        if data:
            self._forwarder.praise(*self._of)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write. Where that fails the answer may still be there, or say why: the client reads on."""
        try:
            await self._stream.send_all(buffer)
        except Fault as fault:
            raise httpcore.WriteError(str(fault)) from fault

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """Tell whether a kept connection is over; nothing else is known."""
        return self._stream.stirs if info == "is_readable" else None


def _none(destination: Destination, why: str) -> Fault:
    return Fault(
        "unreachable",
        f"cannot reach {destination.url}: {why}; check the name and the labels, and why no pod gets ready",
    )


def _table(item: Any, *names: str) -> dict[str, Any]:
    """A mapping inside an object; empty where there is none."""
    for name in names:
        item = item.get(name) if isinstance(item, dict) else None
    return item if isinstance(item, dict) else {}


def _listed(item: Any, *names: str) -> Iterator[dict[str, Any]]:
    """The mappings of a list inside an object."""
    table = _table(item, *names[:-1]) if len(names) > 1 else item
    entries = table.get(names[-1])
    return (entry for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, dict))


def _name(pod: Object) -> str:
    return str(_table(pod, "metadata").get("name", ""))


def _is_ready(pod: Object) -> bool:
    """Running, not about to end, and ready; one that says nothing of that is taken at its phase."""
    conditions = _listed(pod, "status", "conditions")
    unready = any(condition.get("type") == "Ready" and condition.get("status") != "True" for condition in conditions)
    running = _table(pod, "status").get("phase") == "Running"
    return running and not unready and not _table(pod, "metadata").get("deletionTimestamp")


def _selector_of(service: Object, destination: Destination) -> str:
    selector = _table(service, "spec", "selector")
    if not selector:
        raise Fault(
            "unreachable",
            f"cannot reach {destination.url}: this service selects no pods (it may be an external name, or have endpoints "
            "of its own); name a pod, or use its address",
        )
    return ",".join(f"{name}={value}" for name, value in sorted(selector.items()))


def _target_port(service: Object, destination: Destination) -> str:
    """Return the port of the pods behind a service's port, a number or a name."""
    ports = list(_listed(service, "spec", "ports"))
    for entry in ports:
        if destination.port in (str(entry.get("port")), entry.get("name")):
            return str(entry.get("targetPort") or entry.get("port"))
    known = ", ".join(str(entry.get("port")) for entry in ports) or "none"
    raise Fault("unreachable", f"cannot reach {destination.url}: the service has no such port; its ports are {known}")


def _port_of(pod: Object, port: str, destination: Destination) -> int:
    """Return the number of a port of a pod that is given by number or by a container's name for it."""
    if port.isascii() and port.isdecimal():
        return int(port)
    for containers in ("containers", "initContainers"):
        for container in _listed(pod, "spec", containers):
            for entry in _listed(container, "ports"):
                if entry.get("name") == port and isinstance(entry.get("containerPort"), int):
                    return int(entry["containerPort"])
    raise Fault(
        "unreachable", f"cannot reach {destination.url}: pod {_name(pod)} has no port named {port!r}; write its number"
    )
