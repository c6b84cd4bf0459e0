"""A Prometheus that writes to the agent, with a witness between them, through restarts of both: what was taken, what arrived.

The witness passes each request on and keeps those that were answered with 2xx; it can lose an answer on its way back, as
networks do. What it keeps is decoded by protobuf classes, with no line of the agent's.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import cramjam

from tests.real.judge import Judge, Point, Sample, bare_pipeline, samples_of
from tests.real.processes import Agent, Demo
from tests.real.prometheus import Prometheus, viz_config
from tests.real.servers import HttpServer, Reply
from tests.real.waiting import free_port, until
from tests.receivers.remote_write_messages import Request, WriteRequest

V2 = "io.prometheus.write.v2.Request"
STALE = struct.pack("<d", struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0])
LOSE_EVERY = 17  # of so many answers, one is lost
MOMENTS = 12  # scrapes between two restarts


class Witness:
    """Stands between Prometheus and the agent at ``port``."""

    def __init__(self, port: int):
        self.agent = port
        self.statuses: dict[int, int] = defaultdict(int)
        self.lost = 0
        self.faithful = False  # loses no answer: what comes again after a restart is delivered again, by all rules
        self._taken: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()
        self.server = HttpServer(self._pass_on)

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> Reply:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        content_type = handler.headers["Content-Type"]
        headers = {name: handler.headers[name] for name in ("Content-Type", "Content-Encoding")}
        connection = HTTPConnection("127.0.0.1", self.agent, timeout=60)
        try:
            connection.request("POST", handler.path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, HTTPException):
            return Reply(mute=True)
        finally:
            connection.close()
        with self._lock:
            self.statuses[answer.status] += 1
            if answer.status // 100 == 2:
                self._taken.append((content_type, body))
                if len(self._taken) % LOSE_EVERY == 0 and not self.faithful:
                    self.lost += 1
                    return Reply(mute=True)
        return Reply(answer.status, said, {name: value for name, value in answer.headers.items() if name.startswith(("X-", "Retry"))})  # fmt: skip

    def taken(self) -> dict[Sample, float]:
        """Every sample of all requests that were answered well; stale markers apart."""
        found: dict[Sample, float] = {}
        for content_type, body in self._taken:
            raw = bytes(cramjam.snappy.decompress_raw(body))
            for labels, value, ms in (_of_v2 if V2 in content_type else _of_v1)(raw):
                if struct.pack("<d", value) != STALE:
                    found.setdefault(key(labels, ms), value)  # Prometheus keeps the first of a page, and sends all
        return found


def _of_v1(raw: bytes) -> Iterator[tuple[dict[str, str], float, int]]:
    for series in WriteRequest.FromString(raw).timeseries:
        for sample in series.samples:
            yield {label.name: label.value for label in series.labels}, sample.value, sample.timestamp


def _of_v2(raw: bytes) -> Iterator[tuple[dict[str, str], float, int]]:
    request = Request.FromString(raw)
    for series in request.timeseries:
        words = [request.symbols[ref] for ref in series.labels_refs]
        for sample in series.samples:
            yield dict(zip(words[::2], words[1::2], strict=True)), sample.value, sample.timestamp


def key(labels: dict[str, str], ms: int) -> Sample:
    numbers = {name: float(labels[name]) for name in ("le", "quantile") if name in labels}
    named = {**labels, **numbers}
    return str(named.pop("__name__")), frozenset(named.items()), ms


@dataclass
class Outcome:
    """One run. ``history``: every raw sample that Prometheus kept; ``restarts``: when it was away, in ms."""

    points: list[Point]
    taken: dict[Sample, float]
    history: list[dict[str, Any]]
    away: tuple[int, int]
    ledgers: list[dict[str, Any]]
    statuses: dict[int, int]
    lost: int
    log: str

    def arrived(self) -> dict[Sample, list[float]]:
        """Every sample that arrived, with its value at each arrival; endings apart."""
        found: dict[Sample, list[float]] = defaultdict(list)
        for point in self.points:
            if not point.no_value:
                for sample, value in samples_of(point):
                    found[sample].append(value)
        return found

    def kept(self) -> dict[Sample, float]:
        """What Prometheus kept."""
        return {
            key(series["metric"], round(float(time) * 1000)): float(value)
            for series in self.history for time, value in series["values"]
        }  # fmt: skip


def pipeline(port: int, judge: Judge, more: str = "") -> str:
    return bare_pipeline("prometheus", f'type = "remote_write"\nlisten = "127.0.0.1:{port}"\n{more}', judge)


def write_for_a_while(
    program: Path, demo: Demo, folder: Path, *, message: str = "", flags: tuple[str, ...] = (), shards: int = 1
) -> Outcome:
    """Let Prometheus scrape the demo's pages and write, restart the agent, restart Prometheus, and stop both."""
    witness = Witness(free_port())
    config = viz_config(demo.targets, demo.prometheus.removeprefix("http://"), "1s")
    queue = {"min_shards": shards, "max_shards": shards, "max_samples_per_send": 300, "capacity": 3000,
             "batch_send_deadline": "1s", "max_backoff": "1s"}  # fmt: skip
    writing: dict[str, Any] = {"url": witness.server.url + "/api/v1/write", "queue_config": queue}
    if message:
        writing["protobuf_message"] = message
    config["remote_write"] = [writing]
    server = Prometheus(program, folder / "prometheus", config, flags=flags)
    with witness.server, Judge("grpc") as judge:
        text = pipeline(witness.agent, judge)
        agent = Agent(folder, text, "first")
        with agent:
            agent.says("listening for remote write")
            server.start()
            _scrapes(server, MOMENTS)
            _scrapes(server, MOMENTS)
            ledgers = [agent.ledger()]
            witness.faithful = True
            _scrapes(server, 3)
            assert agent.stop() == 0, agent.stderr
        with Agent(folder, text, "second") as second:
            second.says("listening for remote write")
            _scrapes(server, 3)
            witness.faithful = False
            _scrapes(server, MOMENTS)
            left = time.time()
            server.stop()
            server.start()
            away = round(left * 1000), round(time.time() * 1000)
            _scrapes(server, MOMENTS)
            history = server.query('{job=~"linkerd-.*"}[10m]')
            server.stop()
            until(lambda: not second.ledger()["exporters"]["judge"]["held"], "all is sent")
            ledgers.append(second.ledger())
            assert second.stop() == 0, second.stderr
        log = agent.stderr + second.stderr
        return Outcome(
            judge.points(), witness.taken(), history, away, ledgers, dict(witness.statuses), witness.lost, log
        )


