"""What a reload changes between the wiring that runs and the one that is to: compared, then applied in one step.

Strategy. Everything that can fail or must wait happens before ``apply``: the file is read, the new components are made,
receivers that leave have returned, outboxes that get another exporter are at rest. ``apply`` itself is synchronous, so
that no batch ever meets half of the one wiring and half of the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from agent.batch import Batch
from agent.outbox import Outbox
from agent.pipeline import Pipeline
from agent.plugin import Component
from agent.settings import OutboxSettings
from agent.wiring import Wiring, connect

logger = logging.getLogger("ebbtide.reload")

_T = TypeVar("_T")


@dataclass(slots=True)
class Reloads:
    """How often the file was read anew, how often in vain, and when last with success (ns of wall time, 0: never).

    ``well``: the last time was with success, or there was none.
    """

    done: int = 0
    failed: int = 0
    well: bool = True
    last: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Ids of one kind of component: those that come, go, and are another object of the same id."""

    new: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @classmethod
    def between(cls, old: dict[str, _T], new: dict[str, _T]) -> Difference:
        """Compare what stands behind each id."""
        both = [name for name in new if name in old]
        return cls(
            [name for name in new if name not in old],
            [name for name in old if name not in new],
            [name for name in both if new[name] is not old[name]],
        )

    def said(self, kind: str) -> list[str]:
        """Return the difference in words."""
        named = (("new", self.new), ("removed", self.gone), ("changed", self.changed))
        return [f"{kind}.{name} {word}" for word, names in named for name in names]


class Change:
    """The step from one wiring to the next."""

    def __init__(self, old: Wiring, new: Wiring):
        self.old = old
        self.new = replace(new, ledger=old.ledger)
        self._lines = new.ledger
        self.receivers = Difference.between(old.receivers, new.receivers)
        self.pipelines = Difference.between(old.pipelines, new.pipelines)
        self.exporters = Difference.between(old.exporters, new.exporters)
        self._queues = Difference.between(old.outboxes, new.outboxes)

    def __str__(self) -> str:
        words = [
            *self.receivers.said("receivers"),
            *self._processors().said("processors"),
            *self.pipelines.said("pipelines"),
            *self.exporters.said("exporters"),
        ]
        return ", ".join(words) or "no component has changed"

    def _processors(self) -> Difference:
        """Processors by their options: their objects differ from pipeline to pipeline."""
        old, new = (
            {id: wiring.config.processors[id] for p in wiring.pipelines.values() for id in p.processors}
            for wiring in (self.old, self.new)
        )
        same = {id: old[id] for id, declared in new.items() if id in old and old[id].same_as(declared)}
        return Difference.between(old, new | same)

    @property
    def leaving(self) -> list[str]:
        """Receivers that must have returned before this is applied."""
        return [*self.receivers.gone, *self.receivers.changed]

    @property
    def entering(self) -> list[str]:
        """Receivers to be started once this is applied."""
        return [*self.receivers.new, *self.receivers.changed]

    @property
    def handed_over(self) -> dict[str, Outbox]:
        """Outboxes that stay and get another exporter: they must be paused before this is applied."""
        return {name: self.new.outboxes[name] for name in self.exporters.changed if name not in self._queues.changed}

    @property
    def opening(self) -> list[Outbox]:
        """Outboxes to send from once this is applied."""
        return [self.new.outboxes[name] for name in (*self._queues.new, *self._queues.changed)]

    @property
    def draining(self) -> list[Outbox]:
        """Outboxes that get nothing more once this is applied."""
        return [self.old.outboxes[name] for name in (*self._queues.gone, *self._queues.changed)]

    def apply(self, now: int) -> list[tuple[Pipeline, Batch]]:
        """Make it so; returns what processors that go held back, for the pipelines that they stood in (``now`` in ns)."""
        old, new = self.old, self.new
        flushed = [(pipeline, batch) for pipeline, stay in self._ending() for batch in pipeline.flush(now, stay)]
        for name in self.receivers.changed:
            _inherit(f"receivers.{name}", new.receivers[name], old.receivers[name])
        for name in self.pipelines.changed:
            former = old.pipelines[name].processors
            for id, processor in new.pipelines[name].processors.items():
                if id in former and former[id] is not processor:
                    _inherit(f"processors.{id}", processor, former[id])
        for name, outbox in self.handed_over.items():
            _inherit(f"exporters.{name}", new.exporters[name], old.exporters[name])
            outbox.take_over(new.exporters[name], new.config.exporters[name].outbox or OutboxSettings())
        old.ledger.receivers.update(self._lines.receivers)
        old.ledger.pipelines.update(self._lines.pipelines)
        old.ledger.exporters.update(self._lines.exporters)
        connect(new)
        return flushed

    def _ending(self) -> Iterable[tuple[Pipeline, list[Any]]]:
        """Pipelines that end, each with those of its processors that go on in its successor."""
        for name in (*self.pipelines.gone, *self.pipelines.changed):
            successor = self.new.pipelines.get(name)
            staying = [] if successor is None else [*successor.processors.values(), successor.default]
            yield self.old.pipelines[name], staying


def _inherit(path: str, new: Component[Any], old: Component[Any]) -> None:
    """Let a component take over from its predecessor of the same type; one that cannot begins afresh."""
    if type(new) is type(old):
        try:
            new.inherit(old)
        except Exception:
            logger.exception("%s cannot take over what it remembered: a bug of this plugin; it begins afresh", path)
