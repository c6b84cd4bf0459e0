"""One destination for all three protocols: a script of answers in OTLP's own words, and a sender that is watched.

A script is said once and means the same by each protocol: ``Answer(status=503, code="UNAVAILABLE", after=7)`` is an HTTP
503 with ``Retry-After: 7``, or gRPC's UNAVAILABLE with RetryInfo.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import grpc
import trio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from agent.ledger import ExporterCounts
from agent.outbox import Outbox
from agent.scripted import ScriptedServer, answer, serve
from agent.settings import OutboxSettings
from ebbtide import Batch, Context, Payload
from exporters.otlp import Otlp, OtlpSettings
from exporters.otlp_answers import JSON, PROTOBUF
from exporters.otlp_json import from_json
from tests.compliance.rules import GRPC
from tests.compliance.servers import GrpcServer

OUTBOX = ("queue", "batch", "retry")


@dataclass(frozen=True)
class Answer:
    """What the destination says: an HTTP status or a gRPC code, and the rest in either's form.

    ``after``: seconds to wait, RetryInfo or Retry-After. ``raw`` replaces the body of a success as it is.
    """

    status: int = 200
    code: str = "OK"
    after: float | None = None
    message: str = ""
    rejected: int = 0
    raw: bytes | None = None
    details: bytes | None = None

    def http(self, protocol: str) -> bytes:
        headers = {"Content-Type": JSON if protocol == "http/json" else PROTOBUF}
        if self.after is not None:
            headers["Retry-After"] = f"{self.after:g}"
        return answer(self.status, self._body(protocol), headers)

    def _body(self, protocol: str) -> bytes:
        if self.raw is not None:
            return self.raw
        if protocol != "http/json":
            return self.said() if self.status == 200 else status_pb2.Status(message=self.message).SerializeToString()
        if self.status != 200:
            return json.dumps({"code": 3, "message": self.message}).encode()
        partial = {"rejectedDataPoints": str(self.rejected), "errorMessage": self.message}
        return json.dumps({"partialSuccess": partial} if self.rejected or self.message else {}).encode()

    def grpc(self, context: grpc.ServicerContext) -> bytes:
        if self.code == "OK":
            return self.raw if self.raw is not None else self.said()
        details = self.details if self.after is None else retry_info(self.after)
        if details is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode[self.code], self.message)
        raise AssertionError("abort raises")

    def said(self) -> bytes:
        response = ExportMetricsServiceResponse()
        response.partial_success.rejected_data_points = self.rejected
        response.partial_success.error_message = self.message
        return response.SerializeToString()


TAKEN = Answer()
BUSY = Answer(503, "UNAVAILABLE", message="busy")
REFUSED = Answer(400, "INVALID_ARGUMENT", message="malformed")
TOO_LARGE = Answer(413, "RESOURCE_EXHAUSTED", message="grpc: received message larger than max (9 vs. 4)")


def retry_info(seconds: float) -> bytes:
    """grpc-status-details-bin that asks to wait so long."""
    packed = any_pb2.Any()
    delay = duration_pb2.Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
    packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=8, details=[packed]).SerializeToString()


@dataclass
class Destination:
    """Answers by ``script``, then takes everything."""

    protocol: str
    url: str = ""
    script: list[Answer] = field(default_factory=list)
    _http: ScriptedServer | None = None
    _grpc: GrpcServer | None = None

    async def open(self, nursery: trio.Nursery) -> None:
        """Start on a free port."""
        if self.protocol == GRPC:
            lock = threading.Lock()

            def behaviour(_: bytes, context: grpc.ServicerContext) -> bytes:
                with lock:
                    said = self._next()
                return said.grpc(context)

            self._grpc = GrpcServer(behaviour)
            self.url = self._grpc.url
        else:
            self._http = await serve(nursery, iter(lambda: self._next().http(self.protocol), None))
            self.url = self._http.url

    def close(self) -> None:
        """Stop what does not end with the nursery."""
        if self._grpc:
            self._grpc.stop()

    def _next(self) -> Answer:
        return self.script.pop(0) if self.script else TAKEN

    @property
    def requests(self) -> list[tuple[bytes, dict[str, Any]]]:
        """Body, decompressed, and headers (gRPC: metadata) of each request."""
        if self._grpc:
            return self._grpc.requests
        assert self._http
        return [(_plain(request.body, request.headers), dict(request.headers)) for request in self._http.requests]

    def decoded(self) -> list[ExportMetricsServiceRequest]:
        """Each request as a message."""
        bodies = (body for body, _ in self.requests)
        if self.protocol == "http/json":
            bodies = (from_json(body) for body in bodies)
        return [ExportMetricsServiceRequest.FromString(body) for body in bodies]


def _plain(body: bytes, headers: dict[str, str]) -> bytes:
    return gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body


class Watched(Otlp):
    """The exporter, with the time and the body of each attempt."""

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        self.attempts: list[tuple[float, bytes]] = []

    async def send(self, payload: Payload) -> None:
        self.attempts.append((trio.current_time(), payload.body))
        await super().send(payload)


def exporter(destination: Destination | None = None, environ: dict[str, str] | None = None, **options: Any) -> Watched:
    """The real exporter, with a destination and options as in the file."""
    if destination:
        options = {"endpoint": destination.url, "protocol": destination.protocol, **options}
    return Watched(OtlpSettings.model_validate(options), Context("backend"), environ=environ or {})


def sealed(otlp: Otlp, batch: Batch) -> Payload:
    """A whole batch as one request."""
    (payload,) = otlp.encode(batch)
    return Payload(payload.key, otlp.seal(payload.body), payload.points, payload.samples)


@dataclass
class Delivery:
    """What came of it."""

    counts: ExporterCounts
    attempts: list[tuple[float, bytes]]

    @property
    def waits(self) -> list[float]:
        """Seconds from attempt to attempt."""
        times = [time for time, _ in self.attempts]
        return [round(after - before, 3) for before, after in pairwise(times)]


async def deliver(
    destination: Destination,
    batches: Iterable[Batch],
    jitter: Callable[[float, float], float] = lambda low, high: high,
    **options: Any,
) -> Delivery:
    """Send batches one by one through an outbox until all is sent or dropped; without jitter unless told."""
    own = {name: options.pop(name) for name in list(options) if name not in OUTBOX}
    async with exporter(destination, **own) as otlp:
        settings = OutboxSettings.model_validate({"batch": {"linger": "0s"}, **options})
        counts = otlp.counts
        for batch in batches:
            outbox = Outbox(otlp, settings, counts, jitter=jitter)
            outbox.put(batch)
            outbox.close()
            await outbox.run()
            assert (outbox.held(), outbox.bytes) == (0, 0)
        assert counts.received == counts.sent + counts.dropped.total()
        return Delivery(counts, otlp.attempts)
