"""What the HTTP client keeps: connections made under one state of the certificate files, or through one way of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpcore
import httpx

from agent.http_fault import Fault, safe_url
from agent.kubernetes.address import Destination, split_address

if TYPE_CHECKING:  # it needs this module, and libraries that few have need of
    from agent.kubernetes.forward import Forwarder


class Pool:
    """Connections that are kept; closed when retired and no longer in use."""

    def __init__(
        self, http: httpx.AsyncClient, stamp: tuple[object, ...] = (), extensions: dict[str, str] | None = None
    ):
        self.http = http
        self.stamp = stamp
        self.extensions = extensions or {}
        self._users = 0
        self._retired = False

    @classmethod
    def through(cls, backend: httpcore.AsyncNetworkBackend, timeout: httpx.Timeout, limits: httpx.Limits) -> Pool:
        """Return a pool whose connections are the streams that ``backend`` gives, whatever the host in the URL is.

        What the backend raises, a Fault for instance, leaves the client as it is.
        """
        transport = httpx.AsyncHTTPTransport(trust_env=False, verify=False)
        # httpx has no option for it; the pool inside is all that its transport is made of.
        transport._pool = httpcore.AsyncConnectionPool(
            network_backend=backend,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
        )
        return cls(httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout, headers={}))

    async def __aenter__(self) -> Pool:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._retired and not self._users:
            await self.http.aclose()

    async def retire(self) -> None:
        """Close as soon as nobody uses it."""
        self._retired = True
        if not self._users:
            await self.http.aclose()


class Forwards:
    """The connections into the cluster of ``kubeconfig`` and ``context``: each is a port-forward of its own."""

    def __init__(self, kubeconfig: str | None, context: str | None, timeout: httpx.Timeout, limits: httpx.Limits):
        self._cluster = kubeconfig, context
        self._timeout = timeout
        self._limits = limits
        self._forwarder: Forwarder | None = None
        self._pools: dict[Destination, Pool] = {}
        self._forgotten: list[Pool] = []  # to be closed

    async def pool(self, url: str) -> Pool:
        """Return those to where a ``kubernetes://`` URL leads. Raises Fault for what is none."""
        from agent.kubernetes.forward import Forwarder

        try:
            destination, _ = split_address(url)
        except ValueError as error:
            raise Fault("protocol", f"cannot reach {safe_url(url)}: {error}") from None
        pool = self._pools.get(destination)
        if pool is None:
            self._forwarder = self._forwarder or Forwarder(*self._cluster)
            backend = self._forwarder.backend(destination)
            pool = self._pools[destination] = Pool.through(backend, self._timeout, self._limits)
            await self._close_forgotten()
        return pool

    def forget(self, url: str) -> None:
        """Let go of those to where a URL leads; they are closed when others are opened, or with all of them."""
        pool = self._pools.pop(split_address(url)[0], None)
        if pool is not None:
            self._forgotten.append(pool)

    async def aclose(self) -> None:
        """Close all of them."""
        self._forgotten += self._pools.values()
        self._pools = {}
        await self._close_forgotten()
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            await forwarder.aclose()

    async def _close_forgotten(self) -> None:
        while self._forgotten:
            await self._forgotten.pop().retire()


class Body(httpx.AsyncByteStream):
    """A request's body. httpx's own is an async generator, which nobody closes where a write fails half way."""

    def __init__(self, body: bytes):
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._body)


class _Once:
    """Iterates over one piece."""

    def __init__(self, piece: bytes):
        self._left = [piece]

    def __aiter__(self) -> _Once:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()
