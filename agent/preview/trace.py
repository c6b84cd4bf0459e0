"""Which row behind a processor was which before it. Sans-IO.

Strategy. A processor is handed a batch and returns another; nobody tells which row is which. What a ``SeriesProcessor``
did is remembered on the series, and looked up. Of any other, rows whose identity did not change are found by it, in
order; those between two such stand for each other where there are as many on both sides, and are called dropped or
added where not. So a pair that is shown is one for certain, or the only one that order allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.batch import Batch
from agent.plugin import Processor, SeriesProcessor
from agent.series import Series

Index = npt.NDArray[np.intp]
ADDED = -1


def origins(processor: Processor[Any], before: Batch, after: Batch) -> Index:
    """Return, by row of ``after``, the row of ``before`` that it was; ``ADDED`` where it was none."""
    if after.table is before.table:
        return np.arange(len(after))
    if isinstance(processor, SeriesProcessor):
        first: dict[Series, int] = {}
        for row, series in enumerate(before.table):
            mapped = series.derive(processor.owner, processor.map_series)
            if mapped is not None:
                first.setdefault(mapped, row)
        if len(after) <= len(first) and all(series in first for series in after.table):
            return np.fromiter((first[series] for series in after.table), np.intp, len(after))
    return _aligned(before.table.series, after.table.series)


def _aligned(before: Sequence[Series], after: Sequence[Series]) -> Index:
    """Align by identity and order. A series that stands twice is found at its first row."""
    found = np.full(len(after), ADDED, np.intp)
    where = {series: row for row, series in reversed(list(enumerate(before)))}
    taken = np.zeros(len(before), np.bool_)
    anchors = [(-1, -1)]
    for row, series in enumerate(after):
        old = where.pop(series, None)
        if old is not None:
            found[row], taken[old] = old, True
            if old > anchors[-1][0]:
                anchors.append((old, row))
    anchors.append((len(before), len(after)))
    for (old, new), (next_old, next_new) in pairwise(anchors):
        left = [row for row in range(old + 1, next_old) if not taken[row]]
        right = [row for row in range(new + 1, next_new) if found[row] == ADDED]
        if len(left) == len(right):
            found[right] = left
    return found
