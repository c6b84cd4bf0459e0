"""The receiver over real sockets: answers, room, who may write, and the end."""

from __future__ import annotations

import base64
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cramjam
import h11
import pytest
import trio

from ebbtide import Batch, ConfigError, Context, ReceiveError, ReceiverCounts, Row
from receivers import remote_write_memory
from receivers.remote_write import RemoteWrite
from receivers.remote_write_options import RemoteWriteSettings
from tests.receivers.remote_write_messages import Request, Symbols, request_v1, request_v2

T = 1_763_900_000_000
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"


class Peer:
    """The receiver, the pipelines behind it, and a client. ``room`` open: batches are let in at once."""

    def __init__(self, **options: Any):
        self.counts = ReceiverCounts()
        self.rows: list[Row] = []
        self.room = trio.Event()
        self.room.set()
        self.now = T
        settings = RemoteWriteSettings.model_validate({"listen": "127.0.0.1:0", **options})
        log = logging.getLogger("ebbtide.test")
        self.receiver = RemoteWrite(settings, Context("prometheus", self.counts, log, lambda: self.now * 10**6))
        self.scope = trio.CancelScope()

    async def emit(self, batch: Batch) -> None:
        self.counts.out += len(batch)
        with trio.CancelScope(shield=True):
            await self.room.wait()
        self.rows += list(batch.rows())

    async def run(self) -> None:
        with self.scope:
            await self.receiver.run(self.emit)

    @property
    def values(self) -> list[float]:
        return [row.value for row in self.rows]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def post(port: int, body: bytes, content_type: str = "application/x-protobuf", *, path: str = "/api/v1/write",
               method: str = "POST", **more: str) -> Answer:  # fmt: skip
    headers = {
        "Host": "x",
        "Content-Type": content_type,
        "Content-Encoding": "snappy",
        "Content-Length": str(len(body)),
    }
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        client = h11.Connection(h11.CLIENT)
        request = h11.Request(method=method, target=path, headers=list(headers.items()))
        for event in (request, h11.Data(data=body), h11.EndOfMessage()):
            try:
                await stream.send_all(client.send(event) or b"")
            except trio.BrokenResourceError:
                break  # refused before the body was read
        answer, text = None, b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if event is h11.NEED_DATA:
                client.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                answer = event
            elif isinstance(event, h11.Data):
                text += event.data
    assert answer is not None
    return Answer(answer.status_code, {name.decode(): value.decode() for name, value in answer.headers}, text)


def packed(*values: float, start: int = 0, make: Callable[..., bytes] = request_v1) -> bytes:
    samples = [({"__name__": "x_total", "n": str(n)}, value, T + start) for n, value in enumerate(values)]
    return bytes(cramjam.snappy.compress_raw(make(*samples)))


@asynccontextmanager
async def running(peer: Peer) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        await peer.receiver.open()
        nursery.start_soon(peer.run)
        yield peer.receiver.port
        peer.room.set()
        peer.scope.cancel()
    assert peer.counts.imbalance() == 0


# -- answers ------------------------------------------------------------------------------------------------------------


async def test_what_is_taken_is_emitted_before_it_is_answered() -> None:
    peer = Peer()
    async with running(peer) as port:
        answer = await post(port, packed(1.0, 2.0))
        assert (answer.status, peer.values) == (204, [1.0, 2.0])
        answer = await post(port, packed(3.0, start=1, make=request_v2), V2)
        assert (answer.status, peer.values) == (204, [1.0, 2.0, 3.0])
        assert answer.headers["x-prometheus-remote-write-samples-written"] == "1"
    assert (peer.counts.polls, peer.counts.failed_polls, peer.counts.samples) == (2, 0, 3)


async def test_a_retry_of_what_was_taken_is_well_answered() -> None:
    peer = Peer()
    async with running(peer) as port:
        for _ in range(2):
            assert (await post(port, packed(1.0))).status == 204
    assert (peer.values, peer.counts.dropped["repeated"]) == ([1.0], 1)


async def test_partial_writes_of_2_0() -> None:
    request = Request()
    symbols = Symbols(request)
    symbols.add({"__name__": "x_total"}, (1.0, T))
    symbols.add({"job": "nameless"}, (1.0, T))
    peer = Peer()
    async with running(peer) as port:
        answer = await post(port, bytes(cramjam.snappy.compress_raw(request.SerializeToString())), V2)
    assert (answer.status, answer.headers["x-prometheus-remote-write-samples-written"]) == (400, "1")
    assert b"has no name" in answer.body
    assert (peer.values, peer.counts.dropped["bad_line"]) == ([1.0], 1)


