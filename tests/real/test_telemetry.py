"""The agent's own telemetry, shipped: to a destination made of opentelemetry-proto and grpcio, and to a dead one."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

from tests.real.judge import Judge
from tests.real.processes import Agent, environment
from tests.real.prometheus import REQUIRED, find_prometheus
from tests.real.servers import HttpServer, Reply
from tests.real.test_life import Counting, pipeline
from tests.real.waiting import free_port, until

ROOT = Path(__file__).resolve().parents[2]
SOON = {"OTEL_METRIC_EXPORT_INTERVAL": "200", "OTEL_BSP_SCHEDULE_DELAY": "200"}
BOTH = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "otlp"}


class Watcher(metrics_grpc.MetricsServiceServicer, trace_grpc.TraceServiceServicer):
    """Takes metrics and spans by gRPC and by HTTP, each at a port of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metrics: list[Any] = []
        self._spans: list[Any] = []
        self._grpc = grpc.server(ThreadPoolExecutor(4))
        metrics_grpc.add_MetricsServiceServicer_to_server(self, self._grpc)  # type: ignore[no-untyped-call]
        trace_grpc.add_TraceServiceServicer_to_server(self, self._grpc)  # type: ignore[no-untyped-call]
        self._endpoints = {"grpc": f"http://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"}
        self._grpc.start()
        self._http = HttpServer(self._answer)
        self._endpoints["http/protobuf"] = self._http.url

    def close(self) -> None:
        self._grpc.stop(0).wait(10)
        self._http.close()

    def variables(self, protocol: str) -> dict[str, str]:
        """What the environment says to have it all sent here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self._endpoints[protocol], "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._keep(request)

    def _answer(self, handler: Any) -> Reply:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        kind = {
            "/v1/metrics": metrics_pb2.ExportMetricsServiceRequest,
            "/v1/traces": trace_pb2.ExportTraceServiceRequest,
        }[handler.path]
        answer = self._keep(kind.FromString(body))
        return Reply(200, answer.SerializeToString(), {"Content-Type": "application/x-protobuf"})

    def _keep(self, request: Any) -> Any:
        with self._lock:
            if isinstance(request, metrics_pb2.ExportMetricsServiceRequest):
                self._metrics.append(request)
                return metrics_pb2.ExportMetricsServiceResponse()
            self._spans.append(request)
            return trace_pb2.ExportTraceServiceResponse()

    @property
    def requests(self) -> list[Any]:
        with self._lock:
            return [*self._metrics, *self._spans]

    def metrics(self) -> dict[str, Any]:
        """The newest of each metric by name."""
        with self._lock:
            return {m.name: m for one in self._metrics for r in one.resource_metrics for s in r.scope_metrics for m in s.metrics}  # fmt: skip

    def spans(self, name: str) -> list[Any]:
        with self._lock:
            return [span for one in self._spans for r in one.resource_spans for s in r.scope_spans for span in s.spans if span.name == name]  # fmt: skip

    def resources(self) -> list[dict[str, Any]]:
        """The resource of every request."""
        found = []
        for one in self.requests:
            for part in getattr(one, "resource_metrics", None) or getattr(one, "resource_spans", ()):
                found.append(attributes(part.resource))
        return found


def attributes(what: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in what.attributes}


def value(metric: Any, **labels: str) -> float:
    """The value of one series of a metric."""
    data = getattr(metric, metric.WhichOneof("data"))
    (point,) = [point for point in data.data_points if attributes(point) == labels]
    return point.as_double if point.WhichOneof("value") == "as_double" else float(point.as_int)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    one = Watcher()
    yield one
    one.close()


@pytest.fixture
def counting() -> Iterator[Counting]:
    source = Counting()
    with source.server:
        yield source


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_metrics_and_spans_arrive(protocol: str, watcher: Watcher, counting: Counting, tmp_path: Path) -> None:
    service = {"OTEL_SERVICE_NAME": "tide", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    env = environment(**SOON, **BOTH, **service, **watcher.variables(protocol))
    with (
        Judge("http/protobuf") as judge,
        Agent(tmp_path, pipeline(counting.server.url, judge.endpoint, "http/protobuf"), env=env) as agent,
    ):
        until(lambda: len(watcher.spans("send")) >= 3 and len(watcher.spans("poll")) >= 3, "spans")
        until(lambda: "ebbtide.exporter.sent_samples" in watcher.metrics(), "metrics")
        assert agent.stop() == 0, agent.stderr
    said = agent.stderr
    assert f"ships the agent's own metrics by {protocol}" in said
    assert f"ships the agent's own traces by {protocol}" in said
    assert "Traceback" not in said

    polls = watcher.spans("poll")
    first = min(polls, key=lambda span: span.start_time_unix_nano)
    assert attributes(first) == {"ebbtide.receiver": "linkerd", "ebbtide.samples": 200, "ebbtide.out": 205}
    assert len({span.trace_id for span in polls}) == len(polls)
    assert all(span.end_time_unix_nano > span.start_time_unix_nano for span in polls)
    sends = [attributes(span) for span in watcher.spans("send")]
    assert {one["ebbtide.exporter"] for one in sends} == {"judge"}
    assert sum(one["ebbtide.samples"] for one in sends) > 0
    assert all(span.status.code == 0 for span in (*polls, *watcher.spans("send")))

    # Shipped last of all, after the drain: the last numbers are those of the end.
    metrics = watcher.metrics()
    assert value(metrics["ebbtide.receiver.polls"], receiver="linkerd") >= len(polls) - 1
    assert value(metrics["ebbtide.exporter.held_samples"], exporter="judge") == 0
    sent = value(metrics["ebbtide.exporter.sent_samples"], exporter="judge")
    assert sent == value(metrics["ebbtide.exporter.in_samples"], exporter="judge") > 0
    assert metrics["ebbtide.exporter.sent_samples"].sum.is_monotonic
    for resource in watcher.resources():
        assert resource["service.name"] == "tide"
        assert resource["deployment.environment.name"] == "test"
        assert resource["service.instance.id"]


def test_failures_are_seen_in_spans(watcher: Watcher, counting: Counting, tmp_path: Path) -> None:
    env = environment(**SOON, OTEL_TRACES_EXPORTER="otlp", **watcher.variables("http/protobuf"))
    with Judge("http/protobuf") as judge:
        judge.behaviour = "503"
        with Agent(tmp_path, pipeline("http://127.0.0.1:9", judge.endpoint, "http/protobuf"), env=env):
            until(lambda: watcher.spans("poll") and watcher.spans("send"), "spans")
    poll, send = watcher.spans("poll")[0], watcher.spans("send")[0]
    assert (poll.status.code, attributes(poll)["error.type"]) == (2, "ReceiveError")
    assert poll.status.message.startswith("cannot reach")
    assert (send.status.code, attributes(send)["error.type"]) == (2, "Retry")
    assert watcher.metrics() == {}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": ""},
        {**BOTH, "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nothing_is_shipped_unasked(
    variables: dict[str, str], watcher: Watcher, counting: Counting, tmp_path: Path
) -> None:
    """The endpoint alone is the data path's default."""
    env = environment(**SOON, **variables, **watcher.variables("http/protobuf"))
    with (
        Judge("http/protobuf") as judge,
        Agent(tmp_path, pipeline(counting.server.url, judge.endpoint, "http/protobuf"), env=env) as agent,
    ):
        until(lambda: counting.polls >= 8, "polls for more than two seconds")
        assert b"ebbtide_receiver_polls_total" in agent.admin("/metrics")[1]
        assert agent.stop() == 0, agent.stderr
    assert watcher.requests == []


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_dead_destination_costs_one_second_at_the_end_and_nothing_else(
    protocol: str, counting: Counting, tmp_path: Path
) -> None:
    dead = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with (
        Judge("http/protobuf") as judge,
        Agent(
            tmp_path,
            pipeline(counting.server.url, judge.endpoint, "http/protobuf"),
            env=environment(**SOON, **BOTH, **dead),
        ) as agent,
    ):
        agent.says("the agent's own telemetry: ")
        polls = counting.polls
        until(lambda: counting.polls >= polls + 10, "three more seconds of retries")
        said = agent.stderr
        ledger = agent.ledger()
        began = time.monotonic()
        assert agent.stop() == 0, agent.stderr
        took = time.monotonic() - began
    assert took < 1 + 1.5  # the draining, the end of the interpreter, a busy machine
    assert ledger["exporters"]["judge"]["sent"] > 0
    assert ledger["exporters"]["judge"]["dropped"] == {}
    assert said.count("the agent's own telemetry: ") <= 6, said
    assert "Traceback" not in agent.stderr


