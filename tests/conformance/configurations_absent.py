"""Prometheus' configurations that speak of what is not here, and why it is not."""

from __future__ import annotations

_SYSTEMS = "targets are not looked for in this system; `file` and `dns` bridge any other"
_ROLES = "proxies are found by their pods, `pod` is the only role"
_NAMES = "there is one rule for names: any text, as in Prometheus 3"
_FORMATS = "which formats are asked for is no option: all that can be read, the richest first"
_HISTOGRAMS = "how histograms are read is no option: native and classic ones as they come"
_ALERTS = "there are no rules and no alerts"
_SHARDS = "an exporter has one queue, no shards"
_STORAGE = "nothing is stored but queues"
_ONE_API = "the API of a cluster and the way in are those of a kubeconfig, whole"

_REASONS = {
    **dict.fromkeys(
        ("azure", "ec2", "eureka", "hetzner", "ionos", "lightsail", "marathon", "oci", "openstack", "outscale", "ovhcloud",
         "puppetdb", "scaleway", "stackit", "uyuni"),
        _SYSTEMS,
    ),
    **dict.fromkeys(
        ("kubernetes_selectors_endpoints", "kubernetes_selectors_ingress", "kubernetes_selectors_node",
         "kubernetes_selectors_service"),
        _ROLES,
    ),
    **dict.fromkeys(
        ("kubernetes_api_server", "kubernetes_bearertoken", "kubernetes_authorization_basicauth"), _ONE_API
    ),
    **dict.fromkeys(("scrape_config_utf8_conflicting", "metric_name_validation_scheme"), _NAMES),
    "scrape_config_files_scrape_protocols": _FORMATS,
    **dict.fromkeys(
        ("global_convert", "global_disable_always", "global_enable_always", "global_enable_scrape_native",
         "global_scrape_protocols", "local_convert", "local_disable_always", "local_disable_convert",
         "local_disable_scrape_native", "local_enable_always", "local_enable_scrape_native"),
        _HISTOGRAMS,
    ),
    **dict.fromkeys(("rules", "empty_alert"), _ALERTS),
    "empty_rr_config": "there is no remote read",
    "agent_mode": "metrics go out by OTLP, not by remote write",
    "remote_write_queue_m": _SHARDS,
    "scrape_config_disable_compression": "an answer is taken compressed or not, as the server likes",
    "tracing_invalid_authorization_header": "`headers` of `otlp` is where credentials belong",
    "tsdb": _STORAGE,
}  # fmt: skip
"""Reasons by how the name of a case's file begins."""


def absent(file: str) -> str:
    """Return why a case has no translation; "" where that is not known."""
    return next((reason for start, reason in _REASONS.items() if file.startswith(start)), "")
