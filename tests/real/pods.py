"""Pods for comparisons, from the usual to the hostile, and the pages that they serve.

Each pod has a number, from which its address follows.
"""

from __future__ import annotations

from typing import Any

from agent.demo.mesh import CONTROLLER_JOB, PROXY_JOB, Mesh, MeshOptions
from tests.clusters import Object
from tests.real.cluster import ADMIN_PORT, PROXY_PORTS, Pages, address, container, meshed

JOBS = (PROXY_JOB, CONTROLLER_JOB)

Numbered = tuple[int, Object]

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


def pod_of(number: int, name: str, labels: dict[str, str], **more: Any) -> Numbered:
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
    pod_of(11, "odd", owned("deployment", "o") | {"empty": "", "linkerd.io/empty": "", "UPPER": "U", "l": "x" * 63}),
    pod_of(12, "starting", owned("deployment", "s"), phase="Pending"),
    pod_of(13, "both", owned("deployment", "b"), app=container("linkerd-proxy-2", {"linkerd-admin": 4191})),
    pod_of(14, "two-owners", {"linkerd.io/proxy-job": "j", "linkerd.io/proxy-deployment": "d", "k8s-job": "l"}),
    pod_of(15, "identity-0", owned("deployment", "linkerd-identity", **{"linkerd.io/control-plane-component": "identity"}),
           namespace="linkerd", app=container("identity", {"ident-grpc": 8080, "ident-admin": 9990})),
    pod_of(16, "metrics-api-0", owned("deployment", "metrics-api", **{"linkerd.io/extension": "viz", "component": "metrics-api"}),
           namespace="linkerd-viz", app=container("metrics-api", {"http": 8085, "admin": 9990}), native=True),
    pod_of(19, "numeric", owned("deployment", "n") | {"le": "5", "quantile": "0.5"}),
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
NEW, MOVED, ODD = 17, 18, 20


def at(number: int, port: int = ADMIN_PORT) -> str:
    """The label `instance` of the target of a pod."""
    return f"{address(number)}:{port}"


FIRST = {
    *(at(number) for number, _ in SERVED if number != HOSTILE), "here", at(SILENT), "[::1]:1",
    *(at(number, CONTROLLER_PORT) for number in CONTROLLERS),
}  # fmt: skip
"""The labels `instance` of all targets, before anything changes."""


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
