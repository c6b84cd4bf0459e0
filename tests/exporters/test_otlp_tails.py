"""Points with their tails: where the holes lie, and which rows fill them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, NumberDataPoint, SummaryDataPoint

from ebbtide import Family
from exporters.otlp_points import Metric, Point
from exporters.otlp_tails import START, SUM, TIME, VALUE, Points, Shape
from exporters.protobuf import fields

LATENCY, GC, OPEN = Family("latency", "histogram"), Family("gc", "summary"), Family("open", "gauge")


def histogram(row: int, *bounds: float, with_sum: bool = True) -> Point:
    parts = {bound: row + 2 + number for number, bound in enumerate(bounds)}
    return Point(b"", row, row + 1 if with_sum else -1, parts, [])


def written(metric: Metric) -> tuple[Points, list[Shape]]:
    points = Points()
    points.write(metric)
    return points, points.shapes(points.ends())


def content(points: Points, holes: dict[int, bytes]) -> bytes:
    """The only point, its holes filled, without what stands before it."""
    body = bytearray(b"".join(points.pieces))
    for at, hole in holes.items():
        assert body[at : at + len(hole)] == bytes(len(hole))
        body[at : at + len(hole)] = hole
    ((_, _, begin, end),) = fields(bytes(body), 0, len(body))
    return bytes(body[begin:end])


def double(value: float) -> bytes:
    return struct.pack("<d", value)


def number(value: int) -> bytes:
    return struct.pack("<Q", value)


def test_numbers() -> None:
    points, (shape,) = written(Metric("open", "gauge", OPEN, [Point(b"", 4)]))
    (tail,) = shape.tails.tolist()
    holes = {tail + START: number(1), tail + TIME: number(2), tail + VALUE: double(2.5), tail + shape.flags_at: b"\1"}
    got = NumberDataPoint.FromString(content(points, holes))
    assert (got.start_time_unix_nano, got.time_unix_nano, got.as_double, got.flags) == (1, 2, 2.5, 1)
    assert (shape.data, shape.rows.tolist(), points.point_of(6).tolist()) == ("number", [4], [-1, -1, -1, -1, 0, -1])


@pytest.mark.parametrize("bounds", [(), (5.0,), (5.0, 1.0, 2.0), tuple(range(40))])
@pytest.mark.parametrize("with_sum", [True, False])
def test_histograms(bounds: tuple[float, ...], with_sum: bool) -> None:
    points, (shape,) = written(Metric("latency", "histogram", LATENCY, [histogram(0, *bounds, with_sum=with_sum)]))
    (tail,) = shape.tails.tolist()
    buckets = [tail + shape.parts_at + shape.stride * n for n in range(len(bounds) + 1)]
    holes = {tail + VALUE: number(7), tail + shape.flags_at: b"\1", **{at: number(n) for n, at in enumerate(buckets)}}
    got = HistogramDataPoint.FromString(content(points, holes | ({tail + SUM: double(0.5)} if with_sum else {})))
    assert (got.count, got.flags, got.HasField("sum"), got.sum) == (7, 1, with_sum, 0.5 * with_sum)
    assert list(got.explicit_bounds) == sorted(bounds)
    assert list(got.bucket_counts) == list(range(len(bounds) + 1))
    assert [bounds[row - 2] for row in shape.part_rows[0].tolist()] == sorted(bounds)
    assert shape.sum_rows.tolist() == [1] * with_sum


def test_summaries() -> None:
    points, (shape,) = written(Metric("gc", "summary", GC, [histogram(0, 0.99, 0.5)]))
    (tail,) = shape.tails.tolist()
    values = [tail + shape.parts_at + shape.stride * n for n in range(2)]
    holes = {tail + SUM: double(3.0), tail + shape.flags_at: b"\1", values[0]: double(1.0), values[1]: double(2.0)}
    got = SummaryDataPoint.FromString(content(points, holes))
    assert [(one.quantile, one.value) for one in got.quantile_values] == [(0.5, 1.0), (0.99, 2.0)]
    assert (got.sum, got.flags) == (3.0, 1)


def test_points_of_one_layout_are_one_shape() -> None:
    """Which numbers the bounds are makes no difference to where the holes lie; how many, and a sum, do."""
    found = [
        histogram(0, 1.0, 2.0),
        histogram(10, 3.0, 4.0),
        histogram(20, 1.0),
        histogram(30, 1.0, 2.0, with_sum=False),
    ]
    points, shapes = written(Metric("latency", "histogram", LATENCY, found))
    assert [shape.points.tolist() for shape in shapes] == [[0, 1], [2], [3]]
    assert [shape.part_rows.tolist() for shape in shapes] == [[[2, 3], [12, 13]], [[22]], [[32, 33]]]
    assert points.point_of(34)[[0, 1, 3, 10, 21, 22, 30, 31, 33]].tolist() == [0, 0, 0, 1, 2, 2, 3, -1, 3]
    assert np.all(np.diff(points.ends()) > 0)
