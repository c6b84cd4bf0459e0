"""How the lines of a format are read on the fast road: text 0.0.4, OpenMetrics 1.0.

Strategy. The skeleton matches lines and knows no grammar. What it asks of a format is here: where the constant part of an
unknown line may end, what the line says, and what stands in the fields that are not plain numbers: those of many lines at
once, because one regular expression over all of them and one ``map`` of ``float`` cost a fifth of a look at each. An
exemplar changes with each scrape or not at all, so that the last ones are remembered by their bytes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf

from ebbtide import Exemplar, Floats, Ints
from receivers.exposition import Kind, Metadata, apply_comment, family_of
from receivers.numbers import NO_TIME
from receivers.openmetrics import refuse_cut_short, refuse_more, refuse_nonsense
from receivers.openmetrics_lines import EOF, MAX_EXEMPLAR, Line, parse_comment, parse_line, parse_seconds
from receivers.text import Sample, parse_sample
from receivers.text import parse_comment as parse_text_comment
from receivers.words import Words, plain_field

_EXEMPLARS = 4096  # remembered by their bytes, of all pages together
_EOF_LINE = EOF + b"\n"
_RESERVED = "__name__"
_COMPOUND = frozenset(("histogram", "gaugehistogram", "summary"))

_NUMBER = rb"-?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+"
_NUMBERS = re.compile(rb"(?:(?:%b|NaN)(?:\n|\Z))*+" % _NUMBER)
_LABEL = rb'([a-zA-Z_][a-zA-Z0-9_]*+)="([^"\\\n]++)"'
_SECONDS = rb"([0-9]{1,11}+)(?:\.([0-9]*+))?+"
_TAIL = re.compile(rb"(?:%b(?:,%b)?+)?+\} (%b)(?: %b)?+" % (_LABEL, _LABEL, _NUMBER, _SECONDS))


@dataclass(slots=True)
class Fields:
    """What stands in some fields, by their place in the list: ``times`` in ms or ``NO_TIME``.

    ``left``: those that only the careful parser can tell; their numbers mean nothing.
    """

    values: list[float]
    times: list[int]
    left: list[int] = field(default_factory=list)
    exemplars: dict[int, tuple[Exemplar, ...]] = field(default_factory=dict)


class Dialect(ABC):
    """One text format."""

    timed_ms = True
    """Timestamps are whole milliseconds."""
    judges = False
    """``judge`` has something to say."""

    @abstractmethod
    def constant(self, line: bytes) -> bytes:
        """Guess the constant part of an unknown line; a comment's is all of it, with its newline."""

    @abstractmethod
    def is_comment(self, line: bytes) -> bool:
        """Tell whether a line carries no sample. Raises BadLine for a comment that is none."""

    @abstractmethod
    def sample(self, line: bytes, words: Words) -> Sample:
        """Read a line never seen before: its identity counts, and where its constant part ends. Raises BadLine."""

    @abstractmethod
    def line(self, line: bytes) -> Line:
        """Read all of a line carefully. Raises BadLine."""

    @abstractmethod
    def fields(self, fields: list[bytes]) -> Fields:
        """Read fields that are neither whole numbers nor short decimals."""

    def judge(self, page: Judged) -> bool:
        """Refuse a page as a whole (BadPage); tell whether one with the same lines passes whatever its numbers are."""
        return True


@dataclass(frozen=True, slots=True)
class Judged:
    """A page that was read.

    ``keys`` the constant parts of its good lines · ``values``, ``times`` of its samples · ``lines`` in all · ``last_bad``
    the number of the last bad line, 0 for none · ``skips`` bad lines.
    """

    keys: Sequence[bytes]
    values: Floats
    times: Ints
    lines: int
    last_bad: int
    skips: bool


class _Text(Dialect):
    def constant(self, line: bytes) -> bytes:
        if line[:1] in (b"#", b""):
            return line + b"\n"
        return line[: (line.rfind(b"} ") + 1 or line.find(b" ")) + 1]

    def is_comment(self, line: bytes) -> bool:
        text = line.lstrip(b" \t")
        if text and not text.startswith(b"#"):
            return False
        apply_comment({}, parse_text_comment(line), line)
        return True

    def sample(self, line: bytes, words: Words) -> Sample:
        return words.sample(line)

    def line(self, line: bytes) -> Line:
        return Line(parse_sample(line), None)

    def fields(self, fields: list[bytes]) -> Fields:
        values = _floats(fields)
        if values is not None:
            return Fields(values, [NO_TIME] * len(fields))
        found = Fields([0.0] * len(fields), [NO_TIME] * len(fields))
        for place, text in enumerate(fields):
            plain = plain_field(text)
            if plain is None:
                found.left.append(place)
            else:
                found.values[place], found.times[place] = plain[0], NO_TIME if plain[1] is None else plain[1]
        return found


