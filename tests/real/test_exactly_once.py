"""Every sample of every complete answer is delivered once: over twenty polls, some of them failing, Prometheus restarted.

What is true is said by two witnesses: the complete answers as they passed a forwarder, and Prometheus' own range selector.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.conversion import read_samples
from tests.real.judge import Judge, Point, Sample, bare_pipeline, samples_of
from tests.real.processes import Agent, Demo
from tests.real.prometheus import Prometheus, viz_config
from tests.real.servers import Forwarder
from tests.real.waiting import until

FAULTS = {5: "503", 8: "cut", 10: "short"}  # n-th poll -> what becomes of its answer
RESTART_AFTER, POLLS = 13, 21

pytestmark = pytest.mark.timeout(240)


@dataclass
class Outcome:
    points: list[Point]
    answers: list[bytes]  # the complete ones
    history: list[dict[str, Any]]  # of Prometheus: every raw sample
    ledger: dict[str, Any]
    metrics: str
    status: int
    log: str


@pytest.fixture(scope="module")
def outcome(demo: Demo, prometheus_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    targets = demo.targets
    base = demo.prometheus.removeprefix("http://")
    folder = tmp_path_factory.mktemp("agent")
    server = Prometheus(prometheus_program, tmp_path_factory.mktemp("prometheus"), viz_config(targets, base, "1s"))
    with server, Judge("grpc") as judge, Forwarder(server.url, lambda path, n: _fault(path, n)) as forwarder:
        until(lambda: server.up() == len(targets), "all targets are up")
        with Agent(folder, pipeline(forwarder.url, judge)) as agent:
            until(lambda: len(forwarder.of("/federate")) >= RESTART_AFTER, "the polls before the restart")
            server.stop()
            server.start()
            until(lambda: len(forwarder.of("/federate")) >= POLLS, "twenty polls")
            until(lambda: forwarder.of("/federate")[-1].status == 200, "Prometheus answers again")
            ledger, metrics = agent.ledger(), agent.admin("/metrics")[1].decode()
            status = agent.stop()
            log = agent.stderr
        history = server.query('{job=~"linkerd-.*"}[10m]')
        return Outcome(judge.points(), forwarder.whole("/federate"), history, ledger, metrics, status, log)


def _fault(path: str, number: int) -> str:
    return FAULTS.get(number, "") if path == "/federate" else ""


def pipeline(url: str, judge: Judge) -> str:
    return bare_pipeline("linkerd", f'type = "federate"\nurl = "{url}"\ninterval = "1s"', judge)


def key(name: str, labels: dict[str, str], ms: int) -> Sample:
    numbers = {name: float(labels[name]) for name in ("le", "quantile") if name in labels}
    return name, frozenset({**labels, **numbers}.items()), ms


def delivered(points: list[Point]) -> dict[Sample, list[float]]:
    """Every sample that arrived, with its value at each arrival; the agent's own series and endings apart."""
    found: dict[Sample, list[float]] = defaultdict(list)
    for point in points:
        if ("job", "linkerd") not in point.attributes and not point.no_value:
            for sample, value in samples_of(point):
                found[sample].append(value)
    return found


def answered(answers: list[bytes]) -> dict[Sample, float]:
    """Every sample of the complete answers."""
    found: dict[Sample, float] = {}
    for body in answers:
        for name, labels, value, ms in read_samples(body.decode()):
            assert ms is not None
            found[key(name, labels, ms)] = value
    return found


def test_the_run_was_as_planned(outcome: Outcome) -> None:
    assert outcome.status == 0, outcome.log
    assert len(outcome.answers) >= POLLS - len(FAULTS) - 6
    for sentence in ("answered 503", "ended early", "cut short"):
        assert sentence in outcome.log, sentence
    assert outcome.ledger["receivers"]["linkerd"]["failed_polls"] >= len(FAULTS)
    times = {round(float(time) * 1000) for series in outcome.history for time, _ in series["values"]}
    assert len(times) > 10, "Prometheus scraped all the while"


def test_every_sample_of_a_complete_answer_arrives_once_with_its_value(outcome: Outcome) -> None:
    arrived, true = delivered(outcome.points), answered(outcome.answers)
    assert len(true) > 10_000
    assert [sample for sample, values in arrived.items() if len(values) > 1] == []
    assert true.keys() - arrived.keys() == set()
    assert arrived.keys() - true.keys() == set()
    assert [sample for sample, value in true.items() if arrived[sample] != [value]] == []


def test_prometheus_itself_has_what_arrived_and_nothing_else_of_those_scrapes(outcome: Outcome) -> None:
    arrived = delivered(outcome.points)
    scrapes = {(dict(labels)["job"], dict(labels).get("instance"), ms) for _, labels, ms in arrived}
    true: dict[Sample, float] = {}
    for series in outcome.history:
        labels = dict(series["metric"])
        name = labels.pop("__name__")
        for time, value in series["values"]:
            ms = round(float(time) * 1000)
            if (labels["job"], labels["instance"], ms) in scrapes:
                true[key(name, labels, ms)] = float(value)
    assert {sample: [value] for sample, value in true.items()} == arrived


def test_no_stream_has_a_moment_twice_and_its_order_is_kept(outcome: Outcome) -> None:
    last: dict[tuple[Any, ...], int] = {}
    for point in outcome.points:
        assert point.time > last.get(point.stream, 0), point
        last[point.stream] = point.time


def test_start_times_never_overlap(outcome: Outcome) -> None:
    before: dict[tuple[Any, ...], Point] = {}
    cumulative = 0
    for point in outcome.points:
        if point.kind == "gauge":
            assert point.start == 0
            continue
        cumulative += 1
        assert 0 < point.start <= point.time, point
        previous = before.get(point.stream)
        if previous is not None:
            assert point.start == previous.start or point.start >= previous.time, (previous, point)
        before[point.stream] = point
    assert cumulative > 1000


def test_the_ledger_and_the_metrics_agree(outcome: Outcome) -> None:
    judge = outcome.ledger["exporters"]["judge"]
    assert judge["dropped"] == {} or not any(judge["dropped"].values())
    assert outcome.ledger["receivers"]["linkerd"]["dropped"].get("torn", 0) == 0
    assert "ebbtide_" in outcome.metrics
