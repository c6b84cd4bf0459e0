"""What polling 1,000 proxies costs: 310 samples each, every 10 s; CPU and memory of ``ebbtide run``, all of it.

Strategy. Pages and OTLP destination are served by a process of their own (``python -m bench.proxies serve``), each page with
numbers that move and labels of its own, as no two proxies have the same peers; targets are found in a file, with the labels
that Linkerd's proxies get. The agent is the command itself, with discovery, sockets, the processor "resource" and the queue.
What is quoted is user and system time of that process over a minute in which every target was polled and no series was new,
beside what its ledger says was delivered by it.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import trio

from agent.httpserver import Limits, Request, Response, serve_listeners
from bench.memory import resident
from bench.pages import BOUNDS, PER_ROUTE

TARGETS = 1000
ROUTES = 10  # of a target, PER_ROUTE samples each
INTERVAL = 10  # s
WARM_SECONDS = 30.0  # after the first poll of all
WINDOW_SECONDS = 60.0
_START_SECONDS = 120.0  # in which every target must have been polled once
_CONNECTIONS = 2 * TARGETS
_LARGEST = 64 << 20  # bytes of an OTLP request
_MIB = 2**20

_FILE = """\
[receivers.proxies]
type = "proxy"
interval = "{interval}s"
discovery = [{{ kind = "file", files = ["{targets}"] }}]
[processors.workload]
type = "resource"
[exporters.backend]
type = "otlp"
endpoint = "http://127.0.0.1:{port}"
[pipelines.metrics]
receivers = ["proxies"]
processors = ["workload"]
exporters = ["backend"]
[agent]
admin = "127.0.0.1:{admin}"
"""

_SUCCESS = b"\n\0"  # what a Collector answers: a partial success without anything in it


# -- the other side ----------------------------------------------------------------------------------------------------


class Proxies:
    """The pages of the targets, and a destination for what becomes of them."""

    def __init__(self) -> None:
        self._rng = random.Random(7)
        self._counts = [[self._rng.randrange(1, 10**6) for _ in range(ROUTES)] for _ in range(TARGETS)]
        self._labels = [[_labels(target, route) for route in range(ROUTES)] for target in range(TARGETS)]

    async def answer(self, request: Request) -> Response:
        """Answer a poll of ``/N/metrics``, or take a request."""
        await trio.lowlevel.checkpoint()
        if request.method == "POST":
            return Response(200, _SUCCESS, "application/x-protobuf")
        page = self.page(int(request.path.split("/")[1])).encode()
        if "gzip" not in request.header("accept-encoding"):
            return Response(200, page, "text/plain; version=0.0.4")
        return Response(200, gzip.compress(page, 1), "text/plain; version=0.0.4", (("content-encoding", "gzip"),))

    def page(self, target: int) -> str:
        """Return a target's next page."""
        counts = self._counts[target]
        for route in range(ROUTES):
            counts[route] += self._rng.randrange(50)
        return "".join(_lines(list(zip(self._labels[target], counts, strict=True))))


def _labels(target: int, route: int) -> str:
    peer = f"svc-{(7 * target + route) % 400}"
    return (
        f'direction="outbound",authority="{peer}.shop.svc.cluster.local:8080",target_addr="10.43.{target % 250}.{route}:8080",'
        f'target_ip="10.43.{target % 250}.{route}",target_port="8080",tls="true",dst_control_plane_ns="linkerd",'
        f'server_id="{peer}.shop.serviceaccount.identity.linkerd.cluster.local",dst_deployment="{peer}",dst_namespace="shop",'
        f'dst_pod="{peer}-5f86686c4d-{target:05d}",dst_pod_template_hash="5f86686c4d",dst_service="{peer}"'
    )


def _lines(rows: list[tuple[str, int]]) -> Iterator[str]:
    for name, more in (("request_total", ""), ("response_total", ',status_code="200",classification="success"')):
        yield f"# HELP {name} Total count of them.\n# TYPE {name} counter\n"
        yield from (f"{name}{{{labels}{more}}} {count}\n" for labels, count in rows)
    name = "response_latency_ms"
    yield f"# HELP {name} Elapsed times between a request and its response.\n# TYPE {name} histogram\n"
    for labels, count in rows:
        for index, bound in enumerate(BOUNDS):
            yield f'{name}_bucket{{{labels},le="{bound}"}} {count * (index + 1) // 26}\n'
        yield f'{name}_bucket{{{labels},le="+Inf"}} {count}\n'
        yield f"{name}_count{{{labels}}} {count}\n{name}_sum{{{labels}}} {count * 7}\n"
    yield "# HELP tcp_open_connections Number of currently-open connections.\n# TYPE tcp_open_connections gauge\n"
    yield from (f"tcp_open_connections{{{labels}}} {count % 97}\n" for labels, count in rows)