class _OpenMetrics(Dialect):
    timed_ms = False
    judges = True

    def constant(self, line: bytes) -> bytes:
        if line.startswith(b"#"):
            return line + b"\n"
        end = line.rfind(b" # {")
        head = line if end < 0 else line[:end]
        return head[: (head.rfind(b"} ") + 1 or head.find(b" ")) + 1]

    def is_comment(self, line: bytes) -> bool:
        if not line.startswith(b"#"):
            return False
        if line != EOF:
            parse_comment(line)
        return True

    def sample(self, line: bytes, words: Words) -> Sample:
        end = line.rfind(b" # {")
        known = words.ordinary(line if end < 0 else line[:end])  # a timestamp of 13 digits is read otherwise later
        return known or parse_line(line).sample

    def line(self, line: bytes) -> Line:
        return parse_line(line)

    def fields(self, fields: list[bytes]) -> Fields:
        values = _floats(fields)
        if values is not None:
            return Fields(values, [NO_TIME] * len(fields))
        found, numbers = Fields([], [NO_TIME] * len(fields)), []
        for place, text in enumerate(fields):
            number, mark, tail = text.partition(b" # {")
            number, blank, time = number.partition(b" ")
            numbers.append(number)
            read = _seconds(time) if blank else NO_TIME
            exemplars = _exemplars(tail) if mark else ()
            if read is None or exemplars is None:
                found.left.append(place)
                continue
            found.times[place] = read
            if exemplars:
                found.exemplars[place] = exemplars
        found.values = _floats(numbers) or self._one_by_one(numbers, found)
        return found

    def judge(self, page: Judged) -> bool:
        """Refuse a page that does not end with ``# EOF``, and one on which nothing can be right."""
        if not page.keys or page.keys[-1] != _EOF_LINE:
            refuse_cut_short(page.lines, page.keys[-1][:-1] if page.keys else b"")
        if page.keys.count(_EOF_LINE) > 1 or page.last_bad == page.lines:
            refuse_more(page.lines, EOF)
        if page.skips:
            return True
        metadata: dict[str, Metadata] = {}
        for key in page.keys[:-1]:
            if key.startswith(b"#"):
                apply_comment(metadata, parse_comment(key[:-1]), key)
        for name in dict.fromkeys(map(_name, page.keys[:-1])):
            if not name.startswith(b"#") and _kind_of(name, metadata) not in _COMPOUND:
                return True
        refuse_nonsense(_samples(page), metadata, page.lines)
        return False

    def _one_by_one(self, numbers: list[bytes], found: Fields) -> list[float]:
        values, left = [], set(found.left)
        for place, number in enumerate(numbers):
            value = _floats([number])
            values.append(value[0] if value else 0.0)
            if value is None:
                left.add(place)
        found.left = sorted(left)
        for place in left:
            found.exemplars.pop(place, None)
        return values


TEXT: Dialect = _Text()
OPENMETRICS: Dialect = _OpenMetrics()
"""OpenMetrics leniently, as ``openmetrics.parse_page`` reads it. What strictness forbids is not seen from single lines."""


def _name(key: bytes) -> bytes:
    """Return of a constant part what its family follows from: the bare name, or all of it."""
    return key[: key.find(b"{")] if key.find(b"{") > 0 else key


def _kind_of(name: bytes, metadata: Mapping[str, Metadata]) -> Kind:
    bare = name.rstrip(b" ").decode() if not name.startswith(b"{") else parse_line(name + b"0").sample.name
    found = family_of(bare, metadata)
    return found[1].kind if found else "unknown"


def _samples(page: Judged) -> Iterator[Sample]:
    """Walk the samples of a page as the careful parser would give them."""
    numbers = iter(zip(page.values.tolist(), page.times.tolist(), strict=True))
    for key in page.keys:
        if not key.startswith(b"#"):
            value, time = next(numbers)
            yield parse_line(key + b"0").sample._replace(value=value, timestamp_ms=None if time == NO_TIME else time)


def _floats(tokens: list[bytes]) -> list[float] | None:
    """Read decimals and NaN, None where anything else is among them."""
    if not _NUMBERS.fullmatch(b"\n".join(tokens)) or b"" in tokens:
        return None
    values = list(map(float, tokens))
    return None if inf in values or -inf in values else values  # out of range: refused in proper words


def _seconds(token: bytes) -> int | None:
    try:
        return parse_seconds(token)
    except ValueError:
        return None


@lru_cache(_EXEMPLARS)
def _exemplars(tail: bytes) -> tuple[Exemplar, ...] | None:
    """Read an exemplar of at most two labels from behind its opening brace; None where only the careful parser can tell."""
    found = _TAIL.fullmatch(tail)
    if found is None or found.start(5) > MAX_EXEMPLAR:
        return None
    name, text, second, other, value, seconds, fraction = found.groups()
    number = float(value)
    if number - number:  # out of range
        return None
    try:
        labels: tuple[str, ...] = () if name is None else (name.decode(), text.decode())
        if second is not None:
            more = second.decode(), other.decode()
            labels = labels + more if labels < more else more + labels
    except UnicodeDecodeError:
        return None
    if _RESERVED in labels[::2] or len(set(labels[::2])) < len(labels) // 2:
        return None
    time = 0 if seconds is None else int(seconds) * 1000 + int(((fraction or b"") + b"000")[:3])
    return (Exemplar(labels, number, time * 10**6),)
