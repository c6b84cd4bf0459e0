"""Requests of 2.0: the reader gives what protobuf's own classes give, the first time and when series are known."""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receivers import remote_write_v2
from receivers.remote_write_labels import About
from receivers.remote_write_v2 import ReaderV2
from receivers.remote_write_wire import Malformed
from tests.receivers.remote_write_messages import Request, Symbols, request_v2
from tests.receivers.test_remote_write_v1 import Book, T, label_sets, moments, names, values

many_labels = st.dictionaries(st.integers(0, 400).map("label_{}".format), st.integers(0, 400).map(str), max_size=40)
serieses = st.tuples(
    names, label_sets | many_labels, st.lists(st.tuples(values, moments, moments), max_size=2), st.integers(0, 7)
)


def expected(request: Any) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for series in request.timeseries:
        words = [request.symbols[ref] for ref in series.labels_refs]
        labels = dict(zip(words[::2], words[1::2], strict=True))
        name = labels.pop("__name__")
        key = name, tuple(text for pair in sorted(labels.items()) for text in pair), False
        for sample in series.samples:
            found[key, struct.pack("<d", sample.value), sample.timestamp, sample.start_timestamp] += 1
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(serieses, max_size=8), st.integers(0, 200))
def test_it_reads_what_the_classes_read_twice_whatever_the_symbols_numbers(given_series: list[Any], more: int) -> None:
    book = Book()
    reader = ReaderV2(book.learn)
    for shift in (0, more):
        request = Request()
        symbols = Symbols(request)
        for number in range(shift):
            symbols.ref(f"unused {number}")
        for name, labels, samples, kind in given_series:
            symbols.add({"__name__": name, **labels}, *samples, type=kind, help="Help.")
        assert book.points(reader.read(request.SerializeToString())) == expected(request)


def test_known_series_are_not_asked_for_again() -> None:
    book = Book()
    reader = ReaderV2(book.learn)
    series = [{"__name__": "x", "n": str(n)} for n in range(200)]
    reader.read(request_v2(*((labels, 1.0, T) for labels in series)))
    assert book.asked == 200
    decoded = reader.read(request_v2(*((labels, float(n % 2), T + n) for n, labels in enumerate(reversed(series)))))
    assert book.asked == 200
    assert len(decoded.slots) == 200
    reader.forget(frozenset(range(199)))
    reader.read(request_v2(*((labels, 1.0, T) for labels in series)))
    assert book.asked == 200 + 199


def test_a_series_whose_type_is_told_later_is_asked_for_again() -> None:
    told: list[About] = []
    reader = ReaderV2(lambda name, rest, own, native, about: told.append(about) or 0)
    for kind in (0, 0, 1, 1):
        request = Request()
        Symbols(request).add({"__name__": "x"}, (1.0, T), type=kind, help="H" if kind else "", unit="seconds" if kind else "")  # fmt: skip
        reader.read(request.SerializeToString())
    assert told == [About(), About("counter", "seconds", "H")]


def test_symbols_are_learned_anew_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_write_v2, "MOST_SYMBOLS", 10)
    book = Book()
    reader = ReaderV2(book.learn)
    data = request_v2(*(({"__name__": "x", "n": str(n)}, 1.0, T) for n in range(20)))
    points = book.points(reader.read(data))
    assert book.points(reader.read(data)) == points
    assert book.asked == 40


def test_histograms_and_exemplars() -> None:
    request = Request()
    symbols = Symbols(request)
    series = symbols.add({"__name__": "h"}, type=3, unit="s")
    series.histograms.add(count_int=0, sum=1.0, timestamp=T, start_timestamp=T - 5)
    series.exemplars.add(value=2.5, timestamp=T, labels_refs=[symbols.ref("trace_id"), symbols.ref("abc")])
    book = Book()
    decoded = ReaderV2(book.learn).read(request.SerializeToString())
    (slot,) = decoded.slots.tolist()
    assert book.slots == {("h", (), True): slot}
    assert (decoded.natives[slot, T].sum, decoded.starts.tolist(), decoded.histograms) == (1.0, [T - 5], 1)
    assert [exemplar.labels for _, exemplar in decoded.exemplars] == [("trace_id", "abc")]


def bad_request(refs: list[int], *, help_ref: int = 0) -> bytes:
    request = Request(symbols=["", "__name__", "x", "a"])
    series = request.timeseries.add(labels_refs=refs)
    series.samples.add(value=1.0, timestamp=T)
    series.metadata.help_ref = help_ref
    return bytes(request.SerializeToString())


@pytest.mark.parametrize(("refs", "help_ref"), [([1, 2, 3, 4], 0), ([1, 2], 9), ([1, 2**32 - 1], 0)])
def test_references_that_lead_nowhere_refuse_the_request(refs: list[int], help_ref: int) -> None:
    with pytest.raises(Malformed, match="symbol"):
        ReaderV2(Book().learn).read(bad_request(refs, help_ref=help_ref))


@pytest.mark.parametrize("refs", [[1], [3, 2], [], [1, 2, 3, 2, 3, 1], [1, 2, 0, 3]])
def test_labels_that_cannot_be_are_passed_over_and_counted(refs: list[int]) -> None:
    decoded = ReaderV2(Book().learn).read(bad_request(refs))
    assert (decoded.refused, len(decoded.slots), len(decoded.reasons)) == (1, 0, 1)


def test_a_request_of_the_other_version_is_told() -> None:
    with pytest.raises(Malformed, match=r"version 1\.0"):
        ReaderV2(Book().learn).read(b"\x0a\x00")


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Malformed):  # and nothing else
        ReaderV2(Book().learn).read(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_request_with_spoilt_bytes_is_read_or_refused(data: st.DataObject) -> None:
    text = bytearray(request_v2(*(({"__name__": "x", "n": str(n)}, 1.0, T) for n in range(3))))
    reader = ReaderV2(Book().learn)
    reader.read(bytes(text))
    for _ in range(3):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):  # and nothing else
        reader.read(bytes(text))
