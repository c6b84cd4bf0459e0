"""Which series go out together, and which tables survive births and deaths."""

from __future__ import annotations

import random
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide import Batch, Series, SeriesTable
from receivers.memory import Columns
from receivers.tables import ROWS, SMALL, SMALL_TABLES, WORTH_KEEPING, Tables

NAMES = count()


class House:
    """Tables over columns, and what is in them."""

    def __init__(self) -> None:
        self.columns = Columns()
        self.series: list[Series | None] = []
        self.tables = Tables(self.columns, self.series)
        self.alive: set[int] = set()

    def birth(self, rows: int, target: int = 0, wholes: int = 1) -> list[int]:
        """Bear so many series of one target, ``wholes`` of them to a histogram each; they are not held yet."""
        slots = [self.columns.allocate() for _ in range(rows)]
        self.series += [None] * (self.columns.size - len(self.series))
        for place, slot in enumerate(slots):
            self.series[slot] = Series.of(f"s{next(NAMES)}")
            self.columns.target[slot] = target
            self.columns.head[slot] = slots[place - place % wholes]
        self.alive.update(slots)
        return slots

    def hold(self, *births: list[int]) -> None:
        self.tables.hold([slot for slots in births for slot in slots])

    def death(self, slots: list[int]) -> None:
        self.tables.withdraw(slots)
        for slot in slots:
            self.series[slot] = None
        self.columns.free(slots)
        self.alive.difference_update(slots)

    def batches(self, out: set[int] | None = None) -> list[Batch]:
        """Return the batches of these slots (else of all); values are the slots, times and starts follow from them."""
        mask = np.zeros(self.columns.size, np.bool_)
        mask[list(self.alive if out is None else out)] = True
        numbers = np.arange(self.columns.size)
        batches = list(self.tables.batches(mask, numbers.astype(np.float64), numbers * 10, numbers * 100))
        for batch in batches:
            slots = batch.values.astype(int)
            assert [self.series[slot] for slot in slots.tolist()] == list(batch.table)
            assert (batch.times == slots * 10).all()
            assert (batch.starts == slots * 100).all()
        return batches

    def sizes(self) -> list[int]:
        return sorted(map(len, self.batches()))


def tables_of(batches: list[Batch]) -> list[SeriesTable]:
    return [batch.table for batch in batches]


def slots_of(batches: list[Batch]) -> list[int]:
    return sorted(int(slot) for batch in batches for slot in batch.values)


def test_a_steady_form_is_the_same_table() -> None:
    house = House()
    house.hold(house.birth(50), house.birth(50, target=1))
    (first,), (second,) = tables_of(house.batches()), tables_of(house.batches())
    assert first is second
    assert first.origin is None


def test_nothing_marked_is_no_batch() -> None:
    house = House()
    assert house.batches() == []
    house.hold(house.birth(5))
    assert house.batches(set()) == []
    house.hold([])
    assert len(house.batches()) == 1


def test_births_make_new_tables_and_leave_the_others_alone() -> None:
    house = House()
    house.hold(house.birth(30))
    old = tables_of(house.batches())
    house.hold(house.birth(3))
    assert tables_of(house.batches())[:1] == old
    assert house.sizes() == [3, 30]


def test_a_part_is_taken_and_remembered_while_it_comes_again() -> None:
    house = House()
    slots = house.birth(10)
    house.hold(slots)
    (whole,) = tables_of(house.batches())
    (part,) = tables_of(house.batches(set(slots[2:5])))
    assert part.origin is not None
    assert part.origin[0] is whole
    assert part.origin[1].tolist() == [2, 3, 4]
    assert tables_of(house.batches(set(slots[2:5]))) == [part]
    assert tables_of(house.batches(set(slots[1:5]))) != [part]
    assert tables_of(house.batches()) == [whole]


def test_no_table_is_larger_than_the_bound() -> None:
    house = House()
    house.hold(*(house.birth(1000, target) for target in range(10)))
    assert sum(house.sizes()) == 10_000
    assert max(house.sizes()) <= ROWS
    assert min(house.sizes()) > SMALL


def test_targets_stay_together_while_they_fit() -> None:
    house = House()
    births = {target: house.birth(1500, target) for target in range(5)}
    house.hold([slot for group in zip(*births.values(), strict=True) for slot in group])  # their rows are mixed
    for slots in births.values():
        assert len({int(house.columns.table[slot]) for slot in slots}) == 1


