"""One poll, followed from the receivers to the exporters' doors, as one document. Sans-IO, but for what is given to it.

Strategy. The pipelines are those of ``run``, and their processors do what they would do; only the outboxes are left
out. Each row is followed by its number, so that what makes a page large is told of the rows that arrive at the end, under
the names that they had at the beginning: those are the names by which a ``filter`` would take them.

The document is plain JSON and holds all that is known; the text for eyes (``show``) is a view of it. docs/preview.md
describes it field by field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import trio

from agent.batch import Batch, Row
from agent.config import Config
from agent.folded import FoldedLog
from agent.ledger import ReceiverCounts
from agent.pipeline import DEFAULT_PROCESSOR, Pipeline, Stage
from agent.plugin import Emit
from agent.preview.changes import Changes, Pair
from agent.preview.difference import number
from agent.preview.tallies import Cardinality, Outgoing, Resources, Types
from agent.preview.trace import ADDED, Index
from agent.settings import OutboxSettings
from agent.wiring import Wiring

VERSION = 1
"""Of the document's form. Fields may be added under the same number; nothing else changes."""

DEFAULT_PAIRS = 3


class Collector:
    """What a poll does in every part of a wiring. ``only``: the one receiver that is asked, None for all."""

    def __init__(self, config: Config, wiring: Wiring, log: FoldedLog, only: str | None = None):
        self._config = config
        self._counts = {
            name: receiver.counts for name, receiver in wiring.receivers.items() if only is None or name == only
        }
        self._types = {name: Types() for name in self._counts}
        fed = [
            name for name, settings in config.pipelines.items() if any(id in self._counts for id in settings.receivers)
        ]
        sent_to = {id for name in fed for id in config.pipelines[name].exporters}
        self._outgoing = {
            name: Outgoing(exporter, config.exporters[name].outbox or OutboxSettings(), log)
            for name, exporter in wiring.exporters.items()
            if name in sent_to
        }
        self._pipelines = {
            name: Followed(wiring.pipelines[name], [self._outgoing[id] for id in config.pipelines[name].exporters])
            for name in fed
        }

    def emit(self, receiver: str) -> Emit:
        """Return the ``emit`` of one receiver."""
        pipelines = [
            followed for name, followed in self._pipelines.items() if receiver in self._config.pipelines[name].receivers
        ]
        counts, types = self._counts[receiver], self._types[receiver]

        async def emit(batch: Batch) -> None:
            if len(batch):
                counts.out += len(batch)
                types.note(batch)
                for pipeline in pipelines:
                    pipeline.run(batch)
            await trio.lowlevel.checkpoint()

        return emit

    def flush(self, now: int) -> None:
        """The poll is over: let processors give what they held back (``now`` in ns of wall time)."""
        for pipeline in self._pipelines.values():
            pipeline.flush(now)

    @property
    def failed(self) -> bool:
        """Whether a poll was lost, or anything by a bug."""
        dropped = [counts.dropped for counts in self._counts.values()]
        for followed in self._pipelines.values():
            dropped += [stage.counts.dropped for stage in followed.stages]
        bugs = sum(counter["bug"] for counter in dropped)
        bugs += sum(outgoing.bugs for outgoing in self._outgoing.values())
        return bool(bugs) or any(counts.failed_polls for counts in self._counts.values())

    @property
    def silent(self) -> list[str]:
        """Receivers whose polls went well and gave nothing."""
        return [name for name, counts in self._counts.items() if not counts.samples and not counts.failed_polls]

    @property
    def samples(self) -> int:
        """How many samples were read."""
        return sum(counts.samples for counts in self._counts.values())

    def document(
        self, messages: Iterable[str] = (), page: str | None = None, pairs: int = DEFAULT_PAIRS
    ) -> dict[str, Any]:
        """Return all of it; ``pairs`` bounds the examples of each processor."""
        return {
            "version": VERSION,
            "file": str(self._config.path),
            "page": page,
            "failed": self.failed,
            "messages": list(messages),
            "receivers": {name: self._receiver(name, counts) for name, counts in self._counts.items()},
            "pipelines": {name: self._pipeline(name, pairs) for name in self._pipelines},
            "exporters": {
                name: {"type": self._config.exporters[name].type, **outgoing.as_dict()}
                for name, outgoing in self._outgoing.items()
            },
        }

    def _receiver(self, name: str, counts: ReceiverCounts) -> dict[str, Any]:
        told = counts.as_dict()
        told["added"], told["dropped"] = _nonzero(counts.added), _nonzero(counts.dropped)
        return {"type": self._config.receivers[name].type, **told, "types": self._types[name].as_list()}

    def _pipeline(self, name: str, pairs: int) -> dict[str, Any]:
        settings, followed = self._config.pipelines[name], self._pipelines[name]
        processors = []
        for position, (stage, changes) in enumerate(zip(followed.stages, followed.changes, strict=True)):
            configured = position < len(settings.processors)
            type = self._config.processors[stage.name].type if configured else DEFAULT_PROCESSOR
            told = stage.counts.as_dict()
            told["dropped"] = _nonzero(stage.counts.dropped)
            shown = [pair_as_dict(pair) for pair in changes.pairs(pairs)]
            processors.append(
                {
                    "id": stage.name,
                    "type": type,
                    "default": not configured,
                    **told,
                    "changed": changes.changed,
                    "pairs": shown,
                }
            )
        return {
            "receivers": list(settings.receivers),
            "exporters": list(settings.exporters),
            "in": followed.received,
            "out": followed.out,
            "processors": processors,
            "metrics": followed.cardinality.metrics(),
            "labels": followed.cardinality.labels(),
            "resources": followed.resources.as_list(),
        }


