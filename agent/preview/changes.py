"""What one processor did: how many rows it changed, dropped and added, and one example of each way of doing so. Sans-IO.

Strategy. Rows are of one *way* where they lost, gained and changed the same names; the values do not matter. Since most
rows share their labels, a way is worked out once per pair of label sets, so that a large page costs a look-up per row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from agent.batch import Batch, Row
from agent.ledger import ProcessorCounts
from agent.plugin import Processor, SeriesProcessor
from agent.preview.trace import ADDED, Index, origins
from agent.series import Series

MAX_WAYS = 10_000  # ways of one processor that are told apart; rows of further ones are counted, and not shown

Outcome = Literal["changed", "dropped", "added"]


@dataclass(slots=True)
class Pair:
    """``rows`` that went the same way, and the first of them: before, None where it was added, and after, None where dropped."""

    outcome: Outcome
    reason: str
    rows: int
    before: Row | None
    after: Row | None


class Changes:
    """The work of one processor, batch by batch."""

    def __init__(self, processor: Processor[Any], counts: ProcessorCounts):
        self.changed = 0
        self._processor = processor
        self._counts = counts
        self._explained = counts.dropped.copy()
        self._ways: dict[Hashable, Pair] = {}
        self._way_of: dict[Hashable, Hashable] = {}

    def note(self, before: Batch | None, after: Batch | None) -> Index:
        """Take note of a batch that passed; return where its rows came from, by row of ``after``, or ``ADDED``.

        ``before`` None: what was held back came out.
        """
        if before is None or after is None:
            rows = np.full(0 if after is None else len(after), ADDED, np.intp)
        else:
            rows = origins(self._processor, before, after)
        reasons = {reason for reason, count in (self._counts.dropped - self._explained).items() if count}
        self._explained = self._counts.dropped.copy()
        if before is not None:
            self._note_dropped(before, np.setdiff1d(np.arange(len(before)), rows), reasons)
        if after is not None:
            self._note_passed(before, after, rows)
        return rows

    def pairs(self, most: int) -> list[Pair]:
        """Return at most so many examples: of each outcome and reason in turn, those that stand for most rows first."""
        kinds: dict[tuple[str, str], list[Pair]] = defaultdict(list)
        for pair in sorted(self._ways.values(), key=lambda pair: (-pair.rows, pair.outcome, pair.reason)):
            kinds[pair.outcome, pair.reason].append(pair)
        turns = [[pairs[turn] for pairs in kinds.values() if turn < len(pairs)] for turn in range(most)]
        return [pair for turn in turns for pair in turn][:most]

    def _note_dropped(self, before: Batch, rows: Index, reasons: set[str]) -> None:
        only = next(iter(reasons)) if len(reasons) == 1 else ""
        for row in rows.tolist():
            series = before.table.series[row]
            reason = only or self._reason(series, reasons)
            self._count(("dropped", reason, series.name), "dropped", reason, before, row, None, 0)

    def _reason(self, series: Series, reasons: set[str]) -> str:
        """Tell why a row was dropped, where there was more than one reason; "" where that cannot be known."""
        processor = self._processor
        if not isinstance(processor, SeriesProcessor):
            return ""
        kept = series.derive(processor.owner, processor.map_series) is not None
        reason = "collision" if kept else processor.drop_reason
        return reason if reason in reasons else ""

    def _note_passed(self, before: Batch | None, after: Batch, rows: Index) -> None:
        moved = self._moved_values(before, after, rows)
        for row, old in enumerate(rows.tolist()):
            new = after.table.series[row]
            if old == ADDED or before is None:
                self._count(("added", new.name), "added", "", None, 0, after, row)
                continue
            series = before.table.series[old]
            if series is not new or moved[row]:
                self.changed += 1
                self._count((self._way(series, new), bool(moved[row])), "changed", "", before, old, after, row)

    @staticmethod
    def _moved_values(before: Batch | None, after: Batch, rows: Index) -> list[bool]:
        """Tell whose value is another, bit by bit: NaN is NaN."""
        if before is None:
            return [False] * len(after)
        known = rows != ADDED
        moved = np.zeros(len(after), np.bool_)
        old, new = before.values[rows[known]], after.values[known]
        moved[known] = np.ascontiguousarray(old).view(np.int64) != np.ascontiguousarray(new).view(np.int64)
        flags: list[bool] = moved.tolist()
        return flags

    def _way(self, old: Series, new: Series) -> Hashable:
        """Name what became different, by the names alone."""
        own = None if old.own == new.own else (old.own[:1], new.own[:1])
        key = old.base, new.base, old.resource, new.resource, old.scope is new.scope, own, old.name == new.name, (
            old.family.kind, new.family.kind)  # fmt: skip
        way = self._way_of.get(key)
        if way is None:
            way = self._way_of[key] = _way(old, new)
        return way

    def _count(
        self, way: Hashable, outcome: Outcome, reason: str,
        before: Batch | None, old: int, after: Batch | None, new: int,
    ) -> None:  # fmt: skip
        pair = self._ways.get(way)
        if pair is not None:
            pair.rows += 1
        elif len(self._ways) < MAX_WAYS:
            first = None if before is None else row_of(before, old)
            self._ways[way] = Pair(outcome, reason, 1, first, None if after is None else row_of(after, new))


def row_of(batch: Batch, row: int) -> Row:
    """Return one row of a batch."""
    stale = batch.stale is not None and bool(batch.stale[row])
    return Row(batch.table.series[row], float(batch.values[row]), int(batch.times[row]), int(batch.starts[row]), stale)


def _way(old: Series, new: Series) -> Hashable:
    labels = frozenset(_different(old.labels, new.labels))
    resource = frozenset(_different(dict(old.resource.attributes), dict(new.resource.attributes)))
    return labels, resource, old.scope is new.scope, old.name == new.name, old.family.kind == new.family.kind


def _different(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in old.keys() | new.keys():
        sign = "-" if name not in new else "+" if name not in old else "~" if old[name] != new[name] else ""
        if sign:
            yield sign, name
