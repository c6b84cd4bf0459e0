"""Self-telemetry: the ledger's integers as OpenTelemetry instruments, read when somebody asks.

Strategy. Every instrument is observable: its callback reads integers that are there anyway, so nothing on the hot path
knows of the SDK. ``/metrics`` renders what an in-memory reader collects; a reader that ships by OTLP is one more
element of ``readers``. The SDK is imported with this module, so import it only where somebody will ask.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.metrics import Meter as SdkMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.resources import Resource

from agent.ledger import ExporterCounts, Ledger, ProcessorCounts, ReceiverCounts
from agent.metrics_text import render

SCOPE = "ebbtide"

Labels = dict[str, str]
Reading = tuple[float, Labels]


class Queue(Protocol):
    """What is asked of an outbox."""

    @property
    def bytes(self) -> int:
        """Bytes that it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric: its OpenTelemetry name, what it counts in, its help, and how it is read."""

    name: str
    unit: str
    help: str
    read: Callable[[], Iterable[Reading]]
    gauge: bool = False


class Meter:
    """The instruments of one run; ``render`` gives them as Prometheus text."""

    def __init__(self, ledger: Ledger, queues: Mapping[str, Queue], readers: Sequence[MetricReader] = ()):
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider(
            metric_readers=[self._reader, *readers],
            resource=Resource.create({"service.name": SCOPE}),
            shutdown_on_exit=False,
        )
        meter = self.provider.get_meter(SCOPE)
        for instrument in (*ledger_instruments(ledger), *queue_instruments(queues), *process_instruments()):
            _register(meter, instrument)

    def render(self) -> str:
        """Read all instruments and return them in Prometheus' text format 0.0.4."""
        return render(self._reader.get_metrics_data())


def _register(meter: SdkMeter, instrument: Instrument) -> None:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for value, labels in instrument.read():
            yield Observation(value, labels)

    create = meter.create_observable_gauge if instrument.gauge else meter.create_observable_counter
    create(instrument.name, [observe], instrument.unit, instrument.help)


def ledger_instruments(ledger: Ledger) -> Iterator[Instrument]:
    """Every number of the ledger."""
    yield from _receiver_instruments(ledger.receivers)
    yield Instrument("ebbtide.pipeline.in_samples", "{sample}", "Samples that came from the pipeline's receivers.",
                     lambda: [(c.received, {"pipeline": name}) for name, c in ledger.pipelines.items()])  # fmt: skip
    yield Instrument("ebbtide.pipeline.out_samples", "{sample}", "Samples that left for the pipeline's exporters.",
                     lambda: [(c.out, {"pipeline": name}) for name, c in ledger.pipelines.items()])  # fmt: skip
    yield from _processor_instruments(ledger)
    yield from _exporter_instruments(ledger.exporters)


def _receiver_instruments(receivers: Mapping[str, ReceiverCounts]) -> Iterator[Instrument]:
    def each(read: Callable[[ReceiverCounts], int]) -> Callable[[], Iterable[Reading]]:
        return lambda: [(read(counts), {"receiver": name}) for name, counts in receivers.items()]

    prefix = "ebbtide.receiver."
    yield Instrument(f"{prefix}polls", "{poll}", "Exchanges with the source.", each(lambda c: c.polls))
    yield Instrument(f"{prefix}failed_polls", "{poll}", "Exchanges that failed.", each(lambda c: c.failed_polls))
    yield Instrument(f"{prefix}samples", "{sample}", "Samples that were scraped.", each(lambda c: c.samples))
    yield Instrument(
        f"{prefix}out_samples", "{sample}", "Samples that were handed to pipelines.", each(lambda c: c.out)
    )
    yield Instrument(f"{prefix}added_samples", "{sample}", "Samples that the receiver itself added, by kind.",
                     lambda: [(n, {"receiver": name, "kind": kind})
                              for name, c in receivers.items() for kind, n in c.added.items()])  # fmt: skip
    yield Instrument(f"{prefix}dropped_samples", "{sample}", "Samples that were dropped, by reason.",
                     lambda: [(n, {"receiver": name, "reason": reason})
                              for name, c in receivers.items() for reason, n in c.dropped.items()])  # fmt: skip