def test_a_mute_destination_does_not_hold_up_the_end(counting: Counting, tmp_path: Path) -> None:
    """It takes connections and never answers."""

    def wait(handler: Any) -> Reply:
        time.sleep(20)
        return Reply(mute=True)

    with (
        HttpServer(wait) as mute,
        Judge("http/protobuf") as judge,
        Agent(
            tmp_path,
            pipeline(counting.server.url, judge.endpoint, "http/protobuf"),
            env=environment(**SOON, **BOTH, OTEL_EXPORTER_OTLP_ENDPOINT=mute.url),
        ) as agent,
    ):
        agent.says("ships the agent's own traces")
        polls = counting.polls
        until(lambda: counting.polls >= polls + 3, "more polls")
        began = time.monotonic()
        assert agent.stop() == 0, agent.stderr
        assert time.monotonic() - began < 1 + 1.5


# -- logs ------------------------------------------------------------------------------------------------------------------


def test_json_logs_are_json_whatever_happens(counting: Counting, tmp_path: Path) -> None:
    """Also what libraries warn of, what the self-telemetry complains of, and a source that is away."""
    env = environment(**SOON, **BOTH, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}", OTEL_LOGS_EXPORTER="x")  # fmt: skip
    text = pipeline(
        "http://127.0.0.1:9",
        "http://127.0.0.1:9",
        "http/protobuf",
        agent='log_format = "json"\nshutdown_timeout = "300ms"',
    )
    with Agent(tmp_path, text, env=env) as agent:
        agent.says("the agent's own telemetry: ")
        agent.says("cannot reach")
        assert agent.stop() in (0, 1)
    lines = [json.loads(line) for line in agent.stderr.splitlines()]
    assert {tuple(line)[:3] for line in lines} == {("time", "level", "logger")}
    assert "receivers.linkerd" in {line.get("component") for line in lines}


