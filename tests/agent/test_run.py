"""The life of the agent with made-up components: what it does when told to stop, when something fails, and once."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import trio

import agent.wiring
from agent import run as run_module
from agent.batch import Batch, Row
from agent.config import Config, ConfigErrors, Declared
from agent.outbox import Outbox
from agent.plugin import (
    ClosedOutput,
    ConfigError,
    Emit,
    Exporter,
    Payload,
    Processor,
    ReceiveError,
    Receiver,
    Rejected,
    Retry,
)
from agent.run import main, run
from agent.series import Series
from agent.settings import AgentSettings, OutboxSettings, PipelineSettings, Settings, option

Script = Callable[["Source", Emit], Awaitable[None]]


def batch(*times: int) -> Batch:
    return Batch.of(Row(Series.of("a"), 1.0, time, 0, False) for time in times)


class Source(Receiver[Any]):
    """Emits one sample a second, or does what its script says."""

    script: Script | None = None

    async def run(self, emit: Emit) -> None:
        while True:
            await self.once(emit)
            await trio.sleep(1)

    async def once(self, emit: Emit) -> None:
        self.counts.polls += 1
        if self.script is not None:
            await type(self).script(self, emit)  # type: ignore[misc]
            return
        self.counts.samples += 1
        await emit(batch(self.counts.polls))


class Sink(Exporter[Any]):
    """Takes everything, but for what its script says."""

    made: list[Sink]
    script: Iterable[Any] = ()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.answers = iter(self.script)
        self.taken = 0
        self.closed = False
        self.made.append(self)

    def encode(self, batch: Batch) -> Iterable[Payload]:
        return [Payload(b"", b"x" * len(batch), len(batch), len(batch))]

    async def send(self, payload: Payload) -> None:
        await trio.lowlevel.checkpoint()
        answer = next(self.answers, None)
        if callable(answer):
            await answer()
        elif answer is not None:
            raise answer
        self.taken += payload.samples

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """No default processor, whatever is installed."""
    monkeypatch.setattr(agent.wiring, "plugins", lambda: {"receivers": {}, "processors": {}, "exporters": {}})
    monkeypatch.setattr(run_module.log, "setup", lambda *_: None)  # the handlers are pytest's
    Sink.made = []


def source(script: Script) -> type[Source]:
    return type("Scripted", (Source,), {"script": script})


def sink(*script: Any) -> type[Sink]:
    return type("Scripted", (Sink,), {"script": script})


def config(
    receiver: type[Receiver[Any]] = Source,
    *exporters: type[Exporter[Any]],
    processor: type[Processor[Any]] | None = None,
    outbox: dict[str, Any] | None = None,
    admin: str = "",
    timeout: str = "10s",
) -> Config:
    """A file with one receiver, perhaps a processor, and these exporters."""
    settings = OutboxSettings.model_validate(outbox or {})
    classes = exporters or (Sink,)
    sinks = {
        f"e{i}": Declared(f"e{i}", "exporters", "e", cls, Settings(), settings, 1) for i, cls in enumerate(classes)
    }
    processors = {} if processor is None else {"p": Declared("p", "processors", "p", processor, Settings(), None, 1)}
    return Config(
        Path("agent.toml"),
        AgentSettings(admin=admin, shutdown_timeout=timeout),  # type: ignore[arg-type]
        {"r": Declared("r", "receivers", "r", receiver, Settings(), None, 1)},
        processors,
        sinks,
        {"m": PipelineSettings(receivers=["r"], processors=list(processors), exporters=list(sinks))},
    )


async def after(seconds: float, *signals: signal.Signals) -> None:
    await trio.sleep(seconds)
    for number in signals:
        signal.raise_signal(number)
        await trio.sleep(0.5)


def balanced(path: Path) -> dict[str, Any]:
    ledger: dict[str, Any] = json.loads(path.read_text())
    for counts in ledger["receivers"].values():
        came = counts["samples"] + sum(counts["added"].values())
        assert came == counts["out"] + sum(counts["dropped"].values())
    for counts in ledger["exporters"].values():
        assert counts["in"] == counts["sent"] + counts["held"] + sum(counts["dropped"].values())
    return ledger


# -- run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends_well(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path, number: signal.Signals
) -> None:
    nursery.start_soon(after, 4.5, number)
    assert await main(config(outbox={"batch": {"linger": "1h"}}), ledger_path=tmp_path / "ledger.json") == 0
    ledger = balanced(tmp_path / "ledger.json")
    assert ledger["exporters"]["e0"]["sent"] == ledger["receivers"]["r"]["samples"] == 5
    assert ledger["exporters"]["e0"]["requests"] == 1  # nothing was sent before the stop ended the linger
    assert Sink.made[0].closed


async def test_what_the_deadline_leaves_behind_is_status_1(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path
) -> None:
    nursery.start_soon(after, 1.5, signal.SIGTERM)
    began = trio.current_time()
    dead = sink(*[Retry(reason="cannot reach it")] * 1000)
    assert await main(config(Source, dead, Sink, timeout="20s"), ledger_path=tmp_path / "ledger.json") == 1
    assert trio.current_time() - began == pytest.approx(21.5)
    ledger = balanced(tmp_path / "ledger.json")
    assert ledger["exporters"]["e0"]["dropped"] == {"shutdown": 2}
    assert ledger["exporters"]["e1"]["sent"] == 2  # the other one was not held back


async def test_a_second_signal_gives_up_at_once(autojump_clock: object, nursery: trio.Nursery) -> None:
    nursery.start_soon(after, 1.5, signal.SIGTERM, signal.SIGINT)
    began = trio.current_time()
    assert await main(config(Source, sink(trio.sleep_forever))) == 1
    assert trio.current_time() - began == pytest.approx(2.0)
    assert Sink.made[0].closed


# -- reload ------------------------------------------------------------------------------------------------------


def reading(*files: Config | Exception) -> Callable[[Path], Config]:
    """The file as it is at each reload."""
    left = iter(files)

    def read(path: Path) -> Config:
        file = next(left)
        if isinstance(file, Exception):
            raise file
        return file

    return read


async def test_sighup_with_an_unchanged_file_disturbs_nothing(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "ebbtide")
    nursery.start_soon(after, 1.5, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)
    file = config()
    assert await main(file, read=reading(file, file), ledger_path=tmp_path / "l.json") == 0
    assert caplog.text.count("reloaded agent.toml: no component has changed") == 2
    assert len(Sink.made) == 1
    assert balanced(tmp_path / "l.json")["exporters"]["e0"]["sent"] == 3


async def test_a_bad_file_changes_nothing_and_says_why(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    nursery.start_soon(after, 1.5, signal.SIGHUP, signal.SIGTERM)
    wrong = ConfigErrors(
        ["agent.toml:3: receivers.r.intervall: unknown option", "agent.toml:4: exporters: not a table"]
    )
    assert await main(config(), read=reading(wrong), ledger_path=tmp_path / "l.json") == 0
    assert "cannot reload agent.toml, so nothing has changed:\nagent.toml:3: receivers.r.intervall" in caplog.text
    assert "agent.toml:4" in caplog.text
    ledger = balanced(tmp_path / "l.json")
    assert ledger["exporters"]["e0"]["sent"] == ledger["receivers"]["r"]["samples"] >= 2


async def test_a_bug_in_a_plugin_changes_nothing(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    class Breaks(Sink):
        def __init__(self, *arguments: Any) -> None:
            raise ZeroDivisionError("planted")

    nursery.start_soon(after, 1.5, signal.SIGHUP, signal.SIGTERM)
    assert await main(config(), read=reading(config(Source, Sink, Breaks)), ledger_path=tmp_path / "l.json") == 0
    assert "cannot reload agent.toml, so nothing has changed:\nplanted\nTraceback" in caplog.text
    ledger = balanced(tmp_path / "l.json")
    assert ledger["exporters"]["e0"]["sent"] == ledger["receivers"]["r"]["samples"] >= 2


async def test_what_cannot_be_opened_changes_nothing(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        elsewhere = config(Source, Sink, Sink, admin=f"127.0.0.1:{taken.getsockname()[1]}")
        nursery.start_soon(after, 1.5, signal.SIGHUP, signal.SIGTERM)
        assert await main(config(), read=reading(elsewhere), ledger_path=tmp_path / "l.json") == 0
    assert "cannot reload agent.toml, so nothing has changed:\ncannot open the admin port" in caplog.text
    assert set(balanced(tmp_path / "l.json")["exporters"]) == {"e0"}


class Leaves(Source):
    """Finishes a poll that takes three seconds before it leaves."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.left = False
        self.former: Leaves | None = None

    def inherit(self, old: Leaves) -> None:  # type: ignore[override]
        self.former = old

    def leave(self) -> bool:
        self.left = True
        return True

    async def run(self, emit: Emit) -> None:
        while not self.left:
            self.counts.polls += 1
            self.counts.samples += 2
            await trio.sleep(3)
            await emit(batch(1, 2))


