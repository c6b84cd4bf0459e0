"""Which series go out together: tables of those that were born together.

Strategy. A table is immutable, and what exporters and processors have worked out hangs on it; so the aim is that tables
live long. Series that are born at one poll lie in one table (targets together, histograms whole, some thousand rows at
most), because what is born together mostly dies together: a new pod makes a new table and disturbs no other. Small
tables are merged when there are many of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ebbtide import Batch, Bools, Extra, Floats, Ints, Series, SeriesTable
from receivers.memory import Columns, Slots

ROWS = 4096  # of a table: large enough to amortise a batch, small enough that a death disturbs little
SMALL = ROWS // 4
WORTH_KEEPING = 0.75  # share of a table's rows that must live on for what was worked out about it to be kept
SMALL_TABLES = 16  # so many small tables are let be, unless told otherwise, before they are merged
PARTS = 3  # so many partial tables are remembered of a table: who is late, or away, is so again and again

Index = npt.NDArray[np.intp]


@dataclass(slots=True)
class _Held:
    """A table and its slots; the last partial tables are remembered, because they often come again."""

    slots: Slots
    table: SeriesTable
    parts: dict[bytes, SeriesTable] = field(default_factory=dict)  # by rows

    def subset(self, rows: Index) -> SeriesTable:
        key = rows.tobytes()
        part = self.parts.get(key)
        if part is None:
            if len(self.parts) == PARTS:
                del self.parts[next(iter(self.parts))]
            part = self.parts[key] = self.table.take(rows)
        return part


class Tables:
    """The tables of one receiver, or of a part of it. ``series`` is its list of series by slot.

    So many small tables as ``small`` may there be before they are merged.
    """

    def __init__(self, columns: Columns, series: list[Series | None], small: int = SMALL_TABLES):
        self._small = small
        self._columns = columns
        self._series = series
        self._held: dict[int, _Held] = {}
        self._made = 0

    def hold(self, slots: Iterable[int]) -> None:
        """Put slots into new tables."""
        chunk: list[int] = []
        for group in self._groups(slots):
            if chunk and len(chunk) + len(group) > ROWS:
                self._add(chunk)
                chunk = []
            chunk += group
        if chunk:
            self._add(chunk)
        small = [number for number, held in self._held.items() if len(held.slots) < SMALL]
        if len(small) > self._small:
            self.hold([slot for number in small for slot in self._held.pop(number).slots.tolist()])

    def withdraw(self, slots: Iterable[int]) -> None:
        """Take slots out of their tables."""
        index = np.fromiter(slots, np.intp)
        numbers = set(self._columns.table[index].tolist()) - {-1}
        self._columns.table[index] = -1
        for number in numbers:
            self._shrink(number)

    def batches(self, out: Bools, values: Floats, times: Ints, starts: Ints) -> Iterator[Batch]:
        """Walk the batches of the slots marked in ``out``; all columns by slot."""
        return (batch for _, batch in self.portions(out, values, times, starts))

    def portions(
        self,
        out: Bools,
        values: Floats,
        times: Ints,
        starts: Ints,
        stale: Bools | None = None,
        extras: Mapping[int, Extra] | None = None,
    ) -> Iterator[tuple[Slots, Batch]]:
        """Walk the same, each with its slots; ``stale`` (whose streams end) and ``extras`` by slot, too."""
        for held in list(self._held.values()):
            mask = out[held.slots]
            if mask.all():
                table, slots = held.table, held.slots
            elif mask.any():
                rows = np.flatnonzero(mask)
                table, slots = held.subset(rows), held.slots[rows]
            else:
                continue
            columns = values[slots], times[slots], starts[slots], None if stale is None else stale[slots]
            yield slots, Batch(table, *columns, _by_row(extras, slots) if extras else None)

    def _groups(self, slots: Iterable[int]) -> Iterator[list[int]]:
        """Walk the slots target by target, and a large target's histogram by histogram."""
        by_target: dict[int, list[int]] = defaultdict(list)
        for slot in slots:
            by_target[int(self._columns.target[slot])].append(slot)
        for members in by_target.values():
            if len(members) <= ROWS:
                yield members
                continue
            wholes: dict[int, list[int]] = defaultdict(list)
            for slot, head in zip(members, self._columns.head[members].tolist(), strict=True):
                wholes[head].append(slot)
            yield from wholes.values()

    def _add(self, slots: list[int]) -> None:
        self._made += 1
        self._columns.table[slots] = self._made
        self._held[self._made] = _Held(np.array(slots, np.int32), self._table(slots))

    def _shrink(self, number: int) -> None:
        held = self._held.pop(number)
        rows = np.flatnonzero(self._columns.table[held.slots] == number)
        if not len(rows):
            return
        slots = held.slots[rows]
        born = len(held.table.origin[0] if held.table.origin else held.table)
        if len(rows) > WORTH_KEEPING * born:
            self._held[number] = _Held(slots, held.table.take(rows))
        else:
            self._held[number] = _Held(slots, self._table(slots.tolist()))

    def _table(self, slots: list[int]) -> SeriesTable:
        series = map(self._series.__getitem__, slots)
        return SeriesTable(one for one in series if one is not None)


def _by_row(extras: Mapping[int, Extra], slots: Slots) -> dict[int, Extra]:
    return {row: extras[slot] for row, slot in enumerate(slots.tolist()) if slot in extras}
