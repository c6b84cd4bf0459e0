"""Cutting OTLP JSON where it is too large, without going through protobuf. Sans-IO.

Strategy. As in ``wire``, one recursion walks the levels: resource, scope, metric, point. Here the pieces are text: each
point is written once, and what stands around it is put around every run of points that fits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from exporters.pieces import Piece

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_LEVELS = ("resourceMetrics", "scopeMetrics", "metrics", "dataPoints")


def cut_json(text: bytes, max_bytes: int) -> list[Piece]:
    """Cut a request into requests of at most ``max_bytes``, in order; a single point that is larger comes back alone."""
    return [*_split(json.loads(text), 0, max_bytes)]


def _split(tree: dict[str, Any], level: int, limit: int) -> Iterator[Piece]:
    children, head, tail = _opened(tree, level)
    room = limit - len(head) - len(tail)
    run: list[Piece] = []
    used = 0
    for part in _parts(tree, children, level, room):
        if run and used + 1 + len(part[0]) > room:
            yield _closed(head, run, tail)
            run, used = [], 0
        used += len(part[0]) + bool(run)
        run.append(part)
    if run:
        yield _closed(head, run, tail)


def _parts(tree: dict[str, Any], children: list[Any], level: int, room: int) -> Iterator[Piece]:
    for child in children:
        if level + 1 < len(_LEVELS):
            yield from _split(child, level + 1, room)
        else:
            yield written(child), 1, _samples(tree, child)


def _opened(tree: dict[str, Any], level: int) -> tuple[list[Any], bytes, bytes]:
    """Return the children of a node, and what stands before and behind them. Inside strings quotes are escaped."""
    name = _LEVELS[level]
    holder = tree if name in tree else next((v for v in tree.values() if isinstance(v, dict) and name in v), {})
    children = holder.get(name, [])
    if not children:
        return [], b"", b""
    holder[name] = []
    key = b'"%b":[' % name.encode()
    head, _, tail = written(tree).rpartition(key + b"]")
    return children, head + key, b"]" + tail


def _closed(head: bytes, run: list[Piece], tail: bytes) -> Piece:
    text = head + b",".join([text for text, _, _ in run]) + tail
    return text, sum(points for _, points, _ in run), sum(samples for _, _, samples in run)


def _samples(metric: dict[str, Any], point: dict[str, Any]) -> int:
    """A histogram is its buckets, its count, and its sum where there is one; a summary its quantiles, sum and count."""
    if "summary" in metric:
        return len(point.get("quantileValues", ())) + 2
    if "histogram" in metric:
        return len(point.get("bucketCounts", ())) + 1 + ("sum" in point)
    return 1


def written(tree: Any) -> bytes:
    """Write JSON as OTLP requests have it here: on one line, without blanks."""
    return _ENCODER.encode(tree).encode()
