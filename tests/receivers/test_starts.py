"""When streams begin: the rule as a table, and what must hold whatever comes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receivers.memory import EXPIRED, PRESENT, TARGET_WAS_DOWN, Columns
from receivers.starts import track


def one_slot(*, sent: int = -1, value: float = 0.0, start: int = 0, away: int = PRESENT) -> tuple[Columns, int]:
    columns = Columns()
    slot = columns.allocate()
    columns.sent[slot], columns.value[slot], columns.start[slot], columns.away[slot] = sent, value, start, away
    return columns, slot


def tell(columns: Columns, slot: int, value: float, time: int) -> int:
    """Track one point as a receiver does; return its start."""
    track(columns, np.array([slot], np.int32), np.array([value]), np.array([time]))
    columns.sent[slot] = time
    return int(columns.start[slot])


@pytest.mark.parametrize(
    ("start", "away", "value", "began"),
    [
        (0, PRESENT, 5.0, 30),  # first sight
        (0, PRESENT, 0.0, 30),
        (0, EXPIRED, 5.0, 30),
        (0, TARGET_WAS_DOWN, 9.0, 30),
        (10, PRESENT, 5.0, 10),  # goes on
        (10, PRESENT, 9.0, 10),
        (10, PRESENT, 4.0, 20),  # reset: from the previous point on
        (10, PRESENT, 0.0, 20),
        (10, EXPIRED, 4.0, 30),  # came back
        (10, EXPIRED, 5.0, 30),
        (10, EXPIRED, 9.0, 30),
        (10, TARGET_WAS_DOWN, 4.0, 30),
        (10, TARGET_WAS_DOWN, 5.0, 10),  # merely unseen
        (10, TARGET_WAS_DOWN, 9.0, 10),
        (10, PRESENT, math.nan, 10),
    ],
)
def test_the_start_of_a_point_at_30_after_one_of_5_at_20(start: int, away: int, value: float, began: int) -> None:
    columns, slot = one_slot(sent=20, value=5.0, start=start, away=away)
    assert tell(columns, slot, value, 30) == began
    assert columns.away[slot] == PRESENT
    assert columns.value[slot] == value or math.isnan(value)


@pytest.mark.parametrize(
    ("away", "value", "began"), [(PRESENT, 4.0, 30), (PRESENT, 5.0, 10), (TARGET_WAS_DOWN, 4.0, 30)]
)
def test_a_fall_begins_at_its_own_time_where_that_is_asked_for(away: int, value: float, began: int) -> None:
    columns, slot = one_slot(sent=20, value=5.0, start=10, away=away)
    track(columns, np.array([slot], np.int32), np.array([value]), np.array([30]), own_time=True)
    assert columns.start[slot] == began


def test_what_a_slot_held_before_it_was_freed_does_not_matter() -> None:
    columns, slot = one_slot(sent=20, value=5.0, start=10)
    columns.free([slot])
    assert columns.allocate() == slot
    assert tell(columns, slot, 1.0, 30) == 30


def test_only_the_slots_given_are_touched() -> None:
    columns, slot = one_slot(sent=20, value=5.0, start=10, away=EXPIRED)
    other = columns.allocate()
    tell(columns, other, 1.0, 30)
    assert (columns.start[slot], columns.value[slot], columns.away[slot]) == (10, 5.0, EXPIRED)


POINTS = st.lists(
    st.tuples(
        st.integers(1, 100), st.sampled_from([0.0, 1.0, 5.0, 5.5]), st.sampled_from([PRESENT, EXPIRED, TARGET_WAS_DOWN])
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(POINTS)
def test_starts_never_fall_nor_pass_their_point_and_values_rise_from_one_on(
    points: list[tuple[int, float, int]],
) -> None:
    columns, slot = one_slot()
    time = started = previous = 0
    value = math.inf
    for step, now_value, away in points:
        time += step
        columns.away[slot] = away
        start = tell(columns, slot, now_value, time)
        assert started <= start <= time
        if start == started < previous:  # a fall right after the first point begins where that one lies
            assert now_value >= value
        started, value, previous = start, now_value, time


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 2)), min_size=1, max_size=20))
def test_all_slots_at_once_are_as_each_alone(points: list[tuple[float, int]]) -> None:
    together, alone = Columns(), Columns()
    slots = np.array([together.allocate() for _ in points], np.int32)
    assert [alone.allocate() for _ in points] == slots.tolist()
    for columns in (together, alone):
        columns.sent[slots], columns.value[slots], columns.start[slots] = 20, 5.0, 10
        columns.away[slots] = [away for _, away in points]
    track(together, slots, np.array([value for value, _ in points]), np.full(len(points), 30))
    for slot, (value, _) in zip(slots.tolist(), points, strict=True):
        tell(alone, slot, value, 30)
    assert together.start[slots].tolist() == alone.start[slots].tolist()


@pytest.mark.parametrize("value", [4.0, 6.0])
def test_no_stream_begins_after_its_point(value: float) -> None:
    columns, slot = one_slot()
    tell(columns, slot, 5.0, 86_400)
    assert tell(columns, slot, value, 10) <= 10
