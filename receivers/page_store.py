"""Where all targets of one receiver keep their series: one set of columns, a slot for each series.

A slot's *key* is what its line says under its target's labels; its series follows once its type is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ebbtide import Bools, Floats, Ints, Labels, ReceiverCounts, Series
from receivers.limits import Limits
from receivers.memory import Columns
from receivers.numbers import Index
from receivers.page_types import PageTypes

DUPLICATE = 3  # what becomes of a slot's samples, beside those of ``memory``: the series is the receiver's own

NO_LIMITS = Limits()

Key = tuple[str, Labels, tuple[str, ...]]  # name, labels, own label


class PageColumns(Columns):
    """The columns of ``memory``, and those in which a moment's points are laid out before they leave."""

    def __init__(self) -> None:
        super().__init__()
        self.timed: Bools = np.empty(0, np.bool_)  # its sample had a timestamp of its own
        self.report: Bools = np.empty(0, np.bool_)  # it is one of the receiver's own five series of a target
        self.native: Bools = np.empty(0, np.bool_)  # it is a native histogram
        self.line: Index = np.empty(0, np.intp)  # scratch: where it stood first
        self.due: Bools = np.empty(0, np.bool_)  # it has a point to leave
        self.point: Floats = np.empty(0, np.float64)
        self.begin: Ints = np.empty(0, np.int64)
        self.stale: Bools = np.empty(0, np.bool_)

    def _clear(self, slots: Index) -> None:
        super()._clear(slots)
        self.timed[slots] = self.report[slots] = self.native[slots] = self.due[slots] = self.stale[slots] = False


@dataclass(frozen=True, slots=True)
class PageRules:
    """What an operator may choose about pages."""

    honor_labels: bool = False
    honor_timestamps: bool = True
    skip_bad_lines: bool = False
    strict_openmetrics: bool = False
    track_starts: bool = True
    reports: bool = True
    limits: Limits = NO_LIMITS

    def same_series(self, other: PageRules) -> bool:
        """Tell whether series have the same identity under the other rules."""
        return (self.honor_labels, self.reports) == (other.honor_labels, other.reports)


class PageStore:
    """Slots, and what stands for them."""

    def __init__(self, counts: ReceiverCounts, types: PageTypes, rules: PageRules):
        self.counts = counts
        self.types = types
        self.rules = rules
        self.columns = PageColumns()
        self.keys: list[Key | None] = []  # by slot, as is ``series``
        self.series: list[Series | None] = []
        self.sources = 0  # how many there were
        self.duplicate = self.allocate(None)
        self.columns.fate[self.duplicate] = DUPLICATE

    def allocate(self, key: Key | None) -> int:
        """Return a fresh slot."""
        slot = self.columns.allocate()
        if slot >= len(self.keys):
            self.keys += [None] * (self.columns.size - len(self.keys))
            self.series += [None] * (self.columns.size - len(self.series))
        self.keys[slot] = key
        return slot

    def release(self, slots: Iterable[int]) -> None:
        """Give slots back."""
        slots = list(slots)
        for slot in slots:
            self.keys[slot] = self.series[slot] = None
        self.columns.free(slots)
