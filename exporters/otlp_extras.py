"""The extras of a batch in its request: exemplars at the points that are there, native histograms beside them. Sans-IO.

Strategy. A template is filled as if there were no extras; then the points that have exemplars grow, and each resource gets
its native histograms as further scopes, which is all a slower road for few rows. Segments stay what they are, one resource
each: one that has outgrown its room is cut, and native histograms that find no room, or are alone, get one of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ebbtide import Batch, Extra, NativeHistogram, Payload, Resource, Scope, Series
from exporters.otlp_native import EXEMPLARS_FIELD, Moment, data_of, ended, exemplars_field, point
from exporters.otlp_points import Metric, attributes_of, is_native
from exporters.otlp_splice import Growth, grow
from exporters.otlp_writer import Form, Segment, metric_frame, resource_head, scope_head
from exporters.protobuf import MOST_FRAMING, length_delimited, string_field
from exporters.wire import cut_payload

Room = Callable[[Resource], int]
"""How many bytes of a resource may be in one segment."""

_NONE = Extra()


@dataclass(frozen=True, slots=True)
class _Natives:
    """The native histograms of one resource, as ScopeMetrics."""

    scopes: bytes
    points: int


_NOTHING = _Natives(b"", 0)


def extend(batch: Batch, form: Form, body: bytes, room: Room | None) -> tuple[bytes, list[Segment], int]:
    """Return the request ``body``, which is the batch's form filled, with all its extras; its segments; its native points."""
    exemplars = sorted(_exemplars(batch, form))
    natives = _natives(batch, form)
    pieces: list[tuple[Segment, bytes | memoryview]] = []
    unchanged = memoryview(body)
    begin = 0
    for segment in form.segments:
        end = begin
        while end < len(exemplars) and exemplars[end][0] < segment.end:
            end += 1
        more = _NOTHING
        if room is None or _fits(segment, natives.get(segment.resource, _NOTHING), room):
            more = natives.pop(segment.resource, _NOTHING)
        content: bytes | memoryview = unchanged[segment.start : segment.end]
        if begin < end or more.points:
            content = grow(body, segment.start, segment.end, exemplars[begin:end], more.scopes)
            segment = replace(segment, points=segment.points + more.points, samples=segment.samples + more.points)
        pieces.append((segment, content))
        begin = end
    for resource, more in natives.items():
        content = length_delimited(1, resource_head(resource) + more.scopes)
        pieces.append((Segment(resource, 0, 0, more.points, more.points), content))
    if room is not None:
        pieces = [part for segment, content in pieces for part in _cut(segment, content, room(segment.resource))]
    total = sum(segment.points for segment, _ in pieces)
    return b"".join(content for _, content in pieces), _placed(pieces), total - form.points


def _fits(segment: Segment, natives: _Natives, room: Room) -> bool:
    return segment.end - segment.start + len(natives.scopes) + MOST_FRAMING <= room(segment.resource)


def _placed(pieces: Iterable[tuple[Segment, bytes | memoryview]]) -> list[Segment]:
    """The segments where they lie when their contents stand one behind the other."""
    placed, at = [], 0
    for segment, content in pieces:
        placed.append(replace(segment, start=at, end=at + len(content)))
        at += len(content)
    return placed


def _cut(segment: Segment, content: bytes | memoryview, room: int) -> list[tuple[Segment, bytes | memoryview]]:
    if len(content) <= room:
        return [(segment, content)]
    parts = cut_payload(Payload(b"", bytes(content), segment.points, segment.samples), room)
    return [(replace(segment, points=part.points, samples=part.samples), part.body) for part in parts]


def _exemplars(batch: Batch, form: Form) -> Iterator[Growth]:
    """What hangs on the points of the form. Points that end have none."""
    hanging: dict[int, list[Extra]] = defaultdict(list)
    for row, extra in sorted((batch.extras or {}).items()):
        number = int(form.point_of[row])
        if extra.exemplars and number >= 0 and not _is_stale(batch, row):
            hanging[number].append(extra)
    wanted = np.zeros(len(form.starts), np.bool_)
    wanted[list(hanging)] = True
    for shape in form.shapes if hanging else ():
        field = EXEMPLARS_FIELD.get(shape.data)
        if field is not None:
            for number in shape.points[wanted[shape.points]].tolist():
                exemplars = (exemplar for extra in hanging[number] for exemplar in extra.exemplars)
                yield int(form.starts[number]), exemplars_field(exemplars, field)


def _natives(batch: Batch, form: Form) -> dict[Resource, _Natives]:
    """Encode the native histograms, and the ends of their streams."""
    found: dict[Resource, dict[Scope, dict[tuple[object, ...], list[bytes]]]] = {}
    frames: dict[tuple[object, ...], Metric] = {}
    for row, native in _native_rows(batch, form):
        series = batch.table.series[row]
        data = data_of(native)
        key = (series.name, series.family.identity, data)
        frames.setdefault(key, Metric(series.name, data, series.family))
        metrics = found.setdefault(series.resource, {}).setdefault(series.scope, {})
        metrics.setdefault(key, []).append(_point(batch, row, series, native))
    return {
        resource: _Natives(
            b"".join(_scope(scope, [(frames[key], points) for key, points in metrics.items()]) for scope, metrics in scopes.items()),
            sum(len(points) for metrics in scopes.values() for points in metrics.values()),
        )
        for resource, scopes in found.items()
    }  # fmt: skip


def _native_rows(batch: Batch, form: Form) -> Iterator[tuple[int, NativeHistogram | None]]:
    """The rows that are native histograms which OTLP can say, and those that end a stream of them."""
    extras = batch.extras or {}
    stale = [] if batch.stale is None else np.flatnonzero(batch.stale & (form.point_of < 0)).tolist()
    for row in sorted({*extras, *stale}):
        native = extras.get(row, _NONE).native
        says = native is not None and native.has_otlp_form
        if form.point_of[row] < 0 and is_native(batch.table.series[row]) and (says or _is_stale(batch, row)):
            yield row, native


def _point(batch: Batch, row: int, series: Series, native: NativeHistogram | None) -> bytes:
    at = Moment(int(batch.times[row]), int(batch.starts[row]))
    attributes = attributes_of(series, data_of(native))
    if native is None or _is_stale(batch, row):
        return ended(at, attributes)
    return point(native, at, attributes, (batch.extras or {})[row].exemplars)


def _scope(scope: Scope, metrics: list[tuple[Metric, list[bytes]]]) -> bytes:
    out = [scope_head(scope)]
    for metric, points in metrics:
        frame = metric_frame(metric, 0, len(points))
        data = length_delimited(frame.data_field, b"".join(points) + frame.after)
        out.append(length_delimited(2, frame.head + data))
    out.append(string_field(3, scope.schema_url))
    return length_delimited(2, b"".join(out))


def _is_stale(batch: Batch, row: int) -> bool:
    return batch.stale is not None and bool(batch.stale[row])
