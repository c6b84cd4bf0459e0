"""Servers that misbehave below HTTP and gRPC: connections by script, TLS that fails aloud, HTTP/2 by hand."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import grpc
import trio
import trustme

from agent.scripted import answer, serve
from exporters.otlp_grpc import METHOD
from tests.compliance.rules import GRPC

Handler = Callable[[trio.SocketStream], Awaitable[None]]
Behaviour = Callable[[bytes, grpc.ServicerContext], bytes]
Context = Callable[..., ssl.SSLContext]


class GrpcServer:
    """grpcio's own server, its every answer scripted; ``requests`` remembers body and metadata."""

    def __init__(
        self,
        behaviour: Behaviour = lambda body, context: b"",
        credentials: grpc.ServerCredentials | None = None,
        port: int = 0,
        **options: int,
    ):
        self.requests: list[tuple[bytes, dict[str, Any]]] = []
        self.behaviour = behaviour
        self.server = grpc.server(ThreadPoolExecutor(2), options=[(f"grpc.{k}", v) for k, v in options.items()])
        service, method = METHOD[1:].split("/")
        handlers = {method: grpc.unary_unary_rpc_method_handler(self.handle)}
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        if credentials:
            self.port = self.server.add_secure_port(f"127.0.0.1:{port}", credentials)
        else:
            self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.url = f"{'https' if credentials else 'http'}://127.0.0.1:{self.port}"
        self.server.start()

    def handle(self, body: bytes, context: grpc.ServicerContext) -> bytes:
        self.requests.append((body, dict(context.invocation_metadata())))
        return self.behaviour(body, context)

    def stop(self, grace: float = 0) -> None:
        self.server.stop(grace).wait()


async def serve_connections(nursery: trio.Nursery, *handlers: Handler) -> int:
    """Handle each connection by the next of the handlers, the last one for ever; return the port."""
    left = list(handlers)

    async def handle(stream: trio.SocketStream) -> None:
        handler = left.pop(0) if len(left) > 1 else left[0]
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await handler(stream)

    listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
    port: int = listeners[0].socket.getsockname()[1]
    return port


def reset(stream: trio.SocketStream) -> None:
    """Close with a RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@contextmanager
def tls_server(context: ssl.SSLContext) -> Iterator[int]:
    """A server that does handshakes, tells the client by an alert why one fails, and answers 200 to whatever comes.

    In threads with blocking sockets: OpenSSL sends its alerts only when it writes to the socket itself.
    """

    def one(connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection, suppress(OSError):
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            except ssl.SSLError:
                while connection.recv(65536):  # a reset would overtake the alert
                    pass

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


class Secure:
    """A destination that speaks TLS, by each protocol; counts what it took."""

    def __init__(self, protocol: str, context: Context, authority: trustme.CA):
        self.protocol, self._context, self._authority = protocol, context, authority

    async def open(self, nursery: trio.Nursery, mutual: bool = False, name: str = "127.0.0.1") -> None:
        if self.protocol != GRPC:
            made = self._context(name, mutual)
            made.set_alpn_protocols(["http/1.1"])
            self._http = await serve(nursery, [answer(200)] * 20, made)
            self.url = self._http.url
            return
        issued = self._authority.issue_cert(name)
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        roots = self._authority.cert_pem.bytes() if mutual else None
        self._grpc = GrpcServer(
            credentials=grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)], roots, mutual)
        )
        self.url = self._grpc.url

    @property
    def taken(self) -> int:
        return len(self._grpc.requests if self.protocol == GRPC else self._http.requests)

    def close(self) -> None:
        if self.protocol == GRPC:
            self._grpc.stop()


# -- HTTP/2 by hand (RFC 9113), as much as one unary call needs ---------------------------------------------------------

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM = 0, 2, 7
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(stream: int, fields: dict[str, str], flags: int = END_HEADERS) -> bytes:
    """Literal fields that no table remembers (RFC 7541 §6.2.2)."""
    packed = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    return frame(HEADERS, flags, stream, packed)


def response_head(stream: int) -> bytes:
    return headers(stream, {":status": "200", "content-type": "application/grpc"})


def response(stream: int, status: int = 0) -> bytes:
    """A whole answer: an empty message, and its status."""
    trailers = headers(stream, {"grpc-status": str(status)}, END_HEADERS | END_STREAM)
    return response_head(stream) + frame(DATA, 0, stream, bytes(5)) + trailers


def goaway(last_stream: int) -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, NO_ERROR))


class Http2Calls:
    """The server's side of one connection: hands out the number of each stream whose request has come whole."""

    def __init__(self, stream: trio.SocketStream):
        self.stream = stream
        self._data = b""
        self.message = b""  # the data frames of the last request

    async def begin(self) -> None:
        """The preface and the settings of both sides."""
        await self._until(len(_PREFACE))
        self._data = self._data[len(_PREFACE) :]
        await self.stream.send_all(frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))

    async def next(self) -> int:
        """Wait for the end of the next request; return its stream."""
        self.message = b""
        while True:
            await self._until(9)
            size = int.from_bytes(self._data[:3], "big")
            await self._until(9 + size)
            kind, flags, stream = struct.unpack(">BBI", self._data[3:9])
            payload, self._data = self._data[9 : 9 + size], self._data[9 + size :]
            self.message += payload if kind == DATA else b""
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                return int(stream)

    async def _until(self, size: int) -> None:
        while len(self._data) < size:
            more = await self.stream.receive_some()
            if not more:
                raise trio.BrokenResourceError("the client has closed the connection")
            self._data += more
