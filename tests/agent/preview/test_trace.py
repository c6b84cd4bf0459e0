"""Rows are followed through every kind of processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import Arrival, Batch, Floats, Ints, Row
from agent.plugin import Processor, RowProcessor, SeriesProcessor, ValueProcessor
from agent.preview.trace import ADDED, origins
from agent.series import Series


def batch(*names: str) -> Batch:
    return Batch.of(Row(Series.of(name), float(index), 0, 0, False) for index, name in enumerate(names))


class Short(SeriesProcessor[Any]):
    """Drops what begins with "x", and cuts names to their first letter."""

    def map_series(self, series: Series) -> Series | None:
        return None if series.name.startswith("x") else series.but(name=series.name[:1])


class Double(ValueProcessor[Any]):
    """Doubles everything."""

    def wants(self, series: Series) -> bool:
        return True

    def map_values(self, values: Floats, times: Ints) -> Floats:
        return 2 * values


class Upper(RowProcessor[Any]):
    """Drops what begins with "x", and writes "u" names in capitals."""

    def map_row(self, row: Row) -> Row | None:
        if row.series.name.startswith("x"):
            return None
        name = row.series.name.upper() if row.series.name.startswith("u") else row.series.name
        return Row(row.series.but(name=name), row.value, row.time, row.start, row.stale)


class Reverse(Processor[Any]):
    """The last becomes the first."""

    def process(self, batch: Batch) -> Batch | None:
        return batch.take(np.arange(len(batch))[::-1])


class Sum(Processor[Any]):
    """All rows become one that was none of them."""

    def process(self, batch: Batch) -> Batch | None:
        return Batch.of([Row(Series.of("sum"), float(batch.values.sum()), 0, 0, False)])


@pytest.mark.parametrize(
    ("processor", "names", "expected"),
    [
        (Short(), ["a", "xa", "bb", "b"], [0, 2]),
        (Double(), ["a", "b"], [0, 1]),
        (Upper(), ["a", "ua", "b", "xa", "c"], [0, 1, 2, 4]),
        (Upper(), ["ua", "ub"], [0, 1]),
        (Upper(), ["ua", "xa", "b"], [ADDED, 2]),  # which of the two before b it was nobody can tell
        (Reverse(), ["a", "b", "c"], [2, 1, 0]),
        (Sum(), ["a", "b"], [ADDED]),
        (Sum(), ["a"], [0]),
    ],
)
def test_origins(processor: Processor[Any], names: list[str], expected: list[int]) -> None:
    before = batch(*names)
    after = processor.process(before)
    assert after is not None
    assert origins(processor, before, after).tolist() == expected


def test_rows_that_another_batch_of_the_page_took_the_place_of_are_dropped() -> None:
    processor, arrival = Short(), Arrival()
    pages = [batch("aa", "b"), batch("b1", "xb", "c", "a")]
    for page in pages:
        page.together = arrival
    first, second = map(processor.process, pages)
    assert first is not None
    assert second is not None
    assert origins(processor, pages[0], first).tolist() == [0, 1]
    assert origins(processor, pages[1], second).tolist() == [2]


@given(st.lists(st.sampled_from([f"{letter}{n}" for letter in "abx" for n in range(9)]), unique=True))
def test_a_series_processor_is_followed_exactly(names: list[str]) -> None:
    processor, before = Short(), batch(*names)
    after = processor.process(before)
    if after is not None:
        rows = origins(processor, before, after)
        assert [before.values[row] for row in rows] == after.values.tolist()


@given(st.lists(st.sampled_from([f"{letter}{n}" for letter in "aux" for n in range(9)]), unique=True))
def test_of_any_other_no_row_is_taken_for_a_wrong_one_of_the_same_name(names: list[str]) -> None:
    processor, before = Upper(), batch(*names)
    after = processor.process(before)
    if after is not None:
        rows = origins(processor, before, after).tolist()
        known = [row for row in rows if row != ADDED]
        assert len(set(known)) == len(known)
        for row, series in zip(rows, after.table, strict=True):
            if series.name.islower():
                assert names[row] == series.name
