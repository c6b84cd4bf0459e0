"""What a reload changes, and that it changes nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
import trio

import agent.wiring
from agent.batch import Batch, Row
from agent.config import Config, ConfigErrors, Declared
from agent.plugin import ConfigError, Emit, Exporter, Payload, Processor, Receiver
from agent.reload import Change, Difference
from agent.series import Series
from agent.settings import AgentSettings, OutboxSettings, PipelineSettings, Settings, option
from agent.wiring import Wiring, wire


class Word(Settings):
    """One option."""

    word: str = option("", "A word.")


class Remembers:
    """A component that can be asked from whom it took over."""

    former: object = None

    def inherit(self, old: Self) -> None:
        self.former = old


class Source(Remembers, Receiver[Word]):
    """Does nothing."""

    Settings = Word

    async def run(self, emit: Emit) -> None:
        await trio.sleep_forever()


class OtherSource(Source):
    """Of another type."""


class Keeps(Remembers, Processor[Word]):
    """Holds everything back until it is flushed."""

    Settings = Word

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


class Sink(Remembers, Exporter[Word]):
    """Takes everything; seals by its word."""

    Settings = Word

    def encode(self, batch: Batch) -> list[Payload]:
        return [Payload(b"", b"x" * len(batch), len(batch), len(batch))]

    def seal(self, body: bytes) -> bytes:
        return self.settings.word.encode() + body

    def unseal(self, body: bytes) -> bytes:
        return body.removeprefix(self.settings.word.encode())

    async def send(self, payload: Payload) -> None:
        await trio.lowlevel.checkpoint()


class Refuses(Source):
    """Cannot be made."""

    def __init__(self, *arguments: Any) -> None:
        raise ConfigError("cannot be made; make another")


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """No default processor, whatever is installed."""
    monkeypatch.setattr(agent.wiring, "plugins", lambda: {"receivers": {}, "processors": {}, "exporters": {}})


CLASSES = {"s": Source, "o": OtherSource, "x": Refuses, "k": Keeps, "e": Sink}


def declared(kind: str, id: str, wanted: str) -> Declared:
    """``wanted``: the letter of the class, then its word, then perhaps ``@`` and the queue's size."""
    wanted, _, size = wanted.partition("@")
    outbox = None
    if kind == "exporters":
        outbox = OutboxSettings.model_validate({"queue": {"max_bytes": size or "1MB"}})
    return Declared(id, kind, wanted[0], CLASSES[wanted[0]], Word(word=wanted[1:]), outbox, 1)


def config(receivers: dict[str, str], processors: dict[str, str], exporters: dict[str, str], *lines: str) -> Config:
    """Pipelines as ``name: receivers > processors > exporters``, each a string of one-letter ids."""
    pipelines = {}
    for line in lines:
        name, _, chain = line.partition(": ")
        r, p, e = chain.split(">")
        pipelines[name] = PipelineSettings(receivers=[*r.strip()], processors=[*p.strip()], exporters=[*e.strip()])
    return Config(
        Path("agent.toml"),
        AgentSettings(),
        {id: declared("receivers", id, wanted) for id, wanted in receivers.items()},
        {id: declared("processors", id, wanted) for id, wanted in processors.items()},
        {id: declared("exporters", id, wanted) for id, wanted in exporters.items()},
        pipelines,
    )


ONE = config({"r": "s1"}, {"k": "k1"}, {"e": "e1"}, "m: r>k>e")


def changed(to: Config, old: Wiring | None = None) -> Change:
    old = old or wire(ONE)
    return Change(old, wire(to, before=old))


def batch(*times: int) -> Batch:
    return Batch.of(Row(Series.of("a"), 1.0, time, 0, False) for time in times)


async def emit(wiring: Wiring, made: Batch) -> None:
    """What the receiver r scraped."""
    wiring.receivers["r"].counts.samples += len(made)
    await wiring.emits["r"](made)


def test_ids_come_go_and_change() -> None:
    one, two = object(), object()
    between = Difference.between({"a": one, "b": one, "c": one}, {"b": two, "c": one, "d": two})
    assert (between.new, between.gone, between.changed) == (["d"], ["a"], ["b"])
    assert between.said("receivers") == ["receivers.d new", "receivers.a removed", "receivers.b changed"]


async def test_the_same_file_changes_nothing() -> None:
    change = changed(ONE)
    assert str(change) == "no component has changed"
    assert (change.leaving, change.entering, change.handed_over, change.opening, change.draining) == (
        [],
        [],
        {},
        [],
        [],
    )
    old = change.old
    assert change.apply(0) == []
    new = change.new
    assert new.receivers == old.receivers
    assert new.pipelines == old.pipelines
    assert new.outboxes == old.outboxes


