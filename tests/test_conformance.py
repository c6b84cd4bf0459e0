"""Every built-in plugin keeps the promises that docs/plugins.md asks of strangers' plugins, by the same kit.

``CASES`` has an entry for each registered built-in; one that is missing fails ``test_every_built_in_is_tried``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest
import trio
from confluent_kafka import KafkaError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.discover import plugins
from agent.scripted import Connection, Request, Step, answer, serve, then_hang
from agent.testing import Mood, NotApplicable, Peer, Promise, comparable
from agent.testing.candidate import Candidate, Read
from agent.testing.kit import promises_of
from exporters.kafka_records import records_of
from exporters.otlp_grpc import METHOD
from exporters.otlp_json import from_json
from tests.exporters.kafka_mock import MockCluster

OWN = "ebbtide"
NOWHERE = "http://127.0.0.1:9"


def points(body: bytes) -> list[object]:
    """The points of an OTLP request, in order."""
    return list(comparable(ExportMetricsServiceRequest.FromString(body)).items())


def points_of_json(body: bytes) -> list[object]:
    return points(from_json(body))


def points_of_records(body: bytes) -> list[object]:
    """The points of a bundle of records for Kafka, each beside its record's key."""
    return [(record.key, point) for record in records_of(body) for point in points(bytes(record.value))]


def points_of_json_records(body: bytes) -> list[object]:
    return [(record.key, point) for record in records_of(body) for point in points_of_json(bytes(record.value))]


# -- peers -----------------------------------------------------------------------------------------------------------

PAGE = """\
# TYPE up untyped
up{job="linkerd-proxy",instance="10.0.0.1:4191",deployment="web"} 1 1795362000000
# TYPE request_total untyped
request_total{job="linkerd-proxy",instance="10.0.0.1:4191",deployment="web",direction="inbound"} 5 1795362000000
# TYPE response_latency_ms_bucket untyped
response_latency_ms_bucket{job="linkerd-proxy",instance="10.0.0.1:4191",deployment="web",le="1"} 5 1795362000000
response_latency_ms_bucket{job="linkerd-proxy",instance="10.0.0.1:4191",deployment="web",le="+Inf"} 7 1795362000000
response_latency_ms_count{job="linkerd-proxy",instance="10.0.0.1:4191",deployment="web"} 7 1795362000000
response_latency_ms_sum{job="linkerd-proxy",instance="10.0.0.1:4191",deployment="web"} 40 1795362000000
"""


async def prometheus(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any]:
    """A Prometheus: `/federate`, and an API that knows no metadata."""
    nothing = json.dumps({"status": "success", "data": {}}).encode()

    async def well(connection: Connection, request: Request) -> None:
        page = answer(200, PAGE.encode(), {"Content-Type": "text/plain; version=0.0.4"})
        api = answer(200, nothing, {"Content-Type": "application/json"})
        await connection.send_all(page if request.target.startswith("/federate") else api)

    step: Step = {"well": well, "failing": answer(500, b"no"), "silent": then_hang()}[mood]
    server = await serve(nursery, repeat(step))
    return {"url": server.url, "interval": "100ms"}


PROXY_PAGE = """\
# HELP request_total Requests.
# TYPE request_total counter
request_total{direction="inbound"} 5
request_total{direction="inbound"} 6
# TYPE response_latency_ms histogram
response_latency_ms_bucket{le="1"} 5
response_latency_ms_bucket{le="+Inf"} 7
response_latency_ms_count 7
response_latency_ms_sum 40
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1795362000
of_unknown_type{job="its own"} 1 1795362000000
"""


async def proxies(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any]:
    """Two targets that show a page of a proxy's."""
    well = answer(200, PROXY_PAGE.encode(), {"Content-Type": "text/plain; version=0.0.4"})
    step: Step = {"well": well, "failing": answer(500, b"no"), "silent": then_hang()}[mood]
    server = await serve(nursery, repeat(step))
    by_path = {"source_labels": ["__metrics_path__"], "target_label": "instance"}
    return {"targets": [f"{server.url}/a", f"{server.url}/b"], "relabel": [by_path], "interval": "100ms"}


