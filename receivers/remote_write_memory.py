"""From decoded requests of remote write to batches: what repeats, what is whole, when streams begin and end. Sans-IO.

Strategy. As with answers that are asked for, what is remembered of series are columns by slot, and a request is a handful
of column operations (``remote_write_registry`` knows who the series are). Other than there, nobody says that a series is
absent: its end is a stale marker of Prometheus' own.

Rules. A sample that is not younger than what its series has delivered is ``repeated``: requests come again whenever their
answer was lost. Parts of histograms are joined (``remote_write_gather``). What waits, for other parts or for the ``up`` of
its target, waits for at most ``patience``, and counts as received once it is decided, so that the ledger balances at any
moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ebbtide import Arrival, Batch, Bools, Exemplar, Extra, NativeHistogram, ReceiverCounts, stale_mask
from receivers import starts
from receivers.memory import FOLDED, POINTS, UNSUPPORTED, Slots
from receivers.remote_write_gather import Rows
from receivers.remote_write_registry import Registry
from receivers.remote_write_samples import Decoded
from receivers.remote_write_v1 import ReaderV1
from receivers.remote_write_v2 import ReaderV2
from receivers.types import TypeBook

_MS = 10**6  # ns
_LATEST_MS = (2**63 - 1) // _MS

AHEAD = 600 * 10**9
"""ns: a sample so far ahead of our clock is refused, as Prometheus' own receiver does; it would make later ones look old."""
MOST_TIMES = 4096
"""Samples of one series in one request: each goes on in a batch of its own, and all the while nothing else is served."""
MOST_EXEMPLARS = 10
"""Exemplars of one series that wait for its next sample; of more, the oldest go."""


class TooMany(Exception):
    """A request holds more samples of one series than may come at once."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch to be emitted. ``ends``: it was not received, but ends streams that go on under another identity."""

    batch: Batch
    ends: bool = False