async def test_a_receiver_with_other_options_takes_over_from_the_former_one() -> None:
    change = changed(config({"r": "s2"}, {"k": "k1"}, {"e": "e1"}, "m: r>k>e"))
    assert str(change) == "receivers.r changed"
    assert (change.leaving, change.entering) == (["r"], ["r"])
    change.apply(0)
    assert change.new.receivers["r"].former is change.old.receivers["r"]  # type: ignore[attr-defined]
    assert change.new.receivers["r"].counts is change.old.receivers["r"].counts
    assert change.new.pipelines["m"] is change.old.pipelines["m"]


async def test_a_receiver_of_another_type_begins_afresh() -> None:
    change = changed(config({"r": "o1"}, {"k": "k1"}, {"e": "e1"}, "m: r>k>e"))
    assert (change.leaving, change.entering) == (["r"], ["r"])
    change.apply(0)
    assert change.new.receivers["r"].former is None  # type: ignore[attr-defined]


async def test_an_exporter_with_other_options_keeps_the_outbox_and_what_is_in_it() -> None:
    old = wire(ONE)
    box = old.outboxes["e"]
    box.put(batch(1, 2, 3))
    box._backlog.seal()
    change = changed(config({"r": "s1"}, {"k": "k1"}, {"e": "e22"}, "m: r>k>e"), old)
    assert str(change) == "exporters.e changed"
    assert change.handed_over == {"e": box}
    assert (change.opening, change.draining) == ([], [])
    change.apply(0)
    assert change.new.outboxes["e"] is box
    assert change.new.exporters["e"].former is old.exporters["e"]  # type: ignore[attr-defined]
    request = box._backlog.requests[0]
    assert box._backlog.fits(request)
    assert (request.body, box.bytes, box.held()) == (b"22xxx", 5, 3)


async def test_an_exporter_that_only_gets_another_queue_is_handed_over_as_well() -> None:
    old = wire(ONE)
    old.outboxes["e"].put(batch(*range(8)))
    old.outboxes["e"]._backlog.seal()
    old.outboxes["e"].put(batch(*range(8)))
    change = changed(config({"r": "s1"}, {"k": "k1"}, {"e": "e1@10B"}, "m: r>k>e"), old)
    change.apply(0)
    counts = old.ledger.exporters["e"]
    assert counts.dropped == {"overflow": 8}  # the smaller queue holds the newer one
    assert counts.imbalance() == 0


async def test_exporters_come_and_go() -> None:
    change = changed(config({"r": "s1"}, {"k": "k1"}, {"f": "e1"}, "m: r>k>f"))
    assert str(change) == "pipelines.m changed, exporters.f new, exporters.e removed"
    assert change.opening == [change.new.outboxes["f"]]
    assert change.draining == [change.old.outboxes["e"]]
    change.apply(0)
    assert change.new.emits["r"].pipelines[0].outboxes == (change.new.outboxes["f"],)
    assert set(change.new.ledger.exporters) == {"e", "f"}  # what was removed keeps its line


def noting(folder: Path, receivers: dict[str, str], exporters: dict[str, str], *lines: str) -> Config:
    """A file whose receivers have checkpoints."""
    return replace(config(receivers, {}, exporters, *lines), agent=AgentSettings(state_dir=str(folder)))


async def saved(wiring: Wiring, note: bytes) -> None:
    """The receiver r has emitted a sample, and saves a note; nobody sends."""
    await emit(wiring, batch(1))
    checkpoint = wiring.receivers["r"].context.checkpoint
    assert checkpoint is not None
    checkpoint.save(note)


@pytest.mark.parametrize(
    ("lines", "exporters", "due"),
    [
        (["m: r>>ef"], {"e": "e1", "f": "e1"}, False),
        (["m: r>>f"], {"f": "e1"}, False),
        (["m: r>>g"], {"g": "e1"}, True),  # none of those that hold it is fed any more
        (["m: r>>g", "n: s>>ef"], {"e": "e1", "f": "e1", "g": "e1"}, True),
    ],
)
async def test_notes_wait_for_those_alone_that_the_receiver_still_feeds(
    tmp_path: Path, lines: list[str], exporters: dict[str, str], due: bool
) -> None:
    receivers = {"r": "s1", "s": "s1"}
    old = wire(noting(tmp_path, receivers, {"e": "e1", "f": "e1"}, "m: r>>ef"))
    await saved(old, b"1")
    change = changed(noting(tmp_path, receivers, exporters, *lines), old)
    change.apply(0)
    assert change.new.checkpoints["r"] is old.checkpoints["r"]
    assert (change.new.checkpoints["r"].due() == b"1") == due
    assert sum(outbox.held() for outbox in old.outboxes.values()) == 2  # they drain all the same


