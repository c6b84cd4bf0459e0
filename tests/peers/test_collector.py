"""What a Collector takes from the agent, in each form and by each way, is what the direct conversion gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.peers.collector import Collector
from tests.peers.source import (
    Counting,
    arrived_samples,
    demo_types,
    expected_points,
    expected_samples,
    of_source,
    page_of,
    pipeline,
)
from tests.real.conversion import Labels
from tests.real.judge import Judge, Point
from tests.real.processes import Agent, Demo, once
from tests.real.servers import Forwarder
from tests.real.waiting import until

PROTOCOLS = ("http/protobuf", "http/json", "grpc")
WAYS = [
    ("http/protobuf", "gzip", "plain"), ("http/protobuf", "zstd", "plain"), ("http/protobuf", "none", "plain"),
    ("http/json", "gzip", "plain"), ("http/json", "zstd", "plain"), ("grpc", "none", "plain"), ("grpc", "gzip", "plain"),
    ("http/protobuf", "gzip", "mTLS"), ("http/json", "zstd", "mTLS"), ("grpc", "gzip", "mTLS"),
]  # fmt: skip


class Papers:
    """Certificates of one authority, as files."""

    def __init__(self, folder: Path):
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.server = self._issue(authority, folder, "server", "127.0.0.1", "localhost")
        self.client = self._issue(authority, folder, "client", "agent@shop.test")

    @staticmethod
    def _issue(authority: trustme.CA, folder: Path, name: str, *identities: str) -> dict[str, str]:
        issued = authority.issue_cert(*identities)
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        return {"cert_file": str(cert), "key_file": str(key)}


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def collectors(
    collector_program: Path, papers: Papers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Collector]]:
    """One that speaks plainly, one that asks for a client's certificate."""
    tls = {"tls": {**papers.server, "client_ca_file": str(papers.ca)}}
    with (
        Collector(collector_program, tmp_path_factory.mktemp("plain")) as plain,
        Collector(collector_program, tmp_path_factory.mktemp("tls"), both=tls) as strict,
    ):
        yield {"plain": plain, "mTLS": strict}


@pytest.mark.parametrize(("protocol", "compression", "tls"), WAYS, ids=["-".join(way) for way in WAYS])
def test_a_poll_arrives_as_the_direct_conversion_of_its_page(
    demo: Demo, collectors: dict[str, Collector], papers: Papers, protocol: str, compression: str, tls: str, tmp_path: Path
) -> None:  # fmt: skip
    collector = collectors[tls]
    before = len(collector.requests())
    more = f'compression = "{compression}"\n'
    if tls == "mTLS":
        client = papers.client
        more += f'tls = {{ ca_file = "{papers.ca}", cert_file = "{client["cert_file"]}", key_file = "{client["key_file"]}" }}\n'
    with Forwarder(demo.prometheus) as forwarder:
        status, ledger, agent = once(tmp_path, pipeline(forwarder.url, collector.endpoint(protocol), protocol, more))
        assert status == 0, agent.stderr
        (answer,) = forwarder.whole("/federate")
    points = collector.points_since(before)
    assert ledger["exporters"]["collector"]["points_sent"] == len(points)
    assert_converted(of_source(points), answer, demo_types(demo.prometheus))


def assert_converted(points: list[Point], answer: bytes, types: str) -> None:
    """Each point with its value, kind and time, each sample once; nothing else."""
    expected = expected_points(page_of(answer, types))
    arrived = {(point.name, Labels(point.attributes)): (point.kind, *point.body) for point in points}
    assert len(arrived) == len(points)
    assert arrived.keys() == expected.keys()
    assert {key: (value, expected[key]) for key, value in arrived.items() if value != expected[key]} == {}
    assert arrived_samples(points) == Counter(expected_samples([answer]).items())
    for point in points:
        assert not point.no_value
        assert point.cumulative == (point.kind in ("sum", "histogram"))
        assert point.monotonic == (point.kind == "sum")
        assert bool(point.start) == (point.kind != "gauge")


@pytest.mark.parametrize("form", ["proto", "json"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_run_arrives_as_at_a_judge(collector_program: Path, protocol: str, form: Any, tmp_path: Path) -> None:
    """Resources, scopes, units, start times, flags, endings: the Collector's own decoder reads what protobuf's reads."""
    source = Counting()
    with source.server, Judge(protocol) as judge, Collector(collector_program, tmp_path / "c", form=form) as collector:
        text = pipeline(source.server.url, collector.endpoint(protocol), protocol, profile="otel")
        text = text.replace('["collector"]', '["collector", "judge"]') + (
            f'[exporters.judge]\ntype = "otlp"\nendpoint = "{judge.endpoint}"\nprotocol = "{protocol}"\n'
        )
        with Agent(tmp_path, text) as agent:
            until(lambda: any(point.no_value for point in judge.points()), "the end of a series")
            assert agent.stop() == 0, agent.stderr
        bits = form == "proto" and protocol != "http/json"
        arrived, true = comparable(collector.points(), bits), comparable(judge.points(), bits)
        assert arrived == true
        assert {point.kind for point in arrived} == {"gauge", "sum", "histogram"}
        assert sum(point.no_value for point in arrived) == 1
        assert source.missing(arrived) == {}
        told = prometheus_types(collector)
        assert told.items() >= {"request_total": "counter", "response_latency_ms": "histogram", "up": "gauge"}.items()


def comparable(points: list[Point], bits: bool) -> Counter[Point]:
    """Points to be compared; without ``bits`` one NaN is as another, for JSON does not carry theirs."""
    if bits:
        return Counter(points)
    bare = [tuple("NaN" if isinstance(n, tuple) and n[:1] == ("NaN",) else n for n in point.body) for point in points]
    return Counter(Point(**{**vars(point), "body": body}) for point, body in zip(points, bare, strict=True))


def prometheus_types(collector: Collector) -> dict[str, str]:
    """By metric, what its metadata says of the Prometheus type."""
    return {
        metric.name: {one.key: one.value.string_value for one in metric.metadata}["prometheus.type"]
        for request in collector.requests()
        for of_resource in request.resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
    }
