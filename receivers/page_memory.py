"""From pages of one moment to batches: the samples of many targets as columns, taken in one pass.

Strategy. What is remembered over time are columns by slot, shared by all targets of a receiver (``page_store``); a pass
is a handful of column operations over the slots of the targets that it takes, so that it costs the same for twenty
pages of 200 samples as for one of 4,000. What goes out is gathered by table (``tables``). An end goes out in the place
where the series' points went, so that it changes no table; the table shrinks afterwards.

Rules (prometheus/prometheus, scrape/scrape.go). A sample without a timestamp was taken when its poll began. Of series
that stand twice on a page the first counts. A series that is missing from a good page ends at once, and so do all
series of a target that does not answer; those whose samples carry timestamps of their own are not ended. A sample
whose (series, timestamp) was delivered is ``repeated``, with all of its histogram.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ebbtide import STALE_NAN, Arrival, Batch, Bools, Exemplar, Extra, Floats, Ints, SeriesTable
from receivers import starts
from receivers.memory import FOLDED, POINTS, TARGET_WAS_DOWN, UNSUPPORTED, Slots
from receivers.numbers import NO_TIME
from receivers.page_source import PageSource
from receivers.page_store import DUPLICATE, PageStore
from receivers.tables import Tables

_MS = 10**6  # ns
_LATEST_MS = (2**63 - 1) // _MS
_FUTURE = 600 * 10**9  # ns: a timestamp so far ahead of our clock is a mistake, and must not make later ones look old

_INSTANCE = "instance"

NO_SLOTS: Slots = np.empty(0, np.int32)


@dataclass(slots=True)
class Reading:
    """One poll of one target: the samples of a good page, or none.

    ``when`` the poll began, ns · ``seconds`` it took · ``slots``, ``values``, ``times`` (ms or ``NO_TIME``) in the order
    of the page · ``good``: it answered, and the answer was taken · ``steady``: the same series as on the page before ·
    ``bad_lines`` that were skipped · ``created`` the start in ns of a slot's stream, where the page tells it · ``folded``
    slots that only told that · ``extras`` by slot · ``born`` series never seen before · ``bug`` that left its target's
    series half known.
    """

    source: PageSource
    when: int
    seconds: float
    good: bool = False
    slots: Slots = field(default_factory=NO_SLOTS.copy)
    values: Floats = field(default_factory=lambda: np.empty(0))
    times: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    steady: bool = False
    bad_lines: int = 0
    created: Mapping[int, int] = field(default_factory=dict)
    folded: Collection[int] = ()
    extras: Mapping[int, Extra] = field(default_factory=dict)
    born: int = 0
    bug: Exception | None = None


@dataclass(frozen=True, slots=True)
class Portion:
    """A batch and what of it was scraped; the rest was added: ends of series, and the receiver's own five."""

    batch: Batch
    samples: int
    stale: int
    reports: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """Samples of several pages: series, value and time in ns of each, and whether it brought the time itself."""

    slots: Slots
    values: Floats
    times: Ints
    timed: Bools

    def take(self, mask: Bools) -> _Rows:
        return _Rows(self.slots[mask], self.values[mask], self.times[mask], self.timed[mask])


