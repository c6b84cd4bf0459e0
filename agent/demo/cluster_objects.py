"""The mesh of the demo as Kubernetes would describe it: its pods, the service of its Prometheus, a kubeconfig.

All is on loopback, so that no address of a pod can be reached, as from outside a real cluster; port-forwards lead there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from agent.demo.cluster import Cluster, Object
from agent.demo.mesh import PROXY_JOB, Mesh, Target

NODE = "demo-node"
VIZ = "linkerd-viz"
PROMETHEUS, PROMETHEUS_PORT = "prometheus-0", 9090
PROXY_PORT = 4191

_OWNERS = ("deployment", "statefulset", "daemonset", "replicaset", "replicationcontroller", "cronjob")
_LABELS = {f"{owner}": f"linkerd.io/proxy-{owner}" for owner in _OWNERS} | {
    "k8s_job": "linkerd.io/proxy-job",
    "control_plane_ns": "linkerd.io/control-plane-ns",
    "workload_ns": "linkerd.io/workload-ns",
    "pod_template_hash": "pod-template-hash",
    "controller_revision_hash": "controller-revision-hash",
}
"""Labels of series -> those of the pod that they are made of."""
_OF_TARGETS = ("job", "instance", "namespace", "pod")


def proxies_of(mesh: Mesh) -> list[Target]:
    """Return the targets that are proxies: each is a pod."""
    return [target for target in mesh.targets if target.labels["job"] == PROXY_JOB]


def cluster_of(mesh: Mesh, host: str, port: int, pages: Mapping[str, int]) -> Cluster:
    """Return a cluster of the mesh's pods.

    Prometheus is served at this host and ``port``; ``pages``: the port at which each proxy's page is, by the target's path.
    """
    pods = [_proxy_pod(target) for target in proxies_of(mesh)]
    pods.append(_prometheus_pod())
    namespaces = sorted({pod["metadata"]["namespace"] for pod in pods})
    cluster = Cluster(
        [
            {"kind": "Node", "metadata": {"name": NODE}},
            *({"kind": "Namespace", "metadata": {"name": name}} for name in namespaces),
            _prometheus_service(),
            *pods,
        ]
    )
    cluster.forwards[VIZ, PROMETHEUS, PROMETHEUS_PORT] = host, port
    for target in proxies_of(mesh):
        cluster.forwards[target.labels["namespace"], target.labels["pod"], PROXY_PORT] = host, pages[target.path]
    return cluster


def kubeconfig(server: str) -> str:
    """Return the text of a kubeconfig for an API server that asks for no credentials."""
    named = {
        "clusters": [{"name": "demo", "cluster": {"server": server}}],
        "users": [{"name": "demo", "user": {}}],
        "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "demo"}}],
    }
    return json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "demo", **named}, indent=1)


def _proxy_pod(target: Target) -> Object:
    labels = {_LABELS.get(name, name): value for name, value in target.labels.items() if name not in _OF_TARGETS}
    ip = target.labels["instance"].rpartition(":")[0]
    ports = [
        {"name": "linkerd-proxy", "containerPort": 4143, "protocol": "TCP"},
        {"name": "linkerd-admin", "containerPort": PROXY_PORT, "protocol": "TCP"},
    ]
    containers: list[Object] = [
        {"name": "app", "image": "app:demo"},
        {"name": PROXY_JOB, "image": "proxy:demo", "ports": ports},
    ]
    return _pod(target.labels["pod"], target.labels["namespace"], ip, labels, containers)


def _prometheus_pod() -> Object:
    labels = {
        "linkerd.io/extension": "viz", "component": "prometheus", "linkerd.io/control-plane-component": "prometheus",
    }  # fmt: skip
    ports = [{"name": "admin", "containerPort": PROMETHEUS_PORT, "protocol": "TCP"}]
    containers = [{"name": "prometheus", "image": "prometheus:demo", "ports": ports}]
    return _pod(PROMETHEUS, VIZ, "10.42.9.9", labels, containers)


def _prometheus_service() -> Object:
    ports = [{"name": "admin", "port": PROMETHEUS_PORT, "targetPort": PROMETHEUS_PORT, "protocol": "TCP"}]
    return {
        "kind": "Service",
        "metadata": {"name": "prometheus", "namespace": VIZ},
        "spec": {"type": "ClusterIP", "selector": {"component": "prometheus"}, "ports": ports},
    }


def _pod(name: str, namespace: str, ip: str, labels: dict[str, str], containers: list[Object]) -> Object:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"demo-{namespace}-{name}", "labels": labels},
        "spec": {"nodeName": NODE, "containers": containers},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "hostIP": "10.42.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
