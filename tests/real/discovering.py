"""The agent and a Prometheus that both follow one cluster and scrape the same pages: the series that each of them has.

What is compared is every series that lives at the moment, with all its labels and its value: what Prometheus finds, and what
the agent has delivered and not ended. The agent runs twice over: with discovery `kubernetes` and no option beside it, and
with linkerd-viz' own rules written out as `relabel`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent.demo.mesh import CONTROLLER_JOB
from tests.real.cluster import ClusterThread, Pages, address, meshed
from tests.real.judge import Judge, Point, points_of, samples_of
from tests.real.pods import (
    FIRST,
    MOVED,
    NEW,
    OTHERS,
    PAGE,
    SERVED,
    SILENT,
    WEB,
    Numbered,
    at,
    owned,
    serving,
)
from tests.real.processes import Agent
from tests.real.prometheus import Prometheus
from tests.real.viz import CONTROLLER_NAMESPACES, CONTROLLER_RULES, PROXY_RULES
from tests.real.waiting import PATIENCE, until

Labels = frozenset[tuple[str, Any]]
Series = dict[Labels, str]  # labels, `__name__` among them and `le` as a number where it is one -> value

VARYING = ("scrape_duration_seconds", "scrape_series_added")  # reports whose values differ from scrape to scrape
MOST_SHOWN = 20
NUMBERS = ("le", "quantile", "exported_le")  # labels that Prometheus 3 writes in its own way, and 2 as on the page


# -- what runs ---------------------------------------------------------------------------------------------------------


def toml(value: Any) -> str:
    """A value as it stands in a pipeline file."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def receiver(name: str, discovery: dict[str, Any], **options: Any) -> str:
    given = {"type": "proxy", "interval": "1s", "discovery": [{"kind": "kubernetes", **discovery}], **options}
    return "\n".join([f"[receivers.{name}]", *(f"{option} = {toml(value)}" for option, value in given.items()), ""])


def road(name: str, receivers: list[str], judge: Judge) -> str:
    return f"""
[exporters.{name}]
type = "otlp"
endpoint = "{judge.endpoint}"
protocol = "{judge.protocol}"
queue = {{ kind = "memory" }}
[pipelines.{name}]
receivers = {toml(receivers)}
processors = ["bare"]
exporters = ["{name}"]
"""


def pipelines(kubeconfig: str, judge: Judge, by_hand: Judge) -> str:
    """One pipeline with no option beside the discovery, and the controllers; one with viz' rules written out."""
    cluster = {"kubeconfig": kubeconfig}
    bare = {**cluster, "rules": "none"}
    controllers = {**bare, "namespaces": CONTROLLER_NAMESPACES}
    return "\n".join([
        'agent.admin = "127.0.0.1:0"',
        receiver("proxies", cluster),
        receiver("controllers", controllers, labels={"job": CONTROLLER_JOB}, relabel=CONTROLLER_RULES),
        receiver("by_hand", bare, relabel=PROXY_RULES),
        '[processors.bare]\ntype = "resource"\nprofile = "none"',
        road("judge", ["proxies", "controllers"], judge),
        road("other", ["by_hand"], by_hand),
    ])  # fmt: skip


Configure = Callable[[ClusterThread, Path], dict[str, Any]]  # a cluster, a folder -> what Prometheus is told


@dataclass
class Sides:
    """All that runs: the cluster that both follow, and what both make of it."""

    cluster: ClusterThread
    pages: Pages
    prometheus: Prometheus
    agent: Agent
    delivered: Delivered
    by_hand: Delivered
    configure: Callable[[], object]
    first: set[str]  # the labels `instance` of all targets, before anything changes

    def agree(self, expected: Callable[[Series], object], what: str) -> Series:
        """Wait until Prometheus has what is ``expected``, then until the agent has the same; return what that is."""
        self.configure()
        until(lambda: expected(stored(self.prometheus)), f"Prometheus knows that {what}")
        for side, filter in ((self.delivered, all_of), (self.by_hand, of_proxies)):
            deadline = time.monotonic() + PATIENCE
            while differing := differences(filter(stored(self.prometheus)), side.series()):
                assert time.monotonic() < deadline, (what, len(differing), differing[:MOST_SHOWN])
                time.sleep(0.25)
        return stored(self.prometheus)


def all_of(series: Series) -> Series:
    return series


def of_proxies(series: Series) -> Series:
    return {one: value for one, value in series.items() if ("job", CONTROLLER_JOB) not in one}


@contextmanager
def both(program: Path, folder: Path, configure: Configure, more: Sequence[Numbered] = ()) -> Iterator[Sides]:
    """Start all; at the end the agent's ledger must balance, and the API server have nothing to complain of."""
    pods = [pod for _, pod in (*SERVED, *OTHERS, *more)]
    with (
        ClusterThread(folder / "cluster", pods, bookmark_seconds=1.0) as cluster,
        serving() as pages,
        Judge("http/protobuf") as judge,
        Judge("grpc") as by_hand,
        Prometheus(program, folder / "prometheus", configure(cluster, folder)) as prometheus,
        Agent(folder, pipelines(cluster.running.kubeconfig, judge, by_hand)) as agent,
    ):
        for number, _ in more:
            pages.serve(address(number), PAGE)
        again = partial(configure, cluster, folder)
        yield Sides(
            cluster,
            pages,
            prometheus,
            agent,
            Delivered(judge),
            Delivered(by_hand),
            again,
            FIRST | {at(number) for number, _ in more},
        )
        agent.ledger()
        assert agent.stop() == 0, agent.stderr
        assert cluster.running.api.complaints == [], cluster.running.api.complaints


