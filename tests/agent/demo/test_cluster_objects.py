"""The demo's mesh as a cluster: discovery finds what the demo's Prometheus says of its targets."""

from __future__ import annotations

import json

import pytest

from agent.demo.cluster_objects import cluster_of, kubeconfig, proxies_of
from agent.demo.mesh import PROXY_JOB, Mesh, MeshOptions


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return Mesh(MeshOptions(proxies=30))


def pages(mesh: Mesh) -> dict[str, int]:
    return {target.path: 5000 + number for number, target in enumerate(proxies_of(mesh))}


def test_each_proxy_has_its_pod(mesh: Mesh):
    cluster = cluster_of(mesh, "127.0.0.1", 4000, pages(mesh))
    proxies = {target.labels["pod"]: target for target in mesh.targets if target.labels["job"] == PROXY_JOB}
    pods = {key[2]: item for key, item in cluster.items.items() if key[0] == "pods" and key[1] != "linkerd-viz"}
    assert pods.keys() == proxies.keys()
    for name, item in pods.items():
        target, metadata = proxies[name], item["metadata"]
        assert f"{item['status']['podIP']}:4191" == target.labels["instance"]
        assert metadata["labels"]["linkerd.io/control-plane-ns"] == "linkerd"
        assert cluster.forwards[metadata["namespace"], name, 4191] == ("127.0.0.1", pages(mesh)[target.path])


def test_the_service_leads_to_prometheus(mesh: Mesh):
    cluster = cluster_of(mesh, "127.0.0.1", 4000, pages(mesh))
    service = cluster.items["services", "linkerd-viz", "prometheus"]
    pod = cluster.items["pods", "linkerd-viz", "prometheus-0"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert cluster.forwards["linkerd-viz", "prometheus-0", 9090] == ("127.0.0.1", 4000)


def test_a_kubeconfig():
    assert json.loads(kubeconfig("http://x"))["clusters"][0]["cluster"]["server"] == "http://x"
