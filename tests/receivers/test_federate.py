"""The federate receiver against a server that says exactly what it is told, misbehaviour included."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import socket
import tracemalloc
from collections.abc import AsyncIterator
from itertools import repeat
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import trio
from pydantic import ValidationError

from agent import httpserver
from agent.scripted import Connection, Request, ScriptedServer, Step, answer, serve, then_close, then_hang, then_reset
from ebbtide import Batch, Context, ReceiveError, ReceiverCounts, Recording, Row, Target
from receivers.federate import Federate, FederateSettings
from tests.clusters import pod, running, service

T0 = 1_795_362_000_000  # wall time of the first poll, ms
GZIP = {"Content-Encoding": "gzip"}
PROXY = {"instance": "10.0.0.1:4191", "job": "linkerd-proxy", "deployment": "web"}
HEAD = b"HTTP/1.1 200 OK\r\n"


def labels(**more: str) -> str:
    return ",".join(f'{name}="{value}"' for name, value in sorted({**PROXY, **more}.items()))


def page(seconds: int = 0, requests: int = 5) -> bytes:
    """An answer of seven samples: `up`, a counter, a histogram."""
    at = T0 + 1000 * seconds
    lines = [f"up{{{labels()}}} 1 {at}", f"request_total{{{labels(direction='inbound')}}} {requests} {at}"]
    lines += [f"response_latency_ms_bucket{{{labels(le=le)}}} {requests} {at}" for le in ("1", "10", "+Inf")]
    lines += [f"response_latency_ms_{part}{{{labels()}}} {requests} {at}" for part in ("sum", "count")]
    return ("\n".join(lines) + "\n").encode()


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + end


def data(value: object) -> bytes:
    """An answer of Prometheus' API."""
    return answer(200, json.dumps({"status": "success", "data": value}).encode(), {"Content-Type": "application/json"})


class Source:
    """A Prometheus on loopback that answers each path as told, and 404 where nothing was."""

    def __init__(self) -> None:
        self.answers: dict[str, Step] = {"/federate": answer(200, page()), "/api/v1/metadata": data({})}
        self.up: Step = answer(200, b"")  # to a question for `up`, which the receiver asks beside the selectors
        self.server: ScriptedServer

    async def __call__(self, connection: Connection, request: Request) -> None:
        path = urlsplit(request.target).path
        step = self.answers.get(path, answer(404, b"404 page not found"))
        if path == "/federate" and all(selector.startswith("up") for selector in self.matches(request)):
            step = self.up
        if callable(step):
            await step(connection, request)
        else:
            await connection.send_all(step)

    @staticmethod
    def matches(request: Request) -> list[str]:
        return [value for name, value in parse_qsl(urlsplit(request.target).query) if name == "match[]"]

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.server.requests if urlsplit(request.target).path == path]


