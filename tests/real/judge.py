"""An OTLP destination made of opentelemetry-proto, grpcio and the standard library alone.

It keeps every request decoded, and can be told to fail, to be slow, to hang up, or to be away.
"""

from __future__ import annotations

import gzip
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

import grpc
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)

from tests.real.servers import HttpServer, Reply

Pairs = frozenset[tuple[str, Any]]

PLAIN_STATUS = {"503": grpc.StatusCode.UNAVAILABLE, "400": grpc.StatusCode.INVALID_ARGUMENT}


@dataclass(frozen=True)
class Point:
    """One data point with all that identifies it. Numbers in ``body``: see ``_bodies``."""

    resource: Pairs
    scope: str
    name: str
    kind: str  # gauge, sum, histogram, exponential_histogram, summary
    unit: str
    attributes: Pairs
    time: int
    start: int
    no_value: bool
    body: tuple[Any, ...]
    monotonic: bool = False
    cumulative: bool = False

    @property
    def stream(self) -> tuple[Any, ...]:
        return self.resource, self.scope, self.name, self.kind, self.unit, self.attributes


def points_of(request: ExportMetricsServiceRequest) -> Iterator[Point]:
    """Every data point of a request."""
    for of_resource in request.resource_metrics:
        resource = _pairs(of_resource.resource.attributes)
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                for point in data.data_points:
                    yield Point(
                        resource, of_scope.scope.name, metric.name, kind, metric.unit, _pairs(point.attributes),
                        point.time_unix_nano, point.start_time_unix_nano, bool(point.flags & 1), _body(kind, point),
                        getattr(data, "is_monotonic", False), getattr(data, "aggregation_temporality", 0) == 2,
                    )  # fmt: skip


def _body(kind: str, point: Any) -> tuple[Any, ...]:
    """What a point says, floats by their bits in NaN.

    (value,) · (count, sum, bounds, counts) · (count, sum, ((quantile, value), ...)) · of an exponential histogram (count, sum,
    scale, zero threshold, zero count, and per side the counts that are not 0 by index).
    """
    if kind in ("gauge", "sum"):
        return (_number(point.as_double if point.WhichOneof("value") == "as_double" else float(point.as_int)),)
    total = _number(point.sum) if kind == "summary" or point.HasField("sum") else None
    if kind == "histogram":
        return point.count, total, tuple(point.explicit_bounds), tuple(point.bucket_counts)
    if kind == "exponential_histogram":
        sides = [
            tuple((index, count) for index, count in enumerate(side.bucket_counts, side.offset) if count)
            for side in (point.positive, point.negative)
        ]
        return point.count, total, point.scale, point.zero_threshold, point.zero_count, *sides
    return point.count, total, tuple((one.quantile, _number(one.value)) for one in point.quantile_values)


def _number(value: float) -> Any:
    return value if value == value else ("NaN", struct.pack(">d", value))


def _pairs(attributes: Iterable[Any]) -> Pairs:
    pairs = [(one.key, getattr(one.value, one.value.WhichOneof("value") or "string_value")) for one in attributes]
    assert len(pairs) == len({key for key, _ in pairs}), "an attribute stands twice"
    return frozenset(pairs)


@dataclass(frozen=True)
class Received:
    """One request as it came, and whether it was answered well."""

    request: ExportMetricsServiceRequest
    headers: dict[str, str]
    size: int
    accepted: bool