def test_a_log_that_nobody_reads_does_not_stop_the_agent(counting: Counting, tmp_path: Path) -> None:
    """Its pipe is full: polling and sending go on, and the lines are counted as lost."""
    file = tmp_path / "agent.toml"
    text = pipeline(counting.server.url, "http://127.0.0.1:9", "http/protobuf", agent='log_level = "debug"')
    with Judge("http/protobuf") as judge:
        file.write_text(text.replace("http://127.0.0.1:9", judge.endpoint))
        filler = "import os, sys; os.set_blocking(2, False)\ntry:\n  while True: os.write(2, b'x' * 4096)\nexcept BlockingIOError: os.set_blocking(2, True)\n"  # fmt: skip
        start = filler + f"sys.argv = ['ebbtide', 'run', {str(file)!r}]\nfrom agent.cli import main\nsys.exit(main())"
        agent = subprocess.Popen([sys.executable, "-c", start], stderr=subprocess.PIPE, cwd=tmp_path, env=environment())
        try:
            until(lambda: counting.polls >= 4 and len(judge.points()) > 400, "polls and points")
            agent.terminate()
            assert agent.wait(20) == 0
        finally:
            agent.kill()
            agent.communicate()


# -- alerts ----------------------------------------------------------------------------------------------------------------


def test_the_suggested_alerts_are_rules_that_prometheus_takes(tmp_path: Path) -> None:
    found = find_prometheus()
    promtool = found.with_name("promtool") if isinstance(found, Path) else None
    if promtool is None or not promtool.is_file():
        reason = found if isinstance(found, str) else "no promtool beside prometheus"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    rules, tests = ROOT / "docs/alerts.yml", ROOT / "tests/real/rules/alerts.test.yml"
    for command in (["check", "rules", rules], ["test", "rules", tests]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
