"""Pods as target groups, by Prometheus' own cases; and whatever an API server might send instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from receivers.discovery import TargetGroup
from receivers.kubernetes_pods import pod_group, resource_attributes
from tests.clusters import pod


def cases(vectors: Path) -> list[dict[str, Any]]:
    return json.loads((vectors / "prometheus_k8s_sd/pods.json").read_text())["cases"]


def test_groups_as_prometheus_makes_them(vectors: Path):
    """The cases whose labels come from the pod alone; those of other objects are a part of these."""
    for case in cases(vectors):
        groups: dict[str, TargetGroup] = {}
        for event in case["events"]:
            group = pod_group(event["object"]) if event["object"]["kind"] == "Pod" else None
            if group is not None:
                groups[group.source] = TargetGroup(group.source, {}, ()) if event["op"] == "delete" else group
        for source, expected in case["expected_target_groups"].items():
            attached = bool(case["options"].get("attach_metadata"))
            if attached and not expected["targets"]:
                continue  # left out because of its node
            assert list(groups[source].targets) == expected["targets"], case["name"]
            found = groups[source].labels
            if attached:
                assert found.items() <= expected["labels"].items(), case["name"]
            else:
                assert found == expected["labels"], case["name"]


def test_what_is_known_beside_the_labels():
    group = pod_group(pod("a"))
    assert group is not None
    assert resource_attributes({**group.labels, **group.targets[1]}) == {
        "k8s.node.name": "node-1", "k8s.pod.uid": "uid-of-a", "k8s.container.name": "app",
    }  # fmt: skip
    assert resource_attributes({"__meta_kubernetes_pod_node_name": "", "job": "x"}) == {}


def test_addresses_of_version_6():
    group = pod_group(pod("a", ip="fd00::1"))
    assert group is not None
    assert [target["__address__"] for target in group.targets] == ["[fd00::1]:8080", "[fd00::1]:4191"]


def test_names_are_made_plain():
    group = pod_group(pod("a", labels={"app.kubernetes.io/näme-1": "x"}))
    assert group is not None
    assert group.labels["__meta_kubernetes_pod_label_app_kubernetes_io_n_me_1"] == "x"
    assert group.labels["__meta_kubernetes_pod_labelpresent_app_kubernetes_io_n_me_1"] == "true"


def test_what_is_no_pod():
    assert pod_group({}) is None
    assert pod_group({"metadata": {"name": 3}}) is None
    assert pod_group({"metadata": {"name": "a"}, "status": []}) == TargetGroup("pod//a", {}, ())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_field_of_another_type_fails_the_pod(data):
    """Every field of a good pod may be anything: what comes back is text, or nothing."""
    broken: Any = pod("a")
    broken["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "j", "controller": True}]
    broken["status"]["containerStatuses"] = [{"name": "app", "containerID": "x"}]
    place: Any = broken
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(_JSON)
            break
        place = place[key]
    group = pod_group(broken)
    if group is not None:
        assert all(isinstance(value, str) for labels in (group.labels, *group.targets) for value in labels.values())
