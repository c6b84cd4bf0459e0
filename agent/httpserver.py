"""A small HTTP/1.1 server for loopback: the admin port and the demo mesh stand on it.

Strategy. h11 speaks the protocol, trio the sockets; this module adds what neither has: limits. A client may be slow,
greedy or wrong, and a handler may have a bug; none of these ends the server or another client's connection. Bodies are
whole ``bytes`` in both directions, so a handler is one function from ``Request`` to ``Response``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio

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
SEND_TIMEOUT = 60.0
"""Seconds that a client may take to read an answer."""
LINGER_TIMEOUT = 1.0
"""Seconds for which what a refused client still sends is read and thrown away, so that it sees why."""

_READ_SIZE = 64 * 1024
_WITHOUT_BODY = (204, 304)
_FORM = "application/x-www-form-urlencoded"

logger = logging.getLogger(__name__)


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
    slots = trio.CapacityLimiter(max_connections)

    async def serve_stream(stream: trio.SocketStream) -> None:
        connection = _Connection(stream)
        try:
            slots.acquire_nowait()
        except trio.WouldBlock:
            await connection.refuse(_Refused(503, "too many connections"))
            return
        try:
            await _serve_connection(handler, connection)
        finally:
            slots.release()

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve_stream, listeners)
        task_status.started(listeners[0].socket.getsockname()[1])


async def _serve_connection(handler: Handler, connection: _Connection) -> None:
    try:
        while (request := await connection.receive()) is not None:
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

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Connection:
    """One client: requests in, answers out, both within their limits."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._wants_head_only = False

    async def receive(self) -> Request | None:
        """Return the next request; None where the client said nothing more in time, or closed."""
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        elif self._h11.our_state is not h11.IDLE:
            return None
        try:
            with trio.move_on_after(IDLE_TIMEOUT):
                event = await self._next_event()
                if not isinstance(event, h11.Request):
                    return None
                self._wants_head_only = event.method == b"HEAD"
                with trio.fail_after(BODY_TIMEOUT):
                    return _request(event, await self._receive_body())
        except h11.RemoteProtocolError as error:
            raise _Refused(error.error_status_hint, str(error)) from error
        except trio.TooSlowError:
            raise _Refused(408, f"the body did not arrive within {BODY_TIMEOUT:g} s") from None
        return None

    async def _receive_body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while isinstance(event := await self._next_event(), h11.Data):
            size += len(event.data)
            if size > MAX_BODY_BYTES:
                raise _Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
            parts.append(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise _Refused(400, "the body ended early")
        return b"".join(parts)

    async def _next_event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self.stream.send_all(self._h11.send(go_on) or b"")
            self._h11.receive_data(await self.stream.receive_some(_READ_SIZE))
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
                await self.send(
                    Response(refused.status, f"cannot serve this request: {refused}\n".encode()), close=True
                )
            await self.stream.send_eof()
            with trio.move_on_after(LINGER_TIMEOUT):
                while await self.stream.receive_some(_READ_SIZE):
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # gone already


def _request(event: h11.Request, body: bytes) -> Request:
    """Take the request apart. Raises _Refused(400) for a target that is no URL."""
    try:
        target = urlsplit(event.target.decode("ascii"))
        query = parse_qsl(target.query, keep_blank_values=True)
    except ValueError as error:
        raise _Refused(400, str(error)) from error
    headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers]
    return Request(event.method.decode("ascii"), unquote(target.path), query, headers, body)
