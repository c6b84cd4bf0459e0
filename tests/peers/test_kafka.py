"""A Collector reads the topic that the agent writes, and finds the points that the OTLP exporter delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.collector import Collector
from tests.real.conftest import kafka, kafka_jars, kafka_of_all  # noqa: F401
from tests.real.judge import Judge
from tests.real.kafka import ADMIN, Kafka
from tests.real.kafka_load import Pods, books, caught_up, pipeline, stopped_well, to
from tests.real.processes import Agent
from tests.real.waiting import until

POLLS = 10


@pytest.fixture
def pods() -> Iterator[Pods]:
    with Pods(wide=300) as pods:
        yield pods


@pytest.mark.parametrize("encoding", ["otlp_proto", "otlp_json"])
@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", "snappy", "none"])
def test_the_collector_finds_the_points_of_the_otlp_exporter(
    kafka: Kafka,  # noqa: F811
    collector_program: Path,
    pods: Pods,
    tmp_path: Path,
    encoding: str,
    compression: str,
) -> None:
    topic = f"peer-{encoding}-{compression}"
    kafka.create_topic(topic, 4)
    options = f'encoding = "{encoding}"\ncompression = "{compression}"\nmax_message = "8000B"'
    read = {
        "brokers": [kafka.address()],
        "group_id": topic,
        "initial_offset": "earliest",
        "metrics": {"topics": [topic], "encoding": encoding},
    }
    with (
        Judge("http/protobuf") as judge,
        Collector(collector_program, tmp_path, receivers={"kafka": read}) as collector,
    ):
        exporters = {
            "kafka": to(kafka.address(), topic, options),
            "judge": f'type = "otlp"\nendpoint = "{judge.endpoint}"',
        }
        with Agent(tmp_path, pipeline(pods.url, exporters)) as agent:
            pods.more(POLLS)
            for name in exporters:
                caught_up(agent, name)
            assert books(agent)["dropped"] == {}
            stopped_well(agent)
        expected = Counter(judge.points())
        until(lambda: len(collector.points()) >= expected.total(), "the Collector has read the topic to its end")
    assert Counter(collector.points()) == expected


def test_the_collector_reads_it_by_scram_over_tls(
    kafka: Kafka,  # noqa: F811
    collector_program: Path,
    pods: Pods,
    tmp_path: Path,
) -> None:
    """What docs/kafka.md says of a Collector that is asked who it is."""
    kafka.create_topic("peer-scram", 2)
    read = {
        "brokers": [kafka.address("SASL_SSL")],
        "initial_offset": "earliest",
        "metrics": {"topics": ["peer-scram"]},
        "tls": {"ca_file": str(kafka.papers.ca)},
        "auth": {"sasl": {"mechanism": "SCRAM-SHA-512", "username": ADMIN[0], "password": ADMIN[1]}},
    }
    with Collector(collector_program, tmp_path, receivers={"kafka": read}) as collector:
        exporters = {"kafka": to(kafka.address(), "peer-scram")}
        with Agent(tmp_path, pipeline(pods.url, exporters)) as agent:
            pods.more(3)
            caught_up(agent)
            sent = books(agent)["points_sent"]
            until(lambda: len(collector.points()) >= sent, "the Collector has read the topic")
            stopped_well(agent)
