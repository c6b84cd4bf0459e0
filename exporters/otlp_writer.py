"""Writing a table's points as the bytes of a request, with holes, and noting where everything comes to lie.

Strategy. A ``Form`` is the request's bytes and arrays that say where each point begins and ends, where its tail of holes
lies, and which rows fill it. It is written once, front to back, from points grouped by ``otlp_points``. The form of a table
that was taken from another is *taken* from that one's form: whole points are left out (``otlp_nesting``), so that it costs
what is left out, and little for what stays. A form is *divided* by repeating what stands around a resource's points around
each run of points that has room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from ebbtide import Bools, Owner, Resource, Scope
from exporters.otlp_nesting import DATA, METRIC, RESOURCE, SCOPE, Edits, Nesting
from exporters.otlp_points import Metric, Scopes
from exporters.otlp_tails import Points, Shape
from exporters.protobuf import MOST_FRAMING, key_value, length_delimited, string_field, tag, varint

Index = npt.NDArray[np.intp]

_CUMULATIVE = b"\x10\x02"  # aggregation_temporality = 2 in Sum and Histogram
_MONOTONIC = b"\x18\x01"  # is_monotonic = true in Sum
_DATA_FIELD = {"gauge": 5, "sum": 7, "histogram": 9, "exponential_histogram": 10, "summary": 11}  # in Metric
_METRICS = 1024  # heads of so many metrics are remembered
_HEAD = Owner.of("otlp head")

_RELEASE = version("ebbtide")  # found out at once: it opens files, and later none may be left to open


@dataclass(frozen=True, slots=True)
class Segment:
    """One ResourceMetrics within a request: its bytes ``start:end``, which are a request of their own."""

    resource: Resource
    start: int
    end: int
    points: int
    samples: int


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
    numbers, ``frames`` are empty, ``nesting`` is the other's, and nothing is taken from it in turn.
    """

    body: bytes
    segments: list[Segment]
    shapes: list[Shape]
    frames: list[_Frame]
    nesting: Nesting
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
    points = Points()
    frames = []
    for resource, scopes in groups.items():
        framed = []
        for scope, metrics in scopes.items():
            inside = []
            for metric in metrics:
                first = len(points.pieces)
                points.write(metric)
                inside.append(metric_frame(metric, first, len(points.pieces)))
            framed.append((scope_head(scope), string_field(3, scope.schema_url), inside))
        frames.append(_Frame(resource, resource_head(resource), framed))
    ends = points.ends()
    starts = np.concatenate(([0], ends))[:-1]
    loose = Form(
        b"".join(points.pieces),
        [],
        points.shapes(ends),
        frames,
        Nesting(0),
        starts,
        ends,
        points.point_of(rows),
        len(ends),
    )
    return _assemble(loose)


def take(form: Form, rows: Index) -> Form | None:
    """Return the form of a table of these rows of the form's table; None where a point would lose some of its rows."""
    if not form.frames:
        return None
    place = np.full(len(form.point_of), -1, np.intp)
    place[rows] = np.arange(len(rows))
    point_of = form.point_of[rows]
    before, after = _sizes(form.point_of, form.points), _sizes(point_of, form.points)
    kept = after > 0
    if (after[kept] != before[kept]).any():
        return None
    edits = form.nesting.without(~kept, form.starts, form.ends)
    starts = edits.moved(form.starts)
    by = starts - form.starts
    return Form(
        body=edits.apply(form.body),
        segments=_left(form.segments, kept, after, edits),
        shapes=[moved for shape in form.shapes if (moved := _moved(shape, kept, place, by)) is not None],
        frames=[],
        nesting=form.nesting,
        starts=starts,
        ends=form.ends + by,
        point_of=point_of,
        points=int(kept.sum()),
    )


def _sizes(point_of: Index, points: int) -> Index:
    """How many rows each point stands for."""
    return np.bincount(point_of[point_of >= 0], minlength=points)


def _left(segments: list[Segment], kept: Bools, sizes: Index, edits: Edits) -> list[Segment]:
    """The segments in which there are points yet."""
    firsts = np.cumsum([0, *(segment.points for segment in segments[:-1])])
    places = edits.moved(np.array([(segment.start, segment.end) for segment in segments], np.intp))
    counts = np.add.reduceat(np.stack((kept, sizes), axis=1), firsts)
    numbered = zip(segments, places.tolist(), counts.tolist(), strict=True)
    return [Segment(segment.resource, *place, *count) for segment, place, count in numbered if count[0]]


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
    return _assemble(replace(form, frames=frames))


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


def _moved(shape: Shape, kept: Bools, place: Index, by: Index) -> Shape | None:
    """Leave the shape's points that are not kept; its rows are where ``place`` says, its tails moved ``by`` point."""
    left = kept[shape.points]
    if not left.any():
        return None
    sums = shape.sum_rows if not len(shape.sum_rows) else place[shape.sum_rows[left]]
    points = shape.points[left]
    return replace(
        shape,
        points=points,
        tails=shape.tails[left] + by[points],
        rows=place[shape.rows[left]],
        sum_rows=sums,
        part_rows=place[shape.part_rows[left]],
    )