class Word(Settings):
    """An option."""

    word: str = option("", "A word.")


def worded(word: str, receiver: type[Receiver[Any]] = Leaves, exporter: type[Exporter[Any]] = Sink) -> Config:
    """A file whose receiver and exporter have an option that says this."""
    file = config(receiver, exporter)
    return replace(
        file,
        receivers={"r": replace(file.receivers["r"], settings=Word(word=word))},
        exporters={"e0": replace(file.exporters["e0"], settings=Word(word=word))},
    )


async def test_a_receiver_that_is_replaced_finishes_its_poll_first(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path
) -> None:
    nursery.start_soon(after, 4.5, signal.SIGHUP)  # in the middle of the second poll
    nursery.start_soon(after, 9.5, signal.SIGTERM)  # the new one began at 6
    assert await main(worded("1"), read=reading(worded("2")), ledger_path=tmp_path / "l.json") == 0
    ledger = balanced(tmp_path / "l.json")
    assert ledger["receivers"]["r"] == {
        "polls": 4, "failed_polls": 0, "samples": 8, "added": {"scrape": 0, "stale": 0},
        "dropped": {"repeated": 0, "torn": 0, "shutdown": 2}, "out": 6,
    }  # fmt: skip
    assert ledger["exporters"]["e0"]["sent"] == 6
    assert [one.taken > 0 for one in Sink.made] == [True, True]
    assert all(one.closed for one in Sink.made)


