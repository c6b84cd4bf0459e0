"""Growing points of a request that is written already. Sans-IO.

Strategy. A template's points have fixed sizes; what hangs on a few of them in one batch (exemplars) is put in behind them.
Fields may come in any order, so more bytes at a message's end are more fields of it, and only the lengths of the messages
around it change. Those are walked from outside in; what has nothing in it that changes is skipped by its length and copied
as it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from exporters.protobuf import fields, length_delimited
from exporters.wire import CHILDREN

Growth = tuple[int, bytes]
"""Where a point's field begins in the request, and what is to stand at its end."""


def grow(body: bytes, start: int, end: int, points: Sequence[Growth], scopes: bytes = b"") -> bytes:
    """Return the ResourceMetrics that is the field ``body[start:end]`` with points grown, in order, and more scopes."""
    number, _, begin, _ = next(fields(body, start, end))
    return length_delimited(number, _grown(body, begin, end, 1, points) + scopes)


def _grown(body: bytes, at: int, end: int, level: int, points: Sequence[Growth]) -> bytes:
    """Return a message's content ``body[at:end]`` with the points in it grown."""
    if level == len(CHILDREN):
        return body[at:end] + points[0][1]
    out: list[bytes] = []
    done, copied = 0, at
    for number, start, begin, after in fields(body, at, end):
        if done == len(points):
            break
        if number in CHILDREN[level] and points[done][0] < after:
            inside = bisect_left(points, after, done, key=_place)
            content = _grown(body, begin, after, level + 1, points[done:inside])
            out += body[copied:start], length_delimited(number, content)
            done, copied = inside, after
    return b"".join((*out, body[copied:end]))


def _place(growth: Growth) -> int:
    return growth[0]
