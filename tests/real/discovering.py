"""Discovery in Kubernetes against a real Prometheus with linkerd-viz' own configuration: the same pods, the same series.

Both follow one API server and scrape the same pages. What is compared is every series that lives at the moment, with all
its labels and its value: what Prometheus finds of them, and what the agent has delivered and not ended. So the API server
of the demo is judged as well, by the client that Kubernetes' own programs use.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.demo.mesh import CONTROLLER_JOB, PROXY_JOB, Mesh, MeshOptions
from tests.clusters import Object
from tests.real.cluster import ADMIN_PORT, PROXY_PORTS, ClusterThread, Pages, address, container, meshed
from tests.real.judge import Judge, points_of, samples_of
from tests.real.processes import Agent
from tests.real.prometheus import Prometheus
from tests.real.viz import CONTROLLER_NAMESPACES, CONTROLLER_RULES, PROXY_RULES, viz_config
from tests.real.waiting import PATIENCE, until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="only on Linux all of 127.0.0.0/8 can be listened at"),
]

Labels = frozenset[tuple[str, Any]]
Series = dict[Labels, str]  # labels, `__name__` among them and `le` as a number where it is one -> value

VARYING = ("scrape_duration_seconds", "scrape_series_added")  # reports whose values differ from scrape to scrape

PAGE = b"""\
# TYPE proxy_build_info gauge
proxy_build_info{date="2026",git_sha="1f",profile="release",vendor="l5d",version="v2.366",exported_version="p"} 1
# TYPE clash gauge
clash{job="j",instance="i",namespace="n",pod="p",le="l",quantile="q",name="a",protocol="b",error="c",tls="d"} 1.5
clash{exported_job="e",job="j",exported_exported_job="f",empty=""} NaN
clash{deployment="d",statefulset="s",app="a",app_kubernetes_io_name="n",control_plane_ns="c",k8s_job="k"} 2
# TYPE request_total counter
request_total{direction="inbound",tls="true"} 5
request_total{direction="inbound",tls="true"} 6
# TYPE response_latency_ms histogram
response_latency_ms_bucket{direction="inbound",le="1"} 1
response_latency_ms_bucket{direction="inbound",le="10"} 2
response_latency_ms_bucket{direction="inbound",le="+Inf"} 3
response_latency_ms_count{direction="inbound"} 3
response_latency_ms_sum{direction="inbound"} 12
# TYPE pause_seconds summary
pause_seconds{quantile="0.5"} 0.25
pause_seconds_sum 8
pause_seconds_count 4
untold{name="without a type"} 7
"""


def pod_of(number: int, name: str, labels: dict[str, str], **more: Any) -> tuple[int, Object]:
    return number, meshed(name, address(number), labels, **more)


def owned(kind: str, name: str, **labels: str) -> dict[str, str]:
    return {f"linkerd.io/proxy-{kind}": name, "linkerd.io/workload-ns": "shop", "app": name, **labels}


WEB = owned("deployment", "web") | {
    "version": "v1", "pod-template-hash": "5d8f", "app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "prod",
    "topology.kubernetes.io/zone": "z-1", "a.b-c/d.e-f_G": "mixed",
}  # fmt: skip

SERVED = [  # pods that have a page
    pod_of(1, "web-5d8f-abcde", WEB),
    pod_of(2, "db-0", owned("statefulset", "db") | {"apps.kubernetes.io/pod-index": "0"}, native=True),
    pod_of(3, "log-x", owned("daemonset", "log") | {"controller-revision-hash": "7c"}),
    pod_of(4, "backup-1-z", owned("job", "backup") | {"job-name": "backup-1", "batch.kubernetes.io/job-name": "backup-1"}),
    pod_of(5, "nightly-2-y", owned("cronjob", "nightly"), native=True),
    pod_of(6, "bare", {}, namespace="default"),
    pod_of(7, "set-a", owned("replicaset", "set")),
    pod_of(8, "old-b", owned("replicationcontroller", "old")),
    pod_of(9, "hostile", owned("deployment", "h") | {
        "job": "mine", "namespace": "theirs", "pod": "ours", "instance": "here", "deployment": "d", "k8s_job": "k",
        "foo": "plain", "linkerd.io/foo": "of-linkerd", "scrape": "s",
    }),
    pod_of(10, "clashing", owned("deployment", "c") | {
        "le": "x", "quantile": "y", "name": "n", "protocol": "p", "error": "e", "tls": "t", "date": "d", "version": "v",
        "exported_version": "w", "exported_job": "z", "direction": "up", "exported_exported_job": "zz",
    }),
    pod_of(11, "odd", owned("deployment", "o") | {"1st": "digit", "empty": "", "linkerd.io/empty": "", "UPPER": "U", "l": "x" * 63}),
    pod_of(12, "starting", owned("deployment", "s"), phase="Pending"),
    pod_of(13, "both", owned("deployment", "b"), app=container("linkerd-proxy-2", {"linkerd-admin": 4191})),
    pod_of(14, "two-owners", {"linkerd.io/proxy-job": "j", "linkerd.io/proxy-deployment": "d", "k8s-job": "l"}),
    pod_of(15, "identity-0", owned("deployment", "linkerd-identity", **{"linkerd.io/control-plane-component": "identity"}),
           namespace="linkerd", app=container("identity", {"ident-grpc": 8080, "ident-admin": 9990})),
    pod_of(16, "metrics-api-0", owned("deployment", "metrics-api", **{"linkerd.io/extension": "viz", "component": "metrics-api"}),
           namespace="linkerd-viz", app=container("metrics-api", {"http": 8085, "admin": 9990}), native=True),
]  # fmt: skip

OTHERS = [  # pods without one, or that must not be scraped; were they, it would show as a target that is down
    pod_of(101, "done", owned("job", "done"), phase="Succeeded"),
    pod_of(102, "failed", owned("job", "failed"), phase="Failed"),
    pod_of(103, "lost", owned("deployment", "lost"), phase="Unknown"),
    pod_of(104, "no-ports", owned("deployment", "n"), proxy=container("linkerd-proxy")),
    pod_of(105, "no-admin", owned("deployment", "n"), proxy=container("linkerd-proxy", {"linkerd-proxy": 4143})),
    pod_of(106, "renamed", owned("deployment", "n"), proxy=container("proxy", PROXY_PORTS)),
    pod_of(107, "elsewhere", owned("deployment", "n") | {"linkerd.io/control-plane-ns": "linkerd2"}),
    pod_of(108, "silent", owned("deployment", "silent")),  # is scraped, and nothing listens
    (0, meshed("no-address", "", owned("deployment", "n"), phase="Pending")),
    (0, meshed("version-six", "::1", owned("deployment", "six"), proxy=container("linkerd-proxy", {"linkerd-admin": 1}))),
]  # fmt: skip

CONTROLLERS = (15, 16)
CONTROLLER_PORT = 9990
HOSTILE, STARTING, SILENT = 9, 12, 108
NEW, MOVED = 17, 18
JOBS = (PROXY_JOB, CONTROLLER_JOB)


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


@dataclass
class Sides:
    """All that runs: the cluster that both follow, and what both make of it."""

    cluster: ClusterThread
    pages: Pages
    prometheus: Prometheus
    agent: Agent
    delivered: Delivered
    by_hand: Delivered

    def agree(self, expected: Callable[[Series], object], what: str) -> Series:
        """Wait until Prometheus has what is ``expected``, then until the agent has the same; return what that is."""
        until(lambda: expected(stored(self.prometheus)), f"Prometheus knows that {what}")
        for side, filter in ((self.delivered, all_of), (self.by_hand, of_proxies)):
            deadline = time.monotonic() + PATIENCE
            while differing := differences(filter(stored(self.prometheus)), side.series()):
                assert time.monotonic() < deadline, (what, differing)
                time.sleep(0.25)
        return stored(self.prometheus)


def all_of(series: Series) -> Series:
    return series


def of_proxies(series: Series) -> Series:
    return {one: value for one, value in series.items() if ("job", CONTROLLER_JOB) not in one}


def serving() -> Pages:
    """A page for every pod that has one: those of the demo's mesh for two of them, and for the controllers."""
    pages, mesh = Pages(), Mesh(MeshOptions(proxies=3))
    now = mesh.options.origin + 1000
    bodies = {job: [mesh.page(target, now) for target in mesh.targets if target.labels["job"] == job] for job in JOBS}
    for number, _ in SERVED:
        more = bodies[PROXY_JOB][number] if number < 3 else b""
        pages.serve(address(number), PAGE + (more or b""))
    for number in CONTROLLERS:
        pages.serve(address(number), bodies[CONTROLLER_JOB][0] or b"", CONTROLLER_PORT)
    return pages


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
                    samples = samples_of(point)
                    self._streams[point.stream] = {
                        key(name, dict(labels)): shown(value) for (name, labels, _), value in samples
                    }
        self._seen = len(received)
        whole = {labels: value for samples in self._streams.values() for labels, value in samples.items()}
        assert len(whole) == sum(map(len, self._streams.values())), "a series is in two streams"
        return whole


