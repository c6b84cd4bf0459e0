"""Self-telemetry: what can be measured of the agent, and how each number is read when somebody asks.

Strategy. An instrument is a name, its labels and a function that reads plain numbers which are there anyway: nothing on
the hot path knows of it. ``render`` writes them all for Prometheus; ``agent.shipping`` gives the same list to the
OpenTelemetry SDK, which is imported there and only where somebody ships. Components come and go with a reload, and the
SDK reads in a thread of its own: so every mapping is read live, and copied (``list``) before it is walked.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

import trio

from agent import log
from agent.ledger import ExporterCounts, Ledger, ProcessorCounts
from agent.metrics_text import render

Reading = tuple[float, tuple[str, ...]]
"""A value, and the values of the instrument's labels."""

Clock = Callable[[], float]

C = TypeVar("C")


class Queue(Protocol):
    """What is asked of an outbox."""

    @property
    def bytes(self) -> int:
        """Bytes that it holds."""
        ...

    @property
    def max_bytes(self) -> int:
        """Bytes that it may hold."""
        ...

    @property
    def oldest(self) -> float:
        """When what waits longest came in, in trio's time; infinity where nothing waits."""
        ...


class Reloads(Protocol):
    """How often the file was read anew, how often in vain, whether the last time went well, and when one last did."""

    done: int
    failed: int
    well: bool
    last: int  # ns of wall time; 0: never


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric: OpenTelemetry's name and unit, help, labels, and how it is read. ``counter``: it only grows."""

    name: str
    unit: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Iterable[Reading]]
    counter: bool = False


class Meter:
    """All instruments of one run; ``render`` gives them as Prometheus text. Make it inside the trio loop it measures."""

    def __init__(self, ledger: Ledger, queues: Mapping[str, Queue], reloads: Reloads):
        self.instruments = (
            *_receiver_instruments(ledger),
            *_pipeline_instruments(ledger),
            *_exporter_instruments(ledger),
            *_queue_instruments(queues, _loop_clock()),
            *_agent_instruments(reloads),
            *_process_instruments(),
        )

    def render(self) -> str:
        """Read all instruments and return them in Prometheus' text format 0.0.4."""
        return render(self.instruments)


def _loop_clock() -> Clock:
    """Return the loop's clock in a form that any thread may read: both run alike, from different epochs."""
    try:
        ahead = trio.current_time() - time.monotonic()
    except RuntimeError:  # no loop: a test, or somebody who only wants the names
        ahead = 0.0
    return lambda: time.monotonic() + ahead


@dataclass(frozen=True, slots=True)
class _Group(Iterable[Instrument]):
    """Makes the instruments of one kind of component: each reads all components of that kind."""

    prefix: str
    labels: tuple[str, ...]
    components: Callable[[], list[tuple[tuple[str, ...], Any]]]
    made: list[Instrument] = field(default_factory=list)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self.made)

    def counter(self, name: str, unit: str, help: str, read: Callable[[Any], float]) -> None:
        self._add(name, unit, help, read, counter=True)

    def gauge(self, name: str, unit: str, help: str, read: Callable[[Any], float | None]) -> None:
        """Nothing is said of a component that has none (None)."""
        self._add(name, unit, help, read, counter=False)

    def _add(self, name: str, unit: str, help: str, read: Callable[[Any], float | None], *, counter: bool) -> None:
        def readings() -> list[Reading]:
            return [(value, values) for values, one in self.components() if (value := read(one)) is not None]

        self.made.append(Instrument(f"ebbtide.{self.prefix}.{name}", unit, help, self.labels, readings, counter))

    def counters(self, name: str, unit: str, help: str, label: str, read: Callable[[Any], Mapping[str, int]]) -> None:
        """One more label, whose values are the keys of what ``read`` returns."""

        def readings() -> list[Reading]:
            return [(n, (*values, key)) for values, one in self.components() for key, n in list(read(one).items())]

        name = f"ebbtide.{self.prefix}.{name}"
        self.made.append(Instrument(name, unit, help, (*self.labels, label), readings, True))

    def moment(self, name: str, help: str, read: Callable[[Any], float]) -> None:
        """A point in Unix time; nothing is said of one that never was (0)."""

        def readings() -> list[Reading]:
            return [(at, values) for values, one in self.components() if (at := read(one))]

        name = f"ebbtide.{self.prefix}.{name}.timestamp"
        self.made.append(Instrument(name, "s", help, self.labels, readings))


