"""Histograms and summaries, whose parts come as series of their own, joined by time before they go on. Sans-IO.

Strategy. A request of remote write is no page: it is cut after so many samples, and Prometheus' shards each send their own
share of the series. What is promised is the order of each series. So every whole is held open at one time until all of its
parts have come for it, each part in a column by slot; steady ones are completed by the request that began them. Which
parts a whole has is learned: its first point waits for ``patience``, and goes on if all parts that were ever seen of it
have come, and the same ones as others of its name have. (Of a point at the seam of two runs of ours, some parts may have
been taken by the former run.) If not, it is torn; the next point is believed. Later on, a whole some of whose parts are
missing after ``patience`` is torn, and none of it goes on; from then on it has the parts that came. A part that comes when
its whole has been decided is torn alone, and belongs to it from then on.

The whole has a slot of its own, the ``head`` of its parts, whose columns say how it stands.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ebbtide import Bools, Floats, Ints, Part, stale_mask
from receivers.memory import NEVER, Columns, Slots

Index = npt.NDArray[np.intp]

MOST_AHEAD = 64
"""Later points of one series that are kept while its whole is open; of more, the whole is decided at once."""


@dataclass(slots=True)
class Rows:
    """Samples on their way: columns of equal length, times and starts in ns (0: no start)."""

    slots: Slots
    values: Floats
    times: Ints
    starts: Ints

    def __len__(self) -> int:
        return len(self.slots)

    def at(self, which: Bools | Index) -> Rows:
        """Return these rows."""
        return Rows(self.slots[which], self.values[which], self.times[which], self.starts[which])

    @staticmethod
    def joined(rows: list[Rows]) -> Rows:
        """Put rows one after the other; there is at least one."""
        if len(rows) == 1:
            return rows[0]
        columns = ("slots", "values", "times", "starts")
        return Rows(*(np.concatenate([getattr(one, column) for one in rows]) for column in columns))


class _Later(NamedTuple):
    """A sample that waits until its whole has been decided for an earlier time. ``arrived``: ns of our clock."""

    slot: int
    value: float
    time: int
    start: int
    arrived: int


class WrittenColumns(Columns):
    """What is remembered of series and of wholes that are written to us; columns by slot."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: Ints = np.empty(0, np.int64)  # when a request last held it, ns of our clock
        self.member: Bools = np.empty(0, np.bool_)  # of a part: its whole waits for it
        self.filled: Ints = np.empty(0, np.int64)  # of a part: the time of the value that is held
        self.held: Floats = np.empty(0, np.float64)  # of a part: that value
        self.held_start: Ints = np.empty(0, np.int64)  # of a part: the start that came with it
        self.speaks: Bools = np.empty(0, np.bool_)  # of a part: it is the count
        self.members: Slots = np.empty(0, np.int32)  # of a whole: how many parts it waits for
        self.came: Slots = np.empty(0, np.int32)  # of a whole: how many are held
        self.opened: Ints = np.empty(0, np.int64)  # of a whole: the time it is open at, 0: none
        self.since: Ints = np.empty(0, np.int64)  # of a whole: when it was opened, ns of our clock
        self.decided: Ints = np.empty(0, np.int64)  # of a whole: the last time that went on, or was torn
        self.settled: Bools = np.empty(0, np.bool_)  # of a whole: which parts it has is known
        self.doubted: Bools = np.empty(0, np.bool_)  # of a whole: what first came of it was not believed to be all
        self.whole: Bools = np.empty(0, np.bool_)  # it is the slot of a whole

    def _clear(self, slots: npt.NDArray[np.intp]) -> None:
        super()._clear(slots)
        self.member[slots] = self.speaks[slots] = self.settled[slots] = self.doubted[slots] = self.whole[slots] = False
        self.members[slots] = self.came[slots] = 0
        self.opened[slots] = self.since[slots] = self.touched[slots] = self.held_start[slots] = 0
        self.filled[slots] = self.decided[slots] = NEVER