def stored(server: Prometheus) -> Series:
    """Every series that Prometheus sees at this moment."""
    found = {}
    for one in server.query('{__name__!=""}'):
        labels = dict(one["metric"])
        found[key(labels.pop("__name__"), labels)] = shown(float(one["value"][1]))
    return found


def key(name: str, labels: dict[str, Any]) -> Labels:
    numbers = {label: as_number(labels[label]) for label in ("le", "quantile") if label in labels}
    return frozenset({**labels, **numbers, "__name__": name}.items())


def as_number(text: str | float) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def shown(value: Any) -> str:
    """A value so that NaN equals NaN."""
    return "NaN" if isinstance(value, tuple) else repr(float(value))


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


# -- the comparison ----------------------------------------------------------------------------------------------------


def at(number: int, port: int = ADMIN_PORT) -> str:
    return f"{address(number)}:{port}"


FIRST = {
    *(at(number) for number, _ in SERVED if number != HOSTILE), "here", at(SILENT), "[::1]:1",
    *(at(number, CONTROLLER_PORT) for number in CONTROLLERS),
}  # fmt: skip


def test_the_same_series_for_the_same_pods(sides: Sides) -> None:
    series = sides.agree(lambda series: ups(series).keys() == FIRST, "all targets are there")
    found = ups(series)
    assert {name for name, labels in found.items() if labels["up"] != "1.0"} == {at(SILENT), "[::1]:1"}
    assert found["here"]["job"] == "mine"
    assert found[at(1)]["deployment"] == "web"
    assert found[at(4)]["k8s_job"] == "backup"
    names = {dict(one).get("exported_version") for one in series if dict(one)["__name__"] == "proxy_build_info"}
    assert "v2.366" in names
    assert len(series) > 1000


def test_the_same_series_after_changes(sides: Sides) -> None:
    sides.agree(lambda series: ups(series).keys() == FIRST, "all targets are there")
    cluster = sides.cluster

    cluster.put(meshed("web-5d8f-abcde", address(1), {**WEB, "version": "v2", "new": "label"}))
    sides.agree(lambda series: ups(series)[at(1)].get("new") == "label", "a pod is relabelled")

    sides.pages.serve(address(NEW), PAGE)
    cluster.put(meshed("web-5d8f-fresh", address(NEW), WEB))
    cluster.delete(dict(SERVED)[2])
    wanted = FIRST - {at(2)} | {at(NEW)}
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
