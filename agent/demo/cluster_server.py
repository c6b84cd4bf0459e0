"""The sockets of the demo's API server: plain answers, watches that stream, port-forwards over WebSockets.

A port-forward is one TCP connection to where the port of the pod really is, carried as Kubernetes carries it: channel 0
is the data, channel 1 what went wrong, and the first message of each is the port (kubelet,
staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Request, TextMessage
from wsproto.utilities import RemoteProtocolError

from agent.demo.cluster import ClusterApi, Forwarding, RefusedError, Watching, to_json, too_old

SUBPROTOCOL = "v4.channel.k8s.io"
_READ = 64 * 1024
_IDLE = 75.0  # seconds that a connection may be silent before its next request
_DATA, _ERROR = b"\x00", b"\x01"

log = logging.getLogger(__name__)


async def serve_cluster(
    api: ClusterApi,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Reports the port once it listens; OSError where it cannot."""
    listeners = await trio.open_tcp_listeners(port, host=host)

    async def handle(stream: trio.SocketStream) -> None:
        wrapped = trio.SSLStream(stream, tls, server_side=True, https_compatible=True) if tls else stream
        try:
            await _Connection(api, wrapped).serve()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client of the API server went away")
        finally:
            await trio.aclose_forcefully(wrapped)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handle, listeners)
        task_status.started(listeners[0].socket.getsockname()[1])


class _Connection:
    """One client's connection: requests one after the other, until one of them takes it over."""

    def __init__(self, api: ClusterApi, stream: trio.abc.Stream) -> None:
        self._api = api
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER)

    async def serve(self) -> None:
        while True:
            try:
                with trio.move_on_after(_IDLE) as silent:
                    request = await self._request()
            except h11.RemoteProtocolError as error:
                self._api.complain(f"not HTTP/1.1: {error}")
                return
            if silent.cancelled_caught or request is None:
                return
            if not await self._answer(request) or self._h11.our_state is not h11.DONE:
                return
            self._h11.start_next_cycle()

    async def _request(self) -> h11.Request | None:
        request: h11.Request | None = None
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                request = event
            elif event is h11.NEED_DATA:
                self._h11.receive_data(bytes(await self._stream.receive_some(_READ)))
            elif isinstance(event, h11.EndOfMessage) or (event is h11.PAUSED and request is not None):
                return request
            elif not isinstance(event, h11.Data):
                return None

    async def _answer(self, request: h11.Request) -> bool:
        """Answer one request; return whether the connection can have another."""
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        target = urlsplit(request.target.decode())
        query = parse_qsl(target.query, keep_blank_values=True)
        try:
            answer = self._api.answer(request.method.decode(), unquote(target.path), query, headers)
            if isinstance(answer, Watching):
                await self._watch(answer)
            elif isinstance(answer, Forwarding):
                await self._forward(answer, request, headers)
                return False
            else:
                await self._send(200, to_json(answer))
        except RefusedError as refused:
            await self._send(refused.code, to_json(refused.status), refused.headers)
        return True

    async def _send(self, status: int, body: bytes, more: tuple[tuple[str, str], ...] = ()) -> None:
        head = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *more]
        if (
            str(self._h11.their_state) == "MIGHT_SWITCH_PROTOCOL"
        ):  # refused to switch: the client waits for what comes next
            head.append(("Connection", "close"))
        await self._write(h11.Response(status_code=status, headers=head), h11.Data(data=body), h11.EndOfMessage())

    async def _write(self, *events: h11.Event) -> None:
        await self._stream.send_all(b"".join(self._h11.send(event) or b"" for event in events))

    async def _watch(self, watching: Watching) -> None:
        """Stream the changes since, until the time is over or the client goes."""
        head = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")]
        await self._write(h11.Response(status_code=200, headers=head))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_gone, nursery.cancel_scope)
            with trio.move_on_after(watching.seconds):
                await self._changes(watching)
            nursery.cancel_scope.cancel()
        await self._write(h11.EndOfMessage())

    async def _cancel_when_gone(self, scope: trio.CancelScope) -> None:
        try:
            data = await self._stream.receive_some(_READ)
        except trio.BrokenResourceError:
            data = b""
        if data:
            self._api.complain("a client spoke in the middle of a watch")
        scope.cancel()

    async def _changes(self, watching: Watching) -> None:
        api, cluster, seen = self._api, self._api.cluster, watching.version
        while True:
            happened = cluster.happened
            if seen < cluster.oldest:
                await self._event("ERROR", too_old(watching, cluster).status)
                return
            for change in [change for change in cluster.history if change.version > seen]:
                seen = change.version
                if change.key[0] != watching.kind.plural or watching.namespace not in ("", change.key[1]):
                    continue
                is_in = watching.wanted(change.item) and change.type != "DELETED"
                was_in = change.before is not None and watching.wanted(change.before)
                if is_in or was_in:
                    type = "DELETED" if not is_in else "MODIFIED" if was_in else "ADDED"
                    await self._event(type, change.item)
            with trio.move_on_after(api.bookmark_seconds) as quiet:
                await happened.wait()
            if quiet.cancelled_caught and watching.bookmarks:
                kind = watching.kind
                metadata = {"resourceVersion": str(cluster.version), "creationTimestamp": None}
                seen = cluster.version
                await self._event("BOOKMARK", {"kind": kind.kind, "apiVersion": kind.group, "metadata": metadata})

    async def _event(self, type: str, item: object) -> None:
        await self._write(h11.Data(data=to_json({"type": type, "object": item})))

    async def _forward(self, forwarding: Forwarding, request: h11.Request, headers: Mapping[str, str]) -> None:
        """Serve a port-forward, if the client asks for it in the right way."""
        offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
        if headers.get("upgrade", "").lower() != "websocket":
            raise self._api.complain("unable to upgrade: missing upgrade headers in request")
        if SUBPROTOCOL not in offered:
            raise self._api.complain(f"unable to upgrade: unsupported subprotocols {offered}")
        socket = WSConnection(ConnectionType.SERVER)
        try:
            socket.initiate_upgrade_connection(list(request.headers), request.target.decode())
        except RemoteProtocolError as error:
            raise self._api.complain(f"no WebSocket handshake: {error}") from None
        assert isinstance(next(socket.events()), Request)
        await self._stream.send_all(socket.send(AcceptConnection(subprotocol=SUBPROTOCOL)))
        socket.receive_data(self._h11.trailing_data[0])
        await _Tunnel(self._api, self._stream, socket, forwarding).run()