def _scrapes(server: Prometheus, number: int) -> None:
    """Wait for so many scrapes of all targets."""
    began = time.time()
    until(lambda: time.time() - began > number and server.up() > 0, f"{number} scrapes")


def check(outcome: Outcome) -> None:
    """Nothing that was taken is lost, nothing is there twice, and nothing is there that Prometheus does not know."""
    arrived, taken = outcome.arrived(), outcome.taken
    assert len(taken) > 10_000
    assert outcome.lost > 0
    assert [sample for sample, values in arrived.items() if len(values) > 1][:3] == []
    assert sorted(map(str, taken.keys() - arrived.keys()))[:3] == []
    assert sorted(map(str, arrived.keys() - taken.keys()))[:3] == []
    assert [sample for sample, value in taken.items() if arrived[sample] != [value]][:3] == []
    assert set(outcome.statuses) <= {204, 503}, outcome.statuses
    repeated = sum(ledger["receivers"]["prometheus"]["dropped"]["repeated"] for ledger in outcome.ledgers)
    assert repeated > 0, "requests whose answers were lost came again"


def check_history(outcome: Outcome) -> None:
    """All that Prometheus kept has come, but what it had not sent when it was stopped, which it never sends."""
    begin, end = outcome.away
    missing = [sample for sample in outcome.kept().keys() - outcome.taken.keys() if not begin - 3000 < sample[2] < end + 3000]  # fmt: skip
    newest = max(sample[2] for sample in outcome.taken)
    assert [sample for sample in missing if sample[2] < newest - 3000][:3] == []


def check_streams(outcome: Outcome) -> None:
    """Of each stream the times rise, and start times neither overlap nor lie behind their points."""
    last: dict[tuple[Any, ...], Point] = {}
    for point in outcome.points:
        before = last.get(point.stream)
        assert before is None or point.time > before.time, (before, point)
        if point.kind != "gauge" and not point.no_value:
            assert 0 < point.start <= point.time, point
        last[point.stream] = point
