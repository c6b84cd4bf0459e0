"""A real proxy's pages, and what a real Prometheus made of them at one moment: all ways give the same points.

Recorded: the page, /federate, a range selector, /api/v1/metadata and /api/v1/targets/metadata. The page is converted independently
(``tests.real.conversion``); the federated body goes through the receiver's memory and the OTLP template.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from ebbtide import Batch, ReceiverCounts
from exporters.otlp_template import encode
from receivers.matrix import AnswerReader, Metrics
from receivers.query_cursor import Window
from receivers.scrape import Scrape
from receivers.types import TypeBook
from receivers.window import WindowScrape
from tests.real.conversion import Key, Labels, Value, convert, read_types
from tests.real.judge import Point, points_of

OF_PROMETHEUS = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling",
                 "scrape_series_added"}  # fmt: skip
PAGES = {"page_A.prom": "10.42.0.5:4191", "page_B.prom": "10.42.0.6:4191"}
S = 10**9


class Recording:
    """The files of one archive."""

    def __init__(self, folder: Path, name: str):
        self._archive = tarfile.open(folder / "linkerd_proxy_recorded" / f"{name}.tar.xz")  # noqa: SIM115
        self.files = {Path(member.name).name: member for member in self._archive.getmembers() if member.isfile()}

    def read(self, name: str) -> bytes:
        found = self._archive.extractfile(self.files[name])
        assert found is not None
        return found.read()

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))["data"]

    def close(self) -> None:
        self._archive.close()


@pytest.fixture(scope="module")
def recording(vectors: Path) -> Iterator[Recording]:
    opened = Recording(vectors, "via_prometheus")
    yield opened
    opened.close()


class Agent:
    """The receiver's memory, fed with bodies; counts must balance after each."""

    def __init__(self) -> None:
        self.counts = ReceiverCounts()
        self.scrape = Scrape(self.counts, TypeBook(), stale_after=300 * S)

    def poll(self, body: bytes, now: int) -> list[Point]:
        reader = self.scrape.read()
        for start in range(0, len(body), 65_536):
            reader.feed(body[start : start + 65_536])
        page = self.scrape.finish(reader)
        self.scrape.unknown_targets()
        batches = list(self.scrape.take(page, now))
        self.counts.out += sum(map(len, batches))
        assert self.counts.imbalance() == 0
        return [point for batch in batches for point in decoded(batch)]


def decoded(batch: Batch) -> Iterator[Point]:
    encoded = encode(batch)
    assert encoded.incomplete == 0
    return points_of(ExportMetricsServiceRequest.FromString(encoded.body))


@pytest.fixture(scope="module")
def federated(recording: Recording) -> list[Point]:
    agent = Agent()
    disputed = agent.scrape.types.learn(recording.json("metadata.json"))
    if disputed:
        agent.scrape.types.learn_targets(recording.json("targets_metadata.json"))
    moment = json.loads(recording.read("index.json"))["evaluation_time"]
    return agent.poll(recording.read("federate.txt"), round(moment * S))


def target_labels(recording: Recording, instance: str) -> dict[str, str]:
    targets = recording.json("targets.json")["activeTargets"]
    (labels,) = [target["labels"] for target in targets if target["labels"]["instance"] == instance]
    return labels  # type: ignore[no-any-return]


def of_target(points: list[Point], instance: str) -> dict[Key, Point]:
    found = [p for p in points if ("instance", instance) in p.attributes and p.name not in OF_PROMETHEUS]
    by_key = {(point.name, Labels(point.attributes)): point for point in found}
    assert len(by_key) == len(found), "a stream stands twice"
    return by_key


@pytest.mark.parametrize("page", PAGES)
def test_the_federated_body_gives_the_points_of_its_own_page(
    recording: Recording, federated: list[Point], page: str
) -> None:
    labels = target_labels(recording, PAGES[page])
    expected: dict[Key, Value] = convert(recording.read(page).decode(), labels)
    arrived = of_target(federated, PAGES[page])
    assert arrived.keys() == expected.keys()
    assert {key: (point.kind, *point.body) for key, point in arrived.items()} == expected


@pytest.mark.parametrize("page", PAGES)
def test_every_point_has_the_time_of_its_scrape_and_cumulative_ones_a_start(federated: list[Point], page: str) -> None:
    points = of_target(federated, PAGES[page]).values()
    assert len({point.time for point in points}) == 1
    for point in points:
        assert point.start == (0 if point.kind == "gauge" else point.time)
        assert point.monotonic is (point.kind == "sum")
        assert point.cumulative is (point.kind in ("sum", "histogram"))


@pytest.fixture(scope="module")
def queried(recording: Recording) -> list[Point]:
    """What the receiver `query` makes of the range selector that was recorded, in its order."""
    counts = ReceiverCounts()
    scrape = WindowScrape(counts, TypeBook(), stale_after=300 * S)
    disputed = scrape.types.learn(recording.json("metadata.json"))
    if disputed:
        scrape.types.learn_targets(recording.json("targets_metadata.json"))
    reader = AnswerReader(Metrics(scrape.learn))
    body = recording.read("query_30s.json")
    for start in range(0, len(body), 65_536):
        reader.feed(body[start : start + 65_536])
    answer = reader.finish()
    scrape.unknown_targets()
    end = round(json.loads(recording.read("index.json"))["evaluation_time"] * 1000)
    window = Window(end - 30_000, end - 30_000, end)
    batches = list(scrape.take_window(answer.slots, answer.values, answer.times * 10**6, window))
    counts.out += sum(map(len, batches))
    assert counts.imbalance() == 0
    assert counts.samples == len(answer.slots)
    assert counts.dropped.total() == 0
    return [point for batch in batches for point in decoded(batch)]


