"""Proxies from outside their cluster: found by the API server, read through it, with the labels that they have inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from agent.httpserver import Request, Response, serve_http
from ebbtide import Batch, Context, Row
from receivers.discovery import TargetGroup
from receivers.kubernetes_forward import Forwarding
from receivers.proxy import Proxy
from receivers.proxy_options import ProxySettings
from tests.clusters import Running, pod, running

LABELS = {"linkerd.io/control-plane-ns": "linkerd", "linkerd.io/proxy-deployment": "web"}
SHARED = {"__meta_kubernetes_namespace": "shop", "__meta_kubernetes_pod_name": "web-1"}


@pytest.mark.parametrize(
    ("target", "address", "instance"),
    [
        ({"__address__": "10.0.0.1:4191"}, "shop/pod/web-1:4191", "10.0.0.1:4191"),
        ({"__address__": "[fd00::1]:4191"}, "shop/pod/web-1:4191", "[fd00::1]:4191"),
        ({"__address__": "[fd00::1]"}, "shop/pod/web-1:80", "[fd00::1]:80"),
        ({"__address__": "10.0.0.1"}, "shop/pod/web-1:80", "10.0.0.1:80"),
        ({"__address__": "10.0.0.1:4191", "instance": "mine"}, "shop/pod/web-1:4191", "mine"),
    ],
)
def test_addresses(target: dict[str, str], address: str, instance: str) -> None:
    (led,) = Forwarding("/kubeconfig", None)(TargetGroup("pod/shop/web-1", SHARED, (target,))).targets
    assert led == {
        "__scheme__": "kubernetes",
        "__address__": address,
        "__kubeconfig__": "/kubeconfig",
        "instance": instance,
    }


class Outside:
    """A receiver outside of a cluster, and what it has emitted."""

    def __init__(self, **options: Any):
        self.receiver = Proxy(ProxySettings.model_validate({"interval": "100ms", **options}), Context(id="mesh"))
        self.rows: list[Row] = []
        self._more = trio.Event()

    async def emit(self, batch: Batch) -> None:
        self.rows += batch.rows()
        self._more.set()

    async def until(self, *seen: tuple[str, str, float | None]) -> None:
        """Wait for these of ``requests_total``: pod, instance, value or None for its end."""
        with trio.fail_after(5):
            while not set(seen) <= {
                (row.series.label("pod"), row.series.label("instance"), None if row.stale else row.value)
                for row in self.rows
                if row.series.family.name == "requests_total"
            }:
                await self._more.wait()
                self._more = trio.Event()


@pytest.fixture
async def cluster(nursery: trio.Nursery, tmp_path: Path) -> Running:
    """Two proxies, which count 1 and 2 requests, and which nobody can dial."""
    server = await running(nursery, tmp_path)
    for number in (1, 2):
        name, page = f"web-{number}", b"# TYPE requests_total counter\nrequests_total %d\n" % number

        async def handle(request: Request, page: bytes = page) -> Response:
            assert request.path == "/metrics"
            return Response(200, page, "text/plain; version=0.0.4")

        async def serve(task_status: trio.TaskStatus[int], handle: Any = handle) -> None:
            await serve_http(handle, "127.0.0.1", 0, task_status=task_status)

        server.cluster.put(pod(name, ip=f"192.0.2.{number}", container="linkerd-proxy", labels=LABELS))
        server.cluster.forwards["shop", name, 4191] = "127.0.0.1", await nursery.start(serve)
    return server


async def test_proxies_are_read_as_inside_until_they_go(cluster: Running, nursery: trio.Nursery) -> None:
    outside = Outside(discovery=[{"kind": "kubernetes", "kubeconfig": cluster.kubeconfig, "forward": True}])
    nursery.start_soon(outside.receiver.run, outside.emit)
    await outside.until(("web-1", "192.0.2.1:4191", 1.0), ("web-2", "192.0.2.2:4191", 2.0))
    (series,) = {row.series for row in outside.rows if row.value == 1 and row.series.family.name == "requests_total"}
    assert series.labels == {
        "job": "linkerd-proxy",
        "instance": "192.0.2.1:4191",
        "namespace": "shop",
        "pod": "web-1",
        "deployment": "web",
        "control_plane_ns": "linkerd",
    }
    cluster.cluster.delete(pod("web-1"))
    await outside.until(("web-1", "192.0.2.1:4191", None))
    assert len(outside.receiver._targets) == 1
    nursery.cancel_scope.cancel()


async def test_targets_may_be_named_one_by_one(cluster: Running) -> None:
    targets = ["kubernetes://shop/pod/web-1:4191/metrics", "kubernetes://shop/pod/web-2:linkerd-admin"]
    outside = Outside(targets=targets, kubeconfig=cluster.kubeconfig)
    await outside.receiver.once(outside.emit)
    await outside.until(("", "web-1.shop:4191", 1.0), ("", "web-2.shop:linkerd-admin", 2.0))


async def test_a_pod_that_is_not_there_says_so(cluster: Running, caplog: pytest.LogCaptureFixture) -> None:
    outside = Outside(targets=["kubernetes://shop/pod/gone:4191"], kubeconfig=cluster.kubeconfig)
    await outside.receiver.once(outside.emit)
    assert [row.value for row in outside.rows if row.series.family.name == "up"] == [0.0]
    assert 'pods "gone" not found' in caplog.text
