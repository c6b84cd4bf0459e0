"""A port-forward as a stream: what goes over the wire, and every way in which it ends."""

from __future__ import annotations

import math
from pathlib import Path

import httpcore
import pytest
import trio
from trio.testing import memory_stream_pair
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage

from agent.http_fault import Fault
from agent.kubernetes.api import Api, ApiFault
from agent.kubernetes.portforward import MAX_FRAME, PortForward, open_portforward
from agent.scripted import Connection as Client
from agent.scripted import Request, answer, serve
from tests.clusters import kubeconfig, pod, running

PORTS = [b"\x00\x5f\x10", b"\x01\x5f\x10"]  # the first message of each channel: 4191


class Carrier(httpcore.AsyncNetworkStream):
    """A connection in memory, as httpcore has them."""

    def __init__(self, stream: trio.abc.Stream):
        self.stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return bytes(await self.stream.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            raise httpcore.ReadError(error) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            await self.stream.send_all(buffer)
        except trio.BrokenResourceError as error:
            raise httpcore.WriteError(error) from error

    async def aclose(self) -> None:
        await self.stream.aclose()

    def get_extra_info(self, info: str) -> object:
        return None


class Kubelet:
    """The other side."""

    def __init__(self, stream: trio.abc.Stream):
        self.stream = stream
        self.socket = Connection(ConnectionType.SERVER)

    async def say(self, *messages: bytes | Event) -> None:
        for message in messages:
            event = Message(data=message) if isinstance(message, bytes) else message
            await self.stream.send_all(self.socket.send(event))

    async def hear(self) -> list[Event]:
        self.socket.receive_data(bytes(await self.stream.receive_some(1 << 20)) or None)
        return list(self.socket.events())


@pytest.fixture
def ends() -> tuple[PortForward, Kubelet]:
    ours, theirs = memory_stream_pair()
    return PortForward(Carrier(ours), "port 4191 of pod a in namespace b", ours.aclose), Kubelet(theirs)


async def everything(stream: PortForward) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_data_of_channel_0_is_the_stream(ends):
    stream, kubelet = ends
    await kubelet.say(
        *PORTS, b"\x00one", Ping(payload=b"x"), b"\x00 two", b"\x07none of ours", b"\x00", CloseConnection(code=1000)
    )
    assert await everything(stream) == b"one two"
    assert await stream.receive_some() == b""
    assert isinstance((await kubelet.hear())[0], Pong)
    await stream.aclose()
    await stream.aclose()


async def test_pieces_of_any_size(ends):
    stream, kubelet = ends
    await kubelet.say(PORTS[0][:1] + b"\x5f", b"\x00\x10ab", PORTS[1], b"\x00" + b"c" * 100_000)
    assert await stream.receive_some(1) == b"a"
    assert stream.stirs
    assert await stream.receive_some(1) == b"b"
    with trio.fail_after(5):
        received = b""
        while len(received) < 100_000:
            received += await stream.receive_some(70_000)
    assert set(received) == set(b"c")
    assert not stream.stirs


async def test_what_is_sent(ends):
    stream, kubelet = ends
    await stream.send_all(b"")
    await stream.send_all(b"x" * (MAX_FRAME + 1))
    await stream.wait_send_all_might_not_block()
    heard = [event for event in await kubelet.hear() if isinstance(event, BytesMessage)]
    assert b"".join(bytes(event.data) for event in heard) == b"\x00" + b"x" * MAX_FRAME + b"\x00x"
    await stream.aclose()
    assert isinstance((await kubelet.hear())[0], CloseConnection)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ([*PORTS, b"\x01dial tcp4 127.0.0.1:4191: connect: connection refused"], "refused", "the node said 'dial tcp4"),
        ([*PORTS, b"\x01pod not found\n\x1b[1m"], "reset", "the node said 'pod not found [1m'"),
        ([PORTS[0], b"\x01\x5f\x10in one"], "reset", "the node said 'in one'"),
        ([*PORTS, CloseConnection(code=1011, reason="out of order")], "reset", "closed with 1011 out of order"),
        ([TextMessage(data="x"), b"\x01ab" + b"y" * 9000], "reset", "yyy…'"),
    ],
)  # fmt: skip
async def test_what_the_node_says_went_wrong(ends, said, kind, words):
    stream, kubelet = ends
    await kubelet.say(*said)
    with pytest.raises(Fault, match="port 4191 of pod a in namespace b") as caught:
        await everything(stream)
    assert caught.value.kind == kind
    assert words in str(caught.value)
    assert await stream.receive_some() == b""


