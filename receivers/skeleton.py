"""The fast way in: a page is matched against what stayed the same since the last one.

Strategy. A line is a constant part (name, labels, white space) and a field of numbers. The constant parts of the last
page, in its order, are the *skeleton*. A page arrives in pieces; numpy finds the line ends of a piece; each line must
start with the constant part that is expected at its place, checked by one ``map`` over ``bytes.startswith`` (a memcmp
a line); the fields behind are read as columns by ``numbers``. Where a line is not the expected one its constant part
is looked up, and matching goes on behind the place where it stood: a new line, a lost one and a moved run each cost a
look-up, not a parse. Only a line never seen before is parsed, by the careful parser of its format (``dialects``), which
alone decides what a line says; so the skeleton gives what a careful parse of the page gives, faster.

What the reader learns from a page takes effect when the page proves complete (``finish``). A page that breaks off
leaves the order as it was; the lines it taught stay known, which changes no result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ebbtide import Exemplar, Floats, Ints
from receivers.dialects import TEXT, Dialect, Judged
from receivers.exposition import MAX_LISTED_BAD_LINES, BadPage
from receivers.numbers import MARGIN, NO_TIME, Bytes, Index, read_fields, words_of
from receivers.openmetrics_lines import EOF
from receivers.text import BadLine, Sample
from receivers.words import Words

__all__ = ["NO_TIME", "Page", "PageReader", "Skeleton"]

Slots = npt.NDArray[np.int32]
Head = bytes | tuple[bytes, ...]  # what ``startswith`` is asked for

_COMMENT = -1  # the slot of a line that carries no sample
_RUN = 32  # lines compared at once behind a disturbance; doubled while they match, so that the next one costs little
MAX_BAD_LINES = 50_000  # that are skipped: each costs some 10 us, and what has more is no page of metrics
_EXCERPT = 80  # bytes of a bad line that an error shows
_ENDS = (b" ", b"\t", b"}", b"\n")  # of constant parts, but for the `a` of `a+1`, which begins `a2 1` as well
_NEVER: Head = ()  # what no line begins with
_PAD = b"\n" * MARGIN  # before each piece: no field ends too near to the start of its buffer

Learn = Callable[[Sample], int]


@dataclass(frozen=True, slots=True)
class Page:
    """The samples of a complete page, in its order.

    ``slots`` int32, what the receiver's ``learn`` answered for each line's series · ``values`` · ``times`` int64 ms
    or ``NO_TIME`` · ``steady``: the same lines in the same order as the page before · ``bad_lines`` number, reason
    of the first ``MAX_LISTED_BAD_LINES``, ``bad_count`` of all ·
    ``comments`` as they stood, in order · ``bytes``: its length, inflated · ``exemplars`` by row.
    """

    slots: Slots
    values: Floats
    times: Ints
    steady: bool
    bad_lines: list[tuple[int, str]]
    comments: list[bytes]
    bytes: int
    exemplars: Mapping[int, tuple[Exemplar, ...]] = field(default_factory=dict)
    bad_count: int = 0


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a piece: where each starts, where its numbers start, where it ends."""

    piece: bytes
    starts: Index
    fields: Index
    ends: Index


