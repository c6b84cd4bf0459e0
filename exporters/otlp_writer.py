"""Writing a table's points as the bytes of a request, with holes, and noting where everything comes to lie.

Strategy. A ``Form`` is the request's bytes and arrays that say where each point begins and ends, where its tail of holes
lies, and which rows fill it. It is written once, front to back, from points grouped by ``otlp_points``. The form of a table
that was taken from another is *taken* from that one's form: whole points are kept or left out, the runs between them copied
as they are, and only the lengths of the messages around them are written anew; no point is looked at by itself. In the same
way a form is *divided*: what stands around a resource's points is repeated around each run of points that has room.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from ebbtide import AGENT_SCOPE, Bools, Resource, Scope
from exporters.otlp_points import Metric, Point, Scopes
from exporters.protobuf import key_value, length_delimited, string_field, tag, varint

Index = npt.NDArray[np.intp]

_CUMULATIVE = b"\x10\x02"  # aggregation_temporality = 2 in Sum and Histogram
_MONOTONIC = b"\x18\x01"  # is_monotonic = true in Sum
_DATA_FIELD = {"gauge": 5, "sum": 7, "histogram": 9, "exponential_histogram": 10, "summary": 11}  # in Metric

MOST_FRAMING = 6  # bytes of a message's tag and length at most: field numbers are below 16, lengths below 2**35

_HOLE = bytes(8)
# start, time and value of a NumberDataPoint, then its flags; each hole lies one byte behind its tag.
NUMBER_TAIL = b"\x11" + _HOLE + b"\x19" + _HOLE + b"\x21" + _HOLE + b"\x40\x00"
START, TIME, VALUE = 1, 10, 19  # offsets of the holes in the tail, for all three kinds of point
_AFTER_VALUE = 27
SUM = 28  # Histogram and Summary: the hole of the sum, behind that of the count (at VALUE)


@dataclass(frozen=True, slots=True)
class Segment:
    """One ResourceMetrics within a request: its bytes ``start:end``, which are a request of their own."""

    resource: Resource
    start: int
    end: int
    points: int
    samples: int


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


@dataclass(frozen=True, slots=True)
class MetricFrame:
    """What stands around the points ``first:last`` of a metric."""

    head: bytes
    data_field: int
    after: bytes
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around the metrics of a resource."""

    resource: Resource
    head: bytes
    scopes: list[tuple[bytes, bytes, list[MetricFrame]]]  # before the metrics, behind them


@dataclass(frozen=True, slots=True)
class Form:
    """The bytes of a table's request. ``point_of`` row -> its point, -1 where it has none.

    ``starts`` and ``ends`` say by a point's number where it lies. In a form that was taken from another, points keep their
    numbers, ``frames`` are empty and nothing is taken from it in turn.
    """

    body: bytes
    segments: list[Segment]
    shapes: list[Shape]
    frames: list[_Frame]
    starts: Index
    ends: Index
    point_of: Index
    points: int  # how many there are

    @property
    def samples(self) -> int:
        """How many rows they stand for."""
        return int((self.point_of >= 0).sum())


def write(groups: dict[Resource, Scopes], rows: int) -> Form:
    """Write the points of a table of ``rows`` rows."""
    point_of = np.full(rows, -1, np.intp)
    pieces: list[bytes] = []
    tails: list[int] = []  # from the point's start
    layouts: dict[tuple[str, int, bool], list[tuple[int, Point]]] = defaultdict(list)
    frames = []
    for resource, scopes in groups.items():
        framed = []
        for scope, metrics in scopes.items():
            inside = []
            for metric in metrics:
                first = len(pieces)
                for point in metric.points:
                    point_of[point.rows] = len(pieces)
                    layouts[_layout(metric.data, point)].append((len(pieces), point))
                    tail = _tail(metric.data, point)
                    head = tag(1) + varint(len(point.attributes) + len(tail)) + point.attributes
                    tails.append(len(head))
                    pieces.append(head + tail)
                inside.append(metric_frame(metric, first, len(pieces)))
            framed.append((scope_head(scope), string_field(3, scope.schema_url), inside))
        frames.append(_Frame(resource, resource_head(resource), framed))
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.intp)
    starts = ends - np.array([len(piece) for piece in pieces], np.intp)
    shapes = [_shape(data, points) for (data, _, _), points in layouts.items()]
    loose = Form(b"".join(pieces), [], shapes, frames, starts, ends, point_of, len(pieces))
    return _assemble(loose, np.ones(len(pieces), np.bool_), point_of, np.array(tails, np.intp))


def take(form: Form, rows: Index) -> Form | None:
    """Return the form of a table of these rows of the form's table; None where a point would lose some of its rows."""
    if not form.frames:
        return None
    size = len(form.point_of)
    place = np.full(size, -1, np.intp)
    place[rows] = np.arange(len(rows))
    point_of = form.point_of[rows]
    with_point = form.point_of[form.point_of >= 0]
    before = np.bincount(with_point, minlength=form.points)
    after = np.bincount(point_of[point_of >= 0], minlength=form.points)
    kept = after > 0
    if (after[kept] != before[kept]).any():
        return None
    shapes = [moved for shape in form.shapes if (moved := _moved(shape, kept, place)) is not None]
    return _assemble(replace(form, shapes=shapes), kept, point_of)


