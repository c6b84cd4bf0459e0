"""HTTP servers in threads: one that answers by a script, one that stands between a client and a server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class QuietServer(ThreadingHTTPServer):
    """Connections that break are what these tests are about; anything else shows on stderr."""

    daemon_threads = True
    connections: Sequence[socket.socket] = ()
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError | ssl.SSLError | ValueError):
            super().handle_error(request, client_address)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        self.connections = [*(one for one in self.connections if one.fileno() >= 0), connection]
        return connection, address

    def break_connections(self) -> None:
        """End the connections that are kept alive: a server that is away serves none of them either."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Reply:
    """An answer. ``body`` may come in steps; with ``cut`` the connection ends before the body is whole."""

    status: int = 200
    body: bytes | Iterator[bytes] = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/plain; version=0.0.4"})
    cut: bool = False
    chunked: bool = False
    mute: bool = False  # hang up without a word


Handler = Callable[[BaseHTTPRequestHandler], Reply]


class HttpServer:
    """Serves ``answer`` on loopback until closed; ``port`` 0 takes a free one."""

    def __init__(self, answer: Handler, port: int = 0, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"):
        self._server = QuietServer((host, port), _handler(answer))
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://{host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.break_connections()
        self._thread.join(10)

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _handler(answer: Handler) -> type[BaseHTTPRequestHandler]:
    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            _send(self, answer(self))

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return _Handler


def _send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    handler.close_connection = handler.close_connection or reply.cut or reply.mute
    if reply.mute:
        return
    handler.send_response(reply.status)
    for name, value in reply.headers.items():
        handler.send_header(name, value)
    chunked = reply.chunked or not isinstance(reply.body, bytes)
    if chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    else:
        handler.send_header("Content-Length", str(len(reply.body)))  # type: ignore[arg-type]
    handler.end_headers()
    body = reply.body
    if isinstance(body, bytes):
        shown = body[: len(body) // 2] if reply.cut else body
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(shown), shown) if chunked and shown else shown)
    else:
        for piece in body:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            handler.wfile.flush()
    if chunked and not reply.cut:
        handler.wfile.write(b"0\r\n\r\n")


@dataclass(frozen=True)
class Exchange:
    """One request that came through, and what its client got."""

    path: str
    fault: str
    status: int
    body: bytes  # not compressed


class Forwarder(HttpServer):
    """Stands between a client and ``upstream``, keeps what passes, and can spoil single answers.

    ``fault`` names the fault for the n-th request of a path (from 1): "503", "cut" (in the middle of the body), "short"
    (in the middle of a line, and all lengths right), "mute"; "" lets it pass. ``edit`` may change a body on its way.
    """

    def __init__(
        self,
        upstream: str,
        fault: Callable[[str, int], str] = lambda path, number: "",
        edit: Callable[[str, int, bytes], bytes] | None = None,
    ):
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "", parts.port
        self._fault, self._edit = fault, edit
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self.exchanges: list[Exchange] = []
        super().__init__(self._answer)

    def of(self, path: str) -> list[Exchange]:
        """The exchanges of one path."""
        with self._lock:
            return [exchange for exchange in self.exchanges if exchange.path == path]

    def whole(self, path: str) -> list[bytes]:
        """The bodies of one path that came through unspoilt."""
        return [one.body for one in self.of(path) if one.status == 200 and not one.fault]

    def _answer(self, handler: BaseHTTPRequestHandler) -> Reply:
        path = urlsplit(handler.path).path
        with self._lock:
            number = self._numbers[path] = self._numbers.get(path, 0) + 1
        fault = self._fault(path, number)
        reply, plain = self._forward(handler, path, number, fault)
        with self._lock:
            self.exchanges.append(Exchange(path, fault or ("mute" if reply.mute else ""), reply.status, plain))
        return reply

    def _forward(self, handler: BaseHTTPRequestHandler, path: str, number: int, fault: str) -> tuple[Reply, bytes]:
        if fault == "503":
            return Reply(503, b"Service Unavailable\n"), b""
        if fault == "mute":
            return Reply(mute=True), b""
        encoding = "identity" if self._edit else handler.headers.get("Accept-Encoding", "identity")
        connection = HTTPConnection(*self._upstream, timeout=30)
        try:
            connection.request("GET", handler.path, headers={"Accept-Encoding": encoding})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException):
            return Reply(mute=True), b""
        finally:
            connection.close()
        headers = {
            name: value for name, value in answer.headers.items() if name in ("Content-Type", "Content-Encoding")
        }
        packed = headers.get("Content-Encoding") == "gzip"
        plain = zlib.decompress(body, 31) if packed else body
        if fault == "short":
            plain = body = plain[: len(plain) // 2].rstrip(b"\n")
            del headers["Content-Encoding"]
        if self._edit:
            plain = body = self._edit(path, number, plain)
        return Reply(answer.status, body, headers, cut=fault == "cut", chunked=len(body) > 2048), plain
