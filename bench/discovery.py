"""What following 5,000 pods costs: from the first list to the last target, and one pod that changes.

Strategy. The demo's API server runs as a process of its own; pods have the size that injected ones have (7 KB of JSON).
What is quoted is the CPU time of this process alone: HTTP, JSON, target groups, Linkerd's rules, and the receiver's set
of targets behind them. ``python -m bench.discovery serve`` is that server; it changes a pod for each line on stdin.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
import tracemalloc
from functools import partial

import trio

from agent.demo.cluster import Cluster, ClusterApi, Object
from agent.demo.cluster_objects import kubeconfig
from agent.demo.cluster_server import serve_cluster
from ebbtide import FoldedLog
from receivers.discovery_kubernetes import KubernetesDiscovery, KubernetesDiscoverySettings
from receivers.kubernetes_pods import pod_group
from receivers.linkerd_relabelling import linkerd_rules
from receivers.target_set import Population, ScrapeTarget, TargetSet, static_group

PODS = 5000
CHANGES = 10

_LABELS = {
    "linkerd.io/control-plane-ns": "linkerd", "linkerd.io/workload-ns": "shop", "linkerd.io/proxy-deployment": "web",
    "app": "web", "version": "7", "pod-template-hash": "1a2b3c", "app.kubernetes.io/name": "web",
}  # fmt: skip


def pod(number: int, generation: int = 0) -> Object:
    """An injected pod, as an API server describes it."""
    environment = [{"name": f"LINKERD2_PROXY_{n}", "value": "x" * 30} for n in range(60)]
    ports = [{"name": "linkerd-proxy", "containerPort": 4143}, {"name": "linkerd-admin", "containerPort": 4191}]
    fields = {"manager": "kubelet", "fieldsV1": {f"f:{n}": {} for n in range(120)}}
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"web-{number}", "namespace": f"shop-{number % 20}", "uid": f"{number}", "labels": _LABELS,
            "annotations": {"linkerd.io/inject": "enabled", "linkerd.io/trust-root-sha256": "a" * 64},
            "managedFields": [fields],
        },
        "spec": {
            "nodeName": f"node-{number % 50}",
            "containers": [{"name": "app", "image": "app", "ports": [{"name": "http", "containerPort": 8080}]},
                           {"name": "linkerd-proxy", "image": "proxy", "env": environment, "ports": ports}],
        },
        "status": {"phase": "Running", "podIP": f"10.{generation}.{number // 250}.{number % 250}",
                   "conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip


async def serve() -> None:
    """Serve the pods; change one for each line on stdin."""
    cluster = Cluster(pod(number) for number in range(PODS))
    async with trio.open_nursery() as nursery:
        print(await nursery.start(serve_cluster, ClusterApi(cluster)), flush=True)
        generation = 0
        async for _ in trio.wrap_file(sys.stdin):
            generation += 1
            cluster.put(pod(generation, generation))
        nursery.cancel_scope.cancel()


async def measure(port: int, change: trio.abc.SendStream) -> tuple[float, float]:
    """Return the seconds of CPU of the start, and of one change."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(kubeconfig(f"http://127.0.0.1:{port}"))
        file.flush()
        settings = KubernetesDiscoverySettings(kubeconfig=file.name)
        log = FoldedLog(logging.getLogger("bench"))
        found = {"kubernetes": KubernetesDiscovery(settings, log, "bench")}
        targets = TargetSet(Population({"job": "linkerd-proxy"}), static_group([]), found, log, "bench")
        told, hear = trio.open_memory_channel[tuple[ScrapeTarget, ...]](10)
        async with trio.open_nursery() as nursery:
            began = time.process_time()
            nursery.start_soon(partial(targets.run, told.send_nowait))
            while len(await hear.receive()) < PODS:
                pass
            start, began = time.process_time() - began, time.process_time()
            for _ in range(CHANGES):
                await change.send_all(b"\n")
                await hear.receive()
            one = (time.process_time() - began) / CHANGES
            nursery.cancel_scope.cancel()
    return start, one


async def _with_server() -> tuple[float, float]:
    command = [sys.executable, "-m", "bench.discovery", "serve"]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        port = int((await process.stdout.receive_some()).decode())
        measured = await measure(port, process.stdin)
        await process.stdin.aclose()
    return measured


def kept() -> float:
    """Return the bytes that are kept of one pod."""
    rules = linkerd_rules()
    pages = [json.dumps([pod(number) for number in range(first, first + 250)]) for first in range(0, 1000, 250)]
    tracemalloc.start()
    groups = [pod_group(one) for page in pages for one in json.loads(page)]
    targets = [rules({**group.labels, **target}) for group in groups if group for target in group.targets]
    targets = [target for target in targets if target]
    del groups
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / len(targets)


def main() -> str:
    """Measure; return a table."""
    start, one = trio.run(_with_server)
    return (
        f"| {PODS:,} pods | |\n|---|---|\n"
        f"| from the first list to the last target | {start:.2f} s of CPU, {start / PODS * 1e6:.0f} us a pod |\n"
        f"| one pod that changes | {one * 1000:.1f} ms of CPU |\n"
        f"| kept of a pod | {kept() / 1024:.1f} KiB |"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        trio.run(serve)
    else:
        print(main())
