"""The sockets of the demo's API server, spoken to in bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    TextMessage,
)
from wsproto.events import Request as Upgrade

from tests.clusters import Running, pod, running


async def said(server: Running, request: bytes, until: bytes = b"}\n", count: int = 1) -> bytes:
    stream = await connected(server)
    await stream.send_all(request)
    received = b""
    with trio.fail_after(30):
        while received.count(until) < count:
            piece = await stream.receive_some()
            assert piece, received
            received += piece
    return received


OPEN: list[trio.SocketStream] = []


async def connected(server: Running) -> trio.SocketStream:
    OPEN.append(await trio.open_tcp_stream("127.0.0.1", int(server.url.rpartition(":")[2])))
    return OPEN[-1]


@pytest.fixture(autouse=True)
async def _closed():
    yield
    while OPEN:
        await OPEN.pop().aclose()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: c\r\n\r\n".encode()


async def test_several_requests_on_one_connection(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [pod("a")])
    received = await said(server, get("/api/v1/pods") + get("/nowhere") + get("/version"), count=3)
    assert re.findall(rb"HTTP/1.1 (...)", received) == [b"200", b"404", b"200"]


async def test_a_watch_streams_what_matches(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [pod("a"), pod("b")])
    version = server.cluster.version
    server.cluster.put(pod("a", labels={"app": "db"}))
    server.cluster.put(pod("b"))
    server.cluster.put(pod("c"))
    server.cluster.put(pod("d", "other"))
    server.cluster.delete(pod("b"))
    path = f"/api/v1/namespaces/shop/pods?watch=1&resourceVersion={version}&labelSelector=app=web&timeoutSeconds=1"
    received = await said(server, get(path), b"}\n", 4)
    events = [json.loads(line) for line in received.split(b"\r\n") if line.startswith(b"{")]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("DELETED", "a"), ("MODIFIED", "b"), ("ADDED", "c"), ("DELETED", "b"),
    ]  # fmt: skip


async def test_a_watch_ends_in_time_and_the_connection_goes_on(nursery, tmp_path: Path, autojump_clock):
    server = await running(nursery, tmp_path)
    path = f"/api/v1/pods?watch=1&resourceVersion={server.cluster.version}&timeoutSeconds=1"
    assert (await said(server, get(path), b"0\r\n\r\n")).endswith(b"\r\n\r\n0\r\n\r\n")


async def test_a_watch_from_a_forgotten_version(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, gone_by_event=True)
    server.cluster.forget()
    received = await said(server, get("/api/v1/pods?watch=1&resourceVersion=5"))
    assert b'"type":"ERROR"' in received
    assert b'"code":410' in received


async def test_who_is_not_http_is_noted(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path)
    stream = await connected(server)
    await stream.send_all(b"\x16\x03\x01 hello\r\n\r\n")
    assert await stream.receive_some() == b""
    assert server.api.complaints[0].startswith("not HTTP/1.1: ")


class Forward:
    """A client's side of a port-forward."""

    def __init__(self, stream: trio.SocketStream):
        self.stream = stream
        self.socket = WSConnection(ConnectionType.CLIENT)

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.socket.send(event))

    async def hear(self, count: int) -> list[Event]:
        heard: list[Event] = []
        with trio.fail_after(5):
            while len(heard) < count:
                self.socket.receive_data(await self.stream.receive_some() or None)
                heard += self.socket.events()
        return heard


@pytest.fixture
async def server(nursery, tmp_path: Path) -> Running:
    async def echo(stream: trio.SocketStream) -> None:
        async for chunk in stream:
            await stream.send_all(chunk)

    listeners = await nursery.start(trio.serve_tcp, echo, 0)
    server = await running(nursery, tmp_path, [pod("a")])
    server.cluster.forwards["shop", "a", 4191] = listeners[0].socket.getsockname()
    return server


async def forward(server: Running, port: int = 4191, subprotocol: str = "v4.channel.k8s.io") -> Forward:
    opened = Forward(await connected(server))
    target = f"/api/v1/namespaces/shop/pods/a/portforward?ports={port}"
    await opened.send(Upgrade(host="c", target=target, subprotocols=[subprotocol]))
    return opened


async def test_a_port_forward(server: Running):
    opened = await forward(server)
    accepted, data, error = await opened.hear(3)
    assert isinstance(accepted, AcceptConnection)
    assert accepted.subprotocol == "v4.channel.k8s.io"
    assert (bytes(data.data), bytes(error.data)) == (b"\x00\x5f\x10", b"\x01\x5f\x10")
    await opened.send(Ping(payload=b"?"))
    assert isinstance((await opened.hear(1))[0], Pong)
    await opened.send(Message(data=b"\x00" + b"x" * 200_000))
    received = b""
    while len(received) < 200_000:
        pieces = [event for event in await opened.hear(1) if isinstance(event, BytesMessage)]
        received += b"".join(bytes(piece.data) for piece in pieces).replace(b"\x00", b"")
    assert received == b"x" * 200_000
    assert server.api.complaints == []


async def test_a_port_where_nothing_listens(server: Running):
    opened = await forward(server, 4192)
    *_, message, closed = await opened.hear(5)
    assert bytes(message.data).startswith(b"\x01error forwarding port 4192 to pod a, uid uid-of-a: ")
    assert b"connection refused" in bytes(message.data)
    assert isinstance(closed, CloseConnection)


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (TextMessage(data="x"), "a text message on a port-forward"),
        (Message(data=b"\x01x"), "a message that is not of channel 0"),
        (Message(data=b"x"), "a message that is not of channel 0"),
    ],
)
async def test_messages_that_are_wrong(server: Running, event, complaint):
    opened = await forward(server)
    await opened.hear(3)
    await opened.send(event)
    assert isinstance((await opened.hear(1))[-1], CloseConnection)
    assert server.api.complaints == [complaint]


async def test_the_subprotocol_is_asked_for(server: Running):
    opened = await forward(server, subprotocol="v5.channel.k8s.io")
    assert isinstance((await opened.hear(1))[0], RejectConnection)
    assert server.api.complaints == ["unable to upgrade: unsupported subprotocols ['v5.channel.k8s.io']"]


async def test_a_port_forward_without_a_websocket(server: Running):
    path = "/api/v1/namespaces/shop/pods/a/portforward?ports=4191"
    assert b"missing upgrade headers" in await said(server, get(path))