class Followed:
    """One pipeline, each row followed through it."""

    def __init__(self, pipeline: Pipeline, outgoing: list[Outgoing]):
        self.stages: tuple[Stage, ...] = pipeline.stages
        self.changes = [Changes(stage.processor, stage.counts) for stage in self.stages]
        self.received = 0
        self.out = 0
        self.cardinality = Cardinality()
        self.resources = Resources()
        self._outgoing = outgoing

    def run(self, batch: Batch) -> None:
        """Pass a batch through, and to the exporters' doors."""
        self.received += len(batch)
        self._from(0, batch, batch, np.arange(len(batch)))

    def flush(self, now: int) -> None:
        """Pass on what processors held back."""
        for position, stage in enumerate(self.stages):
            held = stage.flush(now)
            if held is not None:
                self._from(position + 1, held, held, self.changes[position].note(None, held))

    def _from(self, position: int, given: Batch, batch: Batch, rows: Index) -> None:
        """``rows``: by row of ``batch``, the row of ``given`` that it was at the beginning."""
        for stage, changes in zip(self.stages[position:], self.changes[position:], strict=True):
            result = stage.process(batch)
            passed = changes.note(batch, result)
            if result is None:
                return
            rows = np.where(passed == ADDED, ADDED, rows[passed])
            batch = result
        self._arrive(given, batch, rows)

    def _arrive(self, given: Batch, batch: Batch, rows: Index) -> None:
        self.out += len(batch)
        first = given.table.series
        self.cardinality.note(
            last if row == ADDED else first[row] for row, last in zip(rows.tolist(), batch.table, strict=True)
        )
        self.resources.note(batch.table)
        for outgoing in self._outgoing:
            outgoing.note(batch)


def pair_as_dict(pair: Pair) -> dict[str, Any]:
    """Return an example as the document has it."""
    return {
        "outcome": pair.outcome,
        "reason": pair.reason,
        "rows": pair.rows,
        "before": None if pair.before is None else row_as_dict(pair.before),
        "after": None if pair.after is None else row_as_dict(pair.after),
    }


def row_as_dict(row: Row) -> dict[str, Any]:
    """Return a row as the document has it. Values are texts, as Prometheus writes them: JSON has no NaN."""
    series, scope = row.series, row.series.scope
    return {
        "name": series.name,
        "type": series.family.kind,
        "unit": series.family.unit,
        "labels": series.labels,
        "resource": dict(series.resource.attributes),
        "scope": {
            "name": scope.name,
            "version": scope.version,
            "schema_url": scope.schema_url,
            "attributes": dict(scope.attributes),
        },
        "value": None if row.stale else number(row.value),
        "time_unix_nano": str(row.time),
        "start_time_unix_nano": str(row.start),
    }


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
