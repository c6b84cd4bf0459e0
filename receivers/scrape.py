"""From the samples of one complete answer to batches: what is new, what repeats, what is torn, what has ended.

Strategy. Each series has a slot; what is remembered over time are columns by slot (``memory``), and an answer is a handful
of column operations. What goes out is gathered by table (``tables``); identity is worked out for newcomers only.

Rules. A sample whose (series, timestamp) was delivered already is ``repeated``. A histogram or summary whose parts carry
different timestamps is ``torn``: all of it is dropped, nothing is mixed. A series whose timestamp does not move for
``stale_after``, or which is missing from complete answers for as long, ends with one stale point; time is counted from
the first complete answer that shows it, so that failed polls end nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import cast

import numpy as np

from ebbtide import (
    STALE_NAN,
    Arrival,
    Batch,
    Bools,
    Family,
    Floats,
    Ints,
    Labels,
    Part,
    ReceiverCounts,
    Series,
    SeriesTable,
    join_own,
    part_of,
    split_own,
)
from receivers import starts
from receivers.limits import Limits, TooMuch
from receivers.memory import EXPIRED, FOLDED, POINTS, TARGET_WAS_DOWN, UNSUPPORTED, Columns, Slots, only_points
from receivers.numbers import NO_TIME
from receivers.skeleton import Page, PageReader, Skeleton
from receivers.tables import Index, Tables
from receivers.targets import UP, TargetBook, TargetKey, target_key
from receivers.text import Sample
from receivers.types import TypeBook, strip_type_labels

_MS = 10**6  # ns
_LATEST_MS = (2**63 - 1) // _MS
_FUTURE = 600 * 10**9  # ns: a timestamp so far ahead of our clock is a mistake, and must not make later ones look old

_COUNTERS, _COMPOUND = frozenset(("counter",)), frozenset(("histogram", "summary"))
_CUMULATIVE = _COUNTERS | _COMPOUND
_CREATED = "_created"
_MAY_BE_FOLDED = (_CREATED, "target_info", "otel_scope_info")

Key = tuple[str, Labels, tuple[str, ...]]  # name, labels, own label: as they stood on the page
Whole = tuple[str, Labels, tuple[str, str, str]]  # name, labels, family's identity


class Scrape:
    """All that a receiver remembers of one source of pages."""

    def __init__(
        self,
        counts: ReceiverCounts,
        types: TypeBook,
        *,
        stale_after: int = 300 * 10**9,
        track_starts: bool = True,
        limits: Limits | None = None,
    ):
        self.counts = counts
        self.types = types
        self.targets = TargetBook()
        self.stale_after = stale_after
        self.track_starts = track_starts
        self.limits = limits or Limits()
        self.skeleton = Skeleton(self._learn)
        self.columns = Columns()
        self.polls = 0
        self._slot_of: dict[Key, int] = {}
        self._keys: list[Key | None] = []  # by slot, as is `_series`
        self._series: list[Series | None] = []
        self._tables = Tables(self.columns, self._series)
        self._base: Labels | None = None  # of the last line learned
        self._own: dict[tuple[str, ...], tuple[str, ...]] = {}  # shared by the newcomers of one page
        self._newcomers: list[int] = []  # the slots of series that have no identity yet
        self._wholes: dict[Whole, int] = {}  # a histogram or summary -> the slot that speaks for it
        self._created: dict[int, int] = {}  # slot of x_created -> the slot whose stream it dates
        self._duplicates: Bools | None = None  # lines of the last page that repeat a series of it

    def read(self) -> PageReader:
        """Begin a page."""
        return self.skeleton.read()

    def finish(self, reader: PageReader) -> Page:
        """Return the complete page. Raises BadPage where it was cut short, TooMuch where it has too many samples."""
        if self.limits.samples and reader.samples > self.limits.samples:
            raise TooMuch(f"the page has {reader.samples} samples, sample_limit is {self.limits.samples}")
        return reader.finish()

    def abandon(self, reader: PageReader) -> None:
        """The page broke off or was refused: forget what only it has taught."""
        reader.abandon()
        self.forget_newcomers()

    def forget_newcomers(self) -> None:
        """Forget the series that only the answer which broke off has shown."""
        newcomers, self._newcomers, self._own = self._newcomers, [], {}
        self._release(newcomers)

    def _learn(self, sample: Sample) -> int:
        rest, own = split_own(sample.name, sample.labels)
        base = self._base
        if base is None or base.flat != rest:  # the buckets of a histogram mostly come one after the other
            base = self._base = Labels.of(rest)
        key = (sample.name, base, self._own.setdefault(own, own))
        slot = self._slot_of.get(key)
        if slot is None:
            if self.limits.apply:
                self.limits.check(sample)
            slot = self._slot_of[key] = self.columns.allocate()
            if slot >= len(self._keys):
                self._keys += [None] * (self.columns.size - len(self._keys))
                self._series += [None] * (self.columns.size - len(self._series))
            self._keys[slot] = key
            self._newcomers.append(slot)
        return slot

    def unknown_targets(self) -> set[TargetKey]:
        """Learn targets from the ``up`` series among the newcomers; return those newcomers' targets that stay unknown."""
        bases = set()
        for slot in self._newcomers:
            name, base, _ = self._key(slot)
            bases.add(base)
            if name == UP:
                self.targets.learn(base.flat)
        return self.targets.undecided({target_key(base.flat) for base in bases})

    @property
    def newcomers(self) -> int:
        """How many series of the page being read were never seen before."""
        return len(self._newcomers)

    def take(self, page: Page, now: int) -> Iterator[Batch]:
        """Return the batches that a complete page gives at the wall time ``now`` (ns). What they hold counts as sent.

        Each batch is booked when it is handed out, so that the ledger balances at any moment.
        """
        self.polls += 1
        ended = [*self._revise(now)]
        self._place_newcomers()
        slots, values, times = self._distinct(page, now)
        sendable = self._sendable(slots, times, now)
        self._note_presence(slots, values, times, now)
        self._send(slots, values, times, sendable)
        self.counts.samples += len(page.slots) - int(sendable.sum())
        batches = self._batches(slots, values, times, sendable)
        return self._booked(batches, [*ended, *self._end_quiet(now)])

    def _booked(self, batches: Iterator[Batch], ended: list[Batch]) -> Iterator[Batch]:
        together = Arrival()
        for batch in batches:
            self.counts.samples += len(batch)
            batch.together = together
            yield batch
        for batch in ended:
            self.counts.added["stale"] += len(batch)
            yield batch

    def _distinct(self, page: Page, now: int) -> tuple[Slots, Floats, Ints]:
        """Leave out series that stand twice on the page (the first counts) and those that give no point."""
        slots, values = page.slots, page.values
        times = np.clip(page.times, 0, _LATEST_MS) * _MS
        if (unset := page.times == NO_TIME).any():
            times[unset] = now
        if not page.steady or self._duplicates is None:
            first = np.empty(self.columns.size, np.intp)
            first[slots[::-1]] = np.arange(len(slots) - 1, -1, -1)
            self._duplicates = first[slots] != np.arange(len(slots))
        doubled = self._duplicates
        if doubled.any():
            self.counts.dropped["duplicate"] += int(doubled.sum())
            slots, values, times = slots[~doubled], values[~doubled], times[~doubled]
        return self._with_points(slots, values, times)

    def _with_points(self, slots: Slots, values: Floats, times: Ints) -> tuple[Slots, Floats, Ints]:
        """Leave out, counted, what gives no point of its own."""
        points = only_points(self.columns, slots, values, self.polls, self.counts.dropped)
        return (slots, values, times) if points is None else (slots[points], values[points], times[points])

    def _sendable(self, slots: Slots, times: Ints, now: int) -> Bools:
        """Tell which samples go out: neither torn nor repeated. What is compound goes or stays as a whole."""
        columns = self.columns
        heads = columns.head[slots]
        sent = columns.sent[slots]
        repeated = (times <= sent) & ((sent <= now + _FUTURE) | (times == sent))
        whole = np.empty(columns.size, np.int64)
        whole[heads] = times
        torn = whole[heads] != times
        mask = np.zeros(columns.size, np.bool_)
        if torn.any():
            mask[heads[torn]] = True
            torn = mask[heads]
            self.counts.dropped["torn"] += int(torn.sum())
        if repeated.any():
            mask[:] = False
            mask[heads[repeated]] = True
            repeated = mask[heads] & ~torn
            self.counts.dropped["repeated"] += int(repeated.sum())
        sendable: Bools = ~(torn | repeated)
        return sendable

    def _send(self, slots: Slots, values: Floats, times: Ints, sendable: Bools) -> None:
        """Note what goes out."""
        self._track_starts(slots, values, times, sendable)
        sent = slots[sendable]
        self.columns.sent[sent] = times[sendable]
        self.columns.alive[sent] = True

    def _note_presence(self, slots: Slots, values: Floats, times: Ints, now: int) -> None:
        """Note what this answer held: who came back from where, who is quiet, which targets are down."""
        columns, poll = self.columns, self.polls
        last = columns.seen_poll[slots]
        back = (last > 0) & (last < poll - 1)
        if back.any():
            gone = slots[back]
            down = self.targets.was_down_since(columns.target[gone], last[back])
            away = np.where(down, TARGET_WAS_DOWN, EXPIRED).astype(np.int8)
            columns.away[gone] = np.where(columns.away[gone] == EXPIRED, EXPIRED, away)
        columns.seen_poll[slots] = poll
        moved = slots[times != columns.seen[slots]]
        columns.seen[slots] = times
        quiet = columns.used.copy()
        quiet[moved] = False
        columns.quiet_since[~quiet] = 0
        columns.quiet_since[quiet & (columns.quiet_since == 0)] = now
        ups = np.zeros(columns.size, np.bool_)
        ups[slots[values != 0]] = True
        self.targets.note_down(columns, slots, ups, poll)

    def _track_starts(self, slots: Slots, values: Floats, times: Ints, sendable: Bools) -> None:
        columns = self.columns
        if self.track_starts:
            speaks = sendable & columns.cumulative[slots] & (columns.head[slots] == slots)
            starts.track(columns, slots[speaks], values[speaks], times[speaks])
        for created, dated in self._created.items():
            if columns.value[created] > 0:
                columns.start[dated] = int(columns.value[created] * 1e9)

    def _batches(self, slots: Slots, values: Floats, times: Ints, sendable: Bools) -> Iterator[Batch]:
        columns = self.columns
        out = np.zeros(columns.size, np.bool_)
        out[slots[sendable]] = True
        value_of, time_of = np.empty(columns.size), np.empty(columns.size, np.int64)
        value_of[slots], time_of[slots] = values, times
        return self._tables.batches(out, value_of, time_of, self._starts())

    def _starts(self) -> Ints:
        return np.where(self.columns.cumulative, self.columns.start[self.columns.head], 0)

    def _end_quiet(self, now: int) -> list[Batch]:
        """End the streams that have been quiet for long; forget the series that are not even answered any more."""
        columns = self.columns
        quiet = columns.used & (columns.quiet_since > 0)
        over = np.flatnonzero(quiet)[now - columns.quiet_since[quiet] >= self.stale_after]
        if not len(over):
            return []
        heads_over = np.zeros(columns.size, np.bool_)
        heads_over[over] = True
        ending = np.flatnonzero(columns.alive & heads_over[columns.head])  # a part alone does not end the whole
        batches = self._stale(ending, now)
        self._forget(over[columns.seen_poll[over] < self.polls])
        return batches

    def _stale(self, slots: Index, now: int | Ints) -> list[Batch]:
        """One stale point for each of these slots, whose streams end with it."""
        if not len(slots):
            return []
        columns = self.columns
        table = SeriesTable(series for slot in slots.tolist() if (series := self._series[slot]) is not None)
        times = np.maximum(now, columns.sent[slots] + _MS)
        began = self._starts()[slots]
        columns.alive[slots], columns.start[slots] = False, 0
        return [Batch(table, np.full(len(slots), STALE_NAN), times, began, np.ones(len(slots), np.bool_))]

    def _forget(self, slots: Index) -> None:
        gone = set(slots.tolist())
        if not gone:
            return
        self._tables.withdraw(gone)
        self._created = {created: dated for created, dated in self._created.items() if not {created, dated} & gone}
        self._release(slots.tolist())

    def _release(self, slots: list[int]) -> None:
        for slot in slots:
            self._unname(slot)
        self.columns.free(slots)

    def _unname(self, slot: int) -> None:
        series = self._series[slot]
        del self._slot_of[self._key(slot)]
        if series is not None and series.family.kind in _COMPOUND and (part := part_of(series)) is not None:
            whole = part.name, part.base, series.family.identity
            if self._wholes.get(whole) == slot:
                del self._wholes[whole]
        if series is not None and series.name == UP:
            self.targets.forget(slot)
        self._keys[slot] = self._series[slot] = None

    def _revise(self, now: int) -> list[Batch]:
        """Where types became known since: end the streams of unknown type, and let their series be born anew."""
        revised = self.types.revise()
        if not revised:
            return []
        unknown = {family.identity for family in revised}  # series are shared between receivers, their books are not
        slots = [slot for slot, series in enumerate(self._series) if series and series.family.identity in unknown]
        index = np.array(slots, np.intp)
        ended = self._stale(index[self.columns.alive[index]], now)
        self._tables.withdraw(slots)
        self._newcomers += slots
        return ended

    def _place_newcomers(self) -> None:
        slots, self._newcomers, self._own = self._newcomers, [], {}
        if not slots:
            return
        keys = [self._key(slot) for slot in slots]
        whose = self._whose(slots, keys)
        families = self._families(slots, [(name, join_own(base.flat, own)) for name, base, own in keys])
        wholes: dict[Whole, list[tuple[int, Part]]] = defaultdict(list)
        for slot, (name, _, own), (number, base), family in zip(slots, keys, whose, families, strict=True):
            series = self._series[slot] = Series.parts_of(name, base, own, family, target=self.targets.at(number))
            if family.kind in _COMPOUND and (part := part_of(series)) is not None:
                wholes[part.name, base, family.identity].append((slot, part))
        self._enter(slots, [number for number, _ in whose])
        older = {slot for whole, parts in wholes.items() for slot in self._join(whole, parts)}.difference(slots)
        self._tables.withdraw(older)
        for slot, (name, base, own) in zip(slots, keys, strict=True):
            if not own and name.endswith(_MAY_BE_FOLDED):
                self._mark_folded(slot, name, base)
        self._tables.hold([slot for slot in slots if self.columns.fate[slot] == POINTS] + sorted(older))

    def _families(self, slots: list[int], heads: list[tuple[str, tuple[str, ...]]]) -> list[Family]:
        return self.types.decide(heads)

    def _key(self, slot: int) -> Key:
        return cast(Key, self._keys[slot])  # of a slot in use

    def _whose(self, slots: list[int], keys: list[Key]) -> list[tuple[int, Labels]]:
        """Return the number of each slot's target, and its labels without what says the type; watch the ``up`` of targets."""
        by_labels: dict[Labels, tuple[int, Labels]] = {}
        for slot, (name, base, _) in zip(slots, keys, strict=True):
            if base not in by_labels:
                number = self.targets.number(target_key(base.flat))
                by_labels[base] = number, Labels.of(strip_type_labels(base.flat))
            if name == UP:
                self.targets.watch(target_key(base.flat), slot)
        return [by_labels[base] for _, base, _ in keys]

    def _enter(self, slots: list[int], targets: list[int]) -> None:
        """Enter what follows from identity into the columns."""
        columns = self.columns
        kinds = [series.family.kind if (series := self._series[slot]) else "" for slot in slots]
        columns.used[slots] = True
        columns.cumulative[slots] = [kind in _CUMULATIVE for kind in kinds]
        columns.fate[slots] = [UNSUPPORTED if kind == "gaugehistogram" else POINTS for kind in kinds]
        columns.target[slots] = targets
        columns.head[slots] = slots

    def _join(self, whole: Whole, parts: list[tuple[int, Part]]) -> set[int]:
        """Let one slot speak for a whole: its count, else its first part. Return the slots that belonged to it before."""
        columns = self.columns
        known = self._wholes.get(whole)
        counts = [slot for slot, part in parts if part.role == "count"]
        older: set[int] = set()
        if known is not None:
            older = set(np.flatnonzero(columns.head == known).tolist())
            if counts:  # the new speaker takes over what the whole remembers
                columns.start[counts[0]], columns.away[counts[0]] = columns.start[known], columns.away[known]
        speaker = counts[0] if counts else (parts[0][0] if known is None else known)
        columns.head[[slot for slot, _ in parts] + sorted(older)] = speaker
        self._wholes[whole] = speaker
        return older

    def _mark_folded(self, slot: int, name: str, base: Labels) -> None:
        """``x_created`` of a known x dates x's stream and is no series of its own; nor are the info lines about OTel."""
        if name in ("target_info", "otel_scope_info"):
            self.columns.fate[slot] = FOLDED
        elif name.endswith(_CREATED) and (dated := self._dated_by(name.removesuffix(_CREATED), base)) is not None:
            self.columns.fate[slot] = FOLDED
            self.columns.value[slot] = 0.0
            self._created[slot] = dated

    def _dated_by(self, name: str, base: Labels) -> int | None:
        for candidate, kinds in ((name + "_total", _COUNTERS), (name, _COUNTERS), (name + "_count", _COMPOUND)):
            slot = self._slot_of.get((candidate, base, ()))
            if slot is not None and (series := self._series[slot]) is not None and series.family.kind in kinds:
                return slot
        return None