async def query_api(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any]:
    """A Prometheus' query API that knows two scrapes, and no metadata."""

    async def well(connection: Connection, request: Request) -> None:
        asked = parse_qs(urlsplit(request.target).query)
        data: dict[str, Any] = {}
        if "query" in asked:
            now = float(asked["time"][0])
            values = [[now - 20, "5"], [now - 10, "7"]]
            labels = {"job": "linkerd-proxy", "instance": "10.0.0.1:4191", "deployment": "web"}
            names = [("up", {}), ("request_total", {"direction": "inbound"}), ("response_latency_ms_count", {}),
                     ("response_latency_ms_sum", {}), ("response_latency_ms_bucket", {"le": "+Inf"})]  # fmt: skip
            result = [{"metric": {"__name__": name, **labels, **own}, "values": values} for name, own in names]
            data = {"resultType": "matrix", "result": result}
        body = json.dumps({"status": "success", "data": data}).encode()
        await connection.send_all(answer(200, body, {"Content-Type": "application/json"}))

    step: Step = {"well": well, "failing": answer(500, b"no"), "silent": then_hang()}[mood]
    server = await serve(nursery, repeat(step))
    return {"url": server.url, "interval": "100ms"}


async def collector(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any]:
    """An OTLP destination over HTTP."""
    protobuf = {"Content-Type": "application/x-protobuf"}
    step: Step = {"well": answer(200, b"", protobuf), "failing": answer(503, b"busy"), "silent": then_hang()}[mood]
    server = await serve(nursery, repeat(step))
    return {"endpoint": server.url}


async def json_collector(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any]:
    """An OTLP destination over HTTP that speaks JSON."""
    well = answer(200, b"{}", {"Content-Type": "application/json"})
    step: Step = {"well": well, "failing": answer(400, b"no"), "silent": then_hang()}[mood]
    server = await serve(nursery, repeat(step))
    return {"endpoint": server.url}


async def grpc_collector(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any]:
    """An OTLP destination by gRPC, of grpcio's own making."""
    over = threading.Event()

    def handle(_: bytes, context: grpc.ServicerContext) -> bytes:
        if mood == "failing":
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        if mood == "silent":
            over.wait()
        return b""

    server = grpc.server(ThreadPoolExecutor(2))
    service, method = METHOD[1:].split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    async def stop_at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            over.set()
            server.stop(0).wait()

    nursery.start_soon(stop_at_the_end)
    return {"endpoint": f"http://127.0.0.1:{port}"}


