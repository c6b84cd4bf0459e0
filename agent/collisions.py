"""Rows that become one identity in different batches of those that came together: the first stays.

Strategy. Within a table its plan sees to it. Across tables, every table that a processor returns *claims* its series; one
that a second table claims is *shared*, and has a number. Most tables have no shared series, and then a batch costs a
look-up. Where there are some, their numbers are marked in a mask of what has passed since the page began, in one
vectorised step, and rows whose number was marked before go. What is left of a table then is mostly what was left at the
last poll, so a few such plans are remembered. A claim ends with its table; what has passed is remembered with the page
(``Arrival``), so that pages of several receivers do not mix. Until a processor renames something nobody claims anything:
batches that came together have no series in common.
"""

from __future__ import annotations

import weakref

import numpy as np

from agent.batch import Arrival, Bools
from agent.planning import Index, Plan, Warn
from agent.series import Series, SeriesTable

PLANS = 3
"""So many plans for what is left of one table are remembered: who is first may change from poll to poll, and back."""

_NOTHING: Index = np.empty(0, np.intp)


class _Claim:
    """The series of a table. ``version``: when one of them last became shared; 0: never."""

    __slots__ = ("series", "version")

    def __init__(self, series: tuple[Series, ...]):
        self.series = series
        self.version = 0


class _Shared:
    """The rows of a table, or a part of one, that hold shared series, and their numbers, as of a ``version``.

    ``plans``: what is left of it, by which of those rows go, as bytes. As long as the table lives they only become more.
    """

    __slots__ = ("claim", "numbers", "plans", "rows", "version")

    def __init__(self, claim: _Claim):
        self.claim = claim
        self.version = 0
        self.rows = self.numbers = _NOTHING
        self.plans: dict[bytes, Plan] = {}


class _Passed:
    """What has passed of a page: its tables with their plans, and which numbers they hold, as of a ``version``."""

    __slots__ = ("marks", "tables", "version")

    def __init__(self, _: Arrival):
        self.tables: list[tuple[SeriesTable, Plan]] = []
        self.marks: Bools = np.zeros(0, np.bool_)
        self.version = 0


class Collisions:
    """Of one processor: which identities it has returned, and in which tables."""

    __slots__ = ("__weakref__", "_claimants", "_claims", "_free", "_gone", "_of", "_renames", "_version")

    def __init__(self) -> None:
        self._of: dict[Series, _Claim | int] = {}  # its only claim, or its number
        self._claimants: list[int] = []  # by number: how many tables claim it
        self._free: list[int] = []  # numbers
        self._claims: dict[weakref.ref[SeriesTable], _Claim] = {}
        self._gone: list[weakref.ref[SeriesTable]] = []
        self._renames = False
        self._version = 0

    def first(self, arrival: Arrival, table: SeriesTable, plan: Plan, warn: Warn) -> Plan:
        """Return the plan by which of the rows of ``table`` only those stay that are the first of their identity.

        ``plan`` is that of the table by itself; of those that came together each is told once, in their order.
        """
        while self._gone:
            self._release(self._claims.pop(self._gone.pop()))
        passed = arrival.derive(self, _Passed)
        if not plan.plain and not self._renames:
            self._renames = True
            self._version += 1
        left = self._left(table, plan, passed, warn) if self._renames else plan
        passed.tables.append((table, plan))
        return left

    def _left(self, table: SeriesTable, plan: Plan, passed: _Passed, warn: Warn) -> Plan:
        """Mark what passes, and return the plan by which rows go that were marked already."""
        now = plan.of(table)
        shared = self._shared(now)
        if passed.version != self._version:
            self._catch_up(passed)
            shared = self._shared(now)
        if not len(shared.rows):
            return plan
        late = passed.marks[shared.numbers]
        passed.marks[shared.numbers] = True
        key = late.tobytes()
        if b"\1" not in key:
            return plan
        left = shared.plans.get(key)
        if left is None:
            if len(shared.plans) == PLANS:
                del shared.plans[next(iter(shared.plans))]
            gone = shared.rows[late]
            left = shared.plans[key] = plan.but(table, np.delete(np.arange(len(now)), gone))
            both = now.series[gone[0]]
            warn(len(gone), self._first_of(both, passed), table.series[plan.row(gone[0])], both)
        return left

    def _first_of(self, series: Series, passed: _Passed) -> Series:
        """Return what that series was which became this one first."""
        number = self._number(series)
        for table, plan in passed.tables:
            shared = self._shared(plan.of(table))
            rows = shared.rows[shared.numbers == number]
            if len(rows):
                return table.series[plan.row(int(rows[0]))]
        return series

    def _catch_up(self, passed: _Passed) -> None:
        """Mark what has passed already, and is claimed or shared only since then."""
        tables = [plan.of(table) for table, plan in passed.tables]
        for table in tables:
            self._shared(table)
        marks = np.zeros(len(self._claimants), np.bool_)
        marks[: len(passed.marks)] = passed.marks
        for table in tables:
            shared = self._shared(table)
            if shared.version > passed.version:
                marks[shared.numbers] = True
        passed.marks, passed.version = marks, self._version

    # -- claims -----------------------------------------------------------------------------------------------------

    def _shared(self, table: SeriesTable) -> _Shared:
        """Return the shared rows of a table; if it has not done so, it claims its series."""
        shared = table.derive(self, self._claimed)
        if shared.version != shared.claim.version:
            numbers = np.array([self._number(series) for series in table.series], np.intp)
            shared.rows = np.flatnonzero(numbers >= 0)
            shared.numbers = numbers[shared.rows]
            shared.version = shared.claim.version
        return shared

    def _number(self, series: Series) -> int:
        """Return the number of a series, below 0 where it is not shared."""
        claim = self._of[series]
        return claim if isinstance(claim, int) else -1

    def _claimed(self, table: SeriesTable) -> _Shared:
        if table.origin is not None:  # a part of a table: the whole claims for it
            return _Shared(table.origin[0].derive(self, self._claimed).claim)
        claim, of = _Claim(table.series), self._of
        others = [(series, other) for series in table.series if (other := of.setdefault(series, claim)) is not claim]
        if others:
            self._version += 1
            claim.version = self._version
        for series, other in others:
            self._share(series, other)
        self._claims[weakref.ref(table, self._gone.append)] = claim
        return _Shared(claim)

    def _share(self, series: Series, other: _Claim | int) -> None:
        """Let one more table claim a series."""
        if isinstance(other, int):
            self._claimants[other] += 1
            return
        other.version = self._version
        if self._free:
            number = self._free.pop()
        else:
            number = len(self._claimants)
            self._claimants.append(0)
        self._of[series] = number
        self._claimants[number] = 2

    def _release(self, claim: _Claim) -> None:
        """The table is gone. A number that no table needs is free again: what has passed holds its tables."""
        for series in claim.series:
            number = self._of[series]
            if isinstance(number, int):
                self._claimants[number] -= 1
                if self._claimants[number]:
                    continue
                self._free.append(number)
            del self._of[series]
