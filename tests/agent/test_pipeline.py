"""The chain between two sockets, and custody of what leaves it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import Batch, Row
from agent.ledger import Ledger, PipelineCounts, ProcessorCounts, ReceiverCounts
from agent.outbox import Outbox
from agent.pipeline import Emitter, Pipeline
from agent.plugin import Context, Exporter, Payload, Processor, SeriesProcessor
from agent.series import Series
from agent.settings import OutboxSettings

NAMES = ("a", "b", "c", "d")


def batch(names: Iterable[str] = NAMES) -> Batch:
    return Batch.of(Row(Series.of(name), 1.0, 1, 0, False) for name in names)


class Keeps(Exporter[Any]):
    """Remembers the names of what was encoded, in order."""

    def __init__(self, name: str = "backend"):
        super().__init__(None, Context(name))
        self.names: list[str] = []

    def encode(self, batch: Batch) -> Iterable[Payload]:
        self.names += [series.name for series in batch.table]
        return [Payload(b"", b"x" * len(batch), len(batch), len(batch))]

    async def send(self, payload: Payload) -> None:
        await trio.lowlevel.checkpoint()


def outbox(exporter: Exporter[Any], **options: Any) -> Outbox:
    return Outbox(exporter, OutboxSettings.model_validate(options), exporter.counts)


class Without(SeriesProcessor[Any]):
    """Drops one name."""

    def __init__(self, name: str, reason: str = "filtered"):
        super().__init__(None, Context(f"without_{name}", ProcessorCounts()))
        self._name = name
        self.drop_reason = reason  # type: ignore[misc]

    @property
    def owner(self) -> Any:
        return self

    def map_series(self, series: Series) -> Series | None:
        return None if series.name == self._name else series


class Does(Processor[Any]):
    """Does what it is told, with its counts at hand."""

    def __init__(self, step: Any, flush: Any = None, name: str = "does"):
        super().__init__(None, Context(name, ProcessorCounts()))
        self.step = step
        self.held = flush

    def process(self, batch: Batch) -> Batch | None:
        return self.step(self.counts, batch)  # type: ignore[no-any-return]


class Flushes(Does):
    def flush(self, now: int) -> Batch | None:
        return self.held(self.counts, now)  # type: ignore[no-any-return]


def chain(*processors: Processor[Any], default: Processor[Any] | None = None) -> Pipeline:
    named = [(f"p{position}", processor) for position, processor in enumerate(processors)]
    return placed(Pipeline(PipelineCounts(), named, [], default))


def placed(pipeline: Pipeline) -> Pipeline:
    pipeline.take_place()
    return pipeline


def balance(pipeline: Pipeline) -> list[str]:
    return Ledger(pipelines={"metrics": pipeline.counts}).imbalances()


def test_a_pipeline_without_processors_passes_on() -> None:
    pipeline = chain()
    given_batch = batch()
    assert pipeline.run(given_batch) is given_batch
    assert pipeline.counts.as_dict() == {"in": 4, "processors": {}, "out": 4}


def test_each_edge_is_counted() -> None:
    pipeline = chain(Without("a"), Without("b", "relabel"))
    result = pipeline.run(batch())
    assert result is not None
    assert [series.name for series in result.table] == ["c", "d"]
    assert pipeline.counts.as_dict() == {
        "in": 4,
        "processors": {
            "p0": {"in": 4, "out": 3, "added": 0, "merged": 0, "dropped": {"filtered": 1}},
            "p1": {"in": 3, "out": 2, "added": 0, "merged": 0, "dropped": {"relabel": 1}},
        },
        "out": 2,
    }


def test_a_batch_of_which_nothing_is_left_stops() -> None:
    reached: list[Batch] = []
    pipeline = chain(Without("a"), Does(lambda counts, batch: reached.append(batch)))
    assert pipeline.run(batch("a")) is None
    assert reached == []
    assert balance(pipeline) == []


def test_an_empty_batch_is_nothing() -> None:
    pipeline = chain(Does(lambda counts, batch: batch.take([])))
    assert pipeline.run(batch()) is None
    assert pipeline.counts.processors["p0"].dropped == {"filtered": 4}


def explain(**numbers: int) -> Any:
    def step(counts: ProcessorCounts, batch: Batch) -> Batch | None:
        counts.merged += numbers.get("merged", 0)
        counts.added += numbers.get("added", 0)
        if numbers.get("dropped"):
            counts.dropped["mine"] += numbers["dropped"]
        rows = numbers["out"]
        return Batch.concat([batch] * 3).take(np.arange(rows)) if rows else None

    return step


@pytest.mark.parametrize(
    ("given_numbers", "added", "merged", "dropped"),
    [
        ({"out": 4}, 0, 0, {}),
        ({"out": 1}, 0, 0, {"filtered": 3}),
        ({"out": 0}, 0, 0, {"filtered": 4}),
        ({"out": 6}, 2, 0, {}),
        ({"out": 1, "dropped": 3}, 0, 0, {"mine": 3}),
        ({"out": 1, "dropped": 1}, 0, 0, {"mine": 1, "filtered": 2}),
        ({"out": 1, "merged": 3}, 0, 3, {}),
        ({"out": 6, "added": 2}, 2, 0, {}),
        ({"out": 3, "added": 2, "merged": 3}, 2, 3, {}),
        ({"out": 4, "dropped": 2}, 2, 0, {"mine": 2}),
    ],
)
def test_what_a_processor_does_not_explain_is_booked(
    given_numbers: dict[str, int], added: int, merged: int, dropped: dict[str, int]
) -> None:
    pipeline = chain(Does(explain(**given_numbers)))
    pipeline.run(batch())
    counts = pipeline.counts.processors["p0"]
    assert (counts.added, counts.merged, counts.dropped) == (added, merged, dropped)
    assert balance(pipeline) == []


@given(
    st.lists(
        st.fixed_dictionaries(
            {"out": st.integers(0, 9)}, optional={key: st.integers(0, 9) for key in ("added", "merged", "dropped")}
        ),
        max_size=4,
    )
)
def test_the_ledger_balances_whatever_processors_claim(stages: list[dict[str, int]]) -> None:
    pipeline = chain(*(Does(explain(**numbers)) for numbers in stages))
    for _ in range(2):
        result = pipeline.run(batch())
    assert balance(pipeline) == []
    assert pipeline.counts.received == 8
    assert pipeline.counts.out in (0, 2 * (0 if result is None else len(result)))


def test_a_bug_costs_its_batch_is_logged_with_traceback_and_folded(caplog: pytest.LogCaptureFixture) -> None:
    fails = [True, True, False]

    def step(counts: ProcessorCounts, batch: Batch) -> Batch:
        counts.dropped["mine"] += 1
        if fails.pop(0):
            raise ZeroDivisionError("planted")
        return batch.take([0, 1, 2])

    pipeline = chain(Does(step))
    assert pipeline.run(batch()) is None
    assert pipeline.run(batch()) is None
    assert len(pipeline.run(batch()) or ()) == 3
    assert pipeline.counts.processors["p0"].dropped == {"mine": 3, "bug": 6}
    assert balance(pipeline) == []
    assert len(caplog.records) == 1
    assert "Traceback" in caplog.text
    assert "planted" in caplog.text


@pytest.mark.parametrize("result", [[1, 2], "text", 7])
def test_an_answer_that_is_no_batch_is_a_bug(result: object, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = chain(Does(lambda counts, batch: result))
    assert pipeline.run(batch()) is None
    assert pipeline.counts.processors["p0"].dropped == {"bug": 4}
    assert "not a Batch or None" in caplog.text


def test_flush_passes_what_was_held_through_the_processors_behind() -> None:
    kept: list[Batch] = []
    holds = Flushes(lambda counts, batch: kept.append(batch), lambda counts, now: kept.pop() if kept else None)
    pipeline = chain(Without("a"), holds, Without("b"))
    assert pipeline.flushes
    assert pipeline.run(batch()) is None
    assert pipeline.counts.processors["p1"].dropped == {"filtered": 3}
    (flushed,) = pipeline.flush(0)
    assert [series.name for series in flushed.table] == ["c", "d"]
    assert pipeline.counts.processors["p1"].added == 3
    assert pipeline.counts.out == 2
    assert pipeline.flush(0) == []
    assert balance(pipeline) == []


def test_a_bug_in_flush_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def broken(counts: ProcessorCounts, now: int) -> Batch:
        raise ZeroDivisionError("planted")

    pipeline = chain(Flushes(lambda counts, batch: batch, broken))
    assert pipeline.flush(0) == []
    assert len(pipeline.run(batch()) or ()) == 4
    assert balance(pipeline) == []
    assert "planted" in caplog.text


def test_only_processors_with_a_flush_of_their_own_flush() -> None:
    assert not chain(Without("a")).flushes


def test_the_default_processor_is_applied_last_and_stays_out_of_the_ledger_until_it_changes_rows() -> None:
    pipeline = chain(Without("a"), default=Without("b"))
    pipeline.run(batch("cd"))
    assert list(pipeline.counts.processors) == ["p0"]
    assert balance(pipeline) == []
    result = pipeline.run(batch())
    assert result is not None
    assert [series.name for series in result.table] == ["c", "d"]
    assert list(pipeline.counts.processors) == ["p0", "resource"]
    assert pipeline.counts.processors["resource"].as_dict() == {
        "in": 5, "out": 4, "added": 0, "merged": 0, "dropped": {"filtered": 1},
    }  # fmt: skip
    assert balance(pipeline) == []


def test_the_default_processor_does_not_take_the_name_of_another() -> None:
    pipeline = placed(Pipeline(PipelineCounts(), [("resource", Without("a"))], [], Without("b")))
    pipeline.run(batch())
    assert list(pipeline.counts.processors) == ["resource", "resource_default"]
    assert balance(pipeline) == []


# -- emit --------------------------------------------------------------------------------------------------------


async def test_emit_feeds_every_pipeline_and_every_exporter_of_it(autojump_clock: object) -> None:
    first, second = Keeps("first"), Keeps("second")
    boxes = outbox(first), outbox(second)
    pipelines = (
        placed(Pipeline(PipelineCounts(), [("quiet", Without("a"))], boxes)),
        Pipeline(PipelineCounts(), [], boxes[1:]),
    )
    received = ReceiverCounts(samples=4)
    await Emitter(received, pipelines)(batch())
    assert first.names == ["b", "c", "d"]
    assert second.names == ["b", "c", "d", "a", "b", "c", "d"]
    assert received.out == 4
    assert (first.counts.received, second.counts.received) == (3, 7)
    ledger = Ledger(
        {"linkerd": received},
        {"one": pipelines[0].counts, "two": pipelines[1].counts},
        {"first": first.counts, "second": second.counts},
    )
    assert ledger.imbalances() == []


async def test_a_bug_in_one_pipeline_leaves_the_other_alone() -> None:
    first, second = Keeps(), Keeps()
    broken = Pipeline(PipelineCounts(), [("x", Does(lambda counts, batch: 1 / 0))], [outbox(first)])
    sound = Pipeline(PipelineCounts(), [], [outbox(second)])
    await Emitter(ReceiverCounts(), [broken, sound])(batch())
    assert (first.names, second.names) == ([], list(NAMES))


async def test_emit_lets_others_run_and_is_not_cancelled_half_way() -> None:
    keeps = Keeps()
    emit = Emitter(ReceiverCounts(), [Pipeline(PipelineCounts(), [], [outbox(keeps)])])
    others: list[str] = []

    async def other() -> None:
        others.append("ran")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await emit(batch("a"))
        await emit(batch("a"))  # tasks that are ready run in any order, but each before any runs twice
        assert others == ["ran"]
    with trio.CancelScope() as scope:
        scope.cancel()
        await emit(batch("b"))
        await emit(batch("c"))
        assert keeps.names == ["a", "a", "b", "c"]
        await trio.lowlevel.checkpoint()
        raise AssertionError("the cancellation was swallowed")
    assert scope.cancelled_caught


async def test_an_empty_batch_is_not_emitted() -> None:
    keeps, counts = Keeps(), ReceiverCounts()
    await Emitter(counts, [Pipeline(PipelineCounts(), [], [outbox(keeps)])])(batch().take([]))
    assert (keeps.names, counts.out) == ([], 0)


async def test_who_never_waits_is_served_before_who_does(autojump_clock: object, nursery: trio.Nursery) -> None:
    blocked, other, free = Keeps("blocked"), Keeps("other"), Keeps("free")
    tight = {"queue": {"max_bytes": "1B", "on_full": "block"}, "batch": {"max_bytes": "1B"}}
    boxes = [outbox(blocked, **tight), outbox(other, **tight), outbox(free)]
    emit = Emitter(ReceiverCounts(), [Pipeline(PipelineCounts(), [], boxes)])
    await emit(batch("a"))
    custody = []

    async def second() -> None:
        await emit(batch("b"))
        custody.append("b")

    nursery.start_soon(second)
    await trio.testing.wait_all_tasks_blocked()
    assert free.names == ["a", "b"]
    assert boxes[2].held() == 2
    assert custody == []
    nursery.start_soon(boxes[1].run)
    await trio.sleep(10)
    assert (boxes[1].held(), custody) == (0, [])  # the other blocking one is not held back by the first
    nursery.start_soon(boxes[0].run)
    await trio.sleep(10)
    assert custody == ["b"]
    nursery.cancel_scope.cancel()


async def test_a_receiver_that_can_wait_sees_block_whatever_is_set(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    keeps = Keeps()
    box = outbox(keeps, queue={"max_bytes": "1B"})
    emit = Emitter(ReceiverCounts(), [Pipeline(PipelineCounts(), [], [box])], waits=True)
    await emit(batch("a"))
    with trio.move_on_after(1) as scope:
        nursery.start_soon(box.run)
        await emit(batch("b"))
    assert not scope.cancelled_caught
    await trio.sleep(10)
    assert (keeps.counts.sent, keeps.counts.dropped) == (2, {})
    nursery.cancel_scope.cancel()
