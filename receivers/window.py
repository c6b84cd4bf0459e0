"""Raw samples of a stretch of time, as a range selector gives them: any number of each series, taken oldest first.

Strategy. A window is dealt into *rounds*: the timestamps of each target are ranked, and round r holds the samples of rank r.
So a round has at most one sample of a series, the parts of a histogram are together, and it is taken as a page is; a window
that holds three scrapes of a thousand targets is three rounds, not three thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ebbtide import Batch, Bools, Floats, Ints, flatten
from receivers.memory import Slots
from receivers.scrape import Scrape
from receivers.text import Sample

Index = npt.NDArray[np.intp]


class WindowScrape(Scrape):
    """What is remembered of a source that is read window by window."""

    def learn(self, labels: Mapping[str, str]) -> int:
        """Return the slot of a series, new or known; ``__name__`` is among its labels. Raises TooMuch for too many labels."""
        others = {name: value for name, value in labels.items() if name != "__name__"}
        return self._learn(Sample(labels.get("__name__", ""), flatten(others), 0.0, None, 0))

    def delivered(self, slots: Slots, times: Ints) -> Bools:
        """Tell which samples (times in ns) are no newer than what went out of their series."""
        return np.asarray(times <= self.columns.sent[slots])

    def take_window(self, slots: Slots, values: Floats, times: Ints, now: int) -> Iterator[Batch]:
        """Return the batches of a window, oldest first (``times`` and ``now``, its end, in ns). No two samples of a series have
        one time.

        Who came, went or is quiet is judged once, by the window as a whole: what stands under one job and instance (a target,
        recording rules) need not have the same timestamps.
        """
        self.polls += 1
        ended = [*self._revise(now)]
        self._place_newcomers()
        counted = len(slots)
        slots, values, times = self._with_points(slots, values, times)
        self.counts.samples += counted - len(slots)
        order = np.lexsort((times, slots))
        last = order[np.append(np.diff(slots[order]) != 0, True)] if len(order) else order
        self._note_presence(slots[last], values[last], times[last], now)
        return self._rounds(slots, values, times, now, ended)

    def _rounds(self, slots: Slots, values: Floats, times: Ints, now: int, ended: list[Batch]) -> Iterator[Batch]:
        for rows in rounds(self.columns.target[slots], times):
            yield from self._booked(self._round(slots[rows], values[rows], times[rows], now), [])
        yield from self._booked(iter(()), [*ended, *self._end_quiet(now)])

    def _round(self, slots: Slots, values: Floats, times: Ints, now: int) -> Iterator[Batch]:
        sendable = self._sendable(slots, times, now)
        self._send(slots, values, times, sendable)
        self.counts.samples += int((~sendable).sum())
        return self._batches(slots, values, times, sendable)


def rounds(targets: Slots, times: Ints) -> Iterator[Index]:
    """Yield the rows of each round, the oldest first: those whose time has the same rank among the times of their target."""
    if not len(targets):
        return
    order = np.lexsort((times, targets))
    target, time = targets[order], times[order]
    new_target = np.append(True, target[1:] != target[:-1])
    new_time = new_target | np.append(True, time[1:] != time[:-1])
    number = np.cumsum(new_time)
    rank = number - np.maximum.accumulate(np.where(new_target, number, 0))
    by_rank = np.argsort(rank, kind="stable")
    edges = np.flatnonzero(np.append(True, np.diff(rank[by_rank]) != 0))
    for rows in np.split(order[by_rank], edges[1:]):
        yield np.sort(rows)
