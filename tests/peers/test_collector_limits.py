"""What a Collector refuses is cut, tried again, or given up with a reason, as the refusal asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.peers.collector import Collector
from tests.peers.source import Counting, pipeline
from tests.peers.test_collector import PROTOCOLS
from tests.real.processes import Agent, once
from tests.real.waiting import until

BODY = {"max_request_body_size": 200_000}  # bytes, before compression and after
MESSAGE = {"max_recv_msg_size_mib": 1}

MANY = {"http/protobuf": 8000, "http/json": 4000, "grpc": 16_000}  # series: more than a MiB
TOKEN = "tok3n-of-the-test"
AUTH = {
    "both": {"auth": {"authenticator": "bearertokenauth"}},
    "extensions": {"bearertokenauth": {"token": TOKEN}},
}


@pytest.mark.parametrize(
    ("protocol", "compression"),
    [("http/protobuf", "gzip"), ("http/protobuf", "none"), ("http/json", "zstd"), ("http/json", "none"), ("grpc", "none"),
     ("grpc", "gzip")],
)  # fmt: skip
def test_a_request_above_its_limit_is_cut_until_it_fits(
    collector_program: Path, protocol: str, compression: str, tmp_path: Path
) -> None:
    """The Collector's HTTP server answers 400, "http: request body too large", where 413 would be expected."""
    many = MANY[protocol]
    source = Counting(many)
    with (
        source.server,
        Collector(collector_program, tmp_path / "c", http=BODY, grpc=MESSAGE, form="proto") as collector,
    ):
        text = pipeline(source.server.url, collector.endpoint(protocol), protocol, f'compression = "{compression}"')
        status, ledger, agent = once(tmp_path, text)
        assert status == 0, agent.stderr
        exporter = ledger["exporters"]["collector"]
        assert exporter["sent"] == exporter["in"] > many
        assert not any(exporter["dropped"].values())
        requests, points = collector.requests(), collector.points()
    assert len(requests) > 2
    assert all(request.ByteSize() <= (1 << 20) for request in requests)
    assert len({point.stream for point in points}) == len(points) == exporter["points_sent"]
    assert sum(point.name == "request_total" for point in points) == many


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_a_single_point_above_its_limit_is_dropped_as_too_large(
    collector_program: Path, protocol: str, tmp_path: Path
) -> None:
    source = Counting(20)
    with (
        source.server,
        Collector(collector_program, tmp_path / "c", http={"max_request_body_size": 100}) as collector,
    ):
        status, ledger, _ = once(tmp_path, pipeline(source.server.url, collector.endpoint(protocol), protocol))
        exporter = ledger["exporters"]["collector"]
        assert (status, exporter["sent"], exporter["held"]) == (1, 0, 0)
        assert exporter["dropped"] == {"too_large": exporter["in"]}
        assert collector.requests() == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_overloaded_one_gets_all_in_the_end(collector_program: Path, protocol: str, tmp_path: Path) -> None:
    """Its memory limiter refuses: 503 over HTTP, UNAVAILABLE by gRPC."""
    source = Counting()
    limiter: dict[str, Any] = {"memory_limiter": {"check_interval": "100ms", "limit_mib": 1}}
    with source.server, Collector(collector_program, tmp_path / "c", processors=limiter) as collector:
        text = pipeline(source.server.url, collector.endpoint(protocol), protocol)
        with Agent(tmp_path, text) as agent:
            until(lambda: agent.ledger()["exporters"]["collector"]["retries"] >= 3, "refusals")
            assert agent.ledger()["exporters"]["collector"]["sent"] == 0
            assert ("UNAVAILABLE" if protocol == "grpc" else "HTTP 503") in agent.stderr
            collector.stop()
            collector.processors = {}
            collector.start()
            until(lambda: agent.ledger()["exporters"]["collector"]["sent"] > 0, "what waited is sent")
            assert not any(agent.ledger()["exporters"]["collector"]["dropped"].values())
            assert agent.stop() == 0, agent.stderr
        assert source.missing(collector.points()) == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_token_opens_it(collector_program: Path, protocol: str, tmp_path: Path) -> None:
    source = Counting(20)
    with source.server, Collector(collector_program, tmp_path / "c", **AUTH) as collector:  # type: ignore[arg-type]
        text = pipeline(
            source.server.url,
            collector.endpoint(protocol),
            protocol,
            f'headers = {{ Authorization = "Bearer {TOKEN}" }}',
        )
        status, _, agent = once(tmp_path, text)
        assert status == 0, agent.stderr
        assert {point.name for point in collector.points()} >= {"request_total", "response_latency_ms", "up"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_token_is_final_and_named(collector_program: Path, protocol: str, tmp_path: Path) -> None:
    source = Counting(20)
    with source.server, Collector(collector_program, tmp_path / "c", **AUTH) as collector:  # type: ignore[arg-type]
        text = pipeline(
            source.server.url, collector.endpoint(protocol), protocol, 'headers = { Authorization = "Bearer s3cr3t" }'
        )
        status, ledger, agent = once(tmp_path, text)
        exporter = ledger["exporters"]["collector"]
        assert (status, exporter["dropped"]) == (1, {"rejected": exporter["in"]})
        assert ("UNAUTHENTICATED" if protocol == "grpc" else "HTTP 401") in agent.stderr
        assert "s3cr3t" not in agent.stderr
        assert collector.requests() == []