class Judge(MetricsServiceServicer):
    """The destination. ``protocol``: "grpc", "http/protobuf" or "http/json"."""

    def __init__(self, protocol: str):
        self.protocol = protocol
        self.behaviour = ""  # "503", "400", "slow:SECONDS", "cut", "hang up", "nonsense"; "" is well
        self._lock = threading.Lock()
        self._received: list[Received] = []
        self._port = 0
        self._grpc: grpc.Server | None = None
        self._http: HttpServer | None = None
        self.open()

    # -- being there ---------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Listen; at the same port as before."""
        if self.protocol != "grpc":
            self._http = HttpServer(self._answer, self._port)
            self._port = self._http.port
            return
        options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20))
        self._grpc = grpc.server(ThreadPoolExecutor(8), options=options)
        add_MetricsServiceServicer_to_server(self, self._grpc)  # type: ignore[no-untyped-call]
        self._port = self._grpc.add_insecure_port(f"127.0.0.1:{self._port}")
        self._grpc.start()

    def close(self) -> None:
        """Be away: connections are refused."""
        if self._grpc is not None:
            self._grpc.stop(0).wait(10)
        if self._http is not None:
            self._http.close()
        self._grpc = self._http = None

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.behaviour = ""
        self.close()

    # -- what came -----------------------------------------------------------------------------------------------

    @property
    def received(self) -> list[Received]:
        with self._lock:
            return list(self._received)

    def points(self) -> list[Point]:
        """Every point of every accepted request, in order of arrival."""
        return [point for one in self.received if one.accepted for point in points_of(one.request)]

    def names(self) -> set[str]:
        """The names of all metrics that were accepted."""
        return {
            metric.name
            for one in self.received if one.accepted
            for of_resource in one.request.resource_metrics
            for of_scope in of_resource.scope_metrics
            for metric in of_scope.metrics
        }  # fmt: skip

    def _keep(self, request: ExportMetricsServiceRequest, headers: dict[str, str], size: int, accepted: bool) -> None:
        with self._lock:
            self._received.append(Received(request, headers, size, accepted))

    # -- HTTP ----------------------------------------------------------------------------------------------------

    def _answer(self, handler: BaseHTTPRequestHandler) -> Reply:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        behaviour = self._behave()
        if handler.path != "/v1/metrics" or handler.command != "POST":
            return Reply(404, b"nothing here\n")
        json = self.protocol == "http/json"
        content_type = "application/json" if json else "application/x-protobuf"
        if handler.headers["Content-Type"] != content_type:
            return Reply(415, b"another content type was expected\n")
        request = ExportMetricsServiceRequest()
        if json:
            Parse(body, request)
        else:
            request.ParseFromString(body)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self._keep(request, headers, len(body), accepted=not behaviour)
        answer = b"{}" if json else ExportMetricsServiceResponse().SerializeToString()
        reply = Reply(200, answer, {"Content-Type": content_type})
        if behaviour in ("503", "400"):
            reply = Reply(int(behaviour), b"told to fail\n")
        elif behaviour == "cut":
            reply = Reply(200, b"x" * 64, {"Content-Type": content_type}, cut=True)
        elif behaviour == "hang up":
            reply = Reply(mute=True)
        elif behaviour == "nonsense":
            reply = Reply(299, b"\xff\x00<html>nonsense", {"Content-Type": "image/png"})
        return reply

    def _behave(self) -> str:
        word, _, seconds = self.behaviour.partition(":")
        if word == "slow":
            time.sleep(float(seconds))
            return ""
        return word

    # -- gRPC ----------------------------------------------------------------------------------------------------

    def Export(  # noqa: N802
        self, request: ExportMetricsServiceRequest, context: grpc.ServicerContext
    ) -> ExportMetricsServiceResponse:
        behaviour = self._behave()
        headers = {str(name): str(value) for name, value in context.invocation_metadata()}
        self._keep(request, headers, request.ByteSize(), accepted=not behaviour)
        if behaviour:
            context.abort(PLAIN_STATUS.get(behaviour, grpc.StatusCode.UNAVAILABLE), "told to fail")
        return ExportMetricsServiceResponse()


# -- back to Prometheus' samples ---------------------------------------------------------------------------------------

Sample = tuple[str, frozenset[tuple[str, Any]], int]  # name, labels (le and quantile as numbers), time in ms


def samples_of(point: Point) -> Iterator[tuple[Sample, float]]:
    """The Prometheus samples that a point was made of; its attributes must be all its labels (profile "none")."""
    ms, labels = point.time // 10**6, point.attributes
    if point.kind in ("gauge", "sum"):
        yield (point.name, labels, ms), point.body[0]
        return
    yield (point.name + "_count", labels, ms), float(point.body[0])
    if point.body[1] is not None:
        yield (point.name + "_sum", labels, ms), point.body[1]
    if point.kind == "summary":
        for quantile, value in point.body[2]:
            yield (point.name, labels | {("quantile", quantile)}, ms), value
        return
    bounds, counts = point.body[2:]
    total = 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        total += count
        yield (point.name + "_bucket", labels | {("le", bound)}, ms), float(total)


def bare_pipeline(id: str, receiver: str, judge: Judge, *, agent: str = "", exporter: str = "") -> str:
    """A pipeline file from one receiver (its options as TOML lines) to a judge; all labels stay attributes, as they came."""
    return f"""
agent.admin = "127.0.0.1:0"
{agent}
[receivers.{id}]
{receiver}
[processors.bare]
type = "resource"
profile = "none"
[exporters.judge]
type = "otlp"
endpoint = "{judge.endpoint}"
protocol = "{judge.protocol}"
{exporter}
[pipelines.metrics]
receivers = ["{id}"]
processors = ["bare"]
exporters = ["judge"]
"""
