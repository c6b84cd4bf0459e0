"""Expressions of PromQL that are evaluated at each poll, as series of their own.

What an expression gives has lost the names and the types of what went in, so both are the operator's to say; only histograms
say themselves what they are. A series that the answer does not hold any more ends, as the series of a recording rule does.

Strategy. Who a series is, its labels, has a slot; what it is, a number or one of the two kinds of native histograms, makes it
one of three *streams*: ``3 * slot + kind``. A stream that the last answer had and this one has not is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, StringConstraints

from ebbtide import (
    STALE_NAN,
    Batch,
    Extra,
    Family,
    Floats,
    Ints,
    ReceiveError,
    ReceiverCounts,
    Series,
    SeriesTable,
    Settings,
    flatten,
    option,
)
from receivers.matrix import LATEST_MS, Answer, Metrics, Slots
from receivers.query_native import CUSTOM_END, Histograms

_MS = 10**6  # ns
_NUMBER, _EXPONENTIAL, _CUSTOM = range(3)
_KINDS = 3

Extras = Mapping[tuple[int, int], Extra]
"""Native histograms by stream and time in ms."""


class Expression(Settings):
    """One expression."""

    name: Annotated[str, Field(min_length=1, max_length=255)] = option(..., "Name of the series that it gives.")
    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = option(
        ..., "PromQL; evaluated at the time of the poll."
    )
    type: Literal["gauge", "counter", "unknown"] = option(
        "gauge", "What the series are; histograms are that by themselves."
    )


class Evaluation:
    """What is remembered of one expression."""

    def __init__(self, expression: Expression, counts: ReceiverCounts):
        self.expression = expression
        self.metrics = Metrics(self._learn)
        self.fractional = False
        """Whether its histograms have shown counts that are no whole numbers: then none of them can go on."""
        self._numbers = Family(expression.name, expression.type, typed_by="operator")
        self._natives = Family(expression.name, "histogram", typed_by="operator")
        self._counts = counts
        self._histograms = Histograms()
        self._slot_of: dict[tuple[str, ...], int] = {}
        self._labels: list[tuple[str, ...]] = []  # by slot
        self._free: list[int] = []
        self._shown: set[int] = set()  # the slots that the last answer held
        self._series: dict[int, Series] = {}  # by stream
        self._last: dict[int, int] = {}  # by stream of what the last answer held: the newest time that went out, ms
        self._held: SeriesTable | None = None

    def take(self, answer: Answer, now: int) -> Iterator[Batch]:
        """Return the batches of an answer at ``now`` (ms). Raises ReceiveError for one that is no numbers."""
        if answer.result_type in ("scalar", "string"):
            answer = self._as_vector(answer)
        elif answer.result_type not in ("vector", "matrix"):
            raise ReceiveError(
                f"cannot use the answer to query {self.expression.name}: a {answer.result_type[:40]!r} is no series"
            )
        return self._batches(answer, now)

    def forget_newcomers(self) -> None:
        """An answer broke off: forget the series that only it has shown."""
        self.metrics.forget()
        self._forget([slot for slot in self._slot_of.values() if slot not in self._shown])

    def _as_vector(self, answer: Answer) -> Answer:
        """A scalar is one series without labels."""
        try:
            if answer.result_type == "string" or answer.scalar is None:
                raise ValueError
            time, value = round(answer.scalar[0] * 1000), float(answer.scalar[1])
        except (ValueError, OverflowError):
            raise ReceiveError(
                f"cannot use the answer to query {self.expression.name}: a string is no number; correct the query"
            ) from None
        slot = np.array([self._learn({})], np.int32)
        return Answer(slots=slot, times=np.array([min(max(time, 0), LATEST_MS)], np.int64), values=np.array([value]))

    def _batches(self, answer: Answer, now: int) -> Iterator[Batch]:
        self._shown = {*answer.slots.tolist(), *(slot for slot, _, _ in answer.natives)}
        streams, times, values, extras = self._with_histograms(answer)
        rows = np.lexsort((times, streams))
        streams, times, values = streams[rows], times[rows], values[rows]
        first = np.append(True, streams[1:] != streams[:-1])[: len(streams)]
        double = ~first & (times == np.roll(times, 1))  # they differed by a name that the expression has replaced
        new = ~double & (times > np.array([self._last.get(stream, -1) for stream in streams.tolist()], np.int64))
        self._counts.samples += len(streams)
        self._counts.dropped["duplicate"] += int(double.sum())
        self._counts.dropped["repeated"] += int((~new & ~double).sum())
        present = dict(zip(streams.tolist(), times.tolist(), strict=True))
        gone = {stream: time for stream, time in self._last.items() if stream not in present}
        self._last = {stream: max(time, self._last.get(stream, -1)) for stream, time in present.items()}
        places = np.flatnonzero(new)
        yield from self._by_time(streams[places], values[places], times[places], extras)
        if gone:
            self._counts.added["stale"] += len(gone)
            yield self._ends(gone, now)
        self._forget([slot for slot in self._slot_of.values() if slot not in self._shown])

    def _with_histograms(self, answer: Answer) -> tuple[Slots, Ints, Floats, Extras]:
        """Return streams, times in ms and values of all that can go on, a histogram's value being its count."""
        streams, times, counts = [], [], []
        extras: dict[tuple[int, int], Extra] = {}
        for slot, time, written in sorted(answer.natives, key=lambda native: native[:2]):
            reading = self._histograms.read(slot, written)
            if reading is not None:
                stream = _KINDS * slot + (_CUSTOM if reading.native.is_custom else _EXPONENTIAL)
                streams.append(stream)
                times.append(time)
                counts.append(reading.native.count)
                extras[stream, time] = Extra(reading.native)
        self.fractional = self.fractional or bool(self._histograms.fractional)
        if self.fractional:
            streams, times, counts = [], [], []
        lost = len(answer.natives) - len(streams)
        self._counts.samples += lost
        self._counts.dropped["unsupported"] += lost
        return (
            np.append(_KINDS * answer.slots, np.array(streams, np.int32)),
            np.append(answer.times, np.array(times, np.int64)),
            np.append(answer.values, np.array(counts, np.float64)),
            extras,
        )

    def _by_time(self, streams: Slots, values: Floats, times: Ints, extras: Extras) -> Iterator[Batch]:
        """One point of each series at a time, the oldest first. The rows are sorted by stream and time."""
        first = np.append(True, streams[1:] != streams[:-1])[: len(streams)]
        place = np.arange(len(streams))
        number = place - np.maximum.accumulate(np.where(first, place, 0))
        for turn in range(int(number.max(initial=-1)) + 1):
            rows = np.flatnonzero(number == turn)
            keys = enumerate(zip(streams[rows].tolist(), times[rows].tolist(), strict=True))
            hanging = {row: extras[key] for row, key in keys if key in extras} if extras else {}
            yield Batch(self._table(streams[rows].tolist()), values[rows], times[rows] * _MS, extras=hanging)

    def _ends(self, gone: Mapping[int, int], now: int) -> Batch:
        """End these streams (the newest time of each, ms)."""
        streams = sorted(gone)
        times = np.array([max(now, gone[stream] + 1) for stream in streams], np.int64) * _MS
        custom = {row: CUSTOM_END for row, stream in enumerate(streams) if stream % _KINDS == _CUSTOM}
        ended = np.ones(len(streams), np.bool_)
        return Batch(self._table(streams), np.full(len(streams), STALE_NAN), times, stale=ended, extras=custom)

    def _table(self, streams: list[int]) -> SeriesTable:
        """The same table where the same series come again, so that what follows from it is worked out once."""
        series = [self._series_of(stream) for stream in streams]
        if self._held is None or list(self._held) != series:
            self._held = SeriesTable(series)
        return self._held

    def _series_of(self, stream: int) -> Series:
        series = self._series.get(stream)
        if series is None:
            family = self._numbers if stream % _KINDS == _NUMBER else self._natives
            series = Series.flat_of(self.expression.name, self._labels[stream // _KINDS], family)
            self._series[stream] = series
        return series

    def _learn(self, labels: Mapping[str, str]) -> int:
        flat = flatten({name: value for name, value in labels.items() if name != "__name__"})
        slot = self._slot_of.get(flat)
        if slot is None:
            slot = self._slot_of[flat] = self._free.pop() if self._free else len(self._labels)
            self._labels[slot : slot + 1] = [flat]
        return slot

    def _forget(self, slots: list[int]) -> None:
        for slot in slots:
            del self._slot_of[self._labels[slot]]
            self._histograms.forget(slot)
            for kind in range(_KINDS):
                self._series.pop(_KINDS * slot + kind, None)
        self._free += slots
