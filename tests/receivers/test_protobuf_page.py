"""Pages of delimited protobuf: the rows that the text formats would give, and what is refused."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide import Exemplar
from exporters.protobuf import varint
from receivers.exposition import BadPage, Metadata, OnBadLine, Page
from receivers.protobuf_messages import message_class
from receivers.protobuf_page import bound_text, messages_of, parse_page, read_varint

COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM = range(6)


def family(name: bytes = b"a", kind: int = COUNTER, **more: Any) -> Any:
    return message_class("MetricFamily")(name=name, type=kind, **more)


def body(*families: Any) -> bytes:
    messages = [one if isinstance(one, bytes) else one.SerializeToString() for one in families]
    return b"".join(varint(len(message)) + message for message in messages)


def rows(page: Page) -> list[tuple[str, dict[str, str], float]]:
    return [(s.name, dict(zip(s.labels[::2], s.labels[1::2], strict=True)), s.value) for s in page.samples]


def test_simple_kinds() -> None:
    families = []
    for kind, field in ((COUNTER, "counter"), (GAUGE, "gauge"), (UNTYPED, "untyped")):
        made = family(field.encode(), kind, help=b"what it is")
        metric = made.metric.add(timestamp_ms=1795362155542 * (kind == GAUGE))
        metric.label.add(name=b"z", value=b"1")
        metric.label.add(name=b"b", value="é".encode())
        metric.label.add(name=b"empty")
        getattr(metric, field).value = 1.5
        families.append(made)
    page = parse_page(body(*families))
    labels = {"b": "é", "z": "1"}
    assert rows(page) == [("counter", labels, 1.5), ("gauge", labels, 1.5), ("untyped", labels, 1.5)]
    assert [sample.timestamp_ms for sample in page.samples] == [None, 1795362155542, None]
    assert page.metadata["counter"] == Metadata("counter", "what it is")
    assert page.metadata["untyped"] == Metadata("unknown", "what it is")


@pytest.mark.parametrize("with_infinity", [False, True])
def test_a_classic_histogram_is_rows(with_infinity: bool) -> None:
    made = family(b"h", HISTOGRAM)
    histogram = made.metric.add().histogram
    histogram.sample_count, histogram.sample_sum = 3, 4.5
    histogram.created_timestamp.seconds, histogram.created_timestamp.nanos = 1520430001, 5
    histogram.bucket.add(cumulative_count=1, upper_bound=0.5).exemplar.value = 0.25
    histogram.bucket.add(cumulative_count_float=2.0, upper_bound=10)
    if with_infinity:
        histogram.bucket.add(cumulative_count=3, upper_bound=math.inf)
    page = parse_page(body(made))
    assert rows(page) == [
        ("h_count", {}, 3.0),
        ("h_sum", {}, 4.5),
        ("h_bucket", {"le": "0.5"}, 1.0),
        ("h_bucket", {"le": "10.0"}, 2.0),
        ("h_bucket", {"le": "+Inf"}, 3.0),
    ]
    assert page.created == dict.fromkeys(range(5), 1520430001 * 10**9 + 5)
    assert page.exemplars == {2: (Exemplar((), 0.25, 0),)}


def test_a_summary_is_rows() -> None:
    made = family(b"s", SUMMARY)
    metric = made.metric.add()
    metric.label.add(name=b"z", value=b"1")
    metric.summary.sample_count, metric.summary.sample_sum = 3, 4.5
    metric.summary.quantile.add(quantile=0.5, value=math.nan)
    page = parse_page(body(made))
    assert [(name, labels) for name, labels, _ in rows(page)] == [
        ("s_count", {"z": "1"}),
        ("s_sum", {"z": "1"}),
        ("s", {"quantile": "0.5", "z": "1"}),
    ]


def native(kind: int = HISTOGRAM) -> Any:
    made = family(b"n", kind)
    histogram = made.metric.add().histogram
    histogram.sample_count, histogram.sample_sum, histogram.schema = 3, 4.5, 2
    histogram.positive_span.add(offset=1, length=2)
    histogram.positive_delta.extend([1, 1])
    return made


def test_a_native_histogram_is_one_row_also_where_it_has_classic_buckets() -> None:
    made = native()
    histogram = made.metric[0].histogram
    classic = histogram.bucket.add(cumulative_count=3, upper_bound=1.0)
    classic.exemplar.timestamp.seconds = 1520430001
    histogram.bucket.add(cumulative_count=3, upper_bound=2.0).exemplar.value = 0.25  # without a time: left out
    page = parse_page(body(made))
    assert rows(page) == [("n", {}, 3.0)]
    assert page.natives[0].positive.counts == (1.0, 2.0)
    assert page.exemplars == {0: (Exemplar((), 0.0, 1520430001 * 10**9),)}
    histogram.exemplars.add(value=7.0).timestamp.seconds = 1
    assert parse_page(body(made)).exemplars == {0: (Exemplar((), 7.0, 10**9),)}


def test_gauge_histograms() -> None:
    page = parse_page(body(native(GAUGE_HISTOGRAM)))
    assert page.natives[0].is_gauge
    assert page.metadata["n"].kind == "gaugehistogram"


def test_exemplars_and_start_times_of_counters() -> None:
    made = family(b"a_total", COUNTER, unit=b"a")
    made.unit = b""
    counter = made.metric.add().counter
    counter.value, counter.created_timestamp.seconds = 2, 5
    counter.exemplar.value = 1
    counter.exemplar.label.add(name=b"t", value=b"9")
    made.metric.add().counter.exemplar.label.add(name=b"t", value=b"9" * 200)  # too long: left out
    page = parse_page(body(made))
    assert page.exemplars == {0: (Exemplar(("t", "9"), 1.0, 0),)}
    assert page.created == {0: 5 * 10**9}


def with_label(name: bytes, value: bytes, kind: int = COUNTER) -> Any:
    made = family(b"a", kind)
    made.metric.add().label.add(name=name, value=value)
    return made


def doubled() -> Any:
    made = with_label(b"b", b"1")
    made.metric[0].label.add(name=b"b", value=b"2")
    return made


def with_metric(made: Any) -> Any:
    made.metric.add()
    return made


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\xff\xff", "it is no MetricFamily in protobuf's encoding"),
        (b"\x0a\x7fa", "it is no MetricFamily"),
        (with_metric(family(b"")), "the family has no name"),
        (with_metric(family(b"\xff")), "a name is not valid UTF-8"),
        (with_metric(family(help=b"\xff")), "a help is not valid UTF-8"),
        (with_metric(family(kind=6)), "the type 6 of 'a' is unknown"),
        (with_label(b"b", b"\xff"), "a label value is not valid UTF-8"),
        (with_label(b"", b"1"), "a label has no name"),
        (with_label(b"__name__", b"1"), "the label name __name__ is reserved"),
        (with_label(b"le", b"1", HISTOGRAM), "a metric has a label le of its own"),
        (doubled(), "a label name is given twice"),
    ],
)
def test_what_is_refused_or_skipped(bad: Any, reason: str) -> None:
    good = family(b"good")
    good.metric.add().counter.value = 1
    with pytest.raises(BadPage) as caught:
        parse_page(body(good, bad))
    assert caught.value.reason.startswith(reason)
    assert str(caught.value).startswith("cannot read message 2 of the page: ")
    page = parse_page(body(good, bad, good), on_bad_line="skip")
    assert [sample.name for sample in page.samples] == ["good", "good"]
    assert [number for number, _ in page.bad_lines] == [2]


@pytest.mark.parametrize("name", [b"a_seconds_total", b"a_seconds", b"a"])
def test_a_unit_need_not_end_the_name(name: bytes) -> None:
    """Prometheus 3 asks for that in OpenMetrics alone."""
    page = parse_page(body(with_metric(family(name, unit=b"seconds"))))
    assert page.metadata[name.decode()].unit == "seconds"


def test_a_family_without_metrics_says_nothing() -> None:
    assert parse_page(body(family(b"\xff"))) == Page()
    assert parse_page(b"") == Page()


def test_fields_of_later_versions_are_passed_over() -> None:
    made = with_metric(family()).SerializeToString()
    assert len(parse_page(body(made + b"\xfa\x07\x03abc" + b"\x98\x06\x01")).samples) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x05\x0a\x01a", "it is 5 bytes long, but 3 are left: it was cut short"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a", "bytes long, but 1 are left"),
        (b"\xff", "its length is cut short, or no varint"),
        (b"\xff" * 11, "its length is cut short, or no varint"),
    ],
)
def test_lengths_are_believed_as_far_as_the_body_goes(data: bytes, reason: str) -> None:
    modes: tuple[OnBadLine, ...] = ("refuse", "skip")
    for on_bad_line in modes:
        with pytest.raises(BadPage) as caught:
            parse_page(data, on_bad_line=on_bad_line)
        assert reason in caught.value.reason


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_messages_come_out_as_they_went_in(messages: list[bytes]) -> None:
    assert list(messages_of(body(*messages))) == messages


@given(st.integers(0, 2**64 - 1))
def test_varints(number: int) -> None:
    encoded = varint(number)
    assert read_varint(b"x" + encoded + b"y", 1) == (number, 1 + len(encoded))


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (1.0, "1.0"),
        (0.005, "0.005"),
        (100000.0, "100000.0"),
        (1e6, "1e+06"),
        (1234567.0, "1.234567e+06"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (-2.5e-7, "-2.5e-07"),
        (1e100, "1e+100"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_bounds_are_written_as_go_writes_them(bound: float, text: str) -> None:
    assert bound_text(bound) == text


@given(st.floats(allow_nan=False))
def test_bounds_read_back(bound: float) -> None:
    assert float(bound_text(bound)) == bound


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_any_damage_is_read_or_refused(seed: int, changes: int) -> None:
    rng, whole = random.Random(seed), bytearray(body(native(), with_label(b"b", b"1"), native(GAUGE_HISTOGRAM)))
    for _ in range(changes):
        whole[rng.randrange(len(whole))] = rng.randrange(256)
    for data in (bytes(whole), bytes(whole[: rng.randrange(len(whole))])):
        try:
            parse_page(data)
        except BadPage:
            continue
