"""The fast way out: the OTLP request of a form is a byte string with 8-byte holes.

Strategy. In Number, Histogram and Summary points every time, value, sum, count and bucket count is a fixed 64-bit field
(metrics.proto: fixed64, double, packed), and ``flags`` is written as two bytes always. So for a given table all bytes but
those are constant, and so are the holes' offsets: the ``Template`` is worked out once per table and remembered on it;
filling it is a handful of numpy assignments through a view of the buffer as unaligned 8-byte words. Rows are grouped into
points here: ``_bucket``, ``_sum`` and ``_count`` become one Histogram, quantiles one Summary.

Serialized requests concatenate, and a template is a concatenation of ResourceMetrics, one after the other.

Rules: ``opentelemetry/proto/metrics/v1/metrics.proto``; OpenTelemetry specification, "Prometheus and OpenMetrics
Compatibility". Cumulative buckets are made monotonic and whole before they are subtracted, so that bucket counts are
never negative and always add up to the count.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from ebbtide import AGENT_SCOPE, Batch, Bools, Floats, Owner, Resource, Scope, SeriesTable
from exporters.otlp_points import Metric, Point, Scopes, group, take
from exporters.protobuf import key_value, length_delimited, string_field, tag, varint

__all__ = ["Encoded", "Segment", "Template", "encode", "template_of"]

Words = npt.NDArray[np.uint64]
Index = npt.NDArray[np.intp]

_TEMPLATE = Owner.of("otlp template")
_MAX_COUNT = 2.0**64 - 2048  # the largest double that is a uint64: what counts more is no count

_CUMULATIVE = b"\x10\x02"  # aggregation_temporality = 2 in Sum and Histogram
_MONOTONIC = b"\x18\x01"  # is_monotonic = true in Sum
_DATA_FIELD = {"gauge": 5, "sum": 7, "histogram": 9, "summary": 11}  # in Metric

_HOLE = bytes(8)
# start, time and value of a NumberDataPoint, then its flags; each hole lies one byte behind its tag.
_NUMBER_TAIL = b"\x11" + _HOLE + b"\x19" + _HOLE + b"\x21" + _HOLE + b"\x40\x00"
_START, _TIME, _VALUE = 1, 10, 19  # offsets of the holes in the tail, for all three kinds of point
_AFTER_VALUE = 27
_SUM = 28  # Histogram and Summary: the hole of the sum, behind that of the count (at _VALUE)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A serialized ExportMetricsServiceRequest. ``incomplete``: samples that are in no point (a histogram without its count)."""

    body: bytes
    points: int
    samples: int
    incomplete: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One ResourceMetrics within a template: its bytes ``start:end``, which are a request of their own."""

    resource: Resource
    start: int
    end: int
    points: int
    samples: int


def encode(batch: Batch) -> Encoded:
    """Encode a batch, by the template of its table."""
    template = template_of(batch.table)
    unfit = template.unfit_rows(batch)
    if not len(unfit):
        return Encoded(template.fill(batch), template.points, template.samples, template.incomplete)
    fit = np.ones(len(batch), np.bool_)
    fit[unfit] = False
    rest = encode(batch.take(np.flatnonzero(fit)))
    return Encoded(rest.body, rest.points, rest.samples, rest.incomplete + len(unfit))


def template_of(table: SeriesTable) -> Template:
    """Return the table's template, worked out once."""
    return table.derive(_TEMPLATE, Template)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Histogram or summary points that have equally many parts: their rows and where their holes begin."""

    count_rows: Index
    sum_rows: Index  # empty where the points have no sum
    part_rows: Index  # points x parts
    tails: Index  # offset of each point's tail
    parts_at: int  # offset of the first part's hole, from the tail
    stride: int  # from one part's hole to the next
    flags_at: int
    histogram: bool


class Template:
    """The bytes of a table's request, where its holes are, and what they hold."""

    def __init__(self, table: SeriesTable):
        writer = _Writer()
        self.groups = _groups(table)
        self.segments = [writer.resource(resource, scopes) for resource, scopes in self.groups.items()]
        self.body = b"".join(writer.out)
        self.points = sum(segment.points for segment in self.segments)
        self.samples = sum(segment.samples for segment in self.segments)
        self.incomplete = len(table) - self.samples
        self._numbers = np.array(writer.number_rows, np.intp), np.array(writer.number_tails, np.intp)
        self._shapes = [_shape(data, points) for (data, _, _), points in writer.compound.items()]

    def fill(self, batch: Batch) -> bytes:
        """Return the request of a batch over the table that this template was made of."""
        body = bytearray(self.body)
        if not body:
            return b""
        words: Words = np.ndarray(shape=(len(body) - 7,), dtype="<u8", buffer=body, strides=(1,))
        starts, times, values = batch.starts.view(np.uint64), batch.times.view(np.uint64), batch.values.view(np.uint64)
        rows, tails = self._numbers
        if len(rows):
            words[tails + _START] = starts[rows]
            words[tails + _TIME] = times[rows]
            words[tails + _VALUE] = values[rows]
            self._flags(body, batch, rows, tails + (len(_NUMBER_TAIL) - 1))
        for shape in self._shapes:
            words[shape.tails + _START] = starts[shape.count_rows]
            words[shape.tails + _TIME] = times[shape.count_rows]
            self._fill_parts(words, batch, shape)
            self._flags(body, batch, shape.count_rows, shape.tails + shape.flags_at)
        return bytes(body)

    def unfit_rows(self, batch: Batch) -> Index:
        """Return the rows of histograms and summaries whose counts are no counts (NaN, infinite, above 64 bits) in this batch."""
        unfit = []
        for shape in self._shapes:
            counted = _countable(batch.values[shape.count_rows])
            if shape.histogram and shape.part_rows.shape[1]:
                counted &= _countable(batch.values[shape.part_rows]).all(axis=1)
            if not counted.all():
                bad = ~counted & ~_stale_rows(batch, shape.count_rows)
                for rows in (
                    shape.count_rows[bad],
                    shape.part_rows[bad].ravel(),
                    shape.sum_rows[bad[: len(shape.sum_rows)]],
                ):
                    unfit.append(rows)
        return np.concatenate(unfit) if unfit else np.empty(0, np.intp)

    @staticmethod
    def _flags(body: bytearray, batch: Batch, rows: Index, at: Index) -> None:
        if batch.stale is not None:
            np.frombuffer(body, np.uint8)[at] = batch.stale[rows]

    @staticmethod
    def _fill_parts(words: Words, batch: Batch, shape: _Shape) -> None:
        values, stale = batch.values, _stale_rows(batch, shape.count_rows)
        counts = np.clip(np.where(stale, 0.0, values[shape.count_rows]), 0.0, _MAX_COUNT)
        parts = values[shape.part_rows]
        if shape.histogram:
            parts[stale] = 0.0
            cumulative = np.maximum.accumulate(np.clip(np.column_stack((parts, counts)), 0.0, _MAX_COUNT), axis=1)
            whole = np.floor(cumulative).astype(np.uint64)
            counts_out = whole[:, -1]
            parts_out = np.diff(whole, axis=1, prepend=np.uint64(0))
        else:
            counts_out = counts.astype(np.uint64)
            parts_out = parts.view(np.uint64)
        words[shape.tails + _VALUE] = counts_out
        if len(shape.sum_rows):
            words[shape.tails + _SUM] = np.where(stale, 0.0, values[shape.sum_rows]).view(np.uint64)
        if parts_out.shape[1]:
            holes = np.arange(parts_out.shape[1]) * shape.stride + shape.parts_at
            words[shape.tails[:, None] + holes] = parts_out


