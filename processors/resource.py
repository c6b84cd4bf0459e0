"""Who speaks: from the labels that Prometheus put on a series to the resource that OpenTelemetry wants.

A federated series carries two kinds of labels in one heap: those of its target (which pod, which workload) and those
that the proxy wrote. Where the receiver knows the target, its labels are told apart exactly; else by the built-in list of
the names that proxies write. Profile "otel": the workload is the resource. Profile "prometheus": only job and instance
go to the resource, so that a Prometheus behind OTLP rebuilds the labels that Linkerd's dashboards ask for. "none": nothing.

Sources: OpenTelemetry semantic conventions for service and k8s; specification, "Prometheus and OpenMetrics
Compatibility", Resource Attributes and Instrumentation Scope; linkerd2's viz chart for the target labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import ClassVar, Literal

from pydantic import StrictBool, StrictFloat, StrictInt, StrictStr

from ebbtide import AttributeValue, Scope, Series, SeriesProcessor, Settings, Target, option
from ebbtide import Resource as ResourceIdentity

# Owner labels of the viz chart, in the order in which they name the workload.
OWNERS = {
    "deployment": "k8s.deployment.name",
    "statefulset": "k8s.statefulset.name",
    "daemonset": "k8s.daemonset.name",
    "replicaset": "k8s.replicaset.name",
    "replicationcontroller": "k8s.replicationcontroller.name",
    "cronjob": "k8s.cronjob.name",
    "k8s_job": "k8s.job.name",
}
_LINKERD = {
    "control_plane_ns": "linkerd.control_plane.namespace",
    "workload_ns": "linkerd.workload.namespace",
    "control_plane_component": "linkerd.control_plane.component",
    "extension": "linkerd.extension",
}
_DROPPED = frozenset(("pod_template_hash",))  # says nothing that the pod's name does not
_POD_LABEL = "k8s.pod.label."
_PROXY_JOB = "linkerd-proxy"
_KNOWN = frozenset((*OWNERS, *_LINKERD, "job", "instance", "namespace", "pod", "component"))

# What linkerd2-proxy writes itself: the fallback where a target's labels are not known.
_NATIVE = frozenset(
    [
        "authority",
        "direction",
        "peer",
        "target_addr",
        "target_ip",
        "target_port",
        "target_name",
        "tls",
        "no_tls_reason",
        "client_id",
        "server_id",
        "sni",
        "dst",
        "addr",
        "status_code",
        "http_status",
        "status",
        "grpc_status",
        "classification",
        "error",
        "errno",
        "le",
        "quantile",
        "op",
        "zone_locality",
        "endpoint_state",
        "result",
        "protocol",
        "name",
        "ready",
        "skipped",
        "hostname",
        "session_protocol",
        "date",
        "git_sha",
        "profile",
        "vendor",
        "version",
        "logical",
        "concrete",
        "client",
        "record_type",
    ]
)
_NATIVE_PREFIXES = ("srv_", "authz_", "route_", "parent_", "backend_", "ratelimit_", "rt_", "dst_", "tls_", "exported_")
# Names that both proxies and pods use: native on these families only.
_NATIVE_ON = {
    "version": ("proxy_build_info",),
    "date": ("proxy_build_info",),
    "name": ("stack_",),
    "protocol": ("stack_", "outbound_tcp_protocol_", "outbound_tcp_detect_", "inbound_tcp_detect_"),
    "error": (
        "response_total", "route_response_total", "route_actual_response_total", "control_response_total", "inbound_",
        "outbound_",
    ),
}  # fmt: skip


class ResourceSettings(Settings):
    """Options of the `resource` processor."""

    profile: Literal["otel", "prometheus", "none"] = option(
        "otel",
        'How labels become a resource. "otel": the workload is the resource. "prometheus": job and instance only, for a '
        'round trip into a Prometheus. "none": labels stay what they are.',
    )
    attributes: dict[str, StrictStr | StrictBool | StrictInt | StrictFloat] = option(
        {}, "Attributes to set on every resource, such as `k8s.cluster.name`; they win over what labels say."
    )


class Resource(SeriesProcessor[ResourceSettings]):
    """Moves the labels of a series' target to its resource, by the profile."""

    Settings: ClassVar[type[ResourceSettings]] = ResourceSettings

    def map_series(self, series: Series) -> Series:
        """Return the series with its resource, the labels that are its own, and its scope."""
        scope, flat = _scope(series)
        if self.settings.profile == "none":
            resource = self._resource({})
        elif self.settings.profile == "prometheus":
            own, rest = _split(flat, lambda name, _: name in ("job", "instance"))
            resource, flat = self._resource(dict(_service(own, own.get("job")))), rest
        else:
            resource, flat = self._workload(series, flat)
        return Series.flat_of(series.name, flat, series.family, resource, scope)

    def _workload(self, series: Series, flat: tuple[str, ...]) -> tuple[ResourceIdentity, tuple[str, ...]]:
        target = series.target
        if target is None:
            labels, rest = _split(flat, _fallback(series))
            return self._resource(dict(_attributes(labels))), rest
        own = _pairs(target.flat)
        labels, rest = _split(flat, lambda name, value: own.get(name) == value)
        if len(labels) == len(own):
            return target.derive(self.owner, self._of_target), rest
        return self._resource(dict(_attributes(labels))), rest

    def _of_target(self, target: Target) -> ResourceIdentity:
        return self._resource(dict(_attributes(_pairs(target.flat))))

    def _resource(self, attributes: dict[str, AttributeValue]) -> ResourceIdentity:
        return ResourceIdentity.of({**attributes, **self.settings.attributes})


