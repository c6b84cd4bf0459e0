"""The fast way out: the OTLP request of a form is a byte string with 8-byte holes.

Strategy. In Number, Histogram and Summary points every time, value, sum, count and bucket count is a fixed 64-bit field
(metrics.proto: fixed64, double, packed), and ``flags`` is written as two bytes always. So for a given table all bytes but
those are constant, and so are the holes' offsets: the ``Template`` is worked out once per table and remembered on it;
filling it is a handful of numpy assignments through a view of the buffer as unaligned 8-byte words. Rows are grouped into
points here: ``_bucket``, ``_sum`` and ``_count`` become one Histogram, quantiles one Summary. What has no fixed size, the
extras of some rows, is put in afterwards (``otlp_extras``).

Serialized requests concatenate, and a template is a concatenation of ResourceMetrics, its *segments*, one after the other:
each is a request of its own. A ``Division`` bounds how large they are. What a batch was filled into is remembered on the
batch, so that several exporters behind one pipeline fill it once.

Rules: ``opentelemetry/proto/metrics/v1/metrics.proto``; OpenTelemetry specification, "Prometheus and OpenMetrics
Compatibility". Cumulative buckets are made monotonic and whole before they are subtracted, so that bucket counts are
never negative and always add up to the count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ebbtide import Batch, Bools, Floats, Owner, Resource, SeriesTable
from exporters.otlp_points import group
from exporters.otlp_tails import START, SUM, TIME, VALUE, Shape
from exporters.otlp_writer import Form, Segment, divide, take, write
from exporters.pieces import Piece

__all__ = ["Division", "Encoded", "Segment", "Template", "encode", "template_of"]

Words = npt.NDArray[np.uint64]
Index = npt.NDArray[np.intp]

_TEMPLATE = Owner.of("otlp template")
_EXTENDED = Owner.of("otlp request with extras")
_MAX_COUNT = 2.0**64 - 2048  # the largest double that is a uint64: what counts more is no count


class Division(NamedTuple):
    """How many bytes of a resource may be in one segment. ``owner`` is the same for the same division."""

    owner: Owner
    room: Callable[[Resource], int]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A serialized ExportMetricsServiceRequest. ``incomplete``: samples that are in no point (a histogram without its count)."""

    body: bytes
    segments: list[Segment]
    points: int
    samples: int
    incomplete: int

    def pieces(self, max_bytes: int) -> Iterator[Piece]:
        """Walk its segments, in order, as requests of at most ``max_bytes``; one that is larger is a request by itself."""
        if len(self.body) <= max_bytes:
            yield self.body, self.points, self.samples
            return
        begin = end = points = samples = 0
        for segment in self.segments:
            if begin < end and segment.end - begin > max_bytes:
                yield self.body[begin:end], points, samples
                begin, points, samples = end, 0, 0
            end = segment.end
            points, samples = points + segment.points, samples + segment.samples
        yield self.body[begin:end], points, samples


def encode(batch: Batch, division: Division | None = None) -> Encoded:
    """Encode a batch, by the template of its table."""
    template = template_of(batch.table, division)
    body = batch.derive(template, template.fill)
    if body is None:
        fit = np.ones(len(batch), np.bool_)
        fit[template.unfit_rows(batch)] = False
        rest = encode(batch.take(np.flatnonzero(fit)), division)
        return replace(rest, incomplete=rest.incomplete + int((~fit).sum()))
    encoded = Encoded(body, template.segments, template.points, template.samples, template.incomplete)
    if batch.extras is None and (batch.stale is None or not template.incomplete):
        return encoded
    owner = _EXTENDED if division is None else division.owner
    return batch.derive(owner, lambda batch: _extended(batch, template.form, encoded, division))


def _extended(batch: Batch, form: Form, encoded: Encoded, division: Division | None) -> Encoded:
    """Add what has no fixed size: exemplars, native histograms, and the ends of streams of them."""
    from exporters.otlp_extras import extend  # here, as few pages have any

    body, segments, natives = extend(batch, form, encoded.body, None if division is None else division.room)
    samples, incomplete = encoded.samples + natives, encoded.incomplete - natives
    return Encoded(body, segments, encoded.points + natives, samples, incomplete)


def template_of(table: SeriesTable, division: Division | None = None) -> Template:
    """Return the table's template, worked out once."""
    if division is None:
        return table.derive(_TEMPLATE, lambda table: Template(_form(table), len(table)))
    return table.derive(division.owner, lambda table: _divided(table, division))


