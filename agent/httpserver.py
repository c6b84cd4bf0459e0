"""A small HTTP/1.1 server: the admin port, the demo mesh and receivers that are written to stand on it.

Strategy. h11 speaks the protocol, trio the sockets; this module adds what neither has: limits. A client may be slow,
greedy or wrong, and a handler may have a bug; none of these ends the server or another client's connection. Bodies are
whole ``bytes`` in both directions, so a handler is one function from ``Request`` to ``Response``. Who must look at a
request before its body is read, to refuse it or to let it wait, is its gate.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio

from agent.folded import FoldedLog

MAX_HEAD_BYTES = 64 * 1024
"""Largest request line and headers together; more is answered 431."""
MAX_BODY_BYTES = 1024 * 1024
"""Largest request body; more is answered 413."""
MAX_CONNECTIONS = 256
"""Connections served at once; one more is answered 503."""
IDLE_TIMEOUT = 75.0
"""Seconds from the end of one answer (or from connecting) to the end of the next request's headers."""
BODY_TIMEOUT = 10.0
"""Seconds that a request's body may take to arrive."""
HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a client's TLS handshake may take."""
SEND_TIMEOUT = 60.0
"""Seconds that a client may take to read an answer."""
LINGER_TIMEOUT = 1.0
"""Seconds for which what a refused client still sends is read and thrown away, so that it sees why."""

_READ_SIZE = 64 * 1024
_WITHOUT_BODY = (204, 304)
_FORM = "application/x-www-form-urlencoded"

logger = logging.getLogger(__name__)

_log = FoldedLog(logger)


def _fold(record: logging.LogRecord) -> bool:
    """Trio tries again ten times a second where a connection cannot be accepted, and logs a traceback each time."""
    why = record.args[1] if isinstance(record.args, tuple) else record.getMessage()
    _log(
        logging.ERROR,
        "accept",
        "cannot accept connections: %s; raise the limit of open files (ulimit -n, LimitNOFILE)",
        why,
    )
    return False


logging.getLogger("trio.serve_listeners").addFilter(_fold)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete. ``path`` is percent-decoded; ``headers`` have lower-case names, in order of arrival."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return all values of a header (lower-case name) joined by ", ", or "" where there is none."""
        return ", ".join(value for key, value in self.headers if key == name)

    def parameters(self) -> list[tuple[str, str]]:
        """Return the fields of a form in the body, then those of the query string, as Go's ``Request.Form`` does."""
        form: list[tuple[str, str]] = []
        if self.method == "POST" and self.header("content-type").partition(";")[0].strip().lower() == _FORM:
            form = parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True)
        return form + self.query


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. ``Content-Length`` and ``Content-Type`` (unless empty) are added; ``headers`` come after them."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]
Gate = Callable[[Request], AbstractAsyncContextManager[Response | None]]
"""Entered with a request whose body has yet to be read, left once it is answered. A response given there is the answer."""


@asynccontextmanager
async def _open_gate(request: Request) -> AsyncIterator[Response | None]:
    yield None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server allows, where it differs from the constants of this module. ``body`` in bytes."""

    connections: int = MAX_CONNECTIONS
    body: int | None = None
    body_timeout: float | None = None


async def serve_http(
    handler: Handler,
    host: str,
    port: int,
    *,
    max_connections: int = MAX_CONNECTIONS,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Reports the port (a free one where ``port`` is 0) once it listens; OSError where it cannot.

    ``handler`` gets every request, HEAD included (its body is then left out here, its length kept).
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    limits = Limits(connections=max_connections)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: serve_listeners(handler, listeners, limits=limits, task_status=task_status)
        )
        task_status.started(listeners[0].socket.getsockname()[1])


async def serve_listeners(
    handler: Handler,
    listeners: Sequence[trio.SocketListener],
    *,
    limits: Limits,
    gate: Gate = _open_gate,
    tls: Callable[[], ssl.SSLContext] | None = None,
    task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve at listeners that are open until cancelled, and close them. ``tls`` gives each new connection its context."""
    slots = trio.CapacityLimiter(limits.connections)

    async def serve_stream(socket: trio.SocketStream) -> None:
        try:
            slots.acquire_nowait()
        except trio.WouldBlock:
            if tls is None:
                await _Connection(socket, limits).refuse(_Refused(503, "too many connections"))
            await trio.aclose_forcefully(socket)
            return
        try:
            stream = socket if tls is None else await _shake_hands(socket, tls())
            if stream is not None:
                await _serve_connection(handler, gate, _Connection(stream, limits))
        finally:
            slots.release()

    await trio.serve_listeners(serve_stream, list(listeners), task_status=task_status)


