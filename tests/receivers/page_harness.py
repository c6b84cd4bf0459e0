"""One or more targets whose pages are handed over by hand: what the proxy receiver does between its two sockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ebbtide import ReceiverCounts, Row
from receivers.health import FAMILIES
from receivers.negotiation import Format
from receivers.page_memory import PageMemory
from receivers.page_source import PageSource
from receivers.page_store import PageRules, PageStore
from receivers.page_types import PageTypes
from receivers.proxy_pages import Answered, Pages, take
from receivers.tables import Tables

T0 = 1_795_362_000 * 10**9  # wall time of the first poll, ns
SECOND = 10**9
TARGET = {"job": "linkerd-proxy", "instance": "10.0.0.1:4191"}


class Targets:
    """Some targets that are polled together; ``take`` gives the points of a poll and checks the ledger."""

    def __init__(self, *labels: Mapping[str, str], types: Mapping[str, Any] | None = None, **rules: Any):
        self.counts = ReceiverCounts()
        self.store = PageStore(self.counts, PageTypes(types or {}), PageRules(**rules))
        self.memory = PageMemory(self.store)
        self.tables = Tables(self.store.columns, self.store.series)
        self.sources = [PageSource(self.store, one) for one in labels or (TARGET,)]
        self.pages = Pages()
        self.failures: list[str] = []
        self.batches = 0

    def take(self, *bodies: bytes | str | None, at: int = 0, format: Format = "text") -> list[Row]:
        """Let each target answer with a page, or not at all (None); ``at`` seconds after ``T0``."""
        answers = [
            Answered(source, f"target {number}", T0 + at * SECOND, 0.5, *_answer(body, format))
            for number, (source, body) in enumerate(zip(self.sources, bodies, strict=False))
        ]
        return self.take_answers(answers)

    def take_answers(self, answers: Sequence[Answered]) -> list[Row]:
        reads, portions = take(self.memory, self.tables, self.pages.read(answers, self.store.rules))
        self.failures = [read.failure for read in reads]
        rows: list[Row] = []
        self.batches = 0
        for portion in portions:
            self.counts.out += len(portion.batch)
            assert self.counts.imbalance() == 0
            rows += portion.batch.rows()
            self.batches += 1
        assert self.counts.imbalance() == 0
        assert not self.store.columns.due.any()
        assert not self.store.columns.stale.any()
        return rows

    def remove(self, number: int, at: int = 0) -> list[Row]:
        """Let a target be gone."""
        portions = list(self.memory.remove(self.tables, [self.sources.pop(number)], T0 + at * SECOND))
        for portion in portions:
            self.counts.out += len(portion.batch)
        assert self.counts.imbalance() == 0
        return [row for portion in portions for row in portion.batch.rows()]


def _answer(body: bytes | str | None, format: Format) -> tuple[bytes, Format, str]:
    if body is None:
        return b"", format, "cannot reach the target"
    return body.encode() if isinstance(body, str) else body, format, ""


OWN = frozenset(family.name for family in FAMILIES)


def scraped(rows: Sequence[Row]) -> list[Row]:
    """Leave out the receiver's own series: by name, for equal series are one object, whoever made it first."""
    return [row for row in rows if row.series.name not in OWN]


def values(rows: Sequence[Row]) -> dict[str, float | str]:
    """Return what was scraped by name and labels, those of TARGET left out; "ended" for ends."""
    return {_name(row): "ended" if row.stale else row.value for row in scraped(rows)}


def reports(rows: Sequence[Row]) -> dict[str, float]:
    """Return the receiver's own series that did not end."""
    return {row.series.name: row.value for row in rows if row.series.name in OWN and not row.stale}


def _name(row: Row) -> str:
    own = {name: value for name, value in row.series.labels.items() if TARGET.get(name) != value}
    inside = ",".join(f"{name}={value}" for name, value in own.items())
    return row.series.name + (f"{{{inside}}}" if inside else "")
