"""The receiver `query` against a Prometheus of its own, killed and started again: what was stored, and what arrived of it."""

from __future__ import annotations

import json
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.real.judge import Judge, Point, Sample, bare_pipeline, samples_of
from tests.real.processes import Agent, Demo
from tests.real.prometheus import Prometheus, viz_config
from tests.real.waiting import until

SELECTOR = '{job=~"linkerd-.*"}'
AWAY = 12  # s between two runs: longer than two intervals, so a hole
OF_AGENT = ("job", "linkerd")  # of the series that the agent adds to each poll


def pipeline(url: str, judge: Judge, state_dir: Path | None = None, **options: str) -> str:
    """A pipeline file; ``options`` of the receiver beside its own."""
    given = {"interval": "5s", "delay": "1s", "chunk": "3s", **options}
    more = "\n".join(f'{name} = "{value}"' for name, value in given.items())
    kept = "" if state_dir is None else f'agent.state_dir = "{state_dir}"'
    return bare_pipeline(
        "linkerd",
        f'type = "query"\nurl = "{url}"\n{more}',
        judge,
        agent=f'agent.shutdown_timeout = "5s"\n{kept}',
        exporter='queue = { kind = "memory" }\nretry = { initial = "200ms", max = "500ms" }',
    )


def mesh_of(demo: Demo, program: Path, folder: Path, *flags: str) -> Prometheus:
    """A Prometheus that scrapes the demo's proxies every second."""
    config = viz_config(demo.targets, demo.prometheus.removeprefix("http://"), "1s")
    return Prometheus(program, folder, config, flags=flags)


def key(name: str, labels: dict[str, str], ms: int) -> Sample:
    numbers = {name: float(labels[name]) for name in ("le", "quantile") if name in labels}
    return name, frozenset({**labels, **numbers}.items()), ms


def of_mesh(points: Iterable[Point]) -> list[Point]:
    """Without the agent's own series and without endings."""
    return [point for point in points if OF_AGENT not in point.attributes and not point.no_value]


def arrived(points: Iterable[Point]) -> dict[Sample, list[float]]:
    """Every sample that arrived, with its value at each arrival."""
    found: dict[Sample, list[float]] = defaultdict(list)
    for point in of_mesh(points):
        for sample, value in samples_of(point):
            found[sample].append(value)
    return found


def stored(server: Prometheus, seconds: int = 900) -> dict[Sample, float]:
    """Every sample that the server itself has, by its range selector."""
    found: dict[Sample, float] = {}
    for series in server.query(f"{SELECTOR}[{seconds}s]"):
        labels = dict(series["metric"])
        name = labels.pop("__name__")
        for moment, value in series["values"]:
            found[key(name, labels, round(float(moment) * 1000))] = float(value)
    return found


def compared(found: dict[Sample, list[float]], true: dict[Sample, float], end: int) -> None:
    """Fail unless all that is stored from the first arrival up to ``end`` (ms) arrived once, with its value."""
    begin = min(ms for *_, ms in found)
    wanted = {sample: value for sample, value in true.items() if begin <= sample[2] <= end}
    assert len(wanted) > 5_000
    assert [sample for sample, values in found.items() if len(values) > 1] == []
    assert sorted({ms for *_, ms in wanted.keys() - found.keys()}) == []
    assert found.keys() - wanted.keys() == set()
    assert [sample for sample, value in wanted.items() if found[sample] != [value]] == []


def noted(state_dir: Path) -> int:
    """Up to when all has been delivered, in ms, by the checkpoint."""
    note = state_dir / "checkpoints" / "linkerd.note"
    return int(json.loads(note.read_text())["end"]) if note.is_file() else 0


def settle(agent: Agent, state_dir: Path) -> int:
    """Wait until all that was read is delivered and noted, right after a poll; return up to when it read.

    What is delivered and not yet noted when a process is killed arrives again: nothing can be done about that.
    """

    def settled() -> int:
        read = round(metric(agent, "ebbtide_receiver_read_until_timestamp_seconds") * 1000)
        recent = read > time.time() * 1000 - 3_500
        held = agent.ledger()["exporters"]["judge"]["held"]
        return read if recent and not held and read == noted(state_dir) else 0

    return until(settled, "all is delivered and noted")


def quiet(state_dir: Path, later_than: int) -> int:
    """Wait until a poll later than this has been delivered and noted; return up to when it read."""
    return until(lambda: (end := noted(state_dir)) > later_than and end, "a poll is delivered and noted")


@dataclass
class Story:
    """What was left at the end."""

    points: list[Point]
    true: dict[Sample, float]
    end: int
    statuses: list[int]
    ledgers: list[dict[str, Any]] = field(default_factory=list)
    backfilled: list[float] = field(default_factory=list)
    holes: list[tuple[int, int]] = field(default_factory=list)  # in ms: nothing of the agent ran


def tell(demo: Demo, program: Path, folder: Path) -> Story:
    """Run the agent: killed, stopped, killed while the backend is away; the server is restarted meanwhile."""
    state = folder / "state"
    state.mkdir()
    story = Story([], {}, 0, [])
    with mesh_of(demo, program, folder / "prometheus") as server, Judge("http/protobuf") as judge:
        until(lambda: server.up() == len(demo.targets), "all targets are up")

        def run(name: str, ending: signal.Signals, later_than: int, *, polls: int = 2) -> int:
            with Agent(folder, pipeline(server.url, judge, state), name) as agent:
                end = later_than
                for _ in range(polls):
                    end = quiet(state, end)
                end = settle(agent, state)
                story.ledgers.append(agent.ledger())
                story.backfilled.append(metric(agent, "ebbtide_receiver_backfilled_samples_total"))
                story.statuses.append(agent.stop(ending))
            story.holes.append((noted(state), 0))
            time.sleep(AWAY)
            story.holes[-1] = (story.holes[-1][0], round(time.time() * 1000) - 2_000)
            return max(end, noted(state))

        end = run("first", signal.SIGKILL, 0)
        end = run("second", signal.SIGTERM, end)
        with Agent(folder, pipeline(server.url, judge, state), "third") as agent:
            end = settle(agent, state)
            judge.close()
            until(lambda: agent.ledger()["exporters"]["judge"]["held"] > 0, "samples are held")
            story.statuses.append(agent.stop(signal.SIGKILL))
        time.sleep(AWAY)
        server.stop()
        server.start()
        judge.open()
        run("fourth", signal.SIGTERM, end)
        story.end = noted(state)
        story.true = stored(server)
        story.points = judge.points()
    return story


def metric(agent: Agent, name: str) -> float:
    """The value of one of the agent's own metrics."""
    lines = agent.admin("/metrics")[1].decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))
