"""The rows of simulated pages: which series there are, and by which formula each gets its number.

A *block* is one child of a family, one label set: a single row, or all rows of a histogram or summary. A *page* is the
blocks of one target in the order of their families; the *form* is all pages, with the formulas of all rows as columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.demo.families import LATENCY_MS, DemoFamily
from agent.demo.traffic import ONE, Bools, Driver, Floats, Indices, Moments, Traffic

Labels = tuple[tuple[str, str], ...]
Samples = tuple[tuple[str, str], ...]
"""What one block's rows add to it: (suffix of the name, value of ``le`` or ``quantile``), in the order of the page."""

_SINGLE: Samples = (("", ""),)

# Upper bounds of the registry's histograms, by name without the part before the protocol; +Inf comes by itself.
_BOUNDS: dict[str, tuple[float, ...]] = {
    "queue_latency_seconds": (0.0005, 0.005, 0.05, 0.5, 1.0, 3.0),
    "detect_http_duration_seconds": (0.001, 0.1),
    "frame_size_bytes": (128.0, 1024.0, 10240.0),
    "route_request_duration_seconds": (0.05, 0.5, 1.0, 10.0),
    "request_duration_seconds": (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0),
    "backend_response_duration_seconds": (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0),
    "response_duration_seconds": (0.05, 0.5, 1.0, 10.0),
}


@dataclass(slots=True)
class Block:
    """One child of a family; its rows are ``first`` up to ``first + len(samples)``."""

    family: DemoFamily
    labels: Labels
    samples: Samples
    first: int
    life: int
    gate: Driver
    repeated: bool = False
    """The same label set stands on the page before; a Prometheus keeps the first."""


@dataclass(slots=True)
class Page:
    """The blocks of one target, ``first`` to ``end`` of the form."""

    process: int
    first: int
    end: int = 0


@dataclass(slots=True)
class Form:
    """All blocks and rows of all pages. Build with ``page`` and the three kinds of block, then ``freeze``."""

    traffic: Traffic = field(default_factory=Traffic)
    blocks: list[Block] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    _drivers: list[Driver] = field(default_factory=list)
    _factors: list[float] = field(default_factory=list)
    _offsets: list[float] = field(default_factory=list)
    _whole: list[bool] = field(default_factory=list)
    decimal: list[bool] = field(default_factory=list)
    """Per row: whether the page writes even a whole number with a point, as the registry does for floats."""

    def single(
        self,
        family: DemoFamily,
        labels: Labels,
        driver: Driver,
        factor: float = 1.0,
        offset: float = 0.0,
        *,
        life: int,
        gate: Driver = ONE,
        whole: bool = True,
        decimal: bool = False,
        repeated: bool = False,
    ) -> None:
        """Add a counter or gauge: ``driver * factor + offset``, rounded down where ``whole``.

        It exists while its life does and ``gate`` is at least 1.
        """
        self._block(Block(family, labels, _SINGLE, len(self._drivers), life, gate, repeated))
        self._row(driver, factor, offset, whole, decimal)

    def histogram(
        self,
        family: DemoFamily,
        labels: Labels,
        driver: Driver,
        share: float = 1.0,
        *,
        median: float,
        life: int,
        gate: Driver = ONE,
        spread: float = 0.8,
    ) -> None:
        """Add a histogram of ``driver * share`` log-normal observations around ``median`` (in the family's unit)."""
        bounds = histogram_bounds(family)
        self._block(Block(family, labels, histogram_samples(family), len(self._drivers), life, gate))
        mean = median * math.exp(spread * spread / 2)
        shares = [share * _log_normal(bound / median, spread) for bound in bounds]
        whole_sum = family.legacy or family.unit == "bytes"
        if not family.legacy:
            self._row(driver, share * mean, 0.0, whole_sum, True)
            self._row(driver, share, 0.0, True, False)
        for part in (*shares, share):
            self._row(driver, part, 0.0, True, False)
        if family.legacy:
            self._row(driver, share, 0.0, True, False)
            self._row(driver, share * mean, 0.0, True, False)

    def summary(
        self, family: DemoFamily, labels: Labels, driver: Driver, share: float, *, median: float, life: int
    ) -> None:
        """Add a summary of ``driver * share`` observations with Go's five quantiles (seconds)."""
        quantiles = {"0": 0.4, "0.25": 0.8, "0.5": 1.0, "0.75": 1.3, "1": 4.0}
        samples = (*(("", quantile) for quantile in quantiles), ("_sum", ""), ("_count", ""))
        self._block(Block(family, labels, samples, len(self._drivers), life, ONE))
        for factor in quantiles.values():
            self._row(ONE, median * factor, 0.0, False, False)
        self._row(driver, share * median * 1.1, 0.0, False, False)
        self._row(driver, share, 0.0, True, False)

    def begin_page(self, process: int) -> Page:
        """Start the page of a process; the blocks added until the next call are its own."""
        page = Page(process, len(self.blocks), len(self.blocks))
        self.pages.append(page)
        return page

    def end_page(self, families: Iterable[str]) -> None:
        """Put the blocks of the last page into the order of ``families``, as they stood within each."""
        page, places = self.pages[-1], {name: place for place, name in enumerate(families)}
        self.blocks[page.first :] = sorted(self.blocks[page.first :], key=lambda block: places[block.family.name])

    def freeze(self) -> Formulas:
        """Return the columns, once all pages are built."""
        return Formulas(self)

    def _block(self, block: Block) -> None:
        self.blocks.append(block)
        self.pages[-1].end = len(self.blocks)

    def _row(self, driver: Driver, factor: float, offset: float, whole: bool, decimal: bool) -> None:
        self._drivers.append(driver)
        self._factors.append(factor)
        self._offsets.append(offset)
        self._whole.append(whole)
        self.decimal.append(decimal)


