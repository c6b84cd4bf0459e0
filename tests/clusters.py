"""Clusters on loopback for the tests: the demo's API server, strict about what it is asked, over a few objects."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from agent.demo.cluster import Cluster, ClusterApi
from agent.demo.cluster_server import serve_cluster

Object = dict[str, Any]


def pod(name: str, namespace: str = "shop", *, ready: bool = True, ip: str = "10.0.0.1", **more: Any) -> Object:
    """A pod with a container ``app`` that has the ports web (8080) and linkerd-admin (4191)."""
    labels = more.get("labels", {"app": "web"})
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "labels": labels}
    ports = [{"name": "web", "containerPort": 8080}, {"name": "linkerd-admin", "containerPort": 4191}]
    container = {"name": more.get("container", "app"), "image": "app:1", "ports": ports}
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": "node-1", "containers": [container]},
        "status": {
            "phase": more.get("phase", "Running"),
            "podIP": ip,
            "hostIP": "192.168.0.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def service(name: str, namespace: str = "shop", **more: Any) -> Object:
    """A service of the pods ``app=web``: port 80, named http, leads to their port named web."""
    ports = more.get("ports", [{"name": "http", "port": 80, "targetPort": "web"}])
    spec = {"selector": more.get("selector", {"app": "web"}), "ports": ports}
    return {"kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


@dataclass
class Running:
    """An API server that runs."""

    cluster: Cluster
    api: ClusterApi
    url: str
    kubeconfig: str
    scope: trio.CancelScope


async def running(
    nursery: trio.Nursery,
    folder: Path,
    objects: Iterable[Object] = (),
    *,
    tls: ssl.SSLContext | None = None,
    cluster: Object | None = None,
    user: Object | None = None,
    port: int = 0,
    **options: Any,
) -> Running:
    """Start one, with a kubeconfig for it in ``folder``; ``cluster`` and ``user`` are fields for that."""
    store = Cluster(objects)
    api = ClusterApi(store, **options)
    scope = trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[int]) -> None:
        with scope:
            await serve_cluster(api, port=port, tls=tls, task_status=task_status)

    url = f"{'https' if tls else 'http'}://127.0.0.1:{await nursery.start(serve)}"
    path = folder / "kubeconfig"
    path.write_text(json.dumps(kubeconfig({"server": url, **(cluster or {})}, user or {})))
    return Running(store, api, url, str(path), scope)


def kubeconfig(cluster: Object, user: Object, **context: str) -> Object:
    """A kubeconfig of one cluster, one user and one context."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "north",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "north", "context": {"cluster": "c", "user": "u", **context}}],
    }
