"""Single points of native histograms, and exemplars, field by field."""

from __future__ import annotations

import math
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogram, Histogram

from ebbtide import CUSTOM_BUCKETS, STALE_NAN, Buckets, Exemplar, NativeHistogram
from exporters.otlp_native import Moment, data_of, ended, exemplars_field, point

AT = Moment(time=1_700_000_000_000_000_001, start=5)
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def native(**parts: Any) -> NativeHistogram:
    return NativeHistogram.of(**{"count": 0.0, "sum": 0.0, "schema": 0, **parts})


def exponential(histogram: NativeHistogram, *exemplars: Exemplar) -> Any:
    return ExponentialHistogram.FromString(point(histogram, AT, b"", exemplars)).data_points[0]


def explicit(histogram: NativeHistogram) -> Any:
    return Histogram.FromString(point(histogram, AT, b"")).data_points[0]


def test_an_exponential_histogram() -> None:
    made = exponential(
        native(count=9.0, sum=-1.5, schema=3, zero_threshold=1e-128, zero_count=2.0, positive={-3: 1.0, 1: 300.0}, negative={4: 2.0})
    )  # fmt: skip
    assert (made.time_unix_nano, made.start_time_unix_nano, made.flags) == (AT.time, AT.start, 0)
    assert (made.scale, made.sum, made.zero_threshold, made.zero_count) == (3, -1.5, 1e-128, 2)
    assert (made.positive.offset, list(made.positive.bucket_counts)) == (-4, [1, 0, 0, 0, 300])
    assert (made.negative.offset, list(made.negative.bucket_counts)) == (3, [2])
    assert made.count == 305
    assert not (made.HasField("min"))
    assert not (made.HasField("max"))


def test_sides_without_buckets_are_absent() -> None:
    made = exponential(native())
    assert not (made.HasField("positive"))
    assert not (made.HasField("negative"))
    assert made.HasField("sum")


@pytest.mark.parametrize("schema", range(-4, 9))
def test_overflow_buckets_are_dropped_and_not_counted(schema: int) -> None:
    last = (1024 << schema) if schema >= 0 else 1024 >> -schema
    made = exponential(native(count=3.0, schema=schema, positive={last: 1.0, last + 1: 2.0}))
    assert (made.positive.offset, list(made.positive.bucket_counts), made.count) == (last - 1, [1], 1)
    assert not exponential(native(count=2.0, schema=schema, negative={last + 1: 2.0})).HasField("negative")


@pytest.mark.parametrize(("schema", "scale"), [(-4, -4), (8, 8), (9, 8), (20, 8)])
def test_the_schema_is_the_scale_up_to_8(schema: int, scale: int) -> None:
    assert exponential(native(schema=schema)).scale == scale


@pytest.mark.parametrize("total", [math.nan, math.inf, -math.inf, 0.0])
def test_any_sum_is_passed_on(total: float) -> None:
    assert exponential(native(sum=total)).sum == pytest.approx(total, nan_ok=True)


def test_a_stale_sum_is_an_end() -> None:
    for histogram in (native(sum=STALE_NAN), native(schema=CUSTOM_BUCKETS, sum=STALE_NAN)):
        body = point(histogram, AT, b"", [Exemplar((), 1.0, 0)])
        assert body == ended(AT, b"")
    made = exponential(native(sum=STALE_NAN, count=3.0, positive={1: 3.0}))
    assert (made.flags, made.count, made.time_unix_nano, made.start_time_unix_nano) == (1, 0, AT.time, AT.start)


def test_custom_bounds_become_an_explicit_histogram() -> None:
    histogram = native(
        count=6.0, sum=7.5, schema=CUSTOM_BUCKETS, positive={1: 2.0, 3: 4.0}, custom_bounds=(0.1, 1.0, 5.0)
    )
    assert data_of(histogram) == "histogram"
    made = explicit(histogram)
    assert (list(made.explicit_bounds), list(made.bucket_counts)) == ([0.1, 1.0, 5.0], [0, 2, 0, 4])
    assert (made.count, made.sum, made.flags, made.time_unix_nano) == (6, 7.5, 0, AT.time)


@pytest.mark.parametrize(
    ("count", "buckets", "bounds", "counts"),
    [
        (5.0, {}, (), [5]),
        (5.0, {0: 5.0}, (), [5]),
        (5.0, {0: 3.0}, (1.0,), [3, 2]),
        (1.0, {0: 3.0}, (1.0,), [3, 0]),
    ],
)
def test_counts_of_custom_bounds_add_up(
    count: float, buckets: dict[int, float], bounds: tuple[float, ...], counts: list[int]
) -> None:
    made = explicit(native(count=count, schema=CUSTOM_BUCKETS, positive=buckets, custom_bounds=bounds))
    assert (list(made.bucket_counts), made.count) == (counts, sum(counts))


def test_more_buckets_than_bounds_do_not_fail() -> None:
    odd = NativeHistogram(9.0, 1.0, CUSTOM_BUCKETS, 0.0, 0.0, Buckets(-1, (1.0,) * 5), Buckets(), (1.0,))
    assert list(explicit(odd).bucket_counts) == [2, 7]


@pytest.mark.parametrize(
    ("labels", "trace", "span", "attributes"),
    [
        ((), "", "", {}),
        (("span_id", SPAN, "trace_id", TRACE, "user", "ü"), TRACE, SPAN, {"user": "ü"}),
        (("trace_id", TRACE.upper()), TRACE, "", {}),
        (("trace_id", TRACE[:-1]), "", "", {"trace_id": TRACE[:-1]}),
        (("trace_id", TRACE + "0"), "", "", {"trace_id": TRACE + "0"}),
        (("span_id", TRACE, "trace_id", SPAN), "", "", {"span_id": TRACE, "trace_id": SPAN}),
        (("span_id", "0" * 16, "trace_id", "0" * 32), "", "", {"span_id": "0" * 16, "trace_id": "0" * 32}),
        (("trace_id", "0af7 651916cd43dd8448eb211c8031"), "", "", {"trace_id": "0af7 651916cd43dd8448eb211c8031"}),
        (("traceID", TRACE), "", "", {"traceID": TRACE}),
    ],
)
def test_exemplars(labels: tuple[str, ...], trace: str, span: str, attributes: dict[str, str]) -> None:
    [made] = exponential(native(), Exemplar(labels, 0.25, 7)).exemplars
    assert (made.trace_id.hex(), made.span_id.hex()) == (trace, span)
    assert {one.key: one.value.string_value for one in made.filtered_attributes} == attributes
    assert (made.as_double, made.time_unix_nano, made.WhichOneof("value")) == (0.25, 7, "as_double")


def test_an_exemplar_of_zero_without_time() -> None:
    [made] = exponential(native(), Exemplar((), 0.0, 0)).exemplars
    assert (made.WhichOneof("value"), made.as_double, made.time_unix_nano) == ("as_double", 0.0, 0)
    assert exemplars_field((), 5) == b""


@pytest.mark.parametrize("time", [-1, 2**64])
def test_a_time_that_cannot_be_said_is_unknown(time: int) -> None:
    [made] = exponential(native(), Exemplar((), 1.0, time)).exemplars
    assert made.time_unix_nano == 0


def test_points_before_1970_are_written_as_the_template_writes_them() -> None:
    [made] = ExponentialHistogram.FromString(ended(Moment(time=-1, start=0), b"")).data_points
    assert made.time_unix_nano == 2**64 - 1
