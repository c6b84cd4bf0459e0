"""The proxy receiver against targets that answer exactly what they are told, when they are told."""

from __future__ import annotations

import gzip
import logging
import socket
from collections.abc import AsyncIterator, Callable
from itertools import repeat
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from pydantic import ValidationError

from agent.scripted import Connection, Request, ScriptedServer, Step, answer, serve, then_close, then_hang
from ebbtide import Batch, ConfigError, Context, ReceiveError, ReceiverCounts, Recording, Row
from receivers.proxy import Proxy
from receivers.proxy_options import ProxySettings
from receivers.proxy_target import Asking, PolledTarget
from tests.receivers.page_harness import OWN

T0 = 1_795_362_000 * 10**9
TEXT = {"Content-Type": "text/plain"}
PAGE = b"# TYPE request_total counter\nrequest_total 5\n"


def page(body: bytes = PAGE, **headers: str) -> bytes:
    return answer(200, body, {**TEXT, **headers})


class Fleet:
    """Targets on one loopback server, one for each path, and what each answers."""

    def __init__(self) -> None:
        self.answers: dict[str, Step] = {}
        self.server: ScriptedServer

    async def __call__(self, connection: Connection, request: Request) -> None:
        step = self.answers.get(request.target, page())
        if callable(step):
            await step(connection, request)
        else:
            await connection.send_all(step)

    def url(self, name: str) -> str:
        return f"{self.server.url}/{name}"

    def polls(self, name: str = "") -> int:
        return sum(request.target == f"/{name}" or not name for request in self.server.requests)


class Agent:
    """A receiver and what came out of it; labels of the path make its targets differ."""

    def __init__(self, fleet: Fleet, *names: str, **options: Any):
        by_path = {"source_labels": ["__metrics_path__"], "regex": "/(.*)", "target_label": "instance"}
        given = {"targets": [fleet.url(name) for name in names], "relabel": [by_path], "timeout": "3s", **options}
        self.counts = ReceiverCounts()
        self.rows: list[Row] = []
        self.batches = 0
        self.log = logging.getLogger("ebbtide.test")
        context = Context("proxies", self.counts, self.log, lambda: T0 + round(trio.current_time() * 10**9))
        self.receiver = Proxy(ProxySettings.model_validate(given), context)

    async def emit(self, batch: Batch) -> None:
        self.rows += batch.rows()
        self.batches += 1
        self.counts.out += len(batch)
        await trio.lowlevel.checkpoint()

    async def once(self) -> list[Row]:
        self.rows.clear()
        await self.receiver.once(self.emit)
        assert self.counts.imbalance() == 0
        return self.scraped()

    def scraped(self) -> list[Row]:
        return [row for row in self.rows if row.series.name not in OWN]

    def up(self) -> dict[str, float]:
        return {row.series.label("instance"): row.value for row in self.rows if row.series.name == "up"}


@pytest.fixture
async def fleet(nursery: trio.Nursery) -> Fleet:
    fleet = Fleet()
    fleet.server = await serve(nursery, repeat(fleet))
    return fleet


@pytest.fixture
def caught(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO, "ebbtide.test")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


# -- once ------------------------------------------------------------------------------------------------------------


async def test_once_polls_every_target_exactly_once(fleet: Fleet) -> None:
    agent = Agent(fleet, *(f"t{n}" for n in range(40)))
    rows = await agent.once()
    assert fleet.polls() == agent.counts.polls == 40
    assert sorted(row.series.label("instance") for row in rows) == sorted(f"t{n}" for n in range(40))
    assert agent.up() == {f"t{n}": 1.0 for n in range(40)}
    assert (agent.counts.samples, agent.counts.added["scrape"], agent.counts.failed_polls) == (40, 200, 0)


async def test_once_without_a_target_says_so(fleet: Fleet, caught: Callable[[], str]) -> None:
    assert await Agent(fleet, discovery=[{"kind": "file", "files": ["/nowhere/*.json"]}]).once() == []
    assert "cannot poll anything: no target was found; see `targets`, `discovery`" in caught()


async def test_what_is_asked(fleet: Fleet) -> None:
    await Agent(fleet, "a?x=1", bearer_token="secret").once()
    (request,) = fleet.server.requests
    assert (request.method, request.target) == ("GET", "/a?x=1")
    assert request.headers["host"] == urlsplit(fleet.server.url).netloc
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["accept-encoding"] == "gzip"
    assert request.headers["x-prometheus-scrape-timeout-seconds"] == "3"
    assert "text/plain;version=0.0.4" in request.headers["accept"]
    assert request.headers["user-agent"].startswith("ebbtide/")