REFUSED: dict[str, tuple[dict[str, Any], int, bytes]] = {
    "not snappy": ({"body": b"\x05hello"}, 400, b"no block of snappy"),
    "not protobuf": ({"body": bytes(cramjam.snappy.compress_raw(b"\x0b\x0b"))}, 400, b"no request of remote write 1.0"),
    "2.0 as 1.0": ({"body": packed(1.0, make=request_v2), "content_type": V2.replace("v2", "v3")}, 415, b"not known"),
    "gzip": ({"body": b"", "Content_Encoding": "gzip"}, 415, b"send snappy"),
    "json": ({"body": b"{}", "content_type": "application/json"}, 415, b"send application/x-protobuf"),
    "elsewhere": ({"body": b"", "path": "/api/v2/write"}, 404, b"remote write is at /api/v1/write"),
    "a get": ({"body": b"", "method": "GET"}, 405, b"by POST"),
    "a bomb": ({"body": b"\xff\xff\xff\xff\x0f"}, 413, b"inflates to 4294967295 bytes"),
    "too long": ({"body": b"x" * 9000}, 413, b"larger than"),
}  # fmt: skip


@pytest.mark.parametrize(("given_request", "status", "why"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused_is_told_why_and_nothing_ends(
    given_request: dict[str, Any], status: int, why: bytes
) -> None:
    peer = Peer(max_body="4KiB")
    async with running(peer) as port:
        answer = await post(port, **given_request)
        assert (answer.status, why in answer.body) == (status, True), answer.body
        assert (await post(port, packed(1.0))).status == 204
    assert peer.values == [1.0]


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({"bearer_token": "t0ken"}, "Bearer t0ken"),
        ({"basic_auth": {"username": "u", "password": "p"}}, "Basic " + base64.b64encode(b"u:p").decode()),
    ],
    ids=["bearer", "basic"],
)
async def test_who_does_not_say_who_it_is_is_not_let_in(options: dict[str, Any], right: str) -> None:
    peer = Peer(**options)
    async with running(peer) as port:
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": right[:-1]}):
            answer = await post(port, packed(1.0), **wrong)
            assert (answer.status, "www-authenticate" in answer.headers) == (401, True)
        assert peer.values == []
        assert (await post(port, packed(1.0), Authorization=right)).status == 204