def _each(components: Mapping[str, C]) -> Callable[[], list[tuple[tuple[str, ...], C]]]:
    return lambda: [((name,), one) for name, one in list(components.items())]


def _receiver_instruments(ledger: Ledger) -> Iterable[Instrument]:
    group = _Group("receiver", ("receiver",), _each(ledger.receivers))
    group.counter("polls", "{poll}", "Exchanges with the source.", lambda c: c.polls)
    group.counter("failed_polls", "{poll}", "Exchanges that failed.", lambda c: c.failed_polls)
    group.counter("poll_duration", "s", "Time that all polls took, failed ones included.", lambda c: c.poll_seconds)
    group.moment("last_success", "When a poll last went well, in Unix time.", lambda c: c.last_success)
    group.moment(
        "read_until", "Up to when a source that keeps a history has been read, in Unix time.", lambda c: c.read_until
    )
    group.gauge("targets", "{target}", "Targets that are polled.", lambda c: c.targets)
    group.counter("backfilled_samples", "{sample}", "Samples that filled a hole.", lambda c: c.backfilled)
    group.counter("samples", "{sample}", "Samples that were scraped.", lambda c: c.samples)
    group.counter("out_samples", "{sample}", "Samples that were handed to pipelines.", lambda c: c.out)
    group.counters("added_samples", "{sample}", "Samples that the receiver itself added.", "kind", lambda c: c.added)
    group.counters("dropped_samples", "{sample}", "Samples that were dropped.", "reason", lambda c: c.dropped)
    return group


def _pipeline_instruments(ledger: Ledger) -> Iterable[Instrument]:
    def stages() -> list[tuple[tuple[str, ...], ProcessorCounts]]:
        return [
            ((pipeline, name), stage)
            for pipeline, counts in list(ledger.pipelines.items())
            for name, stage in list(counts.processors.items())
        ]

    group = _Group("pipeline", ("pipeline",), _each(ledger.pipelines))
    group.counter("in_samples", "{sample}", "Samples that came from the pipeline's receivers.", lambda c: c.received)
    group.counter("out_samples", "{sample}", "Samples that left for the pipeline's exporters.", lambda c: c.out)
    yield from group
    group = _Group("processor", ("pipeline", "processor"), stages)
    group.counter("in_samples", "{sample}", "Samples that came in.", lambda c: c.received)
    group.counter("out_samples", "{sample}", "Samples that went on.", lambda c: c.out)
    group.counter("added_samples", "{sample}", "Samples that the processor made.", lambda c: c.added)
    group.counter("merged_samples", "{sample}", "Samples that went into others.", lambda c: c.merged)
    group.counters("dropped_samples", "{sample}", "Samples that were dropped.", "reason", lambda c: c.dropped)
    yield from group


def _exporter_instruments(ledger: Ledger) -> Iterable[Instrument]:
    def held(counts: ExporterCounts) -> int:
        return counts.held()

    group = _Group("exporter", ("exporter",), _each(ledger.exporters))
    group.counter("in_samples", "{sample}", "Samples taken into custody.", lambda c: c.received)
    group.counter("restored_samples", "{sample}", "Samples found in the queue at start.", lambda c: c.restored)
    group.counter("sent_samples", "{sample}", "Samples that the destination took.", lambda c: c.sent)
    group.gauge("held_samples", "{sample}", "Samples that wait or are in flight.", held)
    group.counters("dropped_samples", "{sample}", "Samples that were dropped.", "reason", lambda c: c.dropped)
    group.counter("sent_points", "{point}", "OTLP points that the destination took.", lambda c: c.points_sent)
    group.counter("rejected_points", "{point}", "OTLP points that the destination refused in requests it took.",
                  lambda c: c.rejected_points)  # fmt: skip
    group.counter("requests", "{request}", "Attempts to send.", lambda c: c.requests)
    group.counter("retries", "{request}", "Attempts after the first.", lambda c: c.retries)
    group.counter("send_duration", "s", "Time that all attempts took, failed ones included.", lambda c: c.send_seconds)
    group.moment("last_success", "When the destination last took a request, in Unix time.", lambda c: c.last_success)
    return group


