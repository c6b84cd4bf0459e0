"""A real Prometheus scrapes the demo's proxies with viz' jobs; what the agent makes of its /federate is judged by OTLP.

The pages pass through a forwarder that numbers and keeps them, so that each point can be compared with the direct
conversion of exactly the page that it came from.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.conversion import Key, Labels, Value, convert, read_types
from tests.real.judge import Judge, Point
from tests.real.processes import Demo, fetch, once
from tests.real.prometheus import Prometheus, viz_config
from tests.real.servers import Forwarder
from tests.real.waiting import until

PAGE = "test_page_number"  # a gauge put on top of every page
OF_PROMETHEUS = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling",
                 "scrape_series_added"}  # fmt: skip

# The first is how the Linkerd docs federate; the profile only moves labels about.
RUNS = {"grpc": "none", "http/protobuf": "none", "http/json": "none"}


@dataclass
class Mesh:
    """What is scraped, through which forwarder, by which Prometheus."""

    targets: list[dict[str, Any]]
    forwarder: Forwarder
    prometheus: Prometheus
    pages: dict[tuple[str, int], str]  # path and number -> page


@pytest.fixture(scope="module")
def mesh(demo: Demo, prometheus_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    pages: dict[tuple[str, int], str] = {}

    def number(path: str, n: int, body: bytes) -> bytes:
        body = b"# TYPE %b gauge\n%b %d\n" % (PAGE.encode(), PAGE.encode(), n) + body
        pages[path, n] = body.decode()
        return body

    targets = demo.targets
    with Forwarder(demo.prometheus, edit=number) as forwarder:
        config = viz_config(targets, f"127.0.0.1:{forwarder.port}", "1s")
        with Prometheus(prometheus_program, tmp_path_factory.mktemp("prometheus"), config) as prometheus:
            until(lambda: prometheus.up() == len(targets), "all targets are up")
            yield Mesh(targets, forwarder, prometheus, pages)


def pipeline(mesh: Mesh, judge: Judge, profile: str) -> str:
    return f"""
[receivers.linkerd]
type = "federate"
url = "{mesh.prometheus.url}"
[processors.who]
type = "resource"
profile = "{profile}"
[exporters.judge]
type = "otlp"
endpoint = "{judge.endpoint}"
protocol = "{judge.protocol}"
[pipelines.metrics]
receivers = ["linkerd"]
processors = ["who"]
exporters = ["judge"]
"""


@dataclass
class Outcome:
    points: list[Point]
    ledger: Any
    judge: Judge


@pytest.fixture(scope="module", params=RUNS)
def outcome(request: pytest.FixtureRequest, mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One poll, delivered."""
    with Judge(request.param) as judge:
        text = pipeline(mesh, judge, RUNS[request.param])
        status, ledger, process = once(tmp_path_factory.mktemp("agent"), text)
        assert status == 0, process.stderr
        return Outcome(judge.points(), ledger, judge)


@dataclass
class Comparison:
    """Points of one target, and what its page gives."""

    arrived: dict[Key, Point]
    expected: dict[Key, Value]
    page: str


def compare(mesh: Mesh, points: list[Point]) -> Iterator[Comparison]:
    """Each target's points beside the direct conversion of the page that they came from."""
    for target in mesh.targets:
        labels = target["labels"]
        mine = [p for p in points if {("job", labels["job"]), ("instance", labels["instance"])} <= p.attributes]
        arrived = {(p.name, Labels(p.attributes)): p for p in mine if p.name not in OF_PROMETHEUS}
        assert len(arrived) == sum(p.name not in OF_PROMETHEUS for p in mine), "a stream stands twice"
        (number,) = [p for p in mine if p.name == PAGE]
        page = mesh.pages[target["discoveredLabels"]["__metrics_path__"], int(number.body[0])]
        yield Comparison(arrived, convert(page, labels), page)


def test_every_point_equals_the_direct_conversion_of_its_page(mesh: Mesh, outcome: Outcome) -> None:
    for both in compare(mesh, outcome.points):
        assert both.arrived.keys() == both.expected.keys()
        different = {
            key: ((point.kind, *point.body), both.expected[key])
            for key, point in both.arrived.items()
            if (point.kind, *point.body) != both.expected[key]
        }
        assert different == {}


def test_every_type_of_the_pages_comes_back(mesh: Mesh, outcome: Outcome) -> None:
    kinds = Counter(point.kind for point in outcome.points)
    assert kinds["sum"] > 300
    assert kinds["histogram"] > 30
    assert kinds["summary"] > 5
    untold = [p.name for p in outcome.points if p.kind == "sum" and not p.name.endswith("_total")]
    assert set(untold) >= {"stack_poll_total_ms", "opentelemetry_span_exports"}
    for point in outcome.points:
        assert (point.monotonic, point.cumulative) == ((point.kind == "sum",) * 2 if point.kind != "histogram" else (False, True)
                                                       if point.kind != "summary" else (False, False))  # fmt: skip