async def test_job_and_instance_unless_labels_say_otherwise(fleet: Fleet) -> None:
    (row,) = await Agent(fleet, "", relabel=[]).once()
    assert row.series.labels == {"job": "linkerd-proxy", "instance": urlsplit(fleet.server.url).netloc}
    (row,) = await Agent(fleet, "", relabel=[], labels={"job": "mine", "zone": "a"}).once()
    assert (row.series.label("job"), row.series.label("zone")) == ("mine", "a")


async def test_formats(fleet: Fleet) -> None:
    openmetrics = b'# TYPE a counter\na_total 5 # {trace_id="x"} 1\na_created 1.5e9\n# EOF\n'
    fleet.answers = {
        "/om": answer(200, openmetrics, {"Content-Type": "application/openmetrics-text; version=1.0.0"}),
        "/gzip": page(gzip.compress(PAGE), **{"Content-Encoding": "gzip"}),
        "/none": answer(200, PAGE),
    }
    agent = Agent(fleet, "om", "gzip", "none")
    rows = {row.series.label("instance"): row for row in await agent.once()}
    assert rows.keys() == {"om", "gzip", "none"}
    assert (rows["om"].value, rows["om"].start) == (5, 1_500_000_000 * 10**9)
    assert rows["om"].extra is not None
    assert rows["om"].extra.exemplars[0].labels == ("trace_id", "x")
    strict = Agent(fleet, "none", fallback_format="none")
    assert await strict.once() == []
    assert strict.up() == {"none": 0.0}


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (answer(403), "403, the proxy's policy does not let this agent in"),
        (answer(403, b"go away"), "the target answered 403, 'go away'; check bearer_token"),
        (answer(404, b"not found"), "the target answered 404, 'not found'; check `path`"),
        (answer(500, b"oops"), "look into the target's own log"),
        (answer(302, b"", {"Location": "http://elsewhere.invalid/"}), "a redirect elsewhere or in a circle"),
        (page(b"a{ 1\n"), "cannot read line 1 of"),
        (page(b"a 1\nb 1\nc 1\n"), "sample_limit is 2"),
        (page(b"x" * 2000), "larger than 1000B"),
        (then_close(), "closed the connection without an answer"),
        (then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na 1\n"), "the answer ended early"),
        (then_close(b"SSH-2.0-x\r\n"), "the answer is not HTTP"),
        (then_hang(b"HTTP/1.1 200 OK\r\n"), "it took more than 1s"),
    ],
)
async def test_a_poll_that_fails_says_why_and_what_to_try(
    fleet: Fleet, caught: Callable[[], str], step: Step, sentence: str
) -> None:
    fleet.answers = {"/bad": step}
    agent = Agent(fleet, "bad", "good", sample_limit=2, max_body="1KB", timeout="1s")
    (row,) = await agent.once()
    assert row.series.label("instance") == "good"
    assert agent.up() == {"bad": 0.0, "good": 1.0}
    assert agent.counts.failed_polls == 1
    assert "receivers.proxies: cannot " in caught()
    assert sentence.lower() in caught().lower()


