"""Raw samples of a stretch of time, as a range selector gives them: any number of each series, taken oldest first.

Strategy. A window is dealt into *rounds*: the timestamps of each target are ranked, and round r holds the samples of rank r.
So a round has at most one sample of a series, the parts of a histogram are together, and it is taken as a page is; a window
that holds three scrapes of a thousand targets is three rounds, not three thousand.

What ends is judged by the clock of the source: how far all of it has come, not one window. So the hole that an outage of
the server itself left ends nothing, and what died within a backfill ends there; a source from which nothing comes any more
ends with ours.

A series may change its kind, from numbers to native histograms or back. Each kind is a stream of its own, so each has a slot;
the one that the series had first is the one by which it is known, the other one is its *twin*. Where a sample of one goes
out, the other ends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ebbtide import Batch, Bools, Extra, Family, Floats, Ints, NativeHistogram, flatten, join_own
from receivers.matrix import Native
from receivers.memory import NEVER, UNSUPPORTED, Slots, Small
from receivers.presence import NO_TWIN, Presence, SteppingColumns
from receivers.query_cursor import Window
from receivers.query_native import CUSTOM_END, Histograms
from receivers.scrape import Scrape
from receivers.tables import Tables
from receivers.text import Sample

Index = npt.NDArray[np.intp]
_MS = 10**6  # ns
_QUIET_STEPS = 3  # a series with steps longer than `stale_after` is quiet after so many of them


class _Taken(NamedTuple):
    """What goes on of a window. ``ranks``: the rounds; ``away``: why a series was away before."""

    slots: Slots
    values: Floats
    times: Ints
    ranks: Index
    away: Small


class WindowScrape(Scrape):
    """What is remembered of a source that is read window by window."""

    columns: SteppingColumns

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.columns = SteppingColumns()
        self._tables = Tables(self.columns, self._series)
        self._presence = Presence()
        self._heard = 0  # ns: the newest sample of all windows before
        self._mixed = False  # there have been native histograms; one of numbers alone is spared what follows from kinds
        self._histograms = Histograms()
        self._natives: dict[tuple[int, int], NativeHistogram] = {}  # of this window, by slot and time in ns
        self._renewed: set[tuple[int, int]] = set()  # those among them whose boundaries are others than before
        self._silent_since = 0  # ns: from here on windows that are up to date held nothing; 0: the last one did

    def learn(self, labels: Mapping[str, str]) -> int:
        """Return the slot of a series, new or known; ``__name__`` is among its labels. Raises TooMuch for too many labels."""
        others = {name: value for name, value in labels.items() if name != "__name__"}
        return self._learn(Sample(labels.get("__name__", ""), flatten(others), 0.0, None, 0))

    def take_window(
        self,
        slots: Slots,
        values: Floats,
        times: Ints,
        window: Window,
        natives: Collection[Native] = (),
        *,
        live: bool = True,
    ) -> Iterator[Batch]:
        """Return the batches of what an answer holds of a window, oldest first (``times`` in ns); each is booked as it is taken.

        Samples may stand twice, or lie before the window; those that were taken already are left out, uncounted. ``natives``
        are of the same answer. ``live``: the window reaches as far as there is anything to read.
        """
        self.polls += 1
        ended = [*self._revise(window.end * _MS)]
        numbers = len(slots)
        if natives:
            self._mixed = True
            slots = np.append(slots, np.array([slot for slot, _, _ in natives], np.int32))
            times = np.append(times, np.array([time for _, time, _ in natives], np.int64) * _MS)
            values = np.append(values, np.full(len(natives), np.nan))
        self.columns.seen_poll[slots] = self.polls
        if self._mixed:
            slots = self._by_kind(slots, np.arange(len(slots)) >= numbers)
        self._place_newcomers()
        rows = self._new(slots, times, window)
        slots, values, times = slots[rows], values[rows], times[rows]
        ranks = ranked(self.columns.target[slots], times)
        downs = self.targets.are_up(slots, self.columns.target[slots]) & (values == 0)
        away = self._presence.note(self.columns, slots, times, ranks, downs)
        clock = self._clock(times, window, live)
        taken, lost = self._with_histograms(_Taken(slots, values, times, ranks, away), rows - numbers, [*natives])
        return self._rounds(taken, clock, ended, lost)

    # -- kinds --------------------------------------------------------------------------------------------------------

    def _by_kind(self, slots: Slots, native: Bools) -> Slots:
        """Return the slots with the twin's where a sample is not of the kind that its series had first."""
        columns = self.columns
        newcomers = np.zeros(columns.size, np.bool_)
        newcomers[self._newcomers] = native.any()
        claimed = slots[native]
        columns.native[claimed[newcomers[claimed]]] = True
        other = columns.native[slots] != native
        if not other.any():
            return slots
        slots = slots.copy()
        slots[other] = [self._twin(slot) for slot in slots[other].tolist()]
        columns.seen_poll[slots] = self.polls
        return slots

    def _twin(self, slot: int) -> int:
        """Return the slot of the series' other kind."""
        twin = int(self.columns.twin[slot])
        if twin == NO_TWIN:
            name, base, own = key = self._key(slot)
            del self._slot_of[key]
            twin = self._learn(Sample(name, join_own(base.flat, own), 0.0, None, 0))
            self._slot_of[key] = slot
            columns = self.columns
            columns.twin[slot], columns.twin[twin] = twin, slot
            columns.native[twin] = not columns.native[slot]
        return twin

    def _with_histograms(
        self, taken: _Taken, numbers: Index, natives: Sequence[Native]
    ) -> tuple[_Taken, dict[int, int]]:
        """Read the histograms among the rows; return the rows that go on, a histogram's value being its count, and those lost.

        ``numbers``: which of ``natives`` a row is, below 0 where it is a number. Rows are sorted by series and time. Of what is
        lost, and counted as such, the slots and the times of their last samples are returned.
        """
        self._natives, self._renewed = {}, set()
        if not natives:
            return taken, {}
        slots, values, times, ranks, away = taken
        whole = np.ones(len(slots), np.bool_)
        for row in np.flatnonzero(numbers >= 0).tolist():
            key = int(slots[row]), int(times[row])
            reading = self._histograms.read(key[0], natives[numbers[row]][2])
            if reading is None:
                whole[row] = False
                continue
            values[row] = reading.native.count
            self._natives[key] = reading.native
            if reading.renewed:
                self._renewed.add(key)
        lost = dict(_keys(slots[~whole], times[~whole]))
        gone = len(slots) - int(whole.sum())
        self.counts.samples += gone
        self.counts.dropped["unsupported"] += gone
        return _Taken(slots[whole], values[whole], times[whole], ranks[whole], away[whole]), lost

    def _enter(self, slots: list[int], targets: list[int]) -> None:
        super()._enter(slots, targets)
        self.columns.fate[[slot for slot in slots if not self._key(slot)[0]]] = UNSUPPORTED  # OTLP has no such metric

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

    def _rounds(self, taken: _Taken, clock: int, ended: list[Batch], lost: Mapping[int, int]) -> Iterator[Batch]:
        slots, values, times, ranks, away = taken
        some_away = away.any()
        for rows in rounds(ranks):
            if some_away:
                gone = rows[away[rows] > 0]
                self.columns.away[slots[gone]] = away[gone]
            yield from self._round(slots[rows], values[rows], times[rows])
        self._note_quiet(clock)
        yield from self._booked(iter(()), [*ended, *self._end_lost(lost), *self._end_quiet(clock)])

    def _round(self, slots: Slots, values: Floats, times: Ints) -> Iterator[Batch]:
        counted = len(slots)
        slots, values, times = self._with_points(slots, values, times)
        sendable = self._sendable(slots, times, int(times.max(initial=0)))
        former = self._turn(slots[sendable], times[sendable]) if self._mixed else []
        self._send(slots, values, times, sendable)
        self.counts.samples += counted - int(sendable.sum())
        yield from self._booked(iter(()), former)
        yield from self._booked(self._batches(slots, values, times, sendable), [])

    def _turn(self, slots: Slots, times: Ints) -> list[Batch]:
        """End what these series were before, where they are of another kind from now on; note of which."""
        columns = self.columns
        custom = np.zeros(len(slots), np.bool_)
        rows = np.flatnonzero(columns.native[slots])
        custom[rows] = [self._natives[key].is_custom for key in _keys(slots[rows], times[rows])]
        turned = columns.alive[slots] & (columns.custom[slots] != custom)
        twins = columns.twin[slots]
        former = twins != NO_TWIN
        former[former] = columns.alive[twins[former]]
        ended = self._stale(np.append(twins[former], slots[turned]), np.append(times[former], times[turned]))
        columns.custom[slots] = custom
        for slot, _ in self._renewed.intersection(_keys(slots, times)) if self._renewed else ():
            columns.value[slot] = np.inf  # any count is less: a reset
        return ended

    def _end_lost(self, lost: Mapping[int, int]) -> list[Batch]:
        """End the series whose last sample could not be passed on."""
        columns = self.columns
        over = [slot for slot, time in lost.items() if columns.alive[slot] and columns.sent[slot] < time]
        return self._stale(np.array(over, np.intp), np.array([lost[slot] for slot in over], np.int64))

    def _stale(self, slots: Index, now: int | Ints) -> list[Batch]:
        """As ever; an end of histograms with custom boundaries says what it is the end of."""
        ended = super()._stale(slots, now)
        custom = np.flatnonzero(self.columns.custom[slots])
        if not len(custom):
            return ended
        (batch,) = ended
        extras = dict.fromkeys(custom.tolist(), CUSTOM_END)
        return [Batch(batch.table, batch.values, batch.times, batch.starts, batch.stale, extras)]

    def _batches(self, slots: Slots, values: Floats, times: Ints, sendable: Bools) -> Iterator[Batch]:
        if not self._natives:
            return super()._batches(slots, values, times, sendable)
        columns, natives = self.columns, self._natives
        out = np.zeros(columns.size, np.bool_)
        out[slots[sendable]] = True
        value_of, time_of = np.empty(columns.size), np.empty(columns.size, np.int64)
        value_of[slots], time_of[slots] = values, times
        rows = np.flatnonzero(columns.native[slots])
        extras = {key[0]: Extra(natives[key]) for key in _keys(slots[rows], times[rows])}
        portions = self._tables.portions(out, value_of, time_of, self._starts(), None, extras)
        return (batch for _, batch in portions)

    def _note_quiet(self, clock: int) -> None:
        """Every series is quiet since its last sample; those of long steps count from so much later."""
        columns = self.columns
        grace = np.maximum(_QUIET_STEPS * columns.step - self.stale_after, 0)
        since = np.where(columns.seen == NEVER, clock - self.stale_after, columns.seen + grace)
        columns.quiet_since = np.where(columns.used, np.maximum(since, 1), 0)

    def _forget(self, slots: Index) -> None:
        """A series is known as long as one of its kinds is."""
        gone = set(slots.tolist())
        for slot in slots[self.columns.twin[slots] != NO_TWIN].tolist():
            if self._slot_of[self._key(slot)] == slot and int(self.columns.twin[slot]) not in gone:
                gone.discard(slot)
        super()._forget(np.array(sorted(gone), np.intp))

    def _unname(self, slot: int) -> None:
        key, twin = self._key(slot), int(self.columns.twin[slot])
        self._histograms.forget(slot)
        known_by = self._slot_of.get(key, slot)
        self._slot_of[key] = slot
        super()._unname(slot)
        if twin != NO_TWIN:
            self.columns.twin[twin] = NO_TWIN
        if known_by != slot:
            self._slot_of[key] = known_by


def _keys(slots: Slots, times: Ints) -> Iterator[tuple[int, int]]:
    return zip(slots.tolist(), times.tolist(), strict=True)


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
