"""Many pages read at once: what numpy costs by the call is paid once for all of them.

Strategy. Each page is matched against what is expected of it (``skeleton``), on its own bytes. Then the numbers of all
pages are read together, from a buffer that holds one body behind the other and is used again and again: fresh memory of
that size would cost more than the reading. A page that cannot be read is left out and disturbs no other. A page that has
the lines of the one before costs a comparison by the line with the constant parts, and nothing else that is paid by the
line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebbtide import Exemplar, Floats, Ints
from receivers.dialects import TEXT, Dialect
from receivers.exposition import BadPage
from receivers.limits import TooMuch
from receivers.numbers import MARGIN, Bytes, Fields, Index, read_fields, words_of
from receivers.skeleton import Learn, Lines, Page, PageReader, Skeleton, Slots
from receivers.text import Sample
from receivers.words import Words

__all__ = ["Failure", "JointReader", "JointSkeleton", "Together"]

_NEWLINE = 0x0A
_COMMENT = -1  # the slot of a line that carries no sample
MAX_LINES = 4 << 20  # of a page: each costs some tens of bytes, also a blank one, which body limits do not see
_KEPT = 16 << 20  # bytes of a buffer that is kept; a larger one, for one very large page, is let go

Failure = BadPage | TooMuch
Exemplars = dict[int, tuple[Exemplar, ...]]


class JointSkeleton(Skeleton):
    """The constant parts of one of several pages that are read at once."""

    def __init__(self, learn: Learn, *, skip_bad_lines: bool = False, dialect: Dialect = TEXT):
        super().__init__(learn, skip_bad_lines=skip_bad_lines, dialect=dialect)
        self.learning = b""  # the constant part of the line that is being learned
        self.samples = self.samples_of(self._order)  # of the last page

    def read(self) -> JointReader:
        """Begin a page."""
        return JointReader(self)

    def samples_of(self, entries: Index) -> tuple[Index, Slots, Index]:
        """Return which of these lines carry samples, their slots, and the lengths of their constant parts."""
        rows = np.flatnonzero(entries >= 0)  # all but bad lines
        slots = self._slots[entries[rows]]
        samples = slots != _COMMENT
        rows = rows[samples]
        return rows, slots[samples], self._lengths[entries[rows]]

    def _adopt(self, order: Index) -> None:
        super()._adopt(order)
        self.samples = self.samples_of(order)


class JointReader(PageReader):
    """One page of several that are read at once."""

    _skeleton: JointSkeleton

    def match(self, body: bytes, starts: Index, ends: Index) -> Index:
        """Return each line's entry, -1 for a bad line that is to be skipped."""
        entries = self._match(body, starts, ends)
        order = self._skeleton._order
        return order if self._steady and self._at == len(order) else entries

    def samples_of(self, entries: Index) -> tuple[Index, Slots, Index]:
        """Return which lines carry samples, their slots, and the lengths of their constant parts."""
        skeleton = self._skeleton
        return skeleton.samples if entries is skeleton._order else skeleton.samples_of(entries)

    def share(self, words: Words) -> None:
        """Use words that other pages use, too."""
        self._words = words

    @property
    def dialect(self) -> Dialect:
        """How lines are read."""
        return self._skeleton.dialect

    def page(self, entries: Index, size: int, values: Floats, times: Ints, exemplars: Exemplars) -> Page:
        """The page is complete: learn from it, and return it. Raises BadPage where its format forbids it as a whole."""
        skeleton = self._skeleton
        good = entries if (entries >= 0).all() else entries[entries >= 0]
        steady = self._steady and 0 < self._at == len(skeleton._order)  # an empty page may be the first
        self._line = len(entries)
        self.judge(good, values, times, steady=steady)
        if not steady:
            skeleton._adopt(good)
        slots = skeleton.samples[1]
        found = slots, values, times, steady, self._bad_lines, skeleton.comments, size, exemplars
        return Page(*found, self._bad_count)

    def _entry(self, key: bytes, sample: Sample | None) -> int:
        self._skeleton.learning = key
        return super()._entry(key, sample)


@dataclass(slots=True)
class _Part:
    """One page, matched. ``rows``: its lines that carry samples; ``starts``, ``fields``, ``ends`` of those, in ``body``."""

    reader: JointReader
    body: bytes
    entries: Index
    rows: Index
    starts: Index
    fields: Index
    ends: Index


