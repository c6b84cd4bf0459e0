"""Extras in requests: where they go, how they are counted, how segments stay right. Equality with classes: test_otlp_template."""

from __future__ import annotations

from typing import Any

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.testing.batches import batches
from ebbtide import (
    CUSTOM_BUCKETS,
    STALE_NAN,
    Batch,
    Exemplar,
    Extra,
    Family,
    NativeHistogram,
    Owner,
    Resource,
    Row,
    Series,
)
from exporters.otlp_template import Division, Encoded, encode, template_of

NATIVE, COUNTER, GAUGE = Family("h", "histogram"), Family("c", "counter"), Family("g", "gauge")
WEB, API = (Resource.of({"service.name": name}) for name in ("web", "api"))
HISTOGRAM = NativeHistogram.of(count=3.0, sum=4.5, schema=0, positive={1: 3.0})
CUSTOM = NativeHistogram.of(count=3.0, sum=4.5, schema=CUSTOM_BUCKETS, positive={0: 3.0}, custom_bounds=(1.0,))
EXEMPLARS = Extra(exemplars=(Exemplar(("user", "x"), 1.0, 0),))


def row(series: Series, extra: Extra | None = None, *, stale: bool = False) -> Row:
    return Row(series, STALE_NAN if stale else 3.0, 7, 5, stale, extra)


def series(name: str, family: Family, resource: Resource = WEB, **labels: str) -> Series:
    return Series.of(name, labels, family, resource)


def shown(encoded: Encoded) -> list[tuple[str, str, str, int]]:
    """(service, metric, data, points) in order."""
    request = ExportMetricsServiceRequest.FromString(encoded.body)
    return [
        (one.resource.attributes[0].value.string_value, metric.name, kind, len(getattr(metric, kind).data_points))
        for one in request.resource_metrics
        for scope in one.scope_metrics
        for metric in scope.metrics
        if (kind := metric.WhichOneof("data"))
    ]


def points_of(encoded: Encoded) -> list[Any]:
    request = ExportMetricsServiceRequest.FromString(encoded.body)
    return [
        point
        for one in request.resource_metrics
        for scope in one.scope_metrics
        for metric in scope.metrics
        for point in getattr(metric, metric.WhichOneof("data") or "").data_points
    ]


def test_a_native_histogram_is_one_sample_and_one_point_of_its_resource() -> None:
    batch = Batch.of([
        row(series("c", COUNTER)),
        row(series("h", NATIVE, n="1"), Extra(HISTOGRAM)),
        row(series("h", NATIVE, n="2"), Extra(HISTOGRAM)),
        row(series("h", NATIVE, n="3"), Extra(CUSTOM)),
        row(series("h", NATIVE, API), Extra(HISTOGRAM)),
    ])  # fmt: skip
    encoded = encode(batch)
    assert shown(encoded) == [
        ("web", "c", "sum", 1), ("web", "h", "exponential_histogram", 2), ("web", "h", "histogram", 1),
        ("api", "h", "exponential_histogram", 1),
    ]  # fmt: skip
    assert (encoded.points, encoded.samples, encoded.incomplete) == (5, 5, 0)
    assert [(one.resource, one.points, one.samples) for one in encoded.segments] == [(WEB, 4, 4), (API, 1, 1)]
    assert b"".join(encoded.body[one.start : one.end] for one in encoded.segments) == encoded.body


def test_what_otlp_cannot_say_is_incomplete() -> None:
    gauge = NativeHistogram.of(count=1.0, sum=1.0, schema=0, is_gauge=True)
    fractions = NativeHistogram.of(count=0.5, sum=1.0, schema=0)
    moving = series("m", Family("m", "gaugehistogram"))
    rows = [row(series("h", NATIVE, n=str(n)), Extra(one)) for n, one in enumerate((gauge, fractions, HISTOGRAM))]
    encoded = encode(Batch.of([*rows, row(series("h", NATIVE)), row(moving, Extra(gauge))]))
    assert (encoded.points, encoded.samples, encoded.incomplete) == (1, 1, 4)


def test_a_stream_that_ends_is_of_the_kind_it_was() -> None:
    batch = Batch.of([
        row(series("h", NATIVE, n="1"), stale=True),
        row(series("h", NATIVE, n="2"), Extra(CUSTOM, EXEMPLARS.exemplars), stale=True),
        row(series("c", COUNTER), EXEMPLARS, stale=True),
    ])  # fmt: skip
    encoded = encode(batch)
    assert shown(encoded) == [
        ("web", "c", "sum", 1), ("web", "h", "exponential_histogram", 1), ("web", "h", "histogram", 1),
    ]  # fmt: skip
    assert all(point.flags == 1 and not point.exemplars for point in points_of(encoded))
    assert encoded.incomplete == 0


def test_exemplars_hang_on_their_points() -> None:
    classic, summary = Family("k", "histogram"), Family("s", "summary")
    bucket = series("k_bucket", classic, le="+Inf")
    batch = Batch.of([
        row(series("c", COUNTER, n="1"), EXEMPLARS), row(series("c", COUNTER, n="2")), row(series("g", GAUGE), EXEMPLARS),
        row(bucket, EXEMPLARS), row(series("k_count", classic), EXEMPLARS), row(series("s_count", summary), EXEMPLARS),
        row(series("k_bucket", classic, le="1", n="no count"), EXEMPLARS),
    ])  # fmt: skip
    encoded = encode(batch)
    hanging = [len(point.exemplars) for point in points_of(encoded) if hasattr(point, "exemplars")]
    assert hanging == [1, 0, 1, 2]
    assert (encoded.points, encoded.samples, encoded.incomplete) == (5, 6, 1)


def test_exemplars_come_and_go_while_the_form_stays() -> None:
    plain = Batch.of([row(series("c", COUNTER, n=str(n))) for n in range(3)])
    with_exemplars = Batch(plain.table, plain.values, plain.times, plain.starts, None, {1: EXEMPLARS})
    before = encode(plain)
    assert [len(point.exemplars) for point in points_of(encode(with_exemplars))] == [0, 1, 0]
    assert encode(plain.but()) == before
    assert encode(with_exemplars).segments[0].end > before.segments[0].end
    assert encode(with_exemplars).body is encode(with_exemplars).body


def test_a_segment_that_outgrows_its_room_is_cut() -> None:
    rows = [row(series("c", COUNTER, n=str(n)), EXEMPLARS) for n in range(4)]
    rows += [row(series("h", NATIVE, n=str(n)), Extra(HISTOGRAM)) for n in range(4)]
    batch = Batch.of(rows)
    room = template_of(batch.table).segments[0].end
    division = Division(Owner.of("room", room), lambda _: room)
    assert template_of(batch.table, division) is template_of(batch.table)
    divided = encode(batch, division)
    assert len(divided.segments) > 1
    assert all(one.end - one.start <= room for one in divided.segments)
    assert sum(one.points for one in divided.segments) == sum(one.samples for one in divided.segments) == 8
    assert len(encode(batch).segments) == 1


def test_the_kits_batch_says_all_it_can() -> None:
    batch = batches()["native histograms"]
    encoded = encode(batch)
    assert encoded.samples + encoded.incomplete == len(batch)
    assert encoded.incomplete == 3  # a float histogram, a gauge histogram, a histogram that is not there
    assert np.isnan([point.sum for point in points_of(encoded) if hasattr(point, "bucket_counts")]).any()
