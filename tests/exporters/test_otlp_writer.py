"""Forms: where everything comes to lie, and taking some of the points."""

from __future__ import annotations

import numpy as np
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from ebbtide import AGENT_SCOPE, Family, Resource, Scope, Series
from exporters.otlp_points import group
from exporters.otlp_tails import NUMBER_TAIL, START, TIME, VALUE
from exporters.otlp_writer import Form, divide, take, write

COUNTER, HISTOGRAM = Family("c_total", "counter"), Family("h", "histogram")
RESOURCES = [Resource.of({"service.name": name}) for name in ("web", "api")]


def table() -> list[Series]:
    rows = []
    for resource in RESOURCES:
        rows += [Series.of("c_total", {"n": str(n)}, COUNTER, resource) for n in range(3)]
        for n in range(2):
            labels = {"n": str(n)}
            rows += [Series.of("h_bucket", {**labels, "le": le}, HISTOGRAM, resource) for le in ("1", "5", "+Inf")]
            rows += [Series.of(f"h_{part}", labels, HISTOGRAM, resource) for part in ("count", "sum")]
    return rows


def written() -> Form:
    return write(group(table()), len(table()))


def names(form: Form) -> list[tuple[str, str, int]]:
    request = ExportMetricsServiceRequest.FromString(form.body)
    return [
        (resource.resource.attributes[0].value.string_value, metric.name, len(getattr(metric, kind).data_points))
        for resource in request.resource_metrics
        for metric in resource.scope_metrics[0].metrics
        if (kind := metric.WhichOneof("data"))
    ]


def test_every_row_has_its_point() -> None:
    form = written()
    assert form.points == 10
    assert form.samples == len(table())
    assert [segment.samples for segment in form.segments] == [13, 13]
    assert names(form) == [("web", "c_total", 3), ("web", "h", 2), ("api", "c_total", 3), ("api", "h", 2)]


def test_a_scope_that_is_not_named_is_the_converters() -> None:
    scopes = [AGENT_SCOPE, Scope.of("", "", "", {"lib": "x"}), Scope.of("n"), Scope.of("", "2")]
    rows = [Series.of("c_total", {}, COUNTER, RESOURCES[0], scope) for scope in scopes]
    (resource,) = ExportMetricsServiceRequest.FromString(write(group(rows), len(rows)).body).resource_metrics
    found = [scope.scope for scope in resource.scope_metrics]
    assert [(one.name, one.version != "", len(one.attributes)) for one in found] == [
        ("ebbtide", True, 0), ("ebbtide", True, 1), ("n", False, 0), ("", True, 0),
    ]  # fmt: skip


def test_holes_lie_behind_their_tags() -> None:
    form = written()
    for shape in form.shapes:
        for tail in shape.tails.tolist():
            assert [form.body[tail + at - 1] for at in (START, TIME, VALUE)] == [0x11, 0x19, 0x21]
            assert form.body[tail : tail + 9] == NUMBER_TAIL[:9]
            assert form.body[tail + shape.flags_at] == 0


@pytest.mark.parametrize("gone", [[], [0], [1, 2], [0, 1, 2], [3, 4, 5, 6, 7], list(range(13)), list(range(26))])
def test_whole_points_can_be_left_out(gone: list[int]) -> None:
    rows = [row for row in range(len(table())) if row not in gone]
    taken = take(written(), np.array(rows, np.intp))
    left = [table()[row] for row in rows]
    assert taken is not None
    alone = write(group(left), len(left))
    assert taken.body == alone.body
    assert taken.segments == alone.segments
    assert (taken.points, taken.samples) == (alone.points, alone.samples)
    shapes = (sorted(form.shapes, key=lambda shape: shape.data) for form in (taken, alone))
    for one, other in zip(*shapes, strict=True):
        assert one.tails.tolist() == other.tails.tolist()
        assert one.rows.tolist() == other.rows.tolist()
        assert one.part_rows.tolist() == other.part_rows.tolist()


@pytest.mark.parametrize("gone", [3, 5, 6, 7])
def test_a_point_cannot_be_taken_in_part(gone: int) -> None:
    rows = np.array([row for row in range(len(table())) if row != gone], np.intp)
    assert take(written(), rows) is None


def test_nothing_is_taken_from_what_was_taken() -> None:
    taken = take(written(), np.arange(3))
    assert taken is not None
    assert take(taken, np.arange(2)) is None


def test_a_form_is_divided_by_metric_then_by_point() -> None:
    form = written()
    sizes = [segment.end - segment.start for segment in form.segments]
    assert divide(form, lambda _: max(sizes)) is form
    assert names(divide(form, lambda _: sizes[0] - 1))[:3] == [("web", "c_total", 3), ("web", "h", 1), ("web", "h", 1)]
    alone = divide(form, lambda _: 1)
    assert [(segment.resource, segment.points) for segment in alone.segments] == [
        (r, 1) for r in RESOURCES for _ in range(5)
    ]
    halves = divide(form, lambda resource: 10**6 if resource is RESOURCES[0] else sizes[1] - 1)
    assert (halves.segments[0].resource, halves.segments[0].samples) == (RESOURCES[0], 13)
    assert sum(segment.samples for segment in halves.segments[1:]) == 13


def test_points_can_be_taken_from_what_was_divided() -> None:
    rows = np.arange(3, 26)
    taken, alone = take(divide(written(), lambda _: 1), rows), take(written(), rows)
    assert taken is not None
    assert alone is not None
    assert (taken.points, taken.samples) == (alone.points, alone.samples)
    assert len(taken.segments) == taken.points