async def test_a_receiver_that_goes_leaves_its_note_behind_and_finds_it_when_it_comes_again(tmp_path: Path) -> None:
    one = noting(tmp_path, {"r": "s1", "s": "s1"}, {"e": "e1"}, "m: r>>e")
    old = wire(one)
    await saved(old, b"1")
    gone = changed(noting(tmp_path, {"s": "s1"}, {"e": "e1"}, "m: s>>e"), old)
    gone.apply(0)
    checkpoint = gone.new.checkpoints["r"]
    assert checkpoint.due() is None  # e still holds it
    again = changed(one, gone.new)
    again.apply(0)
    assert again.new.receivers["r"].context.checkpoint is checkpoint
    assert checkpoint.load() == b"1"
    await saved(again.new, b"2")
    again.new.outboxes["e"].abandon("bug")
    elsewhere = changed(noting(tmp_path / "b", {"r": "s1"}, {"e": "e1"}, "m: r>>e"), again.new)
    assert elsewhere.new.checkpoints.keys() == {"r"}
    assert elsewhere.new.checkpoints["r"] is not checkpoint


async def test_what_a_removed_processor_held_back_goes_the_old_way() -> None:
    change = changed(config({"r": "s1"}, {}, {"e": "e1"}, "m: r>>e"))
    await emit(change.old, batch(1, 2))
    ledger = change.old.ledger
    flushed = change.apply(0)
    assert [(pipeline is change.old.pipelines["m"], len(rows)) for pipeline, rows in flushed] == [(True, 2)]
    assert ledger.imbalances() == []
    await emit(change.new, batch(3))
    assert ledger.pipelines["m"].as_dict()["out"] == 3
    assert ledger.pipelines["m"].processors["k"].merged == 2
    assert ledger.imbalances() == []


async def test_a_processor_that_stays_keeps_what_it_holds_and_its_counts() -> None:
    old = wire(ONE)
    await emit(old, batch(1, 2))
    change = changed(config({"r": "s1"}, {"k": "k1", "l": "k1"}, {"e": "e1"}, "m: r>lk>e"), old)
    assert change.apply(0) == []
    new = change.new.pipelines["m"]
    assert new.processors["k"] is old.pipelines["m"].processors["k"]
    await emit(change.new, batch(3))
    assert list(change.new.ledger.pipelines["m"].processors) == ["l", "k"]
    assert [len(rows) for rows in new.flush(0)] == [3]  # k holds what l lets go of
    assert change.new.ledger.imbalances() == []


async def test_a_processor_with_other_options_is_flushed_and_takes_over() -> None:
    old = wire(ONE)
    await emit(old, batch(1, 2))
    change = changed(config({"r": "s1"}, {"k": "k2"}, {"e": "e1"}, "m: r>k>e"), old)
    assert str(change) == "processors.k changed, pipelines.m changed"
    assert [len(rows) for _, rows in change.apply(0)] == [2]
    assert change.new.pipelines["m"].processors["k"].former is old.pipelines["m"].processors["k"]  # type: ignore[attr-defined]
    assert change.new.ledger.imbalances() == []


async def test_receivers_feed_the_pipelines_that_name_them_now() -> None:
    old = wire(ONE)
    one = old.emits["r"]
    await emit(old, batch(1))
    two = config({"r": "s1", "q": "s1"}, {}, {"e": "e1", "f": "e1"}, "m: q>>e", "n: rq>>f")
    change = changed(two, old)
    change.apply(0)
    assert change.new.emits["r"] is one
    assert one.pipelines == (change.new.pipelines["n"],)
    assert change.new.emits["q"].pipelines == (change.new.pipelines["m"], change.new.pipelines["n"])
    await emit(change.new, batch(2))
    assert change.new.ledger.exporters["f"].received == 1
    assert change.new.ledger.imbalances() == []


async def test_what_cannot_be_made_changes_nothing_and_leaves_no_line_in_the_ledger() -> None:
    old = wire(ONE)
    with pytest.raises(ConfigErrors, match="cannot be made; make another"):
        wire(config({"r": "s1", "x": "x1"}, {}, {"e": "e1", "f": "e1"}, "m: rx>>ef"), before=old)
    assert old.emits["r"].pipelines == (old.pipelines["m"],)
    assert (set(old.ledger.receivers), set(old.ledger.exporters)) == ({"r"}, {"e"})
    assert list(old.ledger.pipelines["m"].processors) == ["k"]


async def test_one_that_cannot_take_over_begins_afresh(caplog: pytest.LogCaptureFixture) -> None:
    class Forgets(Source):
        def inherit(self, old: Self) -> None:
            raise ZeroDivisionError("planted")

    def forgetting(word: str) -> Config:
        made = config({"r": f"s{word}"}, {}, {"e": "e1"}, "m: r>>e")
        made.receivers["r"] = Declared("r", "receivers", "s", Forgets, Word(word=word), None, 1)
        return made

    change = changed(forgetting("2"), wire(forgetting("1")))
    change.apply(0)
    assert "receivers.r cannot take over" in caplog.text
    assert "planted" in caplog.text
