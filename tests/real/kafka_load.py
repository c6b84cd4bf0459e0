"""A load that is easy to check: counters that grow by one from poll to poll, and what of them must lie in a topic."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.real.judge import Point
from tests.real.kafka_reader import Record, java_partition
from tests.real.processes import Agent
from tests.real.servers import HttpServer, Reply
from tests.real.waiting import until


class Pods:
    """A Prometheus that counts: at its n-th answer every counter of every pod stands at n. Each pod is a resource.

    ``wide`` bytes stand in a label of one more counter of the first pod.
    """

    def __init__(self, pods: int = 12, series: int = 20, wide: int = 0):
        self.pods, self.series, self.wide, self.polls = pods, series, wide, 0
        self._server = HttpServer(self._answer)
        self.url = self._server.url

    def _answer(self, handler: BaseHTTPRequestHandler) -> Reply:
        if not handler.path.startswith("/federate") or "match%5B%5D=up" in handler.path:  # not the question for targets
            return Reply(404, b"404 page not found\n")
        self.polls += 1
        return Reply(200, "".join(self._lines(self.polls, round(time.time() * 1000))).encode())

    def _lines(self, n: int, ms: int) -> Iterator[str]:
        yield "# TYPE request_total untyped\n"
        for pod in range(self.pods):
            labels = (
                f'instance="10.0.0.{pod}:4191",job="linkerd-proxy",pod="web-{pod}",namespace="shop",deployment="web"'
            )
            for number in range(self.series):
                yield f'request_total{{{labels},target_addr="10.0.1.{number}:8080"}} {n} {ms}\n'
            if self.wide and not pod:
                yield f'request_total{{{labels},target_addr="{"x" * self.wide}"}} {n} {ms}\n'

    def more(self, polls: int) -> None:
        """Wait for so many polls more."""
        goal = self.polls + polls
        until(lambda: self.polls >= goal, f"{polls} more polls")

    def __enter__(self) -> Pods:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()


def pipeline(
    url: str,
    exporters: dict[str, str],
    *,
    agent: str = "",
    interval: str = "200ms",
) -> str:
    """A pipeline file. ``exporters``: the options of each by id, as TOML lines, ``type`` first; see ``to``."""
    tables = "\n".join(
        f'[exporters.{id}]\n{options}\nbatch = {{ linger = "50ms" }}\nretry = {{ initial = "100ms", max = "500ms" }}'
        for id, options in exporters.items()
    )
    return f"""
[agent]
admin = "127.0.0.1:0"
{agent}
[receivers.linkerd]
type = "federate"
url = "{url}"
interval = "{interval}"
{tables}
[processors.who]
type = "resource"
[pipelines.metrics]
receivers = ["linkerd"]
processors = ["who"]
exporters = {list(exporters)}
"""


def to(address: str, topic: str, more: str = "") -> str:
    """Options of an exporter to a topic."""
    return f'type = "kafka"\nbrokers = ["{address}"]\ntopic = "{topic}"\n{more}'


def books(agent: Agent, id: str = "kafka") -> dict[str, Any]:
    """An exporter's line of the ledger, which must balance; reasons for drops that are 0 left out."""
    found: dict[str, Any] = agent.ledger()["exporters"][id]
    found["dropped"] = {reason: samples for reason, samples in found["dropped"].items() if samples}
    return found


def caught_up(agent: Agent, id: str = "kafka") -> None:
    """Wait until what the exporter holds now is on the broker (or dropped); more may have come in since."""
    goal = books(agent, id)["in"]

    def done() -> bool:
        now = books(agent, id)
        return bool(now["sent"] + sum(now["dropped"].values()) >= goal)

    until(done, f"exporter {id} has sent what it held")


def stopped_well(agent: Agent) -> None:
    """Stop the agent; it must have delivered everything, and have had no trouble of its own."""
    assert agent.stop() == 0, agent.stderr
    untroubled(agent)


def untroubled(agent: Agent) -> None:
    for sign in ("Traceback", "does not balance", "a bug of this", "Warning:"):
        assert sign not in agent.stderr


def counted(points: list[Point]) -> dict[Any, list[float]]:
    """The values of each counter's stream, in order; their times must increase."""
    found: dict[Any, list[float]] = defaultdict(list)
    last: dict[Any, int] = {}
    for point in points:
        if point.name == "request_total":
            assert point.kind == "sum"
            assert point.time > last.get(point.stream, 0), point
            last[point.stream] = point.time
            found[point.stream].append(point.body[0])
    return found


def assert_keyed(records: list[Record], partitions: int) -> None:
    """One resource a record, under its key, in the partition that Java's clients choose; so each series is in one."""
    keys: dict[Any, bytes | None] = {}
    partitions_of: dict[Any, set[int]] = defaultdict(set)
    for record in records:
        (resource,) = {point.resource for point in record.points}
        assert record.key == keys.setdefault(resource, record.key)
        assert record.key is not None
        assert record.partition == java_partition(record.key, partitions)
        for point in record.points:
            partitions_of[point.stream].add(record.partition)
    assert {len(found) for found in partitions_of.values()} == {1}


def assert_complete(records: list[Record], pods: Pods, partitions: int = 1) -> None:
    """Every counter has each of the values 1, 2, 3 ... once and in order; the stop may have cut off the last poll."""
    assert_keyed(records, partitions)
    found = counted([point for record in records for point in record.points])
    assert len(found) == pods.pods * pods.series
    sequences = {tuple(values) for values in found.values()}
    (arrived,) = sequences
    assert arrived == tuple(float(n + 1) for n in range(len(arrived)))
    assert pods.polls - 1 <= len(arrived) <= pods.polls
