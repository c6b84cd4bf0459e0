"""What a start costs: time to the first poll, and the memory of an agent that has nothing to do.

Strategy. ``ebbtide run`` runs as a process, with a receiver "federate" on a page of ten series, an exporter "otlp" over
HTTP and the admin port, all on loopback. What is quoted is the median of several starts, from ``fork`` to the moment at
which the first request has come in. The bytecode of the first, unmeasured start is kept in a folder of its own, so
that the numbers do not depend on what happens to be compiled. Packages are imported alone, each in a fresh interpreter:
what they share is counted with each of them, so that their numbers add up to more than the whole.
"""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

STARTS = 10
IDLE_SECONDS = 15.0  # of the last start: polls of the page, sends of what came
PACKAGES = ("numpy", "trio", "pydantic", "httpx", "grpc", "opentelemetry.sdk.metrics", "ebbtide")

_FILE = """\
[receivers.linkerd]
type = "federate"
url = "{url}"
interval = "1s"
[exporters.backend]
type = "otlp"
endpoint = "{url}"
[pipelines.metrics]
receivers = ["linkerd"]
exporters = ["backend"]
[agent]
admin = "127.0.0.1:0"
"""

_PAGE = "".join(
    f'request_total{{job="linkerd-proxy",instance="10.0.0.1:4191",direction="inbound",authority="a{n}"}} {n} NOW\n'
    for n in range(10)
)

_SUCCESS = b"\n\0"  # what a Collector answers: a partial success without anything in it

_IMPORT = """\
import resource, time
began = time.process_time()
import {package}
seconds = time.process_time() - began
with open("/proc/self/statm") as file:
    print(seconds, int(file.read().split()[1]) * resource.getpagesize())
"""


class Peer(ThreadingHTTPServer):
    """Prometheus and OTLP destination in one; notes when it is asked first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.first_request = 0.0
        self.polled = Event()
        self.taken = Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the answer's head and body are written apart
    server: Peer

    def do_GET(self) -> None:
        """Answer a poll, or say that there are no metadata."""
        if not self.server.first_request:
            self.server.first_request = time.perf_counter()
            self.server.polled.set()
        if self.path.startswith("/federate"):
            self._answer("text/plain; version=0.0.4", _PAGE.replace("NOW", str(time.time_ns() // 10**6)).encode())
        else:
            self._answer("application/json", b'{"status":"success","data":{}}')

    def do_POST(self) -> None:
        """Take a request."""
        self.rfile.read(int(self.headers["content-length"]))
        self._answer("application/x-protobuf", _SUCCESS)
        self.server.taken.set()

    def _answer(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def finish(self) -> None:
        """The agent may be gone before it has read all."""
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds to the first request, of the clock and of the CPU; then bytes of resident memory."""

    seconds: float
    cpu: float
    resident: int
    idle: int


@contextmanager
def _peer() -> Iterator[Peer]:
    with Peer() as peer:
        thread = Thread(target=peer.serve_forever, daemon=True)
        thread.start()
        yield peer
        peer.shutdown()


@dataclass
class Starter:
    """Starts the agent, with bytecode of its own."""

    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode")}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def start(self, idle: float = 0.0) -> Start:
        """Start once, wait until the first page is delivered, idle so many seconds more, and stop."""
        with _peer() as peer:
            file = self.folder / "agent.toml"
            file.write_text(_FILE.format(url=peer.url))
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "ebbtide", "run", str(file)],
                env=self.environment, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                if not peer.polled.wait(60):
                    raise SystemExit("cannot measure the start: no request came within a minute; run it by hand")
                cpu = _cpu(process.pid)
                if not peer.taken.wait(60):
                    raise SystemExit("cannot measure the start: nothing was delivered; run it by hand")
                resident = _resident(process.pid)
                time.sleep(idle)
                return Start(peer.first_request - began, cpu, resident, _resident(process.pid))
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()

    def imported(self, package: str) -> tuple[float, int]:
        """Import a package in a fresh interpreter: CPU seconds, and bytes of the resident set."""
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT.format(package=package)],
            env=self.environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        seconds, resident = done.stdout.split()
        return float(seconds), int(resident)


def _cpu(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def _packages(starter: Starter) -> str:
    bare = starter.imported("sys")[1]
    lines = [
        "| import of | CPU ms | MiB |",
        "| --- | --- | --- |",
        f"| nothing: the interpreter | | {bare / 2**20:.1f} |",
    ]
    for package in PACKAGES:
        found = [starter.imported(package) for _ in range(6)][1:]
        seconds = statistics.median(seconds for seconds, _ in found)
        lines.append(f"| `{package}` | {seconds * 1000:,.0f} | {(found[0][1] - bare) / 2**20:.1f} |")
    return "\n".join(lines)


def main() -> str:
    """Measure; returns Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        starter = Starter(Path(folder))
        starter.start()  # compiles
        starts = [starter.start() for _ in range(STARTS - 1)]
        last = starter.start(IDLE_SECONDS)
        starts.append(last)
        packages = _packages(starter)
    return (
        f"- From the start of the process to the first poll's request: {statistics.median(s.seconds for s in starts):.2f} s "
        f"({statistics.median(s.cpu for s in starts):.2f} s of CPU), compiled; medians of {STARTS} starts.\n"
        f"- Resident set when the first page of ten series was delivered: {last.resident / 2**20:.1f} MiB; "
        f"after {IDLE_SECONDS:.0f} s of polls: {last.idle / 2**20:.1f} MiB.\n\n"
        f"{packages}"
    )


if __name__ == "__main__":
    print(main())
