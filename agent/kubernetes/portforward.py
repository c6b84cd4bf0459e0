"""One TCP connection into a pod, as a stream: a WebSocket of subprotocol ``v4.channel.k8s.io``.

Every message begins with a byte that names its channel: 0 the data of the port, 1 what went wrong, in words. The first
message of each is the port's number, in two bytes. There is no half-close: who has nothing more to say just stops.
Source: kubelet, staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go; RFC 6455 for the handshake.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import httpcore
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from agent.http import Response
from agent.http_fault import Fault, shorten
from agent.kubernetes.api import Api, ApiResource

SUBPROTOCOL = "v4.channel.k8s.io"
MAX_FRAME = 32 << 10  # bytes of data in one message of ours
READ = 64 << 10  # bytes asked of the connection at once
CLOSE_SECONDS = 1.0  # that taking leave may take

_DATA, _ERROR = 0, 1
_PORT_BYTES = 2
_MAX_ERROR = 4096  # bytes of the error channel that are kept
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


async def open_portforward(api: Api, namespace: str, pod: str, port: int) -> PortForward:
    """Open a connection to a port of a pod. Raises Fault; whether something listens there shows when it is read."""
    resource = ApiResource("pods", namespace, pod, "portforward", verbs=("get", "create"))
    where = f"port {port} of pod {pod} in namespace {namespace}"
    key = base64.b64encode(os.urandom(16))
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": key.decode(),
        "sec-websocket-protocol": SUBPROTOCOL,
    }
    async with AsyncExitStack() as stack:
        response = await stack.enter_async_context(
            api.open(resource, "open a port-forward to", [("ports", str(port))], headers)
        )
        stream = _upgraded(response, key, where)
        return PortForward(stream, where, stack.pop_all().aclose)
    raise AssertionError("unreachable")


def _upgraded(response: Response, key: bytes, where: str) -> httpcore.AsyncNetworkStream:
    """Return the connection after the handshake. Raises Fault where it is not one of RFC 6455 §4.1."""
    expected = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    said = response.headers
    stream = response.upgraded
    if stream is None or said.get("sec-websocket-accept", "") != expected:
        raise _no_websocket(where, f"the answer was {response.status} without a WebSocket handshake")
    if said.get("sec-websocket-protocol", "") != SUBPROTOCOL:
        raise _no_websocket(where, f"the API server does not speak {SUBPROTOCOL}")
    return stream


def _no_websocket(where: str, why: str) -> Fault:
    return Fault(
        "protocol",
        f"cannot open a port-forward to {where}: {why}; check that this is a Kubernetes API server, and that no proxy "
        "before it takes WebSockets away",
    )


class PortForward(trio.abc.Stream):
    """A TCP connection into a pod. ``where`` names it in faults; ``finish`` lets go of what carries it.

    Raises Fault where an ordinary stream raises BrokenResourceError: "refused" where nothing listens at the port.
    """

    def __init__(
        self, stream: httpcore.AsyncNetworkStream, where: str, finish: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.carrier = stream
        self._where = where
        self._finish = finish
        self._socket = Connection(ConnectionType.CLIENT)
        self._sending = trio.Lock()
        self._ready = bytearray()
        self._channel = -1  # of the message that is being read, -1 between messages
        self._heads = [_PORT_BYTES, _PORT_BYTES]  # bytes of the port's number that are still to come, by channel
        self._error = bytearray()
        self._ended = False
        self._closed = False

    @property
    def stirs(self) -> bool:
        """Whether something came that nobody asked for yet, the end above all."""
        return self._ended or bool(self._ready or self._error) or bool(self.carrier.get_extra_info("is_readable"))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to the port."""
        whole = bytes(data)
        for begin in range(0, len(whole), MAX_FRAME):
            await self._send(Message(data=bytes((_DATA,)) + whole[begin : begin + MAX_FRAME]))

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: what is below does not tell."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes from the port, b"" at the end. Raises Fault for what the error channel said."""
        while not self._ready:
            if self._error:
                raise self._refused()
            if self._ended:
                return b""
            await self._receive()
        count = len(self._ready) if max_bytes is None else max_bytes
        piece = bytes(self._ready[:count])
        del self._ready[:count]
        return piece

    async def aclose(self) -> None:
        """Close the connection, politely where that goes at once."""
        if self._closed:
            return
        self._closed = True
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_SECONDS):
            try:
                if not self._ended:
                    await self._send(CloseConnection(code=1000))
            except Fault:
                self._ended = True  # it is gone already, which is all that is wanted
            finally:
                if self._finish is not None:
                    await self._finish()
        await trio.lowlevel.checkpoint()

    async def _send(self, event: Event) -> None:
        async with self._sending:
            try:
                await self.carrier.write(self._socket.send(event))
            except (httpcore.NetworkError, httpcore.TimeoutException, LocalProtocolError) as error:
                raise self._broken(error) from None

    async def _receive(self) -> None:
        """Read once, and sort what came."""
        try:
            data = await self.carrier.read(READ)
            self._socket.receive_data(data or None)
            for event in self._socket.events():
                await self._take(event)
        except (httpcore.NetworkError, httpcore.TimeoutException, RemoteProtocolError) as error:
            self._ended = True
            raise self._broken(error) from None
        self._ended = self._ended or not data

    async def _take(self, event: Event) -> None:
        if isinstance(event, BytesMessage):
            self._sort(bytes(event.data))
            if event.message_finished:
                self._channel = -1
        elif isinstance(event, Ping):
            await self._send(event.response())
        elif isinstance(event, CloseConnection):
            self._ended = True
            if event.code not in (1000, 1001, 1005, 1006) and not self._error:
                self._error += f"the WebSocket was closed with {event.code} {event.reason or ''}".encode()

    def _sort(self, data: bytes) -> None:
        """Sort a piece of a message by its channel; what belongs to no channel of ours is passed over."""
        if self._channel < 0:
            if not data:
                return
            self._channel, data = data[0], data[1:]
        if self._channel not in (_DATA, _ERROR):
            return
        head = min(self._heads[self._channel], len(data))
        self._heads[self._channel] -= head
        if self._channel == _DATA:
            self._ready += data[head:]
        else:
            self._error += data[head : head + _MAX_ERROR - len(self._error)]

    def _refused(self) -> Fault:
        self._ended = True
        said = shorten(self._error.decode(errors="replace"))
        self._error.clear()
        if "refused" in said:
            cure = "check that the pod listens at this port, and not on another address than loopback alone"
            return Fault("refused", f"cannot reach {self._where} by a port-forward: the node said {said!r}; {cure}")
        cure = "see the pod's log, and that of the kubelet on its node"
        return Fault("reset", f"cannot go on with the port-forward to {self._where}: the node said {said!r}; {cure}")

    def _broken(self, error: Exception) -> Fault:
        why = shorten(str(error)) or type(error).__name__
        return Fault(
            "reset",
            f"cannot go on with the port-forward to {self._where}: it broke ({why}); it is opened anew at its next use",
        )
