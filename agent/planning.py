"""What a function of series does to tables of them: worked out once a table, and remembered on it.

Strategy. The function is asked once for each series, its answers are put together once for each table. Where a table was
taken from another, so is the plan: partial tables come and go with every poll, the whole lives on. Only where rows of the
whole became equal must a part be looked at by itself, since what came first in the whole may not be in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.identity import Owner
from agent.series import Series, SeriesTable

COLLISION = "collision"
"""Why rows are dropped that became the identity of an earlier one."""

Index = npt.NDArray[np.intp]
Warn = Callable[[int, Series, Series, Series], None]
"""Told how many rows were the identity of earlier ones already, and of two of them: what they were, and what both became."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to a table: the rows that stay (None: all), under which table, and how many do not, by reason.

    ``table`` None: the same one, which remembers its plan, and must not be held by it. ``plain``: the series that stay are
    what they were.
    """

    table: SeriesTable | None
    rows: Index | None
    dropped: tuple[tuple[str, int], ...]
    plain: bool

    @property
    def collides(self) -> bool:
        """Whether rows became equal."""
        return any(reason == COLLISION for reason, _ in self.dropped)

    def of(self, table: SeriesTable) -> SeriesTable:
        """Return what becomes of the table that this is the plan of."""
        return table if self.table is None else self.table

    def row(self, row: int) -> int:
        """Return which row it was that is this one now."""
        return row if self.rows is None else int(self.rows[row])

    def but(self, table: SeriesTable, rows: Index) -> Plan:
        """Return the plan of the table by which only these of the rows stay; the others are the identity of earlier ones."""
        now = self.of(table)
        kept = rows if self.rows is None else self.rows[rows]
        # What is taken from a whole holds it, and the whole is to remember this plan.
        left = now.take(rows) if now.origin else SeriesTable(map(now.series.__getitem__, rows.tolist()))
        return Plan(left, kept, (*self.dropped, (COLLISION, len(now) - len(rows))), self.plain)


class Planner:
    """A function of series, by the ``owner`` of what it answered; rows for which that is None go for ``drop_reason``."""

    def __init__(self, owner: Owner, function: Callable[[Series], Series | None], drop_reason: str, warn: Warn):
        self._owner = owner
        self._function = function
        self._drop_reason = drop_reason
        self._warn = warn

    def make(self, table: SeriesTable) -> Plan:
        """Return what is done to a table; to be remembered on it by the owner, as the plan of a whole is."""
        if table.origin is not None:
            whole, rows = table.origin
            plan = whole.derive(self._owner, self.make)
            if not plan.collides:
                return self._part(rows, whole, plan)
        mapped = [series.derive(self._owner, self._function) for series in table.series]
        first: dict[Series, int] = {}
        for row, series in enumerate(mapped):
            if series is not None:
                first.setdefault(series, row)
        plain = all(new is None or new is old for new, old in zip(mapped, table.series, strict=True))
        if len(first) == len(mapped):
            return Plan(None if plain else SeriesTable(first), None, (), plain)
        without = sum(series is None for series in mapped)
        collided = len(mapped) - without - len(first)
        if collided:
            row, both = next((r, s) for r, s in enumerate(mapped) if s is not None and first[s] != r)
            self._warn(collided, table.series[first[both]], table.series[row], both)
        rows = np.fromiter(first.values(), np.intp, len(first))
        return Plan(SeriesTable(first), rows, self._dropped(without, collided), plain)

    def _part(self, rows: Index, whole: SeriesTable, plan: Plan) -> Plan:
        """Take the plan of some ``rows`` from that of the whole, in which no rows become equal."""
        if plan.table is None:
            return plan
        if plan.rows is None:
            return Plan(plan.table.take(rows), None, (), plan.plain)
        now = np.full(len(whole), -1, np.intp)
        now[plan.rows] = np.arange(len(plan.rows))
        kept = np.flatnonzero(now[rows] >= 0)
        if len(kept) == len(rows):
            return Plan(None if plan.plain else plan.table.take(now[rows]), None, (), plan.plain)
        return Plan(plan.table.take(now[rows[kept]]), kept, self._dropped(len(rows) - len(kept), 0), plan.plain)

    def _dropped(self, without: int, collided: int) -> tuple[tuple[str, int], ...]:
        return tuple((reason, n) for reason, n in ((self._drop_reason, without), (COLLISION, collided)) if n)
