"""Requests of 1.0: the reader gives what protobuf's own classes give, the first time and when series are known."""

from __future__ import annotations

import contextlib
import math
import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide import STALE_NAN, join_own, split_own
from receivers.remote_write_labels import About
from receivers.remote_write_samples import Decoded
from receivers.remote_write_v1 import ReaderV1
from receivers.remote_write_wire import Malformed
from tests.receivers.remote_write_messages import WriteRequest, add_series, request_v1

T = 1_763_900_000_000


class Book:
    """Numbers series, and counts how often it was asked."""

    def __init__(self) -> None:
        self.slots: dict[Any, int] = {}
        self.asked = 0

    def learn(self, name: str, rest: tuple[str, ...], own: tuple[str, ...], native: bool, about: About, /) -> int:
        self.asked += 1
        assert own == (() if native else split_own(name, join_own(rest, own))[1])
        return self.slots.setdefault((name, join_own(rest, own), native), len(self.slots))

    def points(self, decoded: Decoded) -> Counter[Any]:
        """All samples by what they are; values by their bits."""
        series = {slot: key for key, slot in self.slots.items()}
        rows = zip(decoded.slots.tolist(), decoded.values.tolist(), decoded.times.tolist(), decoded.starts.tolist(), strict=True)  # fmt: skip
        return Counter((series[slot], struct.pack("<d", value), time, start) for slot, value, time, start in rows)


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)
names = st.sampled_from(["a", "b", "c_total", "é"])
values = st.floats() | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, STALE_NAN])
moments = st.integers(T - 10**9, T + 10**9) | st.integers(-(2**63), 2**63 - 1) | st.just(0)
label_sets = st.dictionaries(texts.filter(lambda name: name != "__name__"), texts, max_size=4)
serieses = st.tuples(names, label_sets, st.lists(st.tuples(values, moments), max_size=3))


def expected(request: Any) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for series in request.timeseries:
        labels = sorted((label.name, label.value) for label in series.labels if label.name != "__name__")
        name = next(label.value for label in series.labels if label.name == "__name__")
        key = name, tuple(text for pair in labels for text in pair), False
        for sample in series.samples:
            found[key, struct.pack("<d", sample.value), sample.timestamp, 0] += 1
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(serieses, max_size=8))
def test_it_reads_what_the_classes_read_twice(given_series: list[Any]) -> None:
    request = WriteRequest()
    for name, labels, samples in given_series:
        add_series(request, {"__name__": name, **labels}, *samples)
    data, book = request.SerializeToString(), Book()
    reader = ReaderV1(book.learn)
    for _ in range(2):
        assert book.points(reader.read(data)) == expected(request)


def test_known_series_are_not_asked_for_again() -> None:
    book = Book()
    reader = ReaderV1(book.learn)
    series = [{"__name__": "x", "n": str(n)} for n in range(50)]
    reader.read(request_v1(*((labels, 1.0, T) for labels in series)))
    assert book.asked == 50
    decoded = reader.read(request_v1(*((labels, float(n % 2), T + n) for n, labels in enumerate(reversed(series)))))
    assert book.asked == 50
    assert len(decoded.slots) == 50
    reader.forget(frozenset(range(49)))
    reader.read(request_v1(*((labels, 1.0, T) for labels in series)))
    assert book.asked == 50 + 49


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 1.0, 2.5])), max_size=12), max_size=6))
def test_whatever_follows_whatever_each_sample_is_its_series(requests: list[list[tuple[int, float]]]) -> None:
    book = Book()
    reader = ReaderV1(book.learn)
    for number, samples in enumerate(requests):
        request = WriteRequest()
        for series, value in samples:
            add_series(request, {"__name__": "x", "n": str(series)}, (value, T + number))
        assert book.points(reader.read(request.SerializeToString())) == expected(request)
    assert book.asked <= 7


def test_stale_markers_keep_their_bits() -> None:
    book = Book()
    reader = ReaderV1(book.learn)
    for _ in range(2):
        decoded = reader.read(request_v1(({"__name__": "x"}, STALE_NAN, T)))
        assert decoded.values.view("<u8").tolist() == [0x7FF0000000000002]


def test_metadata_histograms_and_exemplars() -> None:
    request = WriteRequest()
    series = add_series(request, {"__name__": "h", "job": "j"})
    series.histograms.add(count_int=0, sum=1.0, timestamp=T)
    series.exemplars.add(value=2.5, timestamp=T).labels.add(name="trace_id", value="abc")
    request.metadata.add(type=3, metric_family_name="h", help="How long.", unit="seconds")
    request.metadata.add(type=99, metric_family_name="i")
    book = Book()
    decoded = ReaderV1(book.learn).read(request.SerializeToString())
    (slot,) = decoded.slots.tolist()
    assert book.slots == {("h", ("job", "j"), True): slot}
    assert decoded.natives[slot, T].sum == 1.0
    assert (decoded.histograms, decoded.samples) == (1, 1)
    assert [(one, exemplar.labels, exemplar.value, exemplar.time) for one, exemplar in decoded.exemplars] == [
        (slot, ("trace_id", "abc"), 2.5, T * 10**6)
    ]
    assert decoded.metadata == {
        "h": [{"type": "histogram", "help": "How long.", "unit": "seconds"}],
        "i": [{"type": "unknown", "help": "", "unit": ""}],
    }


def test_series_that_cannot_be_are_passed_over_and_counted() -> None:
    request = WriteRequest()
    add_series(request, {"job": "nameless"}, (1.0, T), (2.0, T + 1))
    add_series(request, {"__name__": "good"}, (3.0, T))
    bad = add_series(request, {"__name__": "bad"})
    bad.histograms.add(count_int=1, timestamp=T)
    decoded = ReaderV1(Book().learn).read(request.SerializeToString())
    assert decoded.values.tolist() == [3.0]
    assert (decoded.refused, decoded.samples) == (3, 4)
    assert "no name" in decoded.reasons[0]
    assert "'bad': cannot take a native histogram" in decoded.reasons[1]


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Malformed):  # and nothing else
        ReaderV1(Book().learn).read(data)


def test_a_request_that_is_cut_short_is_refused() -> None:
    data = request_v1(({"__name__": "x", "a": "b"}, 1.0, T))
    reader = ReaderV1(Book().learn)
    reader.read(data)
    for length in range(1, len(data)):
        with pytest.raises(Malformed):
            reader.read(data[:length])