def _divided(table: SeriesTable, division: Division) -> Template:
    template = template_of(table)
    if all(segment.end - segment.start <= division.room(segment.resource) for segment in template.segments):
        return template
    return Template(_form(table, division), len(table))


class Template:
    """The bytes of the request of a table of ``rows`` rows, where its holes are, and what they hold."""

    def __init__(self, form: Form, rows: int):
        self.form = form
        self.segments = form.segments
        self.points = form.points
        self.samples = form.samples
        self.incomplete = rows - form.samples

    def fill(self, batch: Batch) -> bytes | None:
        """Return the request of a batch over the table that this template was made of; None where it has unfit rows."""
        body = bytearray(self.form.body)
        if not body:
            return b""
        words: Words = np.ndarray(shape=(len(body) - 7,), dtype="<u8", buffer=body, strides=(1,))
        starts, times, values = batch.starts.view(np.uint64), batch.times.view(np.uint64), batch.values.view(np.uint64)
        for shape in self.form.shapes:
            words[shape.tails + START] = starts[shape.rows]
            words[shape.tails + TIME] = times[shape.rows]
            if shape.data == "number":
                words[shape.tails + VALUE] = values[shape.rows]
            elif not _fill_parts(words, batch, shape):
                return None
            if batch.stale is not None:
                np.frombuffer(body, np.uint8)[shape.tails + shape.flags_at] = batch.stale[shape.rows]
        return bytes(body)

    def unfit_rows(self, batch: Batch) -> Index:
        """Return the rows of histograms and summaries whose counts are no counts (NaN, infinite, above 64 bits) in this batch."""
        unfit = []
        for shape in self.form.shapes:
            if shape.data == "number":
                continue
            counted = _countable(batch.values[shape.rows])
            if shape.data == "histogram" and shape.part_rows.shape[1]:
                counted &= _countable(batch.values[shape.part_rows]).all(axis=1)
            if not counted.all():
                bad = ~counted & ~_stale_rows(batch, shape.rows)
                for rows in (
                    shape.rows[bad],
                    shape.part_rows[bad].ravel(),
                    shape.sum_rows[bad[: len(shape.sum_rows)]],
                ):
                    unfit.append(rows)
        return np.concatenate(unfit) if unfit else np.empty(0, np.intp)


def _form(table: SeriesTable, division: Division | None = None) -> Form:
    """Lay out the points of a table; those of a table that was taken from another are taken from its form."""
    if table.origin is not None:
        whole, rows = table.origin
        taken = take(template_of(whole, division).form, rows)
        if taken is not None:
            return taken
    form = write(group(table), len(table))
    return form if division is None else divide(form, division.room)


def _fill_parts(words: Words, batch: Batch, shape: Shape) -> bool:
    """Fill in counts, sums and parts; return whether all counts are counts."""
    values, stale = batch.values, None if batch.stale is None else batch.stale[shape.rows]
    parts = shape.part_rows.shape[1]
    is_histogram = shape.data == "histogram"
    counts = np.empty((len(shape.rows), parts + 1 if is_histogram else 1))
    if is_histogram:
        counts[:, :-1] = values[shape.part_rows]
    counts[:, -1] = values[shape.rows]
    if stale is not None:
        counts[stale] = 0.0
    if not (counts.max() <= _MAX_COUNT and counts.min() > -math.inf):  # a NaN is neither
        return False
    whole = np.maximum.accumulate(np.maximum(counts, 0.0, out=counts), axis=1).astype(np.uint64)
    words[shape.tails + VALUE] = whole[:, -1]
    if len(shape.sum_rows):
        sums = values[shape.sum_rows]
        words[shape.tails + SUM] = (sums if stale is None else np.where(stale, 0.0, sums)).view(np.uint64)
    if is_histogram:
        whole[:, 1:] -= whole[:, :-1].copy()
        holes = whole
    else:
        holes = values[shape.part_rows].view(np.uint64)
    if holes.shape[1]:
        words[shape.tails[:, None] + (np.arange(holes.shape[1]) * shape.stride + shape.parts_at)] = holes
    return True


def _countable(values: Floats) -> Bools:
    return np.isfinite(values) & (values <= _MAX_COUNT)


def _stale_rows(batch: Batch, rows: Index) -> Bools:
    return np.zeros(len(rows), np.bool_) if batch.stale is None else batch.stale[rows]