def _groups(table: SeriesTable) -> dict[Resource, Scopes]:
    """Group the rows of a table into points; those of a table that was taken from another are taken from its points."""
    if table.origin is None:
        return group(table)
    whole, rows = table.origin
    return take(template_of(whole).groups, rows, len(whole))


def _countable(values: Floats) -> Bools:
    return np.isfinite(values) & (values <= _MAX_COUNT)


def _stale_rows(batch: Batch, rows: Index) -> Bools:
    return np.zeros(len(rows), np.bool_) if batch.stale is None else batch.stale[rows]


class _Writer:
    """Writes messages front to back, noting where each point's tail comes to lie."""

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.size = 0
        self.number_rows: list[int] = []
        self.number_tails: list[int] = []
        # Points whose tails have the same layout: kind, number of parts, whether there is a sum.
        self.compound: dict[tuple[str, int, bool], list[tuple[Point, int]]] = defaultdict(list)

    def _write(self, *pieces: bytes) -> None:
        self.out += pieces
        self.size += sum(map(len, pieces))

    def resource(self, resource: Resource, scopes: Scopes) -> Segment:
        """Write one ResourceMetrics as an element of the request."""
        start = self.size
        attributes = b"".join(length_delimited(1, key_value(*pair)) for pair in resource.attributes)
        head = length_delimited(1, attributes) if attributes else b""
        laid_out = [(scope, [_laid_out(metric) for metric in metrics]) for scope, metrics in scopes.items()]
        bodies = [(scope, _scope_head(scope), _scope_tail(scope), metrics) for scope, metrics in laid_out]
        sizes = [
            len(first) + len(last) + sum(_framed(2, m.size) for m in metrics) for _, first, last, metrics in bodies
        ]
        self._write(tag(1), varint(len(head) + sum(_framed(2, size) for size in sizes)), head)
        points = samples = 0
        for (_, first, last, metrics), size in zip(bodies, sizes, strict=True):
            self._write(tag(2), varint(size), first)
            for metric in metrics:
                self._metric(metric)
                points += len(metric.metric.points)
                samples += sum(point.samples for point in metric.metric.points)
            self._write(last)
        return Segment(resource, start, self.size, points, samples)

    def _metric(self, laid_out: _LaidOut) -> None:
        metric = laid_out.metric
        self._write(tag(2), varint(laid_out.size), laid_out.head)
        self._write(tag(_DATA_FIELD[metric.data]), varint(laid_out.data_size))
        for point, tail in zip(metric.points, laid_out.tails, strict=True):
            self._write(tag(1), varint(len(point.attributes) + len(tail)), point.attributes)
            if metric.data in ("histogram", "summary"):
                self.compound[metric.data, len(point.parts), point.sum_row >= 0].append((point, self.size))
            else:
                self.number_rows.append(point.row)
                self.number_tails.append(self.size)
            self._write(tail)
        self._write(laid_out.after)


