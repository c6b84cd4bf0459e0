"""How the command lives and ends: draining, an exporter that is away, exit statuses, pipes, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.judge import Judge, Point
from tests.real.processes import COMMAND, Agent, Demo, Process, environment, once
from tests.real.servers import HttpServer, Reply
from tests.real.waiting import PATIENCE, free_port, until


def pipeline(url: str, endpoint: str, protocol: str = "grpc", more: str = "", agent: str = "") -> str:
    return f"""
[agent]
admin = "127.0.0.1:0"
{agent}
[receivers.linkerd]
type = "federate"
url = "{url}"
interval = "300ms"
[exporters.judge]
type = "otlp"
endpoint = "{endpoint}"
protocol = "{protocol}"
timeout = "5s"
{more}
retry = {{ initial = "100ms", max = "300ms" }}
[pipelines.metrics]
receivers = ["linkerd"]
exporters = ["judge"]
"""


class Counting:
    """A Prometheus that counts: at its n-th answer every counter stands at n."""

    def __init__(self, series: int = 200):
        self.series, self.polls = series, 0
        self.server = HttpServer(self._answer)

    def _answer(self, handler: Any) -> Reply:
        if not handler.path.startswith("/federate") or "match%5B%5D=up" in handler.path:  # not the question for targets
            return Reply(404, b"404 page not found\n")
        self.polls += 1
        ms = round(time.time() * 1000)
        labels = 'instance="10.0.0.1:4191",job="linkerd-proxy",pod="p",namespace="n",deployment="d"'
        lines = [
            f'request_total{{{labels},target_addr="10.0.0.2:{n}"}} {self.polls} {ms}\n' for n in range(self.series)
        ]
        return Reply(200, ("# TYPE request_total untyped\n" + "".join(lines)).encode())


@pytest.fixture
def counting() -> Iterator[Counting]:
    source = Counting()
    with source.server:
        yield source


def values(points: list[Point]) -> dict[Any, list[float]]:
    """The values of each counter's stream in order of arrival."""
    found: dict[Any, list[float]] = {}
    for point in points:
        if point.name == "request_total":
            assert point.kind == "sum"
            found.setdefault(point.stream, []).append(point.body[0])
    return found


def assert_complete(points: list[Point], polls: int, series: int) -> None:
    """Every stream has each of the values 1, 2, 3 ... once and in order; the stop may have cut off the last poll."""
    found = values(points)
    assert len(found) == series
    (arrived,) = {tuple(one) for one in found.values()}
    assert arrived == tuple(float(n + 1) for n in range(len(arrived)))
    assert polls - 1 <= len(arrived) <= polls


# -- stopping ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf", "http/json"])
def test_sigterm_under_load_drains_and_ends_well(counting: Counting, protocol: str, tmp_path: Path) -> None:
    with Judge(protocol) as judge, Agent(tmp_path, pipeline(counting.server.url, judge.endpoint, protocol)) as agent:
        until(lambda: counting.polls >= 3, "some polls")
        judge.behaviour = "slow:0.5"
        polls = counting.polls
        until(lambda: counting.polls >= polls + 3, "polls that wait behind a slow destination")
        began = time.monotonic()
        assert agent.stop() == 0, agent.stderr
        assert time.monotonic() - began < 10 + 5
        assert_complete(judge.points(), counting.polls, counting.series)
        assert "stopping (SIGTERM)" in agent.stderr


def test_a_deadline_that_costs_points_is_a_failure(counting: Counting, tmp_path: Path) -> None:
    text = pipeline(counting.server.url, f"http://127.0.0.1:{free_port()}", agent='shutdown_timeout = "500ms"')
    with Agent(tmp_path, text) as agent:
        until(lambda: counting.polls >= 2, "two polls")
        began = time.monotonic()
        assert agent.stop() == 1
        assert time.monotonic() - began < 5
        assert "dropped shutdown" in agent.stderr


def test_a_second_signal_gives_up(counting: Counting, tmp_path: Path) -> None:
    text = pipeline(counting.server.url, f"http://127.0.0.1:{free_port()}", agent='shutdown_timeout = "60s"')
    with Agent(tmp_path, text) as agent:
        until(lambda: counting.polls >= 2, "two polls")
        agent.process.send_signal(signal.SIGTERM)
        agent.says(r"stopping \(SIGTERM\)")
        assert agent.stop(seconds=15) == 1


