"""librdkafka's producer against librdkafka's mock cluster: reports, fatal errors, cancellation, files that change."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from confluent_kafka import KafkaError

from ebbtide import ConfigError, Fault
from exporters.kafka_answers import Error
from exporters.kafka_options import KafkaSettings
from exporters.kafka_producer import RecordWriter, need_library
from exporters.kafka_records import Record
from tests.exporters.kafka_mock import INIT_PRODUCER_ID, PRODUCE, MockCluster

HEADERS: Any = [("content-type", "x")]


class Heard:
    """Remembers what librdkafka says."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.lines: list[tuple[int, str]] = []
        self.silences: list[float] = []

    def error(self, error: Error) -> None:
        self.errors.append(error.name())

    def log(self, level: int, facility: str, text: str) -> None:
        self.lines.append((level, facility))

    def stuck(self, seconds: float) -> None:
        self.silences.append(seconds)


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create("mesh", partitions=4)
        yield cluster


def writer(cluster: MockCluster, heard: Heard | None = None, **options: Any) -> RecordWriter:
    settings = KafkaSettings.model_validate({"brokers": cluster.brokers, "topic": "mesh", **options})
    return RecordWriter(settings, heard or Heard())


def records(*keys: bytes) -> list[Record]:
    return [Record(1, key, b"value of " + key, 1, 1) for key in keys]


async def written(one: RecordWriter, given: Sequence[Record]) -> list[str]:
    """The names of the reports, "" where a record was taken."""
    reports = await trio.to_thread.run_sync(one.write, given, HEADERS)
    return [report.name() if report is not None else "" for report in reports]


async def test_records_arrive_with_key_headers_and_value(cluster: MockCluster) -> None:
    assert await written(writer(cluster), records(b"a", b"b", b"")) == ["", "", ""]
    read = {record.key: record for record in cluster.read("mesh")}
    assert sorted(read) == [b"", b"a", b"b"]
    assert read[b"a"].value == b"value of a"
    assert read[b"a"].headers == (("content-type", b"x"),)


async def test_the_empty_key_has_one_partition_too(cluster: MockCluster) -> None:
    await written(writer(cluster), records(*[b""] * 20))
    assert len({record.partition for record in cluster.read("mesh")}) == 1


