"""What lies on a real broker is what the OTLP exporter delivered: the same points, keyed, in order, whatever the form."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.judge import Judge, Point
from tests.real.kafka import Kafka
from tests.real.kafka_load import Pods, assert_complete, books, caught_up, pipeline, stopped_well, to
from tests.real.kafka_reader import JSON, PROTOBUF, Follower, Record, java_partition, points_in, read_topic, unsnap
from tests.real.processes import Agent, Demo, once
from tests.real.prometheus import Prometheus, viz_config
from tests.real.waiting import until

PARTITIONS, POLLS = 4, 5

FORMS = {
    "plain": 'compression = "none"',
    "snappy": 'compression = "snappy"',
    "lz4": 'compression = "lz4"',
    "zstd": 'compression = "zstd"',
    "json": 'encoding = "otlp_json"',
    "json-gzip": 'encoding = "otlp_json"\ncompression = "gzip"',
    "by-namespace": 'key = ["k8s.namespace.name", "absent", "service.name"]\nacks = "1"',
    "small": "max_message = \"4000B\"",
    "defaults": "",
}  # fmt: skip
"""Options by exporter, which is also the name of its topic."""

pytestmark = pytest.mark.timeout(180)


@dataclass
class Outcome:
    judged: list[Point]
    topics: dict[str, list[Record]]
    followed: list[Record]  # of the topic "defaults", read while it was written


@pytest.fixture(scope="module")
def outcome(
    demo: Demo, prometheus_program: Path, kafka_of_all: Kafka, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """The demo's mesh, scraped by Prometheus; its answers go from one agent to a judge, and to a topic for each form."""
    targets, base = demo.targets, demo.prometheus.removeprefix("http://")
    source = Prometheus(prometheus_program, tmp_path_factory.mktemp("prometheus"), viz_config(targets, base, "1s"))
    kafka = kafka_of_all.start()
    address = kafka.address()
    for topic in FORMS:
        kafka.create_topic(topic, PARTITIONS)
    exporters = {topic: to(address, topic, options) for topic, options in FORMS.items()}
    with source, Judge("http/protobuf") as judge, Follower(address, "defaults") as follower:
        until(lambda: source.up() == len(targets), "all targets are up")
        exporters["judge"] = f'type = "otlp"\nendpoint = "{judge.endpoint}"'
        text = pipeline(source.url, exporters, interval="1s")
        with Agent(tmp_path_factory.mktemp("agent"), text) as agent:
            until(lambda: agent.ledger()["receivers"]["linkerd"]["polls"] >= POLLS, "some polls")
            followed_before = len(follower.records)
            for id in exporters:
                caught_up(agent, id)
            stopped_well(agent)
        assert followed_before, "nothing could be read while it was written"
        whole = {topic: read_topic(address, topic) for topic in FORMS}
        until(lambda: len(follower.records) >= len(whole["defaults"]), "the follower has read all")
        return Outcome(judge.points(), whole, list(follower.records))


def test_the_witnesses_can_be_trusted() -> None:
    """Java's own examples of murmur2 (UtilsTest), and a text that snappy repeats."""
    java = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
            "a-little-bit-longer-string": -1486304829, "abc": 479470107,
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971}  # fmt: skip
    assert {key: java_partition(key.encode(), 2**31) for key in java} == {
        key: hashed & 0x7FFFFFFF for key, hashed in java.items()
    }
    assert unsnap(b"\x0c\x08abc\x15\x03") == b"abcabcabcabc"


@pytest.mark.parametrize("form", FORMS)
def test_the_points_are_those_of_the_otlp_exporter(outcome: Outcome, form: str) -> None:
    assert len(outcome.judged) > 2000
    judged, read = Counter(outcome.judged), Counter(points_in(outcome.topics[form]))
    assert (judged - read, read - judged) == (Counter(), Counter())


@pytest.mark.parametrize("form", FORMS)
def test_every_series_is_in_one_partition_and_in_order(outcome: Outcome, form: str) -> None:
    records = outcome.topics[form]
    last: dict[Any, tuple[int, int]] = {}
    for record in records:
        for point in record.points:
            partition, time = last.get(point.stream, (record.partition, 0))
            assert partition == record.partition, point
            assert point.time > time, point
            last[point.stream] = record.partition, point.time
    assert len({record.partition for record in records}) >= PARTITIONS - 1  # few namespaces need not hit all
    for partition in range(PARTITIONS):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(len(offsets)))


@pytest.mark.parametrize("form", FORMS)
def test_the_key_is_the_resource_and_java_finds_the_same_partition(outcome: Outcome, form: str) -> None:
    keys = set()
    for record in outcome.topics[form]:
        (resource,) = {point.resource for point in record.points}
        attributes = dict(resource)
        names = sorted(attributes) if form != "by-namespace" else ["k8s.namespace.name", "absent", "service.name"]
        assert record.key == "\x1f".join(str(attributes.get(name, "")) for name in names).encode()
        assert record.partition == java_partition(record.key, PARTITIONS)
        keys.add(record.key)
    assert len(keys) > PARTITIONS


@pytest.mark.parametrize("form", FORMS)
def test_the_headers_say_what_a_record_is(outcome: Outcome, form: str) -> None:
    content_type = JSON if form.startswith("json") else PROTOBUF
    for record in outcome.topics[form]:
        assert dict(record.headers).keys() == {"content-type", "user-agent"}
        assert record.content_type == content_type
        assert dict(record.headers)["user-agent"].startswith(b"ebbtide/")


def test_a_consumer_that_reads_along_finds_the_same(outcome: Outcome) -> None:
    followed = sorted(outcome.followed, key=lambda record: (record.partition, record.offset))
    assert followed == outcome.topics["defaults"]


def test_large_resources_are_cut_and_small_ones_are_not_joined(outcome: Outcome) -> None:
    small, whole = outcome.topics["small"], outcome.topics["plain"]
    assert max(len(record.value) for record in small) <= 4000
    assert max(len(record.value) for record in whole) > 4000
    assert len({(record.key, record.points[0].time) for record in whole}) <= len(whole) < len(small)


@pytest.mark.parametrize("encoding", ["otlp_proto", "otlp_json"])
def test_the_ledger_counts_what_lies_there(kafka: Kafka, encoding: str, tmp_path: Path) -> None:
    topic = f"counted-{encoding}"  # made by the broker as the first record comes
    options = to(kafka.address(), topic, f'encoding = "{encoding}"\nmax_message = "2KB"')
    with Pods() as pods:
        status, ledger, process = once(tmp_path, pipeline(pods.url, {"kafka": options}))
        assert status == 0, process.stderr
        line = ledger["exporters"]["kafka"]
        records = read_topic(kafka.address(), topic)
        assert_complete(records, pods)
    points = points_in(records)
    assert line["in"] == line["sent"] == pods.pods * pods.series + 5  # with the agent's own of the poll
    assert line["points_sent"] == len(points) == line["in"]
    assert (line["held"], line["dropped"], line["rejected_points"], line["retries"]) == (0, {}, 0, 0)


def test_four_partitions_take_a_steady_load(kafka: Kafka, tmp_path: Path) -> None:
    address, topic = kafka.address(), kafka.create_topic("steady", 4)
    with Pods(pods=40) as pods, Follower(address, topic) as follower:
        with Agent(tmp_path, pipeline(pods.url, {"kafka": to(address, topic)}, interval="100ms")) as agent:
            pods.more(20)
            assert books(agent)["dropped"] == {}
            stopped_well(agent)
        records = read_topic(address, topic)
        assert_complete(records, pods, 4)
        until(lambda: len(follower.records) >= len(records), "the follower has read all")
