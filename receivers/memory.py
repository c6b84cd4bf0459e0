"""What a receiver must remember of its series from one answer to the next: columns by slot.

A slot is a small number that stands for one series while it is known. What is remembered over time (last timestamp,
last value, start, how long it has been quiet) is state, not cache: it lies here, beside the tables, not on them.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from ebbtide import Bools, Floats, Ints

Slots = npt.NDArray[np.int32]
Small = npt.NDArray[np.int8]

NEVER = -1  # in `sent` and `seen`: no timestamp yet

# What becomes of a slot's samples.
POINTS, UNSUPPORTED, FOLDED = 0, 1, 2

# Whether a series was away since its last point: not at all; while its target was up (the series expired); or
# together with its target.
PRESENT, EXPIRED, TARGET_WAS_DOWN = 0, 1, 2


class Columns:
    """The columns, all as long as there are slots; grown together, slots reused once freed."""

    def __init__(self) -> None:
        self.size = 0
        self._next = 0  # slots from here on were never used
        self._free: list[int] = []
        self.used: Bools = np.empty(0, np.bool_)
        self.sent: Ints = np.empty(0, np.int64)  # timestamp of the last point sent, ns
        self.seen: Ints = np.empty(0, np.int64)  # timestamp last seen in an answer, ns
        self.seen_poll: Ints = np.empty(0, np.int64)  # number of the last complete answer that held it
        self.quiet_since: Ints = np.empty(
            0, np.int64
        )  # when its timestamp was first found not to move, ns; 0: it moves
        self.value: Floats = np.empty(0, np.float64)  # of the last point sent; only for what `starts` are tracked for
        self.start: Ints = np.empty(0, np.int64)  # of the running stream, ns; 0: none yet
        self.away: Small = np.empty(0, np.int8)
        self.fate: Small = np.empty(0, np.int8)
        self.alive: Bools = np.empty(0, np.bool_)  # a point was sent, and no end since
        self.cumulative: Bools = np.empty(0, np.bool_)
        self.head: Slots = np.empty(0, np.int32)  # the slot that speaks for it: the count of a histogram, else itself
        self.target: Slots = np.empty(0, np.int32)
        self.table: Slots = np.empty(0, np.int32)  # number of the table that holds it, -1: none

    def allocate(self) -> int:
        """Return a fresh slot."""
        if self._free:
            return self._free.pop()
        if self._next == self.size:
            self._grow()
        self._next += 1
        return self._next - 1

    def free(self, slots: list[int]) -> None:
        """Give slots back."""
        self._clear(np.array(slots, np.intp))
        self._free += slots

    def _clear(self, slots: npt.NDArray[np.intp]) -> None:
        self.used[slots] = self.alive[slots] = self.cumulative[slots] = False
        self.seen_poll[slots] = self.quiet_since[slots] = self.start[slots] = 0
        self.sent[slots] = self.seen[slots] = NEVER
        self.away[slots] = PRESENT
        self.fate[slots] = POINTS
        self.head[slots] = slots
        self.target[slots] = self.table[slots] = -1

    def _grow(self) -> None:
        old = self.size
        self.size += max(1024, old // 8)
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                setattr(self, name, np.concatenate((column, np.zeros(self.size - old, column.dtype))))
        self._clear(np.arange(old, self.size))


def only_points(columns: Columns, slots: Slots, values: Floats, poll: int, dropped: Counter[str]) -> Bools | None:
    """Tell which samples give points of their own, None where all do; count the others, and keep what is folded."""
    fate = columns.fate[slots]
    if not fate.any():
        return None
    for reason, its in (("folded", FOLDED), ("unsupported", UNSUPPORTED)):
        dropped[reason] += int((fate == its).sum())
    columns.value[slots[fate == FOLDED]] = values[fate == FOLDED]
    columns.seen_poll[slots[fate != POINTS]] = poll
    return np.asarray(fate == POINTS)
