"""Native histograms and exemplars as OTLP: the bytes of single points, and of what hangs on others. Sans-IO.

Rules: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility", Native Histograms and Exemplars; field
numbers: ``metrics.proto``. An exponential histogram keeps its schema as scale; OTLP indexes buckets by their lower bound,
one less than Prometheus. Its overflow buckets are dropped, and its count is that of the buckets that stay. Where bounds are
custom it becomes an explicit Histogram; what that counts in no bucket (NaN) goes above the last bound, as in a classic one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ebbtide import STALE_BITS, Buckets, Exemplar, NativeHistogram, index_limits, pairs
from exporters.protobuf import key_value, length_delimited, tag, varint

_DOUBLE = struct.Struct("<d")
_TIMES = struct.Struct("<BqBq")
_COUNT_AND_SUM = struct.Struct("<BQBd")
_END_OF_TIME = 2**64
_NO_RECORDED_VALUE = b"\x50\x01"  # flags = 1
_HEX_IDS = {"trace_id": (5, re.compile("[0-9a-fA-F]{32}")), "span_id": (4, re.compile("[0-9a-fA-F]{16}"))}

EXEMPLARS_FIELD = {"number": 5, "histogram": 8, "exponential_histogram": 11}
"""Where exemplars go in a point's message; a summary's has no place for them."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a point was, and since when it counts: ns since the epoch, 0 = unknown."""

    time: int
    start: int


def data_of(native: NativeHistogram | None) -> str:
    """Return the oneof of metrics.proto that a native histogram becomes; that of the exponential ones where it is unknown."""
    return "histogram" if native is not None and native.is_custom else "exponential_histogram"


def point(native: NativeHistogram, at: Moment, attributes: bytes, exemplars: Sequence[Exemplar] = ()) -> bytes:
    """Encode a point of a histogram that has an OTLP form, as an item of ``data_points``; its sum may be stale."""
    if _DOUBLE.pack(native.sum) == STALE_BITS.to_bytes(8, "little"):
        return ended(at, attributes)
    numbers = _custom(native) if native.is_custom else _exponential(native)
    hanging = exemplars_field(exemplars, EXEMPLARS_FIELD[data_of(native)])
    return length_delimited(1, attributes + _times(at) + numbers + hanging)


def ended(at: Moment, attributes: bytes) -> bytes:
    """Encode a point without value: its stream has ended."""
    return length_delimited(1, attributes + _times(at) + _NO_RECORDED_VALUE)


def exemplars_field(exemplars: Iterable[Exemplar], field: int) -> bytes:
    """Encode exemplars as items of this field.

    ``trace_id`` and ``span_id`` are ids where they are 32 and 16 hexadecimal digits, not all of them 0 (W3C Trace
    Context); all else are filtered attributes. A time that OTLP cannot say, before 1970 or after 2554, is unknown.
    """
    return b"".join(length_delimited(field, _exemplar(exemplar)) for exemplar in exemplars)


def _exemplar(exemplar: Exemplar) -> bytes:
    out = [b"\x19" + _DOUBLE.pack(exemplar.value)]
    if 0 < exemplar.time < _END_OF_TIME:
        out.append(b"\x11" + struct.pack("<Q", exemplar.time))
    for name, value in pairs(exemplar.labels):
        field, form = _HEX_IDS.get(name, (0, None))
        if form is not None and form.fullmatch(value) and value.strip("0"):
            out.append(length_delimited(field, bytes.fromhex(value)))
        else:
            out.append(length_delimited(7, key_value(name, value)))
    return b"".join(out)


def _times(at: Moment) -> bytes:
    return _TIMES.pack(0x11, at.start, 0x19, at.time)


def _exponential(native: NativeHistogram) -> bytes:
    native = native.standard()
    most = index_limits(native.schema)[1]
    positive, negative = _finite(native.positive, most), _finite(native.negative, most)
    count = int(native.zero_count) + sum(positive) + sum(negative)
    out = _COUNT_AND_SUM.pack(0x21, count, 0x29, native.sum) + tag(6, 0) + _zigzag(native.schema)
    out += tag(7, 1) + struct.pack("<Q", int(native.zero_count))
    out += _buckets(8, native.positive.offset, positive) + _buckets(9, native.negative.offset, negative)
    return out + tag(14, 1) + _DOUBLE.pack(native.zero_threshold)


def _finite(buckets: Buckets, most: int) -> list[int]:
    """The counts of the buckets that are not above all doubles."""
    return list(map(int, buckets.counts[: max(most + 1 - buckets.offset, 0)]))


def _buckets(field: int, offset: int, counts: list[int]) -> bytes:
    if not counts:
        return b""
    packed = bytes(counts) if max(counts) < 128 else b"".join(map(varint, counts))  # small varints are bytes
    return length_delimited(field, tag(1, 0) + _zigzag(offset - 1) + length_delimited(2, packed))


def _zigzag(number: int) -> bytes:
    """Encode a sint32."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def _custom(native: NativeHistogram) -> bytes:
    bounds = native.custom_bounds
    counts = [0] * (len(bounds) + 1)
    for index, number in enumerate(native.positive.counts, native.positive.offset):
        counts[min(max(index, 0), len(bounds))] += int(number)
    count = max(int(native.count), sum(counts))
    counts[-1] += count - sum(counts)
    out = _COUNT_AND_SUM.pack(0x21, count, 0x29, native.sum)
    out += length_delimited(6, struct.pack(f"<{len(counts)}Q", *counts))
    return out + (length_delimited(7, struct.pack(f"<{len(bounds)}d", *bounds)) if bounds else b"")
