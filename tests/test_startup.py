"""What a start imports: nothing that only a few need, so that the first poll need not wait for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# By package: what it is imported for.
NOT_FOR_A_START = {
    "asyncio": "nothing: the loop is trio's",
    "grpc": 'protocol = "grpc"',
    "google.protobuf": "an answer that says something, requests that are cut, JSON, stdout",
    "opentelemetry": "/metrics, and telemetry that is shipped",
    "requests": "telemetry that is shipped",
    "multiprocessing": "benchmarks",
    "pydantic.v1": "nothing",
    "re2": "relabel rules and selectors",
    "rich": "nothing",
    "click": "nothing",
    "agent.demo": "ebbtide demo",
    "agent.preview": "ebbtide preview",
    "agent.reference": "ebbtide docs",
    "agent.schema": "ebbtide schema",
    "exporters.otlp_grpc": 'protocol = "grpc"',
    "confluent_kafka": "the exporter kafka",
    "exporters.kafka": "the exporter of this name",
    "exporters.stdout": "the exporter of this name",
}
NOT_FOR_THE_COMMAND_LINE = (*NOT_FOR_A_START, "numpy", "trio", "pydantic", "httpx", "ssl", "agent.config", "receivers")

_FILE = """\
[receivers.linkerd]
type = "federate"
url = "{url}"
[exporters.backend]
type = "otlp"
endpoint = "{url}"
[pipelines.metrics]
receivers = ["linkerd"]
exporters = ["backend"]
[agent]
admin = "127.0.0.1:0"
"""

# Prints what is imported once the command has ended.
_COMMAND = """\
import sys
import agent.cli
status = agent.cli.main(sys.argv[1:])
print("IMPORTED", *sys.modules, sep="\\n")
raise SystemExit(status)
"""

# The Prometheus is a thread of the agent: the request comes in, and what is imported by then is printed.
_FIRST_POLL = """\
import os, pathlib, socket, sys, threading

server = socket.create_server(("127.0.0.1", 0))

def wait():
    server.accept()[0].recv(1)
    print("IMPORTED", *list(sys.modules), sep="\\n", flush=True)
    os._exit(0)

threading.Thread(target=wait, daemon=True).start()
file = pathlib.Path(sys.argv[1])
file.write_text(file.read_text().replace("{url}", "http://127.0.0.1:%d" % server.getsockname()[1]))
import agent.cli
raise SystemExit(agent.cli.main(["run", str(file)]))
"""


def imported_by(code: str, *arguments: str) -> set[str]:
    """Run the code in a fresh interpreter; returns the modules that it says it has imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.partition("IMPORTED\n")[2].split())


def within(packages: object, imported: set[str]) -> list[str]:
    """Those of the packages of which something was imported."""
    assert "sys" in imported
    return [package for package in packages if any(f"{name}.".startswith(f"{package}.") for name in imported)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("run", "--help")], ids=" ".join)
def test_the_command_line_is_answered_at_once(arguments: tuple[str, ...]) -> None:
    assert not within(NOT_FOR_THE_COMMAND_LINE, imported_by(_COMMAND, *arguments))


def test_so_it_is_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ebbtide", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("usage: ebbtide")
    assert not within(NOT_FOR_THE_COMMAND_LINE, set(done.stderr.replace("|", " ").split()) | {"sys"})


def test_check_imports_what_the_file_names(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(_FILE.format(url="http://127.0.0.1:9090"))
    imported = imported_by(_COMMAND, "check", str(file))
    assert not within(NOT_FOR_A_START, imported)
    assert {"receivers.federate", "exporters.otlp"} <= imported


def test_so_does_a_run_up_to_the_first_poll(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(_FILE)
    imported = imported_by(_FIRST_POLL, str(file))
    assert not within(NOT_FOR_A_START, imported)
    assert {"receivers.federate", "exporters.otlp", "h11"} <= imported