class PageMemory:
    """Takes what the polls of a receiver brought."""

    def __init__(self, store: PageStore):
        self.store = store
        self._passes = 0

    def take(self, tables: Tables, readings: Sequence[Reading]) -> Iterator[Portion]:
        """Return what these polls give; all that they hold counts as sent. ``tables`` are those of their targets.

        Each portion is booked when it is handed out, so that the ledger balances at any moment.
        """
        counts = self.store.counts
        before = counts.samples, dict(counts.dropped)
        try:
            return self._booked(self._take(tables, readings))
        except Exception:  # a bug: nothing of it leaves, so nothing of it counts
            counts.samples = before[0]
            counts.dropped.clear()
            counts.dropped.update(before[1])
            self.clear()
            raise

    def give_up(self, tables: Tables, reading: Reading) -> Iterator[Portion]:
        """After a bug: the poll counts as failed, and nothing that its target has shown is remembered any more."""
        source = reading.source
        portions = self._take(tables, [Reading(source, reading.when, reading.seconds)])
        tables.withdraw(source.scraped())
        source.start_over()
        return self._booked(portions)

    def _take(self, tables: Tables, readings: Sequence[Reading]) -> list[Portion]:
        self._passes += 1
        good = [reading for reading in readings if reading.good]
        portions = self._revise_all(tables, good)
        self._place(tables, readings)
        rows, lines = self._rows(good), sum(len(reading.slots) + reading.bad_lines for reading in good)
        self._book_bad_lines(good)
        rows = self._sendable(self._distinct(rows), max((reading.when for reading in good), default=0))
        self._track(rows, good)
        self._lay_out(rows)
        self._lay_out_reports(readings)
        gone = self._end(readings)
        self.store.counts.samples += lines - len(rows.slots)
        together = self._together([reading.source for reading in readings])
        portions += self._gather(tables, self._extras(good), together)
        self._forget(tables, gone)
        return portions

    def remove(self, tables: Tables, sources: Sequence[PageSource], now: int) -> Iterator[Portion]:
        """End all series of targets that are gone, and forget the targets."""
        for source in sources:
            self._stale(source.everything(), now)
        portions = list(self._gather(tables, {}, self._together(sources)))
        self._forget(tables, [(source, source.everything()) for source in sources])
        return self._booked(portions)

    def clear(self) -> None:
        """Forget what was laid out and did not leave, because a bug came between."""
        self.store.columns.due[:] = self.store.columns.stale[:] = False

    def move(self, source: PageSource, old: Tables | None, new: Tables) -> None:
        """Let a target's series go out from other tables; those of a new target are held with its first page."""
        if old is None:
            return
        slots = source.everything()
        old.withdraw(slots.tolist())
        new.hold(slots[self.store.columns.fate[slots] == POINTS].tolist())

    def _together(self, sources: Sequence[PageSource]) -> Arrival | None:
        """Return what the batches of these targets share if certainly no series is in two of them, else None."""
        if len(sources) > 1:
            instances = {source.labels.get(_INSTANCE) for source in sources}
            if self.store.rules.honor_labels or None in instances or len(instances) < len(sources):
                return None
        return Arrival()

    def _booked(self, portions: list[Portion]) -> Iterator[Portion]:
        counts = self.store.counts
        for portion in portions:
            counts.samples += portion.samples
            counts.added["stale"] += portion.stale
            counts.added["scrape"] += portion.reports
            yield portion

    def _revise_all(self, tables: Tables, good: list[Reading]) -> list[Portion]:
        portions: list[Portion] = []
        for reading in good:
            if reading.bug is not None:
                raise reading.bug
            try:
                portions += self._revise(tables, reading)
            except Exception as bug:
                reading.bug = bug
                raise
        return portions

    # -- samples -------------------------------------------------------------------------------------------------

    def _revise(self, tables: Tables, reading: Reading) -> Iterator[Portion]:
        """Where types have changed, or what is known of the target, end what was before."""
        source, columns = reading.source, self.store.columns
        before = source.target
        source.note_info()
        if not source.doubted:
            return
        revised = np.array(source.revised(), np.int32)
        if source.target is not before:
            revised = np.append(revised, source.reports)
        ended = revised[columns.alive[revised]]
        if len(ended):
            yield self._ended(ended, reading.when)
        columns.alive[revised] = False
        columns.start[revised] = 0
        tables.withdraw(revised.tolist())
        if source.target is not before:
            source.place_reports()

    def _place(self, tables: Tables, readings: Sequence[Reading]) -> None:
        """Give newcomers their identity, and all of them tables together."""
        held: list[int] = []
        try:
            for reading in readings:
                held += self._place_one(tables, reading)
        finally:
            if held:
                tables.hold(held)

    def _place_one(self, tables: Tables, reading: Reading) -> list[int]:
        """Give newcomers their identity; return the slots that are to be put into tables."""
        columns, source = self.store.columns, reading.source
        held: list[int] = []
        if len(source.reports) and columns.table[source.reports[0]] < 0:
            held += source.reports.tolist()
        if not reading.good or not source.unplaced:
            return held
        try:
            columns.native[[slot for slot, extra in reading.extras.items() if extra.native is not None]] = True
            points, older = source.place()
        except Exception as bug:
            reading.bug = bug
            raise
        columns.fate[list(reading.folded)] = FOLDED
        tables.withdraw(older)
        return held + [slot for slot in points + older if columns.fate[slot] == POINTS]

    def _ended(self, slots: Slots, now: int) -> Portion:
        """Return one stale point for each of these slots, whose series are about to become others."""
        columns, series = self.store.columns, self.store.series
        table = SeriesTable(one for slot in slots.tolist() if (one := series[slot]) is not None)
        times = np.maximum(now, columns.sent[slots] + _MS)
        batch = Batch(table, np.full(len(slots), STALE_NAN), times, self._begin(slots), np.ones(len(slots), np.bool_))
        return Portion(batch, 0, len(slots), 0)

    def _rows(self, good: list[Reading]) -> _Rows:
        """Put the samples of all pages one behind the other, each with its time."""
        if not good:
            return _Rows(NO_SLOTS, np.empty(0), np.empty(0, np.int64), np.empty(0, np.bool_))
        slots = np.concatenate([reading.slots for reading in good])
        values = np.concatenate([reading.values for reading in good])
        stamps = np.concatenate([reading.times for reading in good])
        times = np.repeat([reading.when for reading in good], [len(reading.slots) for reading in good])
        timed = stamps != NO_TIME
        if not self.store.rules.honor_timestamps:
            timed[:] = False
        elif timed.any():
            times = np.where(timed, np.clip(stamps, 0, _LATEST_MS) * _MS, times)
        return _Rows(slots, values, times, timed)

    def _book_bad_lines(self, good: list[Reading]) -> None:
        if bad := sum(reading.bad_lines for reading in good):
            self.store.counts.dropped["bad_line"] += bad

    def _distinct(self, rows: _Rows) -> _Rows:
        """Leave out series that stand twice on a page (the first counts) and those that give no point."""
        columns, dropped, slots = self.store.columns, self.store.counts.dropped, rows.slots
        columns.seen_poll[slots] = self._passes
        order = np.arange(len(slots))
        columns.line[slots[::-1]] = order[::-1]
        fate = columns.fate[slots]
        doubled = (columns.line[slots] != order) | (fate == DUPLICATE)
        if doubled.any():
            dropped["duplicate"] += int(doubled.sum())
            rows, fate = rows.take(~doubled), fate[~doubled]
        if fate.any():
            folded = fate == FOLDED
            columns.value[rows.slots[folded]] = rows.values[folded]
            dropped["folded"] += int(folded.sum())
            dropped["unsupported"] += int((fate == UNSUPPORTED).sum())
            rows = rows.take(fate == POINTS)
        return rows

    def _sendable(self, rows: _Rows, now: int) -> _Rows:
        """Leave out what was delivered before; what is compound goes or stays as a whole."""
        columns, slots = self.store.columns, rows.slots
        columns.timed[slots] = rows.timed
        if not rows.timed.any():
            return rows
        sent = columns.sent[slots]
        repeated = rows.timed & (rows.times <= sent) & ((sent <= now + _FUTURE) | (rows.times == sent))
        if not repeated.any():
            return rows
        heads = columns.head[slots]
        repeated = np.isin(heads, heads[repeated])
        self.store.counts.dropped["repeated"] += int(repeated.sum())
        return rows.take(~repeated)

    def _track(self, rows: _Rows, good: list[Reading]) -> None:
        """Begin, continue or restart streams; a start that the page itself tells is taken at its word, tracked or not."""
        columns, slots = self.store.columns, rows.slots
        if self.store.rules.track_starts:
            speaks = columns.cumulative[slots] & (columns.head[slots] == slots)
            starts.track(columns, slots[speaks], rows.values[speaks], rows.times[speaks], own_time=True)
        for reading in good:
            for slot, created in reading.created.items():
                columns.start[columns.head[slot]] = created
            for at, dated in reading.source.created.items():
                if 0 < columns.value[at] < _LATEST_MS / 1000:
                    columns.start[columns.head[dated]] = int(columns.value[at] * 1e9)

    def _lay_out(self, rows: _Rows) -> None:
        columns, slots = self.store.columns, rows.slots
        columns.begin[slots] = self._begin(slots)
        columns.point[slots] = rows.values
        columns.sent[slots] = rows.times
        columns.alive[slots] = columns.due[slots] = True

    def _begin(self, slots: Slots) -> Ints:
        columns = self.store.columns
        return np.where(columns.cumulative[slots], columns.start[columns.head[slots]], 0)

    def _extras(self, good: list[Reading]) -> dict[int, Extra]:
        """Put the extras of all pages together. An exemplar without a time was taken when its sample was."""
        sent = self.store.columns.sent
        return {slot: _dated(extra, int(sent[slot])) for reading in good for slot, extra in reading.extras.items()}

    def _lay_out_reports(self, readings: Sequence[Reading]) -> None:
        """The five series of each poll, as Prometheus writes them."""
        if not self.store.rules.reports or not readings:
            return
        columns = self.store.columns
        slots = np.concatenate([reading.source.reports for reading in readings])
        columns.point[slots] = [
            value
            for reading in readings
            for samples in [len(reading.slots)]
            for value in (reading.good, reading.seconds, samples, samples, reading.born)
        ]
        columns.sent[slots] = np.repeat([reading.when for reading in readings], len(slots) // len(readings))
        columns.alive[slots] = columns.due[slots] = True

    # -- ends ----------------------------------------------------------------------------------------------------

    def _end(self, readings: Sequence[Reading]) -> list[tuple[PageSource, Slots]]:
        """End what a good page lacks, and all of a target that does not answer. Return what is to be forgotten."""
        columns, gone = self.store.columns, []
        for reading in readings:
            slots = reading.source.slots
            if not reading.good:
                ended = self._stale(slots, reading.when)
                columns.away[ended] = TARGET_WAS_DOWN
            elif not reading.steady:
                missing = slots[columns.seen_poll[slots] != self._passes]
                heads = columns.head[missing]
                whole = (heads == missing) | (columns.seen_poll[heads] != self._passes)
                self._stale(missing[whole], reading.when)  # a part alone ends nothing
                gone.append((reading.source, missing))
        return gone

    def _stale(self, slots: Slots, now: int) -> Slots:
        """Lay out one stale point for each of these slots that lives, and does not keep its own time; return those."""
        columns = self.store.columns
        ended = slots[columns.alive[slots] & ~columns.timed[slots]]
        columns.begin[ended] = self._begin(ended)
        columns.point[ended] = STALE_NAN
        columns.sent[ended] = np.maximum(now, columns.sent[ended] + _MS)
        columns.due[ended] = columns.stale[ended] = True
        columns.alive[ended] = False
        return ended

    def _forget(self, tables: Tables, gone: Iterable[tuple[PageSource, Slots]]) -> None:
        gone = [(source, slots) for source, slots in gone if len(slots)]
        tables.withdraw([slot for _, slots in gone for slot in slots.tolist()])
        for source, slots in gone:
            source.forget(slots)

    def _gather(self, tables: Tables, extras: Mapping[int, Extra], together: Arrival | None) -> Iterator[Portion]:
        """Gather what is laid out, table by table. All columns are copied before anybody else may lay out more."""
        columns = self.store.columns
        laid_out = columns.due, columns.point, columns.sent, columns.begin, columns.stale, extras
        for slots, batch in list(tables.portions(*laid_out)):
            stale = int(columns.stale[slots].sum())
            reports = int((columns.report[slots] & ~columns.stale[slots]).sum())
            columns.due[slots] = columns.stale[slots] = False
            batch.together = together
            yield Portion(batch, len(slots) - stale - reports, stale, reports)


def _dated(extra: Extra, time: int) -> Extra:
    if all(one.time for one in extra.exemplars):
        return extra
    dated = (one if one.time else Exemplar(one.labels, one.value, time) for one in extra.exemplars)
    return Extra(extra.native, tuple(dated))
