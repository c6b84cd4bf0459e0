"""The reference encoder, against requests written down by hand."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.batch import STALE_NAN, Batch, Row
from agent.identity import Family, Resource, Scope
from agent.series import Series
from agent.testing import comparable, reference_request

HISTOGRAM = Family("h", "histogram", "ms", "Help.")


def of(series: Series, value: float, start: int = 3, stale: bool = False) -> Row:
    return Row(series, value, 5, start, stale)


def metric(*rows: Row) -> Any:
    """The only metric that these rows make."""
    (resource,) = reference_request(Batch.of(rows)).resource_metrics
    (scope,) = resource.scope_metrics
    (found,) = scope.metrics
    return found


def expected(text: str, kind: str) -> str:
    return f'{text} metadata {{ key: "prometheus.type" value {{ string_value: "{kind}" }} }}'


def assert_is(found: Any, text: str) -> None:
    assert found == text_format.Parse(text, type(found)())


@pytest.mark.parametrize(
    ("kind", "data", "more"),
    [
        ("counter", "sum", "aggregation_temporality: 2 is_monotonic: true"),
        ("info", "sum", "aggregation_temporality: 2"),
        ("stateset", "sum", "aggregation_temporality: 2"),
        ("gauge", "gauge", ""),
        ("unknown", "gauge", ""),
    ],
)
def test_numbers(kind: Any, data: str, more: str):
    found = metric(of(Series.of("x", {"b": "2", "a": "1"}, Family("x", kind, "By", "Help.")), 7))
    attributes = "".join(
        f'attributes {{ key: "{k}" value {{ string_value: "{v}" }} }}' for k, v in (("a", 1), ("b", 2))
    )
    point = f"data_points {{ {attributes} start_time_unix_nano: 3 time_unix_nano: 5 as_double: 7 }}"
    assert_is(found, expected(f'name: "x" unit: "By" description: "Help." {data} {{ {point} {more} }}', kind))


def test_a_histogram_without_inf_or_sum_and_in_disorder():
    rows = [of(Series.of("h_count", {}, HISTOGRAM), 9)]
    rows += [of(Series.of("h_bucket", {"le": le}, HISTOGRAM), value) for le, value in (("10", 7), ("2.0", 4), ("5", 3))]
    point = "explicit_bounds: [2, 5, 10] bucket_counts: [4, 0, 3, 2] count: 9 start_time_unix_nano: 3 time_unix_nano: 5"
    head = 'name: "h" unit: "ms" description: "Help."'
    body = f"{head} histogram {{ data_points {{ {point} }} aggregation_temporality: 2 }}"
    assert_is(metric(*rows), expected(body, "histogram"))


def test_a_histogram_of_sum_and_count_alone_and_one_that_ended():
    found = metric(of(Series.of("h_count", {}, HISTOGRAM), 9), of(Series.of("h_sum", {}, HISTOGRAM), 1.5))
    (point,) = found.histogram.data_points
    assert (list(point.bucket_counts), list(point.explicit_bounds), point.sum) == ([9], [], 1.5)
    ended = metric(of(Series.of("h_count", {}, HISTOGRAM), STALE_NAN, stale=True))
    (point,) = ended.histogram.data_points
    assert (point.flags, point.count, list(point.bucket_counts)) == (1, 0, [0])


def test_a_summary_without_its_sum():
    family = Family("s", "summary")
    found = metric(of(Series.of("s", {"quantile": "0.5"}, family), 2), of(Series.of("s_count", {}, family), 3))
    (point,) = found.summary.data_points
    assert (point.count, point.sum, point.quantile_values[0].quantile, point.quantile_values[0].value) == (3, 0, 0.5, 2)


def test_what_is_left_out():
    rows = [of(Series.of("h_bucket", {"le": "1"}, HISTOGRAM), 1), of(Series.of("h_sum", {}, HISTOGRAM), 1)]
    rows.append(of(Series.of("g_bucket", {"le": "1"}, Family("g", "gaugehistogram")), 1))
    assert reference_request(Batch.of(rows)) == ExportMetricsServiceRequest()


def test_resources_and_scopes():
    resource = Resource.of({"b": True, "i": 1, "f": 1.5, "s": "x"})
    gauge = Family("g", "gauge")
    rows = [
        of(Series.of("g", {}, gauge, resource), 1),
        of(Series.of("g", {}, gauge, resource, Scope.of("lib", "2", "url", {"k": "v"})), 1),
    ]
    request = reference_request(Batch.of(rows), "me", "9")
    (found,) = request.resource_metrics
    kinds = {a.key: a.value.WhichOneof("value") for a in found.resource.attributes}
    assert kinds == {"b": "bool_value", "i": "int_value", "f": "double_value", "s": "string_value"}
    assert [(s.scope.name, s.scope.version, s.schema_url) for s in found.scope_metrics] == [
        ("me", "9", ""),
        ("lib", "2", "url"),
    ]
    assert len(comparable(request)) == 2


def test_two_points_of_one_identity_cannot_be_compared():
    request = reference_request(Batch.of([of(Series.of("g"), 1)]))
    request.MergeFrom(reference_request(Batch.of([of(Series.of("g"), 2)])))
    with pytest.raises(ValueError, match="two points of g"):
        comparable(request)
