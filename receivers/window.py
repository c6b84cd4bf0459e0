"""Raw samples of a stretch of time, as a range selector gives them: any number of each series, taken oldest first.

Strategy. A window is dealt into *rounds*: the timestamps of each target are ranked, and round r holds the samples of rank r.
So a round has at most one sample of a series, the parts of a histogram are together, and it is taken as a page is; a window
that holds three scrapes of a thousand targets is three rounds, not three thousand.

What ends is judged by the clock of the source: how far all of it has come, not one window. So the hole that an outage of
the server itself left ends nothing, and what died within a backfill ends there; a source from which nothing comes any more
ends with ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ebbtide import Batch, Bools, Extra, Family, Floats, Ints, NativeHistogram, flatten
from receivers.memory import NEVER, Slots, Small
from receivers.presence import Presence, SteppingColumns
from receivers.query_cursor import Window
from receivers.scrape import Scrape
from receivers.tables import Tables
from receivers.text import Sample

Index = npt.NDArray[np.intp]
Natives = Collection[tuple[int, int, NativeHistogram | None]]
"""Slot, time in ms, and the histogram; None for one that cannot be passed on."""

_MS = 10**6  # ns
_QUIET_STEPS = 3  # a series with steps longer than `stale_after` is quiet after so many of them


class WindowScrape(Scrape):
    """What is remembered of a source that is read window by window."""

    columns: SteppingColumns

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.columns = SteppingColumns()
        self._tables = Tables(self.columns, self._series)
        self._presence = Presence()
        self._heard = 0  # ns: the newest sample of all windows before
        self._natives: dict[tuple[int, int], NativeHistogram] = {}  # of this window
        self._silent_since = 0  # ns: from here on windows that are up to date held nothing; 0: the last one did

    def learn(self, labels: Mapping[str, str]) -> int:
        """Return the slot of a series, new or known; ``__name__`` is among its labels. Raises TooMuch for too many labels."""
        others = {name: value for name, value in labels.items() if name != "__name__"}
        return self._learn(Sample(labels.get("__name__", ""), flatten(others), 0.0, None, 0))

    def take_window(
        self, slots: Slots, values: Floats, times: Ints, window: Window, natives: Natives = (), *, live: bool = True
    ) -> Iterator[Batch]:
        """Return the batches of what an answer holds of a window, oldest first (``times`` in ns); each is booked as it is taken.

        Samples may stand twice, or lie before the window; those that were taken already are left out, uncounted. ``natives``
        are of the same answer. ``live``: the window reaches as far as there is anything to read.
        """
        self.polls += 1
        ended = [*self._revise(window.end * _MS)]
        self._natives = self._whole(natives, window)
        floats = len(slots)
        slots = np.append(slots, np.array([slot for slot, _ in self._natives], np.int32))
        times = np.append(times, np.array([time for _, time in self._natives], np.int64))
        values = np.append(values, [one.count for one in self._natives.values()])
        self._place_newcomers()
        self.columns.seen_poll[slots] = self.polls
        rows = self._new(slots, times, window)
        rows = rows[self._fitting(slots[rows], rows >= floats)]
        slots, values, times = slots[rows], values[rows], times[rows]
        ranks = ranked(self.columns.target[slots], times)
        downs = self.targets.are_up(slots, self.columns.target[slots]) & (values == 0)
        away = self._presence.note(self.columns, slots, times, ranks, downs)
        clock = self._clock(times, window, live)
        return self._rounds(slots, values, times, ranks, away, clock, ended)

    def _whole(self, natives: Natives, window: Window) -> dict[tuple[int, int], NativeHistogram]:
        """Return native histograms by slot and time (ns); newcomers are known as such. Those that are none are counted."""
        newcomers = set(self._newcomers) if natives else set()
        whole, lost = {}, set()
        for slot, ms, native in natives:
            if native is not None:
                whole[slot, ms * _MS] = native
                self.columns.native[slot] |= slot in newcomers
            elif window.begin < ms <= window.end:
                lost.add((slot, ms))
            self.columns.seen_poll[slot] = self.polls
        self.counts.samples += len(lost)
        self.counts.dropped["unsupported"] += len(lost)
        return whole

    def _fitting(self, slots: Slots, native: Bools) -> Bools:
        """Leave out, counted, what is of another kind than its series was at first."""
        fitting = self.columns.native[slots] == native
        others = len(slots) - int(fitting.sum())
        self.counts.samples += others
        self.counts.dropped["unsupported"] += others
        return np.asarray(fitting)

    def _families(self, slots: list[int], heads: list[tuple[str, tuple[str, ...]]]) -> list[Family]:
        families = super()._families(slots, heads)
        for place in np.flatnonzero(self.columns.native[slots]).tolist():
            families[place] = self.types.native(*heads[place])
        return families

    def _new(self, slots: Slots, times: Ints, window: Window) -> Index:
        """Return the rows of the window's samples and of what is late, by series and time, each once."""
        begin, end, seen_from = window.begin * _MS, window.end * _MS, window.seen_from * _MS
        rows = np.flatnonzero((times > seen_from) & (times <= end))
        late = times[rows] <= begin
        if late.any():
            late[late] = times[rows[late]] <= self.columns.seen[slots[rows[late]]]
            rows = rows[~late]
        rows = rows[np.lexsort((times[rows], slots[rows]))]
        slot, time = slots[rows], times[rows]
        distinct: Index = rows[np.append(True, (slot[1:] != slot[:-1]) | (time[1:] != time[:-1]))[: len(rows)]]
        return distinct

    def _clock(self, times: Ints, window: Window, live: bool) -> int:
        """Return the time by which series are judged to be quiet, in ns: see the strategy above."""
        heard = self._heard
        if len(times):
            self._heard = max(heard, int(times.max()))
            self._silent_since = 0
        elif live:
            self._silent_since = self._silent_since or window.begin * _MS
        end = window.end * _MS
        return end if self._silent_since and end - self._silent_since >= self.stale_after else heard

    def _rounds(
        self,
        slots: Slots,
        values: Floats,
        times: Ints,
        ranks: Index,
        away: tuple[Index, Small],
        clock: int,
        ended: list[Batch],
    ) -> Iterator[Batch]:
        absent = np.zeros(len(slots), np.int8)
        absent[away[0]] = away[1]
        for rows in rounds(ranks):
            gone = rows[absent[rows] > 0] if len(away[0]) else rows[:0]
            self.columns.away[slots[gone]] = absent[gone]
            yield from self._booked(self._round(slots[rows], values[rows], times[rows]), [])
        self._note_quiet(clock)
        yield from self._booked(iter(()), [*ended, *self._end_quiet(clock)])

    def _round(self, slots: Slots, values: Floats, times: Ints) -> Iterator[Batch]:
        counted = len(slots)
        slots, values, times = self._with_points(slots, values, times)
        sendable = self._sendable(slots, times, int(times.max(initial=0)))
        self._send(slots, values, times, sendable)
        self.counts.samples += counted - int(sendable.sum())
        return self._batches(slots, values, times, sendable)

    def _batches(self, slots: Slots, values: Floats, times: Ints, sendable: Bools) -> Iterator[Batch]:
        if not self._natives:
            return super()._batches(slots, values, times, sendable)
        columns, natives = self.columns, self._natives
        out = np.zeros(columns.size, np.bool_)
        out[slots[sendable]] = True
        value_of, time_of = np.empty(columns.size), np.empty(columns.size, np.int64)
        value_of[slots], time_of[slots] = values, times
        keys = zip(slots.tolist(), times.tolist(), strict=True)
        extras = {key[0]: Extra(natives[key]) for key in keys if key in natives}
        portions = self._tables.portions(out, value_of, time_of, self._starts(), None, extras)
        return (batch for _, batch in portions)

    def _note_quiet(self, clock: int) -> None:
        """Every series is quiet since its last sample; those of long steps count from so much later."""
        columns = self.columns
        grace = np.maximum(_QUIET_STEPS * columns.step - self.stale_after, 0)
        since = np.where(columns.seen == NEVER, clock - self.stale_after, columns.seen + grace)
        columns.quiet_since = np.where(columns.used, np.maximum(since, 1), 0)


def ranked(targets: Slots, times: Ints) -> Index:
    """Return the rank of each row's time among the different times of its target, from 0."""
    order = np.lexsort((times, targets))
    target, time = targets[order], times[order]
    new_target = np.append(True, target[1:] != target[:-1])[: len(order)]
    number = np.cumsum(new_target | np.append(True, time[1:] != time[:-1])[: len(order)])
    ranks = np.empty(len(order), np.intp)
    ranks[order] = number - np.maximum.accumulate(np.where(new_target, number, 0))
    return ranks


def rounds(ranks: Index) -> Iterator[Index]:
    """Yield the rows of each round, those of one rank, the oldest first."""
    if not len(ranks):
        return
    last = int(ranks.max())
    narrow = ranks.astype(np.uint16) if last < 1 << 16 else ranks  # sorted by counting
    order = np.argsort(narrow, kind="stable")
    yield from np.split(order, np.cumsum(np.bincount(ranks))[:-1])