# -- an exporter that is away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_nothing_is_lost_while_the_destination_is_away(counting: Counting, protocol: str, tmp_path: Path) -> None:
    with Judge(protocol) as judge, Agent(tmp_path, pipeline(counting.server.url, judge.endpoint, protocol)) as agent:
        until(lambda: values(judge.points()), "first points")
        judge.close()
        polls = counting.polls
        until(lambda: counting.polls >= polls + 4, "polls while the destination is away")
        held = agent.ledger()["exporters"]["judge"]["held"]
        assert held > counting.series
        judge.open()
        until(lambda: agent.ledger()["exporters"]["judge"]["held"] < held / 2, "what waited is sent")
        assert agent.ledger()["exporters"]["judge"]["retries"] > 0
        assert agent.stop() == 0, agent.stderr
        assert_complete(judge.points(), counting.polls, counting.series)


@pytest.mark.parametrize(
    ("protocol", "failure"), [("grpc", "503"), ("http/protobuf", "503"), ("http/protobuf", "hang up")]
)
def test_a_failing_destination_gets_all_in_the_end(
    counting: Counting, protocol: str, failure: str, tmp_path: Path
) -> None:
    with Judge(protocol) as judge, Agent(tmp_path, pipeline(counting.server.url, judge.endpoint, protocol)) as agent:
        until(lambda: values(judge.points()), "first points")
        judge.behaviour = failure
        failed = len(judge.received)
        until(lambda: len(judge.received) >= failed + 3, "failures")
        judge.behaviour = ""
        assert agent.stop() == 0, agent.stderr
        assert_complete(judge.points(), counting.polls, counting.series)


def test_a_destination_that_answers_nonsense_does_not_kill(counting: Counting, tmp_path: Path) -> None:
    with Judge("http/protobuf") as judge:
        text = pipeline(counting.server.url, judge.endpoint, "http/protobuf")
        with Agent(tmp_path, text) as agent:
            until(lambda: values(judge.points()), "first points")
            for behaviour in ("nonsense", "cut", "400"):
                judge.behaviour = behaviour
                seen = len(judge.received)
                until(lambda seen=seen: len(judge.received) >= seen + 2, behaviour)  # type: ignore[misc]
            judge.behaviour = ""
            points = len(judge.points())
            until(lambda: len(judge.points()) > points, "points after the nonsense")
            assert agent.ledger()["exporters"]["judge"]["dropped"].get("rejected", 0) > 0
            assert agent.stop() == 0, agent.stderr


def test_a_slow_destination_holds_back_no_other(counting: Counting, tmp_path: Path) -> None:
    with Judge("http/protobuf") as slow, Judge("http/protobuf") as quick:
        slow.behaviour = "slow:3"
        text = pipeline(counting.server.url, slow.endpoint, "http/protobuf").replace(
            '["judge"]', '["judge", "quick"]\n[exporters.quick]\ntype = "otlp"\nendpoint = "' + quick.endpoint + '"'
        )
        with Agent(tmp_path, text) as agent:
            until(lambda: len(quick.received) >= 8, "the quick one is served")
            assert len(slow.received) <= 3
            slow.behaviour = ""
            assert agent.stop() == 0, agent.stderr
        assert_complete(quick.points(), counting.polls, counting.series)
        assert_complete(slow.points(), counting.polls, counting.series)


# -- once ----------------------------------------------------------------------------------------------------------------


def test_once_fails_and_says_so_where_the_destination_is_away(counting: Counting, tmp_path: Path) -> None:
    text = pipeline(counting.server.url, f"http://127.0.0.1:{free_port()}", agent='shutdown_timeout = "1s"')
    status, ledger, process = once(tmp_path, text)
    assert status == 1
    judge = ledger["exporters"]["judge"]
    assert judge["held"] + judge["dropped"].get("shutdown", 0) == counting.series + 5
    assert "cannot" in process.stderr


def test_once_fails_where_the_source_is_away_and_delivers_that_it_is_down(tmp_path: Path) -> None:
    with Judge("grpc") as judge:
        status, ledger, process = once(tmp_path, pipeline(f"http://127.0.0.1:{free_port()}", judge.endpoint))
        assert status == 1
        assert (
            ledger["receivers"]["linkerd"] | {"failed_polls": 1, "samples": 0, "out": 5}
            == ledger["receivers"]["linkerd"]
        )
        assert [point.body for point in judge.points() if point.name == "up"] == [(0.0,)]
        assert "cannot reach" in process.stderr


