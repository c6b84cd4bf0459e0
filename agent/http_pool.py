"""What the HTTP client keeps: connections made under one state of the certificate files, or through one way of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpcore
import httpx


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