class Formulas:
    """The formulas of all rows as columns: numbers for any rows at any moments."""

    def __init__(self, form: Form) -> None:
        resolve = form.traffic.resolve
        self._traffic = form.traffic
        self._drivers = np.array([resolve(driver) for driver in form._drivers], np.intp)
        self._factors = np.array(form._factors)
        self._offsets = np.array(form._offsets)
        self._whole = np.array(form._whole, np.bool_)
        self._lives = np.array([block.life for block in form.blocks], np.intp)
        self._gates = np.array([resolve(block.gate) for block in form.blocks], np.intp)

    def at(self, times: Floats) -> Moments:
        """Evaluate drivers and lives at ``times`` (processes, moments), in seconds."""
        return self._traffic.at(times)

    def present(self, moments: Moments, blocks: Indices | slice = slice(None)) -> Bools:
        """Tell which blocks are there: (blocks, moments)."""
        there: Bools = moments.alive[self._lives[blocks]] & (moments.drivers[self._gates[blocks]] >= 1.0)
        return there

    def values(self, moments: Moments, rows: Indices | slice = slice(None)) -> Floats:
        """Return the numbers of rows: (rows, moments)."""
        values = moments.drivers[self._drivers[rows]]
        values *= self._factors[rows, None]
        values += self._offsets[rows, None]
        # A hair above: products of counts and shares that mean a whole number may fall just short of it.
        np.floor(values + 1e-9, out=values, where=self._whole[rows, None])
        return values


def histogram_bounds(family: DemoFamily) -> Sequence[float]:
    """Return the finite upper bounds of a histogram family."""
    if family.legacy:
        return LATENCY_MS
    return next(bounds for ending, bounds in _BOUNDS.items() if family.name.endswith(ending))


_samples: dict[tuple[bool, Sequence[float]], Samples] = {}


def histogram_samples(family: DemoFamily) -> Samples:
    """Return the rows of a histogram: the legacy part writes buckets first and ``le`` as integers, the registry last."""
    bounds = histogram_bounds(family)
    if family.legacy:
        buckets = tuple(("_bucket", f"{bound:g}" if bound < 1e6 else str(int(bound))) for bound in bounds)
        return (*buckets, ("_bucket", "+Inf"), ("_count", ""), ("_sum", ""))
    buckets = tuple(("_bucket", repr(bound)) for bound in bounds)
    return (("_sum", ""), ("_count", ""), *buckets, ("_bucket", "+Inf"))


def _log_normal(ratio: float, spread: float) -> float:
    return 0.5 * (1 + math.erf(math.log(ratio) / (spread * math.sqrt(2))))
