"""What is shipped is what ``/metrics`` says, spans keep their ids, and the libraries' complaints are folded and bare of secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent import shipping
from agent.ledger import ExporterCounts, Ledger, ReceiverCounts
from agent.meter import Meter
from agent.reload import Reloads
from agent.shipping import meter_provider, own_resource, shown
from agent.tracing import Recorder, span, switch_off, switch_on, traceparent


def test_metrics_are_those_of_the_meter() -> None:
    ledger = Ledger({"linkerd": ReceiverCounts(polls=7)}, {}, {"backend": ExporterCounts(80, 60)})
    meter, reader = Meter(ledger, {}, Reloads()), InMemoryMetricReader()
    meter_provider(meter.instruments, reader, Resource({"service.name": "x"}))
    ledger.receivers["other"] = ReceiverCounts(polls=9)  # after a reload
    data = reader.get_metrics_data()
    assert data is not None
    (of_resource,) = data.resource_metrics
    (of_scope,) = of_resource.scope_metrics
    assert of_scope.scope.name == "ebbtide"
    found = {metric.name: metric for metric in of_scope.metrics}
    assert set(found) == {one.name for one in meter.instruments if [*one.read()]}
    polls = found["ebbtide.receiver.polls"].data
    points = [point for point in polls.data_points if isinstance(point, NumberDataPoint)]
    assert {(point.attributes or {})["receiver"]: point.value for point in points} == {"linkerd": 7, "other": 9}


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "ebbtide"),
        ({"OTEL_SERVICE_NAME": "tide"}, "tide"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=sea,a=b"}, "sea"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=sea", "OTEL_SERVICE_NAME": "tide"}, "tide"),
    ],
)
def test_who_ships(environ: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    one, other = own_resource().attributes, own_resource().attributes
    assert one["service.name"] == name
    assert one["service.version"]
    assert one["service.instance.id"] != other["service.instance.id"]
    assert one.get("a") == ("b" if "a=b" in str(environ) else None)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    one = switch_on()
    yield one
    switch_off(one)


def told(recorder: Recorder) -> InMemorySpanExporter:
    memory = InMemorySpanExporter()
    teller = shipping._SpanTeller(Resource({}), SimpleSpanProcessor(memory))  # type: ignore[arg-type]
    recorder.pass_on(teller.tell, teller.sampled)
    return memory


def test_spans_keep_ids_times_parents_and_errors(recorder: Recorder) -> None:
    with (
        pytest.raises(ValueError, match="wrong"),
        span("outer", "client", exporter="x") as outer,
        span("inner") as inner,
    ):
        raise ValueError("wrong")
    by_name = {one.name: one for one in told(recorder).get_finished_spans()}  # kept until now
    for ours in (outer, inner):
        theirs = by_name[ours.name]  # type: ignore[attr-defined]
        assert theirs.context.span_id == ours.span_id  # type: ignore[attr-defined]
        assert theirs.context.trace_id == outer.trace_id  # type: ignore[attr-defined]
        assert (theirs.start_time, theirs.end_time) == (ours.began, ours.ended)  # type: ignore[attr-defined]
        assert (theirs.status.status_code.name, theirs.status.description) == ("ERROR", "wrong")
    assert by_name["outer"].attributes == {"ebbtide.exporter": "x", "error.type": "ValueError"}
    assert by_name["outer"].kind.name == "CLIENT"
    assert by_name["outer"].parent is None
    assert by_name["inner"].parent.span_id == outer.span_id  # type: ignore[attr-defined]


@pytest.mark.parametrize(("sampler", "shipped", "flags"), [("always_on", 2, "01"), ("always_off", 0, "00")])
def test_the_sampler_is_obeyed(
    recorder: Recorder, sampler: str, shipped: int, flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", f"parentbased_{sampler}")
    memory = told(recorder)
    with span("outer"), span("inner"):
        assert str(traceparent()).endswith(f"-{flags}")
    assert len(memory.get_finished_spans()) == shipped


def test_a_span_that_cannot_be_shipped_is_a_line(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    teller = shipping._SpanTeller(Resource({}), SimpleSpanProcessor(InMemorySpanExporter()))  # type: ignore[arg-type]
    recorder.pass_on(teller.tell, teller.sampled)
    with span("poll", "no such kind"):  # type: ignore[arg-type]
        pass
    assert caplog.messages == ["cannot ship a span"]


# -- what the libraries say ------------------------------------------------------------------------------------------------


class Log(logging.Handler):
    """What reaches the root's handlers, as those of ``agent.log`` are."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def written() -> Iterator[Log]:
    root, handler = logging.getLogger(), Log()
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)


@pytest.fixture
def library(written: Log) -> Iterator[shipping._LibraryLog]:
    one = shipping._LibraryLog()
    one.listen()
    yield one
    one.stop_listening()


def test_complaints_are_folded_by_signal_and_their_end_is_said(
    library: shipping._LibraryLog, written: Log, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbtide")
    exporter = logging.getLogger("opentelemetry.exporter.x")
    for number in range(10):
        for signal in ("metrics", "spans"):
            exporter.warning("cannot export %s, again in %.2fs", signal, number / 7)
            try:
                raise OSError(f"<Connection object at 0x7f{number}>: refused")
            except OSError:
                exporter.exception("failed to export %s", signal)
    library.well("metrics")
    assert [message.partition(" (")[0] for message in written.messages] == [
        "the agent's own telemetry: cannot export metrics, again in 0.00s",
        "the agent's own telemetry: failed to export metrics: OSError: <Connection object>: refused",
        "the agent's own telemetry: cannot export spans, again in 0.00s",
        "the agent's own telemetry: failed to export spans: OSError: <Connection object>: refused",
        "the agent's own metrics are taken again, after 20 complaints",
    ]
    assert all(record.exc_info is None for record in written.records)


def test_headers_are_never_shown(library: shipping._LibraryLog, written: Log) -> None:
    from opentelemetry.util.re import parse_env_headers

    parse_env_headers("authorization=Bearer s3cret\x01,s3cret", liberal=True)
    assert "OTEL_EXPORTER_OTLP_HEADERS" in str(written.messages)
    assert "s3cret" not in str(written.messages)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("to u:s3cret@127.0.0.1:9, retrying", "to ***@127.0.0.1:9, retrying"),
        ("url http://u:s3cret@h/v1", "url http://***@h/v1"),
        (ValueError("a\n   b"), "ValueError: a b"),
        ("x" * 5000, "x" * 500),
    ],
)
def test_what_is_shown(said: object, line: str) -> None:
    assert shown(said) == line


def test_nothing_is_said_while_closing(library: shipping._LibraryLog, written: Log) -> None:
    library.closing = True
    logging.getLogger("opentelemetry.x").warning("Shutdown in progress, aborting retry.")
    assert written.messages == []
