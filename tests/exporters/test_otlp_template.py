"""A filled template decodes equal to the request built with protobuf's classes, for any batch over any table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.testing import comparable, reference_request
from ebbtide import (
    AGENT_SCOPE,
    CUSTOM_BUCKETS,
    STALE_NAN,
    Batch,
    Buckets,
    Exemplar,
    Extra,
    Family,
    NativeHistogram,
    Owner,
    Resource,
    Scope,
    Series,
    SeriesTable,
    flatten,
)
from exporters.otlp_template import Division, encode, template_of
from exporters.wire import count

FAMILIES = [
    Family("req_total", "counter", "{request}", "Requests."),
    Family("open", "gauge"),
    Family("odd", "unknown"),
    Family("build_info", "info"),
    Family("state", "stateset"),
    Family("latency_ms", "histogram", "ms", "Latency."),
    Family("latency_ms", "histogram", "s"),
    Family("gc", "summary", "s"),
    Family("gh", "gaugehistogram"),
]
BOUNDS = ["1", "1.0", "2", "5e0", "10", "+Inf", "inf", "0.5", "-3", "x", "NaN"]
RESOURCES = [Resource.of(), Resource.of({"service.name": "web", "n": -3, "on": True, "share": 0.5, "empty": ""})]
SCOPES = [AGENT_SCOPE, Scope.of("lib", "1", "https://x", {"k": "v"})]
LABELS = st.dictionaries(st.sampled_from(["a", "ü", "b.c"]), st.text(max_size=4), max_size=3)
NUMBERS = st.one_of(
    st.integers(-5, 10**18).map(float), st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, 2.0**70, 0.5])
)

SIDES = st.builds(Buckets, st.integers(-20, 1030), st.lists(st.integers(0, 300).map(float), max_size=5).map(tuple))
NATIVES = st.one_of(
    st.builds(
        NativeHistogram, st.integers(0, 99).map(float), st.floats(), st.integers(-6, 12), st.sampled_from([0.0, 1e-128]),
        st.sampled_from([0.0, 5.0, 0.5]), SIDES, SIDES, st.just(()), st.sampled_from([False, False, False, True]),
    ),
    st.builds(
        lambda counts, more, total: NativeHistogram.of(
            count=sum(counts) + more, sum=total, schema=CUSTOM_BUCKETS, positive=dict(enumerate(counts)),
            custom_bounds=tuple(range(len(counts) + more)),
        ),
        st.lists(st.integers(0, 9).map(float), max_size=4), st.integers(0, 2), st.floats(),
    ),
)  # fmt: skip
IDS = ["0af7651916cd43dd8448eb211c80319c", "B7AD6B7169203331", "0" * 32, "x" * 16, "0af7 651916cd43dd", "", "ü"]
EXEMPLAR_LABELS = st.dictionaries(st.sampled_from(["trace_id", "span_id", "user"]), st.sampled_from(IDS), max_size=3)
EXEMPLARS = st.lists(
    st.builds(Exemplar, EXEMPLAR_LABELS.map(flatten), st.floats(), st.sampled_from([0, 10**18, -5, 2**64])), max_size=3
)
EXTRAS = st.builds(Extra, st.one_of(st.none(), NATIVES), EXEMPLARS.map(tuple))


@st.composite
def any_series(draw: st.DrawFn) -> Series:
    family = draw(st.sampled_from(FAMILIES))
    labels, name = draw(LABELS), family.name
    if family.kind in ("histogram", "summary", "gaugehistogram"):
        role = draw(st.sampled_from(["_bucket", "_bucket", "_bucket", "_count", "_sum", ""]))
        name += role
        if role in ("_bucket", "") and draw(st.integers(0, 9)):
            labels["le" if family.kind != "summary" else "quantile"] = draw(st.sampled_from(BOUNDS))
    return Series.of(name, labels, family, draw(st.sampled_from(RESOURCES)), draw(st.sampled_from(SCOPES)))


@st.composite
def any_batch(draw: st.DrawFn) -> Batch:
    series = draw(st.lists(any_series(), max_size=25, unique=True))
    rows = len(series)
    values = np.array(draw(st.lists(NUMBERS, min_size=rows, max_size=rows)), np.float64)
    stale_names = draw(st.sets(st.sampled_from([family.name for family in FAMILIES]), max_size=2))
    stale = np.array([one.family.name in stale_names for one in series], np.bool_)
    counted = np.array([one.family.kind in ("histogram", "summary") for one in series], np.bool_)
    values[counted & (values > 1e19)] = 1e19  # what is no count at all has a test of its own
    values[stale] = STALE_NAN
    # As receivers make them: one time and start for all the parts of a whole.
    times, starts = np.full(rows, 10**18 + 1), np.full(rows, draw(st.sampled_from([0, 5])))
    extras = draw(st.dictionaries(st.integers(0, rows - 1), EXTRAS, max_size=6)) if rows else None
    return Batch(SeriesTable(series), values, times, starts, stale, extras)


def decoded(body: bytes) -> object:
    return comparable(ExportMetricsServiceRequest.FromString(body))


@settings(max_examples=250, deadline=None)
@given(any_batch())
def test_template_equals_classes(batch: Batch) -> None:
    encoded = encode(batch)
    assert decoded(encoded.body) == comparable(reference_request(batch))
    assert encoded.samples + encoded.incomplete == len(batch)


@settings(max_examples=100, deadline=None)
@given(any_batch(), st.integers(0, 100))
def test_a_template_filled_again_equals_a_cold_one(batch: Batch, shift: int) -> None:
    encode(batch)
    later = Batch(batch.table, np.roll(batch.values, shift), batch.times + shift, batch.starts, None, batch.extras)
    cold = Batch(SeriesTable(batch.table), later.values, later.times, later.starts, None, batch.extras)
    assert encode(later) == encode(cold)


def test_the_template_is_worked_out_once() -> None:
    table = SeriesTable([Series.of("a", {}, FAMILIES[1])])
    assert template_of(table) is template_of(table)


def test_segments_are_requests_of_their_own() -> None:
    series = [Series.of("open", {"n": str(n)}, FAMILIES[1], RESOURCES[n % 2]) for n in range(6)]
    batch = Batch(SeriesTable(series), np.arange(6.0), np.full(6, 7), None)
    template, body = template_of(batch.table), encode(batch).body
    assert b"".join(body[s.start : s.end] for s in template.segments) == body
    for segment in template.segments:
        request = ExportMetricsServiceRequest.FromString(body[segment.start : segment.end])
        assert len(request.resource_metrics) == 1
        assert segment.points == segment.samples == 3


def test_large_counts_stay_exact_and_floats_keep_their_bits() -> None:
    counter = Series.of("req_total", {}, FAMILIES[0])
    for value in (2.0**53 - 1, 0.1, 5e-324, -0.0):
        batch = Batch(SeriesTable([counter]), np.array([value]), np.array([1]), None)
        request = ExportMetricsServiceRequest.FromString(encode(batch).body)
        point = request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0]
        assert math.copysign(1, point.as_double) == math.copysign(1, value)
        assert point.as_double == value


@pytest.mark.parametrize("broken", [math.nan, math.inf, 2.0**70])
def test_a_histogram_that_counts_nonsense_is_left_out_alone(broken: float) -> None:
    def parts(label: str) -> list[Series]:
        family = FAMILIES[5]
        names = [("_bucket", {"le": "1"}), ("_bucket", {"le": "+Inf"}), ("_count", {}), ("_sum", {})]
        return [Series.of(family.name + name, {"x": label, **more}, family) for name, more in names]

    table = SeriesTable(parts("good") + parts("bad"))
    batch = Batch(table, np.array([1, 2, 2, 9.5, broken, 2, 2, 9.5]), np.full(8, 5), None)
    encoded = encode(batch)
    assert (encoded.points, encoded.samples) == (1, 4)
    assert encoded.incomplete == 4


def test_an_empty_batch_is_an_empty_request() -> None:
    assert encode(Batch(SeriesTable([]), np.empty(0), np.empty(0, np.int64))).body == b""


@settings(max_examples=120, deadline=None)
@given(any_batch(), st.data())
def test_what_is_taken_from_a_table_is_encoded_as_if_it_had_come_alone(batch: Batch, data: st.DataObject) -> None:
    encode(batch)
    rows = data.draw(st.lists(st.sampled_from(range(len(batch))), unique=True)) if len(batch) else []
    taken = batch.take(rows)
    alone = Batch(SeriesTable(taken.table), taken.values, taken.times, taken.starts, taken.stale, taken.extras)
    again = taken.take(range(0, len(taken), 2))
    assert decoded(encode(taken).body) == decoded(encode(alone).body)
    assert encode(taken).samples == encode(alone).samples
    assert decoded(encode(again).body) == comparable(reference_request(again))


def division(room: int) -> Division:
    return Division(Owner.of("test", room), lambda _: room)


@settings(max_examples=150, deadline=None)
@given(any_batch(), st.integers(1, 400), st.data())
def test_divided_segments_hold_the_same_points_and_have_room(batch: Batch, room: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from(range(len(batch))), unique=True)) if len(batch) else []
    for one in (batch, batch.take(rows)):
        whole, divided = encode(one), encode(one, division(room))
        pieces = [divided.body[s.start : s.end] for s in divided.segments]
        assert b"".join(pieces) == divided.body
        assert decoded(divided.body) == decoded(whole.body)
        assert (divided.points, divided.samples, divided.incomplete) == (whole.points, whole.samples, whole.incomplete)
        assert sum(s.points for s in divided.segments) == whole.points
        assert sum(s.samples for s in divided.segments) == whole.samples
        for piece, segment in zip(pieces, divided.segments, strict=True):
            assert len(piece) <= room or segment.points == 1
            assert count(piece)[0] == segment.points


def test_what_has_room_is_not_laid_out_again() -> None:
    table = SeriesTable([Series.of("open", {"n": str(n)}, FAMILIES[1], RESOURCES[n % 2]) for n in range(6)])
    size = max(segment.end - segment.start for segment in template_of(table).segments)
    assert template_of(table, division(size)) is template_of(table)
    assert template_of(table, division(size - 1)) is not template_of(table)
    assert len(template_of(table, division(size - 1)).segments) == 3


def test_a_batch_is_filled_in_once_for_all_exporters() -> None:
    table = SeriesTable([Series.of("open", {}, FAMILIES[1])])
    one, other = (Batch(table, np.array([value]), np.array([1])) for value in (1.0, 2.0))
    assert encode(one).body is encode(one, division(1000)).body
    assert encode(other).body != encode(one).body
