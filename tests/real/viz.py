"""What linkerd-viz tells its Prometheus: its jobs over the pods of a cluster, as its configuration has them.

Source: linkerd2, viz/charts/linkerd-viz/templates/prometheus.yaml with the chart's default values. This is written out
apart from the agent's own rules, which it judges.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.clusters import Object

Rule = dict[str, Any]

_POD = "__meta_kubernetes_pod_"

PROXY_RULES: list[Rule] = [
    {"source_labels": [f"{_POD}phase"], "regex": "(Pending|Running)", "action": "keep"},
    {
        "source_labels": [
            f"{_POD}container_name",
            f"{_POD}container_port_name",
            f"{_POD}label_linkerd_io_control_plane_ns",
        ],
        "action": "keep",
        "regex": "^linkerd-proxy;linkerd-admin;linkerd$",
    },
    {"source_labels": ["__meta_kubernetes_namespace"], "action": "replace", "target_label": "namespace"},
    {"source_labels": [f"{_POD}name"], "action": "replace", "target_label": "pod"},
    {"source_labels": [f"{_POD}label_linkerd_io_proxy_job"], "action": "replace", "target_label": "k8s_job"},
    {"action": "labeldrop", "regex": f"{_POD}label_linkerd_io_proxy_job"},
    {"action": "labelmap", "regex": f"{_POD}label_linkerd_io_proxy_(.+)"},
    {"action": "labeldrop", "regex": f"{_POD}label_linkerd_io_proxy_(.+)"},
    {"action": "labelmap", "regex": f"{_POD}label_linkerd_io_(.+)"},
    {"action": "labelmap", "regex": f"{_POD}label_(.+)", "replacement": "__tmp_pod_label_$1"},
    {"action": "labelmap", "regex": "__tmp_pod_label_linkerd_io_(.+)", "replacement": "__tmp_pod_label_$1"},
    {"action": "labeldrop", "regex": "__tmp_pod_label_linkerd_io_(.+)"},
    {"action": "labelmap", "regex": "__tmp_pod_label_(.+)"},
]

CONTROLLER_RULES: list[Rule] = [
    {"source_labels": [f"{_POD}container_port_name"], "action": "keep", "regex": ".*admin$"},
    {"source_labels": [f"{_POD}container_port_name"], "action": "drop", "regex": "linkerd-admin"},
    {"source_labels": [f"{_POD}container_name"], "action": "replace", "target_label": "component"},
]

CONTROLLER_NAMESPACES = ["linkerd", "linkerd-viz"]


def followed(kubeconfig: str, interval: str = "1s") -> dict[str, Any]:
    """The configuration, with the cluster that a kubeconfig leads to instead of the one that Prometheus runs in."""
    cluster = {"role": "pod", "kubeconfig_file": kubeconfig}
    controllers = {**cluster, "namespaces": {"names": CONTROLLER_NAMESPACES}}
    return _config({"kubernetes_sd_configs": [controllers]}, {"kubernetes_sd_configs": [cluster]}, interval)


def told(pods: Iterable[Object], folder: Path, interval: str = "1s") -> dict[str, Any]:
    """The configuration for a Prometheus without discovery in Kubernetes, which Debian's is: a file tells it of the pods.

    Whenever the pods have changed the file is to be written anew, by the same call.
    """
    groups = list(map(target_group, pods))
    namespaces = {"linkerd-controller": CONTROLLER_NAMESPACES, "linkerd-proxy": None}
    files = {}
    for job, wanted in namespaces.items():
        listed = [group for group in groups if wanted is None or group["namespace"] in wanted]
        files[job] = folder / f"{job}.json"
        text = json.dumps([target for group in listed for target in group["targets"]])
        files[job].with_suffix(".new").write_text(text, encoding="utf-8")
        files[job].with_suffix(".new").replace(files[job])
    controllers, proxies = (
        {"file_sd_configs": [{"files": [str(file)], "refresh_interval": "1s"}]} for file in files.values()
    )
    return _config(controllers, proxies, interval)


def target_group(pod: Object) -> Object:
    """The targets of a pod with the ``__meta_*`` labels that viz' rules read, as Prometheus' documentation has them."""
    metadata, status, targets = pod["metadata"], pod["status"], []
    about = {
        "__meta_kubernetes_namespace": metadata["namespace"],
        f"{_POD}name": metadata["name"],
        f"{_POD}phase": status["phase"],
        **{f"{_POD}label_{re.sub('[^a-zA-Z0-9_]', '_', name)}": value for name, value in metadata["labels"].items()},
    }
    for container in pod["spec"]["containers"] + pod["spec"]["initContainers"]:
        for port in container.get("ports", [{}]):
            host = f"[{status.get('podIP')}]" if ":" in status.get("podIP", "") else status.get("podIP")
            labels = {
                **about,
                f"{_POD}container_name": container["name"],
                f"{_POD}container_port_name": port.get("name", ""),
            }
            address = f"{host}:{port['containerPort']}" if port else host
            targets += [{"targets": [address], "labels": labels}] if host else []
    return {"namespace": metadata["namespace"], "targets": targets}


def _config(controllers: Rule, proxies: Rule, interval: str) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "10s"},
        "scrape_configs": [
            {"job_name": "linkerd-controller", **controllers, "relabel_configs": CONTROLLER_RULES},
            {"job_name": "linkerd-proxy", **proxies, "relabel_configs": PROXY_RULES},
        ],
    }