def divide(form: Form, room: Callable[[Resource], int]) -> Form:
    """Return the form in segments of at most ``room(resource)`` bytes, cut by metric, then by point.

    A point that is larger is a segment by itself. Not for a form that was taken from another.
    """
    frames = [
        part
        for frame, segment in zip(form.frames, form.segments, strict=True)
        for part in _divided(form, frame, segment, room(frame.resource))
    ]
    if len(frames) == len(form.frames):
        return form
    return _assemble(replace(form, frames=frames), np.ones(form.points, np.bool_), form.point_of)


def _divided(form: Form, frame: _Frame, segment: Segment, room: int) -> list[_Frame]:
    """Deal out the points of a frame, in order, to frames of at most ``room`` bytes."""
    if segment.end - segment.start <= room:
        return [frame]
    empty = room - len(frame.head) - MOST_FRAMING
    parts: list[_Frame] = []
    scopes: list[tuple[bytes, bytes, list[MetricFrame]]] = []
    left = empty
    for first, last, metrics in frame.scopes:
        opened = False
        for metric in metrics:
            around = len(metric.head) + len(metric.after) + 2 * MOST_FRAMING
            begin = metric.first
            while begin < metric.last:
                above = around if opened else around + len(first) + len(last) + MOST_FRAMING
                reach = int(form.starts[begin]) + left - above
                end = min(int(np.searchsorted(form.ends, reach, "right")), metric.last)
                if end <= begin and scopes:
                    parts.append(replace(frame, scopes=scopes))
                    scopes, opened, left = [], False, empty
                    continue
                end = max(end, begin + 1)
                if not opened:
                    scopes.append((first, last, []))
                    opened = True
                scopes[-1][2].append(replace(metric, first=begin, last=end))
                left -= above + int(form.ends[end - 1] - form.starts[begin])
                begin = end
    return [*parts, replace(frame, scopes=scopes)]


def _moved(shape: Shape, kept: Bools, place: Index) -> Shape | None:
    """Leave the shape's points that are not kept; its rows are where ``place`` says."""
    left = kept[shape.points]
    if not left.any():
        return None
    sums = shape.sum_rows if not len(shape.sum_rows) else place[shape.sum_rows[left]]
    return replace(
        shape,
        points=shape.points[left],
        tails=shape.tails[left],
        rows=place[shape.rows[left]],
        sum_rows=sums,
        part_rows=place[shape.part_rows[left]],
    )


def _assemble(form: Form, kept: Bools, point_of: Index, within: Index | None = None) -> Form:
    """Frame the kept points of a form anew. ``within``: offsets of the tails in their points, where not yet in shapes."""
    sizes = np.where(kept, form.ends - form.starts, 0)
    total = np.concatenate(([0], np.cumsum(sizes)))
    count = np.concatenate(([0], np.cumsum(kept)))
    samples = np.bincount(point_of[point_of >= 0], minlength=len(kept))
    sampled = np.concatenate(([0], np.cumsum(samples)))
    out = _Out()
    bases = np.zeros(len(kept), np.intp)  # what to add to a point's place among the kept ones
    segments = []
    for frame in form.frames:
        began = out.size
        scopes = [
            (first, last, left)
            for first, last, metrics in frame.scopes
            if (left := [m for m in metrics if count[m.last] > count[m.first]])
        ]
        if not scopes:
            continue
        _open_resource(out, frame.head, scopes, total)
        for first, last, metrics in scopes:
            out.write(tag(2), varint(_scope_size(first, last, metrics, total)), first)
            for metric in metrics:
                out.open_metric(metric, int(total[metric.last] - total[metric.first]))
                bases[metric.first : metric.last] = out.size - total[metric.first]
                out.copy(form, kept, metric.first, metric.last)
                out.write(metric.after)
            out.write(last)
        inside = [(m.first, m.last) for _, _, metrics in scopes for m in metrics]
        points = sum(int(count[last] - count[first]) for first, last in inside)
        rows = sum(int(sampled[last] - sampled[first]) for first, last in inside)
        segments.append(Segment(frame.resource, began, out.size, points, rows))
    starts = total[:-1] + bases
    shapes = []
    for shape in form.shapes:
        tail = within[shape.points] if within is not None else shape.tails - form.starts[shape.points]
        shapes.append(replace(shape, tails=starts[shape.points] + tail))
    frames = form.frames if kept.all() else []
    return Form(b"".join(out.pieces), segments, shapes, frames, starts, starts + sizes, point_of, int(count[-1]))


