"""From receivers through processors to outboxes: one synchronous chain per pipeline, counted at every edge.

Strategy. A chain has no task, no queue and no await: what enters ``run`` has left it when it returns, so that it can
neither be cancelled half way nor overtaken. The frame counts rows in and out of each processor; what the processor
does not explain itself is booked as ``filtered``, or as ``added`` where rows grew, so the ledger balances whatever a
plugin does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import trio

from agent.batch import Batch
from agent.folded import FoldedLog
from agent.ledger import PipelineCounts, ProcessorCounts, ReceiverCounts
from agent.outbox import Outbox
from agent.plugin import Processor

logger = logging.getLogger("ebbtide.pipeline")

DEFAULT_PROCESSOR = "resource"
"""The registered processor that closes every pipeline in which none of its type is configured."""


class Stage:
    """One processor in one pipeline, with its line of the ledger."""

    def __init__(self, name: str, processor: Processor[Any], log: FoldedLog):
        self.name = name
        self.counts: ProcessorCounts = processor.counts
        self.processor = processor
        self._log = log

    @property
    def flushes(self) -> bool:
        """Whether the processor holds rows back."""
        return type(self.processor).flush is not Processor.flush

    def process(self, batch: Batch) -> Batch | None:
        """Pass a batch through the processor."""
        return self._counted(len(batch), self.processor.process, batch)

    def flush(self, now: int) -> Batch | None:
        """Return what the processor held back (``now`` in ns of wall time)."""
        return self._counted(0, self.processor.flush, now) if self.flushes else None

    def _counted(self, rows: int, step: Callable[[Any], Batch | None], given: Any) -> Batch | None:
        counts = self.counts
        counts.received += rows
        before = self._explained()
        batch, vanished = None, "filtered"
        try:
            batch = _batch_or_none(step(given))
        except Exception:  # noqa: BLE001 - a plugin's bug costs this batch, not the process
            vanished = "bug"
            self._log(logging.ERROR, self.name, "processor %s cannot process %d samples: a bug of this processor; dropped",
                      self.name, rows, bug=True)  # fmt: skip
        out = 0 if batch is None else len(batch)
        counts.out += out
        missing = rows - out - (self._explained() - before)
        if missing > 0:
            counts.dropped[vanished] += missing
        elif missing < 0:
            counts.added -= missing
        return batch

    def _explained(self) -> int:
        """Rows that went less those that came, by the processor's own account."""
        return self.counts.dropped.total() + self.counts.merged - self.counts.added


def _batch_or_none(result: object) -> Batch | None:
    if result is None or isinstance(result, Batch):
        return result if result is not None and len(result) else None
    raise TypeError(f"process returned {type(result).__name__}, not a Batch or None")


class Pipeline:
    """The processors of one pipeline in order, and the outboxes behind them.

    ``default`` closes the chain without being configured. It is shown in the ledger, as ``resource``, from the moment
    when it changes a count of rows: until then the edges around it are equal.
    """

    def __init__(
        self,
        counts: PipelineCounts,
        processors: Sequence[tuple[str, Processor[Any]]],
        outboxes: Iterable[Outbox],
        default: Processor[Any] | None = None,
    ):
        log = FoldedLog(logger)
        self.counts = counts
        self.outboxes = tuple(outboxes)
        self.processors = dict(processors)
        self.default = default
        self._stages = [Stage(name, processor, log) for name, processor in processors]
        self._default = None
        if default is not None:
            name = DEFAULT_PROCESSOR
            while name in self.processors:  # an id that is taken by a processor of another type
                name += "_default"
            self._default = Stage(name, default, log)
            self._stages.append(self._default)

    def take_place(self) -> None:
        """From now on this is the pipeline that its line of the ledger speaks of."""
        unshown = {} if self._default is None else {self._default.name: self._default.counts}
        configured = {stage.name: stage.counts for stage in self._stages if stage is not self._default}
        self.counts.chain(configured, unshown)

    def same_as(self, other: Pipeline) -> bool:
        """Whether the other one is made of the same objects."""
        mine = (self.counts, [*self.processors.items()], self.default, self.outboxes)
        return mine == (other.counts, [*other.processors.items()], other.default, other.outboxes)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The processors in order, the default among them: for who wants to look between them."""
        return tuple(self._stages)

    @property
    def flushes(self) -> bool:
        """Whether any processor holds rows back."""
        return any(stage.flushes for stage in self._stages)

    def run(self, batch: Batch) -> Batch | None:
        """Pass a batch through all processors; None where nothing is left of it."""
        self.counts.received += len(batch)
        return self._from(0, batch)

    def flush(self, now: int, staying: Collection[Processor[Any]] = ()) -> list[Batch]:
        """Return what processors held back, each passed through those behind it (``now`` in ns of wall time).

        Those that are ``staying`` in the chain that follows this one are not asked.
        """
        flushed = []
        for position, stage in enumerate(self._stages):
            held = None if stage.processor in staying else stage.flush(now)
            batch = None if held is None else self._from(position + 1, held)
            if batch is not None:
                flushed.append(batch)
        return flushed

    def _from(self, position: int, batch: Batch) -> Batch | None:
        result: Batch | None = batch
        for stage in self._stages[position:]:
            if result is None:
                break
            result = stage.process(result)
        self._show_default()
        self.counts.out += 0 if result is None else len(result)
        return result

    def _show_default(self) -> None:
        default = self._default
        if default is not None and default.counts.out != default.counts.received:
            self.counts.show(default.name, default.counts)


class Emitter:
    """The ``emit`` of one receiver: through its pipelines (a reload may exchange them), then into every outbox.

    ``waits``: the receiver sees "block" whatever is set. Cancellation does not interrupt it, so that what a receiver
    counted before it emitted arrives; the receiver meets it at its own next checkpoint.
    """

    def __init__(self, counts: ReceiverCounts, pipelines: Sequence[Pipeline] = (), *, waits: bool = False):
        self.pipelines = tuple(pipelines)
        self._counts = counts
        self._waits = waits

    async def __call__(self, batch: Batch) -> None:
        """Return once every outbox has custody of the batch."""
        if len(batch):
            self._counts.out += len(batch)
            results = [(pipeline, pipeline.run(batch)) for pipeline in self.pipelines]
            await deliver(((p, result) for p, result in results if result is not None), waits=self._waits)
        await trio.lowlevel.cancel_shielded_checkpoint()

    def marks(self) -> tuple[tuple[Outbox, int], ...]:
        """Return up to which batch each outbox has taken custody of what was emitted."""
        outboxes = dict.fromkeys(outbox for pipeline in self.pipelines for outbox in pipeline.outboxes)
        return tuple((outbox, outbox.batches) for outbox in outboxes)


async def deliver(batches: Iterable[tuple[Pipeline, Batch]], *, waits: bool = False) -> None:
    """Hand batches to the outboxes of their pipelines: at once to those that never wait, then to the others together.

    All have custody before anything is awaited, so that an outbox that closes meanwhile knows what it still has to send.
    """
    waiting = []
    for pipeline, batch in batches:
        for outbox in pipeline.outboxes:
            if waits or outbox.blocks:
                waiting.append((outbox, outbox.take(batch)))
            else:
                outbox.put(batch)
    if len(waiting) == 1:
        await waiting[0][0].admit(waiting[0][1])
    elif waiting:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for outbox, payloads in waiting:
                    nursery.start_soon(outbox.admit, payloads)