# -- what lives --------------------------------------------------------------------------------------------------------


class Delivered:
    """What has arrived at a judge."""

    def __init__(self, judge: Judge):
        self._judge = judge
        self._seen = 0
        self._streams: dict[tuple[Any, ...], Series] = {}

    def series(self) -> Series:
        """Every series that has not ended, with its last value."""
        received = self._judge.received
        for one in received[self._seen :]:
            for point in points_of(one.request):
                self._streams.pop(point.stream, None)
                if not point.no_value:
                    self._streams[point.stream] = samples_at(point)
        self._seen = len(received)
        whole = {labels: value for samples in self._streams.values() for labels, value in samples.items()}
        assert len(whole) == sum(map(len, self._streams.values())), "a series is in two streams"
        return whole


def samples_at(point: Point) -> Series:
    """The samples that a point was made of.

    A target with a label `le` takes it from its histograms, whose buckets are series like any other then; what is left
    are sum and count, which OTLP carries as a histogram without bounds.
    """
    boundless = point.kind == "histogram" and not point.body[2]
    return {
        key(name, dict(labels)): shown(value)
        for (name, labels, _), value in samples_of(point)
        if not (boundless and name.endswith("_bucket"))
    }


def stored(server: Prometheus) -> Series:
    """Every series that Prometheus sees at this moment."""
    found = {}
    for one in server.query('{__name__!=""}'):
        labels = dict(one["metric"])
        found[key(labels.pop("__name__"), labels)] = shown(float(one["value"][1]))
    return found


def key(name: str, labels: dict[str, Any]) -> Labels:
    numbers = {label: as_number(labels[label]) for label in NUMBERS if label in labels}
    return frozenset({**labels, **numbers, "__name__": name}.items())


def as_number(text: str | float) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def shown(value: Any) -> str:
    """A value so that NaN equals NaN."""
    return "nan" if isinstance(value, tuple) else repr(float(value))


def differences(wanted: Series, found: Series) -> list[str]:
    """What is only with one side, and which values differ."""
    only = [f"only Prometheus: {words(one)}" for one in wanted.keys() - found.keys()]
    only += [f"only here: {words(one)}" for one in found.keys() - wanted.keys()]
    for one in wanted.keys() & found.keys():
        if wanted[one] != found[one] and dict(one)["__name__"] not in VARYING:
            only.append(f"{wanted[one]} there, {found[one]} here: {words(one)}")
    return sorted(only)


def words(labels: Labels) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels, key=lambda one: one[0]))


def ups(series: Series) -> dict[str, dict[str, Any]]:
    """The labels of the targets' series `up`, with their value as ``up``, by their addresses."""
    found = {}
    for one, value in series.items():
        labels = dict(one)
        if labels.pop("__name__") == "up":
            found[str(labels["instance"])] = {**labels, "up": value}
    return found


# -- what is compared -------------------------------------------------------------------------------------------------


def at_the_start(sides: Sides) -> None:
    """The first list: all that a pod can be."""
    series = sides.agree(lambda series: ups(series).keys() == sides.first, "all targets are there")
    found = ups(series)
    assert {name for name, labels in found.items() if labels["up"] != "1.0"} == {at(SILENT), "[::1]:1"}
    assert found["here"]["job"] == "mine"
    assert found[at(1)]["deployment"] == "web"
    assert found[at(4)]["k8s_job"] == "backup"
    versions = {
        dict(one).get("exported_exported_version") for one in series if dict(one)["__name__"] == "proxy_build_info"
    }
    assert versions == {None, "v2.366"}
    assert len(series) > 1000


def through_changes(sides: Sides) -> None:
    """Pods that change, come, go, end, move; in between the API server forgets what happened."""
    sides.agree(lambda series: ups(series).keys() == sides.first, "all targets are there")
    cluster = sides.cluster

    cluster.put(meshed("web-5d8f-abcde", address(1), {**WEB, "version": "v2", "new": "label"}))
    sides.agree(lambda series: ups(series).get(at(1), {}).get("new") == "label", "a pod is relabelled")

    sides.pages.serve(address(NEW), PAGE)
    cluster.put(meshed("web-5d8f-fresh", address(NEW), WEB))
    cluster.delete(dict(SERVED)[2])
    wanted = sides.first - {at(2)} | {at(NEW)}
    sides.agree(lambda series: ups(series).keys() == wanted, "one pod came, one went")

    cluster.forget()
    cluster.put(meshed("backup-1-z", address(4), owned("job", "backup"), phase="Succeeded"))
    wanted -= {at(4)}
    sides.agree(lambda series: ups(series).keys() == wanted, "a job is done, told after all was forgotten")

    sides.pages.serve(address(MOVED), PAGE)
    cluster.delete(dict(SERVED)[5])
    cluster.put(meshed("nightly-2-y", address(MOVED), owned("cronjob", "nightly"), native=True))
    wanted = wanted - {at(5)} | {at(MOVED)}
    sides.agree(lambda series: ups(series).keys() == wanted, "a pod came back with another address")
