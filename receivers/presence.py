"""Who was away between two samples of its own, judged by all that stands under its job and instance.

Strategy. A range selector shows no gap by itself: a series that expired in its proxy and came back looks like one that was
scraped slowly. Two things tell them apart: it missed more than two of its own steps, and its target was heard of meanwhile.
Where nothing of the target came, nobody scraped it; where its ``up`` was 0, it was down, and the series merely went unseen.
What stands under one job and instance (a target, recording rules) need not have the same timestamps: hence its own steps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ebbtide import Bools, Ints
from receivers.memory import EXPIRED, NEVER, PRESENT, TARGET_WAS_DOWN, Columns, Slots, Small

Index = npt.NDArray[np.intp]

_MISSED = 2.5
"""So many steps after its last sample a series has missed one for certain, and a single late or failed scrape is none."""
_MS = 10**6  # ns
_TIME_BITS = 42  # of a timestamp in ms: until the year 2109


NO_TWIN = -1


class SteppingColumns(Columns):
    """Columns that remember the steps of series, too, and of which kind they are."""

    def __init__(self) -> None:
        super().__init__()
        self.step: Ints = np.empty(0, np.int64)  # between its last two samples, ns; 0: not known yet
        self.native: Bools = np.empty(0, np.bool_)  # native histograms
        self.custom: Bools = np.empty(0, np.bool_)  # the last one sent had custom boundaries
        self.twin: Slots = np.empty(0, np.int32)  # the slot of the same series' other kind

    def _clear(self, slots: Index) -> None:
        super()._clear(slots)
        self.step[slots] = 0
        self.native[slots] = self.custom[slots] = False
        self.twin[slots] = NO_TWIN


class Presence:
    """When each target was last heard of, and when its ``up`` was last 0 (ns; by the target's number)."""

    def __init__(self) -> None:
        self._heard: Ints = np.empty(0, np.int64)
        self._down: Ints = np.empty(0, np.int64)

    def note(self, columns: SteppingColumns, slots: Slots, times: Ints, ranks: Index, downs: Bools) -> Small:
        """Take samples, sorted by slot and time; tell of each row why its series was away before, PRESENT where it was not.

        ``ranks``: of each time among those of its target; ``downs``: which samples say that their target is down.
        """
        self._grow(int(columns.target.max(initial=-1)) + 1)
        target = columns.target[slots]
        first = np.append(True, slots[1:] != slots[:-1])[: len(slots)]
        before = np.where(first, columns.seen[slots], np.roll(times, 1))
        step = np.where(before == NEVER, 0, times - before)
        usual = np.where(first, columns.step[slots], np.roll(step, 1))
        rows = np.flatnonzero((usual > 0) & (step > _MISSED * usual))
        rows = rows[self._heard_between(target, first, before, ranks, rows)]
        away = np.full(len(slots), PRESENT, np.int8)
        away[rows] = np.where(self._down_between(target, times, before, downs, rows), TARGET_WAS_DOWN, EXPIRED)
        step[rows] = usual[rows]
        last = np.append(first[1:], True)[: len(slots)]
        columns.seen[slots[last]] = times[last]
        columns.step[slots[last]] = step[last]
        np.maximum.at(self._heard, target, times)
        np.maximum.at(self._down, target[downs], times[downs])
        return away

    def _heard_between(self, target: Slots, first: Bools, before: Ints, ranks: Index, rows: Index) -> Bools:
        earlier = (ranks[rows] > 0) | (self._heard[target[rows]] > before[rows])
        return np.asarray(np.where(first[rows], earlier, ranks[rows] - ranks[rows - 1] > 1))

    def _down_between(self, target: Slots, times: Ints, before: Ints, downs: Bools, rows: Index) -> Bools:
        """Tell whether the target's ``up`` was 0 after the former sample and before this one."""
        moments = np.sort(_moment(target[downs], times[downs]))
        after = np.searchsorted(moments, _moment(target[rows], before[rows]), "right")
        until = np.searchsorted(moments, _moment(target[rows], times[rows]), "left")
        return np.asarray((until > after) | (self._down[target[rows]] > before[rows]))

    def _grow(self, size: int) -> None:
        more = size - len(self._heard)
        if more > 0:
            self._heard, self._down = (
                np.append(one, np.full(more, NEVER, np.int64)) for one in (self._heard, self._down)
            )


def _moment(targets: Slots, times: Ints) -> Ints:
    """One number for target and time, in their order."""
    return (targets.astype(np.int64) << _TIME_BITS) + times // _MS