async def _shake_hands(socket: trio.SocketStream, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream] | None:
    """Return the stream inside TLS, None for a client that speaks none, is too slow, or is not trusted."""
    stream = trio.SSLStream(socket, context, server_side=True, https_compatible=True)
    done = False
    try:
        with trio.move_on_after(HANDSHAKE_TIMEOUT):
            await stream.do_handshake()
            done = True
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        logger.info("cannot speak TLS with a client: %s; it was let go", error.__cause__ or error)
    if not done:
        await trio.aclose_forcefully(stream)
    return stream if done else None


async def _serve_connection(handler: Handler, gate: Gate, connection: _Connection) -> None:
    try:
        while (head := await connection.receive_head()) is not None:
            async with gate(head) as refusal:
                if refusal is not None:
                    raise _Refused(refusal.status, "", refusal)
                request = await connection.receive_body(head)
                await connection.send(await _answer(handler, request))
    except _Refused as refused:
        await connection.refuse(refused)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client went away: nobody is left to be told
    except h11.ProtocolError:
        logger.exception("cannot send an answer that HTTP does not allow; closed the connection")
    finally:
        await trio.aclose_forcefully(connection.stream)


async def _answer(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except Exception:
        logger.exception("cannot answer %s %s: a bug in its handler", request.method, request.path)
        return Response(500, b"internal error; see the log\n")


class _Refused(Exception):
    """A request that is answered with an error, after which the connection is closed."""

    def __init__(self, status: int, reason: str, response: Response | None = None) -> None:
        super().__init__(reason)
        self.response = response or Response(status, f"cannot serve this request: {reason}\n".encode())


class _Connection:
    """One client: requests in, answers out, both within their limits."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], limits: Limits) -> None:
        self.stream = stream
        self._max_body = MAX_BODY_BYTES if limits.body is None else limits.body
        self._body_timeout = BODY_TIMEOUT if limits.body_timeout is None else limits.body_timeout
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._wants_head_only = False

    async def receive_head(self) -> Request | None:
        """Return the next request without its body; None where the client said nothing more in time, or closed."""
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        elif self._h11.our_state is not h11.IDLE:
            return None
        try:
            with trio.move_on_after(IDLE_TIMEOUT):
                event = await self._next_event()
                if isinstance(event, h11.Request):
                    self._wants_head_only = event.method == b"HEAD"
                    return _request(event)
        except h11.RemoteProtocolError as error:
            raise _Refused(error.error_status_hint, str(error)) from error
        return None

    async def receive_body(self, head: Request) -> Request:
        """Return the request with its body. Raises _Refused for one that is too large, too slow, or ends early."""
        try:
            with trio.fail_after(self._body_timeout):
                return replace(head, body=await self._receive_body())
        except h11.RemoteProtocolError as error:
            raise _Refused(error.error_status_hint, str(error)) from error
        except trio.TooSlowError:
            raise _Refused(408, f"the body did not arrive within {self._body_timeout:g} s") from None

    async def _receive_body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while isinstance(event := await self._next_event(), h11.Data):
            size += len(event.data)
            if size > self._max_body:
                raise _Refused(413, f"the body is larger than {self._max_body} bytes")
            parts.append(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise _Refused(400, "the body ended early")
        return b"".join(parts)

    async def _next_event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self.stream.send_all(self._h11.send(go_on) or b"")
            self._h11.receive_data(bytes(await self.stream.receive_some(_READ_SIZE)))
        return event

    async def send(self, response: Response, *, close: bool = False) -> None:
        """Send one answer; the body is left out where the request was HEAD."""
        headers = [] if response.status in _WITHOUT_BODY else [("Content-Length", str(len(response.body)))]
        if response.content_type:
            headers.append(("Content-Type", response.content_type))
        if close:
            headers.append(("Connection", "close"))
        events: list[h11.Event] = [h11.Response(status_code=response.status, headers=[*headers, *response.headers])]
        if response.body and not self._wants_head_only and response.status not in _WITHOUT_BODY:
            events.append(h11.Data(data=response.body))
        parts = [
            part
            for event in (*events, h11.EndOfMessage())
            for part in self._h11.send_with_data_passthrough(event) or ()
        ]
        with trio.move_on_after(SEND_TIMEOUT) as scope:
            for part in parts:
                await self.stream.send_all(part)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the client did not read the answer")

    async def refuse(self, refused: _Refused) -> None:
        """Answer with an error, then close so that the client sees it: what it still sends is read and thrown away."""
        try:
            if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self.send(refused.response, close=True)
            if isinstance(self.stream, trio.SocketStream):  # TLS ends with the connection
                await self.stream.send_eof()
            with trio.move_on_after(LINGER_TIMEOUT):
                while await self.stream.receive_some(_READ_SIZE):
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # gone already


def _request(event: h11.Request) -> Request:
    """Take the request apart. Raises _Refused(400) for a target that is no URL."""
    try:
        target = urlsplit(event.target.decode("ascii"))
        query = parse_qsl(target.query, keep_blank_values=True)
    except ValueError as error:
        raise _Refused(400, str(error)) from error
    headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers]
    return Request(event.method.decode("ascii"), unquote(target.path), query, headers)
