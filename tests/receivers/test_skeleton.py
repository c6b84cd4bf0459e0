"""The fast reader gives what the careful parser gives, for any page after any other."""

from __future__ import annotations

import itertools
import math
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receivers.exposition import BadPage, parse_page
from receivers.skeleton import NO_TIME, Page, Skeleton
from receivers.text import Sample

Identity = tuple[str, tuple[str, ...]]


class Reader:
    """A skeleton and a book of slots, as a receiver has it."""

    def __init__(self, *, skip: bool = False) -> None:
        self.slots: dict[Identity, int] = {}
        self.names: list[Identity] = []
        self.asked = 0
        self.skeleton = Skeleton(self.learn, skip_bad_lines=skip)

    def learn(self, sample: Sample) -> int:
        self.asked += 1
        identity = (sample.name, sample.labels)
        if identity not in self.slots:
            self.slots[identity] = len(self.names)
            self.names.append(identity)
        return self.slots[identity]

    def page(self, body: bytes, cuts: Sequence[int] = ()) -> Page:
        reader = self.skeleton.read()
        try:
            edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
            for start, end in itertools.pairwise(edges):
                reader.feed(body[start:end])
            return reader.finish()
        except BadPage:
            reader.abandon()
            raise

    def samples(self, page: Page) -> list[tuple[str, tuple[str, ...], float, int | None]]:
        rows = zip(page.slots.tolist(), page.values.tolist(), page.times.tolist(), strict=True)
        return [(*self.names[slot], value, None if time == NO_TIME else time) for slot, value, time in rows]


def careful(body: bytes) -> list[tuple[str, tuple[str, ...], float, int | None]]:
    return [(s.name, s.labels, s.value, s.timestamp_ms) for s in parse_page(body).samples]


def same(one: list[tuple[str, tuple[str, ...], float, int | None]], other: object) -> bool:
    def plain(rows: object) -> list[object]:
        return [tuple("nan" if isinstance(x, float) and math.isnan(x) else x for x in row) for row in rows]  # type: ignore[attr-defined]

    return plain(one) == plain(other)


VALUES = st.one_of(
    st.integers(0, 10**17).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["NaN", "+Inf", "-Inf", "1e+06", "0.5", "-3", "0x", "1_0", "1e5", " 7", "7\t", "1\r", ""]),
)
TIMES = st.one_of(
    st.just(""), st.integers(0, 10**13).map(lambda t: f" {t}"), st.sampled_from([" -5", "  1795362155542", " x"])
)
HEADS = st.sampled_from(
    [
        "a",
        "a ",
        'a{b="1"}',
        'a {b="1"}',
        'a{b="2"}',
        'a{b="1",}',
        'a{b=""}',
        'b{x="} 1"}',
        'c{y="\\""}',
        "ab",
        "a+",
        "a2",
        "# TYPE a counter",
        "# x",
        "",
    ]
)
LINES = st.tuples(HEADS, VALUES, TIMES).map(
    lambda t: (
        t[0] if t[0].startswith("#") or not t[0] else f"{t[0]}{'' if t[0].endswith((' ', '+')) else ' '}{t[1]}{t[2]}"
    )
)
PAGES = st.lists(LINES, max_size=12).map(lambda lines: "".join(line + "\n" for line in lines).encode())


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(PAGES, st.lists(st.integers(0, 300), max_size=3)), min_size=1, max_size=6))
def test_any_sequence_of_pages_reads_as_each_page_alone(pages: list[tuple[bytes, list[int]]]) -> None:
    reader = Reader()
    for body, cuts in pages:
        bad = {number for number, _ in parse_page(body, on_bad_line="skip").bad_lines}
        if bad:
            with pytest.raises(BadPage) as caught:
                reader.page(body, cuts)
            assert caught.value.line_number in bad
        else:
            assert same(reader.samples(reader.page(body, cuts)), careful(body))


@settings(max_examples=200, deadline=None)
@given(st.lists(PAGES, min_size=1, max_size=4))
def test_skipping_bad_lines_keeps_the_good_ones(pages: list[bytes]) -> None:
    reader = Reader(skip=True)
    for body in pages:
        page, expected = reader.page(body), parse_page(body, on_bad_line="skip")
        assert same(reader.samples(page), [(s.name, s.labels, s.value, s.timestamp_ms) for s in expected.samples])
        assert sorted(page.bad_lines) == sorted(expected.bad_lines)


def form(series: list[int], values: random.Random) -> bytes:
    lines = [
        f'm_{number % 7}{{n="{number}"}} {values.choice([number, 3.25, "NaN", 10**9])} 1795362155542'
        for number in series
    ]
    return "".join(line + "\n" for line in lines).encode()


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_lines_added_removed_and_moved(seed: int) -> None:
    reader, series, rng = Reader(), list(range(200)), random.Random(seed)
    for _ in range(8):
        body = form(series, rng)
        assert same(reader.samples(reader.page(body)), careful(body))
        for _ in range(rng.randrange(4)):
            series.pop(rng.randrange(len(series)))
            series.insert(rng.randrange(len(series)), rng.randrange(200, 10**6))
        if rng.random() < 0.3:
            rng.shuffle(series)


