"""What is remembered of protobuf pages changes nothing: any sequence of pages reads as each page alone."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.protobuf import length_delimited, varint
from receivers.exposition import BadPage, OnBadLine, Page
from receivers.numbers import NO_TIME
from receivers.protobuf_memory import MessageMemory, MessagePage, cut_family, labels_end
from receivers.protobuf_messages import message_class
from receivers.protobuf_page import BadFamily, parse_page
from receivers.text import Sample


class Reader:
    """A memory and a book of slots, as a receiver has it."""

    def __init__(self) -> None:
        self.names: list[tuple[str, tuple[str, ...]]] = []
        self.empty: list[tuple[str, ...]] = []
        self.memory = MessageMemory(self.learn)

    def learn(self, sample: Sample, empty: tuple[str, ...]) -> int:
        self.names.append((sample.name, sample.labels))
        self.empty.append(empty)
        return len(self.names) - 1

    def read(self, body: bytes, on_bad_line: OnBadLine = "refuse") -> Page:
        """The page as the careful parser would give it."""
        page = self.memory.read(body, on_bad_line=on_bad_line)
        rows = zip(page.slots.tolist(), page.values.tolist(), page.times.tolist(), strict=True)
        named = ((*self.names[slot], value, time) for slot, value, time in rows)
        samples = [
            Sample(name, labels, value, None if time == NO_TIME else time, 0) for name, labels, value, time in named
        ]
        more = page.natives, page.exemplars, page.created
        return Page(samples, dict(page.metadata), page.bad_lines, len(page.bad_lines), *more)


def body(*messages: bytes) -> bytes:
    return b"".join(varint(len(message)) + message for message in messages)


def page(rng: random.Random) -> bytes:
    """Some families of all kinds, with the series of a small pool and any numbers."""
    messages = []
    for kind in rng.sample(range(6), rng.randint(0, 6)):
        family = message_class("MetricFamily")(name=b"f%d" % kind, type=kind, help=rng.choice((b"", b"helps")))
        for number in rng.sample(range(5), rng.randint(0, 5)):
            metric = family.metric.add()
            for label in range(number):
                metric.label.add(name=b"l%d" % label, value=b"%d" % number)
            _fill(rng, metric, kind)
        messages.append(family.SerializeToString())
    return body(*messages)


def _fill(rng: random.Random, metric: Any, kind: int) -> None:
    if rng.random() < 0.2:
        metric.timestamp_ms = 1795362155542
    value = rng.choice((0.0, 1.5, math.nan, 10.0**300))
    if kind in (0, 1, 3):
        getattr(metric, {0: "counter", 1: "gauge", 3: "untyped"}[kind]).value = value
        if kind == 0 and rng.random() < 0.3:
            metric.counter.exemplar.value = value
            metric.counter.created_timestamp.seconds = 5
    elif kind == 2:
        metric.summary.sample_count = rng.randrange(1000)
        for quantile in (0.5, 0.9)[: rng.randint(0, 2)]:
            metric.summary.quantile.add(quantile=quantile, value=value)
    else:
        histogram = metric.histogram
        if rng.random() < 0.3:
            histogram.zero_count, histogram.sample_count = 3, 3
        for bound in (0.5, 10.0, math.inf)[: rng.randint(0, 3)]:
            bucket = histogram.bucket.add(cumulative_count=rng.randrange(10**6), upper_bound=bound)
            if rng.random() < 0.3:
                bucket.exemplar.label.add(name=b"t", value=b"%d" % rng.randrange(9))
                bucket.exemplar.timestamp.seconds = 7


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_any_sequence_of_pages_reads_as_each_page_alone(seed: int) -> None:
    rng, reader = random.Random(seed), Reader()
    for _ in range(4):
        whole = page(rng)
        assert repr(reader.read(whole)) == repr(parse_page(whole))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_damaged_pages_are_refused_or_read_alike(seed: int, changes: int) -> None:
    rng, reader = random.Random(seed), Reader()
    for _ in range(3):
        whole = bytearray(page(rng) or b"\x00")
        reader.read(bytes(whole), "skip")
        for _ in range(changes):
            whole[rng.randrange(len(whole))] = rng.randrange(256)
        modes: tuple[OnBadLine, ...] = ("refuse", "skip")
        for mode in modes:
            try:
                expected = parse_page(bytes(whole), on_bad_line=mode)
            except BadPage:
                with pytest.raises(BadPage):
                    reader.read(bytes(whole), mode)
            else:
                found = reader.read(bytes(whole), mode)
                assert [number for number, _ in found.bad_lines] == [number for number, _ in expected.bad_lines]
                found.bad_lines = expected.bad_lines  # of several reasons each may give another
                assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    "unusual",
    [
        b"\x0b\x08\x01\x0c",  # a group
        b"\xa2\x00\x0d\x12\x09\x09" + b"\x00" * 8 + b"\x30\x05",  # a metric whose tag takes two bytes
    ],
)
def test_what_nobody_writes_is_read_all_the_same(unusual: bytes) -> None:
    reader = Reader()
    for whole in (body(simple(1) + unusual), body(unusual + simple(2)), body(simple(3))):
        assert repr(reader.read(whole)) == repr(parse_page(whole))


def simple(value: float, label: bytes = b"1") -> bytes:
    family = message_class("MetricFamily")(name=b"a", type=1)
    metric = family.metric.add()
    metric.gauge.value = value
    metric.label.add(name=b"b", value=label)
    return family.SerializeToString()  # type: ignore[no-any-return]


def test_a_known_series_is_not_asked_for_again() -> None:
    reader = Reader()
    steady = []
    for whole in (simple(1), simple(2), simple(3, b"2"), simple(4)):
        found: MessagePage = reader.memory.read(body(whole))
        steady.append(found.steady)
    assert steady == [False, True, False, False]
    assert reader.names == [("a", ("b", "1")), ("a", ("b", "2")), ("a", ("b", "1"))]


def test_a_refused_page_changes_nothing() -> None:
    reader = Reader()
    reader.read(body(simple(1)))
    with pytest.raises(BadPage, match="message 2"):
        reader.read(body(simple(2, b"2"), b"\xff"))
    assert reader.memory.read(body(simple(3))).steady


def test_a_bad_family_asks_for_nothing() -> None:
    reader = Reader()
    twice = length_delimited(4, length_delimited(1, b"\x0a\x01b") * 2)
    reader.read(body(length_delimited(1, b"a") + b"\x18\x01" + length_delimited(4, b"") + twice), "skip")
    assert not reader.names


def test_labels_without_a_value_are_told_beside_the_others() -> None:
    family = message_class("MetricFamily")(name=b"a", type=1)
    for names in ((), (b"x", "ü".encode())):
        metric = family.metric.add()
        metric.gauge.value = 1
        metric.label.add(name=b"b", value=b"%d" % len(names))
        for name in names:
            metric.label.add(name=name)
    reader = Reader()
    reader.read(body(family.SerializeToString()))
    assert reader.names == [("a", ("b", "0")), ("a", ("b", "2"))]
    assert reader.empty == [(), ("x", "ü")]


def test_labels_behind_the_numbers_are_labels() -> None:
    family = simple(1)[:5]
    label, value = length_delimited(1, b"\x0a\x01b\x12\x011"), b"\x12\x09\x09" + b"\x00" * 8
    reader = Reader()
    for metric in (label + value, value + label, label + value + length_delimited(1, b"\x0a\x01c\x12\x012")):
        whole = body(family + length_delimited(4, metric))
        assert repr(reader.read(whole)) == repr(parse_page(whole))


def test_cuts() -> None:
    assert cut_family(b"\x0a\x01a\x22\x02xy\x18\x01\x22\x00") == (b"\x0a\x01a\x18\x01", [b"xy", b""])
    assert labels_end(b"\x0a\x02xy\x0a\x00\x12\x00") == 6
    for cut in (b"\x22\x05x", b"\x22", b"\x0a\x05x", b"\x18", b"\x0b", b"\x09abc", b"\xff\xff"):
        with pytest.raises(BadFamily):
            cut_family(cut)
    for cut in (b"\x0a", b"\x0a\x05x", b"\x0a\xff"):
        with pytest.raises(BadFamily):
            labels_end(cut)