class Skeleton:
    """The constant parts of a receiver's lines, and the order in which they stood on the last complete page.

    ``learn(sample) -> slot`` is asked once for each line never seen before. A line that is missing from a complete
    page is forgotten: should it come back, ``learn`` is asked again.
    """

    def __init__(self, learn: Learn, *, skip_bad_lines: bool = False, dialect: Dialect = TEXT):
        self.learn = learn
        self.skip_bad_lines = skip_bad_lines
        self.dialect = dialect
        self._passes = False  # a page with the lines of the last one passes the dialect's judgement
        self._keys: list[bytes] = []  # by entry: the constant part; a comment whole
        self._heads: list[Head] = []  # by entry: the same, where a line that begins so is that line
        self._entry_of: dict[bytes, int] = {}
        self._slots = np.empty(0, np.int32)  # by entry
        self._lengths = np.empty(0, np.intp)  # by entry: of the constant part
        self._free: list[int] = []
        self._order = np.empty(0, np.intp)  # entries by line of the last page
        self._place = np.empty(0, np.intp)  # line by entry: where it stood, -1 nowhere
        self._expected: list[Head] = []  # how lines begin
        self.comments: list[bytes] = []  # of the last page, as they stood, in order

    def __len__(self) -> int:
        return len(self._entry_of)

    def read(self) -> PageReader:
        """Begin a page."""
        return PageReader(self)

    def _add(self, key: bytes, slot: int) -> int:
        if self._free:
            entry = self._free.pop()
            self._keys[entry] = self._heads[entry] = key
        else:
            entry = len(self._keys)
            self._keys.append(key)
            self._heads.append(key)
            if entry == len(self._slots):
                room = max(1024, entry // 2)
                self._slots = np.append(self._slots, np.zeros(room, np.int32))
                self._lengths = np.append(self._lengths, np.zeros(room, np.intp))
                self._place = np.append(self._place, np.full(room, -1, np.intp))
        if key[-1:] not in _ENDS:
            self._heads[entry] = _NEVER
        self._entry_of[key] = entry
        self._slots[entry], self._lengths[entry], self._place[entry] = slot, len(key), -1
        return entry

    def _adopt(self, order: Index) -> None:
        """Take the order of a complete page that was not the expected one; forget the lines that are not on it."""
        seen = np.zeros(len(self._keys), np.bool_)
        seen[order] = True
        self._expect(order)
        self._forget(np.flatnonzero(~seen).tolist())
        self._place[:] = -1
        self._place[order] = np.arange(len(order))
        self.comments = [self._keys[entry][:-1] for entry in order[self._slots[order] == _COMMENT].tolist()]

    def _expect(self, order: Index) -> None:
        """Expect the lines of this order; the constant parts of those that stand where they stood are not touched."""
        if len(order) == len(self._order):
            for line in np.flatnonzero(order != self._order).tolist():
                self._expected[line] = self._heads[order[line]]
        else:
            self._expected = list(map(self._heads.__getitem__, order.tolist()))
        self._order = order

    def _forget(self, entries: Iterable[int]) -> None:
        for entry in entries:
            if self._entry_of.pop(self._keys[entry], None) is not None:
                self._keys[entry] = self._heads[entry] = b""
                self._free.append(entry)


class PageReader:
    """One page: ``feed`` its bytes as they come, then ``finish``; ``abandon`` it where it breaks off.

    ``feed`` and ``finish`` raise BadPage, after which only ``abandon`` makes sense.
    """

    def __init__(self, skeleton: Skeleton):
        self._skeleton = skeleton
        self._tail: list[bytes] = []  # the pieces of a line whose end has not come yet
        self._at = 0  # the line of the last page that is expected next
        self._steady = True
        self._line = 0  # lines read so far
        self._bytes = 0
        self._entries: list[Index] = []
        self._columns: list[tuple[Slots, Floats, Ints]] = []
        self._exemplars: dict[int, tuple[Exemplar, ...]] = {}  # by row
        self._learned: list[int] = []
        self._words = Words()
        self._bad_lines: list[tuple[int, str]] = []
        self._bad_count = self._last_bad = 0

    def feed(self, data: bytes) -> None:
        """Read the whole lines of ``data``, which may begin and end anywhere; about 1 MiB at a time is cheapest."""
        self._bytes += len(data)
        if b"\n" not in data:
            self._tail += [data] if data else []
            return
        piece = b"".join((_PAD, *self._tail, data))
        end = piece.rfind(b"\n") + 1
        self._tail = [piece[end:]] if end < len(piece) else []
        self._read(piece, end)

    def finish(self) -> Page:
        """Return the page. Raises BadPage where its last line has no end: the page was cut short."""
        size = self._bytes
        if self._tail and self._skeleton.dialect.judges and b"".join(self._tail) == EOF:
            self.feed(b"\n")  # OpenMetrics lets the newline out
        if self._tail:
            excerpt = self._tail[0][:_EXCERPT]
            raise BadPage(self._line + 1, "the page ends in the middle of a line: it was cut short", excerpt)
        skeleton = self._skeleton
        columns = self._columns or [(np.empty(0, np.int32), np.empty(0), np.empty(0, np.int64))]
        slots, values, times = (np.concatenate(column) for column in zip(*columns, strict=True))
        order = np.concatenate(self._entries) if self._entries else np.empty(0, np.intp)
        steady = self._steady and 0 < self._at == len(skeleton._order)  # an empty page may be the first
        self.judge(order, values, times, steady=steady)
        if not steady:
            skeleton._adopt(order)
        found = slots, values, times, steady, self._bad_lines, skeleton.comments, size, self._exemplars
        return Page(*found, self._bad_count)

    def judge(self, entries: Index, values: Floats, times: Ints, *, steady: bool) -> None:
        """Let the dialect refuse the page as a whole (BadPage), unless one with the same lines passed for good."""
        skeleton = self._skeleton
        if skeleton.dialect.judges and not (steady and skeleton._passes):
            keys = list(map(skeleton._keys.__getitem__, entries.tolist()))
            judged = Judged(keys, values, times, self._line, self._last_bad, skeleton.skip_bad_lines)
            skeleton._passes = skeleton.dialect.judge(judged)

    @property
    def samples(self) -> int:
        """How many samples have been read so far."""
        return sum(len(slots) for slots, _, _ in self._columns)

    def abandon(self) -> None:
        """Forget what only this page has taught."""
        self._skeleton._forget(self._learned)

    def _read(self, piece: bytes, end: int) -> None:
        octets = np.frombuffer(piece, np.uint8, end)
        ends = np.flatnonzero(octets == 0x0A)
        starts = ends[MARGIN - 1 : -1] + 1  # the pad's line ends come first
        ends = ends[MARGIN:]
        entries = self._match(piece, starts, ends)
        rows = np.flatnonzero(entries >= 0)  # all but bad lines
        rows = rows[self._skeleton._slots[entries[rows]] != _COMMENT]
        if len(rows):
            self._columns.append(self._samples(piece, octets, starts, ends, entries, rows))
        self._entries.append(entries if (entries >= 0).all() else entries[entries >= 0])
        self._line += len(entries)

    def _samples(
        self, piece: bytes, octets: Bytes, starts: Index, ends: Index, entries: Index, rows: Index
    ) -> tuple[Slots, Floats, Ints]:
        """Return the columns of the lines ``rows``; an odd line may change its entry."""
        lengths, slots = self._skeleton._lengths[entries], self._skeleton._slots[entries]
        if len(rows) < len(entries):
            starts, ends, lengths, slots = starts[rows], ends[rows], lengths[rows], slots[rows]
        fields = starts + lengths
        read = read_fields(octets, words_of(piece), fields, ends, timed_ms=self._skeleton.dialect.timed_ms)
        values, times = read.values, read.times
        if len(read.odd):
            times = times.copy()
            lines = Lines(piece, starts, fields, ends)
            exemplars = self.read_odd(lines, entries, rows, read.odd, values, times)
            slots = self._skeleton._slots[entries[rows]]
            kept = entries[rows] >= 0
            if exemplars:
                places = np.cumsum(kept) - 1 + self.samples
                self._exemplars.update((int(places[row]), found) for row, found in exemplars.items())
            if not kept.all():
                slots, values, times = slots[kept], values[kept], times[kept]
        return slots, values, times

    def read_odd(
        self, lines: Lines, entries: Index, rows: Index, odd: Index, values: Floats, times: Ints
    ) -> dict[int, tuple[Exemplar, ...]]:
        """Read the fields that are no plain numbers: a long decimal, an exponent, NaN, another timestamp, an exemplar.

        ``lines`` are those that carry samples, ``rows`` their places in ``entries``, ``odd`` the ones to read. Fills in
        ``values`` and ``times``, and returns exemplars by row. The entry of a bad line becomes -1.
        """
        places = odd.tolist()
        bounds = zip(lines.fields[odd].tolist(), lines.ends[odd].tolist(), strict=True)
        found = self._skeleton.dialect.fields([lines.piece[start:end] for start, end in bounds])
        values[odd], times[odd] = found.values, found.times
        exemplars = {places[place]: carried for place, carried in found.exemplars.items()}
        for place in found.left:
            row = places[place]
            start, at = int(lines.starts[row]), int(rows[row])
            line, length = lines.piece[start : int(lines.ends[row])], int(lines.fields[row]) - start
            entries[at], values[row], times[row], exemplar = self._odd(line, length, int(entries[at]), at)
            if exemplar is not None:
                exemplars[row] = (exemplar,)
        return exemplars

    def _match(self, piece: bytes, starts: Index, ends: Index) -> Index:
        """Return each line's entry, -1 for a bad line that is to be skipped."""
        begins = starts.tolist()
        entries = np.empty(len(begins), np.intp)
        line = first = shift = 0
        hits = b""  # which lines from ``first`` on are those that stood ``shift`` lines further down
        run = len(begins) if self._steady else _RUN
        while line < len(begins):
            if self._at - line != shift or line >= first + len(hits):
                if line:
                    run = 2 * run if self._at - line == shift else _RUN
                first, shift = line, self._at - line
                hits = self._compare(piece, begins[line : line + run])
            missed = hits.find(0, line - first)
            stop = first + (len(hits) if missed < 0 else missed)
            entries[line:stop] = self._skeleton._order[line + shift : stop + shift]
            self._at, line = stop + shift, stop
            if missed >= 0 or not hits:
                line = self._look_up_from(line, piece, begins, ends, entries)
        return entries

    def _compare(self, piece: bytes, begins: list[int]) -> bytes:
        """Return 1 for each line that is the expected one, else 0; none where nothing is expected any more."""
        expected = self._skeleton._expected
        if self._at:
            expected = expected[self._at : self._at + len(begins)]
        return bytes(map(piece.startswith, expected, begins))

    def _look_up_from(self, line: int, piece: bytes, begins: list[int], ends: Index, entries: Index) -> int:
        """Find or learn lines that are not the expected ones, up to one that stood on the last page; expect what came then.

        Returns the line to go on with: new ones mostly stand together.
        """
        self._steady = False
        while line < len(begins):
            entries[line] = entry = self._look_up(piece[begins[line] : int(ends[line])], line)
            line += 1
            place = int(self._skeleton._place[entry]) if entry >= 0 else -1
            if place >= 0:
                self._at = place + 1
                break
        return line

    def _look_up(self, line: bytes, row: int) -> int:
        """Return the entry of a line that is not the expected one; -1 for a bad one that is to be skipped."""
        guess = self._skeleton.dialect.constant(line)
        entry = self._skeleton._entry_of.get(guess)
        return self._learn(line, guess, row) if entry is None else entry

    def _learn(self, line: bytes, guess: bytes, row: int) -> int:
        """Return the entry of a line that only the careful parser can tell; -1 for a bad one that is to be skipped."""
        dialect = self._skeleton.dialect
        try:
            if dialect.is_comment(line):
                return self._entry(line + b"\n", None)
            sample = dialect.sample(line, self._words)
        except BadLine as error:
            self._bad(line, row, error)
            return -1
        # The guess is mostly right, and its hash is known by now.
        return self._entry(guess if len(guess) == sample.value_at else line[: sample.value_at], sample)

    def _entry(self, key: bytes, sample: Sample | None) -> int:
        skeleton = self._skeleton
        entry = skeleton._entry_of.get(key)
        if entry is None:
            entry = skeleton._add(key, _COMMENT if sample is None else skeleton.learn(sample))
            self._learned.append(entry)
        return entry

    def _bad(self, line: bytes, row: int, error: BadLine) -> None:
        number = self._line + row + 1
        if not self._skeleton.skip_bad_lines:
            raise BadPage(number, error.reason, line[:_EXCERPT]) from None
        if self._bad_count == MAX_BAD_LINES:
            raise BadPage(number, f"more than {MAX_BAD_LINES} lines of the page are bad", line[:_EXCERPT]) from None
        self._bad_count += 1
        self._last_bad = max(self._last_bad, number)
        if self._bad_count <= MAX_LISTED_BAD_LINES:
            self._bad_lines.append((number, error.reason))

    def _odd(self, line: bytes, key: int, entry: int, row: int) -> tuple[int, float, int, Exemplar | None]:
        """Read a line that only the careful parser can tell.

        Returns entry, value, time and exemplar. The entry is -1 for a bad line, and another than expected where ``a ``
        matched a line that turns out to be ``a {b="c"} 1``.
        """
        try:
            sample, exemplar = self._skeleton.dialect.line(line)
        except BadLine as error:
            self._bad(line, row, error)
            self._steady = False
            return -1, 0.0, NO_TIME, None
        if line[key : sample.value_at].strip(b" \t"):
            self._steady = False
            entry = self._entry(line[: sample.value_at], sample)
        return entry, sample.value, NO_TIME if sample.timestamp_ms is None else sample.timestamp_ms, exemplar
