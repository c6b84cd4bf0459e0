"""Where the messages around a form's points lie, and how the form's bytes change when points are left out. Sans-IO.

Strategy. Points lie in resources, scopes, metrics and their data. When points go, each message around them is shorter by
what it has lost, and so perhaps the number that says its length; a message that has lost all goes, too. This is worked out
level by level, from inside out, for all messages at once; then only what has changed is written, and the runs between are
copied. It costs what is left out, and little for what stays.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ebbtide import Bools
from exporters.protobuf import varint

Index = npt.NDArray[np.intp]

RESOURCE, SCOPE, METRIC, DATA = range(4)
"""Levels, from outside in."""

_VARINT_STEPS = np.array([1 << 7, 1 << 14, 1 << 21, 1 << 28])  # from here on a length takes a byte more


class _Level(NamedTuple):
    """The messages of a level, in order: where their tags, contents and ends are.

    ``firsts``: the first that is in each, of the next level, which is points below data; ``holders``: what each of those
    is in.
    """

    tags: Index
    contents: Index
    ends: Index
    firsts: Index
    holders: Index


class _Loss(NamedTuple):
    """What the messages of a level, or points, have lost: bytes, those of tags and lengths included; and which are left.

    ``sizes`` are those of the contents then; all of what is not left is lost.
    """

    lost: Index
    left: Bools
    sizes: Index


class Edits(NamedTuple):
    """Places ``starts:ends`` of a body, in order and apart; each becomes the varint of ``numbers``, or nothing where it is 0."""

    starts: Index
    ends: Index
    numbers: Index

    def apply(self, body: bytes) -> bytes:
        """Return the body as it is afterwards."""
        out, copied = [], 0
        for start, end, number in zip(self.starts.tolist(), self.ends.tolist(), self.numbers.tolist(), strict=True):
            out.append(body[copied:start])
            if number:
                out.append(varint(number))
            copied = end
        out.append(body[copied:])
        return b"".join(out)

    def moved(self, places: Index) -> Index:
        """Return where these places of the body are afterwards, but for those within an edit."""
        by = np.where(self.numbers > 0, _varint_sizes(self.numbers), 0) - (self.ends - self.starts)
        return places + np.concatenate(([0], np.cumsum(by)))[np.searchsorted(self.ends, places, "right")]


class Nesting:
    """The messages around points, noted while they are written, from outside in and in order."""

    def __init__(self, points: int) -> None:
        self._points = points
        self._noted = [array("q") for _ in range(DATA + 1)]  # tag, content, end and first point of each message

    def note(self, level: int, tag: int, content: int, size: int, first: int) -> None:
        """Note a message: where its tag and its content begin, how many bytes this has, and which point is its first."""
        self._noted[level].extend((tag, content, content + size, first))

    @cached_property
    def _levels(self) -> list[_Level]:
        levels: list[_Level] = []
        inner = np.arange(self._points)
        for noted in reversed(self._noted):
            tags, contents, ends, points = np.array(noted, np.intp).reshape(-1, 4).T
            firsts = np.searchsorted(inner, points)
            holders = np.repeat(np.arange(len(firsts)), np.diff(firsts, append=len(inner)))
            levels.insert(0, _Level(tags, contents, ends, firsts, holders))
            inner = points
        return levels

    def without(self, gone: Bools, starts: Index, ends: Index) -> Edits:
        """Return how a body changes that loses these of its points; ``starts`` and ``ends``: where points lie."""
        sizes = ends - starts
        losses = [_Loss(np.where(gone, sizes, 0), ~gone, sizes)]
        for level in reversed(self._levels):
            losses.insert(0, _around(level, losses[0]))
        found = Edits(*map(np.concatenate, zip(*self._edits(losses, starts, ends), strict=True)))
        order = np.argsort(found.starts)
        return Edits(*(column[order] for column in found))

    def _edits(self, losses: list[_Loss], starts: Index, ends: Index) -> Iterator[Edits]:
        """Yield what ends and what becomes shorter, level by level; what ends with what it is in is not mentioned again."""
        ended = np.flatnonzero(~losses[0].left)
        for level, loss, inner in zip(self._levels, losses, losses[1:], strict=False):
            yield Edits(level.tags[ended], level.ends[ended], np.zeros(len(ended), np.intp))
            changed = np.flatnonzero(loss.left & (loss.lost > 0))
            yield Edits(level.tags[changed] + 1, level.contents[changed], loss.sizes[changed])
            ended = np.flatnonzero(loss.left[level.holders] & ~inner.left)
        yield Edits(starts[ended], ends[ended], np.zeros(len(ended), np.intp))


def _around(level: _Level, inner: _Loss) -> _Loss:
    """Work out what messages have lost from what those within them have."""
    lost = np.add.reduceat(inner.lost, level.firsts)
    left = np.logical_or.reduceat(inner.left, level.firsts)
    sizes = level.ends - level.contents - lost
    shorter = level.contents - level.tags - 1 - _varint_sizes(sizes)
    return _Loss(np.where(left, lost + shorter, level.ends - level.tags), left, sizes)


def _varint_sizes(numbers: Index) -> Index:
    return np.searchsorted(_VARINT_STEPS, numbers, "right") + 1
