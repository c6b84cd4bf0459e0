"""Which series go out together: tables of those of one target that first came in one request.

Strategy. Prometheus sends a series always through the same shard, and a scrape's series in the same order; so what first
came together mostly comes together again, but for the ends of requests. Rows are gathered by table; a table of which only
some rows came lends them to a smaller one, and the last few of these are kept, since they often come again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ebbtide import Batch, Bools, Extra, Ints, Series, SeriesTable
from receivers.memory import Columns, Slots
from receivers.remote_write_gather import Index, Rows

ROWS = 4096  # of a table, at most
KEPT_PARTS = 8  # parts of one table that are kept
WORTH_KEEPING = 0.75  # share of a table's rows that must live on for it to be kept as it is


@dataclass(slots=True)
class _Held:
    slots: Slots
    table: SeriesTable
    parts: OrderedDict[bytes, SeriesTable] = field(default_factory=OrderedDict)
    alive: int = 0

    def part(self, rows: Index) -> SeriesTable:
        """Return the table of these rows."""
        if len(rows) == len(self.table) and (rows == np.arange(len(rows))).all():
            return self.table
        key = rows.tobytes()
        part = self.parts.get(key)
        if part is None:
            part = self.parts[key] = self.table.take(rows)
            if len(self.parts) > KEPT_PARTS:
                self.parts.popitem(last=False)
        else:
            self.parts.move_to_end(key)
        return part


class RequestTables:
    """The tables of one receiver. ``series`` is its list of series by slot; ``row`` the column of their rows."""

    def __init__(self, columns: Columns, series: list[Series | None]):
        self._columns = columns
        self._series = series
        self._held: dict[int, _Held] = {}
        self._made = 0
        self._row: Ints = np.empty(0, np.int64)

    def hold(self, groups: Iterable[list[int]]) -> None:
        """Put slots into new tables; a group stays in one table."""
        chunk: list[int] = []
        for group in groups:
            if chunk and len(chunk) + len(group) > ROWS:
                self._add(chunk)
                chunk = []
            chunk.extend(group)
        if chunk:
            self._add(chunk)

    def withdraw(self, slots: list[int]) -> None:
        """Take slots out of their tables."""
        index = np.array(slots, np.intp)
        numbers = self._columns.table[index]
        self._columns.table[index] = -1
        for number, gone in zip(*np.unique(numbers[numbers >= 0], return_counts=True), strict=True):
            held = self._held[int(number)]
            held.alive -= int(gone)
            if held.alive < WORTH_KEEPING * len(held.slots):
                del self._held[int(number)]
                left = held.slots[self._columns.table[held.slots] == number]
                if len(left):
                    self._add(left.tolist())

    def batches(self, rows: Rows, stale: Bools, extras: Mapping[int, Extra]) -> Iterator[Batch]:
        """Walk the batches of these rows, each slot once among them; ``stale`` by row, ``extras`` by slot."""
        slots = rows.slots
        if not len(slots):
            return
        tables, places = self._columns.table[slots], self._row[slots]
        order = np.lexsort((places, tables))
        tables, places = tables[order], places[order]
        edges = np.flatnonzero(np.diff(tables)) + 1
        for first, last in zip((0, *edges.tolist()), (*edges.tolist(), len(order)), strict=True):
            held, picked = self._held[int(tables[first])], order[first:last]
            more = {row: extras[slot] for row, slot in enumerate(slots[picked].tolist()) if slot in extras} if extras else None  # fmt: skip
            yield Batch(
                held.part(places[first:last]),
                rows.values[picked], rows.times[picked], rows.starts[picked], stale[picked], more,
            )  # fmt: skip

    def _add(self, slots: list[int]) -> None:
        self._made += 1
        index = np.array(slots, np.int32)
        if len(self._row) < self._columns.size:
            self._row = np.concatenate((self._row, np.zeros(self._columns.size - len(self._row), np.int64)))
        self._columns.table[index] = self._made
        self._row[index] = np.arange(len(index))
        table = SeriesTable(one for slot in slots if (one := self._series[slot]) is not None)
        self._held[self._made] = _Held(index, table, alive=len(index))
