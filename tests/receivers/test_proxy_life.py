"""What the proxy receiver does over time, in virtual time: which targets it polls and when, what it says when it has none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import trio

from agent.tracing import Recorder, Span, switch_off, switch_on
from ebbtide import Batch, Context, ReceiveError, ReceiverCounts, Row
from receivers import proxy_groups, proxy_options
from receivers.discovery import Groups, TargetGroup
from receivers.discovery_file import FileDiscoverySettings
from receivers.proxy import Proxy
from receivers.proxy_options import ProxySettings
from receivers.proxy_target import Asking, PolledTarget
from tests.receivers.page_harness import OWN

T0 = 1_795_362_000 * 10**9  # a multiple of all intervals here
PAGE = b"# TYPE request_total counter\nrequest_total 5\n"


class Told:
    """A discovery that says what it is told to, when it is told."""

    def __init__(self, settings: FileDiscoverySettings):
        self.settings = settings
        self._update: Callable[[Groups], None] | None = None
        self._running = trio.Event()

    async def run(self, update: Callable[[Groups], None]) -> None:
        self._update = update
        self._running.set()
        await trio.sleep_forever()

    async def once(self) -> Groups:
        return {}

    async def tell(self, *addresses: str) -> None:
        await self._running.wait()
        assert self._update is not None
        self._update({"all": TargetGroup("all", {}, tuple({"__address__": address} for address in addresses))})


class World:
    """All that answers, by address, and when it was asked; discoveries by the file that stands for them."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Exception] = {}
        self.asked: list[tuple[float, str]] = []
        self.discoveries: dict[str, list[Told]] = {}

    async def ask(self, target: PolledTarget, asking: Asking) -> tuple[bytes, str]:
        address = target.url.removeprefix("http://").partition("/")[0]
        self.asked.append((trio.current_time(), address))
        await trio.sleep(0.01)
        page = self.pages.get(address, PAGE)
        if isinstance(page, Exception):
            raise page
        return page, "text"

    def discover(self, settings: FileDiscoverySettings) -> Told:
        made = Told(settings)
        self.discoveries.setdefault(settings.files[0], []).append(made)
        return made

    def times(self, address: str) -> list[float]:
        return [round(time, 3) for time, asked in self.asked if asked == address]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(PolledTarget, "_ask", lambda target, asking: world.ask(target, asking))
    monkeypatch.setattr(proxy_options, "FileDiscovery", lambda settings, log, name: world.discover(settings))
    return world


