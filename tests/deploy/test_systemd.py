"""The unit is what systemd takes, is as closed as it was, and leaves the agent what it needs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from agent.cli import CONFIG, USAGE, WELL
from agent.config import load
from agent.notify import watchdog_interval
from agent.run import CLOSE_SECONDS
from agent.settings import AgentSettings, parse_duration
from tests.deploy.tools import DEPLOY, ROOT, missing, output, program
from tests.real.processes import COMMAND, Process, environment, fetch
from tests.real.waiting import until

UNIT = DEPLOY / "systemd/ebbtide.service"
CREDENTIALS = DEPLOY / "systemd/credentials.conf"
FILE = DEPLOY / "systemd/agent.toml"

EXPOSURE = 1.2
"""What `systemd-analyze security` may say at most, of 10; it says 1.1. What is left is mostly that there is a network."""


def directives(path: Path) -> dict[str, list[str]]:
    """Every directive of a unit file with its values, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def seconds(span: str) -> float:
    return parse_duration(span.replace("min", "m"))


@pytest.fixture
def analyze() -> str:
    return program("systemd-analyze", "systemd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with the unit, its drop-in and what it starts; and the targets, so that the host has no say."""
    units = tmp_path / "etc/systemd/system"
    (units / "ebbtide.service.d").mkdir(parents=True)
    shutil.copy(UNIT, units)
    shutil.copy(CREDENTIALS, units / "ebbtide.service.d")
    for target in ("sysinit", "basic", "shutdown", "multi-user", "network-online"):
        (units / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    (units / "system.slice").write_text("[Unit]\nDescription=services\n")
    for executable in ("opt/ebbtide/bin/ebbtide", "bin/sh"):
        (tmp_path / executable).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / executable).write_text("#!/bin/true\n")
        (tmp_path / executable).chmod(0o755)
    return tmp_path


def verified(analyze: str, root: Path) -> list[str]:
    """What `systemd-analyze verify` complains of."""
    done = output(analyze, "verify", f"--root={root}", "--man=no", "ebbtide.service")
    lines = [line for line in done.stderr.splitlines() if "ebbtide" in line or "credentials" in line]
    return lines or ([done.stderr] if done.returncode else [])


def test_systemd_understands_the_unit_and_its_drop_in(analyze: str, root: Path) -> None:
    assert verified(analyze, root) == []


@pytest.mark.parametrize(
    ("was", "becomes"),
    [("ProtectSystem=strict", "ProtectSystem=very"), ("WatchdogSec=", "WatchdogSecs="), ("/opt/ebbtide/bin", "/opt")],
)
def test_systemd_complains_of_what_is_wrong(analyze: str, root: Path, was: str, becomes: str) -> None:
    unit = root / "etc/systemd/system/ebbtide.service"
    assert was in unit.read_text()
    unit.write_text(unit.read_text().replace(was, becomes))
    assert verified(analyze, root)


def test_the_unit_stays_closed(analyze: str) -> None:
    done = output(analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE * 10:.0f}", UNIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (exposure := re.search(r"exposure level for ebbtide.service: ([\d.]+)", done.stdout)), done.stdout
    assert float(exposure[1]) <= EXPOSURE


def test_the_unit_fits_the_agent() -> None:
    unit = directives(UNIT)
    assert unit["Type"] == ["notify"]  # agent.notify says READY=1, from the process that is started
    assert unit["ExecStart"] == ["/opt/ebbtide/bin/ebbtide run /etc/ebbtide/agent.toml"]
    assert unit["RestartPreventExitStatus"] == [f"{USAGE} {CONFIG}"]
    assert seconds(unit["WatchdogSec"][0]) >= 60
    assert "AF_UNIX" in unit["RestrictAddressFamilies"][0].split()  # the notify socket
    (stop,) = unit["TimeoutStopSec"]
    for longest in (AgentSettings().shutdown_timeout, load(FILE, {}).agent.shutdown_timeout):
        assert seconds(stop) > longest + 5 * CLOSE_SECONDS


def test_the_example_loads_as_it_is_and_with_its_secrets(tmp_path: Path) -> None:
    assert load(FILE, {}).warnings == []
    text = re.sub(r"^# (?=bearer_token_file|headers)", "", FILE.read_text(), flags=re.MULTILINE)
    names = re.findall(r"/run/credentials/ebbtide\.service/([\w-]+)", text)
    given = dict(value.split(":") for value in directives(CREDENTIALS)["LoadCredential"])
    assert sorted(names) == sorted(given)
    assert all(path == f"/etc/ebbtide/credentials/{name}" for name, path in given.items())
    for name in names:
        (tmp_path / name).write_text("s3cr3t\n")
    (tmp_path / "agent.toml").write_text(text.replace("/run/credentials/ebbtide.service", str(tmp_path)))
    config = load(tmp_path / "agent.toml", {})
    assert config.warnings == []
    config.try_out()


# -- as a service ------------------------------------------------------------------------------------------------------

PIPELINE = """
[agent]
admin = "127.0.0.1:0"
shutdown_timeout = "1s"
[receivers.linkerd]
type = "federate"
url = "http://127.0.0.1:9"
[exporters.backend]
type = "otlp"
protocol = "grpc"
endpoint = "http://127.0.0.1:9"
[pipelines.metrics]
receivers = ["linkerd"]
exporters = ["backend"]
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which a service manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


def test_the_service_manager_hears_that_it_is_ready_alive_and_stopping(manager: socket.socket, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(PIPELINE)
    allowed = 1.0
    env = environment(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC=f"{allowed * 1e6:.0f}", WATCHDOG_PID="")
    with Process([*COMMAND, "run", file], tmp_path, "service", env) as service:
        heard: list[tuple[float, bytes]] = []
        while sum(state == b"WATCHDOG=1" for _, state in heard) < 4:
            heard.append((time.monotonic(), manager.recv(200)))
        states = [state for _, state in heard]
        assert states.count(b"READY=1") == 1
        signs = [when for when, state in heard if state == b"WATCHDOG=1"]
        assert max(later - sooner for sooner, later in pairwise(signs)) < allowed
        service.process.send_signal(signal.SIGTERM)
        while manager.recv(200) != b"STOPPING=1":
            pass
        service.process.wait(30)
        assert watchdog_interval(env) == allowed / 2


# What the unit takes away, as far as a process can give it up by itself: all rights of root, a root that can be written,
# folders of others, a home. The state folder alone stays.
CAGE = """
set -e
mount --make-rprivate /
mount --bind "$STATE" "$STATE"
mount -o remount,bind,ro /
case "$STATE" in /tmp/*) ;; *) mount -t tmpfs -o ro tmpfs /tmp ;; esac  # unless this checkout lies there
cd /
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all env -i PATH=/usr/bin:/bin "$@"
"""


@pytest.fixture
def cage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], Path]]:
    """A command that shuts another in, and the one folder that can be written there."""
    for name in ("unshare", "setpriv"):
        program(name, "util-linux")
    state = ROOT / ".cache" / f"state-{os.getpid()}"
    state.mkdir(parents=True)
    try:
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
            pytest.skip("cannot make a mount namespace: run the tests as root to see the agent live without rights")
        yield ["env", f"STATE={state}", "unshare", "--mount", "sh", "-c", CAGE, "cage"], state
    finally:
        shutil.rmtree(state)


def test_the_agent_lives_without_rights(cage: tuple[list[str], Path], tmp_path: Path) -> None:
    command, state = cage
    (state / "agent.toml").write_text(PIPELINE)
    inside = [*command, "PYTHONDONTWRITEBYTECODE=1", f"PYTHONPATH={ROOT}"]
    locked = Process([*inside, sys.executable, "-c", LOOK_AROUND, state], tmp_path, "look")
    with locked:
        assert locked.process.wait(30) == 0, locked.stderr
    assert locked.stdout.split() == ["0000000000000000", "1", "read-only", "writable"]
    with Process([*inside, *COMMAND, "run", state / "agent.toml"], tmp_path, "agent") as agent:
        url = agent.says(r"admin port open at (http://\S+)")[1]
        until(lambda: fetch(url + "/readyz")[0] == 200, "ready")
        until(lambda: b'"failed_polls": 1' in fetch(url + "/ledger")[1], "a poll of nobody")
        assert fetch(url + "/metrics")[0] == 200
        agent.stop()
        assert "Traceback" not in agent.stderr
        assert agent.process.returncode in (WELL, 1)  # 1: what could not be sent is lost


LOOK_AROUND = """
import errno, os, re, sys
status = open("/proc/self/status").read()
print(re.search(r"CapEff:\\s*(\\w+)", status)[1], re.search(r"NoNewPrivs:\\s*(\\d)", status)[1])
def write(folder):
    try:
        open(os.path.join(folder, "x"), "w").close()
    except OSError as error:
        return {errno.EROFS: "read-only", errno.EACCES: "closed"}[error.errno]
    os.remove(os.path.join(folder, "x"))
    return "writable"
print(write("/etc"), write(sys.argv[1]))
"""


def test_missing_tools_are_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.deploy.tools.REQUIRED", True)
    with pytest.raises(pytest.fail.Exception, match="required"):
        missing("no tool")
    monkeypatch.setattr("tests.deploy.tools.REQUIRED", False)
    with pytest.raises(pytest.skip.Exception):
        missing("no tool")
