"""Expressions of PromQL that are evaluated at each poll, as series of their own.

What an expression gives has lost the names and the types of what went in, so both are the operator's to say. A series that the
answer does not hold any more ends, as the series of a recording rule does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ebbtide import (
    STALE_NAN,
    Batch,
    Family,
    Floats,
    Ints,
    ReceiveError,
    ReceiverCounts,
    Series,
    SeriesTable,
    Settings,
    option,
)
from receivers.matrix import Answer, Metrics, Slots

_MS = 10**6  # ns


class Expression(Settings):
    """One expression."""

    name: Annotated[str, Field(min_length=1, max_length=255)] = option(..., "Name of the series that it gives.")
    query: Annotated[str, Field(min_length=1)] = option(..., "PromQL; evaluated at the time of the poll.")
    type: Literal["gauge", "counter", "unknown"] = option("gauge", "What the series are.")


class Evaluation:
    """What is remembered of one expression."""

    def __init__(self, expression: Expression, counts: ReceiverCounts):
        self.expression = expression
        self.metrics = Metrics(self._learn)
        self._family = Family(expression.name, expression.type, typed_by="operator")
        self._counts = counts
        self._series: list[Series] = []
        self._slot_of: dict[Series, int] = {}
        self._free: list[int] = []
        self._held: SeriesTable | None = None
        self._last: dict[int, int] = {}  # by slot of what the last answer held: the newest time that went out, ms

    def take(self, answer: Answer, now: int) -> Iterator[Batch]:
        """Return the batches of an answer at the wall time ``now`` (ns). Raises ReceiveError for one that is no numbers."""
        if answer.result_type in ("scalar", "string"):
            answer = self._as_vector(answer)
        elif answer.result_type not in ("vector", "matrix"):
            raise ReceiveError(
                f"cannot use the answer to query {self.expression.name}: a {answer.result_type[:40]!r} is no series"
            )
        if answer.natives:
            self._counts.samples += len(answer.natives)
            self._counts.dropped["unsupported"] += len(answer.natives)
        return self._batches(answer, now)

    def forget_newcomers(self) -> None:
        """An answer broke off: forget the series that only it has shown."""
        self.metrics.forget()
        self._forget([slot for slot in self._slot_of.values() if slot not in self._last])

    def _as_vector(self, answer: Answer) -> Answer:
        """A scalar is one series without labels."""
        try:
            if answer.result_type == "string" or answer.scalar is None:
                raise ValueError
            time, value = answer.scalar[0], float(answer.scalar[1])
        except ValueError:
            raise ReceiveError(
                f"cannot use the answer to query {self.expression.name}: a string is no number; correct the query"
            ) from None
        slot = np.array([self._learn({})], np.int32)
        return Answer(slots=slot, times=np.array([round(time * 1000)], np.int64), values=np.array([value]))

    def _batches(self, answer: Answer, now: int) -> Iterator[Batch]:
        rows = np.lexsort((answer.times, answer.slots))
        slots, times, values = answer.slots[rows], answer.times[rows], answer.values[rows]
        first = np.append(True, slots[1:] != slots[:-1])[: len(slots)]
        double = ~first & (times == np.roll(times, 1))  # they differed by a name that the expression has replaced
        new = ~double & (times > np.array([self._last.get(slot, -1) for slot in slots.tolist()], np.int64))
        self._counts.samples += len(slots)
        self._counts.dropped["duplicate"] += int(double.sum())
        self._counts.dropped["repeated"] += int((~new & ~double).sum())
        natives = {slot: time for slot, time, _ in answer.natives}
        present = natives | dict(zip(slots.tolist(), times.tolist(), strict=True))
        gone = sorted(self._last.keys() - present.keys())
        self._last = {slot: max(time, self._last.get(slot, -1)) for slot, time in present.items()}
        places = np.flatnonzero(new)
        yield from self._by_time(slots[places], values[places], times[places] * _MS)
        if gone:
            self._counts.added["stale"] += len(gone)
            yield self._batch(gone, np.full(len(gone), STALE_NAN), np.full(len(gone), now, np.int64), ends=True)
            self._forget(gone)

    def _by_time(self, slots: Slots, values: Floats, times: Ints) -> Iterator[Batch]:
        """One point of each series at a time, the oldest first. The rows are sorted by slot and time."""
        first = np.append(True, slots[1:] != slots[:-1])[: len(slots)]
        place = np.arange(len(slots))
        number = place - np.maximum.accumulate(np.where(first, place, 0))
        for turn in range(int(number.max(initial=-1)) + 1):
            rows = np.flatnonzero(number == turn)
            yield self._batch(slots[rows].tolist(), values[rows], times[rows])

    def _forget(self, slots: list[int]) -> None:
        for slot in slots:
            del self._slot_of[self._series[slot]]
        self._free += slots

    def _batch(self, slots: list[int], values: Floats, times: Ints, *, ends: bool = False) -> Batch:
        table = self._table(tuple(slots))
        return Batch(table, values, times, stale=np.ones(len(slots), np.bool_) if ends else None)

    def _table(self, slots: tuple[int, ...]) -> SeriesTable:
        """The same table where the same series come again, so that what follows from it is worked out once."""
        series = [self._series[slot] for slot in slots]
        if self._held is None or list(self._held) != series:
            self._held = SeriesTable(series)
        return self._held

    def _learn(self, labels: dict[str, str]) -> int:
        others = {name: value for name, value in labels.items() if name != "__name__"}
        series = Series.of(self.expression.name, others, self._family)
        slot = self._slot_of.get(series)
        if slot is None:
            slot = self._slot_of[series] = self._free.pop() if self._free else len(self._series)
            self._series[slot : slot + 1] = [series]
        return slot
