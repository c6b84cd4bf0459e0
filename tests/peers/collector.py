"""An OpenTelemetry Collector that takes OTLP and writes what it took into files.

Strategy. Each start writes a file of its own, and its file exporter has rotation configured, for that is what makes it
unbuffered: a request is in the file before it is answered, so what was answered survives SIGKILL. Of a request that was
being written at that moment the end is missing; it was not answered, and is passed over here.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.real.judge import Point, points_of
from tests.real.processes import Process
from tests.real.waiting import free_port

READY = "Everything is ready"


class Collector:
    """One Collector at ports of its own, which it keeps when started anew.

    ``http`` and ``grpc`` are settings of the otlp receiver's two servers, ``both`` of each; ``receivers`` stand beside it,
    ``processors`` are those of the pipeline, ``extensions`` those of the service. ``form`` is the file exporter's: "json" (one request a line) or "proto".
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        http: dict[str, Any] | None = None,
        grpc: dict[str, Any] | None = None,
        both: dict[str, Any] | None = None,
        receivers: dict[str, Any] | None = None,
        processors: dict[str, Any] | None = None,
        extensions: dict[str, Any] | None = None,
        form: Literal["json", "proto"] = "json",
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.http_port, self.grpc_port = free_port(), free_port()
        self.http, self.grpc = {**(both or {}), **(http or {})}, {**(both or {}), **(grpc or {})}
        self.receivers, self.processors, self.extensions = receivers or {}, processors or {}, extensions or {}
        self._program, self._folder, self._form = program, folder, form
        self._process: Process | None = None
        self._files: list[Path] = []

    # -- being there ---------------------------------------------------------------------------------------------

    def endpoint(self, protocol: str) -> str:
        """What the agent is told for a ``protocol`` of its exporter."""
        tls = "tls" in (self.grpc if protocol == "grpc" else self.http)
        port = self.grpc_port if protocol == "grpc" else self.http_port
        return f"{'https' if tls else 'http'}://127.0.0.1:{port}"

    def start(self) -> Collector:
        number = len(self._files) + 1
        self._files.append(self._folder / f"metrics-{number}.{self._form}")
        file = self._folder / f"collector-{number}.yaml"
        file.write_text(json.dumps(self._config()), encoding="utf-8")  # JSON is YAML
        self._process = Process([self._program, "--config", file], self._folder, f"otelcol-{number}")
        self._process.says(READY)
        return self

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; SIGKILL leaves it no time for anything."""
        assert self._process is not None
        with self._process as process:
            process.stop(number)
        self._process = None

    def __enter__(self) -> Collector:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    @property
    def log(self) -> str:
        """What the last one that was started has said."""
        return (self._folder / f"otelcol-{len(self._files)}.stderr").read_text(errors="replace")

    def _config(self) -> dict[str, Any]:
        protocols = {
            "http": {"endpoint": f"127.0.0.1:{self.http_port}", **self.http},
            "grpc": {"endpoint": f"127.0.0.1:{self.grpc_port}", **self.grpc},
        }
        file = {"path": str(self._files[-1]), "format": self._form, "rotation": {"max_megabytes": 10_000}}
        pipeline = {"receivers": ["otlp", *self.receivers], "processors": list(self.processors), "exporters": ["file"]}
        return {
            "extensions": self.extensions,
            "receivers": {"otlp": {"protocols": protocols}, **self.receivers},
            "processors": self.processors,
            "exporters": {"file": file},
            "service": {
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "info"}},
                "extensions": list(self.extensions),
                "pipelines": {"metrics": pipeline},
            },
        }

    # -- what came -----------------------------------------------------------------------------------------------

    @property
    def written(self) -> int:
        """Bytes of requests that it took since it was last started; cheap to ask."""
        file = self._files[-1]
        return file.stat().st_size if file.exists() else 0

    def requests(self) -> list[ExportMetricsServiceRequest]:
        """Every request that it took, in order."""
        return [request for one in self.requests_by_start() for request in one]

    def requests_by_start(self) -> list[list[ExportMetricsServiceRequest]]:
        """The same, for each time that it was started."""
        read = _read_json if self._form == "json" else _read_proto
        return [list(read(file.read_bytes())) if file.exists() else [] for file in self._files]

    def points(self) -> list[Point]:
        """Every point of every request, in order."""
        return self.points_since(0)

    def points_since(self, number: int) -> list[Point]:
        """Every point of every request but the first ``number``."""
        return [point for request in self.requests()[number:] for point in points_of(request)]


def _read_json(content: bytes) -> Iterator[ExportMetricsServiceRequest]:
    for line in content.splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield Parse(line, ExportMetricsServiceRequest())


def _read_proto(content: bytes) -> Iterator[ExportMetricsServiceRequest]:
    at = 0
    while at + 4 <= len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "big")
        if end <= len(content):
            yield ExportMetricsServiceRequest.FromString(content[at + 4 : end])
        at = end
