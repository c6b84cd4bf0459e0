"""Columns of points, and the casual view of them."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import STALE_BITS, STALE_NAN, Arrival, Batch, Row, stale_mask
from agent.native import Exemplar, Extra
from agent.series import Series, SeriesTable

ROWS = st.lists(
    st.builds(
        Row,
        st.sampled_from([Series.of(name) for name in "abcd"]),
        st.floats(allow_nan=False),
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**63 - 1),
        st.booleans(),
    ),
    max_size=8,
)


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def test_only_the_stale_markers_own_bits_are_stale() -> None:
    assert bits(STALE_NAN) == STALE_BITS
    values = np.array([1.0, math.nan, 0.0, math.inf])
    values.view(np.uint64)[2] = STALE_BITS
    assert stale_mask(values).tolist() == [False, False, True, False]


@given(ROWS)
def test_rows_go_in_and_out(rows: list[Row]) -> None:
    batch = Batch.of(rows)
    assert list(batch.rows()) == rows
    assert len(batch) == len(rows)
    assert (batch.stale is not None) == any(row.stale for row in rows)
    assert (batch.values.dtype, batch.times.dtype, batch.starts.dtype) == (np.float64, np.int64, np.int64)


@given(ROWS, st.data())
def test_take_is_indexing(rows: list[Row], data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12) if rows else st.just([]))
    assert list(Batch.of(rows).take(index).rows()) == [rows[i] for i in index]


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_concat_is_one_after_the_other(parts: list[list[Row]]) -> None:
    whole = Batch.concat([Batch.of(part) for part in parts])
    assert list(whole.rows()) == [row for part in parts for row in part]


def test_concat_of_one_is_itself() -> None:
    batch = Batch.of([])
    assert Batch.concat([batch]) is batch


def extra(name: int) -> Extra:
    return Extra(exemplars=(Exemplar(("n", str(name)), float(name), 0),))


def extras(*names: int) -> Batch:
    table = SeriesTable(Series.of("m", {"n": str(name)}) for name in names)
    columns: Any = (np.zeros(len(names)), np.zeros(len(names), np.int64))
    return Batch(table, *columns, extras={row: extra(name) for row, name in enumerate(names) if name})


def test_extras_stay_with_their_rows() -> None:
    assert extras(0, 1, 2).take([2, 0, 1, 1]).extras == {0: extra(2), 2: extra(1), 3: extra(1)}
    assert Batch.concat([extras(0, 1), extras(0, 0), extras(2)]).extras == {1: extra(1), 4: extra(2)}
    assert extras(1).but(values=np.array([5.0])).extras == {0: extra(1)}
    assert extras(0, 1).take([0]).extras is None
    assert extras(0).extras is None


def test_rows_carry_their_extras() -> None:
    batch = extras(0, 1, 2)
    assert [row.extra for row in batch.rows()] == [None, extra(1), extra(2)]
    assert Batch.of(batch.rows()).extras == batch.extras


def test_take_under_a_table_that_is_remembered() -> None:
    batch = Batch.of([Row(Series.of(name), 1.0, 1, 0, False) for name in "ab"])
    table = SeriesTable([Series.of("z")])
    taken = batch.take([1], table)
    assert taken.table is table


def test_but_keeps_the_other_columns() -> None:
    batch = Batch.of([Row(Series.of("a"), 1.0, 2, 3, True)])
    table = SeriesTable([Series.of("b")])
    assert batch.but(table=table).table is table
    assert batch.but(table=table).values is batch.values
    changed = batch.but(values=np.array([9.0]))
    assert list(changed.rows()) == [Row(Series.of("a"), 9.0, 2, 3, True)]
    assert changed.table is batch.table


def test_what_came_together_stays_so_but_where_batches_are_made_anew() -> None:
    batch, arrival = Batch.of([Row(Series.of(name), 1.0, 1, 0, False) for name in "ab"]), Arrival()
    assert batch.together is None
    batch.together = arrival
    assert batch.take([1]).together is batch.but(values=np.zeros(2)).together is arrival
    assert Batch.concat([batch, batch]).together is Batch.of(batch.rows()).together is None


def test_columns_must_have_as_many_rows_as_the_table() -> None:
    table = SeriesTable([Series.of("a")])
    one, two = np.zeros(1), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="cannot make a batch of 1 rows"):
        Batch(table, one, two)
    with pytest.raises(ValueError, match="cannot make a batch"):
        Batch(table, one, two[:1], two)


def test_a_stale_column_without_stale_rows_is_no_column() -> None:
    table = SeriesTable([Series.of("a")])
    batch = Batch(table, np.zeros(1), np.zeros(1, np.int64), stale=np.array([False]))
    assert batch.stale is None
    assert batch.starts.tolist() == [0]


def test_a_stale_column_must_have_as_many_rows_as_the_table() -> None:
    table = SeriesTable([Series.of("a")])
    with pytest.raises(ValueError, match="cannot make a batch"):
        Batch(table, np.zeros(1), np.zeros(1, np.int64), stale=np.array([True, False]))