async def test_a_receiver_that_waits_for_room_can_be_replaced_together_with_its_exporter(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path
) -> None:
    full = OutboxSettings.model_validate(
        {"queue": {"max_bytes": "2B", "on_full": "block"}, "batch": {"max_bytes": "2B"}}
    )
    dead = type("Scripted", (Sink,), {"script": [Retry()] * 1000})

    def file(word: str) -> Config:
        one = worded(word, Leaves, dead)
        return replace(one, exporters={"e0": replace(one.exporters["e0"], outbox=full)})

    async def works_again() -> None:
        await trio.sleep(40)
        assert len(Sink.made) == 2
        assert Sink.made[0].closed  # the reload is through
        for made in Sink.made:
            made.answers = iter(())

    nursery.start_soon(after, 20, signal.SIGHUP)  # the queue has been full for long
    nursery.start_soon(works_again)
    nursery.start_soon(after, 120, signal.SIGTERM)
    assert await main(file("1"), read=reading(file("2")), ledger_path=tmp_path / "l.json") == 0
    ledger = balanced(tmp_path / "l.json")
    assert ledger["exporters"]["e0"]["dropped"] == {}
    assert ledger["exporters"]["e0"]["sent"] == ledger["receivers"]["r"]["out"] > 10


async def test_a_receiver_that_does_not_leave_is_cancelled_after_a_while(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path
) -> None:
    class Stays(Leaves):
        async def run(self, emit: Emit) -> None:
            self.counts.samples += 1
            await trio.sleep_forever()

    nursery.start_soon(after, 1, signal.SIGHUP)
    nursery.start_soon(after, 20, signal.SIGTERM)
    assert await main(worded("1", Stays), read=reading(worded("2", Stays)), ledger_path=tmp_path / "l.json") == 0
    assert balanced(tmp_path / "l.json")["receivers"]["r"]["dropped"]["shutdown"] == 2


async def test_a_stop_during_a_reload_wins(autojump_clock: object, nursery: trio.Nursery, tmp_path: Path) -> None:
    nursery.start_soon(after, 4.5, signal.SIGHUP, signal.SIGTERM)
    assert await main(worded("1"), read=reading(worded("2")), ledger_path=tmp_path / "l.json") == 0
    assert balanced(tmp_path / "l.json")["exporters"]["e0"]["sent"] == 2
    assert Sink.made[0].taken == 2


