"""Connections that do not come about, break in each phase, are closed at reuse, go away in good order, or drip."""

from __future__ import annotations

import socket
import struct

import pytest
import trio

from agent.scripted import serve, then_close, then_hang, then_reset
from ebbtide import Rejected, Retry
from tests.compliance import servers
from tests.compliance.destination import TAKEN, Destination, deliver, exporter, sealed
from tests.compliance.rules import GRPC, HTTP, rule
from tests.compliance.servers import GrpcServer, Http2Calls, reset, serve_connections

over_http = pytest.mark.parametrize("protocol", HTTP)
by_grpc = pytest.mark.parametrize("protocol", [GRPC])


def taken(protocol: str, *lines: str) -> bytes:
    said = TAKEN.http(protocol)
    return said.replace(b"\r\n", "".join(f"\r\n{line}" for line in lines).encode() + b"\r\n", 1) if lines else said


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@rule("7.3")
async def test_refused(protocol, batch):
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        async with exporter(endpoint=url(port), protocol=protocol) as otlp:
            for _ in range(2):
                with pytest.raises(
                    Retry, match=rf"127\.0\.0\.1:{port}.*connection refused; check that the server runs"
                ):
                    await otlp.send(sealed(otlp, batch))


@rule("7.3")
async def test_a_name_that_is_none(protocol, batch):
    async with exporter(endpoint="http://no-such-host.invalid:4318", protocol=protocol) as otlp:
        with pytest.raises(Retry, match=r"its name cannot be resolved.*; check the host name"):
            await otlp.send(sealed(otlp, batch))


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"


async def _at_accept(stream: trio.SocketStream) -> None:
    reset(stream)


async def _while_sending(stream: trio.SocketStream) -> None:
    await stream.receive_some(10)
    reset(stream)


@rule("7.4")
@over_http
@pytest.mark.parametrize("handler", [_at_accept, _while_sending], ids=["at accept", "while sending"])
async def test_resets_before_the_request_is_whole(clock, protocol, nursery, batch, handler):
    got: list[bytes] = []

    async def well(stream: trio.SocketStream) -> None:
        got.append(await stream.receive_some())
        await stream.send_all(taken(protocol, "Connection: close"))
        await stream.aclose()

    port = await serve_connections(nursery, handler, handler, well)
    delivery = await deliver(Destination(protocol, url(port)), [batch])
    assert (delivery.counts.sent, delivery.counts.retries, delivery.waits) == (len(batch), 2, [1, 2])
    assert got


@rule("7.4")
@over_http
@pytest.mark.parametrize("end", [then_close, then_reset], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.", HEAD, HEAD + b"Content-Length: 9\r\n\r\n", HEAD + b"Content-Length: 9\r\n\r\nabc",
     HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab"],
    ids=["no answer", "in the first line", "in the head", "after the head", "in the body", "in a chunk"],
)  # fmt: skip
async def test_breaks_in_the_answer(clock, protocol, nursery, batch, said, end):
    server = await serve(nursery, [end(said), taken(protocol)])
    delivery = await deliver(Destination(protocol, server.url), [batch])
    first, second = server.requests
    assert first.body == second.body
    assert first.connection != second.connection
    assert (delivery.counts.sent, delivery.counts.retries, delivery.waits) == (len(batch), 1, [1])


@rule("7.4")
@by_grpc
@pytest.mark.parametrize(
    "phase", ["at accept", "after the preface", "after the request", "in the head", "after the head", "refused stream"]
)
async def test_breaks_of_http2(clock, protocol, nursery, batch, phase):
    async def breaks(stream: trio.SocketStream) -> None:
        if phase == "at accept":
            reset(stream)
            return
        calls = Http2Calls(stream)
        await calls.begin()
        if phase != "after the preface":
            number = await calls.next()
            if phase == "in the head":
                await stream.send_all(servers.response_head(number)[:12])
            if phase == "after the head":
                await stream.send_all(servers.response_head(number))
            if phase == "refused stream":
                await stream.send_all(
                    servers.frame(servers.RST_STREAM, 0, number, struct.pack(">I", servers.REFUSED_STREAM))
                )
                await trio.sleep(0.01)
        reset(stream)

    async def well(stream: trio.SocketStream) -> None:
        calls = Http2Calls(stream)
        await calls.begin()
        await stream.send_all(servers.response(await calls.next()))
        await calls.next()

    port = await serve_connections(nursery, breaks, well)
    delivery = await deliver(Destination(protocol, url(port)), [batch])
    assert delivery.counts.sent == len(batch)
    assert len({body for _, body in delivery.attempts}) == 1


@rule("5.3")
@over_http
@pytest.mark.parametrize("end", [then_close, then_reset, then_hang], ids=["closed", "reset", "hanging"])
@pytest.mark.parametrize("status", [400, 500])
async def test_a_final_status_counts_though_its_body_breaks_off(protocol, nursery, batch, status, end):
    server = await serve(nursery, [end(f"HTTP/1.1 {status} X\r\nContent-Length: 9\r\n\r\nabc".encode())])
    async with exporter(endpoint=server.url, protocol=protocol, timeout="100ms") as otlp:
        with pytest.raises(Rejected, match=f"HTTP {status}"):
            await otlp.send(sealed(otlp, batch))


@rule("7.5")
@over_http
@pytest.mark.parametrize("end", [then_close, then_reset], ids=["closed", "reset"])
async def test_a_kept_connection_closed_at_its_next_use(protocol, nursery, batch, end):
    """The server closes at the very moment of the second request: it goes by another connection, and nobody notices."""
    server = await serve(nursery, [taken(protocol), end(), taken(protocol), end(), taken(protocol)])
    delivery = await deliver(Destination(protocol, server.url), [batch] * 3)
    assert (delivery.counts.requests, delivery.counts.retries, delivery.counts.sent) == (3, 0, 3 * len(batch))
    assert [request.connection for request in server.requests] == [0, 0, 1, 1, 2]