def test_a_large_target_is_cut_between_histograms() -> None:
    house = House()
    slots = house.birth(28 * 400, wholes=28)
    mixed = slots[:]
    random.Random(7).shuffle(mixed)
    house.hold(mixed)
    assert max(house.sizes()) <= ROWS
    assert len(house.sizes()) == 3
    for begin in range(0, len(slots), 28):
        assert len(set(house.columns.table[slots[begin : begin + 28]].tolist())) == 1


def test_a_histogram_larger_than_a_table_stays_whole() -> None:
    house = House()
    house.hold(house.birth(2 * ROWS, wholes=2 * ROWS), house.birth(5, target=1))
    assert house.sizes() == [5, 2 * ROWS]


def test_deaths_shrink_only_the_tables_they_touch() -> None:
    house = House()
    first, second = house.birth(100), house.birth(100)
    house.hold(first)
    house.hold(second)
    born, other = tables_of(house.batches())
    house.death(first[:3])
    left = {len(table): table for table in tables_of(house.batches())}
    assert left[100] is other
    assert left[97].origin is not None
    assert left[97].origin[0] is born


def test_a_table_that_lost_much_is_made_anew() -> None:
    house = House()
    slots = house.birth(100)
    house.hold(slots)
    (born,) = tables_of(house.batches())
    kept = round(100 * WORTH_KEEPING)
    for gone in range(100):
        house.death([slots[gone]])
        left = 100 - gone - 1
        if left > kept:
            (table,) = tables_of(house.batches())
            assert table.origin is not None
            assert table.origin[0] is born  # at once from the first table, however many deaths there were
            assert table.origin[1].tolist() == list(range(gone + 1, 100))
        elif left == kept:
            (table,) = tables_of(house.batches())
            assert table.origin is None
    assert house.batches() == []


def test_the_dead_leave_no_table_behind() -> None:
    house = House()
    slots = house.birth(10)
    house.hold(slots)
    house.death(slots)
    assert house.batches() == []
    assert set(house.columns.table.tolist()) == {-1}


def test_withdrawing_what_is_in_no_table_is_harmless() -> None:
    house = House()
    lone = house.birth(2)
    house.hold(house.birth(3))
    before = tables_of(house.batches())
    house.tables.withdraw(lone)
    house.tables.withdraw([])
    assert tables_of(house.batches()) == before


def test_many_small_tables_are_merged_and_large_ones_left_alone() -> None:
    house = House()
    house.hold(house.birth(2 * SMALL))
    (large,) = tables_of(house.batches())
    for number in range(SMALL_TABLES):
        house.hold(house.birth(2, target=number))
    assert len(house.batches()) == SMALL_TABLES + 1
    house.hold(house.birth(2, target=99))
    assert house.sizes() == [2 * (SMALL_TABLES + 1), 2 * SMALL]
    assert large in tables_of(house.batches())


def test_merging_ends_where_large_targets_part_the_small() -> None:
    house = House()
    for _ in range(5):
        for target in range(SMALL_TABLES + 4):
            rows = 1 if target % 2 else SMALL - 1
            house.hold(house.birth(rows, target))
    assert slots_of(house.batches()) == sorted(house.alive)
    assert len(house.batches()) <= SMALL_TABLES + len(house.alive) // SMALL


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_batches_cover_what_is_marked_once_whatever_was_born_and_died(seed: int) -> None:
    rng = random.Random(seed)
    house = House()
    wholes: list[list[int]] = []
    for _ in range(rng.randrange(1, 30)):
        if rng.random() < 0.6 or not wholes:
            births = [
                house.birth(size := rng.choice([1, 3, 28, 300]), rng.randrange(4), size)
                for _ in range(rng.randrange(1, 4))
            ]
            wholes += births
            house.hold(*births)
        else:
            house.death(wholes.pop(rng.randrange(len(wholes))))
        marked = {slot for whole in wholes if rng.random() < 0.7 for slot in whole}
        batches = house.batches(marked)
        assert slots_of(batches) == sorted(marked)
        assert all(len(set(house.columns.table[whole].tolist())) == 1 for whole in wholes)
        assert max(map(len, house.batches()), default=0) <= ROWS
        assert slots_of(house.batches()) == sorted(house.alive)


@pytest.mark.parametrize("rows", [1, ROWS - 1, ROWS, ROWS + 1])
def test_the_bound_itself(rows: int) -> None:
    house = House()
    house.hold(house.birth(rows))
    assert house.sizes() == ([rows] if rows <= ROWS else [1, ROWS])
