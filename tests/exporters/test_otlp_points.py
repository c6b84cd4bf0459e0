"""Which rows make one point, and where that point belongs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    NumberDataPoint,
)

from ebbtide import EMPTY_RESOURCE, Batch, Family, Kind, Resource, Scope, Series, part_of
from exporters.otlp_points import Metric, Point, Scopes, attributes_of, group, is_native

WEB, API = Resource.of({"service.name": "web"}), Resource.of({"service.name": "api"})
LIBRARY = Scope.of("lib", "1")
LATENCY, SIZE, GC = Family("latency", "histogram", "ms"), Family("size", "histogram"), Family("gc", "summary", "s")


def series(name: str, family: Family | Kind = "gauge", resource: Resource = EMPTY_RESOURCE, **labels: str) -> Series:
    return Series.of(name, labels, family if isinstance(family, Family) else Family(name, family), resource)


def metrics(groups: dict[Resource, Scopes]) -> list[Metric]:
    return [metric for scopes in groups.values() for found in scopes.values() for metric in found]


def only_point(rows: list[Series]) -> Point:
    (metric,) = metrics(group(rows))
    (point,) = metric.points
    return point


def histogram(family: Family, *bounds: str, resource: Resource = EMPTY_RESOURCE, **labels: str) -> list[Series]:
    rows = [series(f"{family.name}_bucket", family, resource, le=le, **labels) for le in bounds]
    return [*rows, *(series(f"{family.name}_{part}", family, resource, **labels) for part in ("sum", "count"))]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("counter", "sum"),
        ("info", "sum"),
        ("stateset", "sum"),
        ("gauge", "gauge"),
        ("unknown", "gauge"),
    ],
)
def test_numbers_are_points_of_their_own(kind: Kind, data: str) -> None:
    family = Family("x", kind)
    (metric,) = metrics(group([series("x", family, a="1"), series("x", family, a="2")]))
    assert (metric.name, metric.data, metric.family) == ("x", data, family)
    assert [(point.row, point.rows) for point in metric.points] == [(0, [0]), (1, [1])]


def test_a_counters_total_keeps_its_name() -> None:
    (metric,) = metrics(group([series("x_total", Family("x", "counter"))]))
    assert metric.name == "x_total"


def test_what_no_kind_of_otlp_fits_is_in_no_point() -> None:
    rows = [series("x_bucket", Family("x", "gaugehistogram"), le="1"), series("x", "histogram"), series("y", "summary")]
    assert group(rows) == {}


def test_a_histogram_is_one_point_whatever_the_order_of_its_rows() -> None:
    rows = histogram(LATENCY, "10", "+Inf", "2.5", a="b")
    for shift in range(len(rows)):
        turned = rows[shift:] + rows[:shift]
        (metric,) = metrics(group(turned))
        assert (metric.name, metric.data) == ("latency", "histogram")
        (point,) = metric.points
        place = [turned.index(row) for row in rows]
        assert point.parts == {10.0: place[0], 2.5: place[2]}
        assert (point.spare, point.sum_row, point.row) == ([place[1]], place[3], place[4])
        assert sorted(point.rows) == [0, 1, 2, 3, 4]
        assert HistogramDataPoint.FromString(point.attributes).attributes[0].value.string_value == "b"


def test_a_summary_is_one_point() -> None:
    rows = [series("gc", GC, quantile="0.5"), series("gc_count", GC), series("gc", GC, quantile="0.99")]
    point = only_point([*rows, series("gc_sum", GC)])
    assert (point.parts, point.row, point.sum_row, point.spare) == ({0.5: 0, 0.99: 2}, 1, 3, [])


def test_without_its_count_there_is_no_point() -> None:
    rows = histogram(LATENCY, "1", "+Inf", a="1")[:-1] + histogram(LATENCY, "1", a="2")
    assert only_point(rows).row == 5
    assert group(histogram(LATENCY, "1", "+Inf")[:-1]) == {}
    assert group([series("gc", GC, quantile="0.5"), series("gc_sum", GC)]) == {}


def test_without_its_sum_or_its_buckets_there_is_one() -> None:
    point = only_point([series("latency_count", LATENCY)])
    assert (point.row, point.sum_row, point.parts, point.rows) == (0, -1, {}, [0])


def test_a_bound_given_twice_is_spare_the_second_time() -> None:
    point = only_point(histogram(LATENCY, "1", "1.0", "1e0", "+Inf"))
    assert (point.parts, point.spare, sorted(point.rows)) == ({1.0: 0}, [1, 2, 3], [0, 1, 2, 3, 4, 5])


def test_a_quantile_may_be_infinite_and_a_bound_below_zero() -> None:
    assert only_point(histogram(LATENCY, "-5", "-Inf")).parts == {-5.0: 0, -math.inf: 1}
    assert only_point([series("gc_count", GC), series("gc", GC, quantile="+Inf")]).parts == {math.inf: 1}


def test_what_differs_in_labels_family_resource_or_scope_is_not_one() -> None:
    other_unit = Family("latency", "histogram", "s")
    rows = [
        *histogram(LATENCY, "1"),
        *histogram(LATENCY, "1", a="b"),
        *histogram(other_unit, "1"),
        *histogram(LATENCY, "1", resource=WEB),
        *(row.but(scope=LIBRARY) for row in histogram(LATENCY, "1")),
    ]
    groups = group(rows)
    assert [len(scopes) for scopes in groups.values()] == [2, 1]
    assert [[point.row for point in metric.points] for metric in metrics(groups)] == [[2, 5], [8], [14], [11]]


def test_attributes_are_the_labels_without_the_bound() -> None:
    rows = [*histogram(LATENCY, "1", zone="a", dst="b"), series("g", zone="a", dst="b")]
    latency, gauge = metrics(group(rows))
    compound = HistogramDataPoint.FromString(latency.points[0].attributes)
    number = NumberDataPoint.FromString(gauge.points[0].attributes)
    for point in (compound, number):
        assert [(pair.key, pair.value.string_value) for pair in point.attributes] == [("dst", "b"), ("zone", "a")]


def rows_of(groups: dict[Resource, Scopes]) -> list[int]:
    return sorted(row for metric in metrics(groups) for point in metric.points for row in point.rows)


def test_every_row_of_a_batch_is_in_one_point(batch: Batch) -> None:
    groups = group(batch.table)
    assert set(groups) == {row.resource for row in batch.table}
    assert rows_of(groups) == list(range(len(batch)))


def wholes(*bounds: str) -> list[Series]:
    rows: list[Series] = []
    for resource in (WEB, API):
        for direction in ("in", "out"):
            for family in (LATENCY, SIZE):
                rows += histogram(family, *bounds, resource=resource, direction=direction)
            rows.append(series("request_total", "counter", resource, direction=direction))
        rows += [series("gc", GC, resource, quantile=q) for q in ("0.5", "0.9")]
        rows += [series("gc_sum", GC, resource), series("gc_count", GC, resource)]
    return [*rows, series("g", "gauge", WEB).but(scope=LIBRARY)]


ROWS = wholes("1", "10", "+Inf")


def told(rows: Sequence[Series]) -> object:
    """All that the groups of these rows say, in terms of the series themselves, whatever their order."""
    return {
        (id(resource), id(scope), metric.name, metric.data, metric.family.identity): {
            (
                rows[point.row],
                rows[point.sum_row] if point.sum_row >= 0 else None,
                frozenset((number, rows[row]) for number, row in point.parts.items()),
                frozenset(rows[row] for row in point.spare),
                point.attributes,
            )
            for point in metric.points
        }
        for resource, scopes in group(rows).items()
        for scope, found in scopes.items()
        for metric in found
    }


@settings(max_examples=50, deadline=None)
@given(st.permutations(ROWS))
def test_the_order_of_rows_does_not_matter(rows: list[Series]) -> None:
    assert told(rows) == told(ROWS)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, len(ROWS) - 1)))
def test_what_is_in_no_point_lacks_its_count_and_no_row_is_in_two(kept: set[int]) -> None:
    rows = [ROWS[row] for row in sorted(kept)]
    inside = rows_of(group(rows))
    assert len(inside) == len(set(inside))
    for row in set(range(len(rows))).difference(inside):
        part = part_of(rows[row])
        assert part is not None
        speaker = rows[row].but(
            name=f"{part.name}_count", labels=dict(pairwise(part.base.flat)), family=rows[row].family
        )
        assert speaker not in rows


def pairwise(flat: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)


def test_the_attributes_of_a_series_are_encoded_once() -> None:
    row = series("g", a="b")
    assert only_point([row]).attributes is only_point([row]).attributes


def test_native_histograms_are_in_no_point_here() -> None:
    family = Family("items_count", "histogram")
    one = Series.of("items_count", {"a": "b"}, family)
    assert is_native(one)
    assert group([one]) == {}
    assert not is_native(Series.of("items_count_count", {}, family))
    assert not is_native(Series.of("items", {}, Family("items", "gaugehistogram")))


def test_attributes_are_those_of_the_data() -> None:
    one = Series.of("h", {"a": "b"}, Family("h", "histogram"))
    for data, message in (("exponential_histogram", ExponentialHistogramDataPoint), ("histogram", HistogramDataPoint)):
        [attribute] = message.FromString(attributes_of(one, data)).attributes
        assert (attribute.key, attribute.value.string_value) == ("a", "b")