def _processor_instruments(ledger: Ledger) -> Iterator[Instrument]:
    def all_counts() -> Iterator[tuple[ProcessorCounts, Labels]]:
        for pipeline, counts in ledger.pipelines.items():
            for name, stage in counts.processors.items():
                yield stage, {"pipeline": pipeline, "processor": name}

    def each(read: Callable[[ProcessorCounts], int]) -> Callable[[], Iterable[Reading]]:
        return lambda: [(read(counts), labels) for counts, labels in all_counts()]

    prefix = "ebbtide.processor."
    yield Instrument(f"{prefix}in_samples", "{sample}", "Samples that came in.", each(lambda c: c.received))
    yield Instrument(f"{prefix}out_samples", "{sample}", "Samples that went on.", each(lambda c: c.out))
    yield Instrument(f"{prefix}added_samples", "{sample}", "Samples that the processor made.", each(lambda c: c.added))
    yield Instrument(f"{prefix}merged_samples", "{sample}", "Samples that went into others.", each(lambda c: c.merged))
    yield Instrument(f"{prefix}dropped_samples", "{sample}", "Samples that were dropped, by reason.",
                     lambda: [(n, {**labels, "reason": reason})
                              for c, labels in all_counts() for reason, n in c.dropped.items()])  # fmt: skip


def _exporter_instruments(exporters: Mapping[str, ExporterCounts]) -> Iterator[Instrument]:
    def each(read: Callable[[ExporterCounts], int]) -> Callable[[], Iterable[Reading]]:
        return lambda: [(read(counts), {"exporter": name}) for name, counts in exporters.items()]

    prefix = "ebbtide.exporter."
    yield Instrument(f"{prefix}in_samples", "{sample}", "Samples taken into custody.", each(lambda c: c.received))
    yield Instrument(
        f"{prefix}restored_samples", "{sample}", "Samples found in the queue at start.", each(lambda c: c.restored)
    )
    yield Instrument(f"{prefix}sent_samples", "{sample}", "Samples that the destination took.", each(lambda c: c.sent))
    yield Instrument(
        f"{prefix}held_samples", "{sample}", "Samples that wait or are in flight.", each(lambda c: c.held()), True
    )
    yield Instrument(f"{prefix}dropped_samples", "{sample}", "Samples that were dropped, by reason.",
                     lambda: [(n, {"exporter": name, "reason": reason})
                              for name, c in exporters.items() for reason, n in c.dropped.items()])  # fmt: skip
    yield Instrument(f"{prefix}sent_points", "{point}", "OTLP points that were taken.", each(lambda c: c.points_sent))
    yield Instrument(f"{prefix}rejected_points", "{point}", "OTLP points that the destination refused in requests it took.",
                     each(lambda c: c.rejected_points))  # fmt: skip
    yield Instrument(f"{prefix}retries", "{request}", "Attempts after the first.", each(lambda c: c.retries))
    yield Instrument(f"{prefix}requests", "{request}", "Attempts to send.", each(lambda c: c.requests))


def queue_instruments(queues: Mapping[str, Queue]) -> Iterator[Instrument]:
    """What outboxes hold."""
    yield Instrument("ebbtide.exporter.queue", "By", "Bytes that wait or are in flight.",
                     lambda: [(queue.bytes, {"exporter": name}) for name, queue in queues.items()], True)  # fmt: skip


def process_instruments() -> Iterator[Instrument]:
    """The process itself."""
    started = time.monotonic()
    yield Instrument("ebbtide.uptime", "s", "Time since the agent started.",
                     lambda: [(time.monotonic() - started, {})], True)  # fmt: skip
    yield Instrument("ebbtide.process.cpu", "s", "CPU time of the process.", lambda: [(time.process_time(), {})])
    yield Instrument("ebbtide.process.resident_memory", "By", "Resident memory of the process.",
                     lambda: [(size, {}) for size in _resident_memory()], True)  # fmt: skip


def _resident_memory() -> list[int]:
    """Bytes of resident memory; nothing where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return [int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")]
    except (OSError, ValueError, IndexError):
        return []
