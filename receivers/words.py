"""Many lines never seen before: labels that stood on the page already are not read again.

Strategy. Thousands of new lines at once share most of their ``name="value"`` pairs and nearly all of their label names.
Within one page each pair is checked, decoded and interned once, and whether a list of names is in order is found out
once; a line is then a split and a few look-ups. Of a histogram's buckets, which mostly stand together, only the bound is
read: all around it must be the bytes of the line before. Whatever is not ordinary is left to the careful parser.
What is remembered lives as long as the page is read, and no longer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain
from math import isfinite
from operator import itemgetter
from sys import intern
from typing import NamedTuple

from receivers.text import Sample, parse_sample

_NAME = re.compile(rb"[a-zA-Z_:][a-zA-Z0-9_:]*+")
_PAIR = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*+)="([^"\\\n]++)')
_BOUND = re.compile(rb'[{,]le="')
_RESERVED = "__name__"
_TIMESTAMP_DIGITS = 13


Sorter = Callable[[tuple[str, ...]], tuple[str, ...]]


class _Odd(ValueError):
    """Not an ordinary line."""


class _Pairs(dict[bytes, tuple[str, str]]):
    def __missing__(self, piece: bytes) -> tuple[str, str]:
        match = _PAIR.fullmatch(piece)
        if match is None:
            raise _Odd
        pair = self[piece] = intern(match[1].decode()), intern(match[2].decode())
        return pair


class _Names(dict[bytes, str]):
    def __missing__(self, head: bytes) -> str:
        if not _NAME.fullmatch(head):
            raise _Odd
        name = self[head] = intern(head.decode())
        return name


class _Orders(dict[tuple[str, ...], Sorter | None]):
    """By the names of a line's labels: how to sort its flat labels, None where they stand in order."""

    def __missing__(self, names: tuple[str, ...]) -> Sorter | None:
        if len(set(names)) < len(names) or _RESERVED in names:
            raise _Odd
        order = sorted(range(len(names)), key=names.__getitem__)
        in_order = order == list(range(len(names)))
        getter = self[names] = None if in_order else itemgetter(*chain.from_iterable((2 * i, 2 * i + 1) for i in order))
        return getter


class _Bucket(NamedTuple):
    """A bucket's line, around its bound: bytes before and behind it, and the labels that they say."""

    before: bytes
    behind: bytes  # up to the value
    name: str
    labels_before: tuple[str, ...]
    labels_behind: tuple[str, ...]


class Words:
    """The words of one page."""

    def __init__(self) -> None:
        self._bucket: _Bucket | None = None  # of the last line that was one
        self._pair = _Pairs().__getitem__
        self._name = _Names().__getitem__
        self._order = _Orders().__getitem__

    def sample(self, line: bytes) -> Sample:
        """Return what ``parse_sample`` returns for the line; raises what it raises."""
        return self.ordinary(line) or parse_sample(line)

    def ordinary(self, line: bytes) -> Sample | None:
        """Return what ``parse_sample`` returns for the line, None where something rarer stands on it."""
        try:
            return self._next_bucket(line) or self._ordinary(line)
        except ValueError:  # _Odd, not UTF-8, not a number
            return None

    def _ordinary(self, line: bytes) -> Sample:
        opened, closed = line.find(b"{"), line.rfind(b'"} ')
        if opened < 0 or closed < opened or b"\\" in line:
            raise _Odd
        flat = tuple(chain.from_iterable(map(self._pair, line[opened + 1 : closed].split(b'",'))))
        order = self._order(flat[::2])
        if order is not None:
            flat = order(flat)
        plain = plain_field(line[closed + 3 :])
        if plain is None:
            raise _Odd
        sample = Sample(self._name(line[:opened]), flat, *plain, closed + 3)
        self._note_bucket(line, sample)
        return sample

    def _note_bucket(self, line: bytes, sample: Sample) -> None:
        bound = _BOUND.search(line, 0, sample.value_at)
        if bound is not None:
            at = sample.labels.index("le")
            before, behind = sample.labels[: at + 1], sample.labels[at + 2 :]
            if at % 2 == 0:
                around = line[: bound.end()], line[line.index(b'"', bound.end()) : sample.value_at]
                self._bucket = _Bucket(*around, sample.name, before, behind)

    def _next_bucket(self, line: bytes) -> Sample | None:
        """Read a line that differs from the last bucket's in its bound and its numbers alone."""
        last = self._bucket
        if last is None or not line.startswith(last.before):
            return None
        start = len(last.before)
        end = line.find(b'"', start)
        if end <= start or not line.startswith(last.behind, end):
            return None
        bound, value_at = line[start:end], end + len(last.behind)
        plain = plain_field(line[value_at:])
        if plain is None or b"\\" in bound:
            return None
        labels = (*last.labels_before, intern(bound.decode()), *last.labels_behind)
        return Sample(last.name, labels, *plain, value_at)


def plain_field(field: bytes) -> tuple[float, int | None] | None:
    """Read ``VALUE`` or ``VALUE 13-DIGIT-TIMESTAMP`` where Python and Prometheus agree on what a number is."""
    value, blank, time = field.partition(b" ")
    if b"_" in value or value.strip() != value or (blank and not (len(time) == _TIMESTAMP_DIGITS and time.isdigit())):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return (number, int(time) if blank else None) if isfinite(number) else None
