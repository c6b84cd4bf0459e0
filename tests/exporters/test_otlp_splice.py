"""Growing points changes those points, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from ebbtide import Family, Resource, Series
from exporters.otlp_native import EXEMPLARS_FIELD, exemplars_field
from exporters.otlp_points import group
from exporters.otlp_splice import grow
from exporters.otlp_writer import Form, write
from exporters.protobuf import length_delimited

COUNTER, GAUGE, HISTOGRAM = Family("c", "counter"), Family("g", "gauge"), Family("h", "histogram")


def written(size: int) -> Form:
    """One resource of a counter, a gauge and histograms, with names so long that lengths need one, two or three bytes."""
    rows = [Series.of("c", {"n": str(n)}, COUNTER, Resource.of({"r": "x" * size})) for n in range(5)]
    rows += [Series.of("g", {"n": "x" * size}, GAUGE, rows[0].resource)]
    for n in range(3):
        rows += [Series.of("h_count", {"n": str(n)}, HISTOGRAM, rows[0].resource)]
    return write(group(rows), len(rows))


def growth(size: int) -> bytes:
    from ebbtide import Exemplar

    return exemplars_field([Exemplar(("k", "v" * size), 1.0, 1)], EXEMPLARS_FIELD["number"])


@given(st.sampled_from([1, 100, 20_000]), st.sets(st.integers(0, 5)), st.sampled_from([0, 60, 120, 17_000]))
def test_points_grow(size: int, chosen: set[int], more: int) -> None:
    form = written(size)
    [segment] = form.segments
    points = [(int(form.starts[number]), growth(more)) for number in sorted(chosen)]
    grown = grow(form.body, segment.start, segment.end, points)
    expected = ExportMetricsServiceRequest.FromString(form.body)
    counter, gauge, _ = expected.resource_metrics[0].scope_metrics[0].metrics
    numbers = [*counter.sum.data_points, *gauge.gauge.data_points]
    for number in chosen:
        numbers[number].MergeFromString(growth(more))
    assert ExportMetricsServiceRequest.FromString(grown) == expected


def test_nothing_grows() -> None:
    form = written(1)
    assert grow(form.body, 0, len(form.body), []) == form.body


@pytest.mark.parametrize("size", [1, 200])
def test_scopes_are_added(size: int) -> None:
    form = written(size)
    grown = grow(form.body, 0, len(form.body), [(int(form.starts[7]), b"")], length_delimited(2, b"\x1a\x01u"))
    request = ExportMetricsServiceRequest.FromString(grown)
    assert [scope.schema_url for scope in request.resource_metrics[0].scope_metrics] == ["", "u"]
    del request.resource_metrics[0].scope_metrics[1:]
    assert request == ExportMetricsServiceRequest.FromString(form.body)
