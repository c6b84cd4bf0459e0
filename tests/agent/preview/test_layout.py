from __future__ import annotations

import io
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.preview.layout import (
    FAINT,
    RED,
    WIDTH,
    Style,
    count,
    printable,
    share,
    shorten,
    size,
    style_of,
    table,
    wrapped,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (2048, "2 KiB"),
        (1_500_000, "1.43 MiB"),
        (5 << 40, "5.12e+03 GiB"),
    ],
)
def test_size(number: int, text: str) -> None:
    assert size(number) == text


def test_counts_and_shares() -> None:
    assert [count(1, "row"), count(0, "row"), count(1234, "row"), count(1234)] == [
        "1 row",
        "0 rows",
        "1,234 rows",
        "1,234",
    ]
    assert [share(1), share(0.1234), share(0)] == ["100.0%", "12.3%", "0.0%"]


def test_shorten_keeps_the_ends() -> None:
    assert [shorten("abcdefgh", width) for width in (8, 5, 2, 1)] == ["abcdefgh", "ab…gh", "a…", "…"]


def test_printable_moves_no_cursor() -> None:
    assert printable("a\x1b[2J\nb\udc80") == "a·[2J·b·"


def test_wrapped() -> None:
    words = ["aaa", "bbb", "ccc", "ddd"]
    assert wrapped(Style(width=10), "- ", words) == ["- aaa bbb", "- ccc ddd"]
    assert wrapped(Style(width=9), "head: ", words, hang="  ") == ["head: aaa", "  bbb", "  ccc", "  ddd"]
    assert wrapped(Style(width=20), "- ", words * 3, most=1) == ["- aaa … and 11 more"]
    assert wrapped(Style(width=20), "- ", words, most=1) == ["- aaa bbb ccc ddd"]
    assert wrapped(Style(True, 10), "- ", words, RED) == ["\x1b[31m- aaa bbb\x1b[0m", "\x1b[31m- ccc ddd\x1b[0m"]
    assert wrapped(Style(), "- ", []) == []


@given(
    st.lists(st.text(st.characters(codec="ascii", exclude_categories=("Cc",), exclude_characters=" "), min_size=1)),
    st.integers(24, 90), st.integers(0, 3),
)  # fmt: skip
def test_no_line_is_too_long_and_no_word_is_lost(words: list[str], width: int, most: int) -> None:
    lines = wrapped(Style(width=width), "  - ", words, most=most)
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= (most or len(words))
    told = " ".join(line.removeprefix("  - ") for line in lines).split(" ")
    left = 0
    if len(told) >= 4 and told[-4:-2] == ["…", "and"] and told[-1] == "more" and told != words:
        left, told = int(told[-2]), told[:-4]
    assert len(told) + left == len(words) or not words
    if not most:
        assert [len(word) <= width for word in told] == [True] * len(words) or not words


def test_table_aligns_and_cuts_the_first_column() -> None:
    lines = table(Style(width=24), "  ", ("names", "n"), [("a" * 40, "1"), ("b", "1,000"), ("more", "")])
    assert lines == ["  names                n", f"  {'a' * 7}…{'a' * 7}      1", "  b                1,000", "  more"]
    assert all(len(line) <= 24 for line in lines)
    assert table(Style(True), "", ("x",), [])[0] == f"\x1b[{FAINT}mx\x1b[0m"


def test_no_terminal_is_eighty_columns_without_colours() -> None:
    assert style_of(io.StringIO()) == Style(False, WIDTH)


@pytest.mark.parametrize(
    ("columns", "environment", "expected"),
    [
        ("132", {"TERM": "xterm"}, Style(True, 132)), ("20", {"TERM": "xterm"}, Style(True, 40)),
        ("100", {"TERM": "dumb"}, Style(False, 100)), ("100", {"TERM": "xterm", "NO_COLOR": "1"}, Style(False, 100)),
        ("100", {"TERM": "xterm", "NO_COLOR": ""}, Style(True, 100)),
    ],
)  # fmt: skip
def test_a_terminal(
    columns: str, environment: dict[str, str], expected: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {**environment, "COLUMNS": columns}.items():
        monkeypatch.setenv(name, value)
    assert style_of(Terminal()) == expected


def test_colours_only_where_asked_for() -> None:
    assert Style().paint(RED, "x") == "x"
    assert Style(True).paint("", "x") == "x"


def test_a_real_terminal_is_asked_for_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((99, 9)))
    stream: Any = io.StringIO()
    stream.isatty = lambda: True
    assert style_of(stream).width == 99