def newest(points: list[Point], instance: str) -> list[Point]:
    """The points of the last scrape of a target."""
    last = max(p.time for p in points if ("instance", instance) in p.attributes and p.name == "up")
    return [p for p in points if p.time == last]


@pytest.mark.parametrize("page", PAGES)
def test_raw_samples_give_the_points_of_federate_and_of_the_page(
    recording: Recording, federated: list[Point], queried: list[Point], page: str
) -> None:
    instance = PAGES[page]
    arrived, other = of_target(newest(queried, instance), instance), of_target(federated, instance)
    expected: dict[Key, Value] = convert(recording.read(page).decode(), target_labels(recording, instance))
    assert arrived.keys() == expected.keys()
    assert {key: (point.kind, *point.body) for key, point in arrived.items()} == expected
    for key, point in arrived.items():
        assert (point.stream, point.time, point.monotonic, point.cumulative) == (
            other[key].stream, other[key].time, other[key].monotonic, other[key].cumulative,
        )  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_each_scrape_of_the_window_gives_the_points_of_its_page(
    recording: Recording, queried: list[Point], page: str
) -> None:
    labels, instance = target_labels(recording, PAGES[page]), PAGES[page]
    names = [f"window_{page[5]}_{number:02}_before.prom" for number in range(1, 15)]
    pages = [recording.read(name).decode() for name in (page, *names)]
    times = sorted({p.time for p in queried if ("instance", instance) in p.attributes}, reverse=True)
    assert len(times) == len(pages)
    for time, text in zip(times, pages, strict=True):
        arrived = of_target([point for point in queried if point.time == time], instance)
        assert {key: (point.kind, *point.body) for key, point in arrived.items()} == convert(text, labels)


def test_raw_samples_come_oldest_first_and_their_streams_begin_once(queried: list[Point]) -> None:
    last: dict[tuple[Any, ...], Point] = {}
    for point in queried:
        before = last.get(point.stream)
        assert before is None or (point.time > before.time and point.start == before.start)
        last[point.stream] = point
    assert len(queried) > 1.5 * len(last)


def test_counters_that_do_not_end_in_total_are_counters(recording: Recording, federated: list[Point]) -> None:
    told = {name for name, kind in read_types(recording.read("page_A.prom").decode()).items() if kind == "counter"}
    untold = {p.name for p in federated if p.kind == "sum" and not p.name.endswith("_total")}
    assert untold
    assert untold <= told


def test_types_hold_without_the_servers_metadata(recording: Recording, federated: list[Point]) -> None:
    """A server may refuse its metadata: the built-in table knows the same types for all that these proxies write."""
    without = Agent().poll(recording.read("federate.txt"), federated[0].time + S)
    assert {(p.name, p.kind, p.attributes) for p in without} == {(p.name, p.kind, p.attributes) for p in federated}


def test_the_lines_may_come_in_any_order(recording: Recording, federated: list[Point]) -> None:
    lines = [line for line in recording.read("federate.txt").splitlines(keepends=True) if not line.startswith(b"#")]
    agent = Agent()
    agent.scrape.types.learn(recording.json("metadata.json"))
    turned = agent.poll(b"".join(reversed(lines)), federated[0].time + S)
    assert {(p.stream, p.time, p.body) for p in turned} == {(p.stream, p.time, p.body) for p in federated}


@pytest.mark.parametrize(("archive", "step"), [("startup_A", 1), ("steady_A", 4), ("idle_expiry_A", 8)])
def test_a_replayed_sequence_gives_what_each_page_says(vectors: Path, archive: str, step: int) -> None:
    """Families keep their place and samples do not: rows come, go, return and are shuffled; no value goes astray."""
    recording = Recording(vectors, archive)
    labels = {"job": "linkerd-proxy", "instance": "10.42.0.5:4191", "pod": "web", "namespace": "demo", "version": "v7"}
    pages = sorted(name for name in recording.files if name.endswith(".prom"))
    agent = Agent()
    bodies = [recording.read(name).decode() for name in pages[::step]]
    agent.scrape.types.learn(
        {name: [{"type": kind, "help": "", "unit": ""}] for body in bodies for name, kind in read_types(body).items()}
    )
    for number, body in enumerate(bodies):
        expected = convert(body, labels)
        time = (1_795_362_000 + 10 * number) * S
        points = agent.poll(as_federated(expected, time // 10**6, labels), time)
        arrived = {
            (p.name, Labels(p.attributes)): (p.kind, *p.body) for p in points if not p.no_value and p.name != "up"
        }
        assert arrived == expected
    recording.close()


def as_federated(points: dict[Key, Value], ms: int, target: dict[str, str]) -> bytes:
    """Write points as /federate writes their samples: untyped, with a time, parts apart."""
    lines = [_sample("up", frozenset(target.items()), 1, ms)]
    for (name, labels), (kind, *body) in points.items():
        if kind in ("gauge", "sum"):
            lines.append(_sample(name, labels, body[0], ms))
            continue
        lines += [_sample(name + "_count", labels, body[0], ms), _sample(name + "_sum", labels, body[1], ms)]
        if kind == "histogram":
            total = 0
            for bound, count in zip((*body[2], "+Inf"), body[3], strict=True):
                total += count
                lines.append(_sample(name + "_bucket", labels | {("le", f"{bound}")}, total, ms))
        else:
            lines += [_sample(name, labels | {("quantile", f"{q}")}, value, ms) for q, value in body[2]]
    return "".join(lines).encode()


def _sample(name: str, labels: frozenset[tuple[str, str]], value: float, ms: int) -> str:
    escaped = (
        (key, text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for key, text in sorted(labels)
    )
    inside = ",".join(f'{key}="{text}"' for key, text in escaped)
    return f"{name}{{{inside}}} {value!r} {ms}\n"