class _Tunnel:
    """One port-forward under way."""

    def __init__(self, api: ClusterApi, stream: trio.abc.Stream, socket: WSConnection, forwarding: Forwarding) -> None:
        self._api, self._stream, self._socket, self._forwarding = api, stream, socket, forwarding
        self._sending = trio.Lock()
        self._inside = False  # of a message, of which the first piece has come

    async def run(self) -> None:
        number = self._forwarding.port.to_bytes(2, "little")
        await self._send(BytesMessage(data=_DATA + number))
        await self._send(BytesMessage(data=_ERROR + number))
        address = self._forwarding.address
        try:
            if address is None:
                raise OSError("connect: connection refused")
            target = await trio.open_tcp_stream(*address)
        except OSError as error:
            await self._fail(error)
        else:
            async with target, trio.open_nursery() as nursery:
                nursery.start_soon(self._to_client, target, nursery.cancel_scope)
                await self._from_client(target)
                nursery.cancel_scope.cancel()
        await self._send(CloseConnection(code=1000))

    async def _fail(self, error: OSError) -> None:
        forwarding = self._forwarding
        message = (
            f"error forwarding port {forwarding.port} to pod {forwarding.pod}, uid {forwarding.uid}: failed to execute "
            f"portforward in network namespace: failed to connect to localhost:{forwarding.port} inside namespace: {error}"
        )
        await self._send(BytesMessage(data=_ERROR + message.encode()))

    async def _to_client(self, target: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            while data := await target.receive_some(_READ):
                await self._send(BytesMessage(data=_DATA + data))
        except trio.BrokenResourceError:
            log.debug("the far end of a port-forward broke")
        scope.cancel()

    async def _from_client(self, target: trio.SocketStream) -> None:
        while True:
            data = await self._stream.receive_some(_READ)
            try:
                self._socket.receive_data(bytes(data) or None)
                for event in self._socket.events():
                    if isinstance(event, CloseConnection) or not await self._take(event, target):
                        return
            except RemoteProtocolError as error:
                self._api.complain(f"not a WebSocket: {error}")
                return
            if not data:
                return

    async def _take(self, event: Event, target: trio.SocketStream) -> bool:
        if isinstance(event, Ping):
            await self._send(event.response())
        elif isinstance(event, TextMessage):
            self._api.complain("a text message on a port-forward")
            await self._send(CloseConnection(code=1003))
            return False
        elif isinstance(event, BytesMessage):
            data = bytes(event.data)
            if not self._inside and data[:1] != _DATA:
                self._api.complain("a message that is not of channel 0")
                await self._send(CloseConnection(code=1002))
                return False
            await target.send_all(data if self._inside else data[1:])
            self._inside = not event.message_finished
        return True

    async def _send(self, event: Event) -> None:
        """Send, unless the client is taking leave: what comes then is for nobody."""
        async with self._sending:
            if self._socket.state is ConnectionState.OPEN:
                await self._stream.send_all(self._socket.send(event))
