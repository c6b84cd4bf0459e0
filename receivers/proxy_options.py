"""The options of the ``proxy`` receiver, and what follows from them alone."""

from __future__ import annotations

import socket
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from ebbtide import (
    ClusterSettings,
    FoldedLog,
    PositiveSize,
    Relabelling,
    RelabelRule,
    check_kubeconfig,
    is_address,
    need_kubernetes,
    option,
)
from receivers.discovery import Discovery
from receivers.discovery_dns import DnsDiscovery, DnsDiscoverySettings
from receivers.discovery_file import FileDiscovery, FileDiscoverySettings
from receivers.discovery_kubernetes import KubernetesDiscovery, KubernetesDiscoverySettings
from receivers.discovery_prometheus import PrometheusDiscovery, PrometheusDiscoverySettings
from receivers.page_store import PageRules
from receivers.polling import PollingSettings
from receivers.proxy_target import Fallback
from receivers.target_set import CONTEXT, KUBECONFIG, PATH, Population, Shard, TargetSet, static_group

JOB = "linkerd-proxy"

DiscoverySettings = Annotated[
    KubernetesDiscoverySettings | FileDiscoverySettings | DnsDiscoverySettings | PrometheusDiscoverySettings,
    Field(discriminator="kind"),
]


def _labels(labels: dict[str, str]) -> dict[str, str]:
    """As in Prometheus: a label has a name, and so has a job."""
    if "" in labels:
        raise ValueError('"" is not a valid label name; write one, such as "cluster"')
    if labels.get("job") == "":
        raise ValueError(f"`job` is empty; name it, or leave it out for {JOB}")
    return labels


def _path(path: str) -> str:
    if "?" in path or "#" in path:
        raise ValueError("a path has no query and no fragment; write whole URLs in `targets`")
    return path


def _target(target: str) -> str:
    static_group([target])
    return target


class ProxySettings(PollingSettings, ClusterSettings):
    """Options of the `proxy` receiver."""

    targets: list[Annotated[str, AfterValidator(_target)]] = option(
        [],
        "Targets, as host:port or as whole URLs; those that begin with kubernetes:// are reached by port-forwards.",
        examples=[["127.0.0.1:4191", "http://web:4191/metrics"]],
    )
    discovery: list[DiscoverySettings] = option(
        [], "Where else targets come from.", examples=[[{"kind": "file", "files": ["/etc/ebbtide/targets/*.json"]}]]
    )
    path: Annotated[str, AfterValidator(_path)] = option(
        "/metrics", "Path of the page, where a target has none of its own."
    )
    labels: Annotated[dict[str, str], AfterValidator(_labels)] = option(
        {}, 'Labels of every target; `job` among them replaces "linkerd-proxy".'
    )
    relabel: list[RelabelRule] = option([], "Prometheus' relabel rules, for targets; they see `__meta_*` labels.")
    honor_labels: bool = option(
        False, "Where a page has a label that its target has, too: keep the page's. Else it is renamed `exported_x`."
    )
    honor_timestamps: bool = option(True, "Believe the timestamps of a page that has some.")
    fallback_format: Fallback = option("text", "How to read a page whose Content-Type names no format.")
    strict_openmetrics: bool = option(
        False,
        "Refuse a page of OpenMetrics that breaks any rule of its specification. Else it is read leniently, as Prometheus "
        "does.",
    )
    on_bad_line: Literal["refuse", "skip"] = option(
        "refuse", "A line that cannot be read: refuse its page, as Prometheus does, or skip the line and count it."
    )
    shard: str = option("", 'Poll only this part of all targets: "2/5", or "ordinal/5" in a StatefulSet. "" = all.')
    max_body: PositiveSize = option("64MiB", "Largest page, inflated; a larger one is refused.")

    @field_validator("shard")
    @classmethod
    def _a_shard(cls, shard: str) -> str:
        if shard:
            Shard.parse(shard, socket.gethostname())
        return shard

    @property
    def rules(self) -> PageRules:
        """What the operator chose about pages."""
        return PageRules(
            honor_labels=self.honor_labels,
            honor_timestamps=self.honor_timestamps,
            skip_bad_lines=self.on_bad_line == "skip",
            strict_openmetrics=self.strict_openmetrics,
            track_starts=self.start_times == "track",
            reports=self.scrape_metrics,
            limits=self.limits,
        )

    def population(self) -> Population:
        """Return what makes targets of what is found."""
        shard = Shard.parse(self.shard, socket.gethostname()) if self.shard else Shard()
        defaults = {"job": JOB, PATH: self.path, KUBECONFIG: self.kubeconfig or "", CONTEXT: self.context or ""}
        return Population(defaults, self.labels, Relabelling(self.relabel), shard)

    def target_set(self, log: FoldedLog, name: str) -> TargetSet:
        """Return the targets that these options name or let be found.

        Raises ConfigError where a library is missing, or a kubeconfig wrong.
        """
        if forwarded := next(filter(is_address, self.targets), None):
            need_kubernetes(self.kubeconfig, self.context, forwarded, "targets")
            check_kubeconfig(self.kubeconfig, self.context, "kubeconfig" if self.kubeconfig else "targets")
        found = {  # by name: one of the same options, after a reload, is the same
            discovery.model_dump_json(): self._discovery(discovery, log, name) for discovery in self.discovery
        }
        return TargetSet(self.population(), static_group(self.targets), found, log, name)

    def static_set(self, log: FoldedLog, name: str) -> TargetSet:
        """Return the targets that are named one by one: asking for them opens nothing."""
        return TargetSet(self.population(), static_group(self.targets), {}, log, name)

    def _discovery(self, settings: DiscoverySettings, log: FoldedLog, name: str) -> Discovery:
        if isinstance(settings, KubernetesDiscoverySettings):
            check_kubeconfig(settings.kubeconfig, settings.context, "discovery")
            return KubernetesDiscovery(settings, log, name)
        if isinstance(settings, FileDiscoverySettings):
            return FileDiscovery(settings, log, name)
        if isinstance(settings, DnsDiscoverySettings):
            return DnsDiscovery(settings, log, name)
        need_kubernetes(settings.kubeconfig, settings.context, settings.url, "discovery")
        if is_address(settings.url):
            check_kubeconfig(settings.kubeconfig, settings.context, "discovery")
        client = self.client(kubeconfig=settings.kubeconfig, context=settings.context)
        return PrometheusDiscovery(settings, client, self.timeout, log, name)
