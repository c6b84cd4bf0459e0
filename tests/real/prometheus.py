"""Debian's Prometheus: found, fetched where that is asked for, started on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.real.processes import Process, fetch
from tests.real.waiting import free_port, until

_ROOT = Path(__file__).resolve().parents[2]
_CACHE = _ROOT / ".cache" / "prometheus"

REQUIRED = os.environ.get("EBBTIDE_REAL") == "1"
"""Whether a server that cannot be had is a failure instead of a reason to skip."""


def find_prometheus() -> Path | str:
    """The program, or why it cannot be had. Nothing is downloaded unless EBBTIDE_REAL=1 asks for it."""
    unpacked = _CACHE / "usr" / "bin" / "prometheus"
    on_path = shutil.which("prometheus")
    if on_path:
        return Path(on_path)
    if unpacked.is_file():
        return unpacked
    if not REQUIRED:
        return "no `prometheus` on PATH nor in .cache/prometheus: install Debian's package, or set EBBTIDE_REAL=1"
    why = _unpack()
    return unpacked if unpacked.is_file() else f"cannot unpack Debian's package prometheus: {why}"


def _unpack() -> str:
    """Download and unpack the package, without installing it; what went wrong, if anything."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    commands = ["apt-get -qq update", "apt-get -qq download prometheus", "dpkg -x prometheus_*.deb .", "rm -f *.deb"]
    why = ""
    for command in commands:
        try:
            done = subprocess.run(["sh", "-c", command], cwd=_CACHE, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return f"{command}: not done within 300 s"
        why = why if done.returncode == 0 else f"{command}: {done.stderr.strip()[-300:]}"
    return why


class Prometheus:
    """One server with a configuration and a data folder of its own, which outlive a restart."""

    def __init__(self, program: Path, folder: Path, config: dict[str, Any], *, flags: tuple[str, ...] = ()):
        folder.mkdir(parents=True, exist_ok=True)
        self._program, self._folder, self._flags = program, folder, flags
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._file = folder / "prometheus.json"  # JSON is YAML
        self._file.write_text(json.dumps(config), encoding="utf-8")
        self._starts = 0
        self.process: Process | None = None

    def start(self) -> Prometheus:
        self._starts += 1
        arguments: list[str | Path] = [
            self._program, f"--config.file={self._file}", f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn", *self._flags,
        ]  # fmt: skip
        self.process = Process(arguments, self._folder, f"prometheus-{self._starts}")
        until(self._ready, "Prometheus is ready")
        return self

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.process.poll() is not None:
            raise AssertionError(f"Prometheus has ended: {self.process.stderr[-2000:]}")
        try:
            return fetch(self.url + "/-/ready")[0] == 200
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            with self.process as process:
                process.stop(signal.SIGTERM)
            self.process = None

    def __enter__(self) -> Prometheus:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        status, body = fetch(f"{self.url}/api/v1/query?query={quote(expression)}")
        assert status == 200, body[:500]
        result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return result

    def up(self) -> int:
        """How many targets are up."""
        return len(self.query("up == 1"))


def viz_config(targets: list[dict[str, Any]], base: str, interval: str = "1s") -> dict[str, Any]:
    """linkerd-viz' jobs over ``targets`` (of a targets API), reached at ``base``: host:port.

    viz' relabelling takes the labels from Kubernetes; here they stand as static labels, which Prometheus treats alike:
    a scraped label of the same name becomes ``exported_...``, honor_labels is off.
    """
    jobs: dict[str, list[dict[str, Any]]] = {}
    for target in targets:
        labels = {name: value for name, value in target["labels"].items() if name != "job"}
        labels["__metrics_path__"] = target["discoveredLabels"]["__metrics_path__"]
        jobs.setdefault(target["labels"]["job"], []).append({"targets": [base], "labels": labels})
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "10s"},
        "scrape_configs": [{"job_name": job, "static_configs": configs} for job, configs in jobs.items()],
    }
