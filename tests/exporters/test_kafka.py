"""The exporter "kafka" against librdkafka's mock cluster: what it writes, what becomes of what is not taken."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest
import trio
from confluent_kafka import KafkaError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent import tracing
from agent.outbox import Outbox
from agent.settings import OutboxSettings
from agent.testing import comparable, reference_request
from ebbtide import USER_AGENT, Batch, Context, Family, Partly, Payload, Resource, Retry, Row, Series
from exporters.kafka import Kafka, KafkaSettings
from exporters.kafka_records import AROUND, Record, payload_of, records_of, waves
from exporters.otlp_json import from_json
from tests.exporters.kafka_mock import PRODUCE, MockCluster

TOPIC = "mesh"


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        cluster.create(TOPIC, partitions=4)
        yield cluster


def kafka(brokers: list[str] | None = None, **options: Any) -> Kafka:
    given = {"brokers": brokers or ["127.0.0.1:9"], "topic": TOPIC, **options}
    return Kafka(KafkaSettings.model_validate(given), Context("kafka"))


def gauges(resource: str, *numbers: int, time: int = 1, name: str = "g") -> Batch:
    """One point each, in one resource."""
    family, of = Family(name, "gauge"), Resource.of({"service.name": resource})
    return Batch.of(Row(Series.of(name, {"n": f"{n:040d}"}, family, of), 1.0, time, 0, False) for n in numbers)


def together(*batches: Batch) -> tuple[Batch, ...]:
    """As if they had come in one page."""
    token = object()
    for batch in batches:
        batch.together = token
    return batches


def only(exporter: Kafka, batch: Batch) -> Payload:
    (payload,) = exporter.encode(batch)
    return payload


def points(values: list[bytes]) -> object:
    """The points of several values together."""
    request = ExportMetricsServiceRequest()
    for value in values:
        request.MergeFromString(from_json(bytes(value)) if value[:1] == b"{" else bytes(value))
    return comparable(request)


def read(cluster: MockCluster) -> list[str]:
    """The labels ``n`` of the gauges that arrived, as numbers, with their time."""
    return [
        f"{int(point.attributes[0].value.string_value)}@{point.time_unix_nano}"
        for record in cluster.read(TOPIC)
        for resource in ExportMetricsServiceRequest.FromString(record.value).resource_metrics
        for metric in resource.scope_metrics[0].metrics
        for point in metric.gauge.data_points
    ]


# -- before the queue ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["otlp_proto", "otlp_json"])
@pytest.mark.parametrize("limit", ["1200B", "1000000B"])
def test_a_batch_is_one_record_per_resource_and_as_many_as_it_takes(batch: Batch, encoding: str, limit: str) -> None:
    exporter = kafka(encoding=encoding, max_message=limit)
    payload = only(exporter, batch)
    records = list(records_of(payload.body))
    assert points([record.value for record in records]) == comparable(reference_request(batch))
    assert (payload.points, payload.samples) == (sum(r.points for r in records), sum(r.samples for r in records))
    assert payload.samples == len(batch)
    assert all(record.size <= exporter.settings.max_message for record in records)
    assert [key for key, _ in groupby(record.key for record in records)] == [
        b"web\x1fweb\x1femojivoto",
        b"voting\x1fvoting\x1femojivoto",
    ]
    assert len(records) == 2 or limit == "1200B"


def test_the_key_is_of_the_chosen_attributes(batch: Batch) -> None:
    payload = only(kafka(key=["service.namespace", "k8s.pod.name"]), batch)
    assert {record.key for record in records_of(payload.body)} == {b"emojivoto\x1f"}


@pytest.mark.parametrize("encoding", ["otlp_proto", "otlp_json"])
def test_a_point_that_is_too_large_for_any_record_is_dropped_alone_and_named(
    encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    family, resource = Family("huge", "gauge"), Resource.of({"service.name": "web"})
    rows = [Row(Series.of("huge", {"n": n}, family, resource), 1.0, 1, 0, False) for n in ("a", "b" * 2000, "c")]
    exporter = kafka(encoding=encoding, max_message="1000B")
    payload = only(exporter, Batch.of(rows))
    assert (payload.points, payload.samples) == (2, 2)
    assert exporter.counts.dropped == {"too_large": 1}
    assert "one point of huge makes a record of" in caplog.text
    assert "larger than `max_message` allows; dropped" in caplog.text


def test_what_is_in_no_point_is_incomplete() -> None:
    exporter = kafka()
    lonely = Series.of("h_bucket", {"le": "1"}, Family("h", "histogram"))
    assert list(exporter.encode(Batch.of([Row(lonely, 1.0, 1, 0, False)]))) == []
    assert exporter.counts.dropped == {"incomplete": 1}


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.sampled_from(["otlp_proto", "otlp_json"]), st.sets(st.integers(1, 9), min_size=1))
def test_a_payload_is_cut_between_records_then_by_point(size: int, encoding: str, numbers: set[int]) -> None:
    exporter = kafka(encoding=encoding)
    bodies = [only(exporter, gauges(f"r{n}", *range(n))) for n in numbers]
    whole = payload_of([record for body in bodies for record in records_of(body.body)])
    pieces = exporter.cut(whole, size)
    records = [record for piece in pieces for record in records_of(piece.body)]
    assert points([r.value for r in records]) == points([r.value for r in records_of(whole.body)])
    assert sum(piece.samples for piece in pieces) == sum(record.samples for record in records) == sum(numbers)
    assert all(len(piece.body) <= size or piece.points == 1 for piece in pieces)
    assert [key for key, _ in groupby(record.key for record in records)] == [
        key for key, _ in groupby(record.key for record in records_of(whole.body))
    ]


@pytest.mark.parametrize(("before", "after"), [("otlp_proto", "otlp_json"), ("otlp_json", "otlp_proto")])
def test_what_was_queued_is_brought_into_another_encoding(batch: Batch, before: str, after: str) -> None:
    body = only(kafka(encoding=before), batch).body
    sealed = kafka(encoding=after).seal(body)
    assert kafka(encoding=before).seal(body) is body
    assert {record.value[:1] == b"{" for record in records_of(sealed)} == {after == "otlp_json"}
    assert points([r.value for r in records_of(sealed)]) == comparable(reference_request(batch))
    assert [r._replace(value=b"") for r in records_of(sealed)] == [r._replace(value=b"") for r in records_of(body)]


# -- behind the queue ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "content_type"), [("otlp_proto", b"application/x-protobuf"), ("otlp_json", b"application/json")]
)
async def test_what_arrives(cluster: MockCluster, batch: Batch, encoding: str, content_type: bytes) -> None:
    exporter = kafka(cluster.brokers, encoding=encoding)
    await exporter.send(only(exporter, batch))
    await exporter.aclose()
    records = cluster.read(TOPIC)
    assert points([record.value for record in records]) == comparable(reference_request(batch))
    assert {record.headers for record in records} == {
        (("content-type", content_type), ("user-agent", USER_AGENT.encode()))
    }


async def test_records_belong_to_the_trace_of_their_send(cluster: MockCluster) -> None:
    exporter = kafka(cluster.brokers)
    recorder = tracing.switch_on()
    try:
        with tracing.span("send", "client"):
            expected = tracing.traceparent()
            await exporter.send(only(exporter, gauges("web", 1)))
    finally:
        tracing.switch_off(recorder)
    assert expected
    assert dict(cluster.read(TOPIC)[0].headers)["traceparent"] == expected.encode()


async def test_what_is_not_taken_is_left_and_nothing_of_its_key_overtakes_it(cluster: MockCluster) -> None:
    exporter = kafka(cluster.brokers)
    await exporter.send(only(exporter, gauges("web", 0)))
    bodies = [only(exporter, gauges("web", 1, time=time)).body for time in (2, 3, 4)]
    cluster.fail(PRODUCE, KafkaError.NO_ERROR, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(Partly) as caught:
        await exporter.send(Payload(b"", b"".join(bodies), 3, 3))
    assert "the brokers do not let this user write" in str(caught.value)
    assert isinstance(caught.value.retry, Retry)
    rest = caught.value.rest
    assert rest is not None
    assert rest.body == b"".join(bodies[1:])
    assert (rest.points, rest.samples) == (2, 2)
    assert read(cluster) == ["0@1", "1@2"]


async def test_what_came_together_is_one_wave(cluster: MockCluster) -> None:
    exporter = kafka(cluster.brokers)
    await exporter.send(only(exporter, gauges("web", 0)))
    parts = together(*(gauges("web", number, time=2) for number in (1, 2, 3)))
    later = together(gauges("web", 1, time=3))
    bodies = [only(exporter, batch).body for batch in (*parts, *later)]
    assert [[record.points for record in wave] for wave in waves(records_of(b"".join(bodies)))] == [[1, 1, 1], [1]]
    await exporter.send(Payload(b"", b"".join(bodies), 4, 4))
    assert read(cluster) == ["0@1", "1@2", "2@2", "3@2", "1@3"]


def test_what_was_dropped_whole_does_not_glue_what_follows_to_what_stood_before() -> None:
    exporter = kafka(max_message="1000B")
    first = gauges("web", 1)
    huge = Batch.of(
        [
            Row(
                Series.of("huge", {"n": "b" * 2000}, Family("huge", "gauge"), Resource.of({"service.name": "web"})),
                1.0,
                2,
                0,
                False,
            )
        ]
    )
    parts = together(huge, gauges("web", 1, time=2))
    bodies = [payload.body for batch in (first, *parts) for payload in exporter.encode(batch)]
    assert len(list(waves(records_of(b"".join(bodies))))) == 2


async def test_nothing_taken_is_the_same_request_again(cluster: MockCluster) -> None:
    exporter = kafka(cluster.brokers)
    cluster.refuse(TOPIC, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(Retry, match=r'do not let this user write to topic "mesh"; grant it WRITE'):
        await exporter.send(only(exporter, gauges("web", 0)))


async def test_what_the_brokers_will_never_take_is_dropped_and_the_rest_arrives(
    cluster: MockCluster, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = kafka(cluster.brokers)
    await exporter.send(only(exporter, gauges("web", 0)))
    bodies = [only(exporter, gauges("web", *range(number), time=number)).body for number in (2, 3)]
    cluster.fail(PRODUCE, KafkaError.INVALID_RECORD)
    with pytest.raises(Partly) as caught:
        await exporter.send(Payload(b"", b"".join(bodies), 5, 5))
    assert (caught.value.rest, caught.value.retry) == (None, None)
    assert (caught.value.refused, caught.value.refused_points) == ({"rejected": 2}, 2)
    assert "never take a record of 2 samples" in caplog.text
    assert read(cluster) == ["0@1", "0@3", "1@3", "2@3"]


async def drained(exporter: Kafka, *batches: Batch, **options: Any) -> Any:
    """Send batches through an outbox until all is settled; the ledger's counts."""
    box = Outbox(exporter, OutboxSettings.model_validate(options), exporter.counts)
    for batch in batches:
        box.put(batch)
    box.close()
    with trio.fail_after(30):
        await box.run()
    assert exporter.counts.imbalance() == 0
    return exporter.counts


