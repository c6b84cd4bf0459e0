"""SIGHUP under load: the exporter to Kafka changes again and again, and no sample is lost, doubled or out of order."""

from __future__ import annotations

import signal
from itertools import cycle, takewhile
from pathlib import Path

import pytest

from tests.real.kafka import ADMIN, Kafka
from tests.real.kafka_load import Pods, assert_complete, books, caught_up, counted, pipeline, stopped_well, to
from tests.real.kafka_reader import points_in, read_topic
from tests.real.test_reload import Reloading
from tests.real.waiting import free_port, until

PARTITIONS = 4
CHANGED = "exporters.kafka changed"
HASTY = 'shutdown_timeout = "1s"'  # which is also how long a reload waits for a send that hangs

pytestmark = pytest.mark.timeout(180)


def test_one_topic_gets_all_whatever_changes(kafka: Kafka, tmp_path: Path) -> None:
    topic, address = kafka.create_topic("reloaded", PARTITIONS), kafka.address()
    sasl = f'sasl = {{ mechanism = "SCRAM-SHA-512", username = "{ADMIN[0]}", password = "{ADMIN[1]}" }}'

    def file(address: str, more: str = "") -> str:
        return pipeline(pods.url, {"kafka": to(address, topic, more)}, agent=HASTY, interval="100ms")

    with Pods() as pods, Reloading(tmp_path, file(address)) as agent:
        pods.more(3)
        agent.reload(file(address, 'compression = "zstd"'), CHANGED)
        pods.more(3)
        agent.reload(file(kafka.address("SASL_PLAINTEXT"), sasl), CHANGED)
        pods.more(3)
        agent.reload(file(address, "brokers = 1"), "nothing has changed:\n    ")
        pods.more(2)
        agent.reload(file(f"127.0.0.1:{free_port()}"), CHANGED)  # nobody is there: what comes now waits
        pods.more(5)
        held = books(agent)["held"]
        assert held > 2 * pods.pods * pods.series
        agent.reload(file(address, 'encoding = "otlp_json"\ncompression = "none"'), CHANGED)  # and goes there, as JSON
        caught_up(agent)
        pods.more(3)
        agent.reload(file(address, 'acks = "1"\nmax_message = "2KB"'), CHANGED)
        pods.more(3)
        stopped_well(agent)
        records = read_topic(address, topic)
        assert_complete(records, pods, PARTITIONS)
    assert len({record.content_type for record in records}) == 2


def test_another_topic_goes_on_where_the_first_one_ends(kafka: Kafka, tmp_path: Path) -> None:
    """What waits for the first one is sent to the second one; another exporter takes over after that."""
    address = kafka.address()
    topics = [kafka.create_topic(name, PARTITIONS) for name in ("reload-1", "reload-2", "reload-3")]

    def file(topic: str, id: str = "kafka") -> str:
        return pipeline(pods.url, {id: to(address, topic)}, interval="100ms")

    with Pods() as pods, Reloading(tmp_path, file(topics[0])) as agent:
        until(lambda: books(agent)["sent"], "first records")
        pods.more(3)
        agent.reload(file(topics[1]), CHANGED)
        until(lambda: read_topic(address, topics[1]), "records in the second topic")
        agent.reload(file(topics[2], "other"), "exporters.other new, exporters.kafka removed")
        until(lambda: "exporter kafka: drained and removed" in agent.stderr, "the removed one has drained")
        pods.more(3)
        stopped_well(agent)
        found = [counted(points_in(read_topic(address, topic))) for topic in topics]
        assert all(found)
        for stream in found[0]:
            values = [value for one in found for value in one[stream]]
            assert values == [float(n + 1) for n in range(len(values))]
            assert pods.polls - 1 <= len(values) <= pods.polls


def test_reload_after_reload_loses_nothing(kafka: Kafka, tmp_path: Path) -> None:
    topic, address = kafka.create_topic("reload-often", PARTITIONS), kafka.address()
    with Pods() as pods:
        compressions = ("none", "lz4", "gzip", "snappy", "zstd")
        texts = [pipeline(pods.url, {"kafka": to(address, topic, f'compression = "{one}"')}, interval="100ms")
                 for one in compressions]  # fmt: skip
        with Reloading(tmp_path, texts[0]) as agent:
            pods.more(3)
            for text in takewhile(lambda _: agent.stderr.count(CHANGED) < 8, cycle(texts)):
                agent.file.write_text(text, encoding="utf-8")
                agent.process.send_signal(signal.SIGHUP)
                pods.more(1)
            stopped_well(agent)
        assert_complete(read_topic(address, topic), pods, PARTITIONS)
