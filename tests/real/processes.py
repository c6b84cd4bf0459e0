"""The command `ebbtide` as a process of its own: the agent, and the demo's mesh."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.real.waiting import PATIENCE, until

COMMAND = (sys.executable, "-m", "ebbtide")

_FOREIGN = ("OTEL_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "LINKERD_")


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that the surroundings must not influence."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default", **more}


def fetch(url: str, seconds: float = 30.0) -> tuple[int, bytes]:
    """GET a URL of loopback; status and body."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Process:
    """A process whose stdout and stderr go to files; killed at the end of the ``with`` block if it still runs."""

    def __init__(self, arguments: Sequence[str | Path], folder: Path, name: str, env: dict[str, str] | None = None):
        self.name = name
        self._out, self._err = folder / f"{name}.stdout", folder / f"{name}.stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env or environment(), cwd=folder,
            )  # fmt: skip

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if error is not None:  # a failure of the test is hard to read without what the process said
            print(f"--- stderr of {self.name}, its end ---\n{self.stderr[-6000:]}", file=sys.stderr)

    @property
    def stdout(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="replace")

    def says(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """Wait until stderr holds ``pattern``."""

        def said() -> re.Match[str] | None:
            found = re.search(pattern, self.stderr)
            if found is None and self.process.poll() is not None:
                raise AssertionError(f"{self.name} has ended with {self.process.returncode}: {self.stderr[-3000:]}")
            return found

        return until(said, f"{self.name} says {pattern!r}; it said {self.stderr[-2000:]!r}", seconds)

    def stop(self, number: int = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


class Agent(Process):
    """``ebbtide run`` with a pipeline file of this text."""

    def __init__(self, folder: Path, text: str, name: str = "agent", env: dict[str, str] | None = None):
        file = folder / f"{name}.toml"
        file.write_text(text, encoding="utf-8")
        super().__init__([*COMMAND, "run", file], folder, name, env)
        self._admin = ""

    def admin(self, path: str) -> tuple[int, bytes]:
        """GET a path of its admin port; the file must say ``admin = "127.0.0.1:0"``."""
        if not self._admin:
            self._admin = self.says(r"admin port open at (http://\S+)")[1]
        return fetch(self._admin + path)

    def ledger(self) -> dict[str, Any]:
        return read_ledger(self.admin("/ledger")[1])


def once(folder: Path, text: str, name: str = "once", env: dict[str, str] | None = None) -> tuple[int, Any, Process]:
    """Run ``ebbtide once``; exit status, ledger (None where none was written), and the process that has ended."""
    file, ledger = folder / f"{name}.toml", folder / f"{name}.json"
    file.write_text(text, encoding="utf-8")
    with Process([*COMMAND, "once", file, "--ledger", ledger], folder, name, env) as process:
        status = process.process.wait(120)
    return status, read_ledger(ledger.read_bytes()) if ledger.exists() else None, process


def read_ledger(body: bytes) -> dict[str, Any]:
    """The ledger, checked to balance at every edge."""
    ledger: dict[str, Any] = json.loads(body)
    wrong = imbalances(ledger)
    if wrong:
        raise AssertionError(f"the ledger does not balance: {wrong}; it is {body.decode()[:4000]}")
    return ledger


def imbalances(ledger: dict[str, Any]) -> list[str]:
    """Where a ledger does not balance, by the rules of its documentation."""
    wrong: list[str] = []

    def same(what: str, left: int, right: int) -> None:
        if left != right:
            wrong.append(f"{what}: {left} in, {right} out")

    for name, one in ledger["receivers"].items():
        gone = one["out"] + sum(one["dropped"].values())
        same(f"receiver {name}", one["samples"] + sum(one["added"].values()), gone)
    for name, pipeline in ledger["pipelines"].items():
        for stage, one in pipeline["processors"].items():
            gone = one["out"] + one["merged"] + sum(one["dropped"].values())
            same(f"processor {name}.{stage}", one["in"] + one["added"], gone)
    for name, one in ledger["exporters"].items():
        gone = one["sent"] + one["held"] + sum(one["dropped"].values())
        same(f"exporter {name}", one["in"] + one.get("restored", 0), gone)
    if len(ledger["pipelines"]) == 1:
        (pipeline,) = ledger["pipelines"].values()
        same("pipeline", sum(one["out"] for one in ledger["receivers"].values()), pipeline["in"])
        for name, one in ledger["exporters"].items():
            same(f"into exporter {name}", pipeline["out"], one["in"])
    return wrong


class Demo(Process):
    """The demo's mesh alone: ``prometheus`` and ``targets`` (as Prometheus' own API lists them)."""

    def __init__(self, folder: Path, *, proxies: int = 2, routes: int = 2, name: str = "demo"):
        size = ["--proxies", str(proxies), "--routes", str(routes)]
        super().__init__([*COMMAND, "demo", "--no-agent", *size], folder, name)
        self.prometheus = self.says(r"Prometheus at (http://127\.0\.0\.1:\d+)")[1]

    @property
    def targets(self) -> list[dict[str, Any]]:
        status, body = fetch(self.prometheus + "/api/v1/targets")
        assert status == 200
        active: list[dict[str, Any]] = json.loads(body)["data"]["activeTargets"]
        return active