async def test_a_secret_that_cannot_be_read_any_more_lets_clients_come_again(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("x")
    peer = Peer(bearer_token_file=str(file))
    async with running(peer) as port:
        assert (await post(port, packed(1.0), Authorization="Bearer x")).status == 204
        file.unlink()
        assert (await post(port, packed(1.0), Authorization="Bearer x")).status == 503
    assert "cannot read `bearer_token_file`" in caplog.text


# -- room -------------------------------------------------------------------------------------------------------------


async def test_a_full_queue_is_503_and_loses_and_doubles_nothing(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer(wait="5s")
    async with running(peer) as port:
        peer.room = trio.Event()
        answers = [await post(port, packed(1.0)), await post(port, packed(2.0, start=1)), await post(port, packed(1.0))]
        assert [(answer.status, answer.headers["retry-after"]) for answer in answers] == [(503, "5")] * 3
        assert peer.values == []
        peer.room.set()
        assert (await post(port, packed(1.0))).status == 204
        assert (await post(port, packed(2.0, start=1))).status == 204
    assert peer.values == [1.0, 2.0]
    assert peer.counts.dropped["repeated"] == 1
    assert peer.counts.failed_polls == 3


async def test_requests_beyond_the_number_that_is_read_at_once_wait(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer(wait="5s", max_requests=1)
    async with running(peer) as port:
        peer.room = trio.Event()
        statuses: list[int] = []

        async def write(value: float) -> None:
            statuses.append((await post(port, packed(value, start=round(value)))).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, 1.0)
            await trio.sleep(1)
            nursery.start_soon(write, 2.0)
            await trio.sleep(1)
            peer.room.set()
    assert statuses == [204, 204]
    assert peer.values == [1.0, 2.0]


# -- histograms and the end ---------------------------------------------------------------------------------------------


def histogram(total: float, ms: int) -> list[Any]:
    parts = [({"__name__": "h_bucket", "le": bound}, total, ms) for bound in ("1", "+Inf")]
    return [*parts, ({"__name__": "h_sum"}, total, ms), ({"__name__": "h_count"}, total, ms)]


def pack(samples: list[Any]) -> bytes:
    return bytes(cramjam.snappy.compress_raw(request_v1(*samples)))


async def settle(peer: Peer, port: int) -> None:
    await post(port, pack(histogram(1.0, T)))
    peer.now += 10_000
    await trio.sleep(1.5)
    assert len(peer.rows) == 4


async def test_the_clock_settles_what_waits(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()
    async with running(peer) as port:
        await settle(peer, port)


End = Callable[[Peer], Awaitable[None]]


async def cancelled(peer: Peer) -> None:
    peer.scope.cancel()


async def asked_to_leave(peer: Peer) -> None:
    assert peer.receiver.leave()


@pytest.mark.parametrize("end", [cancelled, asked_to_leave])
async def test_at_the_end_what_is_missing_is_taken_and_the_rest_comes_again(
    end: End, autojump_clock: trio.testing.MockClock
) -> None:
    peer, second = Peer(), histogram(2.0, T + 1)
    later = ({"__name__": "new_total"}, 1.0, T + 1)
    async with running(peer) as port:
        await settle(peer, port)
        assert (await post(port, pack(second[:2]))).status == 204
        await end(peer)
        await trio.sleep(1)
        answer = await post(port, pack([*second[2:], later]))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert peer.values == [1.0] * 4 + [2.0] * 4
    assert peer.counts.dropped["torn"] == 0


async def test_at_the_end_it_does_not_wait_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()
    async with running(peer) as port:
        await settle(peer, port)
        await post(port, pack(histogram(2.0, T + 1)[:2]))
        began = trio.current_time()
    assert trio.current_time() - began < 10
    assert (len(peer.rows), peer.counts.dropped["torn"]) == (4, 2)


async def test_with_nothing_that_waits_it_ends_at_once(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()
    async with running(peer) as port:
        await post(port, packed(1.0))
        began = trio.current_time()
    assert trio.current_time() - began < 0.5


# -- life ---------------------------------------------------------------------------------------------------------------


async def test_once_is_a_mistake() -> None:
    peer = Peer()
    assert not peer.receiver.polls
    with pytest.raises(ConfigError, match="does not poll"):
        await peer.receiver.once(peer.emit)


async def test_it_waits_whatever_is_set() -> None:
    assert RemoteWrite.waits


async def test_a_port_that_is_taken_is_a_sentence() -> None:
    peer = Peer()
    async with running(peer) as port:
        with pytest.raises(ReceiveError, match=rf"cannot listen at 127.0.0.1:{port}: .*receivers.prometheus.listen"):
            await Peer(listen=f"127.0.0.1:{port}").receiver.open()


async def test_a_certificate_that_cannot_be_read_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="cannot load the certificates to listen with"):
        Peer(tls={"cert_file": "/nowhere.pem"})


@pytest.mark.parametrize(
    ("options", "option", "file"),
    [
        ({"bearer_token_file": "/nowhere"}, "bearer_token_file", "bearer_token_file"),
        ({"basic_auth": {"username": "u", "password_file": "/nowhere"}}, "basic_auth", "password_file"),
    ],
)
async def test_a_secret_that_cannot_be_read_is_a_mistake(options: dict[str, Any], option: str, file: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot read `{file}` /nowhere: No such file or directory; check") as caught:
        Peer(**options)
    assert caught.value.option == option


async def test_a_successor_takes_over_the_socket_and_what_is_remembered() -> None:
    old, new = Peer(listen="127.0.0.1:0"), Peer(listen="127.0.0.1:0", start_times="none", types={"x_total": "gauge"})
    async with trio.open_nursery() as nursery:
        await old.receiver.open()
        port = old.receiver.port
        async with trio.open_nursery() as olds:
            olds.start_soon(old.run)
            assert (await post(port, packed(1.0))).status == 204
            await new.receiver.open(old.receiver)
            assert new.receiver.port == port
            old.receiver.leave()
        assert old.receiver.port == 0
        new.receiver.inherit(old.receiver)
        nursery.start_soon(new.run)
        assert (await post(port, packed(1.0))).status == 204
        assert (await post(port, packed(2.0, start=1))).status == 204
        new.scope.cancel()
    row = new.rows[-1]
    assert new.counts.dropped["repeated"] == 1
    assert (row.value, row.start, row.series.family.kind) == (2.0, 0, "gauge")


async def test_a_port_taken_in_vain_is_let_go() -> None:
    peer = Peer()
    await peer.receiver.open()
    port = peer.receiver.port
    peer.receiver.close()
    again = Peer(listen=f"127.0.0.1:{port}")
    await again.receiver.open()
    again.receiver.close()


@pytest.mark.parametrize(("born", "frozen"), [(1000, 0), (1001, 1)])
async def test_many_newcomers_are_taken_out_of_the_collectors_sight(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, born: int, frozen: int
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(None))
    peer = Peer()
    async with running(peer) as port:
        for n in range(2):
            assert (await post(port, packed(*map(float, range(born)), start=n))).status == 204
        await trio.sleep(2.5)
    assert len(calls) == frozen


async def test_too_many_samples_of_one_series_are_413(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_write_memory, "MOST_TIMES", 1)
    series = {"__name__": "x_total"}
    peer = Peer()
    async with running(peer) as port:
        assert (await post(port, pack([(series, 1.0, T), (series, 2.0, T + 1)]))).status == 413
        assert (await post(port, pack([(series, 1.0, T)]))).status == 204
