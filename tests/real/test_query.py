"""Raw samples from a real Prometheus' query API: each arrives once, whatever is killed and restarted.

Debian's Prometheus is a 2.x, whose ranges are closed on both ends; tests/peers/test_query3.py does the same with a 3.x.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.real.judge import Judge, Point
from tests.real.processes import Agent, Demo, once
from tests.real.prometheus import Prometheus
from tests.real.querying import (
    SELECTOR,
    Story,
    arrived,
    compared,
    mesh_of,
    metric,
    noted,
    of_mesh,
    pipeline,
    quiet,
    settle,
    stored,
    tell,
)
from tests.real.waiting import until

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def story(demo: Demo, prometheus_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return tell(demo, prometheus_program, tmp_path_factory.mktemp("story"))


def test_every_sample_arrives_once_though_the_agent_was_killed_and_the_backend_away(story: Story) -> None:
    assert story.statuses == [-9, 0, -9, 0]
    compared(arrived(story.points), story.true, story.end)


def test_the_holes_were_filled(story: Story) -> None:
    first, second, fourth = story.backfilled
    assert (first, second > 0, fourth > 0) == (0, True, True)
    times = {ms for *_, ms in arrived(story.points)}
    for begin, end in story.holes[:2]:
        assert len([ms for ms in times if begin < ms < end]) > 2


def test_every_stream_is_in_order(story: Story) -> None:
    last: dict[tuple[Any, ...], Point] = {}
    for point in of_mesh(story.points):
        before = last.get(point.stream)
        if before is not None:
            assert point.time > before.time
            assert point.start == before.start or point.start >= before.time, (before, point)
        assert point.start <= point.time
        assert (point.start > 0) == (point.kind != "gauge")
        last[point.stream] = point


def test_while_it_runs_no_stream_begins_anew(story: Story) -> None:
    """Four runs, so four starts of each stream, one more where the server was away or a family expired."""
    starts: dict[tuple[Any, ...], set[int]] = {}
    for point in of_mesh(story.points):
        if point.name == "process_cpu_seconds_total" or point.name == "request_total":
            starts.setdefault(point.stream, set()).add(point.start)
    assert max(map(len, starts.values())) <= 6, starts


def test_nothing_was_torn_or_repeated_and_no_poll_failed(story: Story) -> None:
    for ledger in story.ledgers[:2]:
        receiver = ledger["receivers"]["linkerd"]
        assert receiver["failed_polls"] == 0
        assert {reason: n for reason, n in receiver["dropped"].items() if n} == {}


@pytest.fixture
def server(demo: Demo, prometheus_program: Path, tmp_path: Path) -> Prometheus:
    return mesh_of(demo, prometheus_program, tmp_path / "prometheus")


def test_the_points_are_those_of_federate(server: Prometheus, demo: Demo, tmp_path: Path) -> None:
    with server, Judge("http/protobuf") as raw, Judge("http/protobuf") as federated:
        until(lambda: server.up() == len(demo.targets), "all targets are up")
        with Agent(tmp_path, pipeline(server.url, raw)) as agent:
            until(lambda: of_mesh(raw.points()), "the first window")
            text = pipeline(server.url, federated).replace('type = "query"', 'type = "federate"')
            for own in ("delay", "chunk"):
                text = "\n".join(line for line in text.splitlines() if not line.startswith(own))
            status, _, process = once(tmp_path, text, "federate")
            assert status == 0, process.stderr
            last = max(point.time for point in federated.points())
            until(lambda: max(point.time for point in of_mesh(raw.points())) >= last, "later windows")
            assert agent.stop() == 0, agent.stderr
        told = {(p.stream, p.time, p.body, p.monotonic, p.cumulative) for p in of_mesh(raw.points())}
        wanted = {(p.stream, p.time, p.body, p.monotonic, p.cumulative) for p in of_mesh(federated.points())}
        assert len(wanted) > 300
        assert wanted - told == set()


def test_a_server_that_refuses_large_questions_is_asked_smaller_ones(
    demo: Demo, prometheus_program: Path, tmp_path: Path
) -> None:
    flags = ("--query.max-samples=8000",)
    state = tmp_path / "state"
    state.mkdir()
    with mesh_of(demo, prometheus_program, tmp_path / "prometheus", *flags) as server, Judge("grpc") as judge:
        until(lambda: server.up() == len(demo.targets), "all targets are up")
        text = 'agent.log_level = "debug"\n' + pipeline(server.url, judge, state, interval="10s", chunk="5m")
        with Agent(tmp_path, text) as agent:
            end = quiet(state, quiet(state, quiet(state, 0)))
            assert metric(agent, "ebbtide_receiver_read_until_timestamp_seconds") >= end / 1000
            assert agent.ledger()["receivers"]["linkerd"]["failed_polls"] == 0
            assert agent.stop() == 0, agent.stderr
            assert "query processing would load too many samples into memory" in agent.stderr
            assert "trying half of it" in agent.stderr
        end = noted(state)
        points = judge.points()
        server.stop()
    with mesh_of(demo, prometheus_program, tmp_path / "prometheus") as again:
        compared(arrived(points), stored(again), end)


class Changing(Agent):
    """The agent, and its file, which changes while it runs."""

    def __init__(self, folder: Path, text: str):
        super().__init__(folder, text)
        self._file = folder / "agent.toml"
        self._said = 0

    def ledger(self) -> dict[str, Any]:
        """As it is: an exporter that came later has not received what its pipeline gave before."""
        ledger: dict[str, Any] = json.loads(self.admin("/ledger")[1])
        return ledger

    def reload(self, text: str, expected: str) -> None:
        """Change the file, tell the agent, and wait until it has said what came of it."""
        self._file.write_text(text, encoding="utf-8")
        self.process.send_signal(signal.SIGHUP)
        until(lambda: expected in self.stderr[self._said :], f"{expected}; it said {self.stderr[self._said :]!r}")
        self._said = len(self.stderr)


def matching(text: str, *selectors: str) -> str:
    """The same pipeline with these selectors."""
    return text.replace('type = "query"\n', f'type = "query"\nmatch = {list(selectors)}\n')


def with_dead(text: str, dead: Judge) -> str:
    """The same pipeline with a second exporter, whose destination is away."""
    table = f'[exporters.dead]\ntype = "otlp"\nendpoint = "{dead.endpoint}"\nqueue = {{ kind = "memory" }}\n[pipelines.metrics]'
    return text.replace("[pipelines.metrics]", table).replace('exporters = ["judge"]', 'exporters = ["judge", "dead"]')


def test_every_sample_arrives_once_though_the_file_changes(server: Prometheus, demo: Demo, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with server, Judge("http/protobuf") as judge, Judge("http/protobuf") as dead:
        dead.close()
        until(lambda: server.up() == len(demo.targets), "all targets are up")
        text = pipeline(
            server.url, judge, state
        )  # with an interval that leaves time between the note of a poll and the next
        with Changing(tmp_path, text) as agent:
            end = quiet(state, 0)
            for other in (
                pipeline(server.url, judge, state, interval="2s", chunk="1m"),
                matching(text, SELECTOR),
                matching(text, '{job="linkerd-proxy"}', SELECTOR, "up"),
                text.replace("\n[processors", '\ntypes = { process_open_fds = "counter" }\n[processors'),
            ):
                agent.reload(other, "receivers.linkerd changed")
                end = quiet(state, end)
            agent.reload(matching(text, '{job="linkerd-proxy"'), "nothing has changed:")
            agent.reload(with_dead(text, dead), "exporters.dead new")
            until(lambda: agent.ledger()["exporters"]["dead"]["held"] > 1000, "samples that the dead one holds")
            end, polls = noted(state), agent.ledger()["receivers"]["linkerd"]["polls"]
            until(lambda: agent.ledger()["receivers"]["linkerd"]["polls"] > polls + 2, "further polls")
            assert noted(state) == end  # so much the dead one has none of
            agent.reload(text, "exporters.dead removed")
            quiet(state, end)
            assert agent.ledger()["exporters"]["dead"]["held"] > 1000  # delivered, if anybody takes it
            settle(agent, state)
            assert agent.stop(signal.SIGKILL) == -9
        with Agent(tmp_path, text, "again") as again:
            quiet(state, noted(state))
            assert again.stop() == 0, again.stderr
        compared(arrived(judge.points()), stored(server), noted(state))
