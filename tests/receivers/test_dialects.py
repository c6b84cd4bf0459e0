"""OpenMetrics on the fast road gives what the careful parser gives, for any page after any other."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide import Exemplar
from receivers.dialects import OPENMETRICS, TEXT
from receivers.exposition import BadPage
from receivers.numbers import NO_TIME
from receivers.openmetrics import parse_page
from receivers.skeleton import Page, Skeleton
from receivers.text import Sample

Row = tuple[str, tuple[str, ...], float | str, int | None, str]


class Reader:
    """A skeleton and a book of slots, as a receiver has it."""

    def __init__(self, *, skip: bool = False) -> None:
        self.names: list[tuple[str, tuple[str, ...]]] = []
        self.skeleton = Skeleton(self.learn, skip_bad_lines=skip, dialect=OPENMETRICS)

    def learn(self, sample: Sample) -> int:
        self.names.append((sample.name, sample.labels))
        return len(self.names) - 1

    def page(self, body: bytes, cuts: Sequence[int] = ()) -> Page:
        reader = self.skeleton.read()
        try:
            for start, end in itertools.pairwise([0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]):
                reader.feed(body[start:end])
            return reader.finish()
        except BadPage:
            reader.abandon()
            raise

    def rows(self, page: Page) -> list[Row]:
        rows = zip(page.slots.tolist(), page.values.tolist(), page.times.tolist(), strict=True)
        return [
            (*self.names[slot], shown(value), None if time == NO_TIME else time, repr(page.exemplars.get(row, ())))
            for row, (slot, value, time) in enumerate(rows)
        ]


def shown(value: float) -> float | str:
    return "NaN" if math.isnan(value) else value


def careful(body: bytes, **more: Any) -> list[Row]:
    page = parse_page(body, **more)
    return [
        (s.name, s.labels, shown(s.value), s.timestamp_ms, repr(page.exemplars.get(row, ())))
        for row, s in enumerate(page.samples)
    ]


def refused(body: bytes) -> bool:
    try:
        parse_page(body)
    except BadPage:
        return True
    return False


VALUES = st.one_of(
    st.integers(0, 10**17).map(str),
    st.integers(0, 10**9).map(lambda n: f"{n}.0"),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["NaN", "+Inf", "-Inf", "1.5e+06", "0.5", "-3", "0x", "1_0", "1e999", " 7", "7\t", "1\r", "", "."]),
)
TIMES = st.one_of(
    st.just(""),
    st.sampled_from([" 1520879607.789", " 1795362155542", " 0.0015", " -5", " 1e3", " NaN", " x", "  1", " 1.2.3"]),
)
LABELS = st.sampled_from(
    ["", 'a="1"', 'b="x # y",a="2"', 'a="1",a="2"', 'a=""', 'a="\\""', 'a="é"', 'a="' + "y" * 130 + '"']
)
EXEMPLARS = st.one_of(
    st.just(""), st.tuples(LABELS, VALUES, TIMES).map(lambda t: f" # {{{t[0]}}} {t[1]}{t[2]}"), st.just(" # {")
)
HEADS = st.sampled_from(
    [
        "a",
        'a{b="1"}',
        'a{b="2"}',
        "a {}",
        'a{b="1",}',
        'a{b=" # {"}',
        '{"q.r",b="1"}',
        'c_bucket{le="1.0"}',
        'c_bucket{le="+Inf"}',
        'c_bucket{le="1"}',
        "c_count",
        "c_sum",
        'd{quantile="0.5"}',
        "d",
    ]
)
SAMPLES = st.tuples(HEADS, VALUES, TIMES, EXEMPLARS).map(lambda t: f"{t[0]} {t[1]}{t[2]}{t[3]}")
COMMENTS = st.sampled_from(
    ["# TYPE c histogram", "# TYPE d summary", "# TYPE a counter", "# HELP a b", "# x", "", "# EOF", "# UNIT a b"]
)
PAGES = st.tuples(
    st.lists(SAMPLES | COMMENTS, max_size=10), st.sampled_from(["# EOF\n", "# EOF", "", "# EOF\n\n"])
).map(lambda t: ("".join(line + "\n" for line in t[0]) + t[1]).encode())
GOOD_SAMPLES = st.tuples(
    HEADS.filter(lambda head: head not in ("a {}", 'a{b="1",}')),
    st.sampled_from(["1", "2.0", "0.25", "1e+06", "NaN", "123456789.123456789"]),
    st.sampled_from(["", "", "", " 1520879607.789", " 1795362155542"]),
    st.sampled_from(["", "", "", ' # {t="1"} 0.5', ' # {t="2",u="x # {"} 0.5 1520879607.789', " # {} 1e3"]),
).map(lambda t: "".join([t[0], " ", *t[1:]]))
GOOD_PAGES = st.lists(GOOD_SAMPLES | COMMENTS.filter(lambda c: c.startswith(("# T", "# H"))), max_size=10).map(
    lambda lines: ("".join(line + "\n" for line in lines) + "# EOF\n").encode()
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(GOOD_PAGES | PAGES, st.lists(st.integers(0, 300), max_size=3)), min_size=1, max_size=6))
def test_any_sequence_of_pages_reads_as_each_page_alone(pages: list[tuple[bytes, list[int]]]) -> None:
    reader = Reader()
    for body, cuts in pages:
        if refused(body):
            with pytest.raises(BadPage):
                reader.page(body, cuts)
        else:
            assert reader.rows(reader.page(body, cuts)) == careful(body)


@settings(max_examples=200, deadline=None)
@given(st.lists(PAGES | GOOD_PAGES, min_size=1, max_size=4))
def test_skipping_bad_lines_keeps_the_good_ones(pages: list[bytes]) -> None:
    reader = Reader(skip=True)
    for body in pages:
        try:
            expected = parse_page(body, on_bad_line="skip")
        except BadPage:
            with pytest.raises(BadPage):
                reader.page(body)
            continue
        page = reader.page(body)
        assert reader.rows(page) == careful(body, on_bad_line="skip")
        assert sorted(page.bad_lines) == sorted(expected.bad_lines)


def test_a_steady_page_asks_nothing() -> None:
    reader = Reader()
    body = b'# TYPE a counter\na_total{x="1"} %b\na_total{x="2"} %b # {t="1"} 0.5\n# EOF\n'
    for number, value in enumerate((b"1.0", b"1.5e+06", b"0.1")):
        page = reader.page(body % (value, value))
        assert page.steady is (number > 0)
        assert page.exemplars == {1: (Exemplar(("t", "1"), 0.5, 0),)}
        assert page.values.tolist() == [float(value)] * 2
    assert len(reader.names) == 2


def test_a_lone_histogram_is_judged_by_its_numbers_each_time() -> None:
    reader = Reader()
    body = b'# TYPE h histogram\nh_bucket{le="1.0"} %d\nh_bucket{le="+Inf"} %d\nh_count %d\nh_sum 1\n# EOF\n'
    assert len(reader.page(body % (1, 2, 2)).slots) == 4
    with pytest.raises(BadPage, match="no sample of the page can be right"):
        reader.page(body % (3, 2, 2))
    assert reader.page(body % (2, 2, 2)).steady


@pytest.mark.parametrize("other", [b"a 1\n", b'{"x.y"} 1\n', b'{b="c","x.y"} 1\n', b"h_total 1\n"])
def test_beside_anything_else_histograms_are_not_judged(other: bytes) -> None:
    body = b'# TYPE h histogram\n# TYPE "q.r" summary\nh_bucket{le="+Inf"} 1\nh_count 2\n{"q.r"} 3\n'
    with pytest.raises(BadPage, match=r"no sample of the page can be right: q\.r has"):
        Reader().page(body + b"# EOF\n")
    assert len(Reader().page(body + other + b"# EOF\n").slots) == 4


def test_a_page_without_its_end_was_cut_short() -> None:
    reader = Reader()
    for body in (b"", b"a 1\n", b"a 1", b"# EO", b"a 1\n# EOF\na 1\n", b"a 1\n# EOF\n\n", b"# EOF\n# EOF\n"):
        with pytest.raises(BadPage):
            reader.page(body)
    assert reader.page(b"a 1\n# EOF").bytes == len(b"a 1\n# EOF")


def test_the_fast_road_refuses_what_the_careful_parser_refuses(vectors: Path) -> None:
    cases = json.loads((vectors / "openmetrics/parsers.json").read_text())["cases"]
    for case in cases:
        body = case["text"].encode() if case.get("text") else bytes.fromhex(case.get("text_hex") or "")
        reader = Reader()
        if refused(body):
            with pytest.raises(BadPage):
                reader.page(body)
        else:
            assert reader.rows(reader.page(body)) == careful(body)


@pytest.mark.parametrize(
    ("field", "value", "time"),
    [
        (b"1e+06", 1e6, NO_TIME),
        (b"0.013300656000000001", 0.013300656000000001, NO_TIME),
        (b"NaN", math.nan, NO_TIME),
        (b"1.5e3 1795362155542", 1500.0, 1795362155542),
        (b"1e999", None, NO_TIME),
        (b"+Inf", None, NO_TIME),
        (b"1_0", None, NO_TIME),
        (b"", None, NO_TIME),
    ],
)
def test_fields_of_text(field: bytes, value: float | None, time: int) -> None:
    for fields in ([field], [b"1", field]):  # alone, and among others
        found = TEXT.fields(fields)
        at = len(fields) - 1
        if value is None:
            assert at in found.left
        else:
            assert (shown(found.values[at]), found.times[at], found.left) == (shown(value), time, [])
