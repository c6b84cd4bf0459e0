"""The example package of docs/example-plugin, as a stranger would use it: installed by pip, listed, documented, run.

Nothing is fetched: pip builds with the hatchling that is installed, into a folder of its own.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "docs/example-plugin"
SECONDS = 100

Run = Callable[..., subprocess.CompletedProcess[str]]


def installed(source: Path, target: Path) -> Path:
    """Install a package with pip, offline."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")
    flags = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", "install", *flags, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return target


def runner(target: Path, cwd: Path) -> Run:
    """Return what runs a module of Python where the package is installed."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=cwd, env={**os.environ, "PYTHONPATH": str(target)},
            capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(EXAMPLE, tmp_path_factory.mktemp("example") / "site")


@pytest.fixture
def run(example: Path, tmp_path: Path) -> Run:
    return runner(example, tmp_path)


def test_it_is_listed_with_its_origin(run: Run) -> None:
    done = run("ebbtide", "components")
    assert done.returncode == 0, done.stderr
    for line in (
        r"  no_gauge +ebbtide-example 1\.0\.0  Drops every gauge\.",
        r"  round +ebbtide-example 1\.0\.0  Rounds gauges, so that they compress better\.",
        r"  loadavg +ebbtide-example 1\.0\.0  Reads the load averages of a Linux machine\.",
        r"  statsd +ebbtide-example 1\.0\.0  Sends every sample as a gauge, with DogStatsD's tags, by UDP\.",
        r"  resource +ebbtide \S+  .+",
    ):
        assert re.search(f"^{line}$", done.stdout, re.MULTILINE), line


def test_its_options_are_documented(run: Run) -> None:
    done = run("ebbtide", "docs", "round")
    assert done.stdout.startswith("round · processor · ebbtide-example 1.0.0\nRounds gauges")
    assert "digits  whole number, default 3\n      How many digits stay behind the decimal point." in done.stdout
    assert "queue.max_bytes" in run("ebbtide", "docs", "statsd").stdout
    schema = json.loads(run("ebbtide", "schema").stdout)
    assert '"digits"' in json.dumps(schema)


def test_its_file_is_checked_and_mistakes_in_it_are_found(run: Run, tmp_path: Path) -> None:
    done = run("ebbtide", "check", EXAMPLE / "agent.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pipelines.load: machine -> two_digits -> statsd" in done.stdout
    text = (EXAMPLE / "agent.toml").read_text(encoding="utf-8")
    (tmp_path / "bad.toml").write_text(text.replace("digits = 2", "digit = 2") + '\n[exporters.x]\ntype = "statsdd"\n')
    done = run("ebbtide", "check", "bad.toml")
    assert done.returncode == 78
    assert 'processors.two_digits.digit: unknown option; did you mean "digits"?' in done.stderr
    assert 'exporters.x.type: unknown type of exporter; did you mean "statsd"?' in done.stderr
    (tmp_path / "bad.toml").write_text(text.replace('prefix = "machine."', 'address = "nowhere"'))
    done = run("ebbtide", "check", "bad.toml")
    assert done.returncode == 78
    assert "exporters.statsd.address: cannot use this address" in done.stderr


def test_points_go_through_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "loadavg").write_text("0.518 1.004 12.5 1/467 12345\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        text = (EXAMPLE / "agent.toml").read_text(encoding="utf-8")
        text = text.replace('type = "loadavg"', 'type = "loadavg"\npath = "loadavg"')
        text = text.replace('type = "statsd"', f'type = "statsd"\naddress = "127.0.0.1:{listener.getsockname()[1]}"')
        text += '[processors.none]\ntype = "no_gauge"\n[pipelines.nothing]\n'
        text += 'receivers = ["machine"]\nprocessors = ["none"]\nexporters = ["statsd"]\n'
        (tmp_path / "agent.toml").write_text(text)
        done = run("ebbtide", "once", "--ledger", "ledger.json")
        assert done.returncode == 0, done.stderr
        lines = listener.recv(65536).decode().splitlines()
    assert [re.sub(r"\|#.*window", "|window", line) for line in lines] == [
        "machine.system_load:0.52|g|window:1m",
        "machine.system_load:1.0|g|window:5m",
        "machine.system_load:12.5|g|window:15m",
    ]
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    assert ledger["receivers"]["machine"]["samples"] == 3
    assert ledger["pipelines"]["nothing"]["processors"]["none"]["dropped"] == {"filtered": 3}
    assert (ledger["exporters"]["statsd"]["sent"], ledger["exporters"]["statsd"]["requests"]) == (3, 1)


def test_its_own_tests_pass(run: Run) -> None:
    done = run(
        "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-c", EXAMPLE / "pyproject.toml", EXAMPLE / "tests"
    )
    assert done.returncode == 0, done.stdout
    assert " failed" not in done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 50  # type: ignore[index]


def test_every_public_name_that_it_uses_is_of_the_face() -> None:
    """A stranger's plugin needs ``ebbtide``, and ``agent.testing`` for its tests; nothing else."""
    for path in EXAMPLE.rglob("*.py"):
        for module in re.findall(r"^(?:from|import) (\w+(?:\.\w+)*)", path.read_text(encoding="utf-8"), re.MULTILINE):
            top = module.partition(".")[0]
            assert top not in ("receivers", "processors", "exporters")
            assert top != "agent" or (module == "agent.testing" and path.parent.name == "tests")


# -- the smallest plugin ---------------------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    """The blocks of docs/plugins.md that begin with this word."""
    text = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_smallest_plugin_of_the_guide_works_as_it_stands_there(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/my_plugins.py").write_text(blocks("python plugin")[0], encoding="utf-8")
    (tmp_path / "package/pyproject.toml").write_text(blocks("toml pyproject")[0], encoding="utf-8")
    run = runner(installed(tmp_path / "package", tmp_path / "site"), tmp_path)
    assert re.search(
        r"^  no_gauge +my-plugins 1\.0 +Drops every gauge\.$", run("ebbtide", "components").stdout, re.MULTILINE
    )
    (tmp_path / "agent.toml").write_text(
        '[receivers.a]\ntype = "federate"\nurl = "http://127.0.0.1:9"\n[processors.b]\ntype = "no_gauge"\n'
        '[exporters.c]\ntype = "stdout"\n[pipelines.p]\nreceivers = ["a"]\nprocessors = ["b"]\nexporters = ["c"]\n'
    )
    done = run("ebbtide", "once", "--ledger", "ledger.json")
    assert done.returncode == 1  # nobody listens on port 9; the receiver's own five gauges came nevertheless
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    assert ledger["pipelines"]["p"]["processors"]["b"] == {
        "in": 5, "out": 0, "added": 0, "merged": 0, "dropped": {"filtered": 5},
    }  # fmt: skip