class _Out:
    """Bytes written so far."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0

    def write(self, *pieces: bytes) -> None:
        self.pieces += pieces
        self.size += sum(map(len, pieces))

    def open_metric(self, metric: MetricFrame, points_size: int) -> None:
        data_size = points_size + len(metric.after)
        size = len(metric.head) + _framed(metric.data_field, data_size)
        self.write(tag(2), varint(size), metric.head, tag(metric.data_field), varint(data_size))

    def copy(self, form: Form, kept: Bools, first: int, last: int) -> None:
        """Copy the kept points ``first:last`` run by run."""
        edges = np.flatnonzero(np.diff(kept[first:last], prepend=False, append=False)) + first
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            self.write(form.body[form.starts[begin] : form.ends[end - 1]])


def _open_resource(out: _Out, head: bytes, scopes: list[tuple[bytes, bytes, list[MetricFrame]]], total: Index) -> None:
    size = len(head) + sum(_framed(2, _scope_size(first, last, metrics, total)) for first, last, metrics in scopes)
    out.write(tag(1), varint(size), head)


def _scope_size(first: bytes, last: bytes, metrics: list[MetricFrame], total: Index) -> int:
    size = len(first) + len(last)
    for metric in metrics:
        data_size = int(total[metric.last] - total[metric.first]) + len(metric.after)
        size += _framed(2, len(metric.head) + _framed(metric.data_field, data_size))
    return size


def _framed(field: int, size: int) -> int:
    """The size of a message of ``size`` bytes as a field."""
    return len(tag(field)) + len(varint(size)) + size


def resource_head(resource: Resource) -> bytes:
    """Encode what stands before a resource's metrics."""
    attributes = b"".join(length_delimited(1, key_value(*pair)) for pair in resource.attributes)
    return length_delimited(1, attributes) if attributes else b""


@cache
def _release() -> str:
    """Return this agent's version; finding it out opens files."""
    return version("ebbtide")


def scope_head(scope: Scope) -> bytes:
    """Encode what stands before a scope's metrics; behind them follows its schema URL, field 3."""
    name, release = (scope.name, scope.version) if scope is not AGENT_SCOPE else ("ebbtide", _release())
    attributes = b"".join(length_delimited(3, key_value(*pair)) for pair in scope.attributes)
    return length_delimited(1, string_field(1, name) + string_field(2, release) + attributes)


def metric_frame(metric: Metric, first: int, last: int) -> MetricFrame:
    """Return what stands around the points ``first:last`` of a metric."""
    family = metric.family
    head = string_field(1, metric.name) + string_field(2, family.help) + string_field(3, family.unit)
    head += length_delimited(12, key_value("prometheus.type", family.kind))
    if metric.data == "sum":
        after = _CUMULATIVE + (_MONOTONIC if family.kind == "counter" else b"")
    else:
        after = _CUMULATIVE if metric.data.endswith("histogram") else b""
    return MetricFrame(head, _DATA_FIELD[metric.data], after, first, last)


def _layout(data: str, point: Point) -> tuple[str, int, bool]:
    """What decides where the holes lie in a point's tail."""
    if data in ("histogram", "summary"):
        return data, len(point.parts), point.sum_row >= 0
    return "number", 0, False


def _tail(data: str, point: Point) -> bytes:
    """What stands behind a point's attributes: the tags of its numbers, with holes for them."""
    if data == "histogram":
        return _histogram_tail(tuple(sorted(point.parts)), point.sum_row >= 0)
    if data == "summary":
        return _summary_tail(tuple(sorted(point.parts)))
    return NUMBER_TAIL


def _histogram_tail(bounds: tuple[float, ...], with_sum: bool) -> bytes:
    tail = NUMBER_TAIL[:_AFTER_VALUE]  # start, time, and the count in place of the value: the same tags
    if with_sum:
        tail += b"\x29" + _HOLE
    tail += length_delimited(6, bytes(8 * (len(bounds) + 1)))
    if bounds:
        tail += length_delimited(7, struct.pack(f"<{len(bounds)}d", *bounds))
    return tail + b"\x50\x00"


def _summary_tail(quantiles: tuple[float, ...]) -> bytes:
    values = (length_delimited(6, b"\x09" + struct.pack("<d", quantile) + b"\x11" + _HOLE) for quantile in quantiles)
    return NUMBER_TAIL[:_AFTER_VALUE] + b"\x29" + _HOLE + b"".join(values) + b"\x40\x00"


def _shape(data: str, points: list[tuple[int, Point]]) -> Shape:
    """Describe points of one layout by arrays; where their tails lie is known later."""
    first = points[0][1]
    with_sum = data != "number" and first.sum_row >= 0
    parts = len(first.parts)
    if data == "histogram":
        packed = len(length_delimited(6, bytes(8 * (parts + 1)))) - 8 * (parts + 1)
        parts_at, stride = _AFTER_VALUE + 9 * with_sum + packed, 8
    else:
        parts_at, stride = _AFTER_VALUE + 9 + 12, 20
    part_rows = [[point.parts[number] for number in sorted(point.parts)] for _, point in points]
    return Shape(
        data=data,
        points=np.array([number for number, _ in points], np.intp),
        tails=np.zeros(len(points), np.intp),
        rows=np.array([point.row for _, point in points], np.intp),
        sum_rows=np.array([point.sum_row for _, point in points] if with_sum else [], np.intp),
        part_rows=np.array(part_rows, np.intp).reshape(len(points), parts),
        parts_at=parts_at,
        stride=stride,
        flags_at=len(_tail(data, first)) - 1,
    )
