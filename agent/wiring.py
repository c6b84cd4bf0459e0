"""From a checked file to connected components: nothing is started here.

Only what a pipeline uses is made. Every component gets its own line of the ledger and its own log; processors are made
once per pipeline, so that what they remember over time is never mixed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.config import Config, ConfigErrors, Declared
from agent.discover import PluginError, plugins
from agent.ledger import ExporterCounts, Ledger, PipelineCounts, ProcessorCounts, ReceiverCounts
from agent.outbox import Outbox
from agent.pipeline import DEFAULT_PROCESSOR, Pipeline, emitter
from agent.plugin import ConfigError, Context, Emit, Exporter, Processor, Receiver
from agent.settings import OutboxSettings, PipelineSettings

logger = logging.getLogger("ebbtide.wiring")


@dataclass(frozen=True, slots=True)
class Wiring:
    """All components of a file by id, connected, at rest."""

    ledger: Ledger = field(default_factory=Ledger)
    receivers: dict[str, Receiver[Any]] = field(default_factory=dict)
    emits: dict[str, Emit] = field(default_factory=dict)
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    exporters: dict[str, Exporter[Any]] = field(default_factory=dict)
    outboxes: dict[str, Outbox] = field(default_factory=dict)


def wire(config: Config, *, once: bool = False, now: Callable[[], int] = time.time_ns) -> Wiring:
    """Make and connect what the pipelines of ``config`` use. Raises ConfigErrors with all that constructors refuse."""
    return _Wirer(config, once, now).wire()


class _Wirer:
    def __init__(self, config: Config, once: bool, now: Callable[[], int]):
        self.config = config
        self.once = once
        self.now = now
        self.wiring = Wiring()
        self.problems: list[str] = []

    def wire(self) -> Wiring:
        pipelines = self.config.pipelines
        for name in _used(pipeline.exporters for pipeline in pipelines.values()):
            self.exporter(self.config.exporters[name])
        for name in _used(pipeline.receivers for pipeline in pipelines.values()):
            self.receiver(self.config.receivers[name])
        default = self.default()
        for name, settings in pipelines.items():
            self.pipeline(name, settings, default)
        if self.problems:
            raise ConfigErrors(self.problems)
        for name, receiver in self.wiring.receivers.items():
            fed = [self.wiring.pipelines[p] for p, settings in pipelines.items() if name in settings.receivers]
            self.wiring.emits[name] = emitter(receiver.counts, fed)
        return self.wiring

    def exporter(self, declared: Declared) -> None:
        counts = self.wiring.ledger.exporters[declared.id] = ExporterCounts()
        exporter = self.made(declared, counts)
        if isinstance(exporter, Exporter):
            self.wiring.exporters[declared.id] = exporter
            self.wiring.outboxes[declared.id] = Outbox(exporter, declared.outbox or OutboxSettings(), counts)

    def receiver(self, declared: Declared) -> None:
        counts = self.wiring.ledger.receivers[declared.id] = ReceiverCounts()
        receiver = self.made(declared, counts)
        if isinstance(receiver, Receiver):
            self.wiring.receivers[declared.id] = receiver
            if self.once and not receiver.polls:
                self.refused(declared, ConfigError("cannot be run once: it does not poll; use ebbtide run"))

    def pipeline(self, name: str, settings: PipelineSettings, default: type[Processor[Any]] | None) -> None:
        counts = self.wiring.ledger.pipelines[name] = PipelineCounts()
        declared = [self.config.processors[processor] for processor in settings.processors]
        made = [(one.id, self.made(one, ProcessorCounts())) for one in declared]
        last = None
        if default is not None and all(one.type != DEFAULT_PROCESSOR for one in declared):
            last = default(None, self.context("processors", DEFAULT_PROCESSOR, ProcessorCounts()))
        self.wiring.pipelines[name] = Pipeline(
            counts,
            [(id, processor) for id, processor in made if isinstance(processor, Processor)],
            [self.wiring.outboxes[id] for id in settings.exporters if id in self.wiring.outboxes],
            last,
        )

    def default(self) -> type[Processor[Any]] | None:
        """The class that closes pipelines without one of its type; None where none is registered."""
        plugin = plugins()["processors"].get(DEFAULT_PROCESSOR)
        if plugin is None:
            logger.warning("no processor %r is installed: resources stay empty", DEFAULT_PROCESSOR)
            return None
        try:
            cls = plugin.load()
        except PluginError as error:
            self.problems.append(f"{self.config.path}: {error}")
            return None
        return cls if issubclass(cls, Processor) else None

    def context(self, kind: str, id: str, counts: object) -> Context:
        return Context(id, counts, logging.getLogger(f"ebbtide.{kind}.{id}"), self.now, self.once)

    def made(self, declared: Declared, counts: object) -> object:
        """Make a component; what its constructor refuses is noted, and None returned."""
        try:
            return declared.cls(declared.settings, self.context(declared.kind, declared.id, counts))
        except ConfigError as error:
            self.refused(declared, error)
            return None

    def refused(self, declared: Declared, error: ConfigError) -> None:
        for problem in self.config.refused(declared, error).problems:
            if problem not in self.problems:  # a processor is made once per pipeline
                self.problems.append(problem)


def _used(lists: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))
