"""Pods of a cluster followed as targets, through failures."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from pydantic import ValidationError

from agent.demo.cluster_objects import cluster_of, proxies_of
from agent.demo.mesh import Mesh, MeshOptions
from agent.kubernetes import watching
from ebbtide import FoldedLog, ReceiveError
from receivers import discovery_kubernetes
from receivers.discovery import Groups
from receivers.discovery_kubernetes import KubernetesDiscovery, KubernetesDiscoverySettings
from receivers.kubernetes_pods import resource_attributes
from tests.clusters import Running, pod, running

LABELS = {"linkerd.io/control-plane-ns": "linkerd", "linkerd.io/proxy-deployment": "web", "app": "web"}


def proxy(name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
    return pod(name, namespace, container="linkerd-proxy", labels={**LABELS, **more.pop("labels", {})}, **more)


class Followed:
    """A discovery that runs, and what it told."""

    def __init__(self, server: Running, **options: Any):
        settings = KubernetesDiscoverySettings(kubeconfig=server.kubeconfig, **options)
        self.discovery = KubernetesDiscovery(settings, FoldedLog(logging.getLogger("test")), "mesh")
        self.told: list[Groups] = []
        self._more = trio.Event()

    def update(self, groups: Groups) -> None:
        self.told.append(groups)
        self._more.set()

    async def until(self, *sources: str) -> None:
        """Wait until exactly these groups are told."""
        with trio.fail_after(5):
            while not self.told or set(self.told[-1]) != set(sources):
                await self.more()

    async def more(self) -> None:
        """Wait until something is told."""
        await self._more.wait()
        self._more = trio.Event()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discovery_kubernetes, "TOGETHER_SECONDS", 0.01)
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.01)


async def test_proxies_are_found_and_followed(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [proxy("a"), pod("b"), proxy("c", "other", phase="Succeeded")])
    followed = Followed(server)
    nursery.start_soon(followed.discovery.run, followed.update)
    await followed.until("pod/shop/a")
    [target] = followed.told[-1]["pod/shop/a"].targets
    assert target["__address__"] == "10.0.0.1:4191"
    assert {name: value for name, value in target.items() if not name.startswith("__")} == {
        "namespace": "shop", "pod": "a", "deployment": "web", "control_plane_ns": "linkerd", "app": "web",
    }  # fmt: skip
    assert resource_attributes(target)["k8s.node.name"] == "node-1"
    server.cluster.put(proxy("d", "other"))
    await followed.until("pod/shop/a", "pod/other/d")
    server.cluster.delete(proxy("a"))
    await followed.until("pod/other/d")
    server.cluster.put(proxy("d", "other", phase="Failed"))
    await followed.until()
    assert server.api.complaints == []


async def test_namespaces_and_labels(nursery, tmp_path: Path):
    pods = [proxy("a"), proxy("b", "other"), proxy("c", "third"), proxy("d", labels={"app": "db"})]
    server = await running(nursery, tmp_path, pods)
    followed = Followed(server, namespaces=["shop", "other"], label_selector="app=web")
    nursery.start_soon(followed.discovery.run, followed.update)
    await followed.until("pod/shop/a", "pod/other/b")
    assert {one for one in server.api.asked if "pods" in one} == {
        "GET /api/v1/namespaces/shop/pods", "GET /api/v1/namespaces/other/pods",
    }  # fmt: skip


async def test_without_rules_every_port_is_a_target(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [pod("a")])
    groups = await Followed(server, rules="none").discovery.once()
    assert [target["__address__"] for target in groups["pod/shop/a"].targets] == ["10.0.0.1:8080", "10.0.0.1:4191"]
    assert groups["pod/shop/a"].labels["__meta_kubernetes_pod_name"] == "a"


async def test_a_failure_takes_nothing_away(nursery, tmp_path: Path, caplog):
    server = await running(nursery, tmp_path, [proxy("a")])
    followed = Followed(server)
    nursery.start_soon(followed.discovery.run, followed.update)
    await followed.until("pod/shop/a")
    port = int(server.url.rpartition(":")[2])
    server.scope.cancel()
    with trio.fail_after(5):
        while "its targets stay as they were" not in caplog.text:  # noqa: ASYNC110 (a log tells nobody)
            await trio.sleep(0.01)
    assert len(followed.told) == 1
    again = await running(nursery, tmp_path, [proxy("a"), proxy("b")], port=port)
    again.cluster.forget()
    await followed.until("pod/shop/a", "pod/shop/b")


async def test_that_there_are_none_is_told_after_failures_too(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [])
    allowed = server.api.allowed
    server.api.allowed = lambda user, verb, resource, namespace: False
    followed = Followed(server)
    nursery.start_soon(followed.discovery.run, followed.update)
    with trio.fail_after(5):
        while not followed.discovery._watches[0].tried.is_set():  # noqa: ASYNC110 (nobody tells)
            await trio.sleep(0.01)
    assert followed.told == []
    server.api.allowed = allowed
    await followed.until()
    assert followed.told == [{}]


async def test_one_namespace_that_is_forbidden_harms_no_other(nursery, tmp_path: Path, caplog):
    server = await running(nursery, tmp_path, [proxy("a"), proxy("b", "other")])
    server.api.allowed = lambda user, verb, resource, namespace: namespace == "shop"
    followed = Followed(server, namespaces=["shop", "other"])
    nursery.start_soon(followed.discovery.run, followed.update)
    await followed.until("pod/shop/a")
    assert "bind a Role in namespace other that allows list, watch on pods to it" in caplog.text


async def test_nothing_is_told_before_a_list_has_come(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [proxy("a")], allowed=lambda *_: False)
    followed = Followed(server)
    with trio.move_on_after(0.2):
        await followed.discovery.run(followed.update)
    assert followed.told == []


async def test_what_is_attached_is_there_for_rules_that_come_later(nursery, tmp_path: Path):
    node = {"kind": "Node", "metadata": {"name": "node-1", "labels": {"zone": "a"}}}
    server = await running(nursery, tmp_path, [proxy("a"), pod("b"), node])
    followed = Followed(server, attach_metadata={"node": True})
    nursery.start_soon(followed.discovery.run, followed.update)
    await followed.until("pod/shop/a")
    [target] = followed.told[-1]["pod/shop/a"].targets
    assert (target["pod"], target["__meta_kubernetes_node_label_zone"]) == ("a", "a")
    group = followed.told[-1]["pod/shop/a"]
    server.cluster.put(proxy("c"))
    await followed.until("pod/shop/a", "pod/shop/c")
    assert followed.told[-1]["pod/shop/a"] is group


async def test_a_burst_is_told_together(nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discovery_kubernetes, "TOGETHER_SECONDS", 0.1)
    server = await running(nursery, tmp_path, [proxy("a")])
    followed = Followed(server)
    nursery.start_soon(followed.discovery.run, followed.update)
    await followed.until("pod/shop/a")
    first = followed.told[-1]["pod/shop/a"]
    for number in range(20):
        server.cluster.put(proxy(f"p{number}"))
        await trio.lowlevel.checkpoint()
    await followed.until("pod/shop/a", *[f"pod/shop/p{number}" for number in range(20)])
    assert len(followed.told) <= 3
    assert followed.told[-1]["pod/shop/a"] is first


async def test_the_demo_is_found_with_the_labels_that_its_prometheus_has(nursery, tmp_path: Path):
    mesh = Mesh(MeshOptions(proxies=20))
    server = await running(nursery, tmp_path)
    server.api.cluster = cluster_of(mesh, "127.0.0.1", 4000, {one.path: 4001 for one in proxies_of(mesh)})
    found = [dict(target) for group in (await Followed(server).discovery.once()).values() for target in group.targets]
    expected = [dict(target.labels) for target in mesh.targets if target.labels["job"] == "linkerd-proxy"]
    for labels in expected:
        labels["__address__"] = labels.pop("instance")
        del labels["job"]
    shown = [{k: v for k, v in one.items() if k == "__address__" or not k.startswith("__")} for one in found]
    assert sorted(shown, key=lambda one: one["pod"]) == sorted(expected, key=lambda one: one["pod"])


async def test_once(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [proxy("a")])
    assert set(await Followed(server).discovery.once()) == {"pod/shop/a"}
    server.api.allowed = lambda *_: False
    with pytest.raises(ReceiveError, match=r"cannot list pods: .*bind a ClusterRole that allows list, watch on pods"):
        await Followed(server).discovery.once()


async def test_without_a_cluster(tmp_path: Path):
    settings = KubernetesDiscoverySettings(kubeconfig=str(tmp_path / "missing"))
    with pytest.raises(ReceiveError, match="cannot use the kubeconfig"):
        await KubernetesDiscovery(settings, FoldedLog(logging.getLogger("test")), "mesh").once()


@pytest.mark.parametrize(
    "options",
    [
        {"role": "node"},
        {"namespaces": ["a", "a"]},
        {"namespaces": [""]},
        {"namespaces": ["Shop"]},
        {"namespaces": ["shop/pods"]},
        {"label_selector": "a=b=c"},
        {"node_selector": "a b", "attach_metadata": {"node": True}},
        {"rules": "all"},
        {"kind": "file"},
        {"node_selector": "a=b"},
    ],
)
def test_mistakes(options):
    with pytest.raises(ValidationError):
        KubernetesDiscoverySettings(**options)


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """Prometheus' options as ours."""
    attach = dict(given.get("attach_metadata", {}))
    attach |= attach.pop("pod", {})
    own = given.get("own_namespace")
    node_selector = next((one["label"] for one in given.get("selectors", ()) if one["role"] == "node"), "")
    return {
        "namespaces": given.get("namespaces", [own] if own else []), "attach_metadata": attach,
        "node_selector": node_selector, "rules": "none",
    }  # fmt: skip


async def test_the_cases_of_prometheus_through_a_cluster(nursery, tmp_path: Path, vectors: Path):
    """What happened, served by list and watch; then the groups are as expected."""
    for case in json.loads((vectors / "prometheus_k8s_sd/pods.json").read_text())["cases"]:
        server = await running(nursery, tmp_path)
        followed = Followed(server, **options_of(case["options"]))
        expected = {
            source: (group["targets"], group["labels"])
            for source, group in case["expected_target_groups"].items()
            if group["targets"]
        }
        async with trio.open_nursery() as following:
            following.start_soon(followed.discovery.run, followed.update)
            await followed.until()
            for event in case["events"]:
                (server.cluster.delete if event["op"] == "delete" else server.cluster.put)(event["object"])
            found: object = None
            with trio.move_on_after(5):
                while found != expected:
                    await followed.more()
                    found = {
                        source: (list(group.targets), dict(group.labels))
                        for source, group in followed.told[-1].items()
                        if group.targets
                    }
            assert found == expected, case["name"]
            following.cancel_scope.cancel()
        assert server.api.complaints == []
        server.scope.cancel()
