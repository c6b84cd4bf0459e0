"""Shipping the agent's own metrics and spans by OTLP, with OpenTelemetry's SDK and its exporters.

Strategy. This is the one module that imports the SDK; only ``agent.telemetry`` imports it, late. Metrics are collected
by the SDK in a thread of its own, from the instruments of ``agent.meter``. Spans come as plain records that have ended
(``agent.tracing``) and are told to the SDK with their own ids and times. Endpoints, headers, TLS, compression, intervals,
samplers, resource attributes: the SDK reads those variables itself. What it has to say is folded into our log.
"""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from agent.folded import FoldedLog
from agent.meter import Instrument
from agent.tracing import Recorder, Span

if TYPE_CHECKING:
    from agent.telemetry import Signal, Wanted

logger = logging.getLogger("ebbtide.telemetry")

SCOPE = "ebbtide"

_LIBRARIES = ("opentelemetry", "urllib3")  # those that nothing but the shipping uses
_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "producer": SpanKind.PRODUCER}
_HEADERS_LOGGER = "opentelemetry.util.re"
_BAD_HEADER = "an entry of OTEL_EXPORTER_OTLP_HEADERS cannot be read and is left out; write name=value, URL-encoded"
_SIGNALS = {"metric": "metrics", "trace": "traces", "span": "traces"}
_USERINFO = re.compile(r"[^\s/@:]+:[^\s/@]*@(?=[^\s@])")  # a password may stand in an endpoint; libraries show it
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_MOST_CHARACTERS = 500
_JOIN_MILLIS = 800  # how long the SDK waits for its own thread: less than anybody waits for us


class Shipping:
    """What the environment asked for, running. A signal that cannot be shipped is said, and does not stop the other."""

    def __init__(self, wanted: Wanted, instruments: Iterable[Instrument]):
        self._said = _LibraryLog()
        self._said.listen()
        self._closers: list[Callable[[], None]] = []
        self._tracing: _SpanTeller | None = None
        self._resource = own_resource()
        ship: dict[Signal, Callable[[], None]] = {
            "metrics": lambda: self._ship_metrics(wanted, instruments),
            "traces": lambda: self._ship_traces(wanted),
        }
        for signal, protocol in wanted.protocols.items():
            try:
                ship[signal]()
            except Exception as error:  # noqa: BLE001 - whatever the libraries make of bad variables
                logger.warning("cannot ship the agent's own %s: %s; it goes on without", signal, shown(error))
            else:
                logger.info("ships the agent's own %s by %s", signal, protocol)

    def pass_on(self, recorder: Recorder) -> None:
        """Let the recorder's spans be shipped, those it kept first."""
        if self._tracing is not None:
            recorder.pass_on(self._tracing.tell, self._tracing.sampled)

    def close(self) -> None:
        """Ship what is left. Blocks for many seconds where the destination is dead: call it where it may be left behind."""
        self._said.closing = True
        threads = [threading.Thread(target=close, daemon=True) for close in self._closers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._said.stop_listening()

    def _ship_metrics(self, wanted: Wanted, instruments: Iterable[Instrument]) -> None:
        exporter = self._watched("metrics", _metric_exporter(wanted), MetricExportResult.SUCCESS)
        reader = PeriodicExportingMetricReader(exporter)
        provider = meter_provider(instruments, reader, self._resource)
        self._closers.append(lambda: provider.shutdown(timeout_millis=_JOIN_MILLIS))

    def _ship_traces(self, wanted: Wanted) -> None:
        exporter = self._watched("traces", _span_exporter(wanted), SpanExportResult.SUCCESS)
        self._tracing = _SpanTeller(self._resource, BatchSpanProcessor(exporter))
        self._closers.append(self._tracing.close)

    def _watched(self, signal: Signal, exporter: Any, success: object) -> Any:
        """Let the log know when an export succeeds, so that it says when a failure is over."""
        export = exporter.export

        def watched(*args: Any, **options: Any) -> Any:
            result = export(*args, **options)
            if result is success:
                self._said.well(signal)
            return result

        exporter.export = watched
        return exporter


def own_resource() -> Resource:
    """Return who ships: ``ebbtide``, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise."""
    own = {"service.name": SCOPE, "service.version": version("ebbtide"), "service.instance.id": str(uuid.uuid4())}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _metric_exporter(wanted: Wanted) -> MetricExporter:
    timeout = wanted.timeouts["metrics"]
    if wanted.protocols["metrics"] == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as ByGrpc

        return ByGrpc(timeout=timeout)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as ByHttp

    return ByHttp(timeout=timeout)


def _span_exporter(wanted: Wanted) -> SpanExporter:
    timeout = wanted.timeouts["traces"]
    if wanted.protocols["traces"] == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as ByGrpc

        return ByGrpc(timeout=timeout)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as ByHttp

    return ByHttp(timeout=timeout)


# -- metrics -------------------------------------------------------------------------------------------------------------


def meter_provider(instruments: Iterable[Instrument], reader: Any, resource: Resource) -> MeterProvider:
    """Return a provider with all instruments registered, which ``reader`` collects."""
    provider = MeterProvider(metric_readers=[reader], resource=resource, shutdown_on_exit=False)
    meter = provider.get_meter(SCOPE, version("ebbtide"))
    for one in instruments:
        create = meter.create_observable_counter if one.counter else meter.create_observable_gauge
        create(one.name, [_observer(one)], one.unit, one.help)
    return provider


def _observer(instrument: Instrument) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for value, labels in instrument.read():
            yield Observation(value, dict(zip(instrument.labels, labels, strict=True)))

    return observe


# -- spans ---------------------------------------------------------------------------------------------------------------


class _GivenIds(IdGenerator):
    """Gives the ids that the record has already."""

    span: Span

    def generate_span_id(self) -> int:
        return self.span.span_id

    def generate_trace_id(self) -> int:
        return self.span.trace_id


class _SpanTeller:
    """Tells the SDK of spans that have ended. Used from the loop's thread alone."""

    def __init__(self, resource: Resource, processor: BatchSpanProcessor):
        self._ids = _GivenIds()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SCOPE, version("ebbtide"))
        self._log = FoldedLog(logger)
        self.close = self._provider.shutdown

    def tell(self, span: Span) -> None:
        """Hand one span over; never raises, never waits."""
        try:
            self._ids.span = span
            told = self._tracer.start_span(
                span.name, self._parent(span), _KINDS[span.kind], span.named_attributes(), start_time=span.began
            )
            if span.error is not None:
                told.set_status(Status(StatusCode.ERROR, span.error[1]))
            told.end(span.ended)
        except Exception:  # noqa: BLE001 - the work that the span is about must go on
            self._log(logging.WARNING, "span", "cannot ship a span", bug=True)

    def sampled(self, span: Span) -> bool:
        """Tell whether the sampler takes this span; by its ids alone, so that the answer is the same when it ends."""
        result = self._provider.sampler.should_sample(self._parent(span), span.trace_id, span.name)
        return bool(result.decision.is_sampled())  # type: ignore[no-untyped-call]

    def _parent(self, span: Span) -> Context:
        if span.parent is None:
            return Context()
        flags = TraceFlags(TraceFlags.SAMPLED if self.sampled(span.parent) else TraceFlags.DEFAULT)
        parent = SpanContext(span.parent.trace_id, span.parent.span_id, is_remote=False, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(parent), Context())