async def test_each_record_has_its_own_report(cluster: MockCluster) -> None:
    one = writer(cluster)
    assert await written(one, records(b"a")) == [""]
    cluster.fail(PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
    assert await written(one, records(b"b")) == ["MSG_SIZE_TOO_LARGE"]
    assert await written(one, records(b"b")) == [""]


async def test_what_is_too_large_for_the_client_is_reported_like_the_brokers_refusal(cluster: MockCluster) -> None:
    one = writer(cluster, max_message="1000B")
    large = Record(1, b"a", bytes(2000), 1, 1)
    assert await written(one, [large, *records(b"b")]) == ["MSG_SIZE_TOO_LARGE", ""]


async def test_retryable_errors_are_librdkafkas_to_retry(cluster: MockCluster) -> None:
    cluster.fail(PRODUCE, KafkaError.NOT_ENOUGH_REPLICAS, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT)
    assert await written(writer(cluster), records(b"a")) == [""]
    assert [record.key for record in cluster.read("mesh")] == [b"a"]


async def test_a_fatal_error_is_the_report_of_all_and_the_next_producer_is_clean(cluster: MockCluster) -> None:
    one = writer(cluster)
    cluster.fail(INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    assert await written(one, records(b"a", b"b")) == ["CLUSTER_AUTHORIZATION_FAILED"] * 2
    assert await written(one, records(b"a", b"b")) == ["", ""]
    cluster.fail(PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert set(await written(one, records(b"c"))) == {"OUT_OF_ORDER_SEQUENCE_NUMBER"}
    assert await written(one, records(b"c")) == [""]


async def test_the_cause_of_a_fatal_error_is_told_by_whom_it_meets(cluster: MockCluster) -> None:
    one = writer(cluster)
    cluster.fail(INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    one._ready()
    while not cluster.requests(INIT_PRODUCER_ID):  # noqa: ASYNC110 - librdkafka has no event for it
        await trio.sleep(0.01)
    await trio.sleep(0.2)  # until it has read the answer
    assert await written(one, records(b"a", b"b")) == ["CLUSTER_AUTHORIZATION_FAILED"] * 2


async def test_silence_is_told_where_nothing_is_acknowledged(
    cluster: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.kafka_producer.STUCK_SECONDS", 0.1)
    heard = Heard()
    one = writer(cluster, heard)
    await written(one, records(b"a"))
    heard.silences.clear()
    cluster.fail(PRODUCE, *[KafkaError.NOT_ENOUGH_REPLICAS] * 8)
    assert await written(one, records(b"b")) == [""]
    assert heard.silences == sorted(heard.silences)
    assert heard.silences


async def test_a_cancelled_write_ends_soon_and_says_what_was_not_written(cluster: MockCluster) -> None:
    one = writer(cluster)
    await written(one, records(b"a"))
    cluster.down()
    reports: list[str] = []
    with trio.move_on_after(0.3) as scope:
        reports = await written(one, records(b"b", b"c"))
    assert reports in (["_PURGE_QUEUE"] * 2, ["_PURGE_INFLIGHT"] * 2)
    assert trio.current_time() < scope.deadline + 2
    cluster.up()
    assert await written(one, records(b"d")) == [""]
    assert sorted(record.key or b"" for record in cluster.read("mesh")) == [b"a", b"d"]


async def test_more_records_than_librdkafka_queues_wait_for_room(cluster: MockCluster) -> None:
    one = writer(cluster, properties={"queue.buffering.max.messages": 10})
    many = records(*(b"%d" % number for number in range(100)))
    assert await written(one, many) == [""] * 100
    assert len(cluster.read("mesh")) == 100


async def test_brokers_that_are_away_are_heard_of(cluster: MockCluster) -> None:
    heard = Heard()
    one = writer(cluster, heard, brokers=["127.0.0.1:9"])
    with trio.move_on_after(0.5):
        await written(one, records(b"a"))
    assert heard.errors[:2] == ["_TRANSPORT", "_ALL_BROKERS_DOWN"]
    assert (logging.ERROR, "FAIL") in heard.lines


async def test_a_smaller_batch_makes_a_new_producer(cluster: MockCluster) -> None:
    one = writer(cluster)
    await written(one, records(b"a"))
    first = one._producer
    await written(one, records(b"b"))
    assert one._producer is first
    one.batch_bytes = 5000
    assert await written(one, records(b"c")) == [""]
    assert one._producer is not first


async def test_a_password_that_changed_on_disk_makes_a_new_producer(cluster: MockCluster, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("one")
    sasl = {"mechanism": "PLAIN", "username": "u", "password_file": str(file)}
    one = writer(cluster, sasl=sasl, brokers=["127.0.0.1:9"])
    first = one._ready()
    assert one._ready() is first
    file.write_text("another")
    assert one._ready() is not first
    file.unlink()
    with pytest.raises(Fault, match="cannot read `password_file`"):
        one._ready()


@pytest.mark.parametrize("option", ["password_file", "ca_file"])
async def test_a_file_that_is_put_right_ends_a_send_that_comes_to_nothing(
    cluster: MockCluster, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.kafka_producer.STUCK_SECONDS", 0.2)
    file = tmp_path / "file"
    trustme.CA().cert_pem.write_to_path(str(file))
    table = {"mechanism": "PLAIN", "username": "u"} if option == "password_file" else {}
    options = {"sasl" if table else "tls": {**table, option: str(file)}}
    one = writer(cluster, brokers=["127.0.0.1:9"], **options)
    reports: list[str] = []
    with trio.move_on_after(1):
        reports = await written(one, records(b"a"))
    assert reports == ["_PURGE_QUEUE"]  # by the cancellation: the file is as it was
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            reports[:] = await written(one, records(b"a", b"b"))
            reports.append("ended")

        reports.clear()
        nursery.start_soon(write)
        await trio.sleep(0.1)
        os.utime(file, ns=(1, 1))
    assert reports == ["_PURGE_QUEUE", "_PURGE_QUEUE", "ended"]


def test_a_certificate_that_changed_on_disk_makes_a_new_producer(cluster: MockCluster, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    one = writer(cluster, tls={"ca_file": str(file)}, brokers=["127.0.0.1:9"])
    first = one._ready()
    assert one._ready() is first
    os.utime(file, ns=(1, 1))
    assert one._ready() is not first


def test_a_certificate_that_became_unreadable_is_no_bug(cluster: MockCluster, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    one = writer(cluster, tls={"ca_file": str(file)}, brokers=["127.0.0.1:9"])
    file.write_text("half a certifi")
    with pytest.raises(Fault, match=r"cannot make a producer: librdkafka says: .*ssl.ca.location failed"):
        one._ready()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"properties": {"no.such": 1}}, 'No such configuration property: "no.such"'),
        ({"properties": {"linger.ms": "soon"}}, 'Invalid value for configuration property "queue.buffering.max.ms"'),
        ({"tls": {"ca_file": "/no/such/file"}}, "ssl.ca.location failed"),
        (
            {"sasl": {"mechanism": "PLAIN", "username": "u", "password_file": "/no/such"}},
            "cannot read `password_file` /no/such",
        ),
    ],
)
def test_what_librdkafka_does_not_take_is_said_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RecordWriter(KafkaSettings.model_validate(options), Heard())


def test_without_the_library_the_command_to_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match=r"pip install 'ebbtide\[kafka\]'"):
        need_library()
