"""Collectors that come and go, and connections that they end: nothing is lost, and the ledger says so."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.peers.collector import Collector
from tests.peers.source import Counting, arrived_samples, of_source, pipeline
from tests.peers.test_collector import PROTOCOLS
from tests.real.judge import points_of
from tests.real.processes import Agent
from tests.real.waiting import until

DEATHS = 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_lost_when_it_dies(
    collector_program: Path, protocol: str, number: signal.Signals, tmp_path: Path
) -> None:
    source = Counting(500)
    with source.server, Collector(collector_program, tmp_path / "c", form="proto") as collector:
        with Agent(tmp_path, pipeline(source.server.url, collector.endpoint(protocol), protocol)) as agent:
            for _ in range(DEATHS):
                until(lambda: collector.written > 0, "a request")
                collector.stop(number)
                polls = source.polls
                until(lambda polls=polls: source.polls >= polls + 3, "polls while it is away")  # type: ignore[misc]
                assert agent.ledger()["exporters"]["collector"]["held"] > 0
                collector.start()
            until(lambda: agent.ledger()["exporters"]["collector"]["held"] < 2 * source.series, "what waited is sent")
            exporter = agent.ledger()["exporters"]["collector"]
            assert exporter["retries"] >= DEATHS
            assert not any(exporter["dropped"].values())
            assert agent.stop() == 0, agent.stderr
        assert source.missing(collector.points()) == {}
        assert twice(collector) <= unanswered(collector)


def twice(collector: Collector) -> set[Any]:
    """The samples that arrived more than once."""
    arrived = arrived_samples(of_source(collector.points()))
    return {sample for (sample, _), times in arrived.items() if times > 1}


def unanswered(collector: Collector) -> set[Any]:
    """The samples of requests that may have been taken without an answer: the last before each death."""
    last = [requests[-1] for requests in collector.requests_by_start()[:-1] if requests]
    return {sample for request in last for sample, _ in arrived_samples(points_of(request))}


CONNECTIONS: dict[str, dict[str, Any]] = {
    "GOAWAY": {
        "grpc": {"keepalive": {"server_parameters": {"max_connection_age": "300ms", "max_connection_age_grace": "5s"}}}
    },
    "idle": {
        "http": {"idle_timeout": "20ms"},
        "grpc": {"keepalive": {"server_parameters": {"max_connection_idle": "20ms"}}},
    },
    "no keep-alive": {"http": {"keep_alives_enabled": False}},
}


@pytest.mark.parametrize(
    ("protocol", "ending"), [(p, e) for e, of in CONNECTIONS.items() for p in PROTOCOLS if p.partition("/")[0] in of]
)
def test_connections_that_it_ends_cost_nothing(
    collector_program: Path, protocol: str, ending: str, tmp_path: Path
) -> None:
    source = Counting()
    with source.server, Collector(collector_program, tmp_path / "c", form="proto", **CONNECTIONS[ending]) as collector:
        batch = 'batch = { linger = "0s" }'
        text = pipeline(source.server.url, collector.endpoint(protocol), protocol, batch, interval="40ms")
        with Agent(tmp_path, text) as agent:
            until(lambda: source.polls >= 60, "polls")
            assert not any(agent.ledger()["exporters"]["collector"]["dropped"].values())
            assert agent.stop() == 0, agent.stderr
        assert source.missing(collector.points()) == {}
        assert Counter(arrived_samples(of_source(collector.points())).values()).keys() == {1}