# -- what the libraries say ------------------------------------------------------------------------------------------------


class _LibraryLog(logging.Handler):
    """Takes what the libraries log, and folds it into ours by signal. Handlers are locked, so any thread may log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = FoldedLog(logger)
        self.closing = False  # what is cut short then is no news

    def listen(self) -> None:
        """Take the libraries' records from the handlers that would write them at length."""
        for name in _LIBRARIES:
            library = logging.getLogger(name)
            library.addHandler(self)
            library.propagate = False

    def stop_listening(self) -> None:
        """Give them back, at their level of urgency: nothing more is expected."""
        for name in _LIBRARIES:
            library = logging.getLogger(name)
            library.removeHandler(self)
            library.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        if self.closing:
            return
        if record.name == _HEADERS_LOGGER:  # its records hold the header, and so the secret
            self._log(logging.WARNING, "headers", "the agent's own telemetry: %s", _BAD_HEADER)
            return
        text = record.getMessage()
        signal = next((signal for word, signal in _SIGNALS.items() if word in text.lower()), "telemetry")
        message, args = (str(record.msg), record.args) if isinstance(record.args, tuple) else ("%s", (text,))
        if record.exc_info and record.exc_info[1] is not None:
            message, args = f"{message}: %s", (*args, record.exc_info[1])
        shown_args = (arg if isinstance(arg, int | float) else shown(arg) for arg in args)
        self._log(logging.WARNING, signal, "the agent's own telemetry: " + message, *shown_args)

    def well(self, signal: Signal) -> None:
        """An export has succeeded."""
        with self.lock:  # type: ignore[union-attr]
            self._log.recovered(signal, "the agent's own %s are taken again, after %d complaints", signal)


def shown(what: object) -> str:
    """Return what a library says on one line, bounded, without passwords, and without what differs each time."""
    text = f"{type(what).__name__}: {what}" if isinstance(what, Exception) else str(what)
    return _USERINFO.sub("***@", _ADDRESS.sub("", " ".join(text.split())))[:_MOST_CHARACTERS]
