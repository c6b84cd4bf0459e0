"""The buckets of an exponential histogram as intervals between bounds, for eyes. Sans-IO."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ebbtide import upper_bound

MOST_MERGES = 32
"""After so many, all buckets on one side of 1 are one: their indexes have 32 bits."""


class Cell(NamedTuple):
    """Observations above ``lower`` and up to ``upper``; below 0 the lower bound is the one that belongs to it."""

    lower: float
    upper: float
    observed: int


def cells_of(point: Any, most: int = sys.maxsize) -> list[Cell]:
    """Return the buckets of an ExponentialHistogramDataPoint that are not empty, in rising order.

    Neighbours are merged, pair by pair as a coarser scale would, until there are no more than ``most``, if that can be:
    what is above 1, below 1, and their negatives are never in one bucket.
    """
    sides = [
        {index: count for index, count in enumerate(side.bucket_counts, side.offset) if count}
        for side in (point.negative, point.positive)
    ]
    scale = point.scale
    for _ in range(MOST_MERGES):
        if sum(map(len, sides)) + bool(point.zero_count) <= most:
            break
        sides = [_halved(side) for side in sides]
        scale -= 1
    return [*_cells(sides[0], sides[1], scale, point)]


def _halved(side: dict[int, int]) -> dict[int, int]:
    merged: dict[int, int] = {}
    for index, count in side.items():
        merged[index >> 1] = merged.get(index >> 1, 0) + count
    return merged


def _cells(negative: dict[int, int], positive: dict[int, int], scale: int, point: Any) -> Iterator[Cell]:
    for index in sorted(negative, reverse=True):
        yield Cell(-upper_bound(index + 1, scale), -upper_bound(index, scale), negative[index])
    if point.zero_count:
        yield Cell(-point.zero_threshold, point.zero_threshold, point.zero_count)
    for index in sorted(positive):
        yield Cell(upper_bound(index, scale), upper_bound(index + 1, scale), positive[index])


def estimate(rank: float, cells: Sequence[Cell]) -> float | None:
    """Estimate a quantile as PromQL's histogram_quantile does for native histograms: exponentially within a bucket."""
    total = sum(cell.observed for cell in cells)
    if not total:
        return None
    target, reached, cell = rank * total, 0, cells[-1]
    for cell in cells:
        if reached + cell.observed >= target:
            break
        reached += cell.observed
    within = (target - reached) / cell.observed
    lower, upper = cell.lower, cell.upper
    if lower < 0 < upper and len(cells) > 1:  # the zero bucket, with nothing on one side of it
        lower, upper = 0.0 if cell is cells[0] else lower, 0.0 if cell is cells[-1] else upper
    if lower * upper > 0 and math.isfinite(lower) and math.isfinite(upper):
        return math.copysign(abs(lower) ** (1 - within) * abs(upper) ** within, lower)
    return lower + (upper - lower) * within
