"""Linkerd's own target rules: which ports are proxies, and what their labels become."""

from __future__ import annotations

from typing import Any

import pytest

from receivers.kubernetes_pods import pod_group
from receivers.linkerd_relabelling import linkerd_rules

PROXY = {
    "linkerd.io/control-plane-ns": "linkerd", "linkerd.io/proxy-deployment": "web", "linkerd.io/workload-ns": "shop",
    "app": "web", "pod-template-hash": "1a2b", "app.kubernetes.io/name": "Web",
}  # fmt: skip


def targets(
    labels: dict[str, str], *, phase: str = "Running", init: bool = False, **names: str
) -> list[dict[str, str]]:
    """The labels of the proxies of a pod that will be on their series."""
    one: Any = {
        "metadata": {"name": "web-1", "namespace": "shop", "labels": labels, "uid": "u"},
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "app", "ports": [{"name": "linkerd-admin", "containerPort": 80}]}],
            "initContainers" if init else "sidecars": [],
        },
        "status": {"podIP": "10.0.0.1", "phase": phase},
    }
    ports = [{"name": "linkerd-proxy", "containerPort": 4143}, {"name": "linkerd-admin", "containerPort": 4191}]
    proxy = {"name": names.get("container", "linkerd-proxy"), "ports": ports}
    one["spec"]["initContainers" if init else "containers"].append(proxy)
    group = pod_group(one)
    assert group is not None
    rules = linkerd_rules(**{"control_plane": names["plane"]} if "plane" in names else {})
    found = [rules({**group.labels, **target, "job": "linkerd-proxy"}) for target in group.targets]
    return [{k: v for k, v in one.items() if not k.startswith("__meta")} for one in found if one is not None]


def left(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if not name.startswith("__")}


def test_the_labels_of_a_proxy():
    [found] = targets(PROXY)
    assert found["__address__"] == "10.0.0.1:4191"
    assert left(found) == {
        "job": "linkerd-proxy", "namespace": "shop", "pod": "web-1", "deployment": "web", "control_plane_ns": "linkerd",
        "workload_ns": "shop", "app": "web", "pod_template_hash": "1a2b", "app_kubernetes_io_name": "Web",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ({"phase": "Pending"}, 1),
        ({"phase": "Succeeded"}, 0),
        ({"phase": "Failed"}, 0),
        ({"init": True}, 1),
        ({"container": "other"}, 0),
        ({"plane": "mesh"}, 0),
        ({"plane": "l.nkerd"}, 0),
    ],
)
def test_which_are_kept(more, count):
    assert len(targets(PROXY, **more)) == count


def test_a_pod_without_a_proxy_is_left_out():
    assert targets({"app": "web"}) == []


def test_a_job_does_not_become_the_job():
    [found] = targets({**PROXY, "linkerd.io/proxy-job": "backup"})
    assert (found["job"], found["k8s_job"]) == ("linkerd-proxy", "backup")


def test_a_label_of_the_pod_may_overwrite_anything():
    """As in viz: the last rule copies all labels of the pod, whatever their names."""
    [found] = targets({**PROXY, "job": "mine", "namespace": "x", "deployment": "y", "instance": "z"})
    assert (found["job"], found["namespace"], found["deployment"], found["instance"]) == ("mine", "x", "y", "z")


@pytest.mark.parametrize(
    "owner", ["deployment", "statefulset", "daemonset", "replicaset", "replicationcontroller", "cronjob"]
)
def test_owners(owner):
    [found] = targets({"linkerd.io/control-plane-ns": "linkerd", f"linkerd.io/proxy-{owner}": "w"})
    assert found[owner] == "w"
    assert f"proxy_{owner}" not in found