def _queue_instruments(queues: Mapping[str, Queue], clock: Clock) -> Iterable[Instrument]:
    group = _Group("exporter", ("exporter",), _each(queues))
    group.gauge("queue", "By", "Bytes that wait or are in flight.", lambda queue: queue.bytes)
    group.gauge("queue_limit", "By", "Bytes that may wait (queue.max_bytes).", lambda queue: queue.max_bytes)
    group.gauge("queue_age", "s", "How long the oldest of what waits has waited; 0 where nothing does.",
                lambda queue: max(clock() - queue.oldest, 0.0))  # fmt: skip
    return group


def _agent_instruments(reloads: Reloads) -> Iterator[Instrument]:
    def one(value: Callable[[], float]) -> Callable[[], list[Reading]]:
        return lambda: [(value(), ())]

    yield Instrument("ebbtide.build_info", "", "1, with the version that runs as labels.", ("version", "python"),
                     lambda: [(1, _build())])  # fmt: skip
    yield Instrument("ebbtide.config.reloads", "{reload}", "Reloads that were applied, and that changed nothing.",
                     ("result",), lambda: [(reloads.done, ("applied",)), (reloads.failed, ("refused",))], True)  # fmt: skip
    yield Instrument("ebbtide.config.last_reload_successful", "", "1 if the last reload was applied, or there was none; else 0.",
                     (), one(lambda: int(reloads.well)))  # fmt: skip
    yield Instrument("ebbtide.config.last_reload.timestamp", "s", "When a reload was last applied, in Unix time.",
                     (), lambda: [(reloads.last / 1e9, ())] if reloads.last else [])  # fmt: skip
    yield Instrument("ebbtide.log.lost_lines", "{line}", "Log lines that could not be written: nobody reads stderr, or the disk is full.",
                     (), one(lambda: log.losses.lines), True)  # fmt: skip


def _process_instruments() -> Iterator[Instrument]:
    started, began = time.time(), time.monotonic()

    def none_or_one(value: Callable[[], float | None]) -> Callable[[], list[Reading]]:
        return lambda: [(number, ())] if (number := value()) is not None else []

    yield Instrument("ebbtide.uptime", "s", "Time since the agent started.", (),
                     none_or_one(lambda: time.monotonic() - began))  # fmt: skip
    yield Instrument("ebbtide.process.start_time", "s", "When the agent started, in Unix time.", (),
                     none_or_one(lambda: started))  # fmt: skip
    yield Instrument("ebbtide.process.cpu", "s", "CPU time of the process.", (),
                     none_or_one(time.process_time), True)  # fmt: skip
    yield Instrument("ebbtide.process.resident_memory", "By", "Resident memory of the process.", (),
                     none_or_one(_resident_memory))  # fmt: skip
    yield Instrument("ebbtide.process.open_fds", "", "Open file descriptors.", (), none_or_one(_open_files))
    yield Instrument("ebbtide.process.max_fds", "", "File descriptors that may be open.", (),
                     none_or_one(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0]))  # fmt: skip


@cache
def _build() -> tuple[str, str]:
    return version("ebbtide"), ".".join(map(str, sys.version_info[:3]))


def _resident_memory() -> int | None:
    """Bytes of resident memory; None where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _open_files() -> int | None:
    """Open file descriptors; None where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # one is that of the listing itself
    except OSError:
        return None
