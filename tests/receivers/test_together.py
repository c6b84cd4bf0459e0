"""Many pages at once give what each gives alone, whatever came before."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receivers.dialects import OPENMETRICS
from receivers.exposition import BadPage, parse_page
from receivers.limits import TooMuch
from receivers.skeleton import NO_TIME, Page
from receivers.text import Sample
from receivers.together import JointSkeleton, Together

NUMBERS = ["1", "12345678901", "1.5", "-2", "NaN", "1e3", "7 1795362000000", "3 5", "0.25"]
LINES = [f'm{n}{{a="{n}"}} {number}' for n, number in enumerate(NUMBERS)] + ["# TYPE m0 counter", "", "n 1", "bad{"]


class Book:
    """A skeleton and what its slots stand for."""

    def __init__(self, *, skip: bool = False) -> None:
        self.names: list[tuple[str, tuple[str, ...]]] = []
        self.skeleton = JointSkeleton(self.learn, skip_bad_lines=skip)

    def learn(self, sample: Sample) -> int:
        name = sample.name, sample.labels
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def samples(self, page: Page) -> list[tuple[object, ...]]:
        rows = zip(page.slots.tolist(), page.values.tolist(), page.times.tolist(), strict=True)
        return [(*self.names[slot], repr(value), None if time == NO_TIME else time) for slot, value, time in rows]


def careful(body: bytes, *, skip: bool) -> list[tuple[object, ...]]:
    page = parse_page(body, on_bad_line="skip" if skip else "refuse")
    return [(s.name, s.labels, repr(s.value), s.timestamp_ms) for s in page.samples]


bodies = st.lists(st.sampled_from(LINES), max_size=8).map(lambda lines: "".join(f"{line}\n" for line in lines).encode())


@given(st.lists(st.lists(bodies, min_size=3, max_size=3), max_size=5), st.booleans())
@settings(max_examples=100, deadline=None)
def test_pages_read_together_are_what_they_are_alone(polls: list[list[bytes]], skip: bool) -> None:
    together, books = Together(), [Book(skip=skip) for _ in range(3)]
    for poll in polls:
        readers = [book.skeleton.read() for book in books]
        for book, reader, body, page in zip(books, readers, poll, together.read(readers, poll), strict=True):
            if isinstance(page, Page):
                assert book.samples(page) == careful(body, skip=skip)
                continue
            reader.abandon()
            assert isinstance(page, BadPage)
            with pytest.raises(BadPage) as caught:
                careful(body, skip=skip)
            assert caught.value.line_number == page.line_number


def test_the_same_lines_again_are_steady_whatever_their_numbers() -> None:
    book, together = Book(), Together()
    pages = []
    for value in (b"1", b"2.5", b"3"):
        (page,) = together.read([book.skeleton.read()], [b"a %s\nb 1\n" % value])
        assert isinstance(page, Page)
        pages.append((page.steady, page.values.tolist()))
    assert pages == [(False, [1, 1]), (True, [2.5, 1]), (True, [3, 1])]


def test_too_many_samples_refuse_one_page_alone() -> None:
    books = [Book(), Book()]
    pages = Together().read([book.skeleton.read() for book in books], [b"a 1\nb 1\n", b"a 1\n"], 1)
    assert isinstance(pages[0], TooMuch)
    assert isinstance(pages[1], Page)


def test_the_format_judges_the_page_as_a_whole() -> None:
    skeleton = JointSkeleton(Book().learn, dialect=OPENMETRICS)
    together = Together()
    for body, good in ((b"a 1\n# EOF\n", True), (b"a 2\n", False), (b"a 3\n# EOF\n", True)):
        (page,) = together.read([skeleton.read()], [body])
        assert isinstance(page, Page) == good


def test_buffers_of_large_pages_are_let_go() -> None:
    book, together = Book(), Together()
    line = b'a{x="' + b"y" * 4000 + b'"} 1\n'
    together.read([book.skeleton.read()], [line * 5000])
    assert len(together._octets) == 0
    together.read([book.skeleton.read()], [line])
    assert 0 < len(together._octets) < 10_000


def test_a_page_of_millions_of_lines_is_refused_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receivers.together.MAX_LINES", 10)
    books = [Book(), Book(), Book()]
    readers = [book.skeleton.read() for book in books]
    many, most, few = Together().read(readers, [b"\n" * 11, b"\n" * 10, b"a 1\n"])
    assert isinstance(many, TooMuch)
    assert str(many) == "the page has 11 lines, 10 are the most"
    assert isinstance(most, Page)
    assert isinstance(few, Page)
