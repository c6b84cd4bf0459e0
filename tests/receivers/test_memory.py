"""Slots: fresh ones know nothing, whatever their predecessors knew."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from receivers.memory import EXPIRED, FOLDED, NEVER, POINTS, PRESENT, Columns

FRESH = {
    "used": False,
    "sent": NEVER,
    "seen": NEVER,
    "seen_poll": 0,
    "quiet_since": 0,
    "start": 0,
    "away": PRESENT,
    "fate": POINTS,
    "alive": False,
    "cumulative": False,
    "target": -1,
    "table": -1,
}


def known_of(columns: Columns, slot: int) -> dict[str, object]:
    return {name: getattr(columns, name)[slot].item() for name in FRESH}


def fill(columns: Columns, slot: int) -> None:
    for name in FRESH:
        getattr(columns, name)[slot] = True
    columns.away[slot], columns.fate[slot], columns.head[slot] = EXPIRED, FOLDED, 0
    columns.value[slot] = 7.5


def test_a_fresh_slot_knows_nothing_and_speaks_for_itself() -> None:
    columns = Columns()
    for slot in (columns.allocate() for _ in range(3000)):
        assert known_of(columns, slot) == FRESH
        assert columns.head[slot] == slot


def test_a_freed_slot_comes_again_as_a_fresh_one() -> None:
    columns = Columns()
    slots = [columns.allocate() for _ in range(10)]
    for slot in slots:
        fill(columns, slot)
    size = columns.size
    columns.free(slots[3:6])
    again = [columns.allocate() for _ in range(3)]
    assert sorted(again) == sorted(slots[3:6])
    for slot in again:
        assert known_of(columns, slot) == FRESH
        assert columns.head[slot] == slot
    assert known_of(columns, slots[0]) != FRESH
    assert columns.size == size


def test_freeing_nothing_changes_nothing() -> None:
    columns = Columns()
    slot = columns.allocate()
    columns.free([])
    assert columns.allocate() != slot


def test_growing_keeps_what_is_known() -> None:
    columns = Columns()
    first = columns.allocate()
    fill(columns, first)
    before, size = known_of(columns, first), columns.size
    while columns.size == size:
        columns.allocate()
    assert known_of(columns, first) == before
    assert columns.value[first] == 7.5


def test_all_columns_are_as_long_as_there_are_slots() -> None:
    columns = Columns()
    for _ in range(5000):
        columns.allocate()
    arrays = [value for value in vars(columns).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == len(FRESH) + 2  # value and head
    assert {len(array) for array in arrays} == {columns.size}
    assert 5000 <= columns.size < 10_000


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=100))
def test_no_slot_is_given_out_twice(choices: list[int]) -> None:
    """Each number allocates (even) or frees the slot at that place (odd)."""
    columns = Columns()
    held: list[int] = []
    for choice in choices:
        if choice % 2 and held:
            columns.free([held.pop(choice % len(held))])
        else:
            slot = columns.allocate()
            assert slot not in held
            assert 0 <= slot < columns.size
            held.append(slot)
