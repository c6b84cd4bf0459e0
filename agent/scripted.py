"""An HTTP server for tests that says exactly what it is told: the next step of a script for each request.

Strategy. It speaks just enough HTTP to read a request whole, and no HTTP at all in answering: a step is raw bytes, or a
function that may do anything to the connection, so that every misbehaviour of a server can be written down.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import trio

Connection = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int  # number of the connection it came by, from 0


Step = bytes | Callable[[Connection, Request], Awaitable[None]]


def answer(status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """A whole answer with its Content-Length."""
    lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in (headers or {}).items()), f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + body


def then_close(said: bytes = b"") -> Step:
    """A step that says something, perhaps nothing, and closes the connection."""

    async def step(connection: Connection, _: Request) -> None:
        await connection.send_all(said)
        await connection.aclose()

    return step


def then_reset(said: bytes = b"") -> Step:
    """A step that says something, perhaps nothing, and resets the connection."""

    async def step(connection: Connection, _: Request) -> None:
        await connection.send_all(said)
        stream = connection.transport_stream if isinstance(connection, trio.SSLStream) else connection
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()

    return step


def then_hang(said: bytes = b"") -> Step:
    """A step that says something, perhaps nothing, and then nothing more, without closing."""

    async def step(connection: Connection, _: Request) -> None:
        await connection.send_all(said)
        await trio.sleep_forever()

    return step


@dataclass
class ScriptedServer:
    """Answers by ``steps``, in order over all connections; when they are at their end, by 500. ``requests`` remembers."""

    steps: Iterator[Step]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    async def handle(self, connection: Connection) -> None:
        """Serve one connection until either side is done with it."""
        number, self.connections = self.connections, self.connections + 1
        try:
            while (request := await _read(connection, number)) is not None:
                self.requests.append(request)
                step = next(self.steps, None)
                if callable(step):
                    await step(connection, request)
                else:
                    await connection.send_all(answer(500, b"the script is at its end") if step is None else step)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the client went away, or a step closed the connection


async def serve(nursery: trio.Nursery, steps: Iterable[Step], tls: ssl.SSLContext | None = None) -> ScriptedServer:
    """Start a server on a free port of 127.0.0.1 in the nursery; it ends with the nursery."""
    server = ScriptedServer(iter(steps))
    if tls is None:
        listeners = await nursery.start(partial(trio.serve_tcp, server.handle, 0, host="127.0.0.1"))
        stream_listener = listeners[0]
    else:
        listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, server.handle, 0, tls, host="127.0.0.1"))
        stream_listener = listeners[0].transport_listener
    port = stream_listener.socket.getsockname()[1]
    server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    return server


async def _read(connection: Connection, number: int) -> Request | None:
    """Read one request with its body (by Content-Length), or None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await connection.receive_some(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += await connection.receive_some(65536)
    method, target, _ = first.split(" ", 2)
    return Request(method, target, headers, bytes(body), number)