def test_latency_has_its_bounds_and_counts(outcome: Outcome) -> None:
    latencies = [p for p in outcome.points if p.name == "response_latency_ms"]
    assert latencies
    bounds = (1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 2000, 3000, 4000, 5000, 10000, 20000,
              30000, 40000, 50000)  # fmt: skip
    for point in latencies:
        count, _, found, counts = point.body
        assert found == bounds
        assert len(counts) == len(bounds) + 1
        assert sum(counts) == count


def test_a_cumulative_point_has_a_start_and_nothing_is_stale(outcome: Outcome) -> None:
    for point in outcome.points:
        assert not point.no_value
        assert point.start == (0 if point.kind == "gauge" else point.time), point
        assert point.scope, "the scope is the translator"


def test_the_ledger_says_what_arrived(mesh: Mesh, outcome: Outcome) -> None:
    linkerd, judge = outcome.ledger["receivers"]["linkerd"], outcome.ledger["exporters"]["judge"]
    assert (linkerd["polls"], linkerd["failed_polls"], linkerd["added"]["scrape"]) == (1, 0, 5)
    assert sum(linkerd["dropped"].values()) == 0
    assert judge["points_sent"] == len(outcome.points)
    assert judge["sent"] == judge["in"] == linkerd["samples"] + 5
    assert judge["requests"] == len(outcome.judge.received)


def test_the_agents_own_series_do_not_collide_with_the_federated_ones(mesh: Mesh, outcome: Outcome) -> None:
    ups = [p for p in outcome.points if p.name == "up"]
    assert len(ups) == len(mesh.targets) + 1
    (own,) = [p for p in ups if ("job", "linkerd") in p.attributes]
    assert own.body == (1.0,)
    assert ("instance", f"127.0.0.1:{mesh.prometheus.port}") in own.attributes


def test_requests_are_as_the_protocol_has_them(outcome: Outcome) -> None:
    for one in outcome.judge.received:
        assert "OTel-OTLP-Exporter-Python/" in one.headers["user-agent"]
        assert one.size <= 4 << 20
        if outcome.judge.protocol != "grpc":
            assert one.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("profile", ["otel", "prometheus"])
def test_profiles_move_labels_and_change_nothing_else(mesh: Mesh, profile: str, tmp_path: Path) -> None:
    with Judge("http/protobuf") as judge:
        status, _, process = once(tmp_path, pipeline(mesh, judge, profile))
        assert status == 0, process.stderr
        points = judge.points()
    for target in mesh.targets:
        labels = dict(target["labels"])
        mine = [p for p in points if ("service.instance.id", labels["instance"]) in p.resource
                and (profile == "otel" or ("service.name", labels["job"]) in p.resource)
                and (profile != "otel" or ("prometheus.job", labels["job"]) in p.resource)]  # fmt: skip
        assert len({p.resource for p in mine}) == 1, labels
        resource = dict(mine[0].resource)
        (number,) = [p for p in mine if p.name == PAGE]
        page = mesh.pages[target["discoveredLabels"]["__metrics_path__"], int(number.body[0])]
        if profile == "otel":
            owner = labels.get("deployment") or labels.get("statefulset") or labels.get("component")
            assert resource["service.name"] == owner
            assert resource.get("k8s.pod.name") == labels.get("pod")
            assert resource.get("k8s.namespace.name") == labels.get("namespace")
            moved = set(labels)
        else:
            assert resource == {"service.name": labels["job"], "service.instance.id": labels["instance"]}
            moved = {"job", "instance"}
        expected = {
            (name, Labels(pair for pair in attributes if pair[0] not in moved)): value
            for (name, attributes), value in convert(page, labels).items()
        }
        arrived = {(p.name, Labels(p.attributes)): (p.kind, *p.body) for p in mine if p.name not in OF_PROMETHEUS}
        assert arrived == expected


def test_types_are_told_by_the_servers_metadata(mesh: Mesh) -> None:
    """What this rests on: /federate has lost all types, and metadata knows the registry's counters without _total."""
    path = "/api/v1/metadata"
    known = json.loads(fetch(mesh.prometheus.url + path)[1])["data"]
    page = next(page for (path, _), page in mesh.pages.items() if path == "/proxies/0/metrics")
    told = {name: kind for name, kind in read_types(page).items() if re.search(rf"^{name}(_\w+)?[{{ ]", page, re.M)}
    assert {name: kind for name, kind in told.items() if kind not in {entry["type"] for entry in known[name]}} == {}
    body = fetch(mesh.prometheus.url + "/federate?match[]=%7Bjob%3D%22linkerd-proxy%22%7D")[1].decode()
    assert set(read_types(body).values()) == {"untyped"}