async def test_what_could_not_be_sent_goes_to_where_the_new_file_says(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path
) -> None:
    class Destination(Sink):
        async def send(self, payload: Payload) -> None:
            if self.settings.word == "wrong":
                raise Retry(reason="cannot reach it")
            await super().send(payload)

    nursery.start_soon(after, 3.5, signal.SIGHUP, signal.SIGTERM)
    wrong, right = worded("wrong", Source, Destination), worded("right", Source, Destination)
    assert await main(wrong, read=reading(right), ledger_path=tmp_path / "l.json") == 0
    ledger = balanced(tmp_path / "l.json")
    assert ledger["exporters"]["e0"]["sent"] == ledger["receivers"]["r"]["samples"] == 5
    assert [one.taken for one in Sink.made] == [0, 5]


async def test_an_attempt_that_does_not_end_is_broken_off_and_made_again(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path
) -> None:
    class Stuck(Sink):
        async def send(self, payload: Payload) -> None:
            if self.settings.word == "stuck":
                await trio.sleep_forever()
            await super().send(payload)

    nursery.start_soon(after, 3.5, signal.SIGHUP)
    nursery.start_soon(after, 20.5, signal.SIGTERM)
    stuck, well = worded("stuck", Source, Stuck), worded("well", Source, Stuck)
    assert await main(stuck, read=reading(well), ledger_path=tmp_path / "l.json") == 0
    ledger = balanced(tmp_path / "l.json")
    assert ledger["exporters"]["e0"]["sent"] == ledger["receivers"]["r"]["samples"]