# -- exit statuses -------------------------------------------------------------------------------------------------------

GOOD = """
[receivers.linkerd]
type = "federate"
url = "http://127.0.0.1:9"
[exporters.console]
type = "stdout"
[pipelines.metrics]
receivers = ["linkerd"]
exporters = ["console"]
"""

MISTAKES = {
    "TOML error": (GOOD + "= 3\n", ".toml:10:"),
    "unknown key": (GOOD.replace('type = "stdout"', 'type = "stdout"\nformt = "text"'), "exporters.console.formt"),
    "unknown table": (GOOD + "[exporter.x]\n", "exporter"),
    "unknown type": (GOOD.replace('"federate"', '"federat"'), "federate"),
    "unknown id": (GOOD.replace('receivers = ["linkerd"]', 'receivers = ["linkerrd"]'), "linkerd"),
    "wrong type": (GOOD.replace("url =", "interval = 3\nurl ="), "receivers.linkerd.interval"),
    "bad duration": (GOOD.replace("url =", 'interval = "3 parsecs"\nurl ='), "receivers.linkerd.interval"),
    "missing option": (GOOD.replace('url = "http://127.0.0.1:9"', ""), "receivers.linkerd.url"),
    "no receivers": (GOOD.replace('receivers = ["linkerd"]', "receivers = []"), "pipelines.metrics"),
    "no exporters": (GOOD.replace('exporters = ["console"]', "exporters = []"), "pipelines.metrics"),
    "unset variable": (GOOD.replace("http://127.0.0.1:9", "${EBBTIDE_UNSET_VARIABLE}"), "EBBTIDE_UNSET_VARIABLE"),
    "unreadable file": (GOOD.replace("http://127.0.0.1:9", "${file:/nonexistent/secret}"), "/nonexistent/secret"),
    "scheme of gRPC": (GOOD.replace('"stdout"', '"otlp"\nprotocol = "grpc"\nendpoint = "localhost:4317"'), "endpoint"),
    "disk without state_dir": (GOOD.replace('"stdout"', '"stdout"\nqueue = { kind = "disk" }'), "queue.kind"),
    "admin is no address": ('agent.admin = "nowhere"\n' + GOOD, "agent.admin"),
    "two credentials": (GOOD.replace("url =", 'bearer_token = "s3cr3t"\nbearer_token_file = "/x"\nurl ='), "bearer_token"),
}  # fmt: skip


def run(*arguments: str | Path, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=60
    )


