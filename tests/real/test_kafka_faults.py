"""Brokers that end, are killed, lack the topic, or take less than expected: nothing is lost, doubled or out of order."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.kafka import Kafka
from tests.real.kafka_load import (
    Pods,
    assert_complete,
    books,
    caught_up,
    counted,
    pipeline,
    stopped_well,
    to,
)
from tests.real.kafka_reader import points_in, read_topic
from tests.real.processes import Agent
from tests.real.test_reload import Reloading
from tests.real.waiting import until

AWAY_SECONDS = 20.0
PARTITIONS = 4
ACKS = ("all", "1")
STRICT = {"auto_create_topics_enable": "false"}
IMPATIENT = 'properties = { "topic.metadata.propagation.max.ms" = 1000 }'  # a topic may be new for so long

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def pods() -> Iterator[Pods]:
    with Pods() as running:
        yield running


def running(
    pods: Pods, kafka: Kafka, topic: str, folder: Path, more: str = "", name: str = "agent", **options: str
) -> Agent:
    """The agent, between that source and a topic."""
    return Agent(folder, pipeline(pods.url, {"kafka": to(kafka.address(), topic, more)}, **options), name)


# -- brokers that are away -----------------------------------------------------------------------------------------------


@dataclass
class Outage:
    """What became of three agents while the broker was away: one that worked before, one that began then, one that ended.

    The first one has two exporters; the one with acks = "1" is given another compression in the meantime.
    """

    pods: Pods
    log: str
    books: dict[str, dict[str, Any]]  # of the first one's exporters, when the broker was back
    late: Pods
    late_log: str
    ended: int
    ended_seconds: float
    ended_all: int
    ended_log: str


@pytest.fixture(scope="module")
def outage(kafka_of_all: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    kafka = kafka_of_all.start()
    folder, address = tmp_path_factory.mktemp("agents"), kafka.address()
    both = {acks: to(address, kafka.create_topic(f"away-{acks}", PARTITIONS), f'acks = "{acks}"') for acks in ACKS}
    changed = {**both, "1": both["1"] + '\ncompression = "gzip"'}
    topics = {name: kafka.create_topic(name, PARTITIONS) for name in ("late", "ended")}
    with Pods() as pods, Pods() as late, Pods() as left:
        first = Reloading(folder, pipeline(pods.url, both))
        ending = running(left, kafka, topics["ended"], folder, name="ending", agent='shutdown_timeout = "2s"')
        with first, ending:
            until(lambda: all(books(first, acks)["sent"] for acks in ACKS) and books(ending)["sent"], "first records")
            kafka.stop()
            began = time.monotonic()
            with running(late, kafka, topics["late"], folder, name="late") as beginning:
                left.more(5)
                ended_all, ended_at = books(ending)["in"], time.monotonic()
                ended = ending.stop()
                ended_seconds = time.monotonic() - ended_at
                first.reload(pipeline(pods.url, changed), "exporters.1 changed")
                until(lambda: time.monotonic() > began + AWAY_SECONDS, "the broker was away")
                assert first.admin("/healthz")[0] == beginning.admin("/readyz")[0] == 200
                assert books(first, "all")["held"] > 60 * pods.pods * pods.series
                kafka.start(**STRICT)  # all topics are there, and tests that want it so come next
                for agent, exporter in (first, "all"), (first, "1"), (beginning, "kafka"):
                    caught_up(agent, exporter)
                back = {acks: books(first, acks) for acks in ACKS}
                pods.more(3)
                stopped_well(beginning)
                stopped_well(first)
        yield Outage(pods, first.stderr, back, late, beginning.stderr, ended, ended_seconds, ended_all, ending.stderr)


@pytest.mark.parametrize("acks", ACKS)
def test_nothing_is_lost_while_the_broker_is_away_under_load(kafka_of_all: Kafka, outage: Outage, acks: str) -> None:
    assert outage.books[acks]["dropped"] == {}
    assert_complete(read_topic(kafka_of_all.address(), f"away-{acks}"), outage.pods, PARTITIONS)


def test_the_log_says_that_the_broker_is_away_and_back_and_not_too_often(outage: Outage) -> None:
    for acks in ACKS:
        assert re.search(rf"exporter {acks}: cannot reach .*check `brokers`.*trying again", outage.log), outage.log
        assert f"exporter {acks}: the brokers take records again" in outage.log
    assert len(outage.log.splitlines()) < 40


def test_an_agent_that_starts_before_its_broker_waits_for_it(kafka_of_all: Kafka, outage: Outage) -> None:
    assert re.search(r"exporter kafka: cannot reach .*trying again", outage.late_log), outage.late_log
    assert_complete(read_topic(kafka_of_all.address(), "late"), outage.late, PARTITIONS)


def test_a_stop_keeps_to_its_deadline_and_says_what_is_lost(kafka_of_all: Kafka, outage: Outage) -> None:
    assert outage.ended == 1
    assert 1.5 < outage.ended_seconds < 2 + 2.5
    found = re.search(r"exporters\.kafka dropped shutdown (\d+)", outage.ended_log)
    assert found, outage.ended_log
    arrived = points_in(read_topic(kafka_of_all.address(), "ended"))
    told = re.search(r"kafka sent (\d+) samples", outage.ended_log)
    assert told, outage.ended_log
    assert int(found[1]) + int(told[1]) >= outage.ended_all
    assert int(told[1]) <= len(arrived)  # what was written last may never have been acknowledged
    for values in counted(arrived).values():
        assert values == [float(n + 1) for n in range(len(values))]  # the first of them, and nothing twice


# -- topics that are missing ---------------------------------------------------------------------------------------------


@pytest.fixture
def strict(kafka_of_all: Kafka) -> Kafka:
    """A broker that creates no topics of its own accord."""
    return kafka_of_all.start(**STRICT)


def test_a_topic_that_may_not_be_created_is_waited_for(strict: Kafka, pods: Pods, tmp_path: Path) -> None:
    kafka = strict
    with running(pods, kafka, "refused", tmp_path, IMPATIENT) as agent:
        agent.says(r'exporter kafka: .*there is no topic "refused".*create it.*trying again')
        pods.more(5)
        held = books(agent)
        assert held["sent"] == 0
        assert held["held"] > 4 * pods.pods * pods.series
        assert held["dropped"] == {}
        kafka.create_topic("refused", PARTITIONS)
        caught_up(agent)
        stopped_well(agent)
    assert_complete(read_topic(kafka.address(), "refused"), pods, PARTITIONS)


def test_a_topic_that_is_deleted_under_load_and_created_again_goes_on(
    strict: Kafka, pods: Pods, tmp_path: Path
) -> None:
    kafka = strict
    kafka.create_topic("gone", PARTITIONS)
    with running(pods, kafka, "gone", tmp_path, IMPATIENT) as agent:
        until(lambda: books(agent)["sent"] > 0, "first records")
        kafka.delete_topic("gone")
        acknowledged = pods.polls  # at most
        agent.says(r'exporter kafka: .*there is no topic "gone".*trying again')
        pods.more(5)
        kafka.create_topic("gone", PARTITIONS)
        caught_up(agent)
        assert books(agent)["dropped"] == {}
        pods.more(3)
        stopped_well(agent)
    arrived = counted(points_in(read_topic(kafka.address(), "gone")))
    assert len(arrived) == pods.pods * pods.series
    for values in arrived.values():  # from the poll on that was not yet acknowledged, each once
        assert values == [values[0] + n for n in range(len(values))]
        assert values[0] <= acknowledged + 1
    (last,) = {values[-1] for values in arrived.values()}
    assert pods.polls - 1 <= last <= pods.polls


# -- brokers that are killed, and create topics of their own accord ----------------------------------------------------


def test_nothing_is_lost_or_doubled_when_the_broker_is_killed(strict: Kafka, tmp_path: Path) -> None:
    kafka = strict  # started as usual after each kill
    topic = kafka.create_topic("killed", PARTITIONS)
    with Pods(pods=20, series=40) as pods:
        with running(pods, kafka, topic, tmp_path, 'compression = "none"') as agent:
            for _ in range(2):
                sent = books(agent)["sent"]
                until(lambda sent=sent: books(agent)["sent"] > sent, "records are on their way")  # type: ignore[misc]
                kafka.kill()
                kafka.start()
            caught_up(agent)
            assert books(agent)["dropped"] == {}
            stopped_well(agent)
        assert_complete(read_topic(kafka.address(), topic), pods, PARTITIONS)


def test_a_missing_topic_is_created_by_the_broker(kafka: Kafka, pods: Pods, tmp_path: Path) -> None:
    assert "fresh" not in kafka.topics()
    with running(pods, kafka, "fresh", tmp_path) as agent:
        pods.more(5)
        caught_up(agent)
        stopped_well(agent)
    assert_complete(read_topic(kafka.address(), "fresh"), pods)


# -- brokers that take less ----------------------------------------------------------------------------------------------

LEAST = 20_000


def longest(kafka: Kafka, topic: str) -> int:
    return max(len(record.value) for record in read_topic(kafka.address(), topic))


def test_a_topic_that_takes_less_gets_it_in_smaller_pieces(kafka: Kafka, tmp_path: Path) -> None:
    encodings = ("otlp_proto", "otlp_json")
    topics = {one: kafka.create_topic(f"narrow-{one}", PARTITIONS, max_message_bytes=str(LEAST)) for one in encodings}
    with Pods(pods=2, series=300) as pods:
        more = 'compression = "none"\nencoding = '
        exporters = {one: to(kafka.address(), topic, f'{more}"{one}"') for one, topic in topics.items()}
        with Agent(tmp_path, pipeline(pods.url, exporters)) as agent:
            for one in encodings:
                agent.says(rf"exporter {one}: .*max\.message\.bytes of topic narrow-{one}")
            pods.more(5)
            learned = {}
            for one in encodings:
                caught_up(agent, one)
                learned[one] = books(agent, one)["retries"]
            pods.more(5)
            for one in encodings:
                caught_up(agent, one)
                assert (books(agent, one)["retries"], books(agent, one)["dropped"]) == (learned[one], {})
            stopped_well(agent)
        for topic in topics.values():
            assert_complete(read_topic(kafka.address(), topic), pods, PARTITIONS)
            assert LEAST / 4 < longest(kafka, topic) < LEAST


def test_a_topic_that_begins_to_take_less_under_load(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.create_topic("narrowed", PARTITIONS)
    with Pods(pods=2, series=600) as pods:
        with running(pods, kafka, topic, tmp_path, 'compression = "none"') as agent:
            until(lambda: books(agent)["sent"], "first records")
            kafka.alter_topic(topic, max_message_bytes=str(LEAST))
            agent.says(r"exporter kafka: .*max\.message\.bytes of topic narrowed")
            pods.more(5)
            caught_up(agent)
            assert books(agent)["dropped"] == {}
            stopped_well(agent)
        assert_complete(read_topic(kafka.address(), topic), pods, PARTITIONS)
    assert longest(kafka, topic) > LEAST


@pytest.mark.parametrize("known", ["by max_message", "by the broker"])
def test_one_point_too_large_is_dropped_and_named_and_nothing_else(kafka: Kafka, known: str, tmp_path: Path) -> None:
    topic = kafka.create_topic("wide-" + known.replace(" ", "-"), PARTITIONS, max_message_bytes=str(LEAST))
    more = 'compression = "none"\n' + (f'max_message = "{LEAST}B"' if known == "by max_message" else "")
    with Pods(pods=4, series=100, wide=2 * LEAST) as pods:
        with running(pods, kafka, topic, tmp_path, more) as agent:
            agent.says(
                r"exporter kafka: one point of request_total makes a record of \d+ bytes, larger than .*; dropped"
            )
            pods.more(5)
            caught_up(agent)
            dropped = books(agent)["dropped"]
            assert dropped.keys() == {"too_large"}
            assert pods.polls - 2 <= dropped["too_large"] <= pods.polls  # one of each poll
            stopped_well(agent)
        assert_complete(read_topic(kafka.address(), topic), pods, PARTITIONS)
