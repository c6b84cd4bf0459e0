"""Lines for eyes: colours or none, columns, and words that wrap at the terminal's width. Sans-IO."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

WIDTH = 80  # where there is no terminal
LEAST_WIDTH = 40  # narrower terminals break the lines themselves

RED, GREEN, YELLOW, CYAN, BOLD, FAINT = "31", "32", "33", "36", "1", "2"


@dataclass(frozen=True, slots=True)
class Style:
    """How lines are written: ANSI colours or none, and at most how many columns."""

    colour: bool = False
    width: int = WIDTH

    def paint(self, code: str, text: str) -> str:
        """Return the text in an ANSI style, where colours are on."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code and text else text


def style_of(stream: TextIO | None) -> Style:
    """Colours and the width of a terminal; 80 columns for all else, none at all included. NO_COLOR and TERM=dumb turn
    colours off."""
    if stream is None or not stream.isatty():
        return Style()
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(colour, max(shutil.get_terminal_size((WIDTH, 24)).columns, LEAST_WIDTH))


def printable(text: str) -> str:
    """Text from strangers without what moves a terminal's cursor or breaks a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "·" for c in text)


def shorten(text: str, width: int) -> str:
    """Cut a text in its middle to the width: the ends of names and addresses tell more."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def wrapped(
    style: Style,
    head: str,
    words: Iterable[str],
    code: str = "",
    most: int = 0,
    hang: str | None = None,
) -> list[str]:
    """Lay words out in lines that all begin with ``head`` (later ones with ``hang``), each word painted by ``code``.

    A word longer than a line loses its middle. Of more than ``most`` lines (0: no bound) the last says how many words
    are left out, as ``… and 5 more``.
    """
    later = head if hang is None else hang
    room = max(style.width - max(len(head), len(later)), 1)
    lines = _filled([printable(word) for word in words], room, most)
    return [style.paint(code, (later if number else head) + line) for number, line in enumerate(lines)]


def _filled(words: Sequence[str], room: int, most: int) -> Iterator[str]:
    number = 1
    while words:
        if number == most:
            yield _last(words, room)
            return
        taken = max(_fitting(words, room), 1)
        yield shorten(" ".join(words[:taken]), room)
        words = words[taken:]
        number += 1


def _last(words: Sequence[str], room: int) -> str:
    """As many words as fit, and how many do not."""
    taken = _fitting(words, room)
    if taken == len(words) or len(words) == 1:
        return shorten(" ".join(words), room)
    left = f" … and {len(words) - 1} more"  # the longest that this can be
    taken = max(_fitting(words, room - len(left)), 1)
    return shorten(" ".join(words[:taken]), max(room - len(left), 1)) + f" … and {len(words) - taken} more"


def _fitting(words: Sequence[str], room: int) -> int:
    """Return how many of the first words fit in one line."""
    used = -1
    for position, word in enumerate(words):
        used += 1 + len(word)
        if used > room:
            return position
    return len(words)


def table(style: Style, indent: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay rows out in columns: the first to the left, which is cut where it must, the others to the right of it."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(1, len(header))]
    others = sum(widths) + 2 * len(widths)
    first = min(max(len(printable(row[0])) for row in cells), style.width - len(indent) - others)
    lines = []
    for row in cells:
        rest = "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
        lines.append(f"{indent}{shorten(printable(row[0]), first):<{first}}{rest}".rstrip())
    return [style.paint(FAINT, lines[0]), *lines[1:]]


def count(number: int, noun: str = "") -> str:
    """Write a count with its noun: ``1,204 samples``, ``1 sample``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if noun else f"{number:,}"


def size(number: int) -> str:
    """Write a number of bytes with three digits: ``412 B``, ``31.2 KiB``."""
    amount, units = float(number), ["B", "KiB", "MiB", "GiB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.3g} {units[0]}"


def share(part: float) -> str:
    """Write a share as per cent: ``43.7%``."""
    return f"{100 * part:.1f}%"