def _pairs(flat: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _split(flat: tuple[str, ...], moves: Callable[[str, str], bool]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the labels that move to the resource, and the flat rest."""
    moved: dict[str, str] = {}
    rest: list[str] = []
    for index in range(0, len(flat), 2):
        name, value = flat[index], flat[index + 1]
        if moves(name, value):
            moved[name] = value
        else:
            rest += (name, value)
    return moved, tuple(rest)


def _service(labels: dict[str, str], name: str | None) -> Iterator[tuple[str, str]]:
    """The two attributes that every resource should have: who, and which of them."""
    yield "service.name", name or "unknown_service"
    if "instance" in labels:
        yield "service.instance.id", labels["instance"]


def _attributes(labels: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Walk the resource attributes that a target's labels stand for."""
    in_pod = "pod" in labels
    owners = [labels[owner] for owner in OWNERS if owner in labels]
    name = next((n for n in (*owners, labels.get("pod"), labels.get("component"), labels.get("job")) if n), None)
    yield from _service(labels, name)
    for label, value in labels.items():
        if label in OWNERS or label in _LINKERD:
            yield OWNERS.get(label) or _LINKERD[label], value
        elif label == "job":
            yield "prometheus.job", value
        elif label == "namespace":
            yield "k8s.namespace.name", value
            yield "service.namespace", value
        elif label == "pod":
            yield "k8s.pod.name", value
        elif label == "component" and not in_pod:
            yield "k8s.container.name", value
        elif label == "instance":
            yield from _pod_ip(value) if in_pod else ()
        elif label not in _DROPPED:
            yield (_POD_LABEL + label if in_pod else label), value
    if in_pod and (labels.get("job", "") == _PROXY_JOB or "control_plane_ns" in labels):
        yield "k8s.container.name", "linkerd-proxy"


def _pod_ip(instance: str) -> Iterator[tuple[str, str]]:
    host = instance.rpartition(":")[0].strip("[]")
    try:
        yield "k8s.pod.ip", str(ip_address(host))
    except ValueError:
        return


def _fallback(series: Series) -> Callable[[str, str], bool]:
    """Tell target labels by their names alone: on a proxy's series all but the native ones, elsewhere the known ones."""
    proxied = series.label("job") == _PROXY_JOB
    family = series.family.name

    def moves(name: str, _: str) -> bool:
        if name in _KNOWN:
            return True
        if not proxied or name.startswith(_NATIVE_PREFIXES):
            return False
        if name in _NATIVE_ON:
            return not family.startswith(_NATIVE_ON[name])
        return name not in _NATIVE

    return moves


def _scope(series: Series) -> tuple[Scope, tuple[str, ...]]:
    """Take ``otel_scope_*`` off the labels: they name the instrumentation scope."""
    flat = series.flat
    if not any(name.startswith("otel_scope_") for name in flat[::2]):
        return series.scope, flat
    labels, rest = _split(flat, lambda name, _: name.startswith("otel_scope_"))
    words = {name.removeprefix("otel_scope_"): value for name, value in labels.items()}
    name, version, schema_url = (words.pop(word, "") for word in ("name", "version", "schema_url"))
    return Scope.of(name, version, schema_url, dict(words)), rest