@rule("7.5")
@over_http
async def test_a_kept_connection_closed_while_idle(protocol, nursery, batch):
    async def once(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(taken(protocol))
        await stream.aclose()

    port = await serve_connections(nursery, once)
    delivery = await deliver(Destination(protocol, url(port)), [batch] * 3)
    assert (delivery.counts.requests, delivery.counts.retries, delivery.counts.sent) == (3, 0, 3 * len(batch))


@rule("7.6")
@over_http
async def test_connection_close(protocol, nursery, batch):
    server = await serve(nursery, [then_close(taken(protocol, "Connection: close"))] * 3)
    delivery = await deliver(Destination(protocol, server.url), [batch] * 3)
    assert (delivery.counts.requests, delivery.counts.retries, server.connections) == (3, 0, 3)


@rule("7.5")
@rule("7.6")
@by_grpc
async def test_goaway_between_calls(protocol, nursery, batch):
    async def leaves(stream: trio.SocketStream) -> None:
        calls = Http2Calls(stream)
        await calls.begin()
        number = await calls.next()
        await stream.send_all(servers.response(number) + servers.goaway(number))
        await stream.aclose()

    port = await serve_connections(nursery, leaves)
    delivery = await deliver(Destination(protocol, url(port)), [batch] * 3)
    assert (delivery.counts.requests, delivery.counts.retries, delivery.counts.sent) == (3, 0, 3 * len(batch))


@rule("7.6")
@by_grpc
async def test_goaway_during_a_call(protocol, nursery, batch):
    """The stream is below the one named by GOAWAY: it is answered all the same; the next call goes elsewhere."""

    async def leaves(stream: trio.SocketStream) -> None:
        calls = Http2Calls(stream)
        await calls.begin()
        number = await calls.next()
        await stream.send_all(servers.goaway(number))
        await trio.sleep(0.02)
        await stream.send_all(servers.response(number))
        await stream.aclose()

    port = await serve_connections(nursery, leaves)
    delivery = await deliver(Destination(protocol, url(port)), [batch] * 2)
    assert (delivery.counts.requests, delivery.counts.retries, delivery.counts.sent) == (2, 0, 2 * len(batch))


@rule("7.6")
@by_grpc
async def test_a_server_that_is_replaced(protocol, batch):
    """grpcio's own graceful stop, and another server on the same port."""
    old = GrpcServer()
    async with exporter(endpoint=old.url, protocol=protocol) as otlp:
        await otlp.send(sealed(otlp, batch))
        await trio.to_thread.run_sync(old.stop, 1)
        new = GrpcServer(port=old.port)
        try:
            await otlp.send(sealed(otlp, batch))
        finally:
            new.stop()
    assert (len(old.requests), len(new.requests)) == (1, 1)


@rule("7.3")
@by_grpc
async def test_a_server_that_comes_back_is_found_at_once(protocol, batch):
    """grpcio's own back-off, which grows to two minutes by default, does not add to the outbox's."""
    gone = GrpcServer()
    gone.stop()
    async with exporter(endpoint=gone.url, protocol=protocol) as otlp:
        for _ in range(4):
            with pytest.raises(Retry):
                await otlp.send(sealed(otlp, batch))
            await trio.sleep(0.1)
        back = GrpcServer(port=gone.port)
        try:
            with trio.fail_after(5):
                while not back.requests:
                    try:
                        await otlp.send(sealed(otlp, batch))
                    except Retry:
                        await trio.sleep(0.2)
        finally:
            back.stop()


@rule("13.3")
async def test_connections_are_kept(destination, batch):
    peers: set[object] = set()
    if destination._grpc:
        destination._grpc.behaviour = lambda body, context: peers.add(context.peer()) or b""
    async with exporter(destination) as otlp:
        for _ in range(5):
            await otlp.send(sealed(otlp, batch))
    peers |= {request.connection for request in destination._http.requests} if destination._http else set()
    assert len(destination.requests) == 5
    assert len(peers) == 1


async def _never_answers(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass


async def _never_reads(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def _drips(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        await trio.sleep(0.05)
        await stream.send_all(b"x")


async def _drips_settings(stream: trio.SocketStream) -> None:
    calls = Http2Calls(stream)
    await calls.begin()
    for byte in servers.response(await calls.next()):
        await stream.send_all(bytes([byte]))
        await trio.sleep(0.05)


@rule("7.7")
@pytest.mark.parametrize("handler", [_never_answers, _never_reads, _drips, _drips_settings])
async def test_one_deadline_around_all(protocol, nursery, batch, handler):
    port = await serve_connections(nursery, handler)
    began = trio.current_time()
    async with exporter(endpoint=url(port), protocol=protocol, timeout="200ms") as otlp:
        with pytest.raises(Retry):
            await otlp.send(sealed(otlp, batch))
    assert trio.current_time() - began < 5


@rule("7.7")
async def test_a_deadline_is_tried_again(destination, batch):
    """It says how long it took; by gRPC the code does."""
    port_of_none = await _silent_port()
    async with exporter(endpoint=url(port_of_none[0]), protocol=destination.protocol, timeout="100ms") as otlp:
        with pytest.raises(Retry, match=r"took more than 100ms|connecting took too long|DEADLINE_EXCEEDED"):
            await otlp.send(sealed(otlp, batch))
    port_of_none[1].close()


async def _silent_port() -> tuple[int, socket.socket]:
    """A port that listens and never accepts."""
    listener = socket.create_server(("127.0.0.1", 0))
    await trio.lowlevel.checkpoint()
    return listener.getsockname()[1], listener
