"""Prometheus' native histograms as remote write sends them: spans and deltas to counts that stand for themselves. Sans-IO.

Source: prometheus/prometheus, prompb/types.proto and prompb/io/prometheus/write/v2/types.proto (one wire form, the start
timestamp apart), model/histogram (``Validate``): what that refuses is refused here.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from itertools import accumulate

from ebbtide import STALE_NAN, NativeHistogram, sparse
from receivers.remote_write_wire import (
    BYTES,
    FIXED64,
    VARINT,
    double,
    doubles,
    expect,
    fields,
    signed,
    signed32,
    varints,
    zigzag,
)

GAUGE = 3
"""Reset hint of histograms that may go down."""

_STALE = struct.pack("<d", STALE_NAN)


class BadHistogram(Exception):
    """A histogram that says of itself what cannot be; the text says what."""


@dataclass(slots=True)
class HistogramPoint:
    """One histogram with its times in ms (``start`` 0: unknown). ``native`` None: the series ends."""

    time: int
    start: int
    native: NativeHistogram | None


@dataclass(slots=True)
class _Raw:
    """The fields of a message as they stand."""

    count: float = 0.0
    is_float: bool = False
    sum: float = 0.0
    sum_bytes: bytes = b""
    schema: int = 0
    zero_threshold: float = 0.0
    zero_count: float = 0.0
    spans: tuple[list[tuple[int, int]], list[tuple[int, int]]] = field(default_factory=lambda: ([], []))
    deltas: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    counts: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    reset_hint: int = 0
    time: int = 0
    start: int = 0
    custom: list[float] = field(default_factory=list)


_NEGATIVE, _POSITIVE = 0, 1
_VARINT_FIELDS = (1, 4, 6, 14, 15, 17)
_DOUBLE_FIELDS = (2, 3, 5, 7)


def read_histogram(data: bytes, begin: int, end: int) -> HistogramPoint:
    """Read a Histogram message. Raises Malformed, or BadHistogram for one that contradicts itself."""
    raw = _Raw()
    for number, kind, first, last in fields(data, begin, end):
        if number in _VARINT_FIELDS:
            expect(kind, VARINT, last)
            _take_number(raw, number, first)
        elif number in _DOUBLE_FIELDS:
            expect(kind, FIXED64, first)
            _take_double(raw, number, double(data, first, last), data[first:last])
        elif number in (8, 11):
            expect(kind, BYTES, first)
            raw.spans[number == 11].append(_span(data, first, last))
        elif number in (9, 12):
            raw.deltas[number == 12].extend(map(zigzag, varints(data, kind, first, last)))
        elif number in (10, 13):
            raw.counts[number == 13].extend(doubles(data, kind, first, last))
        elif number == 16:
            raw.custom.extend(doubles(data, kind, first, last))
    if raw.sum_bytes == _STALE:
        return HistogramPoint(raw.time, raw.start, None)
    return HistogramPoint(raw.time, raw.start, _native(raw))


def _take_number(raw: _Raw, number: int, value: int) -> None:
    if number == 1:
        raw.count, raw.is_float = float(value), False
    elif number == 4:
        raw.schema = signed32(zigzag(value))
    elif number == 6:
        raw.zero_count = float(value)
    elif number == 14:
        raw.reset_hint = signed32(value)
    elif number == 15:
        raw.time = signed(value)
    else:
        raw.start = signed(value)


def _take_double(raw: _Raw, number: int, value: float, bits: bytes) -> None:
    if number == 2:
        raw.count, raw.is_float = value, True
    elif number == 3:
        raw.sum, raw.sum_bytes = value, bits
    elif number == 5:
        raw.zero_threshold = value
    else:
        raw.zero_count = value


def _span(data: bytes, begin: int, end: int) -> tuple[int, int]:
    offset = length = 0
    for number, kind, value, last in fields(data, begin, end):
        if number in (1, 2):
            expect(kind, VARINT, last)
            if number == 1:
                offset = signed32(zigzag(value))
            else:
                length = value & 0xFFFF_FFFF
    return offset, length


def _native(raw: _Raw) -> NativeHistogram:
    negative, positive = (_buckets(raw, side) for side in (_NEGATIVE, _POSITIVE))
    try:
        native = NativeHistogram.of(
            count=raw.count,
            sum=raw.sum,
            schema=raw.schema,
            zero_threshold=raw.zero_threshold,
            zero_count=raw.zero_count,
            positive=positive,
            negative=negative,
            custom_bounds=raw.custom,
            is_gauge=raw.reset_hint == GAUGE,
        )
    except (ValueError, OverflowError) as error:
        raise BadHistogram(str(error)) from error
    _check_counts(raw, (*positive.values(), *negative.values(), raw.zero_count))
    return native


def _buckets(raw: _Raw, side: int) -> dict[int, float]:
    """Return the absolute counts of one side by their index."""
    given = raw.counts[side] or [float(total) for total in accumulate(raw.deltas[side])]
    try:
        return sparse(raw.spans[side], given)
    except ValueError as error:
        raise BadHistogram(str(error)) from error


def _check_counts(raw: _Raw, counts: tuple[float, ...]) -> None:
    if not (raw.count >= 0 and raw.zero_count >= 0):
        raise BadHistogram("cannot take a native histogram: its count is below 0, or no number")
    if raw.is_float:  # sums of floats are not exact: Prometheus does not compare them either
        return
    total = sum(counts)
    more = math.isnan(raw.sum)  # observations of NaN are counted, but in no bucket
    if total > raw.count if more else total != raw.count:
        raise BadHistogram(f"cannot take a native histogram: its buckets hold {total:g}, its count says {raw.count:g}")