async def test_a_removed_exporter_drains_while_the_others_go_on(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbtide")
    slow = sink(*[Retry(after=2.0)] * 4)
    both = config(Source, Sink, slow)
    one = replace(
        both,
        exporters={"e0": both.exporters["e0"]},
        pipelines={"m": both.pipelines["m"].model_copy(update={"exporters": ["e0"]})},
    )
    nursery.start_soon(after, 1.5, signal.SIGHUP)
    nursery.start_soon(after, 30.5, signal.SIGTERM)
    assert await main(both, read=reading(one), ledger_path=tmp_path / "l.json") == 0
    ledger = balanced(tmp_path / "l.json")
    assert (ledger["exporters"]["e0"]["sent"], ledger["exporters"]["e1"]["sent"]) == (31, 2)
    assert "exporter e1: drained and removed" in caplog.text
    assert Sink.made[1].closed


async def test_the_admin_port_moves(autojump_clock: object, nursery: trio.Nursery, unused_port: int) -> None:
    seen: list[object] = []

    async def look() -> None:
        await trio.sleep(1.5)
        signal.raise_signal(signal.SIGHUP)
        await trio.sleep(0.5)
        async with httpx.AsyncClient() as client:
            seen.append((await client.get(f"http://127.0.0.1:{unused_port}/readyz")).status_code)
        signal.raise_signal(signal.SIGTERM)

    nursery.start_soon(look)
    assert await main(config(), read=reading(config(admin=f"127.0.0.1:{unused_port}"))) == 0
    assert seen == [200]


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def test_once_takes_no_notice_of_sighup(autojump_clock: object, nursery: trio.Nursery) -> None:
    async def slow(self: Source, emit: Emit) -> None:
        await trio.sleep(5)

    nursery.start_soon(after, 1, signal.SIGHUP)
    assert await main(config(source(slow)), once=True, read=reading()) == 0


async def test_a_closed_output_ends_the_agent_well_and_the_others_drain(autojump_clock: object, tmp_path: Path) -> None:
    slow = sink(*[Retry()] * 2)
    assert await main(config(Source, sink(None, ClosedOutput("gone")), slow), ledger_path=tmp_path / "l.json") == 0
    ledger = balanced(tmp_path / "l.json")
    assert set(ledger["exporters"]["e0"]["dropped"]) == {"closed"}
    assert ledger["exporters"]["e1"]["sent"] == ledger["receivers"]["r"]["samples"]


async def test_a_receiver_with_a_bug_starts_again_ever_more_slowly(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    starts = []

    async def breaks(self: Source, emit: Emit) -> None:
        starts.append(trio.current_time())
        self.counts.samples += 3
        await emit(batch(1, 2))
        raise ZeroDivisionError("planted")

    nursery.start_soon(after, 100.5, signal.SIGTERM)
    began = trio.current_time()
    assert await main(config(source(breaks)), ledger_path=tmp_path / "l.json") == 0
    assert [round(time - began) for time in starts] == [0, 1, 3, 7, 15, 31, 61, 91]
    assert balanced(tmp_path / "l.json")["receivers"]["r"]["dropped"]["bug"] == 8
    assert "Traceback" in caplog.text
    assert "planted" in caplog.text


async def test_a_group_of_exceptions_is_a_bug_too(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(self: Source, emit: Emit) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            raise ZeroDivisionError("planted")

    nursery.start_soon(after, 5, signal.SIGTERM)
    assert await main(config(source(breaks))) == 0
    assert "planted" in caplog.text


async def test_a_bug_while_being_cancelled_does_not_end_the_process(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(self: Source, emit: Emit) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError("planted")

    nursery.start_soon(after, 5, signal.SIGTERM)
    assert await main(config(source(breaks))) == 0
    assert "planted" in caplog.text


async def test_a_receiver_that_ends_by_itself_is_not_started_again(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    class Ends(Source):
        async def run(self, emit: Emit) -> None:
            await self.once(emit)

    nursery.start_soon(after, 50, signal.SIGTERM)
    assert await main(config(Ends)) == 0
    assert Sink.made[0].taken == 1
    assert "ended by itself" in caplog.text


async def test_samples_counted_but_not_emitted_at_the_stop_are_booked(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path
) -> None:
    async def counts_first(self: Source, emit: Emit) -> None:
        self.counts.samples += 5
        await emit(batch(1, 2))
        await trio.sleep_forever()

    nursery.start_soon(after, 1, signal.SIGTERM)
    await main(config(source(counts_first)), ledger_path=tmp_path / "l.json")
    assert balanced(tmp_path / "l.json")["receivers"]["r"]["dropped"]["shutdown"] == 3


async def test_a_blocked_receiver_can_be_stopped(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {"queue": {"max_bytes": "1B", "on_full": "block"}, "batch": {"max_bytes": "1B"}}
    monkeypatch.setitem(Outbox.__init__.__kwdefaults__, "jitter", lambda _, high: high)  # still waiting when stopped
    dead = sink(*[Retry()] * 3)
    nursery.start_soon(after, 5.2, signal.SIGTERM)
    assert await main(config(Source, dead, outbox=full), ledger_path=tmp_path / "l.json") == 0
    ledger = balanced(tmp_path / "l.json")
    assert ledger["exporters"]["e0"]["sent"] == ledger["receivers"]["r"]["samples"] == 2


async def test_a_blocked_receiver_does_not_hold_off_a_cancellation_from_outside(autojump_clock: object) -> None:
    full = {"queue": {"max_bytes": "1B", "on_full": "block"}, "batch": {"max_bytes": "1B"}}
    with trio.move_on_after(5) as scope:
        await main(config(Source, sink(trio.sleep_forever), outbox=full))
    assert scope.cancelled_caught


async def test_processors_that_hold_back_are_flushed_each_second_and_at_the_end(
    autojump_clock: object, nursery: trio.Nursery, tmp_path: Path
) -> None:
    class Holds(Processor[Any]):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.held: list[Batch] = []

        def process(self, batch: Batch) -> Batch | None:
            self.held.append(batch)
            self.counts.merged += len(batch)
            return None

        def flush(self, now: int) -> Batch | None:
            held, self.held = self.held, []
            self.counts.added += sum(map(len, held))
            return Batch.concat(held) if held else None

    nursery.start_soon(after, 2.5, signal.SIGTERM)
    nursery.start_soon(expect_taken, 1.5)
    assert await main(config(processor=Holds), ledger_path=tmp_path / "l.json") == 0
    assert balanced(tmp_path / "l.json")["exporters"]["e0"]["sent"] == 3


async def expect_taken(when: float) -> None:
    await trio.sleep(when)
    assert Sink.made[0].taken > 0


async def test_the_end_is_one_line_and_an_imbalance_is_an_error(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def uncounted(self: Source, emit: Emit) -> None:
        await emit(batch(1))

    caplog.set_level(logging.INFO, "ebbtide")
    nursery.start_soon(after, 0.5, signal.SIGTERM)
    await main(config(source(uncounted)))
    lines = [r.getMessage() for r in caplog.records if r.name == "ebbtide.ledger"]
    assert lines == [
        "received 0 samples in 1 polls; e0 sent 1 samples as 1 points, 0 held",
        "the ledger does not balance: receivers.r is off by -1 samples; this is a bug",
    ]


def test_run_starts_the_loop() -> None:
    class Stops(Source):
        async def run(self, emit: Emit) -> None:
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()

    assert run(config(Stops)) == 0


# -- configuration -----------------------------------------------------------------------------------------------


class Refuses(Sink):
    def __init__(self, *arguments: Any) -> None:
        raise ConfigError("cannot use both; choose one", "endpoint")


async def test_what_constructors_refuse_is_said_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert await main(config(Source, Refuses, Refuses)) == 78
    assert capsys.readouterr().err.splitlines() == [
        "agent.toml:1: exporters.e0.endpoint: cannot use both; choose one",
        "agent.toml:1: exporters.e1.endpoint: cannot use both; choose one",
    ]


async def test_once_refuses_receivers_that_do_not_poll(capsys: pytest.CaptureFixture[str]) -> None:
    class Listens(Receiver[Any]):
        async def run(self, emit: Emit) -> None:
            await trio.sleep_forever()

    assert await main(config(Listens), once=True) == 78
    assert "receivers.r: cannot be run once" in capsys.readouterr().err


# -- the admin port ----------------------------------------------------------------------------------------------


async def test_a_taken_admin_port_is_an_error_that_names_admin(caplog: pytest.LogCaptureFixture) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    async with listener:
        assert await main(config(admin=f"127.0.0.1:{port}")) == 1
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "admin" in error
    assert str(port) in error


async def test_the_admin_port_answers_until_the_end(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbtide")
    seen: dict[str, httpx.Response] = {}

    async def ask() -> None:
        while not (opened := [r for r in caplog.records if "admin port open" in r.getMessage()]):  # noqa: ASYNC110
            await trio.sleep(0.01)
        url = opened[0].getMessage().rpartition(" ")[2]
        async with httpx.AsyncClient(trust_env=False) as client:
            while (await client.get(f"{url}/readyz")).status_code != 200:  # noqa: ASYNC110
                await trio.sleep(0.01)
            for path in ("/healthz", "/metrics", "/ledger", "/other"):
                seen[path] = await client.get(url + path)
        signal.raise_signal(signal.SIGTERM)

    nursery.start_soon(ask)
    assert await main(config(admin="127.0.0.1:0")) == 0
    assert [response.status_code for response in seen.values()] == [200, 200, 200, 404]
    assert "ebbtide_receiver_polls_total{" in seen["/metrics"].text
    assert seen["/ledger"].json()["receivers"]["r"]["polls"] >= 1


# -- once --------------------------------------------------------------------------------------------------------


async def test_once_polls_each_receiver_once_and_drains(autojump_clock: object, tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    assert await main(config(admin="127.0.0.1:0"), once=True, ledger_path=path) == 0
    ledger = balanced(path)
    assert ledger["receivers"]["r"]["polls"] == 1
    assert ledger["exporters"]["e0"]["sent"] == 1
    assert os.listdir(tmp_path) == ["ledger.json"]  # no draft is left


@pytest.mark.parametrize(
    ("answers", "dropped"),
    [
        ([Rejected(None, "no")], {"rejected": 1}),
        ([Rejected(1, "too old")], {}),
        ([KeyError("planted")], {"bug": 1}),
        ([Retry()] * 100, {"shutdown": 1}),
    ],
)
async def test_once_fails_where_anything_was_lost(
    autojump_clock: object, tmp_path: Path, answers: list[Exception], dropped: dict[str, int]
) -> None:
    path = tmp_path / "ledger.json"
    assert await main(config(Source, sink(*answers)), once=True, ledger_path=path) == 1
    assert balanced(path)["exporters"]["e0"]["dropped"] == dropped


async def test_once_is_well_where_a_processor_drops_on_purpose(autojump_clock: object, tmp_path: Path) -> None:
    class Nothing(Processor[Any]):
        def process(self, batch: Batch) -> Batch | None:
            return None

    path = tmp_path / "ledger.json"
    assert await main(config(processor=Nothing), once=True, ledger_path=path) == 0
    assert balanced(path)["pipelines"]["m"]["processors"]["p"]["dropped"] == {"filtered": 1}


async def test_once_fails_where_a_processor_has_a_bug(autojump_clock: object) -> None:
    class Breaks(Processor[Any]):
        def process(self, batch: Batch) -> Batch | None:
            raise ZeroDivisionError("planted")

    assert await main(config(processor=Breaks), once=True) == 1


async def test_once_fails_where_a_poll_failed_or_has_a_bug(autojump_clock: object, tmp_path: Path) -> None:
    async def fails(self: Source, emit: Emit) -> None:
        self.counts.failed_polls += 1

    async def breaks(self: Source, emit: Emit) -> None:
        raise ZeroDivisionError("planted")

    for script in (fails, breaks):
        path = tmp_path / "ledger.json"
        assert await main(config(source(script)), once=True, ledger_path=path) == 1
        counts = balanced(path)["receivers"]["r"]
        assert (counts["polls"], counts["failed_polls"]) == (1, 1)


async def test_the_shutdown_timeout_of_once_begins_after_the_last_poll(autojump_clock: object) -> None:
    async def slow(self: Source, emit: Emit) -> None:
        await trio.sleep(60)
        self.counts.samples += 1
        await emit(batch(1))

    assert await main(config(source(slow), sink(*[Retry(1.0)] * 3), timeout="9s"), once=True) == 0


async def test_a_full_queue_does_not_make_once_wait_forever(autojump_clock: object, tmp_path: Path) -> None:
    async def much(self: Source, emit: Emit) -> None:
        self.counts.samples += 9
        for time in range(9):
            await emit(batch(time))

    full = {"queue": {"max_bytes": "1B", "on_full": "block"}, "batch": {"max_bytes": "1B"}}
    path = tmp_path / "ledger.json"
    dead = sink(trio.sleep_forever)
    assert await main(config(source(much), dead, outbox=full), once=True, ledger_path=path) == 1
    assert balanced(path)["exporters"]["e0"]["dropped"] == {"shutdown": 9}


async def test_a_ledger_that_cannot_be_written_is_a_failure(
    autojump_clock: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await main(config(), once=True, ledger_path=tmp_path / "no" / "ledger.json") == 1
    assert "cannot write the ledger" in caplog.text


async def test_an_exporter_that_cannot_close_is_logged(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    class Sticks(Sink):
        async def aclose(self) -> None:
            raise ZeroDivisionError("planted")

    class Hangs(Sink):
        async def aclose(self) -> None:
            await trio.sleep_forever()

    began = trio.current_time()
    assert await main(config(Source, Hangs, Sticks), once=True) == 0
    assert trio.current_time() - began < 2 * run_module.CLOSE_SECONDS
    assert "cannot close" in caplog.text


# -- ports of receivers -------------------------------------------------------------------------------------------------


class Opens(Leaves):
    """Takes something before it runs: not at all with the word "no"."""

    asked: ClassVar[list[tuple[str, str]]] = []  # of whom, and whom it was opened after

    async def open(self, before: Receiver[Any] | None = None) -> None:
        self.asked.append((self.settings.word, before.settings.word if before else ""))
        if self.settings.word == "no":
            raise ReceiveError("cannot listen at the door: it is shut; open it")


async def test_a_receiver_that_cannot_open_ends_the_start(caplog: pytest.LogCaptureFixture) -> None:
    assert await main(worded("no", Opens)) == 1
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        "cannot listen at the door: it is shut; open it"
    ]


async def test_a_receiver_that_cannot_open_changes_nothing_at_a_reload(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    Opens.asked.clear()
    nursery.start_soon(after, 0.5, signal.SIGHUP)
    nursery.start_soon(after, 5.5, signal.SIGHUP)
    nursery.start_soon(after, 9.5, signal.SIGTERM)
    files = reading(worded("no", Opens), worded("2", Opens))
    assert await main(worded("1", Opens), read=files, ledger_path=tmp_path / "l.json") == 0
    assert Opens.asked == [("1", ""), ("no", "1"), ("2", "1")]
    assert "so nothing has changed:\ncannot listen at the door" in caplog.text
    balanced(tmp_path / "l.json")