@pytest.fixture
def phase(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the only group of a receiver lie at this place of the interval."""
    return lambda place: monkeypatch.setattr(proxy_groups, "place_of", lambda words: place)


@pytest.fixture
def caught(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged since the last call."""
    caplog.set_level(logging.INFO, "ebbtide.test")

    def lines() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    return lines


def found_by(*files: str) -> list[dict[str, Any]]:
    return [{"kind": "file", "files": [file]} for file in files]


class Agent:
    """A receiver and what came out of it."""

    def __init__(self, **options: Any):
        self.counts = ReceiverCounts()
        self.rows: list[Row] = []
        context = Context(
            "mesh", self.counts, logging.getLogger("ebbtide.test"), lambda: T0 + round(trio.current_time() * 10**9)
        )
        self.receiver = Proxy(ProxySettings.model_validate({"interval": "10s", **options}), context)

    async def emit(self, batch: Batch) -> None:
        self.rows += batch.rows()
        self.counts.out += len(batch)
        await trio.lowlevel.checkpoint()

    async def runs(self, seconds: float) -> None:
        """Run for so long, then let it leave."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.receiver.run, self.emit)
            await trio.sleep(seconds)
            self.receiver.leave()
        assert self.counts.imbalance() == 0

    def ended(self) -> list[str]:
        return [row.series.label("instance") for row in self.rows if row.stale and row.series.name not in OWN]


# -- when a target is polled -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "times"),
    [
        (0.0, [0, 10, 20, 30]),
        (0.1, [0, 11, 21, 31]),  # not at 1: hardly anything could have changed
        (0.24, [0, 12.4, 22.4, 32.4]),
        (0.26, [0, 2.6, 12.6, 22.6, 32.6]),
        (0.9, [0, 9, 19, 29]),
    ],
)
async def test_a_new_target_is_not_polled_again_right_away(
    world: World, autojump_clock: object, phase: Callable[[float], None], place: float, times: Sequence[float]
) -> None:
    phase(place)
    await Agent(targets=["a:1"]).runs(34)
    assert world.times("a:1") == times


async def test_nor_is_one_that_joins_others(
    world: World,
    autojump_clock: object,
    phase: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    nursery: trio.Nursery,
) -> None:
    phase(0.5)
    monkeypatch.setattr(proxy_groups, "PER_SECOND", 0.1)  # all in one group
    agent = Agent(targets=["a:1"], discovery=found_by("x.json"))
    nursery.start_soon(agent.runs, 30)
    await trio.sleep(14)  # a second before the group's place
    await world.discoveries["x.json"][0].tell("b:1")
    await trio.sleep(20)
    assert world.times("a:1") == [0, 5, 15, 25]
    assert world.times("b:1") == [14, 25]


# -- none --------------------------------------------------------------------------------------------------------------


async def test_that_there_is_no_target_is_said_once_discoveries_have_answered(
    world: World, autojump_clock: object, caught: Callable[[], list[str]], nursery: trio.Nursery
) -> None:
    agent = Agent(discovery=found_by("x.json", "y.json"))
    nursery.start_soon(agent.runs, 100)
    await trio.sleep(1)
    (x,), (y,) = world.discoveries["x.json"], world.discoveries["y.json"]
    await x.tell()
    assert caught() == []
    await y.tell()
    none = (
        "receivers.mesh: cannot poll anything: no target was found; see `targets`, `discovery`, `relabel` and `shard`"
    )
    assert caught() == [none]
    await y.tell()
    assert caught() == []
    assert agent.counts.targets == 0
    await x.tell("a:1", "b:1")
    assert caught() == ["receivers.mesh: there are 2 targets now; 2 times there were none"]
    await trio.sleep(1)
    assert agent.counts.targets == 2
    await x.tell()
    assert caught() == [none]
    await trio.sleep(1)
    assert agent.counts.targets == 0
    assert sorted(agent.ended()) == ["a:1", "b:1"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"relabel": [{"action": "drop"}]}, "of 2 targets that were found, 2 dropped by `relabel`"),
        ({"relabel": [{"target_label": "__scheme__", "replacement": "ftp"}]}, "of 2 targets that were found, 2 such as cannot be scraped"),
        ({"shard": "2/1000"}, "of 2 targets that were found, 2 of other shards"),
        (
            {"shard": "2/1000", "relabel": [{"source_labels": ["__address__"], "regex": "a:1", "action": "drop"}]},
            "of 2 targets that were found, 1 dropped by `relabel` and 1 of other shards",
        ),
    ],
)  # fmt: skip
async def test_why_there_is_none_is_said(
    world: World, autojump_clock: object, caught: Callable[[], list[str]], options: dict[str, Any], why: str
) -> None:
    sentence = f"receivers.mesh: cannot poll anything: {why}; see `targets`, `discovery`, `relabel` and `shard`"
    await Agent(targets=["a:1", "b:1"], **options).runs(50)
    assert [line for line in caught() if "poll anything" in line] == [sentence]
    await Agent(targets=["a:1", "b:1"], **options).receiver.once(Agent(targets=["a:1"]).emit)
    assert [line for line in caught() if "poll anything" in line] == [sentence]
    with pytest.raises(ReceiveError) as refused:
        await Agent(targets=["a:1", "b:1"], **options).receiver.record()
    assert why in str(refused.value)
    assert world.asked == []


# -- reload ------------------------------------------------------------------------------------------------------------


async def test_what_discoveries_said_outlives_a_reload(
    world: World, autojump_clock: object, nursery: trio.Nursery
) -> None:
    old, new = (
        Agent(discovery=found_by("x.json")),
        Agent(discovery=found_by("y.json", "x.json"), honor_timestamps=False),
    )
    nursery.start_soon(old.runs, 25)
    await trio.sleep(1)
    await world.discoveries["x.json"][0].tell("a:1", "b:1")
    await trio.sleep(25)
    new.receiver.inherit(old.receiver)
    (begun,) = {row.start for row in old.rows if row.series.label("instance") == "a:1" and row.start}
    nursery.start_soon(new.runs, 60)
    await trio.sleep(1)
    assert world.times("a:1")[-1] == 26
    assert new.ended() == []
    assert {row.start for row in new.rows if row.series.label("instance") == "a:1" and row.start} == {begun}
    await world.discoveries["x.json"][1].tell("a:1")
    await trio.sleep(1)
    assert new.ended() == ["b:1"]


async def test_targets_of_another_discovery_wait_for_its_answer(
    world: World, autojump_clock: object, nursery: trio.Nursery
) -> None:
    old, new = Agent(discovery=found_by("x.json")), Agent(discovery=found_by("y.json"))
    nursery.start_soon(old.runs, 5)
    await trio.sleep(1)
    await world.discoveries["x.json"][0].tell("a:1", "b:1")
    await trio.sleep(5)
    new.receiver.inherit(old.receiver)
    nursery.start_soon(new.runs, 60)
    await trio.sleep(10)
    assert new.ended() == []
    await world.discoveries["y.json"][0].tell("a:1")
    await trio.sleep(1)
    assert new.ended() == ["b:1"]
    values = [row for row in new.rows if row.series.name == "request_total" and not row.stale]
    assert values
    assert all(row.start < row.time for row in values)


async def test_a_discovery_that_finds_nothing_after_a_reload_ends_all(
    world: World, autojump_clock: object, nursery: trio.Nursery
) -> None:
    old, new = Agent(discovery=found_by("x.json")), Agent(discovery=found_by("y.json"))
    nursery.start_soon(old.runs, 5)
    await trio.sleep(1)
    await world.discoveries["x.json"][0].tell("a:1")
    await trio.sleep(5)
    new.receiver.inherit(old.receiver)
    nursery.start_soon(new.runs, 60)
    await trio.sleep(1)
    await world.discoveries["y.json"][0].tell()
    await trio.sleep(1)
    assert new.ended() == ["a:1"]


# -- bugs --------------------------------------------------------------------------------------------------------------


async def test_a_change_that_a_bug_broke_off_is_made_up_for(world: World, autojump_clock: object) -> None:
    agent = Agent(discovery=found_by("x.json"))
    broken = False

    async def emit(batch: Batch) -> None:
        if broken:
            raise RuntimeError("a bug")
        await agent.emit(batch)

    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.receiver.run, emit)
            await trio.sleep(1)
            await world.discoveries["x.json"][0].tell("a:1")
            await trio.sleep(1)
            broken = True
            await world.discoveries["x.json"][0].tell("b:1")
    broken = False
    assert world.times("b:1") == []
    with trio.move_on_after(1):
        await agent.receiver.run(emit)
    assert len(world.times("b:1")) == 1


# -- spans -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    ended: list[Span] = []
    recorder: Recorder = switch_on()
    recorder.pass_on(ended.append, lambda one: True)
    yield ended
    switch_off(recorder)


async def test_each_poll_is_a_span_that_tells_whether_it_failed(
    world: World, autojump_clock: object, spans: list[Span]
) -> None:
    world.pages = {
        "cut:1": ReceiveError("cannot reach it"),
        "bad:1": b"a{ 1\n",
        "bug:1": RuntimeError("a bug"),
        "late:1": PAGE,
    }
    slow = world.ask

    async def ask(target: PolledTarget, asking: Asking) -> tuple[bytes, str]:
        if "late:1" in target.url:
            await trio.sleep(2)
        return await slow(target, asking)

    world.ask = ask  # type: ignore[method-assign]
    names = ["cut", "bad", "bug", "late", "good"]
    await Agent(targets=[f"http://{name}:1/metrics?token=geheim" for name in names]).runs(4)
    polls = {str(one.attributes["target"]): one for one in spans if one.name == "poll"}
    assert not any("geheim" in repr((one.attributes, one.error)) for one in spans)
    errors = {where.removeprefix("http://").partition(":")[0]: one.error for where, one in polls.items()}
    assert errors["good"] is errors["late"] is None
    assert errors["cut"] == ("ReceiveError", "cannot reach it")
    assert errors["bad"] is not None
    assert errors["bug"] is not None
    assert errors["bad"][0] == "ReceiveError"
    assert errors["bad"][1].startswith("cannot read line 1 of http://bad:1/metrics")
    assert errors["bug"][0] == "RuntimeError"
    assert {one.attributes["receiver"] for one in polls.values()} == {"mesh"}
    assert [one.attributes["samples"] for one in polls.values() if one.error is None] == [1, 1]


async def test_a_target_that_is_lost_meanwhile_has_not_failed(
    world: World, autojump_clock: object, spans: list[Span], nursery: trio.Nursery
) -> None:
    async def ask(target: PolledTarget, asking: Asking) -> tuple[bytes, str]:
        await trio.sleep_forever()

    world.ask = ask  # type: ignore[method-assign]
    nursery.start_soon(Agent(discovery=found_by("x.json"), timeout="1h").runs, 10)
    await trio.sleep(1)
    await world.discoveries["x.json"][0].tell("a:1")
    await trio.sleep(1)
    await world.discoveries["x.json"][0].tell()
    await trio.sleep(1)
    (one,) = spans
    assert one.error is None