async def kafka(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any]:
    """A Kafka cluster: one that does not let the agent write, or an address at which nobody speaks."""
    if mood == "silent":
        listeners = await nursery.start(partial(trio.serve_tcp, says_nothing, 0, host="127.0.0.1"))
        host, port = listeners[0].socket.getsockname()
        return {"brokers": [f"{host}:{port}"]}
    cluster = MockCluster()

    async def stand(*, task_status: trio.TaskStatus[None]) -> None:
        with cluster:
            task_status.started()
            await trio.sleep_forever()

    await nursery.start(stand)
    cluster.create("metrics", partitions=3)
    if mood == "failing":
        cluster.refuse("metrics", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    return {"brokers": cluster.brokers, "topic": "metrics"}


async def says_nothing(_: trio.SocketStream) -> None:
    await trio.sleep_forever()


# -- cases -----------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One way to try a plugin; the fields are the arguments of ``conformance``."""

    options: Mapping[str, Any]
    peer: Peer | None = None
    read: Read | None = None


RULES = [
    {"action": "labeldrop", "regex": "tls|pod"},
    {"source_labels": ["direction"], "target_label": "way", "replacement": "$1-bound", "regex": "(in|out)bound"},
    {"source_labels": ["__name__"], "regex": "process_.*", "action": "drop"},
    {"source_labels": ["instance"], "target_label": "shard", "modulus": 4, "action": "hashmod"},
    {"action": "labelmap", "regex": "(.*)_(.*)", "replacement": "$2"},
]

CASES: dict[str, list[Case]] = {
    "receivers.federate": [Case({"url": NOWHERE}, prometheus), Case({"url": NOWHERE, "scrape_metrics": False})],
    "receivers.proxy": [
        Case({"targets": [NOWHERE]}, proxies),
        Case({"targets": [NOWHERE], "scrape_metrics": False, "start_times": "none", "on_bad_line": "skip"}, proxies),
    ],
    "receivers.query": [
        Case({"url": NOWHERE}, query_api),
        Case({"url": NOWHERE, "queries": [{"name": "a", "query": "b"}], "scrape_metrics": False}),
    ],
    "receivers.remote_write": [Case({"listen": "127.0.0.1:0"})],
    "processors.relabel": [Case({"rules": []}), *(Case({"rules": [rule]}) for rule in RULES), Case({"rules": RULES})],
    "processors.filter": [
        Case({"drop": ['{__name__=~"h.*|g"}', 'up{n!="1"}']}),
        Case({"keep": ['{__name__=~"re.*"}', '{"größe"!=""}']}),
    ],
    "processors.resource": [
        Case({"profile": profile, "attributes": attributes})
        for profile in ("otel", "prometheus", "none")
        for attributes in ({}, {"k8s.cluster.name": "north", "service.name": "all", "rank": 3})
    ],
    "exporters.kafka": [
        Case({}, kafka, points_of_records),
        Case({"encoding": "otlp_json"}, kafka, points_of_json_records),
        Case({"key": ["service.name", "größe"], "max_message": "1000B"}, None, points_of_records),
        Case({"encoding": "otlp_json", "max_message": "1000B"}, None, points_of_json_records),
        Case({"acks": "1", "compression": "zstd"}, kafka, points_of_records),
    ],
    "exporters.stdout": [Case({}, None, points), Case({"format": "otlp_json"}, None, points)],
    "exporters.otlp": [
        Case({"endpoint": NOWHERE}, collector, points),
        Case({"endpoint": NOWHERE, "compression": "none", "max_request": "100B"}, None, points),
        Case({"endpoint": NOWHERE, "protocol": "http/json"}, json_collector, points_of_json),
        Case({"endpoint": NOWHERE, "protocol": "grpc"}, grpc_collector, points),
    ],
}

BUILT_IN = {
    f"{kind}.{name}": plugin
    for kind, found in plugins().items()
    for name, plugin in found.items()
    if plugin.distribution == OWN
}


def promised() -> list[Any]:
    """Every promise of every case, with an id such as ``processors.filter-0-keeps_the_books``."""
    return [
        pytest.param(promise, id=f"{name}-{number}-{promise.name}")
        for name, cases in CASES.items()
        if name in BUILT_IN
        for number, (options, peer, read) in enumerate(cases)
        for promise in promises_of(Candidate(BUILT_IN[name].load(), options, peer, read))
    ]


@pytest.mark.parametrize("promise", promised())
def test_a_built_in_keeps_its_promise(promise: Promise) -> None:
    try:
        promise.check()
    except NotApplicable as why:
        pytest.skip(str(why))


def test_every_built_in_is_tried() -> None:
    """A built-in without a case is one about which nothing is known; a case without a built-in is a misspelt one."""
    assert set(BUILT_IN) == set(CASES)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CASES
        if name.startswith(("receivers", "exporters.otlp", "exporters.kafka")) and name != "receivers.remote_write"
    ],
)
def test_what_waits_is_tried_with_a_peer(name: str) -> None:
    assert any(case.peer for case in CASES[name])
