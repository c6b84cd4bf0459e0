"""Buckets of exponential histograms between their bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint

from exporters.text_cells import Cell, cells_of, estimate


def point(scale: int = 0, zero: int = 0, threshold: float = 0.0, **sides: tuple[int, list[int]]) -> Any:
    made = ExponentialHistogramDataPoint(scale=scale, zero_count=zero, zero_threshold=threshold)
    for name, (offset, counts) in sides.items():
        side = getattr(made, name)
        side.offset = offset
        side.bucket_counts.extend(counts)
    return made


@pytest.mark.parametrize(
    ("given_point", "cells"),
    [
        (point(), []),
        (point(positive=(0, [3, 0, 1])), [(1, 2, 3), (4, 8, 1)]),
        (point(positive=(-1, [2])), [(0.5, 1, 2)]),
        (point(scale=1, positive=(0, [1])), [(1, math.sqrt(2), 1)]),
        (point(scale=-2, positive=(0, [1])), [(1, 16, 1)]),
        (point(zero=5, threshold=0.25, negative=(0, [1, 2]), positive=(3, [4])),
         [(-4, -2, 2), (-2, -1, 1), (-0.25, 0.25, 5), (8, 16, 4)]),
        (point(positive=(1023, [7])), [(2.0**1023, math.nextafter(math.inf, 0), 7)]),
        (point(scale=20, positive=(2**31 - 1, [7])), [(math.inf, math.inf, 7)]),
    ],
)  # fmt: skip
def test_cells(given_point: Any, cells: list[tuple[float, float, int]]) -> None:
    assert cells_of(given_point) == [pytest.approx(Cell(*cell)) for cell in cells]


COUNTS = st.lists(st.integers(0, 5), max_size=40)


@given(st.integers(-10, 20), st.integers(0, 5), st.integers(-100, 100), COUNTS, COUNTS, st.integers(1, 12))
def test_merging_keeps_counts_and_order(
    scale: int, zero: int, offset: int, positive: list[int], negative: list[int], most: int
) -> None:
    whole = point(scale, zero, 1e-30, positive=(offset, positive), negative=(-offset, negative))
    merged = cells_of(whole, most)
    assert sum(cell.observed for cell in merged) == zero + sum(positive) + sum(negative)
    assert len(merged) <= max(most, 5)  # what is on either side of 1, of -1, and of 0 stays apart
    lowers = [cell.lower for cell in merged if cell.upper != 1e-30]  # the zero bucket may reach over others
    assert sorted(lowers) == lowers
    inside = [*cells_of(whole)]
    assert all(any(cell.lower <= one.lower and one.upper <= cell.upper for cell in merged) for one in inside)


@pytest.mark.parametrize(
    ("cells", "rank", "value"),
    [
        ([], 0.5, None),
        ([Cell(1, 4, 2)], 0.5, 2.0),
        ([Cell(-4, -1, 2)], 0.5, -2.0),
        ([Cell(1, 2, 1), Cell(2, 4, 1)], 0.5, 2.0),
        ([Cell(-0.5, 0.5, 4)], 0.25, -0.25),
        ([Cell(-0.5, 0.5, 4), Cell(1, 2, 4)], 0.25, 0.25),
        ([Cell(-2, -1, 4), Cell(-0.5, 0.5, 4)], 0.75, -0.25),
        ([Cell(1, math.inf, 4)], 0.5, math.inf),
        ([Cell(0, 1, 4)], 0.5, 0.5),
    ],
)
def test_estimates_are_promqls(cells: list[Cell], rank: float, value: float | None) -> None:
    assert estimate(rank, cells) == (None if value is None else pytest.approx(value))