class Gather:
    """The wholes of one receiver. ``torn`` and ``repeated`` count samples that will not go on; ``folded`` ends of parts."""

    def __init__(self, columns: WrittenColumns):
        self._columns = columns
        self._parts: dict[int, dict[int, Part]] = {}  # head -> slot -> which part
        self._arrays: dict[int, Slots] = {}  # the same slots, once asked for
        self._layouts: dict[str, set[tuple[str, float]]] = defaultdict(set)  # by name, the parts that wholes have
        self._ahead: dict[int, list[_Later]] = defaultdict(list)  # head -> samples of later times, as they came
        self.torn = 0
        self.repeated = 0
        self.folded = 0

    def join(self, head: int, parts: Mapping[int, Part]) -> None:
        """Let series be parts of the whole, by slot."""
        slots = np.fromiter(parts, np.intp, len(parts))
        self._columns.head[slots] = head
        self._columns.speaks[slots] = [part.role == "count" for part in parts.values()]
        self._parts.setdefault(head, {}).update(parts)
        self._layouts[next(iter(parts.values())).name].update(map(_place, parts.values()))
        self._arrays.pop(head, None)

    def leave(self, head: int, slots: set[int]) -> bool:
        """Let series be parts no more; return whether none is left."""
        columns, parts = self._columns, self._parts[head]
        for slot in slots & parts.keys():
            del parts[slot]
            if columns.member[slot]:
                columns.members[head] -= 1
            if columns.opened[head] and columns.filled[slot] == columns.opened[head]:
                columns.came[head] -= 1
                self.torn += 1
        self._arrays.pop(head, None)
        if parts:
            return False
        del self._parts[head]
        self.torn += len(self._ahead.pop(head, ()))
        return True

    @property
    def held(self) -> int:
        """Samples that wait for their whole."""
        columns = self._columns
        return int(columns.came.sum()) + sum(map(len, self._ahead.values()))

    def parts(self, head: int) -> Iterable[int]:
        """Return the slots of a whole's parts."""
        return self._parts[head].keys()

    def counts(self, slots: Slots) -> Bools:
        """Tell which series are the counts of their wholes: what a whole's stream is judged by."""
        return np.take(self._columns.speaks, slots)

    def take(self, rows: Rows, arrived: int | Ints) -> list[Rows]:
        """Take parts, each slot once, that arrived at these moments of our clock (ns).

        Returns the wholes that are complete with them, each once per item.
        """
        columns = self._columns
        ready: list[Rows] = []
        while len(rows):
            fresh = self._fresh(rows)
            arrived = np.broadcast_to(arrived, fresh.shape)[fresh]
            rows = rows.at(fresh)
            heads = columns.head[rows.slots]
            self._open(heads, rows, arrived)
            opened = columns.opened[heads]
            ahead = rows.times > opened
            if ahead.any():
                self._keep(rows.at(ahead), heads[ahead], arrived[ahead])
            late = rows.times < opened
            self.torn += int(late.sum())
            self._fill(rows.at(~(ahead | late)))
            done = np.unique(heads[columns.settled[heads] & (columns.came[heads] >= columns.members[heads])])
            done = done[columns.opened[done] > 0]
            ready += self._complete(done)
            rows, arrived = self._next(done)
        return ready

    def _fresh(self, rows: Rows) -> Bools:
        """Tell which rows did not come before, and whose whole has not been decided without them."""
        columns = self._columns
        repeated: Bools = (rows.times <= columns.sent[rows.slots]) | (rows.times == columns.filled[rows.slots])
        self.repeated += int(repeated.sum())
        heads = columns.head[rows.slots]
        late = ~repeated & (rows.times <= columns.decided[heads])
        if late.any():
            self.torn += int(late.sum())
            self._adopt(rows.slots[late], heads[late])
        return ~(repeated | late)

    def until(self) -> Ints:
        """Return, by slot of a whole, the latest time of which parts are held; 0 where none are."""
        latest = self._columns.opened.copy()
        for head, later in self._ahead.items():
            latest[head] = max(latest[head], *(row.time for row in later))
        return latest

    def expire(self, before: int) -> list[Rows]:
        """Decide the wholes that were opened before that moment of our clock; return those that go on after all."""
        columns = self._columns
        ready: list[Rows] = []
        while True:
            over = np.flatnonzero(columns.whole & (columns.opened > 0) & (columns.since <= before))
            if not len(over):
                return ready
            wholes = [rows for head in over.tolist() for rows in self._give_up(head)]
            ready += [Rows.joined(wholes)] if wholes else []
            ready += self.take(*self._next(over))

    def _open(self, heads: Slots, rows: Rows, arrived: Ints) -> None:
        """Open the wholes that are not open, each at its earliest time here."""
        columns = self._columns
        closed = columns.opened[heads] == 0
        if closed.any():
            fresh = heads[closed]
            columns.opened[fresh] = columns.since[fresh] = np.iinfo(np.int64).max
            np.minimum.at(columns.opened, fresh, rows.times[closed])
            np.minimum.at(columns.since, fresh, arrived[closed])

    def _fill(self, rows: Rows) -> None:
        columns, slots = self._columns, rows.slots
        heads = columns.head[slots]
        columns.held[slots] = rows.values
        columns.held_start[slots] = rows.starts
        columns.filled[slots] = rows.times
        np.add.at(columns.came, heads, 1)
        self._adopt(slots, heads)

    def _adopt(self, slots: Slots, heads: Slots) -> None:
        columns = self._columns
        new = ~columns.member[slots]
        if new.any():
            columns.member[slots[new]] = True
            np.add.at(columns.members, heads[new], 1)

    def _keep(self, rows: Rows, heads: Slots, arrived: Ints) -> None:
        """Keep samples of later times than their whole is open at, until it has been decided."""
        columns = (rows.slots, rows.values, rows.times, rows.starts, arrived)
        for head, *row in zip(heads.tolist(), *(column.tolist() for column in columns), strict=True):
            later = self._ahead[head]
            later.append(_Later(*row))
            if len(later) > MOST_AHEAD * len(self._parts[head]):
                self._columns.since[head] = 0  # the next look at the clock decides it

    def _next(self, heads: Index | Slots) -> tuple[Rows, Ints]:
        """Return what was kept for these wholes at the earliest time of each, and when it came; keep the rest."""
        found: list[_Later] = []
        for head in heads.tolist():
            later = self._ahead.pop(head, None)
            if not later:
                continue
            earliest = min(row.time for row in later)
            now = {row.slot: row for row in later if row.time == earliest}
            rest = [row for row in later if row.time != earliest]
            found += now.values()
            self.repeated += len(later) - len(now) - len(rest)
            if rest:
                self._ahead[head] = rest
        columns = zip(*found, strict=True) if found else ((),) * len(_Later._fields)
        slots, values, times, starts, arrived = map(list, columns)
        rows = Rows(np.array(slots, np.int32), np.array(values, np.float64), np.array(times, np.int64),
                    np.array(starts, np.int64))  # fmt: skip
        return rows, np.array(arrived, np.int64)

    def _complete(self, heads: Index | Slots) -> list[Rows]:
        """Close these wholes, all of whose parts have come, and return their rows."""
        if not len(heads):
            return []
        columns = self._columns
        slots = np.concatenate([self._slots(head) for head in heads.tolist()])
        times = columns.opened[columns.head[slots]]
        slots = slots[columns.filled[slots] == times]
        times = columns.opened[columns.head[slots]]
        rows = Rows(slots, columns.held[slots], times, columns.held_start[slots])
        self._close(heads)
        return [self._without_ends(rows)]

    def _slots(self, head: int) -> Slots:
        slots = self._arrays.get(head)
        if slots is None:
            slots = self._arrays[head] = np.fromiter(self._parts[head], np.int32, len(self._parts[head]))
        return slots

    def _close(self, heads: Index | Slots) -> None:
        columns = self._columns
        columns.decided[heads] = columns.opened[heads]
        columns.opened[heads] = 0
        columns.came[heads] = 0
        columns.settled[heads] = True

    def _without_ends(self, rows: Rows) -> Rows:
        """Where only some parts of a whole end, it goes on without them."""
        stale = stale_mask(rows.values)
        if not stale.any():
            return rows
        columns = self._columns
        heads = columns.head[rows.slots]
        lives = np.zeros(columns.size, np.bool_)
        lives[heads[~stale]] = True
        ends = stale & lives[heads]
        if not ends.any():
            return rows
        columns.member[rows.slots[ends]] = False
        np.subtract.at(columns.members, heads[ends], 1)
        columns.sent[rows.slots[ends]] = rows.times[ends]
        self.folded += int(ends.sum())
        return rows.at(~ends)

    def _give_up(self, head: int) -> list[Rows]:
        """Decide a whole that is not complete: its first point goes on with what has come, any other is torn."""
        columns, slots = self._columns, self._slots(head)
        came = columns.filled[slots] == columns.opened[head]
        missing = slots[~came & columns.member[slots]]
        first = not columns.settled[head]
        columns.member[missing] = False
        columns.members[head] -= len(missing)
        if first and self._may_be_whole(head, slots[came].tolist()):
            return self._complete(np.array([head], np.intp))
        self.torn += int(came.sum())
        self._close(np.array([head], np.intp))
        columns.settled[head] = not first
        columns.doubted[head] = True
        return []

    def _may_be_whole(self, head: int, slots: list[int]) -> bool:
        """Tell whether these parts can be all: a count at least and, but for a second chance, all that is known of."""
        known = self._parts[head]
        came = {_place(known[slot]) for slot in slots}
        if self._columns.doubted[head]:
            has_buckets = any(part.role == "bucket" for part in known.values())
            return ("count", 0.0) in came and (not has_buckets or ("bucket", math.inf) in came)
        return ("count", 0.0) in came and came == self._layouts[next(iter(known.values())).name]


def _place(part: Part) -> tuple[str, float]:
    """Which part of any whole of that name it is."""
    return part.role, 0.0 if math.isnan(part.number) else part.number