async def serve() -> None:
    """Serve until standard input ends; the port is printed."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    limits = Limits(_CONNECTIONS, _LARGEST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_listeners(Proxies().answer, listeners, limits=limits))
        print(listeners[0].socket.getsockname()[1], flush=True)
        async for _ in trio.wrap_file(sys.stdin):
            pass
        nursery.cancel_scope.cancel()


def _groups(port: int) -> list[dict[str, Any]]:
    """Return the targets as file_sd has them."""
    return [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {
                "__metrics_path__": f"/{target}/metrics", "instance": f"10.42.{target >> 8}.{target & 255}:4191",
                "namespace": f"shop-{target % 20}", "pod": f"web-{target}", "deployment": f"web-{target % 100}",
                "control_plane_ns": "linkerd", "workload_ns": f"shop-{target % 20}", "pod_template_hash": "1a2b3c",
            },
        }
        for target in range(TARGETS)
    ]  # fmt: skip


# -- the agent ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """Where the agent stands: seconds of the clock and of its CPU, polls, samples delivered and lost, bytes resident."""

    clock: float
    cpu: float
    polls: int
    sent: int
    lost: int
    resident: int


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent, and where its admin port is."""

    process: subprocess.Popen[bytes]
    admin: int

    def moment(self) -> Moment:
        """Look at it."""
        ledger = self._ledger()
        receiver, exporter = ledger["receivers"]["proxies"], ledger["exporters"]["backend"]
        lost = sum(receiver["dropped"].values()) + sum(exporter["dropped"].values()) + receiver["failed_polls"]
        return Moment(
            time.perf_counter(), self._cpu(), receiver["polls"], exporter["sent"], lost, resident(self.process.pid)
        )  # fmt: skip

    def polled(self, limit: float) -> Moment:
        """Return the moment at which every target was polled once, and all of it delivered."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"cannot measure: ebbtide ended with {self.process.returncode}; run it by hand")
            with suppress(URLError, ConnectionError):
                moment = self.moment()
                if moment.polls >= TARGETS and moment.sent >= TARGETS * ROUTES * PER_ROUTE:
                    return moment
            time.sleep(0.2)
        raise SystemExit(f"cannot measure: not all targets were polled within {limit:.0f} s; run it by hand")

    def _ledger(self) -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{self.admin}/ledger", timeout=10) as answer:
            ledger: dict[str, Any] = json.load(answer)
            return ledger

    def _cpu(self) -> float:
        """User and system time of all its threads."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _running(folder: Path) -> Iterator[Agent]:
    """Run pages, destination and agent."""
    command = [sys.executable, "-m", "bench.proxies", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port, admin = int(server.stdout.readline()), _free_port()
        (folder / "targets.json").write_text(json.dumps(_groups(port)))
        file = folder / "agent.toml"
        file.write_text(_FILE.format(interval=INTERVAL, targets=folder / "targets.json", port=port, admin=admin))
        process = subprocess.Popen([sys.executable, "-m", "ebbtide", "run", str(file)], stderr=subprocess.DEVNULL)
        try:
            yield Agent(process, admin)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def measure() -> tuple[Moment, Moment, Moment]:
    """Return how the agent stands after the first poll of all, and at both ends of the window."""
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder)) as agent:
        first = agent.polled(_START_SECONDS)
        time.sleep(WARM_SECONDS)
        begin = agent.moment()
        time.sleep(WINDOW_SECONDS)
        return first, begin, agent.moment()


def main() -> str:
    """Measure; returns the table as Markdown."""
    first, begin, end = measure()
    cpu, seconds, sent = end.cpu - begin.cpu, end.clock - begin.clock, end.sent - begin.sent
    series = TARGETS * ROUTES * PER_ROUTE
    return (
        f"| {TARGETS:,} targets of {ROUTES * PER_ROUTE} samples, every {INTERVAL} s | |\n| --- | --- |\n"
        f"| CPU, share of one core | {cpu / seconds:.3f} |\n"
        f"| polls a second, of {TARGETS / INTERVAL:.0f} that are due | {(end.polls - begin.polls) / seconds:,.0f}, {cpu / (end.polls - begin.polls) * 1e6:,.0f} us of CPU each |\n"
        f"| delivered | {sent / seconds:,.0f} samples a second, {cpu / sent * 1e6:.2f} us of CPU each; {end.lost} lost |\n"
        f"| until every target was polled once | {first.cpu:.1f} s of CPU, {first.cpu / series * 1e6:,.0f} us a series |\n"
        f"| resident set | {end.resident / _MIB:,.0f} MiB, {end.resident / series:,.0f} bytes a series |"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        trio.run(serve)
    else:
        print(main())
