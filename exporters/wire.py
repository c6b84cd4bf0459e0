"""Serialized OTLP requests: cutting them where they are too large, and counting them; their JSON form is beside.

Strategy. Everything here works on whole ``ExportMetricsServiceRequest`` messages by opentelemetry-proto's classes: it
runs for what is too large, not on the hot path. Cutting walks the four levels (resource, scope, metric, point) by one
recursion: what fits stays whole, what does not is dealt out, in order, into copies of its own shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from ebbtide import Payload
from exporters.otlp_json import from_json, request_to_json, to_json
from exporters.pieces import Piece, payloads

__all__ = ["Piece", "count", "cut", "cut_payload", "first_metric", "from_json", "request_to_json", "to_json"]

_PREFIX = 6  # bytes of a tag and a length at most: field numbers are below 16, lengths below 2**35


def cut(body: bytes, max_bytes: int) -> list[Piece]:
    """Cut a serialized request into requests of at most ``max_bytes``, in order, nothing lost.

    A single point that is larger still comes back alone, larger than asked for. Each piece has its counts; samples are
    counted as Prometheus would expose the point: a histogram is its buckets, its count, and its sum where there is one.
    """
    request = ExportMetricsServiceRequest.FromString(body)
    return [(part.SerializeToString(), *count(part)) for part in _split(request, 0, max_bytes)]


def cut_payload(payload: Payload, max_bytes: int) -> list[Payload]:
    """``cut`` for a payload: points and samples of the pieces add up to the payload's."""
    return payloads(payload, cut(payload.body, max_bytes))


def count(request: Message) -> tuple[int, int]:
    """Return the points of a request, and the Prometheus samples they stand for."""
    points = samples = 0
    for kind, data_points in _walk(request):
        points += len(data_points)
        if kind == "histogram":
            samples += sum(len(p.bucket_counts) + 1 + p.HasField("sum") for p in data_points)
        elif kind == "summary":
            samples += sum(len(p.quantile_values) + 2 for p in data_points)
        else:
            samples += len(data_points)
    return points, samples


def first_metric(body: bytes) -> str:
    """Return the name of the first metric of a serialized request; "" where there is none."""
    request = ExportMetricsServiceRequest.FromString(body)
    metrics = (m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics)
    return next((metric.name for metric in metrics), "")


def _walk(request: Any) -> Iterator[tuple[str, Any]]:
    for resource_metrics in request.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                yield metric.WhichOneof("data") or "", _points_of(metric)


def _points_of(metric: Any) -> Any:
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else []


_LEVELS: tuple[Callable[[Any], Any], ...] = (
    lambda request: request.resource_metrics,
    lambda resource_metrics: resource_metrics.scope_metrics,
    lambda scope_metrics: scope_metrics.metrics,
    _points_of,
)


def _split(message: Any, level: int, limit: int) -> Iterator[Any]:
    """Cut a message of this level into messages of at most ``limit`` bytes, or of one point."""
    if level == len(_LEVELS) or message.ByteSize() <= limit:
        yield message
        return
    children = _LEVELS[level]
    shell = type(message)()
    shell.CopyFrom(message)
    del children(shell)[:]
    room = limit - shell.ByteSize() - _PREFIX  # of a metric, the length of the data within grows too
    run: list[Any] = []
    used = 0
    for child in children(message):
        for part in _split(child, level + 1, room - _PREFIX):
            size = part.ByteSize() + _PREFIX
            if run and used + size > room:
                yield _filled(shell, children, run)
                run, used = [], 0
            run.append(part)
            used += size
    if run:
        yield _filled(shell, children, run)


def _filled(shell: Any, children: Callable[[Any], Any], run: list[Any]) -> Any:
    message = type(shell)()
    message.CopyFrom(shell)
    children(message).extend(run)
    return message
