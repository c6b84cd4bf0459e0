"""From a checked file to connected components: nothing is started here.

Only what a pipeline uses is made. Every component gets its own line of the ledger and its own log; processors are made
once per pipeline, so that what they remember over time is never mixed.

A reload wires the new file with what runs ``before`` it in hand: a component that the new file declares with the same
type and options is the same object, an exporter of the same type keeps its outbox, and lines of the ledger go on by id.
Nothing that runs is touched; that is for ``agent.reload``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.checkpoint import Checkpoint
from agent.config import Config, ConfigErrors, Declared
from agent.discover import PluginError, plugins
from agent.ledger import ExporterCounts, Ledger, PipelineCounts, ProcessorCounts, ReceiverCounts
from agent.outbox import Outbox
from agent.pipeline import DEFAULT_PROCESSOR, Emitter, Pipeline
from agent.plugin import Component, ConfigError, Context, Exporter, Processor, Receiver
from agent.settings import OutboxSettings, PipelineSettings

logger = logging.getLogger("ebbtide.wiring")


@dataclass(frozen=True, slots=True)
class Wiring:
    """All components of a file by id, connected, at rest. The ledger is of the whole run: a reload only adds lines.

    ``checkpoints`` are also of receivers that a reload has removed: their last notes may not be due yet.
    """

    config: Config
    ledger: Ledger = field(default_factory=Ledger)
    receivers: dict[str, Receiver[Any]] = field(default_factory=dict)
    emits: dict[str, Emitter] = field(default_factory=dict)
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    exporters: dict[str, Exporter[Any]] = field(default_factory=dict)
    outboxes: dict[str, Outbox] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)


def wire(
    config: Config, *, once: bool = False, now: Callable[[], int] = time.time_ns, before: Wiring | None = None
) -> Wiring:
    """Make and connect what the pipelines of ``config`` use. Raises ConfigErrors with all that constructors refuse.

    With ``before``, its unchanged components stand in the result as they are; a pipeline in which anything changed is a
    new one, and the emits of the result have yet to be told (``agent.reload``).
    """
    return _Wirer(config, once, now, before).wire()


class _Wirer:
    def __init__(self, config: Config, once: bool, now: Callable[[], int], before: Wiring | None):
        self.config = config
        self.once = once
        self.now = now
        self.before = before or Wiring(config)
        self.first = before is None
        self.wiring = Wiring(config, Ledger(**_lines(self.before.ledger)))
        self.problems: list[str] = []

    def wire(self) -> Wiring:
        pipelines = self.config.pipelines
        if self.config.agent.state_dir == self.before.config.agent.state_dir:
            self.wiring.checkpoints.update(self.before.checkpoints)
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
            emit = self.before.emits.get(name) or Emitter(receiver.counts, waits=receiver.waits)
            self.wiring.emits[name] = emit
        if self.first:
            connect(self.wiring)
        return self.wiring

    def exporter(self, declared: Declared) -> None:
        counts = self.wiring.ledger.exporters.setdefault(declared.id, ExporterCounts())
        exporter = self.kept(declared, self.before.exporters.get(declared.id)) or self.made(declared, counts)
        if isinstance(exporter, Exporter):
            outbox = self.before.outboxes.get(declared.id)
            if outbox is None or type(exporter) is not type(self.before.exporters[declared.id]):
                outbox = Outbox(exporter, declared.outbox or OutboxSettings(), counts)
            self.wiring.exporters[declared.id] = exporter
            self.wiring.outboxes[declared.id] = outbox

    def receiver(self, declared: Declared) -> None:
        counts = self.wiring.ledger.receivers.setdefault(declared.id, ReceiverCounts())
        receiver = self.kept(declared, self.before.receivers.get(declared.id)) or self.made(declared, counts)
        if isinstance(receiver, Receiver):
            self.wiring.receivers[declared.id] = receiver
            self.checkpoint(declared.id)
            if self.once and not receiver.polls:
                self.refused(declared, ConfigError("cannot be run once: it does not poll; use ebbtide run"))

    def checkpoint(self, id: str) -> None:
        """A receiver's place on disk, where there is one; the same object as before where the place is the same."""
        folder = self.config.agent.state_dir
        if folder is not None and not self.once:
            made, before = Checkpoint(Path(folder), id), self.before.checkpoints.get(id)
            self.wiring.checkpoints[id] = before if before is not None and before.path == made.path else made

    def pipeline(self, name: str, settings: PipelineSettings, default: type[Processor[Any]] | None) -> None:
        counts = self.wiring.ledger.pipelines.setdefault(name, PipelineCounts())
        old = self.before.pipelines.get(name)
        declared = [self.config.processors[processor] for processor in settings.processors]
        processors = [(one.id, self.processor(one, counts, old)) for one in declared]
        outboxes = [self.wiring.outboxes[id] for id in settings.exporters if id in self.wiring.outboxes]
        last = None
        if default is not None and all(one.type != DEFAULT_PROCESSOR for one in declared):
            last = old.default if old is not None else None
            last = last or default(None, self.context("processors", DEFAULT_PROCESSOR, ProcessorCounts()))
        new = Pipeline(counts, [(id, made) for id, made in processors if made is not None], outboxes, last)
        self.wiring.pipelines[name] = old if old is not None and old.same_as(new) else new

    def processor(self, declared: Declared, pipeline: PipelineCounts, old: Pipeline | None) -> Processor[Any] | None:
        kept = self.kept(declared, None if old is None else old.processors.get(declared.id))
        processor = kept or self.made(declared, pipeline.processors.get(declared.id, ProcessorCounts()))
        return processor if isinstance(processor, Processor) else None

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

    def kept(self, declared: Declared, running: Component[Any] | None) -> Component[Any] | None:
        """The component that runs, where the file still wants just this one."""
        known = self.before.config.of_kind(declared.kind).get(declared.id)
        return running if running is not None and known is not None and known.same_as(declared) else None

    def made(self, declared: Declared, counts: object) -> Component[Any] | None:
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


def connect(wiring: Wiring) -> None:
    """Let every receiver emit into the pipelines that name it, and keep its notes; let pipelines take their place in the ledger."""
    for name, emit in wiring.emits.items():
        pipelines = wiring.config.pipelines.items()
        emit.pipelines = tuple(wiring.pipelines[p] for p, settings in pipelines if name in settings.receivers)
        wiring.receivers[name].context.checkpoint = wiring.checkpoints.get(name)
    for name, checkpoint in wiring.checkpoints.items():
        fed = wiring.emits.get(name)
        checkpoint.mark = tuple if fed is None else fed.marks
        checkpoint.wait_only_for([*wiring.outboxes.values()] if fed is None else [outbox for outbox, _ in fed.marks()])
    for pipeline in wiring.pipelines.values():
        pipeline.take_place()


def _lines(ledger: Ledger) -> dict[str, Any]:
    """The ledger's lines in dicts of their own, so that what is wired in vain leaves none behind."""
    return {"receivers": {**ledger.receivers}, "pipelines": {**ledger.pipelines}, "exporters": {**ledger.exporters}}


def _used(lists: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))
