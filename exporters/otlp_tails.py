"""Points one behind the other, each with a tail of numbers that are holes; and where these holes lie. Sans-IO.

Strategy. A point is its attributes and its tail. Tails depend on the kind of point, on its bounds or quantiles and on
whether it has a sum; so there are few of them, they are made once, and points with the same layout of holes are one
``Shape``, whose holes are filled all at once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from exporters.otlp_points import COMPOUND, Metric, Point
from exporters.protobuf import length_delimited

Index = npt.NDArray[np.intp]

_HOLE = bytes(8)
# start, time and value of a NumberDataPoint, then its flags; each hole lies one byte behind its tag.
NUMBER_TAIL = b"\x11" + _HOLE + b"\x19" + _HOLE + b"\x21" + _HOLE + b"\x40\x00"
START, TIME, VALUE = 1, 10, 19  # offsets of the holes in the tail, for all three kinds of point
_AFTER_VALUE = 27
SUM = 28  # Histogram and Summary: the hole of the sum, behind that of the count (at VALUE)
_TAILS = 1024  # so many different sets of bounds and quantiles are remembered


@dataclass(frozen=True, slots=True)
class Shape:
    """Points whose tails have the same layout. ``points`` are their numbers in the form, ``tails`` the tails' offsets.

    ``rows`` hold the value of a number, the count of a histogram or summary; ``sum_rows`` is empty where there is no
    sum; ``part_rows`` points x parts. ``parts_at`` is the first part's hole, from the tail, ``stride`` the way to the next.
    """

    data: str  # number, histogram, summary
    points: Index
    tails: Index
    rows: Index
    sum_rows: Index
    part_rows: Index
    parts_at: int
    stride: int
    flags_at: int


class Points:
    """Points as they are written, one behind the other, with nothing around them yet."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._tail_sizes: list[int] = []
        self._rows: list[int] = []  # of all points, one after the other
        self._row_counts: list[int] = []  # of each point
        self._layouts: dict[tuple[str, int, bool], _Layout] = {}

    def write(self, metric: Metric) -> None:
        """Write the points of a metric."""
        if metric.data in COMPOUND:
            for point in metric.points:
                self._write_compound(metric.data, point)
        else:
            self._write_numbers(metric.points)

    def _write_numbers(self, points: list[Point]) -> None:
        first, many = len(self.pieces), len(points)
        rows = [point.row for point in points]
        layout = self._layout("number", 0, False)
        layout.points += range(first, first + many)
        layout.rows += rows
        self.pieces += [length_delimited(1, point.attributes + NUMBER_TAIL) for point in points]
        self._tail_sizes += [len(NUMBER_TAIL)] * many
        self._rows += rows
        self._row_counts += [1] * many

    def _write_compound(self, data: str, point: Point) -> None:
        numbers = sorted(point.parts)
        with_sum = point.sum_row >= 0
        tail = _histogram_tail(tuple(numbers), with_sum) if data == "histogram" else _summary_tail(tuple(numbers))
        layout = self._layout(data, len(numbers), with_sum)
        layout.points.append(len(self.pieces))
        layout.rows.append(point.row)
        if with_sum:
            layout.sum_rows.append(point.sum_row)
        layout.part_rows += map(point.parts.__getitem__, numbers)
        self.pieces.append(length_delimited(1, point.attributes + tail))
        self._tail_sizes.append(len(tail))
        rows = point.rows
        self._rows += rows
        self._row_counts.append(len(rows))

    def _layout(self, data: str, parts: int, with_sum: bool) -> _Layout:
        key = data, parts, with_sum
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = _Layout(*key)
        return layout

    def ends(self) -> Index:
        """Return where each point ends."""
        return np.cumsum(list(map(len, self.pieces)), dtype=np.intp)

    def shapes(self, ends: Index) -> list[Shape]:
        """Return the points' shapes."""
        tails = ends - np.array(self._tail_sizes, np.intp)
        return [layout.shape(tails) for layout in self._layouts.values()]

    def point_of(self, rows: int) -> Index:
        """Return by row of a table of so many its point, -1 where it is in none."""
        found = np.full(rows, -1, np.intp)
        found[self._rows] = np.repeat(np.arange(len(self.pieces)), self._row_counts)
        return found


class _Layout:
    """The points of one layout, while they are written."""

    def __init__(self, data: str, parts: int, with_sum: bool):
        self._kind = data, parts, with_sum
        self.points: list[int] = []
        self.rows: list[int] = []
        self.sum_rows: list[int] = []
        self.part_rows: list[int] = []  # of all points, one after the other

    def shape(self, tails: Index) -> Shape:
        data, parts, with_sum = self._kind
        points = np.array(self.points, np.intp)
        parts_at, stride = (
            (_histogram_parts(parts, with_sum), 8) if data == "histogram" else (_AFTER_VALUE + 9 + 12, 20)
        )
        return Shape(
            data=data,
            points=points,
            tails=tails[points],
            rows=np.array(self.rows, np.intp),
            sum_rows=np.array(self.sum_rows, np.intp),
            part_rows=np.array(self.part_rows, np.intp).reshape(len(points), parts),
            parts_at=parts_at,
            stride=stride,
            flags_at=_flags_at(data, parts, with_sum),
        )


@lru_cache(_TAILS)
def _histogram_tail(bounds: tuple[float, ...], with_sum: bool) -> bytes:
    tail = NUMBER_TAIL[:_AFTER_VALUE]  # start, time, and the count in place of the value: the same tags
    if with_sum:
        tail += b"\x29" + _HOLE
    tail += length_delimited(6, bytes(8 * (len(bounds) + 1)))
    if bounds:
        tail += length_delimited(7, struct.pack(f"<{len(bounds)}d", *bounds))
    return tail + b"\x50\x00"


@lru_cache(_TAILS)
def _summary_tail(quantiles: tuple[float, ...]) -> bytes:
    values = (length_delimited(6, b"\x09" + struct.pack("<d", quantile) + b"\x11" + _HOLE) for quantile in quantiles)
    return NUMBER_TAIL[:_AFTER_VALUE] + b"\x29" + _HOLE + b"".join(values) + b"\x40\x00"


def _histogram_parts(parts: int, with_sum: bool) -> int:
    """Where the first bucket's hole lies: behind the tag and length of the packed counts."""
    size = 8 * (parts + 1)
    return _AFTER_VALUE + 9 * with_sum + len(length_delimited(6, bytes(size))) - size


def _flags_at(data: str, parts: int, with_sum: bool) -> int:
    """Where the hole of the flags lies: at the end of every tail."""
    numbers = (0.0,) * parts
    if data == "histogram":
        return len(_histogram_tail(numbers, with_sum)) - 1
    return len(_summary_tail(numbers) if data == "summary" else NUMBER_TAIL) - 1