class Written:
    """What one receiver remembers of all that is written to it."""

    def __init__(self, counts: ReceiverCounts, types: TypeBook, *, patience: int, track_starts: bool = True):
        self.counts = counts
        self.patience = patience
        self.track_starts = track_starts
        self.registry = Registry(types)
        self.readers: dict[int, ReaderV1 | ReaderV2] = {
            1: ReaderV1(self.registry.learn),
            2: ReaderV2(self.registry.learn),
        }
        self.hindered = 0  # when a request was last refused for want of room, ns of our clock
        self._natives: dict[tuple[int, int], NativeHistogram] = {}  # by slot and time in ms
        self._exemplars: dict[int, list[Exemplar]] = {}  # by slot
        self._ready: list[Ready] = []

    def read(self, version: int, data: bytes) -> Decoded:
        """Decode a request. Raises Malformed or TooMany, and then nothing is left of it."""
        try:
            request = self.readers[version].read(data)
            if len(request.slots) > MOST_TIMES:
                most = int(np.unique(request.slots, return_counts=True)[1].max())
                if most > MOST_TIMES:
                    raise TooMany(f"it holds {most} samples of one series, {MOST_TIMES} are allowed; send less at once")
            return request
        except BaseException:
            self._abandon()
            raise

    def take(self, request: Decoded, now: int) -> list[Ready]:
        """Take a request in at the wall time ``now`` (ns); return what goes on. What goes on counts as delivered."""
        registry = self.registry
        registry.learn_types(request.metadata)
        self._ready += [Ready(batch, ends=True) for batch in registry.revise(now)]
        registry.greet(now)
        self._keep_extras(request)
        self._arrive(now)
        rows = self._in_time(_rows(request), request, now)
        registry.columns.touched[rows.slots] = now
        self._pass(registry.hold_awaited(rows), now)
        self._book("bad_line", request.refused)
        return self._handed_out()

    def opens(self, request: Decoded) -> bool:
        """Tell whether something of this request would have to wait that does not wait already."""
        columns = self.registry.columns
        rows = _rows(request)
        if self.registry.newcomers or not columns.used[rows.slots].all():
            return True
        heads = columns.head[rows.slots]
        parts = columns.whole[heads] & (rows.times > columns.sent[rows.slots])
        return bool((rows.times > self.registry.gather.until()[heads])[parts].any())

    def take_rest(self, request: Decoded, now: int) -> list[Ready]:
        """Take from a request only what completes something that waits; it will be sent again as a whole."""
        registry, columns = self.registry, self.registry.columns
        rows = _rows(request)
        self._abandon()
        rows = rows.at(columns.used[rows.slots])
        heads = columns.head[rows.slots]
        wanted = columns.whole[heads] & (rows.times <= registry.gather.until()[heads])
        wanted &= rows.times > columns.sent[rows.slots]
        self._arrive(now)
        self._pass(rows.at(wanted), now)
        return self._handed_out()

    def tick(self, now: int) -> list[Ready]:
        """Decide what has waited for ``patience``, unless we kept clients waiting ourselves meanwhile; forget old series."""
        before = now - self.patience
        if self.hindered <= before:
            self._arrive(now, before)
            self._deliver(self.registry.gather.expire(before))
        gone = self.registry.forget(now)
        self._forget_keys(gone)
        return self._handed_out()

    def finish(self, now: int) -> list[Ready]:
        """Decide all that waits: nothing more will come."""
        self._arrive(now, now)
        self._deliver(self.registry.gather.expire(2**63 - 1))
        return self._handed_out()

    @property
    def held(self) -> int:
        """Samples that wait for others."""
        return self.registry.gather.held + self.registry.awaiting

    def booked(self, ready: Iterable[Ready]) -> Iterator[Batch]:
        """Walk batches, each booked as it is handed out."""
        for one in ready:
            if one.ends:
                self.counts.added["stale"] += len(one.batch)
            else:
                self.counts.samples += len(one.batch)
            yield one.batch

    def _abandon(self) -> None:
        before = set(self.registry.newcomers)
        self.registry.abandon()
        self._forget_keys(before)

    def _forget_keys(self, gone: set[int]) -> None:
        if gone:
            for reader in self.readers.values():
                reader.forget(frozenset(gone))
            for slot in gone & self._exemplars.keys():
                del self._exemplars[slot]

    def _handed_out(self) -> list[Ready]:
        gather = self.registry.gather
        for reason in ("torn", "repeated", "folded"):
            self._book(reason, getattr(gather, reason))
            setattr(gather, reason, 0)
        if not self.registry.awaiting:
            self._natives.clear()
        ready, self._ready = self._ready, []
        return ready

    def _book(self, reason: str, samples: int) -> None:
        """Count samples that were received and do not go on."""
        if samples:
            self.counts.samples += samples
            self.counts.dropped[reason] += samples

    def _in_time(self, rows: Rows, request: Decoded, now: int) -> Rows:
        """Leave out what lies in the future."""
        early = rows.times > now + AHEAD
        if early.any():
            request.refused += int(early.sum())
            request.reasons.append(f"a sample's time lies more than {AHEAD // 10**9} s ahead; set the clocks")
            rows = rows.at(~early)
        return rows

    def _keep_extras(self, request: Decoded) -> None:
        """Keep what is rare until the samples that it belongs to go on."""
        self._natives.update(request.natives)
        for slot, exemplar in request.exemplars:
            kept = self._exemplars.setdefault(slot, [])
            kept.append(exemplar)
            del kept[:-MOST_EXEMPLARS]

    def _arrive(self, now: int, before: int | None = None) -> None:
        """Pass on what came of targets that are decided by now."""
        for rows in self.registry.arrivals(before):
            self._pass(rows, now)

    # -- samples -------------------------------------------------------------------------------------------------

    def _pass(self, rows: Rows, now: int) -> None:
        """Pass on samples of placed series, of each series in the order of time."""
        for layer in _layers(rows):
            self._pass_layer(layer, now)

    def _pass_layer(self, rows: Rows, now: int) -> None:
        """The same for samples of which each has another series."""
        columns = self.registry.columns
        fate = columns.fate[rows.slots]
        if fate.any():
            self._book("folded", int((fate == FOLDED).sum()))
            self._book("unsupported", int((fate == UNSUPPORTED).sum()))
            self._date(rows.at(fate == FOLDED))
            columns.alive[rows.slots] = True  # it has not ended, whatever becomes of its samples
            rows = rows.at(fate == POINTS)
        parts = columns.whole[columns.head[rows.slots]]
        self._send_single(rows.at(~parts))
        self._deliver(self.registry.gather.take(rows.at(parts), now))

    def _send_single(self, rows: Rows) -> None:
        """Send samples that are points by themselves."""
        columns = self.registry.columns
        repeated = rows.times <= columns.sent[rows.slots]
        self._book("repeated", int(repeated.sum()))
        rows = rows.at(~repeated)
        if len(rows):
            stale = stale_mask(rows.values)
            self._begin(rows.at(columns.cumulative[rows.slots] & ~stale), None)
            self._send(rows, stale)

    def _deliver(self, wholes: list[Rows]) -> None:
        """Send wholes; the count speaks for when the stream began."""
        columns = self.registry.columns
        for rows in wholes:
            stale = stale_mask(rows.values)
            heads = columns.head[rows.slots]
            speaks = self.registry.gather.counts(rows.slots) & ~stale
            self._begin(rows.at(speaks), heads[speaks])
            columns.sent[heads] = rows.times
            self._send(rows, stale)
            columns.start[heads[stale]] = 0

    def _begin(self, rows: Rows, heads: Slots | None) -> None:
        """Begin, continue or restart the streams of these series, or of the wholes that they speak for."""
        if not len(rows):
            return
        columns = self.registry.columns
        slots = rows.slots if heads is None else heads
        given = (rows.starts > 0) & (rows.starts <= rows.times)
        columns.start[slots[given]] = rows.starts[given]
        columns.value[slots[given]] = rows.values[given]
        if self.track_starts:
            left = ~given
            starts.track(columns, slots[left], rows.values[left], rows.times[left])

    def _send(self, rows: Rows, stale: Bools) -> None:
        columns, slots = self.registry.columns, rows.slots
        rows = Rows(slots, rows.values, rows.times, self.registry.starts_of(slots))
        columns.sent[slots] = rows.times
        columns.alive[slots] = ~stale
        together = None if self.registry.twins else Arrival()  # each series once among these rows
        for batch in self.registry.tables.batches(rows, stale, self._extras(rows)):
            batch.together = together
            self._ready.append(Ready(batch))
        columns.start[slots[stale]] = 0

    def _extras(self, rows: Rows) -> dict[int, Extra]:
        """Return what is rare on these rows, by slot."""
        if not self._natives and not self._exemplars:
            return {}
        found = {}
        for slot, time in zip(rows.slots.tolist(), (rows.times // _MS).tolist(), strict=True):
            native, exemplars = self._natives.pop((slot, time), None), self._exemplars.pop(slot, ())
            if native is not None or exemplars:
                found[slot] = Extra(native, tuple(exemplars))
        return found

    def _date(self, rows: Rows) -> None:
        """Let ``x_created`` say when the stream of x began."""
        columns, created = self.registry.columns, self.registry.created
        for slot, value in zip(rows.slots.tolist(), rows.values.tolist(), strict=True):
            dated = created.get(slot)
            if dated is not None and 0 < value < _LATEST_MS / 1000:
                columns.start[columns.head[dated]] = int(value * 1e9)


def _rows(request: Decoded) -> Rows:
    """Return the samples of a request, times in ns."""
    times, began = (np.clip(column, 0, _LATEST_MS) * _MS for column in (request.times, request.starts))
    return Rows(request.slots, request.values, times, began)


def _layers(rows: Rows) -> Iterator[Rows]:
    """Walk the samples so that each layer holds a series once; of each series in the order of time."""
    if not len(rows):
        return
    order = np.lexsort((rows.times, rows.slots))
    slots = rows.slots[order]
    first = np.concatenate(([True], slots[1:] != slots[:-1]))
    if first.all():
        yield rows
        return
    began = np.maximum.accumulate(np.where(first, np.arange(len(slots)), 0))
    depth = np.arange(len(slots)) - began
    for layer in range(int(depth.max()) + 1):
        yield rows.at(order[depth == layer])
