"""Serialized OTLP requests: cutting them where they are too large, and counting them. Sans-IO.

Strategy. A request is walked by the lengths of its messages; what they say is not read, nor built anew. Cutting goes down
the levels (resource, scope, metric, point) by one recursion: what fits is skipped by its length and copied as it is, what
does not is dealt out, in order, with what stands around it repeated around every run of its parts. Points are counted on
the way. What is known to be too large beforehand is laid out in pieces by its template (``otlp_writer.divide``): here is
cut what is encoded already, since its destination takes less than it did.
"""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide import Payload
from exporters.pieces import Piece, payloads
from exporters.protobuf import MOST_FRAMING, Field, fields, length_delimited

_GAUGE, _SUM, _HISTOGRAM, _EXPONENTIAL, _SUMMARY = 5, 7, 9, 10, 11  # the oneof of data in Metric
_METRIC, _POINT = 3, 5  # levels
_NAME = 1  # in Metric

CHILDREN = (
    frozenset((1,)),
    frozenset((2,)),
    frozenset((2,)),
    frozenset((_GAUGE, _SUM, _HISTOGRAM, _EXPONENTIAL, _SUMMARY)),
    frozenset((1,)),
)
"""Which fields lead inwards, level by level: resource_metrics, scope_metrics, metrics, the oneof of data, data_points."""


def cut(body: bytes, max_bytes: int) -> list[Piece]:
    """Cut a serialized request into requests of at most ``max_bytes``, in order, nothing lost.

    A single point that is larger still comes back alone, larger than asked for. Each piece has its counts; samples are
    counted as Prometheus would expose the point: a histogram is its buckets, its count, and its sum where there is one.
    """
    return [*_split(body, 0, len(body), 0, 0, max_bytes)]


def cut_payload(payload: Payload, max_bytes: int) -> list[Payload]:
    """``cut`` for a payload: points and samples of the pieces add up to the payload's."""
    return payloads(payload, cut(payload.body, max_bytes))


def count(body: bytes) -> tuple[int, int]:
    """Return the points of a serialized request, and the Prometheus samples they stand for."""
    return _count(body, 0, len(body), 0, 0)


def first_metric(body: bytes) -> str:
    """Return the name of the first metric of a serialized request; "" where there is none."""
    at, end = 0, len(body)
    for inwards in CHILDREN[:_METRIC]:
        at, end = next(
            ((begin, after) for number, _, begin, after in fields(body, at, end) if number in inwards), (0, 0)
        )
    return next(
        (body[begin:after].decode() for number, _, begin, after in fields(body, at, end) if number == _NAME), ""
    )


def _split(body: bytes, at: int, end: int, level: int, data: int, limit: int) -> Iterator[Piece]:
    """Cut a message ``body[at:end]`` of this level into messages of at most ``limit`` bytes, or of one point.

    ``data``: which of Metric's oneof the message is within, 0 where it is outside.
    """
    if end - at <= limit or level == _POINT:
        yield body[at:end], *_count(body, at, end, level, data)
        return
    head, children, tail = _opened(body, at, end, level)
    room = limit - len(head) - len(tail)
    run: list[bytes] = []
    used = points = samples = 0
    for child in children:
        for part, more_points, more_samples in _parts(body, child, level, data, room):
            if run and used + len(part) > room:
                yield b"".join((head, *run, tail)), points, samples
                run, used, points, samples = [], 0, 0, 0
            run.append(part)
            used, points, samples = used + len(part), points + more_points, samples + more_samples
    if run:
        yield b"".join((head, *run, tail)), points, samples


def _parts(body: bytes, child: Field, level: int, data: int, room: int) -> Iterator[Piece]:
    """Cut a field within a message of this level into fields of at most ``room`` bytes."""
    number, start, begin, end = child
    data = number if level == _METRIC else data
    if end - start <= room:
        yield body[start:end], *_count(body, begin, end, level + 1, data)
        return
    for content, points, samples in _split(body, begin, end, level + 1, data, room - MOST_FRAMING):
        yield length_delimited(number, content), points, samples


def _opened(body: bytes, at: int, end: int, level: int) -> tuple[bytes, list[Field], bytes]:
    """Return what stands before and behind the children of a message, and these. Other fields may stand in any order."""
    inwards = CHILDREN[level]
    children: list[Field] = []
    before: list[bytes] = []
    behind: list[bytes] = []
    for field in fields(body, at, end):
        number, start, _, after = field
        if number in inwards:
            children.append(field)
        else:
            (behind if children else before).append(body[start:after])
    return b"".join(before), children, b"".join(behind)


def _count(body: bytes, at: int, end: int, level: int, data: int) -> tuple[int, int]:
    """Return the points and samples of a message of this level."""
    if level == _POINT:
        return 1, _samples(body, at, end, data)
    points = samples = 0
    for number, _, begin, after in fields(body, at, end):
        if number in CHILDREN[level]:
            inside = _count(body, begin, after, level + 1, number if level == _METRIC else data)
            points, samples = points + inside[0], samples + inside[1]
    return points, samples


def _samples(body: bytes, at: int, end: int, data: int) -> int:
    """Count a point's samples by the fields of HistogramDataPoint and SummaryDataPoint (metrics.proto)."""
    if data == _HISTOGRAM:
        found = {number: after - begin for number, _, begin, after in fields(body, at, end)}
        return found.get(6, 0) // 8 + 1 + (5 in found)  # bucket_counts, packed fixed64; sum
    if data == _SUMMARY:
        return sum(number == 6 for number, _, _, _ in fields(body, at, end)) + 2  # quantile_values; sum and count
    return 1
