"""What flows: a table of series and, for each of its rows, exactly one point as columns of numbers."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agent.identity import Derivable
from agent.native import Extra
from agent.series import Series, SeriesTable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Prometheus' stale marker: a NaN with these bits, so that it differs from an ordinary NaN (prometheus/model/value).
STALE_BITS = 0x7FF0000000000002
STALE_NAN: float = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]


def stale_mask(values: Floats) -> Bools:
    """Tell which values carry the stale marker's bits. Taken once, at parse time: arithmetic loses the bits."""
    return np.asarray(values.view(np.uint64) == STALE_BITS)


@dataclass(frozen=True, slots=True)
class Row:
    """One point, for casual readers: identity and numbers of one row of a batch.

    ``extra`` is its native histogram, whose count is the value, or its exemplars.
    """

    series: Series
    value: float
    time: int
    start: int
    stale: bool
    extra: Extra | None = None

    def keeping(self, extra: Extra | None) -> Row:
        """Return the row with this extra, where it has none of its own."""
        return self if extra is None or self.extra is not None else replace(self, extra=extra)


class Arrival(Derivable):
    """What batches have in common that came together, such as those of one page; it remembers what was found out of them."""

    __slots__ = ()

    def __init__(self) -> None:
        self._derived = ()


class Batch(Derivable):
    """One point per row of ``table``; read-only.

    ``values`` float64 · ``times`` int64 ns since the epoch · ``starts`` int64 ns, 0 = unknown · ``stale`` bool or
    None when no row is: such a row ends its stream (NoRecordedValue) and its value has no meaning · ``extras``
    row -> what is rare and has no column (a native histogram, exemplars) · ``together``: the same one on batches that came
    together, such as those of one page, no two of which have a series in common; None where nothing is known.
    """

    __slots__ = ("extras", "stale", "starts", "table", "times", "together", "values")

    def __init__(
        self,
        table: SeriesTable,
        values: Floats,
        times: Ints,
        starts: Ints | None = None,
        stale: Bools | None = None,
        extras: Mapping[int, Extra] | None = None,
        together: Arrival | None = None,
    ):
        rows = len(table)
        self.table = table
        self.values = values
        self.times = times
        self.starts = np.zeros(rows, np.int64) if starts is None else starts
        self.stale = stale if stale is not None and stale.any() else None
        self.extras = extras or None
        self.together = together
        self._derived = ()
        if not len(values) == len(times) == len(self.starts) == rows or (stale is not None and len(stale) != rows):
            raise ValueError(
                f"cannot make a batch of {rows} rows from columns of {len(values)} values, {len(times)} times"
            )

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Batch:
        """Build a batch from single rows (tests and casual code; not for hot paths)."""
        rows = list(rows)
        return cls(
            SeriesTable(row.series for row in rows),
            np.array([row.value for row in rows], np.float64),
            np.array([row.time for row in rows], np.int64),
            np.array([row.start for row in rows], np.int64),
            np.array([row.stale for row in rows], np.bool_),
            {number: row.extra for number, row in enumerate(rows) if row.extra is not None},
        )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def native_rows(self) -> list[int]:
        """The rows that are native histograms, of which the value is not all."""
        return [row for row, extra in (self.extras or {}).items() if extra.native is not None]

    def rows(self) -> Iterator[Row]:
        """Walk the points one by one."""
        stale = [False] * len(self) if self.stale is None else self.stale.tolist()
        extras = self.extras or {}
        columns = zip(self.table, self.values.tolist(), self.times.tolist(), self.starts.tolist(), stale, strict=True)
        for number, (series, value, time, start, gone) in enumerate(columns):
            yield Row(series, value, time, start, gone, extras.get(number))

    def take(self, rows: npt.NDArray[np.intp] | Sequence[int], table: SeriesTable | None = None) -> Batch:
        """Return the batch of these rows, in this order; ``table`` where the caller has it remembered already."""
        index = np.asarray(rows, np.intp)
        return Batch(
            self.table.take(index) if table is None else table,
            self.values[index],
            self.times[index],
            self.starts[index],
            None if self.stale is None else self.stale[index],
            None if self.extras is None else _taken(self.extras, index),
            self.together,
        )

    def but(self, *, table: SeriesTable | None = None, values: Floats | None = None) -> Batch:
        """Return the same points under another table of as many rows, or with other values."""
        return Batch(
            self.table if table is None else table,
            self.values if values is None else values,
            self.times,
            self.starts,
            self.stale,
            self.extras,
            self.together,
        )

    @staticmethod
    def concat(batches: Sequence[Batch]) -> Batch:
        """Put batches one after the other."""
        if len(batches) == 1:
            return batches[0]
        extras: dict[int, Extra] = {}
        offset = 0
        for batch in batches:
            extras.update({offset + row: extra for row, extra in (batch.extras or {}).items()})
            offset += len(batch)
        stale = [np.zeros(len(b), np.bool_) if b.stale is None else b.stale for b in batches]
        return Batch(
            SeriesTable(series for batch in batches for series in batch.table),
            np.concatenate([b.values for b in batches]),
            np.concatenate([b.times for b in batches]),
            np.concatenate([b.starts for b in batches]),
            np.concatenate(stale),
            extras,
        )


def _taken(extras: Mapping[int, Extra], index: npt.NDArray[np.intp]) -> dict[int, Extra]:
    """Extras by the places of their rows in ``index``."""
    places = np.flatnonzero(np.isin(index, np.fromiter(extras, np.intp, len(extras))))
    return {place: extras[row] for place, row in zip(places.tolist(), index[places].tolist(), strict=True)}