async def test_a_refusal_for_size_makes_the_cut_smaller_until_it_is_taken(
    cluster: MockCluster, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = kafka(cluster.brokers)
    cluster.fail(PRODUCE, *[KafkaError.MSG_SIZE_TOO_LARGE] * 3)
    large = gauges("web", *range(100))
    size = next(records_of(only(exporter, large).body)).size
    counts = await drained(exporter, large)
    assert (counts.sent, counts.points_sent, counts.dropped) == (100, 100, {})
    assert exporter._limit < size / 2
    assert sorted(read(cluster)) == sorted(f"{n}@1" for n in range(100))
    assert "see max.message.bytes of topic mesh" in caplog.text
    later = list(records_of(only(exporter, gauges("web", *range(100), time=2)).body))
    assert len(later) > 1
    assert all(record.size <= exporter._limit for record in later)


async def test_a_point_that_is_refused_alone_is_dropped_and_named(
    cluster: MockCluster, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = kafka(cluster.brokers)
    cluster.fail(PRODUCE, *[KafkaError.MSG_SIZE_TOO_LARGE] * 2)
    counts = await drained(exporter, gauges("web", 7, name="stout"), gauges("web", 8, time=2))
    assert (counts.sent, counts.dropped) == (1, {"too_large": 1})
    assert "one point of stout makes a record of" in caplog.text
    assert "larger than the brokers take; dropped" in caplog.text
    assert read(cluster) == ["8@2"]


async def test_refused_records_end_in_the_ledger_whatever_the_errors(cluster: MockCluster) -> None:
    exporter = kafka(cluster.brokers)
    codes = [
        KafkaError.UNKNOWN,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.POLICY_VIOLATION,
    ]
    cluster.fail(PRODUCE, *codes)
    batches = [gauges("web", *range(5), time=time) for time in range(1, 8)]
    counts = await drained(exporter, *batches, retry={"initial": "10ms"}, batch={"linger": "0s"})
    assert (counts.sent, counts.dropped) == (35, {})
    arrived = read(cluster)
    assert sorted(arrived) == sorted(f"{n}@{time}" for n in range(5) for time in range(1, 8))
    for number in range(5):
        times = [int(one.partition("@")[2]) for one in arrived if one.startswith(f"{number}@")]
        assert times == sorted(times)


async def test_a_cancelled_send_says_what_was_taken(cluster: MockCluster) -> None:
    exporter = kafka(cluster.brokers)
    await exporter.send(only(exporter, gauges("web", 0)))
    bodies = [only(exporter, gauges("web", 1, time=time)).body for time in (2, 3)]
    cluster.delay(0.4)
    with pytest.raises(Partly) as caught, trio.move_on_after(0.6):
        await exporter.send(Payload(b"", b"".join(bodies), 2, 2))
    assert caught.value.rest is not None
    assert caught.value.rest.body == bodies[1]
    assert caught.value.retry is None


async def test_a_send_that_is_cancelled_before_anything_is_taken_is_just_cancelled(cluster: MockCluster) -> None:
    exporter = kafka(cluster.brokers)
    cluster.down()
    with trio.move_on_after(0.3) as scope:
        await exporter.send(only(exporter, gauges("web", 0)))
    assert scope.cancelled_caught


async def test_brokers_that_are_away_are_said_once_and_so_is_their_return(
    cluster: MockCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    exporter = kafka(cluster.brokers)
    payload = only(exporter, gauges("web", 1))
    await exporter.send(payload)
    cluster.down()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exporter.send, payload)
        await trio.sleep(0.5)
        cluster.up()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert len([line for line in lines if line.startswith("exporter kafka: cannot reach")]) == len(lines) - 1 <= 2
    assert "exporter kafka: the brokers take records again after" in lines[-1]


def test_a_record_larger_than_the_limit_by_its_key_is_cut_all_the_same() -> None:
    exporter = kafka(max_message="1000B")
    key = b"k" * 500
    value = next(records_of(only(kafka(), gauges("web", *range(9))).body)).value
    pieces = exporter.cut(payload_of([Record(1, key, value, 9, 9)]), 1000 - AROUND)
    assert sum(piece.points for piece in pieces) == 9
    assert len(pieces) > 1