@dataclass(frozen=True, slots=True)
class _LaidOut:
    """A metric whose sizes are known: its bytes before, in and behind the points."""

    metric: Metric
    head: bytes
    tails: list[bytes]
    after: bytes
    data_size: int
    size: int


def _laid_out(metric: Metric) -> _LaidOut:
    family = metric.family
    head = string_field(1, metric.name) + string_field(2, family.help) + string_field(3, family.unit)
    head += length_delimited(12, key_value("prometheus.type", family.kind))
    if metric.data == "sum":
        after = _CUMULATIVE + (_MONOTONIC if family.kind == "counter" else b"")
    else:
        after = _CUMULATIVE if metric.data == "histogram" else b""
    tails = [_tail(metric.data, point) for point in metric.points]
    data_size = len(after) + sum(
        _framed(1, len(point.attributes) + len(tail)) for point, tail in zip(metric.points, tails, strict=True)
    )
    return _LaidOut(metric, head, tails, after, data_size, len(head) + _framed(_DATA_FIELD[metric.data], data_size))


def _framed(field: int, size: int) -> int:
    """The size of a message of ``size`` bytes as a field."""
    return len(tag(field)) + len(varint(size)) + size


def _scope_head(scope: Scope) -> bytes:
    name, release = (scope.name, scope.version) if scope is not AGENT_SCOPE else ("ebbtide", version("ebbtide"))
    attributes = b"".join(length_delimited(3, key_value(*pair)) for pair in scope.attributes)
    return length_delimited(1, string_field(1, name) + string_field(2, release) + attributes)


def _scope_tail(scope: Scope) -> bytes:
    return string_field(3, scope.schema_url)


def _tail(data: str, point: Point) -> bytes:
    """What stands behind a point's attributes: the tags of its numbers, with holes for them."""
    if data == "histogram":
        return _histogram_tail(tuple(sorted(point.parts)), point.sum_row >= 0)
    if data == "summary":
        return _summary_tail(tuple(sorted(point.parts)))
    return _NUMBER_TAIL


def _histogram_tail(bounds: tuple[float, ...], with_sum: bool) -> bytes:
    tail = _NUMBER_TAIL[:_AFTER_VALUE]  # start, time, and the count in place of the value: the same tags
    if with_sum:
        tail += b"\x29" + _HOLE
    tail += length_delimited(6, bytes(8 * (len(bounds) + 1)))
    if bounds:
        tail += length_delimited(7, struct.pack(f"<{len(bounds)}d", *bounds))
    return tail + b"\x50\x00"


def _summary_tail(quantiles: tuple[float, ...]) -> bytes:
    values = (length_delimited(6, b"\x09" + struct.pack("<d", quantile) + b"\x11" + _HOLE) for quantile in quantiles)
    return _NUMBER_TAIL[:_AFTER_VALUE] + b"\x29" + _HOLE + b"".join(values) + b"\x40\x00"


def _shape(data: str, points: list[tuple[Point, int]]) -> _Shape:
    """Describe points of one layout by arrays."""
    first = points[0][0]
    with_sum = first.sum_row >= 0
    tail = _tail(data, first)
    parts = len(first.parts)
    if data == "histogram":
        packed = len(length_delimited(6, bytes(8 * (parts + 1)))) - 8 * (parts + 1)
        parts_at, stride = _AFTER_VALUE + 9 * with_sum + packed, 8
    else:
        parts_at, stride = _AFTER_VALUE + 9 + 12, 20
    return _Shape(
        count_rows=np.array([point.row for point, _ in points], np.intp),
        sum_rows=np.array([point.sum_row for point, _ in points] if with_sum else [], np.intp),
        part_rows=np.array([[point.parts[k] for k in sorted(point.parts)] for point, _ in points], np.intp).reshape(
            len(points), parts
        ),
        tails=np.array([at for _, at in points], np.intp),
        parts_at=parts_at,
        stride=stride,
        flags_at=len(tail) - 1,
        histogram=data == "histogram",
    )