class Together:
    """Reads pages at once, and keeps the buffers for it."""

    def __init__(self) -> None:
        self._octets: Bytes = np.empty(0, np.uint8)
        self._mask = np.empty(0, np.bool_)

    def read(
        self, readers: Sequence[JointReader], bodies: Sequence[bytes], most_samples: int = 0
    ) -> list[Page | Failure]:
        """Read whole pages of one dialect, each by its reader; each body ends with a newline, or is empty.

        A page of more than ``most_samples`` is refused; 0: none is. What was learned from a page that failed is to be
        given up by its reader's ``abandon``.
        """
        self._reserve(MARGIN + sum(map(len, bodies)))
        words = Words()  # what one page has taught is not read again on the next
        for reader in readers:
            reader.share(words)
        parts = [self._matched(reader, body, most_samples) for reader, body in zip(readers, bodies, strict=True)]
        pages = self._numbered(parts)
        if len(self._octets) > _KEPT:
            self._octets, self._mask = np.empty(0, np.uint8), np.empty(0, np.bool_)
        return pages

    def _reserve(self, size: int) -> None:
        if size > len(self._octets):
            self._octets = np.full(size + size // 4, _NEWLINE, np.uint8)
            self._mask = np.empty(len(self._octets), np.bool_)

    def _matched(self, reader: JointReader, body: bytes, most_samples: int) -> _Part | Failure:
        try:
            ends = self._line_ends(body)
            starts = np.zeros_like(ends)
            starts[1:] = ends[:-1] + 1
            entries = reader.match(body, starts, ends)
        except (BadPage, TooMuch) as failure:
            return failure
        rows, _, lengths = reader.samples_of(entries)
        if most_samples and len(rows) > most_samples:
            return TooMuch(f"the page has {len(rows)} samples, sample_limit is {most_samples}")
        starts = starts[rows]
        return _Part(reader, body, entries, rows, starts, starts + lengths, ends[rows])

    def _line_ends(self, body: bytes) -> Index:
        newlines = np.equal(np.frombuffer(body, np.uint8), _NEWLINE, out=self._mask[: len(body)])
        if len(body) > MAX_LINES and (lines := int(np.count_nonzero(newlines))) > MAX_LINES:
            raise TooMuch(f"the page has {lines} lines, {MAX_LINES} are the most")
        return np.flatnonzero(newlines)

    def _numbered(self, parts: Sequence[_Part | Failure]) -> list[Page | Failure]:
        """Read the numbers of all pages."""
        read = self._fields([part for part in parts if isinstance(part, _Part)])
        times = read.times.copy() if len(read.odd) else read.times
        pages: list[Page | Failure] = []
        first = 0
        for one in parts:
            if not isinstance(one, _Part):
                pages.append(one)
                continue
            last = first + len(one.rows)
            odd = read.odd[np.searchsorted(read.odd, first) : np.searchsorted(read.odd, last)] - first
            pages.append(_page(one, odd, read.values[first:last], times[first:last]))
            first = last
        return pages

    def _fields(self, parts: Sequence[_Part]) -> Fields:
        size = MARGIN
        fields, ends = [], []
        for part in parts:
            self._octets[size : size + len(part.body)] = np.frombuffer(part.body, np.uint8)
            fields.append(part.fields + size)
            ends.append(part.ends + size)
            size += len(part.body)
        if not any(map(len, fields)):
            return Fields(np.empty(0), np.empty(0, np.int64), np.empty(0, np.intp))
        octets, timed_ms = self._octets[:size], parts[0].reader.dialect.timed_ms
        return read_fields(octets, words_of(octets), np.concatenate(fields), np.concatenate(ends), timed_ms=timed_ms)


def _page(part: _Part, odd: Index, values: Floats, times: Ints) -> Page | Failure:
    """Return a page; ``odd``: the rows whose numbers are not read yet."""
    reader, entries = part.reader, part.entries
    exemplars: Exemplars = {}
    try:
        if len(odd):
            entries = entries.copy()
            lines = Lines(part.body, part.starts, part.fields, part.ends)
            exemplars = reader.read_odd(lines, entries, part.rows, odd, values, times)
            kept = entries[part.rows] >= 0
            if not kept.all():
                values, times, places = values[kept], times[kept], np.cumsum(kept) - 1
                exemplars = {int(places[row]): found for row, found in exemplars.items()}
        return reader.page(entries, len(part.body), values, times, exemplars)
    except (BadPage, TooMuch) as failure:
        return failure
