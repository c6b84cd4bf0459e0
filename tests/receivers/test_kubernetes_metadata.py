"""What other objects add to a pod: each kind asked for only where it is wanted, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.kubernetes.api import Api
from receivers.kubernetes_metadata import Attachments, AttachSettings
from receivers.kubernetes_pods import pod_group
from tests.clusters import pod, running

CONTROLLED = {"kind": "ReplicaSet", "name": "web-1a2b", "controller": True}


def item(kind: str, name: str, namespace: str = "", **metadata: Any) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"kind": kind, "metadata": {"name": name, **place, **metadata}}


OBJECTS = [
    item("Node", "node-1", labels={"topology.kubernetes.io/zone": "a"}, annotations={"x": "y"}),
    item("Node", "node-2"),
    item("Namespace", "shop", labels={"team": "blue"}),
    item("ReplicaSet", "web-1a2b", "shop", ownerReferences=[{"kind": "Deployment", "name": "web", "controller": True}]),
    item("ReplicaSet", "lonely", "shop"),
    item("Job", "nightly-1", "shop", ownerReferences=[{"kind": "CronJob", "name": "nightly", "controller": True}]),
]


def labels(owner: dict[str, Any] | None = None, node: str = "node-1") -> dict[str, str]:
    one = pod("a")
    one["spec"]["nodeName"] = node
    one["metadata"]["ownerReferences"] = [owner] if owner else []
    group = pod_group(one)
    assert group is not None
    return dict(group.labels)


@pytest.mark.parametrize(
    ("wanted", "owner", "added", "asked"),
    [
        ({}, CONTROLLED, {}, []),
        (
            {"node": True}, None,
            {"node_name": "node-1", "node_label_topology_kubernetes_io_zone": "a", "node_labelpresent_topology_kubernetes_io_zone": "true",
             "node_annotation_x": "y", "node_annotationpresent_x": "true"},
            ["/api/v1/nodes"],
        ),
        ({"namespace": True}, None, {"namespace_label_team": "blue", "namespace_labelpresent_team": "true"}, ["/api/v1/namespaces"]),
        ({"deployment": True}, CONTROLLED, {"pod_deployment_name": "web"}, ["/apis/apps/v1/replicasets"]),
        ({"deployment": True}, {**CONTROLLED, "name": "lonely"}, {}, ["/apis/apps/v1/replicasets"]),
        ({"deployment": True}, {**CONTROLLED, "name": "gone"}, {}, ["/apis/apps/v1/replicasets"]),
        ({"job": True}, {"kind": "Job", "name": "nightly-1", "controller": True}, {"pod_job_name": "nightly-1"}, []),
        (
            {"job": True, "cronjob": True}, {"kind": "Job", "name": "nightly-1", "controller": True},
            {"pod_job_name": "nightly-1", "pod_cronjob_name": "nightly"}, ["/apis/batch/v1/jobs"],
        ),
        ({"deployment": True, "job": True}, {"kind": "DaemonSet", "name": "d", "controller": True}, {}, ["/apis/apps/v1/replicasets"]),
    ],
)  # fmt: skip
async def test_what_is_added(nursery, tmp_path: Path, wanted, owner, added, asked):
    server = await running(nursery, tmp_path, OBJECTS)
    api = Api(server.kubeconfig)
    attachments = Attachments(AttachSettings(**wanted), "", [""], api)
    for watch in attachments.watches:
        await watch.refresh()
    assert attachments(labels(owner)) == {f"__meta_kubernetes_{name}": value for name, value in added.items()}
    assert server.api.asked == [f"GET {path}" for path in asked]
    await api.aclose()


async def test_nodes_are_selected(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, OBJECTS)
    api = Api(server.kubeconfig)
    attachments = Attachments(AttachSettings(node=True), "topology.kubernetes.io/zone=a", [""], api)
    for watch in attachments.watches:
        await watch.refresh()
    assert attachments(labels()) is not None
    assert attachments(labels(node="node-2")) is None
    await api.aclose()
