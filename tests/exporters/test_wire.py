"""Cutting requests: nothing lost, nothing out of order, nothing too large that could be smaller."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.testing import comparable, reference_request
from agent.testing.batches import batches
from ebbtide import Batch, Payload
from exporters.otlp_template import encode
from exporters.wire import count, cut, cut_payload, first_metric
from tests.exporters.test_otlp_template import any_batch


def read(bodies: list[bytes]) -> ExportMetricsServiceRequest:
    """The pieces as one request: serialized requests concatenate."""
    return ExportMetricsServiceRequest.FromString(b"".join(bodies))


def order(request: ExportMetricsServiceRequest) -> list[object]:
    return list(comparable(request))


def streams(request: ExportMetricsServiceRequest) -> list[tuple[bytes, ...]]:
    """Each point, in order, with all that stands around it: resource, scope, metric."""
    found = []
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = getattr(metric, metric.WhichOneof("data") or "")
                points = [point.SerializeToString(deterministic=True) for point in data.data_points]
                del data.data_points[:]
                around = resource.resource, scope.scope, metric
                shells = (resource.schema_url.encode(), scope.schema_url.encode(), *map(_bytes, around))
                found += [(*shells, point) for point in points]
    return found


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def judged(request: ExportMetricsServiceRequest) -> tuple[int, int]:
    """Points and samples, by protobuf's classes."""
    sizes = []
    for resource in request.resource_metrics:
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            kind = metric.WhichOneof("data") or ""
            for point in getattr(metric, kind).data_points:
                if kind == "histogram":
                    sizes.append(len(point.bucket_counts) + 1 + point.HasField("sum"))
                else:
                    sizes.append(len(point.quantile_values) + 2 if kind == "summary" else 1)
    return len(sizes), sum(sizes)


@settings(max_examples=200, deadline=None)
@given(any_batch(), st.integers(0, 1500))
def test_the_pieces_say_what_the_whole_says(batch: Batch, max_bytes: int):
    """Point by point, with resource, scope and metric around each, native histograms and exemplars included."""
    encoded = encode(batch)
    pieces = cut(encoded.body, max_bytes)
    assert streams(read([body for body, _, _ in pieces])) == streams(read([encoded.body]))
    for body, points, samples in pieces:
        assert judged(ExportMetricsServiceRequest.FromString(body)) == (points, samples) == count(body)
        assert len(body) <= max_bytes or points == 1
    counted = cut_payload(Payload(b"", encoded.body, encoded.points, encoded.samples), max_bytes) if pieces else []
    assert sum(piece.points for piece in counted) == encoded.points
    assert sum(piece.samples for piece in counted) == encoded.samples


@settings(max_examples=100, deadline=None)
@given(any_batch(), st.integers(1, 600))
def test_a_piece_cut_again_is_what_it_was(batch: Batch, max_bytes: int):
    for piece in cut(encode(batch).body, max_bytes):
        assert cut(piece[0], max_bytes) == [piece]


@pytest.mark.parametrize("max_bytes", [10**6, 4000, 2000, 1000, 700, 500, 300, 100, 1])
def test_cutting_keeps_everything_in_order(batch: Batch, max_bytes: int):
    whole = reference_request(batch)
    pieces = cut(whole.SerializeToString(), max_bytes)
    together = read([body for body, _, _ in pieces])
    assert comparable(together) == comparable(whole)
    assert order(together) == order(whole)
    assert all(len(body) <= max_bytes or points == 1 for body, points, _ in pieces)
    for body, points, samples in pieces:
        assert judged(ExportMetricsServiceRequest.FromString(body)) == (points, samples)
    assert sum(samples for _, _, samples in pieces) == len(batch)


@pytest.mark.parametrize("max_bytes", [10**6, 900, 600, 300, 150, 1])
def test_cutting_keeps_exponential_histograms_and_exemplars(max_bytes: int):
    whole = reference_request(batches()["native histograms"])
    pieces = cut(whole.SerializeToString(), max_bytes)
    assert comparable(read([body for body, _, _ in pieces])) == comparable(whole)
    assert all(len(body) <= max_bytes or points == 1 for body, points, _ in pieces)
    assert sum(points for _, points, _ in pieces) == len(comparable(whole))


def test_an_exponential_histogram_is_one_sample():
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="e")
    metric.exponential_histogram.data_points.add().positive.bucket_counts.extend([1, 2, 3])
    assert count(request.SerializeToString()) == (1, 1)


def test_what_fits_is_not_cut(batch: Batch):
    body = reference_request(batch).SerializeToString()
    assert cut(body, len(body)) == [(body, 22, len(batch))]


def test_by_resource_first(batch: Batch):
    body = reference_request(batch).SerializeToString()
    pieces = cut(body, len(body) - 1)
    assert [len(read([piece]).resource_metrics) for piece, _, _ in pieces] == [1, 1]


def test_pieces_are_as_few_as_they_can_be(batch: Batch):
    body = reference_request(batch).SerializeToString()
    assert len(cut(body, 700)) <= 2 * len(body) / 700 + 2


def test_what_stands_around_points_may_stand_anywhere():
    """Fields of a message come in any order, and what is not known goes along."""
    metric = ExportMetricsServiceRequest()
    points = metric.resource_metrics.add().scope_metrics.add().metrics.add(name="m").gauge.data_points
    for value in (1.0, 2.0, 3.0):
        points.add(as_double=value)
    inner = metric.resource_metrics[0].scope_metrics[0].SerializeToString()
    scope = b"\x1a\x01u" + inner + b"\x0a\x03\x0a\x01s" + b"\x78\x07"  # schema_url, metrics, scope, an unknown varint
    body = b"\x0a" + bytes([len(scope) + 2]) + b"\x12" + bytes([len(scope)]) + scope
    pieces = [ExportMetricsServiceRequest.FromString(piece) for piece, _, _ in cut(body, 1)]
    scopes = [piece.resource_metrics[0].scope_metrics[0] for piece in pieces]
    assert [(one.schema_url, one.scope.name, one.metrics[0].name) for one in scopes] == [("u", "s", "m")] * 3
    assert [one.metrics[0].gauge.data_points[0].as_double for one in scopes] == [1.0, 2.0, 3.0]
    assert all(one.SerializeToString().endswith(b"\x78\x07") for one in scopes)


def test_nothing_is_nothing():
    assert cut(b"", 10) == [(b"", 0, 0)]
    assert cut(b"\x0a\x00", 1) == []


def test_the_first_metric_is_named(batch: Batch):
    assert first_metric(reference_request(batch).SerializeToString()) == "request_total"
    for nothing in (b"", b"\x0a\x00", b"\x0a\x04\x12\x02\x12\x00"):
        assert first_metric(nothing) == ""


@settings(max_examples=30)
@given(points=st.integers(0, 200), samples=st.integers(0, 200), max_bytes=st.integers(1, 4000))
def test_counts_add_up_whatever_they_were(points: int, samples: int, max_bytes: int):
    pieces = cut_payload(Payload(b"k", _BODY, points, samples), max_bytes)
    assert sum(piece.points for piece in pieces) == points
    assert sum(piece.samples for piece in pieces) == samples
    assert all(piece.points >= 0 and piece.samples >= 0 and piece.key == b"k" for piece in pieces)


def _many() -> bytes:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for number in range(20):
        point = metrics.add(name=f"m{number}").histogram.data_points.add(count=3)
        point.bucket_counts.extend([1, 2])
    return request.SerializeToString()


_BODY = _many()
