"""The life of one receiver: its bugs, its restarts, its leave."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from agent.batch import Batch, Row
from agent.ledger import ReceiverCounts
from agent.plugin import Context, Emit, ReceiveError, Receiver
from agent.receiving import Reception
from agent.series import Series

Script = Callable[["Source", Emit], Awaitable[None]]


class Source(Receiver[Any]):
    """Does what it is told."""

    def __init__(self, script: Script, leaves: bool = False):
        super().__init__(None, Context("r", ReceiverCounts(), logging.getLogger("ebbtide.receivers.r")))
        self.script, self.leaves, self.runs = script, leaves, 0
        self.left = trio.Event()

    def leave(self) -> bool:
        self.left.set()
        return self.leaves

    async def run(self, emit: Emit) -> None:
        self.runs += 1
        await self.script(self, emit)

    once = run


def received(source: Source) -> Reception:
    async def emit(batch: Batch) -> None:
        source.counts.out += len(batch)
        await trio.lowlevel.checkpoint()

    return Reception(source, emit)


def batch(*times: int) -> Batch:
    return Batch.of(Row(Series.of("a"), 1.0, time, 0, False) for time in times)


async def counts_three_and_emits_one(source: Source, emit: Emit) -> None:
    source.counts.samples += 3
    await emit(batch(1))
    raise ZeroDivisionError("planted")


async def until_left(source: Source, emit: Emit) -> None:
    await source.left.wait()
    await trio.sleep(3)
    source.counts.samples += 1
    await emit(batch(1))


async def for_ever(source: Source, emit: Emit) -> None:
    source.counts.samples += 1
    await trio.sleep_forever()


async def test_a_bug_is_a_failed_poll_and_its_samples_are_booked(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(counts_three_and_emits_one)
    await received(source).poll()
    counts = source.counts
    assert (counts.polls, counts.failed_polls, counts.dropped["bug"], counts.imbalance()) == (1, 1, 2, 0)
    assert "receiver r failed: a bug of this receiver" in caplog.text
    assert "planted" in caplog.text


async def test_a_receive_error_that_gets_through_is_no_bug(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(source: Source, emit: Emit) -> None:
        source.counts.polls += 1
        source.counts.failed_polls += 1
        raise ReceiveError("cannot read http://x: nobody listens; start it")

    source = Source(fails)
    await received(source).poll()
    assert (source.counts.polls, source.counts.failed_polls) == (1, 1)
    with trio.move_on_after(10):
        await received(source).run()
    assert source.runs == 5
    assert [record.getMessage() for record in caplog.records] == [
        "receivers.r: cannot read http://x: nobody listens; start it",
    ] * 2  # once for each of the two lives, not at each restart


async def test_after_a_bug_it_runs_again(autojump_clock: object) -> None:
    source = Source(counts_three_and_emits_one)
    with trio.move_on_after(10):
        await received(source).run()
    assert source.runs == 4  # at 0, 1, 3 and 7 s


async def test_one_that_ends_by_itself_is_not_run_again(caplog: pytest.LogCaptureFixture) -> None:
    async def ends(source: Source, emit: Emit) -> None:
        await trio.lowlevel.checkpoint()

    source = Source(ends)
    await received(source).run()
    assert source.runs == 1
    assert "receiver r has ended by itself; it is not started again" in caplog.text


async def test_one_that_leaves_ends_what_is_under_way(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(until_left, leaves=True)
    reception = received(source)
    nursery.start_soon(reception.run)
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    await reception.retire(patience=10)
    assert trio.current_time() - began == 3
    assert (source.counts.out, source.counts.imbalance(), caplog.text) == (1, 0, "")


@pytest.mark.parametrize(("leaves", "seconds"), [(False, 0), (True, 10)])
async def test_one_that_does_not_is_cancelled(
    autojump_clock: object, nursery: trio.Nursery, leaves: bool, seconds: float
) -> None:
    source = Source(for_ever, leaves)
    reception = received(source)
    nursery.start_soon(reception.run)
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    await reception.retire(patience=10)
    assert trio.current_time() - began == seconds
    assert (source.counts.dropped["shutdown"], source.counts.imbalance()) == (1, 0)


async def test_a_bug_while_leaving_is_not_a_reason_to_start_again(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    async def breaks(source: Source, emit: Emit) -> None:
        await source.left.wait()
        raise ZeroDivisionError("planted")

    source = Source(breaks, leaves=True)
    reception = received(source)
    nursery.start_soon(reception.run)
    await trio.testing.wait_all_tasks_blocked()
    await reception.retire(patience=10)
    assert source.runs == 1


async def test_one_may_leave_before_it_began(autojump_clock: object, nursery: trio.Nursery) -> None:
    source = Source(for_ever)
    reception = received(source)
    nursery.start_soon(reception.run)
    await reception.retire(patience=10)
    assert source.counts.imbalance() == 0
