"""The ledger: what came in, went out, was dropped and why, at every edge, in samples. It balances, always.

Plain integers, incremented by the frame and the plugins; the self-telemetry reads them, nothing on the hot path calls it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class ReceiverCounts:
    """``samples`` + added = ``out`` + dropped. The receiver counts all but ``out``, which the pipeline does.

    Not of the ledger, but read by the self-telemetry: the time that all polls took, and when one last went well
    (``last_success``, in Unix seconds; 0: never); of a source that keeps a history, up to when it has been read
    (``read_until``, likewise), and how many of the samples filled a hole; of a source of several targets, how many there
    are (``targets``, else None).
    """

    polls: int = 0
    failed_polls: int = 0
    samples: int = 0
    added: Counter[str] = field(default_factory=lambda: Counter(scrape=0, stale=0))
    dropped: Counter[str] = field(default_factory=lambda: Counter(repeated=0, torn=0))
    out: int = 0
    poll_seconds: float = 0.0
    last_success: float = 0.0
    read_until: float = 0.0
    backfilled: int = 0
    targets: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The receiver's entry of the ledger."""
        return {
            "polls": self.polls,
            "failed_polls": self.failed_polls,
            "samples": self.samples,
            "added": dict(self.added),
            "dropped": dict(self.dropped),
            "out": self.out,
        }

    def imbalance(self) -> int:
        """Samples that went nowhere, or came from nowhere: 0."""
        return self.samples + self.added.total() - self.out - self.dropped.total()


@dataclass(slots=True)
class ProcessorCounts:
    """``received`` + ``added`` = ``out`` + ``merged`` + dropped."""

    received: int = 0
    out: int = 0
    added: int = 0
    merged: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """The processor's entry of the ledger."""
        return {
            "in": self.received,
            "out": self.out,
            "added": self.added,
            "merged": self.merged,
            "dropped": dict(self.dropped),
        }

    def imbalance(self) -> int:
        """Samples that went nowhere, or came from nowhere: 0."""
        return self.received + self.added - self.out - self.merged - self.dropped.total()


@dataclass(slots=True)
class PipelineCounts:
    """What entered a pipeline from its receivers, what each processor did, and what left for its exporters.

    ``processors`` are those of the chain, in order, then those that a reload removed, whose numbers rest.
    """

    received: int = 0
    out: int = 0
    processors: dict[str, ProcessorCounts] = field(default_factory=dict)
    _rested: set[str] = field(default_factory=set)
    _since: dict[str, tuple[int, int]] = field(default_factory=dict)  # in and out, when the chain became what it is

    def chain(self, processors: dict[str, ProcessorCounts], unshown: dict[str, ProcessorCounts]) -> None:
        """The chain is now made of these, in this order: edges are compared from here on. The last may come to be shown."""
        known = processors | unshown
        resting = {name: counts for name, counts in self.processors.items() if name not in known}
        shown = {name: counts for name, counts in unshown.items() if name in self.processors}
        self.processors = processors | shown | resting
        self._rested = set(resting)
        self._since = {name: (counts.received, counts.out) for name, counts in known.items()}
        self._since[""] = (self.received, self.out)

    def show(self, name: str, counts: ProcessorCounts) -> None:
        """Put a processor that was not shown so far at the end of the chain."""
        if name not in self.processors:
            resting = {other: self.processors.pop(other) for other in self._rested}
            self.processors |= {name: counts} | resting

    def as_dict(self) -> dict[str, Any]:
        """The pipeline's entry of the ledger."""
        processors = {name: counts.as_dict() for name, counts in self.processors.items()}
        return {"in": self.received, "processors": processors, "out": self.out}

    def imbalance(self) -> int:
        """Samples that went nowhere between two processors: 0."""
        off = sum(abs(counts.imbalance()) for counts in self.processors.values())
        received, out = self._since.get("", (0, 0))
        edge = self.received - received
        for name, counts in self.processors.items():
            if name not in self._rested:
                since_in, since_out = self._since.get(name, (0, 0))
                off += abs(edge - (counts.received - since_in))
                edge = counts.out - since_out
        return off + abs(edge - (self.out - out))


@dataclass(slots=True)
class ExporterCounts:
    """``received`` + ``restored`` = ``sent`` + held + dropped; ``points_sent`` and ``rejected_points`` in OTLP points.

    ``held`` is asked of those who hold: the outbox, in flight included, and one that a reload replaced while it drains.
    ``send_seconds`` and ``last_success`` are the self-telemetry's, as with receivers.
    """

    received: int = 0
    sent: int = 0
    restored: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    points_sent: int = 0
    rejected_points: int = 0
    retries: int = 0
    requests: int = 0
    holders: list[Callable[[], int]] = field(default_factory=list)
    send_seconds: float = 0.0
    last_success: float = 0.0

    def held(self) -> int:
        """Samples that wait or are in flight."""
        return sum(holder() for holder in self.holders)

    def as_dict(self) -> dict[str, Any]:
        """The exporter's entry of the ledger."""
        return {
            "in": self.received,
            "restored": self.restored,
            "sent": self.sent,
            "held": self.held(),
            "dropped": dict(self.dropped),
            "points_sent": self.points_sent,
            "rejected_points": self.rejected_points,
            "retries": self.retries,
            "requests": self.requests,
        }

    def imbalance(self) -> int:
        """Samples that went nowhere, or came from nowhere: 0."""
        return self.received + self.restored - self.sent - self.held() - self.dropped.total()


@dataclass(slots=True)
class Ledger:
    """All counts of a run, by component id."""

    receivers: dict[str, ReceiverCounts] = field(default_factory=dict)
    pipelines: dict[str, PipelineCounts] = field(default_factory=dict)
    exporters: dict[str, ExporterCounts] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The ledger as the JSON of ``/ledger`` and ``once --ledger``."""
        return {
            "receivers": {name: counts.as_dict() for name, counts in self.receivers.items()},
            "pipelines": {name: counts.as_dict() for name, counts in self.pipelines.items()},
            "exporters": {name: counts.as_dict() for name, counts in self.exporters.items()},
        }

    def imbalances(self) -> list[str]:
        """One sentence per component that does not balance; none when all is well."""
        kinds: tuple[tuple[str, dict[str, Any]], ...] = (
            ("receivers", self.receivers),
            ("pipelines", self.pipelines),
            ("exporters", self.exporters),
        )
        return [
            f"{kind}.{name} is off by {off} samples"
            for kind, components in kinds
            for name, counts in components.items()
            if (off := counts.imbalance())
        ]
