"""Wholes by their parts: the columns that say how each stands. What goes on, and when: see test_remote_write_memory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ebbtide import Labels, Part
from receivers.remote_write_gather import MOST_AHEAD, Gather, Rows, WrittenColumns

LABELS = Labels.of(("app", "a"))


def rows(*samples: tuple[int, float, int]) -> Rows:
    slots, values, times = zip(*samples, strict=True)
    return Rows(np.array(slots, np.int32), np.array(values), np.array(times, np.int64), np.zeros(len(slots), np.int64))


@pytest.fixture
def gather() -> Gather:
    """One histogram: head 0, bucket 1, count 2, sum 3."""
    columns = WrittenColumns()
    gather = Gather(columns)
    for slot in range(4):
        assert columns.allocate() == slot
    columns.whole[0] = True
    for slot, role, number in ((1, "bucket", math.inf), (2, "count", math.nan), (3, "sum", math.nan)):
        gather.join(0, {slot: Part("x", LABELS, role, number)})  # type: ignore[arg-type]
    return gather


def shown(ready: list[Rows]) -> list[tuple[int, list[int]]]:
    return [(int(one.times[0]), sorted(one.slots.tolist())) for one in ready]


def test_a_whole_is_settled_by_patience_and_complete_from_then_on(gather: Gather) -> None:
    assert gather.take(rows((1, 1.0, 10), (2, 1.0, 10), (3, 1.0, 10)), 100) == []
    assert gather.expire(99) == []
    assert shown(gather.expire(100)) == [(10, [1, 2, 3])]
    assert shown(gather.take(rows((1, 1.0, 20), (2, 1.0, 20), (3, 1.0, 20)), 200)) == [(20, [1, 2, 3])]
    assert (gather.torn, gather.repeated, gather.held) == (0, 0, 0)


def test_the_same_part_again_while_it_is_held_or_kept_is_repeated(gather: Gather) -> None:
    gather.take(rows((1, 1.0, 10), (2, 1.0, 10)), 100)
    gather.take(rows((1, 1.0, 10)), 100)
    gather.take(rows((1, 1.0, 20)), 100)
    gather.take(rows((1, 1.0, 20)), 100)
    assert gather.held == 4
    gather.take(rows((3, 1.0, 10)), 100)
    gather.expire(100)
    gather.expire(2**62)
    assert gather.repeated == 2
    assert gather.held == 0


def test_the_count_speaks(gather: Gather) -> None:
    assert gather.counts(np.array([1, 2, 3], np.int32)).tolist() == [False, True, False]
    assert sorted(gather.parts(0)) == [1, 2, 3]


def test_until_is_the_latest_time_that_is_held(gather: Gather) -> None:
    assert gather.until()[0] == 0
    gather.take(rows((1, 1.0, 10)), 100)
    assert gather.until()[0] == 10
    gather.take(rows((1, 1.0, 30)), 100)
    assert gather.until()[0] == 30


def test_a_part_that_leaves_takes_what_is_held_of_it(gather: Gather) -> None:
    gather.take(rows((1, 1.0, 10), (2, 1.0, 10)), 100)
    assert not gather.leave(0, {1})
    assert (gather.torn, gather.held) == (1, 1)
    gather.take(rows((2, 1.0, 20)), 100)
    assert gather.leave(0, {2, 3})
    assert (gather.torn, gather.held) == (3, 0)


def test_a_whole_that_runs_ahead_for_too_long_is_decided_by_the_next_look_at_the_clock(gather: Gather) -> None:
    gather.take(rows((1, 1.0, 1)), 10**6)
    for number in range(MOST_AHEAD * 3 + 1):
        gather.take(rows((1, 1.0, 2 + number)), 10**6)
    gather.expire(0)
    assert gather.torn == 1
