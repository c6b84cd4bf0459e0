"""What the demo's Prometheus holds: the pages' series under viz' labels, and their samples at every scrape so far.

Strategy. Nothing is stored: a sample is worked out when somebody asks for it, from the time of its scrape. What is
kept is identity, per *selection* (the series that one set of selectors finds): which rows, and the text around their
numbers. The relabelling is that of linkerd-viz' job ``linkerd-proxy``: target labels win, a scraped label of the same
name becomes ``exported_...``, empty labels are no labels, the first of two equal series stays.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agent.demo.form import Block
from agent.demo.mesh import Mesh, Target
from agent.demo.traffic import Bools, Floats, Indices
from agent.selectors import Matcher, Selector

LOOKBACK_MS = 300_000
"""How old the newest sample of a series may be (Prometheus' default lookback delta)."""
SCRAPE_SERIES = ("up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling",
                 "scrape_series_added")  # fmt: skip

Times = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Items = tuple[tuple[str, str], ...]


class Shape:
    """The labels that the series of one block have in common, sorted around the place of ``extra`` (le or quantile)."""

    __slots__ = ("after", "before", "extra")

    def __init__(self, before: Items, extra: str, after: Items) -> None:
        self.before, self.extra, self.after = before, extra, after

    def items(self, bound: str) -> Items:
        """Return the labels of one series; ``bound`` is the value of ``extra``, "" where it has none."""
        return (*self.before, (self.extra, bound), *self.after) if bound else (*self.before, *self.after)


class _Written(dict[tuple[str, str], str]):
    """The text of each label that was asked for."""

    def __init__(self, write: Callable[[tuple[str, str]], str]) -> None:
        super().__init__()
        self._write = write

    def __missing__(self, pair: tuple[str, str]) -> str:
        text = self[pair] = self._write(pair)
        return text


@dataclass(slots=True)
class Selection:
    """The series that some selectors find. Row numbers beyond the form's are scrape series: five for each target."""

    names: list[str]
    shapes: list[Shape]
    bounds: list[str]
    rows: Indices
    blocks: Indices
    """Per series: its block, or the number of blocks for a scrape series."""
    targets: Indices
    memory: dict[str, Any] = field(default_factory=dict)
    """What readers work out from the above, kept with it."""

    def texts(self, write: Callable[[tuple[str, str]], str]) -> list[str]:
        """Return each series' labels, written one by one by ``write`` and joined by ","; each is written once only."""
        written = _Written(write)
        halves: dict[int, tuple[str, str]] = {}
        texts = []
        for shape, bound in zip(self.shapes, self.bounds, strict=True):
            half = halves.get(id(shape))
            if half is None:
                before = "".join([written[pair] + "," for pair in shape.before])
                after = "".join(["," + written[pair] for pair in shape.after])
                half = halves[id(shape)] = (before, after)
            before, after = half
            texts.append(
                before + written[shape.extra, bound] + after if bound else before[:-1] + after if before else after[1:]
            )
        return texts


@dataclass(slots=True)
class Samples:
    """Numbers of a selection at some scrapes: ``values`` and ``there`` are (series, scrapes), ``times`` (targets, scrapes)."""

    values: Floats
    there: Bools
    times: Times


class Storage:
    """Samples of all targets, from ``history`` seconds before ``origin`` to whenever."""

    def __init__(self, mesh: Mesh, origin: float, history: float) -> None:
        self.mesh = mesh
        self.interval_ms = max(1, round(mesh.options.scrape_interval * 1000))
        self.oldest_ms = round((origin - history) * 1000)
        count = len(mesh.targets)
        self._phases = (np.arange(count, dtype=np.int64) * 7919) % self.interval_ms
        self._rows_of = np.zeros(len(mesh.form.blocks), np.float64)
        self._rows_of[:] = [len(block.samples) for block in mesh.form.blocks]
        self._page_starts = np.array([target.page.first for target in mesh.targets], np.intp)
        self._selections: dict[tuple[Selector, ...], Selection] = {}

    def select(self, selectors: tuple[Selector, ...]) -> Selection:
        """Return the series that meet any of the selectors."""
        found = self._selections.get(selectors)
        if found is None:
            if len(self._selections) >= 16:
                self._selections.clear()
            found = self._selections[selectors] = self._find(selectors)
        return found

    def last_scrapes(self, now_ms: int) -> Times:
        """Return the time of each target's newest scrape at or before ``now_ms``: (targets, 1)."""
        return ((now_ms - self._phases) // self.interval_ms * self.interval_ms + self._phases)[:, None]

    def scrapes(self, from_ms: int, to_ms: int) -> Times:
        """Return the times of all scrapes in [from, to], rounded up to the same number for each target."""
        last = self.last_scrapes(to_ms)
        count = max(1, (to_ms - max(from_ms, self.oldest_ms)) // self.interval_ms + 1)
        back = np.arange(count - 1, -1, -1, dtype=np.int64) * self.interval_ms
        return last - back[None, :]

    def samples(self, selection: Selection, times: Times) -> Samples:
        """Work out the samples of a selection at ``times`` (targets, scrapes)."""
        form, formulas = self.mesh.form, self.mesh.formulas
        moments = formulas.at(times / 1000)
        scraped = selection.rows < len(form.decimal)
        values = np.empty((len(selection.rows), times.shape[1]))
        there = np.empty(values.shape, np.bool_)
        values[scraped] = formulas.values(moments, selection.rows[scraped])
        there[scraped] = formulas.present(moments, selection.blocks[scraped])
        if not scraped.all():
            own = self._scrape_series(times)
            numbers = selection.rows[~scraped] - len(form.decimal)
            values[~scraped] = own[numbers % len(SCRAPE_SERIES), numbers // len(SCRAPE_SERIES)]
            there[~scraped] = True
        there &= (times >= self.oldest_ms)[selection.targets]
        return Samples(values, there, times)

    def families(self, target: int, now_ms: int) -> Iterator[Block]:
        """Yield one block of every family that a target's newest page holds."""
        page = self.mesh.targets[target].page
        blocks = self.mesh.form.blocks[page.first : page.end]
        moments = self.mesh.formulas.at(self.last_scrapes(now_ms) / 1000)
        seen: set[str] = set()
        for block, here in zip(
            blocks, self.mesh.formulas.present(moments, slice(page.first, page.end))[:, 0], strict=True
        ):
            if here and block.family.name not in seen:
                seen.add(block.family.name)
                yield block

    def health(self, times: Times) -> Floats:
        """Return ``up`` of all targets: (targets, scrapes)."""
        up: Floats = self._scrape_series(times)[0]
        return up

    def _scrape_series(self, times: Times) -> Floats:
        """Return the five series of every target's own scrapes: (5, targets, scrapes)."""
        formulas = self.mesh.formulas
        now, before = formulas.at(times / 1000), formulas.at((times - self.interval_ms) / 1000)
        here, earlier = formulas.present(now), formulas.present(before)
        rows = self._rows_of[:, None]
        scraped = np.add.reduceat(here * rows, self._page_starts, axis=0)
        added = np.add.reduceat((here & ~earlier) * rows, self._page_starts, axis=0)
        up = (scraped > 0).astype(np.float64)
        duration = np.where(up > 0, 0.0015 + scraped * 2.5e-6 + times % 977 * 1e-6, 0.0004)
        series: Floats = np.stack([up, duration, scraped, scraped, added])
        return series

    def _find(self, selectors: tuple[Selector, ...]) -> Selection:
        found: list[_Found] = []
        for index, target in enumerate(self.mesh.targets):
            found.extend(self._find_in(target, index, selectors))
        # Sorted by name only; within a name the order is whatever it is, and another one for another set.
        chance = np.random.default_rng(len(found)).permutation(len(found))
        found = sorted([found[at] for at in chance.tolist()], key=_name_of)
        names, shapes, bounds, rows, blocks, targets = zip(*found, strict=True) if found else ((), (), (), (), (), ())
        return Selection(
            list(names), list(shapes), list(bounds),
            np.array(rows, np.intp), np.array(blocks, np.intp), np.array(targets, np.intp),
        )  # fmt: skip

    def _find_in(self, target: Target, index: int, selectors: Iterable[Selector]) -> Iterator[_Found]:
        form = self.mesh.form
        left = [rest for selector in selectors if (rest := _after_target(selector, target)) is not None]
        if not left:
            return
        own = tuple(sorted(target.labels.items()))
        for place in range(target.page.first, target.page.end):
            block = form.blocks[place]
            if not block.repeated:
                shape = _shape(block, own, target)
                for offset in _matching(block, shape, left):
                    suffix, bound = block.samples[offset]
                    yield block.family.sample_name + suffix, shape, bound, block.first + offset, place, index
        shape = Shape(own, "", ())
        for number, name in enumerate(SCRAPE_SERIES):
            if any(all(m(name if m.label == "__name__" else "") for m in rest) for rest in left):
                row = len(form.decimal) + index * len(SCRAPE_SERIES) + number
                yield name, shape, "", row, len(form.blocks), index


_Found = tuple[str, Shape, str, int, int, int]
"""One series: name, labels, bound; its row, block and target."""


def _name_of(found: _Found) -> str:
    return found[0]


def _after_target(selector: Selector, target: Target) -> tuple[Matcher, ...] | None:
    """Return the matchers that the target's own labels leave open; None where these already say no."""
    left = []
    for matcher in selector.matchers:
        if matcher.label not in target.labels:
            left.append(matcher)
        elif not matcher(target.labels[matcher.label]):
            return None
    return tuple(left)


def _shape(block: Block, own: Items, target: Target) -> Shape:
    """Relabel: empty labels go, a scraped label that the target has too becomes ``exported_...``."""
    taken = target.labels
    extra = _renamed("quantile" if block.family.kind == "summary" else "le", taken)
    kept = [pair if pair[0] not in taken else (_renamed(pair[0], taken), pair[1]) for pair in block.labels if pair[1]]
    items = sorted([*kept, *own])
    cut = bisect(items, (extra,))
    return Shape(tuple(items[:cut]), extra, tuple(items[cut:]))


def _renamed(label: str, taken: Mapping[str, str]) -> str:
    while label in taken:
        label = f"exported_{label}"
    return label


def _matching(block: Block, shape: Shape, left: list[tuple[Matcher, ...]]) -> Iterable[int]:
    """Return which rows of a block meet any of the matchers."""
    if () in left:
        return range(len(block.samples))
    name, labels = block.family.sample_name, dict(shape.items(""))
    found = []
    for offset, (suffix, bound) in enumerate(block.samples):
        labels["__name__"], labels[shape.extra] = name + suffix, bound
        if any(all(matcher(labels.get(matcher.label, "")) for matcher in rest) for rest in left):
            found.append(offset)
    return found