class Agent:
    """A receiver and what came out of it."""

    def __init__(self, url: str, **options: object):
        self.now = T0
        self.counts = ReceiverCounts()
        self.batches: list[Batch] = []
        settings = FederateSettings.model_validate({"url": url, "timeout": "5s", **options})
        context = Context("linkerd", self.counts, logging.getLogger("ebbtide.test"), lambda: self.now * 10**6)
        self.receiver = Federate(settings, context)

    async def emit(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.counts.out += len(batch)
        await trio.lowlevel.checkpoint()

    async def poll(self) -> list[Row]:
        """Poll once and return the points that came of it."""
        self.batches.clear()
        try:
            await self.receiver.poll(self.emit)
        finally:
            assert self.counts.imbalance() == 0
        return [row for batch in self.batches for row in batch.rows()]

    async def failure(self) -> str:
        """Poll once, to fail; return the sentence. What came is the receiver's own five series, `up` being 0."""
        with pytest.raises(ReceiveError) as caught:
            await self.poll()
        rows = [row for batch in self.batches for row in batch.rows()]
        instance = urlsplit(self.receiver.settings.url).netloc.rpartition("@")[2]
        assert [row.series.labels for row in rows] == [{"job": "linkerd", "instance": instance}] * 5
        assert {row.series.name: row.value for row in rows if row.series.name != "scrape_duration_seconds"} == {
            "up": 0.0,
            "scrape_samples_scraped": 0.0,
            "scrape_samples_post_metric_relabeling": 0.0,
            "scrape_series_added": 0.0,
        }
        assert str(caught.value).startswith("cannot ")
        return str(caught.value)


@pytest.fixture
async def source(nursery: trio.Nursery) -> Source:
    source = Source()
    source.server = await serve(nursery, repeat(source))
    return source


@pytest.fixture
async def agent(source: Source) -> AsyncIterator[Agent]:
    agent = Agent(source.server.url)
    yield agent
    await agent.receiver.aclose()


def scraped(rows: list[Row]) -> dict[str, float]:
    """The points that are not of the receiver's own."""
    return {str(row.series): row.value for row in rows if row.series.label("job") != "linkerd"}


# -- what is asked, and what comes of it ------------------------------------------------------------------------------


async def test_selectors_are_sent_and_gzip_is_asked_for_and_read(source: Source, agent: Agent) -> None:
    source.answers["/federate"] = answer(
        200, gzip.compress(page()), {**GZIP, "Content-Type": "text/plain; version=0.0.4"}
    )
    assert len(scraped(await agent.poll())) == 7
    request = source.asked("/federate")[0]
    assert source.matches(request) == ['{job="linkerd-proxy"}', '{job="linkerd-controller"}']
    assert "gzip" in request.headers["accept-encoding"]
    assert request.headers["accept"].startswith("text/plain")


async def test_types_starts_and_values_come_out(agent: Agent) -> None:
    rows = {str(row.series): row for row in await agent.poll()}
    counter = rows[f"request_total{{{labels(direction='inbound')}}}"]
    assert (counter.series.family.kind, counter.value, counter.time) == ("counter", 5.0, T0 * 10**6)
    assert counter.start == counter.time
    assert rows[f"response_latency_ms_bucket{{{labels(le='10')}}}"].series.family.kind == "histogram"


async def test_what_was_delivered_is_not_delivered_again(source: Source, agent: Agent) -> None:
    await agent.poll()
    assert scraped(await agent.poll()) == {}
    assert agent.counts.dropped["repeated"] == 7
    source.answers["/federate"] = answer(200, page(10, 6))
    assert len(scraped(await agent.poll())) == 7
    assert (agent.counts.polls, agent.counts.failed_polls, agent.counts.samples) == (3, 0, 21)


async def test_connections_are_kept_from_poll_to_poll(source: Source, agent: Agent) -> None:
    for _ in range(3):
        await agent.poll()
    assert {request.connection for request in source.asked("/federate")} == {0}


async def test_the_receivers_own_series_stand_beside_the_federated_up(source: Source, agent: Agent) -> None:
    source.answers["/federate"] = answer(200, page().replace(b"} 1 ", b"} 0 ", 1))
    rows = await agent.poll()
    ups = {row.series.label("job"): row for row in rows if row.series.name == "up"}
    assert {job: row.value for job, row in ups.items()} == {"linkerd": 1.0, "linkerd-proxy": 0.0}
    own = [row for row in rows if row.series.label("job") == "linkerd"]
    assert {row.series.label("instance") for row in own} == {urlsplit(source.server.url).netloc}
    assert {(row.series.target, row.time) for row in own} == {(Target.of(own[0].series.labels), T0 * 10**6)}
    assert {row.series.name: row.value for row in own if row.series.name != "scrape_duration_seconds"} == {
        "up": 1.0,
        "scrape_samples_scraped": 7.0,
        "scrape_samples_post_metric_relabeling": 7.0,
        "scrape_series_added": 7.0,
    }
    assert [0 < row.value < 5 for row in own if row.series.name == "scrape_duration_seconds"] == [True]
    assert agent.counts.added["scrape"] == 5
    assert [row.value for row in await agent.poll() if row.series.name == "scrape_series_added"] == [0.0]


async def test_the_receivers_own_series_can_be_left_out(source: Source) -> None:
    agent = Agent(source.server.url, scrape_metrics=False)
    assert len(await agent.poll()) == 7
    assert agent.counts.added["scrape"] == 0
    await agent.receiver.aclose()


@pytest.mark.parametrize(("born", "frozen"), [(1000, 0), (1001, 1)])
async def test_many_newcomers_are_taken_out_of_the_collectors_sight(
    source: Source, agent: Agent, monkeypatch: pytest.MonkeyPatch, born: int, frozen: int
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(None))
    source.answers["/federate"] = answer(200, b"".join(b'a_total{n="%d"} 1\n' % n for n in range(born)))
    for _ in range(2):
        await agent.poll()
    assert len(calls) == frozen


async def test_an_empty_answer_is_a_good_one(source: Source, agent: Agent) -> None:
    source.answers["/federate"] = answer(200, b"")
    assert [row.value for row in await agent.poll() if row.series.name == "up"] == [1.0]
    assert agent.counts.failed_polls == 0


async def test_credentials_go_with_every_request(source: Source) -> None:
    agent = Agent(source.server.url, bearer_token="t0ken", headers={"X-Scope-OrgID": "7"})
    await agent.poll()
    assert len(source.server.requests) >= 2
    assert {(r.headers["authorization"], r.headers["x-scope-orgid"]) for r in source.server.requests} == {
        ("Bearer t0ken", "7")
    }
    await agent.receiver.aclose()


# -- failures -----------------------------------------------------------------------------------------------------------

WHOLE = page()
HALF = WHOLE[: len(WHOLE) // 2]
PACKED = gzip.compress(WHOLE, mtime=0)
SHORT = "it was cut short"

FAILURES: dict[str, tuple[Step, tuple[str, ...]]] = {
    "400": (answer(400, b'invalid parameter "match[]"'), ("answered 400", "match[]", "correct the selectors")),
    "401": (answer(401, b"Unauthorized"), ("answered 401", "check bearer_token, basic_auth or tls")),
    "403 of Linkerd": (answer(403), ("403", "kind: AuthorizationPolicy", "name: prometheus-admin")),
    "403 of Linkerd, with words": (answer(403, b"unauthorized connection"), ("kind: AuthorizationPolicy",)),
    "404": (answer(404, b"404 page not found"), ("answered 404", "without /federate")),
    "418": (answer(418), ("answered 418", "check `url`")),
    "500": (answer(500, b"out of\nmemory"), ("answered 500, 'out of memory'", "server's own log")),
    "503": (answer(503, b"Service Unavailable"), ("answered 503", "Prometheus is not ready yet")),
    "503 stopping": (answer(503, b"", {"X-Prometheus-Stopping": "true"}), ("answered 503", "Prometheus is stopping")),
    "redirect elsewhere": (answer(302, b"", {"Location": "http://login.invalid/"}), ("answered 302",)),
    "no answer": (then_close(), ("closed the connection without an answer",)),
    "reset": (then_reset(HEAD + b"Content-Length: 999\r\n\r\n" + HALF), ("reset",)),
    "not HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", ("is not HTTP",)),
    "no final newline": (answer(200, WHOLE[:-1]), ("line 7", SHORT)),
    "cut in a line": (answer(200, HALF), (SHORT,)),
    "content-length": (
        then_close(HEAD + b"Content-Length: %d\r\n\r\n" % (2 * len(WHOLE)) + WHOLE),
        ("the answer ended early",),
    ),
    "early close of chunks": (then_close(chunked(WHOLE, end=b"")), ("the answer ended early",)),
    "broken chunks": (then_close(chunked(WHOLE, end=b"zz\r\n")), ("is not HTTP",)),
    "truncated gzip": (answer(200, PACKED[:-9], GZIP), ("gzip stream ended early",)),
    "broken gzip": (answer(200, PACKED[:40] + b"garbage" * 9, GZIP), ("cannot inflate the body",)),
    "not gzip": (answer(200, WHOLE, GZIP), ("it is not gzip",)),
    "HTML": (answer(200, b"<html>\n", {"Content-Type": "text/html"}), ("'text/html' instead of text/plain", "base URL")),
    "JSON": (answer(200, b"{}\n", {"Content-Type": "application/json"}), ("'application/json'",)),
    "HTML by mistake": (answer(200, WHOLE + b"<html>oops</html>\n"), ("cannot read line 8 of http://", "oops")),
    "garbage": (answer(200, b"\x00\xff\xfe\x01" * 99 + b"\n"), ("cannot read line 1",)),
    "not a number": (answer(200, WHOLE + b"a 1,5\n"), ("cannot read line 8",)),
    "not UTF-8": (answer(200, b'a{b="\xff"} 1\n'), ("cannot read line 1",)),
}  # fmt: skip


@pytest.mark.parametrize(("step", "words"), FAILURES.values(), ids=FAILURES)
async def test_a_failed_poll_has_its_sentence_and_loses_nothing(
    source: Source, agent: Agent, step: Step, words: tuple[str, ...]
) -> None:
    source.answers["/federate"] = step
    sentence = await agent.failure()
    assert [word for word in words if word not in sentence] == [], sentence
    assert (agent.counts.polls, agent.counts.failed_polls, agent.counts.samples) == (1, 1, 0)
    assert agent.counts.added == {"scrape": 5, "stale": 0}
    source.answers["/federate"] = answer(200, WHOLE)
    assert len(scraped(await agent.poll())) == 7


@pytest.mark.parametrize(
    "step", [answer(200, HALF), answer(500), answer(200, page(10)[:-1])], ids=["half", "500", "cut"]
)
async def test_a_failed_poll_between_two_good_ones_loses_nothing(source: Source, agent: Agent, step: Step) -> None:
    await agent.poll()
    source.answers["/federate"] = step
    await agent.failure()
    source.answers["/federate"] = answer(200, page(20, 9))
    assert set(scraped(await agent.poll()).values()) == {1.0, 9.0}
    assert agent.counts.dropped == {"repeated": 0, "torn": 0}


async def test_prometheus_own_403_names_no_policy_of_linkerd(source: Source, agent: Agent) -> None:
    for said in (b"Prometheus: access denied", b"<p>prometheus</p>" + b" " * 10_000):
        source.answers["/federate"] = answer(403, said)
        sentence = await agent.failure()
        assert "AuthorizationPolicy" not in sentence
        assert "answered 403" in sentence
        assert "check bearer_token" in sentence


async def test_a_long_error_page_is_quoted_in_short(source: Source, agent: Agent) -> None:
    source.answers["/federate"] = answer(400, b"bad selector" + b"!" * 100_000)
    sentence = await agent.failure()
    assert "bad selector!!!" in sentence
    assert len(sentence) < 500


async def test_a_broken_error_page_still_has_its_status(source: Source, agent: Agent) -> None:
    source.answers["/federate"] = answer(500, b"no gzip", GZIP)
    assert "answered 500" in await agent.failure()
    source.answers["/federate"] = then_close(b"HTTP/1.1 500 X\r\nContent-Length: 99\r\n\r\nout of memory")
    assert "answered 500, 'out of memory'" in await agent.failure()


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    agent = Agent(url)
    sentence = await agent.failure()
    assert f"cannot reach {url}/federate: connection refused" in sentence
    await agent.receiver.aclose()


async def test_a_name_that_nobody_knows() -> None:
    agent = Agent("http://prometheus.invalid:9090")
    assert "its name cannot be resolved" in await agent.failure()
    await agent.receiver.aclose()


async def test_tls_where_none_is_spoken(nursery: trio.Nursery) -> None:
    async def handler(_: httpserver.Request) -> httpserver.Response:
        return httpserver.Response()

    port = await nursery.start(httpserver.serve_http, handler, "127.0.0.1", 0)
    agent = Agent(f"https://127.0.0.1:{port}")
    assert "the server does not speak TLS there" in await agent.failure()
    await agent.receiver.aclose()


@pytest.mark.parametrize(
    "begin", [b"", HEAD + b"Content-Length: 9999\r\n\r\n" + HALF, b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n"]
)
async def test_one_deadline_ends_the_whole_poll(source: Source, begin: bytes) -> None:
    async def drip(connection: Connection, _: Request) -> None:
        await connection.send_all(begin)
        while begin:
            await connection.send_all(b"#")
            await trio.sleep(0.02)
        await trio.sleep_forever()

    agent = Agent(source.server.url, timeout="150ms")
    source.answers["/federate"] = drip if begin.startswith(HEAD) else then_hang(begin)
    with trio.fail_after(3):
        sentence = await agent.failure()
    assert "it took more than 150ms" in sentence
    assert "raise `timeout`" in sentence
    source.answers["/federate"] = answer(200, WHOLE)
    assert len(scraped(await agent.poll())) == 7
    await agent.receiver.aclose()


async def test_a_body_above_the_limit_is_refused_in_bounded_memory(source: Source) -> None:
    agent = Agent(source.server.url, max_body="256KiB")
    source.answers["/federate"] = answer(200, WHOLE * 400)
    assert "larger than 256KiB" in await agent.failure()
    source.answers["/federate"] = answer(200, gzip.compress(b"\n" * (64 << 20), 1, mtime=0), GZIP)
    tracemalloc.start()
    try:
        assert "larger than 256KiB" in await agent.failure()
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    source.answers["/federate"] = answer(200, WHOLE)
    assert len(scraped(await agent.poll())) == 7
    await agent.receiver.aclose()


async def test_too_many_samples_refuse_the_answer(source: Source) -> None:
    agent = Agent(source.server.url, sample_limit=6)
    sentence = await agent.failure()
    assert "cannot take the answer of http://" in sentence
    assert "sample_limit is 6" in sentence
    await agent.receiver.aclose()


async def test_passwords_in_the_url_are_not_shown(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent(source.server.url.replace("//", "//me:s3cret@"))
    source.answers["/api/v1/metadata"] = answer(200, b"no json")
    await agent.poll()
    source.answers["/federate"] = answer(500)
    assert "s3cret" not in await agent.failure() + caplog.text
    assert "it is not JSON" in caplog.text
    await agent.receiver.aclose()


# -- cancelled half way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [answer(500), answer(200, b"other 1\nhalf a li")], ids=["500", "cut"])
@pytest.mark.parametrize("where", ["/federate", "/api/v1/metadata"])
async def test_a_poll_cancelled_half_way_leaves_a_receiver_that_works(
    source: Source, agent: Agent, where: str, failing: Step
) -> None:
    source.answers[where] = then_hang(HEAD + b"Content-Length: 9999\r\n\r\n" + HALF)
    with trio.move_on_after(0.2) as scope:
        await agent.poll()
    assert scope.cancelled_caught
    source.answers = {"/federate": failing}
    await agent.failure()
    source.answers["/federate"] = answer(200, page(10, 6) + b"other_total 3 %d\n" % T0)
    assert len(scraped(await agent.poll())) == 8
    source.answers["/federate"] = answer(200, page(20, 7) + b"other_total 4 %d\n" % (T0 + 1))
    assert sorted(scraped(await agent.poll()).values()) == [1.0, 4.0, *[7.0] * 6]


# -- what is asked beside the samples ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_refused_metadata_costs_one_warning_and_not_the_poll(
    source: Source, agent: Agent, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    source.answers["/api/v1/metadata"] = answer(status)
    for number in range(3):
        source.answers["/federate"] = answer(200, page(number) + b"new_%d_total 1\n" % number)
        assert len(scraped(await agent.poll())) == 8
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert f"the server answered {status}; types come from the built-in table" in warnings[0]
    assert len(source.asked("/api/v1/metadata")) == 1


async def test_disputed_types_are_asked_for_by_job(source: Source, agent: Agent) -> None:
    source.answers["/federate"] = answer(200, b'odd{job="a",instance="a:1"} 1\nodd{job="b",instance="b:1"} 2\n')
    source.answers["/api/v1/metadata"] = data(
        {"odd": [{"type": "counter"}, {"type": "gauge"}], "even": [{"type": "gauge"}]}
    )
    # As Prometheus answers a question for one metric: without its name.
    source.answers["/api/v1/targets/metadata"] = data(
        [
            {"target": {"job": "a", "instance": "a:1"}, "type": "counter", "help": "Odd.", "unit": ""},
            {"target": {"job": "b", "instance": "b:1"}, "type": "gauge", "help": "Odd.", "unit": ""},
        ]
    )
    found = {row.series.label("job"): row.series.family for row in await agent.poll() if row.series.name == "odd"}
    assert {job: (family.kind, family.typed_by) for job, family in found.items()} == {
        "a": ("counter", "targets"),
        "b": ("gauge", "targets"),
    }
    assert [request.target for request in source.asked("/api/v1/targets/metadata")] == [
        "/api/v1/targets/metadata?metric=odd"
    ]


async def test_targets_without_up_are_asked_for(source: Source, agent: Agent) -> None:
    source.answers["/federate"] = answer(200, page().split(b"\n", 1)[1])
    source.up = answer(200, f"up{{{labels()}}} 1 {T0}\n".encode())
    rows = [row for row in await agent.poll() if row.series.label("job") == "linkerd-proxy"]
    assert {row.series.target for row in rows} == {Target.of(PROXY)}
    assert len(rows) == 6
    assert [source.matches(request) for request in source.asked("/federate")][1:] == [['up{job="linkerd-proxy"}']]
    source.answers["/federate"] = answer(200, page(10).split(b"\n", 1)[1] + f"new_total{{{labels()}}} 1\n".encode())
    assert [row.series.target for row in await agent.poll() if row.series.name == "new_total"] == [Target.of(PROXY)]
    assert len(source.asked("/federate")) == 3  # decided once: not asked again


# -- from poll to poll ------------------------------------------------------------------------------------------------


async def test_failures_are_said_once_and_so_is_recovery(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ebbtide.test")
    agent = Agent(source.server.url, interval="10ms")
    agent.receiver.context.now = lambda: round(trio.current_time() * 1e9)
    answers = iter([answer(500, b"no"), answer(500, b"no"), answer(500, b"no"), answer(200, WHOLE)])
    enough = trio.Event()

    async def step(connection: Connection, _: Request) -> None:
        said = next(answers, None)
        if said is None:
            enough.set()
        await connection.send_all(said or answer(200, WHOLE))

    source.answers["/federate"] = step
    with trio.fail_after(5):
        async with trio.open_nursery() as receivers:
            receivers.start_soon(agent.receiver.run, agent.emit)
            await enough.wait()
            receivers.cancel_scope.cancel()
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == ["WARNING", "INFO"]
    assert said[0][1].startswith("receivers.linkerd: cannot read http://127.0.0.1:")
    assert said[1][1] == "receivers.linkerd: well again after 3 failed polls"
    assert agent.counts.failed_polls == 3


async def test_once_polls_once_and_says_what_failed(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent(source.server.url)
    await agent.receiver.once(agent.emit)
    assert (agent.counts.polls, agent.counts.failed_polls, agent.counts.out) == (1, 0, 12)
    source.answers["/federate"] = answer(500)
    await agent.receiver.once(agent.emit)
    assert (agent.counts.polls, agent.counts.failed_polls) == (2, 1)
    assert "receivers.linkerd: cannot read" in caplog.text


# -- recording and replay ----------------------------------------------------------------------------------------------


def without_health(rows: list[Row]) -> list[tuple[object, ...]]:
    """The points but for how long the poll took, in which a replay may differ by the clock's grain."""
    return [
        (row.series, row.series.family.typed_by, row.series.target, row.value, row.time, row.start)
        for row in rows
        if row.series.name != "scrape_duration_seconds"
    ]


async def test_a_recorded_page_gives_what_the_poll_gave(source: Source, agent: Agent) -> None:
    body = page().partition(b"\n")[2] + b"other_total{" + labels().encode() + b"} 1\n"
    source.answers["/federate"] = answer(200, gzip.compress(body), GZIP)
    source.up = answer(200, page().partition(b"\n")[0] + b"\n")
    source.answers["/api/v1/metadata"] = data(
        {"other_total": [{"type": "gauge"}], "x": [{"type": "gauge"}, {"type": "counter"}]}
    )
    recorder = Agent(source.server.url)
    recording = await recorder.receiver.record()
    await recorder.receiver.aclose()
    assert recording.body == body
    assert set(recording.answers) == {
        "/api/v1/metadata", "/api/v1/targets/metadata?metric=x", "/federate?match%5B%5D=up%7Bjob%3D%22linkerd-proxy%22%7D"
    }  # fmt: skip
    assert recording.answers["/api/v1/targets/metadata?metric=x"] is None
    assert (recording.time, recorder.counts.polls, recorder.counts.samples) == (T0 * 10**6, 1, 0)
    live = await agent.poll()
    asked = len(source.server.requests)
    replayer = Agent(source.server.url)
    replayer.now += 99
    await replayer.receiver.replay(recording, replayer.emit)
    assert without_health([row for batch in replayer.batches for row in batch.rows()]) == without_health(live)
    assert {row.series.family.typed_by for row in live} == {"linkerd", "metadata", "agent"}
    assert (replayer.counts, len(source.server.requests)) == (agent.counts, asked)


async def test_a_bare_page_is_read_and_what_it_lacks_is_said(caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent("http://127.0.0.1:9")
    await agent.receiver.replay(Recording(page(), where="p.prom"), agent.emit)
    assert agent.counts.samples == 7
    assert "p.prom came without the server's metadata and targets: " in caplog.text


@pytest.mark.parametrize("step", [answer(403), answer(200, HALF), answer(200, b"<html>\n"), then_reset(HEAD)])
async def test_a_poll_that_fails_is_not_recorded(source: Source, agent: Agent, step: Step) -> None:
    source.answers["/federate"] = step
    with pytest.raises(ReceiveError, match=r"^cannot "):
        await agent.receiver.record()
    assert (agent.counts.polls, agent.counts.failed_polls) == (1, 1)


async def test_a_page_that_cannot_be_read_is_a_failed_poll() -> None:
    agent = Agent("http://127.0.0.1:9", sample_limit=6)
    for body, said in (
        (HALF, "cannot read line "),
        (WHOLE, "cannot take the answer of p.prom: the page has 7 samples"),
    ):
        with pytest.raises(ReceiveError, match=said):
            await agent.receiver.replay(Recording(body, where="p.prom"), agent.emit)
    assert (agent.counts.polls, agent.counts.failed_polls, agent.counts.imbalance(), agent.batches) == (2, 2, 0, [])


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "prometheus:9090"}, "not an HTTP URL"),
        ({"url": ""}, "not an HTTP URL"),
        ({"url": "http://"}, "no host"),
        ({"url": "http://:9090"}, "no host"),
        ({"url": "http://prometheus:99999"}, "no port that can be"),
        ({"url": "http://prometheus:0"}, "no port that can be"),
        ({"url": "http://prometheus:s3cret"}, "no port that can be"),
        ({"url": "http://[::1"}, "no host"),
        ({"url": "http://prometheus?a=b"}, "no query"),
        ({"url": "http://prometheus/#x"}, "no query"),
        ({"match": []}, "no selector"),
        ({"match": ["up", ""]}, "an empty selector"),
        ({"stale_after": "0s"}, "more than zero"),
        ({}, "Field required"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], said: str) -> None:
    given = options if "url" in options or not options else {"url": "http://prometheus:9090", **options}
    with pytest.raises(ValidationError) as caught:
        FederateSettings.model_validate(given)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_through_a_port_forward(source: Source, nursery: trio.Nursery, tmp_path: Path) -> None:
    cluster = await running(nursery, tmp_path, [pod("a"), service("web")])
    cluster.cluster.forwards["shop", "a", 8080] = "127.0.0.1", urlsplit(source.server.url).port or 0
    agent = Agent("kubernetes://shop/service/web:80", kubeconfig=cluster.kubeconfig)
    rows = await agent.poll()
    assert len(scraped(rows)) == 7
    assert {row.series.labels["instance"] for row in rows if row.series.name == "scrape_duration_seconds"} == {
        "web.shop:80"
    }
    await agent.receiver.aclose()


@pytest.mark.parametrize("base", ["", "/", "/prometheus", "/prometheus/"])
async def test_the_path_is_appended_to_the_base(source: Source, base: str) -> None:
    agent = Agent(source.server.url + base)
    source.answers[base.rstrip("/") + "/federate"] = answer(200, WHOLE)
    assert len(scraped(await agent.poll())) == 7
    await agent.receiver.aclose()
