"""What is counted while batches pass: where types came from, what makes the page large, who speaks, what would be sent.

All of it by series, since one poll has one sample of each. Sans-IO.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

import trio

from agent.backlog import Backlog
from agent.batch import Batch
from agent.folded import FoldedLog
from agent.identity import Family, Labels, Resource
from agent.plugin import Exporter
from agent.series import Series
from agent.settings import OutboxSettings

RULES = ("operator", "label", "metadata", "targets", "linkerd", "page", "suffix", "none", "agent")
"""``Family.typed_by``, in the order in which they are shown."""


class Types:
    """Which rule decided how many families and series, of one receiver."""

    def __init__(self) -> None:
        self._series: Counter[str] = Counter()
        self._families: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)

    def note(self, batch: Batch) -> None:
        """Count the series of a batch."""
        families: Counter[Family] = Counter(series.family for series in batch.table)
        for family, rows in families.items():
            self._series[family.typed_by] += rows
            self._families[family.typed_by][family.name, family.kind] = None

    def as_list(self) -> list[dict[str, Any]]:
        """Return one entry per rule that decided anything."""
        rules = [*RULES, *sorted(self._series.keys() - set(RULES))]  # a stranger's receiver may have its own
        return [
            {
                "rule": rule,
                "families": len(self._families[rule]),
                "series": self._series[rule],
                "names": sorted({name for name, _ in self._families[rule]}),
            }
            for rule in rules
            if self._series[rule]
        ]


class Cardinality:
    """What the samples of a pipeline are made of: metrics by series, labels by distinct values."""

    def __init__(self) -> None:
        self._total = 0
        self._families: Counter[tuple[str, str]] = Counter()
        self._names: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._bases: Counter[Labels] = Counter()
        self._own: dict[str, Counter[str]] = defaultdict(Counter)

    def note(self, table: Iterable[Series]) -> None:
        """Count series by their identity."""
        for series in table:
            self._total += 1
            family = series.family.name, series.family.kind
            self._families[family] += 1
            self._names[family][series.name] += 1
            self._bases[series.base] += 1
            if series.own:
                self._own[series.own[0]][series.own[1]] += 1

    def metrics(self) -> list[dict[str, Any]]:
        """Return metrics, those with most series first. ``selector``: what a `filter` would drop them by."""
        return [
            {
                "name": name,
                "type": kind,
                "series": series,
                "share": round(series / self._total, 4),
                "names": sorted(self._names[name, kind]),
                "selector": selector(self._names[name, kind]),
            }
            for (name, kind), series in sorted(self._families.items(), key=lambda item: (-item[1], item[0]))
        ]

    def labels(self) -> list[dict[str, Any]]:
        """Return label names, those with most distinct values first, and how many series carry them."""
        values: dict[str, set[str]] = defaultdict(set)
        series: Counter[str] = Counter()
        for base, rows in self._bases.items():
            for index in range(0, len(base.flat), 2):
                name = base.flat[index]
                values[name].add(base.flat[index + 1])
                series[name] += rows
        for name, counted in self._own.items():
            values[name] |= counted.keys()
            series[name] += counted.total()
        found = [{"name": name, "values": len(values[name]), "series": rows} for name, rows in series.items()]
        return sorted(found, key=lambda label: (-label["values"], label["name"]))


def selector(names: Iterable[str]) -> str:
    """Return the Prometheus selector that takes the series of these names and no others."""
    words = sorted(names)
    if len(words) == 1:
        return f'{{__name__="{_quoted(words[0])}"}}'
    stem = "".join(a for a, b in takewhile(_same, zip(words[0], words[-1], strict=False)))  # sorted: all lie between
    if stem != words[0]:
        stem = stem[: stem.rfind("_") + 1]
    tails = "|".join(_literal(word.removeprefix(stem)) for word in words)
    regex = f"{_literal(stem)}({tails})" if stem else tails
    return f'{{__name__=~"{_quoted(regex)}"}}'


def _same(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]


def _literal(name: str) -> str:
    """Escape what a regular expression would obey (RE2)."""
    return "".join("\\" + c if c in r"\.+*?()|[]{}^$" else c for c in name)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Resources:
    """Who speaks, and by how many samples."""

    def __init__(self) -> None:
        self._samples: Counter[Resource] = Counter()

    def note(self, table: Iterable[Series]) -> None:
        """Count series by their resource."""
        self._samples.update(series.resource for series in table)

    def as_list(self) -> list[dict[str, Any]]:
        """Return resources, those with most samples first."""
        found = sorted(self._samples.items(), key=lambda item: (-item[1], repr(item[0].attributes)))
        return [{"attributes": dict(resource.attributes), "samples": samples} for resource, samples in found]


class Outgoing:
    """What one exporter would send: its own encoding, joined, cut and sealed as ever, and then counted."""

    def __init__(self, exporter: Exporter[Any], settings: OutboxSettings, log: FoldedLog):
        self._counts = exporter.counts
        self._backlog = Backlog(exporter, settings, self._counts, log)

    @property
    def bugs(self) -> int:
        """Samples lost by a bug of the exporter."""
        return self._counts.dropped["bug"]

    def note(self, batch: Batch) -> None:
        """Take a batch that left a pipeline."""
        for payload in self._backlog.encode(batch):
            self._backlog.add(payload, self._backlog.batches, trio.current_time())

    def as_dict(self) -> dict[str, Any]:
        """Return the sums, in samples, points, requests, and bytes before and after sealing (compression)."""
        self._backlog.seal()
        requests = self._backlog.requests
        return {
            "in": self._counts.received,
            "samples": sum(request.samples for request in requests),
            "points": sum(request.points for request in requests),
            "dropped": {reason: count for reason, count in self._counts.dropped.items() if count},
            "requests": len(requests),
            "bytes": sum(request.raw for request in requests),
            "sealed_bytes": sum(len(request.body) for request in requests),
            "largest_request": max((request.raw for request in requests), default=0),
        }
