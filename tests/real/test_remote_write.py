"""Debian's Prometheus writes by remote write 1.0, from three shards, through restarts of both: nothing lost, nothing twice."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.real.judge import Judge
from tests.real.processes import Agent, Demo
from tests.real.remote_writing import (
    Outcome,
    check,
    check_history,
    check_streams,
    pipeline,
    write_for_a_while,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def outcome(demo: Demo, prometheus_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return write_for_a_while(prometheus_program, demo, tmp_path_factory.mktemp("writing"), shards=3)


def test_every_sample_that_was_taken_arrives_once_with_its_value(outcome: Outcome) -> None:
    check(outcome)


def test_all_that_prometheus_kept_was_taken(outcome: Outcome) -> None:
    check_history(outcome)


def test_streams_are_in_order_and_have_starts(outcome: Outcome) -> None:
    check_streams(outcome)


def test_types_come_back(outcome: Outcome) -> None:
    kinds = {point.name: point.kind for point in outcome.points}
    assert kinds["request_total"] == "sum"
    assert kinds["response_latency_ms"] == "histogram"
    assert kinds["up"] == "gauge"


def test_a_port_that_is_taken_ends_the_agent_with_a_sentence(tmp_path: Path) -> None:
    with Judge("grpc") as judge, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Agent(tmp_path, pipeline(port, judge)) as agent:
            assert agent.process.wait(30) == 1
            assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in agent.stderr
            assert "receivers.prometheus.listen" in agent.stderr
