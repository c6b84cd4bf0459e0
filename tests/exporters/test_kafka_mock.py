"""The mock cluster that the tests of the exporter ``kafka`` lean on: it takes, keeps, fails and stops as it is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from tests.exporters.kafka_mock import INIT_PRODUCER_ID, PRODUCE, MockCluster, Record

PATIENCE = 10.0
UNTOLD = -1


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create("metrics")
        yield cluster


def producer(cluster: MockCluster, **more: Any) -> Producer:
    """A producer without idempotence, which has nothing to wait for."""
    options = {"bootstrap.servers": cluster.bootstrap, "enable.idempotence": False, "log_level": 0, "linger.ms": 0}
    return Producer({**options, **{name.replace("_", "."): value for name, value in more.items()}})


def sent(producer: Producer, value: bytes, patience: float = PATIENCE) -> int | None:
    """Produce one record and return its report's code: None where it was taken, ``UNTOLD`` where no report came."""
    reports: list[int | None] = []
    producer.produce("metrics", value, on_delivery=lambda error, _: reports.append(error and error.code()))
    producer.flush(patience)
    return reports[0] if reports else UNTOLD


def test_it_keeps_what_was_produced(cluster):
    headers = [("content-type", b"application/x-protobuf"), ("empty", b""), ("content-type", b"twice")]
    ours = producer(cluster)
    ours.produce("metrics", b"\x00\xff", key=b"a\x1fb", headers=headers)
    ours.produce("metrics", b"", key=b"")
    ours.produce("metrics", b"third")
    assert ours.flush(PATIENCE) == 0
    assert cluster.read("metrics") == [
        Record(0, b"a\x1fb", b"\x00\xff", tuple(headers)),
        Record(0, b"", b"", ()),
        Record(0, None, b"third", ()),
    ]


def test_partitions_are_told_apart_and_keep_their_order(cluster):
    cluster.create("wide", 3)
    ours = producer(cluster)
    for number in range(12):
        ours.produce("wide", str(number).encode(), partition=2 - number % 3)
    assert ours.flush(PATIENCE) == 0
    assert [(record.partition, int(record.value)) for record in cluster.read("wide")] == [
        (partition, number) for partition in range(3) for number in range(12) if 2 - number % 3 == partition
    ]


def test_a_topic_without_records_is_read_as_none(cluster):
    assert cluster.read("metrics") == []


def test_a_topic_is_created_once(cluster):
    with pytest.raises(KafkaException) as raised:
        cluster.create("metrics")
    assert raised.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS


def test_errors_come_once_each_and_in_order(cluster):
    codes = [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.UNKNOWN]
    cluster.fail(PRODUCE, *codes)
    ours = producer(cluster)
    assert [sent(ours, value) for value in (b"1", b"2", b"3", b"4")] == [*codes, None]
    assert [record.value for record in cluster.read("metrics")] == [b"4"]


def test_errors_can_be_taken_back(cluster):
    cluster.fail(PRODUCE, *[KafkaError.INVALID_RECORD] * 3)
    ours = producer(cluster)
    assert sent(ours, b"1") == KafkaError.INVALID_RECORD
    cluster.forgive(PRODUCE)
    assert sent(ours, b"2") is None


def test_errors_are_of_one_kind_of_request(cluster):
    cluster.fail(INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    assert sent(producer(cluster), b"no id is asked for") is None


def test_what_may_pass_is_retried_inside_librdkafka(cluster):
    cluster.fail(PRODUCE, KafkaError.NOT_ENOUGH_REPLICAS, KafkaError._TRANSPORT)
    assert sent(producer(cluster), b"1") is None
    assert cluster.requests(PRODUCE) == 3


def test_a_producer_id_can_be_denied(cluster):
    cluster.fail(INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    ours = producer(cluster, enable_idempotence=True)
    with pytest.raises(KafkaException) as raised:
        ours.poll(PATIENCE)
    error = raised.value.args[0]
    assert (error.fatal(), error.code()) == (True, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    assert cluster.requests(INIT_PRODUCER_ID) == 1


def test_a_topic_can_be_unknown_and_become_known(cluster):
    cluster.refuse("metrics", KafkaError.UNKNOWN_TOPIC_OR_PART)
    assert sent(producer(cluster, topic_metadata_propagation_max_ms=50), b"1") == KafkaError.UNKNOWN_TOPIC_OR_PART
    cluster.refuse("metrics", KafkaError.NO_ERROR)
    assert sent(producer(cluster), b"2") is None


def test_a_topic_can_be_denied(cluster):
    cluster.refuse("metrics", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    ours = producer(cluster)
    assert sent(ours, b"1") == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert cluster.requests(PRODUCE) == 0


def test_a_broker_goes_down_and_comes_back_with_what_it_held(cluster):
    ours = producer(cluster, reconnect_backoff_ms=10, reconnect_backoff_max_ms=10)
    assert sent(ours, b"before") is None
    cluster.down()
    assert sent(ours, b"while down", patience=0.1) == UNTOLD
    cluster.up()
    assert ours.flush(PATIENCE) == 0
    assert [record.value for record in cluster.read("metrics")] == [b"before", b"while down"]


def test_one_broker_of_two_goes_down():
    with MockCluster(2) as cluster:
        assert len(cluster.brokers) == 2
        cluster.create("metrics", 2)
        cluster.down(1)
        ours, reports = producer(cluster), []
        for partition in range(2):
            ours.produce("metrics", b"", partition=partition, on_delivery=lambda _, message: reports.append(message))
        assert ours.flush(0.5) == 1
        cluster.up(1)
        assert ours.flush(PATIENCE) == 0
        assert len({message.partition() for message in reports}) == 2


def test_answers_can_be_held_back(cluster):
    ours = producer(cluster)
    assert sent(ours, b"1") is None
    cluster.delay(0.2)
    start = monotonic()
    assert sent(ours, b"2") is None
    assert monotonic() - start >= 0.2


def test_it_is_gone_afterwards():
    with MockCluster() as cluster:
        ours = producer(cluster)
    assert sent(ours, b"1", patience=0.1) == UNTOLD
    with pytest.raises(RuntimeError, match="cannot use a mock cluster that is not open"):
        cluster.create("metrics")


def test_clusters_stand_side_by_side_and_may_be_many():
    with MockCluster() as one, MockCluster() as other:
        one.create("metrics")
        other.create("metrics")
        assert sent(producer(one), b"one") is None
        assert [record.value for record in one.read("metrics")] == [b"one"]
        assert other.read("metrics") == []
    threads = len(os.listdir("/proc/self/task"))
    clusters = 20
    for _ in range(clusters):
        with MockCluster(3):
            pass
    # Not one thread a cluster: Linux lists a joined thread until it has wholly ended, so the last few may still be there.
    assert len(os.listdir("/proc/self/task")) - threads < clusters
