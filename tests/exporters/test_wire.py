"""Cutting requests: nothing lost, nothing out of order, nothing too large that could be smaller."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.testing import comparable, reference_request
from agent.testing.batches import batches
from ebbtide import Batch, Payload
from exporters.wire import count, cut, cut_payload


def read(bodies: list[bytes]) -> ExportMetricsServiceRequest:
    """The pieces as one request: serialized requests concatenate."""
    return ExportMetricsServiceRequest.FromString(b"".join(bodies))


def order(request: ExportMetricsServiceRequest) -> list[object]:
    return list(comparable(request))


@pytest.mark.parametrize("max_bytes", [10**6, 4000, 2000, 1000, 700, 500, 300, 100, 1])
def test_cutting_keeps_everything_in_order(batch: Batch, max_bytes: int):
    whole = reference_request(batch)
    pieces = cut(whole.SerializeToString(), max_bytes)
    together = read([body for body, _, _ in pieces])
    assert comparable(together) == comparable(whole)
    assert order(together) == order(whole)
    assert all(len(body) <= max_bytes or points == 1 for body, points, _ in pieces)
    for body, points, samples in pieces:
        assert count(ExportMetricsServiceRequest.FromString(body)) == (points, samples)
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
    assert count(request) == (1, 1)


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


def test_nothing_is_nothing():
    assert cut(b"", 10) == [(b"", 0, 0)]


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