def test_a_known_form_is_not_parsed_again() -> None:
    reader, numbers = Reader(), random.Random(1)
    reader.page(form(list(range(500)), numbers))
    assert reader.asked == 500
    page = reader.page(form(list(range(500)), numbers))
    assert page.steady
    assert reader.asked == 500
    moved = [*range(250, 500), *range(250)]
    assert not reader.page(form(moved, numbers)).steady
    assert reader.asked == 500
    assert reader.page(form(moved, numbers)).steady


def test_a_line_that_left_is_asked_for_again() -> None:
    reader = Reader()
    for body, asked in [(b"a 1\nb 1\n", 2), (b"a 1\n", 2), (b"a 1\nb 1\n", 3), (b"b 1\na 1\n", 3)]:
        reader.page(body)
        assert reader.asked == asked
    assert len(reader.skeleton) == 2


def test_a_page_cut_short_is_no_page_and_changes_nothing() -> None:
    reader = Reader()
    reader.page(b"a 1\nb 2\n")
    with pytest.raises(BadPage, match="cut short"):
        reader.page(b"a 1\nb 2\nc 3\nd")
    assert len(reader.skeleton) == 2
    assert reader.page(b"a 3\nb 4\n").steady


def test_bad_lines_refuse_the_page_or_are_skipped_and_told() -> None:
    body = b"a 1\na b c\nb 2 x\nb 3\n"
    with pytest.raises(BadPage) as caught:
        Reader().page(body)
    assert caught.value.line_number in (2, 3)  # a whole piece is matched before its numbers are read
    reader = Reader(skip=True)
    for _ in range(2):
        page = reader.page(body)
        assert sorted(number for number, _ in page.bad_lines) == [2, 3]
        assert [(name, value) for name, _, value, _ in reader.samples(page)] == [("a", 1.0), ("b", 3.0)]


def test_many_bad_lines_are_counted_and_some_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Reader(skip=True).page(b"a 1\n" + b"?\n" * 3000 + b"b 2\n")
    assert (page.bad_count, len(page.bad_lines), len(page.slots)) == (3000, 1000, 2)
    monkeypatch.setattr("receivers.skeleton.MAX_BAD_LINES", 3000)
    assert Reader(skip=True).page(b"?\n" * 3000).bad_count == 3000
    with pytest.raises(BadPage, match="more than 3000 lines of the page are bad"):
        Reader(skip=True).page(b"?\n" * 3001)


def test_comments_are_kept_as_they_stood() -> None:
    page = Reader().page(b"# HELP a b\n\na 1\n# EOF\n")
    assert page.comments == [b"# HELP a b", b"", b"# EOF"]
    assert page.bytes == len(b"# HELP a b\n\na 1\n# EOF\n")


def test_a_comment_that_begins_like_a_known_one_is_another() -> None:
    reader = Reader()
    reader.page(b"# TYPE a counter\na 1\n")
    page = reader.page(b"# TYPE a counter \na 1\n")
    assert page.comments == [b"# TYPE a counter "]


def test_a_name_that_its_value_follows_at_once_is_no_beginning_of_another_line() -> None:
    reader = Reader()
    for body in (b"a+1\nb.5\n", b"a2 1\nb.5\n", b"a+3\nb5 6\n", b"a+2\nb-1 5\n", b"a 7\nb 8\n", b"a.5\nb{} 1\n"):
        assert same(reader.samples(reader.page(body)), careful(body))
    with pytest.raises(BadPage):
        reader.page(b"a.5\nb5\n")


def test_a_long_line_in_small_pieces_costs_linear_time() -> None:
    body = b'a{b="' + b"x" * 2_000_000 + b'"} 1\n'
    reader = Reader()
    assert len(reader.page(body, range(0, len(body), 512)).slots) == 1


@pytest.mark.parametrize("name", ["startup_A", "steady_A", "idle_expiry_A"])
def test_recorded_sequences(vectors: Path, name: str) -> None:
    reader, pages, asked = Reader(), 0, []
    with tarfile.open(vectors / "linkerd_proxy_recorded" / f"{name}.tar.xz") as archive:
        members = sorted((m for m in archive.getmembers() if m.name.endswith(".prom")), key=lambda m: m.name)
        for member in members:
            file = archive.extractfile(member)
            assert file is not None
            body = file.read()
            assert same(reader.samples(reader.page(body)), careful(body))
            pages += 1
            asked.append(reader.asked)
    assert pages > 10
    assert asked[-1] < 2 * len(reader.names)  # shuffles cost look-ups, not parses