async def test_nobody_there(fleet: Fleet, caught: Callable[[], str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        agent = Agent(fleet, targets=[f"127.0.0.1:{taken.getsockname()[1]}"])
        assert await agent.once() == []
    assert "connection refused" in caught()


async def test_a_redirect_on_the_same_host_is_followed(fleet: Fleet) -> None:
    fleet.answers = {"/old": answer(302, b"", {"Location": "/new"})}
    assert len(await Agent(fleet, "old").once()) == 1
    assert [request.target for request in fleet.server.requests] == ["/old", "/old", "/new"]


# -- running ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def running(fleet: Fleet, nursery: trio.Nursery) -> AsyncIterator[Callable[..., Agent]]:
    agents: list[Agent] = []

    def start(*names: str, **options: Any) -> Agent:
        agent = Agent(fleet, *names, **{"interval": "10s", **options})
        agents.append(agent)
        nursery.start_soon(agent.receiver.run, agent.emit)
        return agent

    yield start
    for agent in agents:
        agent.receiver.leave()


async def settle(seconds: float = 0.3) -> None:
    """Let real sockets do what they have to do: the clock of these tests is the real one."""
    await trio.sleep(seconds)


async def test_the_first_poll_is_immediate_and_connections_are_kept(
    fleet: Fleet, running: Callable[..., Agent]
) -> None:
    agent = running("a", "b", interval="100ms")
    await settle(0.5)
    assert fleet.polls("a") >= 3
    assert fleet.server.connections == 2
    assert agent.counts.imbalance() == 0
    assert agent.counts.failed_polls == 0


async def test_polls_are_spread_over_the_interval(fleet: Fleet, running: Callable[..., Agent]) -> None:
    agent = running(*(f"t{n}" for n in range(12)), interval="3s")
    await settle()
    phases = sorted(group.phase for group in agent.receiver._groups)
    assert len(phases) == 12
    assert max(b - a for a, b in zip(phases, [*phases[1:], phases[0] + 1], strict=True)) < 0.2


async def test_one_slow_target_delays_no_other(fleet: Fleet, running: Callable[..., Agent]) -> None:
    fleet.answers = {"/slow": then_hang(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na")}
    agent = running("slow", "a", "b", interval="150ms", timeout="5s")
    await settle(0.7)
    assert fleet.polls("a") >= 3
    assert fleet.polls("slow") == 1
    assert {row.series.label("instance") for row in agent.scraped()} == {"a", "b"}


async def test_who_comes_late_is_taken_alone(fleet: Fleet, running: Callable[..., Agent]) -> None:
    async def late(connection: Connection, _: Request) -> None:
        await trio.sleep(0.5)
        await connection.send_all(page())

    fleet.answers = {"/late": late}
    agent = running("late", "a", interval="5s")
    await settle(0.3)
    assert set(agent.up()) == {"a"}
    await settle(0.4)
    assert set(agent.up()) == {"a", "late"}


async def test_a_target_that_goes_ends_and_comes_back(
    fleet: Fleet, running: Callable[..., Agent], caught: Callable[[], str]
) -> None:
    agent = running("a", interval="100ms")
    await settle()
    fleet.answers = {"/a": answer(503)}
    await settle()
    assert [row.stale for row in agent.scraped()].count(True) == 1
    fleet.answers = {}
    await settle()
    assert not agent.scraped()[-1].stale
    assert "all targets are well again after" in caught()


async def test_leaving_lets_the_poll_under_way_be_taken(fleet: Fleet, nursery: trio.Nursery) -> None:
    async def slowly(connection: Connection, _: Request) -> None:
        await trio.sleep(0.2)
        await connection.send_all(page())

    fleet.answers = {"/a": slowly}
    agent = Agent(fleet, "a")
    with trio.fail_after(2):
        async with trio.open_nursery() as inner:
            inner.start_soon(agent.receiver.run, agent.emit)
            await trio.sleep(0.1)
            assert agent.receiver.leave()
    assert agent.scraped()


async def test_a_bug_behind_it_ends_no_target_for_good(fleet: Fleet) -> None:
    agent = Agent(fleet, "a", "b", interval="100ms")

    async def broken(batch: Batch) -> None:
        raise RuntimeError("a bug")

    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        await agent.receiver.run(broken)
    with trio.move_on_after(0.3):
        await agent.receiver.run(agent.emit)
    assert {row.series.label("instance") for row in agent.scraped()} == {"a", "b"}


async def test_a_bug_over_one_target_is_a_failed_poll_of_it(
    fleet: Fleet, running: Callable[..., Agent], caught: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PolledTarget._ask

    async def ask(target: PolledTarget, asking: Asking) -> Any:
        if target.url.endswith("/a"):
            raise RuntimeError("a bug")
        return await real(target, asking)

    monkeypatch.setattr(PolledTarget, "_ask", ask)
    agent = running("a", "b", interval="100ms")
    await settle()
    assert agent.up() == {"a": 0.0, "b": 1.0}
    assert agent.counts.failed_polls >= 2
    assert agent.counts.imbalance() == 0
    assert caught().count("cannot take the page of") == 1


async def test_targets_that_are_found_and_lost(fleet: Fleet, running: Callable[..., Agent], tmp_path: Any) -> None:
    file = tmp_path / "targets.json"
    netloc = urlsplit(fleet.server.url).netloc
    file.write_text(f'[{{"targets": ["{netloc}"], "labels": {{"__metrics_path__": "/a"}}}}]')
    agent = running(discovery=[{"kind": "file", "files": [str(file)], "refresh": "50ms"}], interval="100ms")
    await settle(0.5)
    assert {row.series.label("instance") for row in agent.scraped()} == {"a"}
    file.write_text(f'[{{"targets": ["{netloc}"], "labels": {{"__metrics_path__": "/b"}}}}]')
    await settle(1.5)
    ended = {row.series.label("instance") for row in agent.rows if row.stale}
    assert ended == {"a"}
    assert sum(row.stale for row in agent.rows) == 6
    assert "b" in {row.series.label("instance") for row in agent.scraped()}
    assert agent.counts.imbalance() == 0


async def test_a_target_may_be_lost_while_it_is_polled(
    fleet: Fleet, running: Callable[..., Agent], tmp_path: Any
) -> None:
    fleet.answers = {"/a": then_hang(b"HTTP/1.1 200 OK\r\n")}
    file, netloc = tmp_path / "targets.json", urlsplit(fleet.server.url).netloc
    file.write_text(f'[{{"targets": ["{netloc}"], "labels": {{"__metrics_path__": "/a"}}}}]')
    agent = running("b", discovery=[{"kind": "file", "files": [str(file)], "refresh": "50ms"}], interval="100ms")
    await settle()
    file.write_text("[]")
    await settle(1.2)
    assert len(agent.receiver._targets) == 1
    assert agent.counts.failed_polls == 0
    assert agent.up() == {"b": 1.0}


async def test_a_reload_keeps_what_is_known_of_targets_that_stay(fleet: Fleet, nursery: trio.Nursery) -> None:
    async def polled(agent: Agent) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(agent.receiver.run, agent.emit)
            await trio.sleep(0.2)
            agent.receiver.leave()

    old = Agent(fleet, "a", "b")
    await polled(old)
    new = Agent(fleet, "a", "c", scrape_metrics=True)
    new.receiver.inherit(old.receiver)
    await polled(new)
    assert new.counts.imbalance() == 0
    by_name = {row.series.label("instance"): row for row in new.scraped()}
    assert by_name["b"].stale
    (before,) = (row for row in old.scraped() if row.series.label("instance") == "a")
    assert by_name["a"].start == before.start
    assert by_name["c"].start == by_name["c"].time
    other = Agent(fleet, "a", honor_labels=True)
    other.receiver.inherit(new.receiver)
    await polled(other)
    assert [row.stale for row in other.scraped()][:3] == [True, True, False]
    assert other.counts.imbalance() == 0


# -- pages that are saved --------------------------------------------------------------------------------------------


async def test_a_page_is_saved_and_read_back(fleet: Fleet) -> None:
    recording = await Agent(fleet, "a", "b").receiver.record()
    assert recording.body == PAGE
    assert fleet.polls() == 1
    agent = Agent(fleet, "z")
    await agent.receiver.replay(recording, agent.emit)
    (row,) = agent.scraped()
    assert (row.value, row.time, row.series.label("instance")) == (5, recording.time, "a")
    assert fleet.polls() == 1


async def test_a_page_that_curl_saved_is_read_as_the_first_target_s(fleet: Fleet) -> None:
    agent = Agent(fleet, "z")
    await agent.receiver.replay(Recording(PAGE), agent.emit)
    assert [row.series.label("instance") for row in agent.scraped()] == ["z"]
    with pytest.raises(ReceiveError, match="cannot read line 1 of the saved page"):
        await agent.receiver.replay(Recording(b"{"), agent.emit)
    assert agent.counts.failed_polls == 1
    assert agent.counts.imbalance() == 0


async def test_what_cannot_be_polled_is_not_saved(fleet: Fleet) -> None:
    fleet.answers = {"/a": answer(500)}
    with pytest.raises(ReceiveError, match="the target answered 500"):
        await Agent(fleet, "a").receiver.record()


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"targets": ["http://"]},
        {"targets": ["ftp://a:1"]},
        {"targets": ["a:99999"]},
        {"targets": ["a:1"], "shard": "x"},
        {"targets": ["a:1"], "on_bad_line": "keep"},
        {"targets": ["a:1"], "discovery": [{"kind": "magic"}]},
        {"targets": ["a:1"], "sample_limit": -1},
    ],
)
def test_options_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProxySettings.model_validate(options)


def test_without_targets_there_is_nothing_to_do() -> None:
    with pytest.raises(ConfigError, match="no targets"):
        Proxy(ProxySettings())


def test_defaults_are_those_of_the_documentation() -> None:
    settings = ProxySettings(targets=["a:1"])
    assert (settings.path, settings.fallback_format, settings.on_bad_line) == ("/metrics", "text", "refuse")
    assert (settings.honor_labels, settings.honor_timestamps, settings.max_body) == (False, True, 64 << 20)