def _assemble(form: Form) -> Form:
    """Frame the points of a form anew."""
    out = _Out(form)
    segments = [out.frame(frame) for frame in form.frames]
    starts = np.concatenate(([0], np.cumsum(form.ends - form.starts)))[:-1] + out.bases
    by = starts - form.starts
    shapes = [replace(shape, tails=shape.tails + by[shape.points]) for shape in form.shapes]
    ends = form.ends + by
    return Form(
        b"".join(out.pieces), segments, shapes, form.frames, out.nesting, starts, ends, form.point_of, form.points
    )


class _Out:
    """Bytes written so far, of the points of a form. ``bases``: what to add to a point's place among the points."""

    def __init__(self, form: Form) -> None:
        self.pieces: list[bytes] = []
        self.bases = np.zeros(form.points, np.intp)
        self.nesting = Nesting(form.points)
        self._size = 0
        self._form = form
        self._total = _sums(form.ends - form.starts)  # bytes of the points before each
        self._sampled = _sums(_sizes(form.point_of, form.points))

    def frame(self, frame: _Frame) -> Segment:
        """Write the points of a resource, and what stands around them."""
        began, first = self._size, frame.scopes[0][2][0].first
        sizes = [self._scope_size(*scope) for scope in frame.scopes]
        self._open(RESOURCE, 1, len(frame.head) + sum(_framed(size) for size in sizes), first)
        self._write(frame.head)
        points = samples = 0
        for size, (head, last, metrics) in zip(sizes, frame.scopes, strict=True):
            self._open(SCOPE, 2, size, metrics[0].first)
            self._write(head)
            for metric in metrics:
                self._metric(metric)
                points += metric.last - metric.first
                samples += self._sampled[metric.last] - self._sampled[metric.first]
            self._write(last)
        return Segment(frame.resource, began, self._size, points, samples)

    def _metric(self, metric: MetricFrame) -> None:
        first, last = metric.first, metric.last
        size = self._data_size(metric)
        self._open(METRIC, 2, len(metric.head) + _framed(size), first)
        self._write(metric.head)
        self._open(DATA, metric.data_field, size, first)
        self.bases[first:last] = self._size - self._total[first]
        self._write(self._form.body[self._form.starts[first] : self._form.ends[last - 1]])
        self._write(metric.after)

    def _open(self, level: int, field: int, size: int, first: int) -> None:
        began = self._size
        self._write(tag(field) + varint(size))
        self.nesting.note(level, began, self._size, size, first)

    def _write(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self._size += len(piece)

    def _data_size(self, metric: MetricFrame) -> int:
        return self._total[metric.last] - self._total[metric.first] + len(metric.after)

    def _scope_size(self, first: bytes, last: bytes, metrics: list[MetricFrame]) -> int:
        inside = (_framed(len(metric.head) + _framed(self._data_size(metric))) for metric in metrics)
        return len(first) + len(last) + sum(inside)


def _sums(numbers: Index) -> list[int]:
    """How much is before each of these numbers, and at last their sum."""
    return [0, *np.cumsum(numbers).tolist()]


def _framed(size: int) -> int:
    """The size of a message of ``size`` bytes as a field."""
    return 1 + len(varint(size)) + size


def resource_head(resource: Resource) -> bytes:
    """Encode what stands before a resource's metrics, once."""
    return resource.derive(_HEAD, _resource_head)


def _resource_head(resource: Resource) -> bytes:
    attributes = b"".join(length_delimited(1, key_value(*pair)) for pair in resource.attributes)
    return length_delimited(1, attributes) if attributes else b""


def scope_head(scope: Scope) -> bytes:
    """Encode what stands before a scope's metrics, once; behind them follows its schema URL, field 3."""
    return scope.derive(_HEAD, _scope_head)


def _scope_head(scope: Scope) -> bytes:
    # A scope that is not named is that of the converter ("Prometheus and OpenMetrics compatibility", Instrumentation Scope).
    name, release = (scope.name, scope.version) if scope.name or scope.version else ("ebbtide", _RELEASE)
    attributes = b"".join(length_delimited(3, key_value(*pair)) for pair in scope.attributes)
    return length_delimited(1, string_field(1, name) + string_field(2, release) + attributes)


@lru_cache(_METRICS)
def _metric_head(name: str, help: str, unit: str, kind: str) -> bytes:
    head = string_field(1, name) + string_field(2, help) + string_field(3, unit)
    return head + length_delimited(12, key_value("prometheus.type", kind))


def metric_frame(metric: Metric, first: int, last: int) -> MetricFrame:
    """Return what stands around the points ``first:last`` of a metric."""
    family = metric.family
    head = _metric_head(metric.name, family.help, family.unit, family.kind)
    if metric.data == "sum":
        after = _CUMULATIVE + (_MONOTONIC if family.kind == "counter" else b"")
    else:
        after = _CUMULATIVE if metric.data.endswith("histogram") else b""
    return MetricFrame(head, _DATA_FIELD[metric.data], after, first, last)
