"""What linkerd-viz tells its Prometheus: its jobs over the pods of a cluster, as its configuration has them.

Source: linkerd2, viz/charts/linkerd-viz/templates/prometheus.yaml with the chart's default values. This is written out
apart from the agent's own rules, which it judges.
"""

from __future__ import annotations

from typing import Any

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


def viz_config(kubeconfig: str, interval: str = "1s") -> dict[str, Any]:
    """The configuration, with the cluster that a kubeconfig leads to instead of the one that Prometheus runs in."""
    cluster = {"role": "pod", "kubeconfig_file": kubeconfig}
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "10s"},
        "scrape_configs": [
            {
                "job_name": "linkerd-controller",
                "kubernetes_sd_configs": [{**cluster, "namespaces": {"names": CONTROLLER_NAMESPACES}}],
                "relabel_configs": CONTROLLER_RULES,
            },
            {"job_name": "linkerd-proxy", "kubernetes_sd_configs": [cluster], "relabel_configs": PROXY_RULES},
        ],
    }
