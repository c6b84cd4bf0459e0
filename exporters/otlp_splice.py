"""Growing points of a request that is written already. Sans-IO.

Strategy. A template's points have fixed sizes; what hangs on a few of them in one batch (exemplars) is put in behind them.
Fields may come in any order, so more bytes at a message's end are more fields of it, and only the lengths of the messages
around it change. Those are walked from outside in; what has nothing in it that grows is skipped by its length and copied
as it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from exporters.protobuf import length_delimited

# From ResourceMetrics inwards: scope_metrics, metrics, the oneof of data, data_points.
_CHILDREN = (frozenset((2,)), frozenset((2,)), frozenset((5, 7, 9, 10, 11)), frozenset((1,)))
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Growth = tuple[int, bytes]
"""Where a point's field begins in the request, and what is to stand at its end."""


def grow(body: bytes, start: int, end: int, points: Sequence[Growth], scopes: bytes = b"") -> bytes:
    """Return the ResourceMetrics that is the field ``body[start:end]`` with points grown, in order, and more scopes."""
    field, begin, _ = _field(body, start)
    return length_delimited(field, _grown(body, begin, end, 0, points) + scopes)


def _grown(body: bytes, at: int, end: int, level: int, points: Sequence[Growth]) -> bytes:
    """Return a message's content ``body[at:end]`` with the points in it grown."""
    if level == len(_CHILDREN):
        return body[at:end] + points[0][1]
    out: list[bytes] = []
    done, copied = 0, at
    while done < len(points):
        field, begin, after = _field(body, at)
        if field in _CHILDREN[level] and points[done][0] < after:
            inside = bisect_left(points, after, done, key=_place)
            content = _grown(body, begin, after, level + 1, points[done:inside])
            out += body[copied:at], length_delimited(field, content)
            done, copied = inside, after
        at = after
    return b"".join((*out, body[copied:end]))


def _place(growth: Growth) -> int:
    return growth[0]


def _field(body: bytes, at: int) -> tuple[int, int, int]:
    """Return the number of the field at ``at``, below 16, and where its value begins and ends."""
    number, wire_type = body[at] >> 3, body[at] & 7
    at += 1
    if wire_type == _BYTES:
        size, at = _varint(body, at)
        return number, at, at + size
    if wire_type == _VARINT:
        return number, at, _varint(body, at)[1]
    return number, at, at + {_FIXED64: 8, _FIXED32: 4}[wire_type]


def _varint(body: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while body[at] > 127:
        number |= (body[at] & 127) << shift
        shift += 7
        at += 1
    return number | body[at] << shift, at + 1