async def test_data_comes_before_the_error(ends):
    stream, kubelet = ends
    await kubelet.say(*PORTS, b"\x00data", b"\x01error", CloseConnection(code=1000))
    assert await stream.receive_some() == b"data"
    with pytest.raises(Fault, match="'error'"):
        await stream.receive_some()


async def test_a_connection_that_breaks(ends):
    stream, kubelet = ends
    await kubelet.stream.aclose()
    with pytest.raises(
        Fault, match=r"cannot go on with the port-forward to port 4191 of pod a.*it is opened anew"
    ) as caught:
        await stream.send_all(b"x")
    assert caught.value.kind == "reset"
    assert await stream.receive_some() == b""
    await stream.aclose()


async def test_a_carrier_that_fails(ends):
    stream, _ = ends

    async def fail(max_bytes: int, timeout: float | None = None) -> bytes:
        raise httpcore.ReadError("reset by peer")

    stream.carrier.read = fail
    with pytest.raises(Fault, match=r"it broke \(reset by peer\)"):
        await stream.receive_some()
    assert await stream.receive_some() == b""


async def test_what_is_no_websocket(ends):
    stream, kubelet = ends
    await kubelet.stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(Fault, match="the WebSocket was closed with 1002"):
        await everything(stream)


async def test_leaving_takes_no_time_where_nobody_listens(ends, autojump_clock):
    stream, _ = ends

    async def hang(buffer: bytes, timeout: float | None = None) -> None:
        await trio.sleep(math.inf)

    stream.carrier.write = hang
    await stream.aclose()
    assert trio.current_time() < 2


async def test_through_an_api_server(nursery, tmp_path: Path):
    async def echo(stream: trio.SocketStream) -> None:
        async for chunk in stream:
            await stream.send_all(chunk.upper())

    listeners = await nursery.start(trio.serve_tcp, echo, 0)
    server = await running(nursery, tmp_path, [pod("a"), pod("b", phase="Pending")])
    server.cluster.forwards["shop", "a", 80] = listeners[0].socket.getsockname()
    api = Api(server.kubeconfig)
    stream = await open_portforward(api, "shop", "a", 80)
    sent = b"x" * 200_000
    async with trio.open_nursery() as both:
        both.start_soon(stream.send_all, sent)
        received = b""
        while len(received) < len(sent):
            received += await stream.receive_some()
    assert received == sent.upper()
    await stream.aclose()
    with pytest.raises(ApiFault, match=r"cannot open a port-forward to pods b in namespace shop.*pod is not running"):
        await open_portforward(api, "shop", "b", 80)
    assert server.api.complaints == []
    await api.aclose()


async def test_what_role_is_needed(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [pod("a")], allowed=lambda *_: False)
    api = Api(server.kubeconfig)
    with pytest.raises(
        ApiFault, match="bind a Role in namespace shop that allows get, create on pods/portforward to it"
    ):
        await open_portforward(api, "shop", "a", 80)
    await api.aclose()


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("", "the answer was 101 without a WebSocket handshake"),
        ("Sec-WebSocket-Accept: nonsense\r\n", "without a WebSocket handshake"),
        (None, "the answer was 200 without a WebSocket handshake"),
    ],
)
async def test_handshakes_that_are_none(nursery, tmp_path: Path, head, words):
    async def switch(connection: Client, request: Request) -> None:
        await connection.send_all(
            f"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{head}\r\n".encode()
        )

    server = await serve(nursery, [switch if head is not None else answer(200, b"{}")])
    (tmp_path / "config").write_text(str(kubeconfig({"server": server.url.rstrip("/")}, {})))
    api = Api(str(tmp_path / "config"))
    with pytest.raises(Fault, match="cannot open a port-forward to port 80 of pod a") as caught:
        await open_portforward(api, "shop", "a", 80)
    assert words in str(caught.value)
    await api.aclose()
