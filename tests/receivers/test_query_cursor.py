"""Windows meet, shrink where they are too heavy, grow again; the note says where they stopped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.query_cursor import AIM, LEAST_STEP, LOOK_BACK, Cursor, Window, read_note, write_note

URL = "http://prometheus:9090"


@given(
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 3)), max_size=30),
)
def test_windows_meet_whatever_is_refused(start: int, chunk: int, steps: list[tuple[int, int]]) -> None:
    cursor, until, reached = Cursor(start, chunk), start, start
    for more, refusals in steps:
        until += more
        while (window := cursor.next(until)) is not None:
            assert window.begin == reached
            assert window.begin < window.end <= until
            assert window.end - window.begin <= max(chunk, LEAST_STEP)
            assert max(start, window.begin - LOOK_BACK) == window.seen_from
            if refusals and cursor.shrink(window):
                refusals -= 1
                continue
            cursor.advance(window)
            reached = window.end
        assert cursor.end == until == reached


def test_a_heavy_window_is_halved_down_to_a_floor_and_grows_back_slowly() -> None:
    cursor = Cursor(0, 8 * LEAST_STEP)
    lengths = []
    while (window := cursor.next(10**9)) is not None and cursor.shrink(window):
        lengths.append(window.end - window.begin)
    assert lengths == [8 * LEAST_STEP, 4 * LEAST_STEP, 2 * LEAST_STEP]
    grown = []
    while not grown or grown[-1] < 8 * LEAST_STEP:
        window = cursor.next(10**9)
        assert window is not None
        grown.append(window.end - window.begin)
        cursor.advance(window)
    assert grown == sorted(grown)
    assert len([length for length in grown if length > 4 * LEAST_STEP]) > 4


def test_a_window_that_holds_much_makes_the_next_one_shorter() -> None:
    cursor = Cursor(0, 300_000)
    for length in (300_000, 75_000, 75_000):
        window = cursor.next(10**9)
        assert window is not None
        assert window.end - window.begin == length
        cursor.advance(window, 4 * AIM * length // 300_000)


def test_a_chunk_may_change_on_the_way() -> None:
    cursor = Cursor(0, 300_000)
    cursor.limit(60_000)
    assert cursor.next(10**9) == Window(0, 0, 60_000)
    cursor.limit(1)
    assert cursor.next(10**9) == Window(0, 0, LEAST_STEP)


def test_the_note_of_the_same_source_is_read_again() -> None:
    assert read_note(write_note(123, URL), URL) == 123


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (b"", "damaged"),
        (b"{}", "damaged"),
        (b"[" * 10**6, "damaged"),
        (b"\xff", "damaged"),
        (write_note(1, URL).replace(b'"version": 2', b'"version": 3'), "another version"),
        (write_note(1, URL).replace(b'"end": 1', b'"end": "1"'), "another version"),
        (write_note(1, "http://other"), "another url"),
    ],
)
def test_what_is_no_note(note: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_note(note, URL)