# Starting Python for each mistake and command takes a minute in all: one process tries them, a few are tried alone.
TRY_ALL = """
import contextlib, io, json, pathlib, sys
from agent.cli import main
found = []
for file in sorted(pathlib.Path().glob("mistake-*.toml")):
    for command in ("run", "check", "once"):
        said, printed = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
            status = main([command, str(file)])
        found.append([str(file), command, status, said.getvalue(), printed.getvalue()])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, str, str]]:
    """Status, stderr and stdout of each mistake under each command."""
    folder = tmp_path_factory.mktemp("mistakes")
    names = {f"mistake-{number:02}.toml": name for number, name in enumerate(MISTAKES)}
    for file, name in names.items():
        (folder / file).write_text(MISTAKES[name][0])
    done = subprocess.run(
        [sys.executable, "-c", TRY_ALL], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {(names[file], command): tuple(rest) for file, command, *rest in json.loads(done.stdout)}


@pytest.mark.parametrize("command", ["run", "check", "once"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_file_is_status_78(
    refusals: dict[tuple[str, str], tuple[int, str, str]], mistake: str, command: str
) -> None:
    status, said, printed = refusals[mistake, command]
    assert status == 78, said
    assert MISTAKES[mistake][1] in said
    assert "Traceback" not in said
    assert "s3cr3t" not in said
    assert printed == ""


@pytest.mark.parametrize("mistake", ["TOML error", "unset variable"])
def test_the_process_ends_with_78_too(mistake: str, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(MISTAKES[mistake][0])
    done = run("run", folder=tmp_path)
    assert done.returncode == 78, done.stderr
    assert MISTAKES[mistake][1] in done.stderr
    assert done.stdout == ""


def test_a_file_that_is_not_there_is_status_78(tmp_path: Path) -> None:
    done = run("run", "missing.toml", folder=tmp_path)
    assert done.returncode == 78
    assert "missing.toml" in done.stderr


def test_check_opens_nothing_and_is_content(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(GOOD)
    done = run("check", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "receivers.linkerd" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["bogus"], [], ["run", "--bogus"], ["demo", "--proxies", "none"], ["docs", "bogus"]]
)
def test_a_wrong_command_line_is_status_2(arguments: list[str], tmp_path: Path) -> None:
    assert run(*arguments, folder=tmp_path).returncode == 2


def test_a_port_that_is_taken_is_status_1_and_names_admin(tmp_path: Path) -> None:
    with HttpServer(lambda handler: Reply()) as taken:
        (tmp_path / "agent.toml").write_text(f'agent.admin = "127.0.0.1:{taken.port}"\n' + GOOD)
        done = run("run", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "admin" in done.stderr
    assert "Traceback" not in done.stderr


# -- pipes and signals ---------------------------------------------------------------------------------------------------


def console(url: str, form: str = "text") -> str:
    return GOOD.replace("http://127.0.0.1:9", url).replace('"stdout"', f'"stdout"\nformat = "{form}"').replace(
        "[receivers.linkerd]", 'agent.admin = ""\n[receivers.linkerd]\ninterval = "200ms"'
    )  # fmt: skip


@pytest.mark.parametrize("form", ["text", "otlp_json"])
def test_a_closed_pipe_ends_the_agent_quietly(counting: Counting, form: str, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(console(counting.server.url, form))
    with subprocess.Popen(
        [*COMMAND, "run"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as agent:
        try:
            assert agent.stdout
            assert agent.stderr
            assert agent.stdout.readline()
            agent.stdout.close()
            status = agent.wait(PATIENCE)
            said = agent.stderr.read().decode()
        finally:
            agent.kill()
    assert status == 0, said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert "rror" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_shows_typed_points_with_workloads_and_ends_at_ctrl_c(number: int, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(console("${LINKERD_PROMETHEUS_URL}"))
    with Process([*COMMAND, "demo", "--proxies", "2", file], tmp_path, "demo") as demo:
        until(lambda: "request_total" in demo.stdout and "response_latency_ms" in demo.stdout, "points on stdout")
        assert demo.stop(number) == 0, demo.stderr
        assert demo.stderr.startswith("ebbtide demo")
        assert "Traceback" not in demo.stderr
        workloads = {name for name in ("web", "checkout", "cart", "orders", "catalog") if name in demo.stdout}
        assert workloads, demo.stdout[:2000]


def test_ctrl_c_ends_the_mesh_alone(tmp_path: Path) -> None:
    with Demo(tmp_path) as demo:
        assert demo.targets
        children = Path(f"/proc/{demo.process.pid}/task/{demo.process.pid}/children")
        assert not children.exists() or children.read_text() == ""  # it starts no process of its own
        assert demo.stop(signal.SIGINT) == 0, demo.stderr


def test_the_admin_port_answers(counting: Counting, tmp_path: Path) -> None:
    with Judge("grpc") as judge, Agent(tmp_path, pipeline(counting.server.url, judge.endpoint)) as agent:
        until(lambda: agent.admin("/readyz")[0] == 200, "ready")
        assert agent.admin("/healthz")[0] == 200
        assert agent.admin("/nowhere")[0] == 404
        until(lambda: agent.ledger()["exporters"]["judge"]["sent"] > 0, "something was sent")
        assert b"ebbtide_" in agent.admin("/metrics")[1]
        assert agent.stop() == 0


def test_the_ledger_balances_at_any_moment(tmp_path: Path) -> None:
    """Also in the middle of a poll, whose samples are on their way."""
    source = Counting(series=20_000)
    with (
        source.server,
        Judge("http/protobuf") as judge,
        Agent(tmp_path, pipeline(source.server.url, judge.endpoint, "http/protobuf")) as agent,
    ):
        while source.polls < 6:
            agent.ledger()  # checks itself
        assert agent.stop() == 0, agent.stderr
