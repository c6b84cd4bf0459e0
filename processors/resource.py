"""Who speaks: moves a series' target labels to its resource, under OpenTelemetry's names.

Strategy. The labels that Prometheus put on every series of a target say whom it was scraped from; those that the target
wrote itself say what is measured. The first belong on the resource, the second on the point. Where the target's own
labels are known (``series.target``), nothing is guessed: labels that are the target's by name and value move, and job
and instance whatever their value, since they say who speaks by definition. Elsewhere a list of the names that Linkerd
writes itself decides, and a series scraped from a pod keeps on the point what is on the list. The list is an
approximation: a release that writes a new name puts it on the resource.

Profile "otel" makes the workload the resource:

- Every job: ``instance`` -> service.instance.id, server.address and server.port; ``job`` -> prometheus.job; the owner
  (``deployment``, ...), ``namespace`` and ``pod`` -> k8s.*. ``service.name`` is the owner, else the pod, else
  ``component``, else the job, else "unknown_service".
- Proxies (job "linkerd-proxy", or one that ends in "/linkerd-proxy", or any with the label ``control_plane_ns``, which
  every proxy has): labels of Linkerd -> linkerd.*; any other -> k8s.pod.label.<name>, because Linkerd's configuration
  copies all labels of the pod. Prometheus' external labels cannot be told from those; a cluster's name is best set by
  the option ``attributes``. ``pod_template_hash`` only repeats part of the pod's name and is dropped.
- Linkerd's controllers have ``component``, the container's name. In the fallback only it, ``job`` and ``instance`` move:
  a ``namespace`` or ``pod`` there is what the series is about.
- Other jobs: ``container`` and ``node`` -> k8s.*; further target labels move under their own names. In the fallback
  only the names that have a place under k8s.* and ``component`` move.
- Every job: what a discovery knows of a target beside its labels (``Target.attributes``: node, pod UID, container) is
  set on the resource as it is.

Profile "prometheus" takes ``job`` and ``instance`` alone, so that converters to Prometheus rebuild every label.

A series that has a resource already keeps it; only the configured attributes are set on it.
Sources: OpenTelemetry, "Prometheus and OpenMetrics compatibility" and the semantic conventions for service and k8s;
linkerd2, viz/charts/linkerd-viz/templates/prometheus.yaml.
"""

from __future__ import annotations

import ipaddress
import math
import re
import weakref
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator

import ebbtide
from ebbtide import (
    AGENT_SCOPE,
    EMPTY_RESOURCE,
    AttributeValue,
    Context,
    Scope,
    Series,
    SeriesProcessor,
    Target,
    option,
    pairs,
)

Flat = tuple[str, ...]  # flat and sorted: name, value, name, value, ...
Pairs = frozenset[tuple[str, str]]

UNKNOWN_SERVICE = "unknown_service"
_SCOPE = "otel_scope_"
_EXPORTED = "exported_"
_SCOPE_FIELDS = ("name", "version", "schema_url")
_INT64 = range(-(2**63), 2**63)

_OWNERS = {
    "deployment": "k8s.deployment.name",
    "statefulset": "k8s.statefulset.name",
    "daemonset": "k8s.daemonset.name",
    "replicaset": "k8s.replicaset.name",
    "replicationcontroller": "k8s.replicationcontroller.name",
    "cronjob": "k8s.cronjob.name",
    "k8s_job": "k8s.job.name",
}
_PLACES = {"namespace": "k8s.namespace.name", "pod": "k8s.pod.name"} | _OWNERS
_PROXY_NAMES = _PLACES | {
    "control_plane_ns": "linkerd.control_plane.namespace",
    "workload_ns": "linkerd.workload.namespace",
    "control_plane_component": "linkerd.control_plane.component",
    "extension": "linkerd.extension",
}
_CONTROLLER_NAMES = _PLACES | {"component": "k8s.container.name"}
_OTHER_NAMES = _PLACES | {"container": "k8s.container.name", "node": "k8s.node.name"}
_SERVICE_NAMES = (*_OWNERS, "pod", "component", "job")  # first that is there
_DROPPED = frozenset(("pod_template_hash",))

_PROXY_JOB = "linkerd-proxy"
_CONTROLLER_JOBS = ("linkerd-controller", "linkerd-multicluster-controller", "linkerd-service-mirror")
_ROUND_TRIP = frozenset(("job", "instance"))
_CONTROLLER_JOB = frozenset(("job", "instance", "component"))
_ANY_JOB = _CONTROLLER_JOB | _OTHER_NAMES.keys()

# Flat that proxies write themselves. The first are theirs wherever they stand, the others on some families only.
_NATIVE = frozenset((
    "addr", "authority", "classification", "client_id", "concrete", "direction", "dst", "endpoint_state", "errno",
    "grpc_status", "hostname", "http_status", "le", "logical", "no_tls_reason", "op", "peer", "quantile", "result",
    "server_id", "sni", "status", "status_code", "target_addr", "target_ip", "target_name", "target_port", "tls",
    "zone_locality",
))  # fmt: skip
_NATIVE_PREFIXES = ("srv_", "authz_", "route_", "parent_", "backend_", "ratelimit_", "rt_", "dst_", _EXPORTED)
_NATIVE_ON = {
    label: re.compile(families)
    for labels, families in {
        "date git_sha profile vendor version": "proxy_build_info",
        "tls_fips tls_key_provider tls_kx_groups tls_rand tls_suites": "rustls_info",
        "name": "stack_.*",
        "protocol": "stack_.*|outbound_tcp_protocol_connections_total",
        "ready": "stack_poll_.*",
        "skipped": "route_retryable_total",
        "client record_type": "control_dns_resolutions_total",
        "session_protocol": "inbound_tcp_transport_header_connections_total",
        "error": ".*_errors_total|(?:.*_)?response_total|.*_statuses_total|.*_close_total",
    }.items()
    for label in labels.split()
}

_Class = Literal["proxy", "controller", "other"]


def _attributes(attributes: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    for name, value in attributes.items():
        if not name:
            raise ValueError("an attribute has no name; give it one")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a number is not finite; write a finite one, or a string")
        if isinstance(value, int) and value not in _INT64:
            raise ValueError("a whole number does not fit 64 bits; write it as a string")
    return attributes


class ResourceSettings(ebbtide.Settings):
    """Who speaks."""

    profile: Literal["otel", "prometheus", "none"] = option(
        "otel",
        '"otel": the workload is the resource. "prometheus": `job` and `instance` are, every other label stays, for '
        'a round trip into a Prometheus. "none": all labels stay on the points.',
    )
    attributes: Annotated[dict[str, AttributeValue], AfterValidator(_attributes)] = option(
        {}, "Set on every resource, before all else that would.", examples=[{"k8s.cluster.name": "north"}]
    )


class Resource(SeriesProcessor[ResourceSettings]):
    """Moves the labels of the target to the resource, by the profile chosen."""

    Settings = ResourceSettings

    def __init__(self, settings: ResourceSettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        self._profile = self.settings.profile
        self._configured = dict(self.settings.attributes)
        self._key = self.owner
        # Resources by the labels they are made of: weak, like all interning.
        self._made: weakref.WeakValueDictionary[tuple[Flat, Flat], ebbtide.Resource] = weakref.WeakValueDictionary()

    def map_series(self, series: Series) -> Series:
        """Return the series with its resource and scope, and without the labels that they came from."""
        if (
            self._profile == "otel"
            and series.target
            and series.resource is EMPTY_RESOURCE
            and series.scope is AGENT_SCOPE
        ):
            whole = series.target.derive(self._key, self._whole)
            base, resource, scope = series.base.derive(whole, whole.part)
            return Series.parts_of(series.name, base, series.own, series.family, resource, scope)
        flat, scope = _take_scope(series.flat, series.scope)
        if series.resource is not EMPTY_RESOURCE:
            resource = ebbtide.Resource.of(dict(series.resource.attributes) | self._configured)
        else:
            flat, moved = _parted(flat, self._moving(series.name, flat))
            resource = self._resource(moved)
        return Series.flat_of(series.name, flat, series.family, resource, scope)

    def _moving(self, sample_name: str, flat: Flat) -> Container[str]:
        """Return the names of the labels that move, where the target is not known or of no interest."""
        if self._profile == "none":
            return ()
        return _ROUND_TRIP if self._profile == "prometheus" else _likely_target_names(sample_name, flat)

    def _whole(self, target: Target) -> _Whole:
        beside = target.attributes  # the target itself is not held: it holds what is returned
        return _Whole(frozenset(pairs(target.flat)), lambda moved: self._resource(moved, beside))

    def _resource(self, moved: Flat, beside: Flat = ()) -> ebbtide.Resource:
        """Return the resource of the labels that move, and of what is known of the target beside them."""
        key = (moved, beside)
        resource = self._made.get(key)
        if resource is None:
            attributes = _PROFILES[self._profile](dict(pairs(moved))) | dict(pairs(beside)) | self._configured
            resource = self._made[key] = ebbtide.Resource.of(attributes)
        return resource


class _Whole:
    """A target's labels as pairs. Flat remember how they part by it, for as long as the target lives."""

    __slots__ = ("__weakref__", "_pairs", "_resource")

    def __init__(self, pairs: Pairs, resource: Callable[[Flat], ebbtide.Resource]):
        self._pairs = pairs
        self._resource = resource

    def part(self, base: ebbtide.Labels) -> tuple[ebbtide.Labels, ebbtide.Resource, Scope]:
        """Return the labels that stay, and what moves: job, instance, and what is the target's still, by name and value.

        A relabelling in between may have changed the target's labels; the resource says what is left of them.
        """
        flat, scope = _take_scope(base.flat, AGENT_SCOPE)
        kept, moved = list[str](), list[str]()
        for pair in pairs(flat):
            (moved if pair[0] in _ROUND_TRIP or pair in self._pairs else kept).extend(pair)
        return ebbtide.Labels.of(tuple(kept)), self._resource(tuple(moved)), scope


def _parted(flat: Flat, moving: Container[str]) -> tuple[Flat, Flat]:
    """Return what stays and what moves."""
    kept, moved = list[str](), list[str]()
    for name, value in pairs(flat):
        (moved if name in moving else kept).extend((name, value))
    return tuple(kept), tuple(moved)


def _take_scope(flat: Flat, scope: Scope) -> tuple[Flat, Scope]:
    """Move ``otel_scope_*`` labels to the scope: name, version and schema URL to their fields, others to attributes."""
    names = flat[::2]
    rows = _prefixed(names, _SCOPE)
    if rows and names[rows.start] == _SCOPE:  # an attribute has a name
        rows = rows[1:]
    if not rows:
        return flat, scope
    told = {names[row].removeprefix(_SCOPE): flat[2 * row + 1] for row in rows}
    fields = {field: told.pop(field, getattr(scope, field)) for field in _SCOPE_FIELDS}
    rest = flat[: 2 * rows.start] + flat[2 * rows.stop :]
    return rest, Scope.of(**fields, attributes=dict(scope.attributes) | told)


def _prefixed(names: tuple[str, ...], prefix: str) -> range:
    """Return where in sorted names those with the prefix stand."""
    first = last = bisect_left(names, prefix)
    while last < len(names) and names[last].startswith(prefix):
        last += 1
    return range(first, last)


def _class_of(job: str, names: Container[str]) -> _Class:
    """Tell Linkerd's proxies and controllers by their job (``<namespace>/<job>`` where the Prometheus Operator rules)."""
    job = job.rpartition("/")[2]
    if job == _PROXY_JOB or "control_plane_ns" in names:
        return "proxy"
    return "controller" if job in _CONTROLLER_JOBS else "other"


def _likely_target_names(sample_name: str, flat: Flat) -> Container[str]:
    """Return the names of those labels that are most likely the target's, where those are not known."""
    names = flat[::2]
    kind = _class_of(flat[2 * names.index("job") + 1] if "job" in names else "", names)
    if kind != "proxy":
        return _CONTROLLER_JOB if kind == "controller" else _ANY_JOB
    # Where exported_x stands beside x, Prometheus had to make room for a target label of that name.
    displaced = {names[row].removeprefix(_EXPORTED) for row in _prefixed(names, _EXPORTED)}
    return displaced.union([name for name in names if not _is_native(name, sample_name)])


def _is_native(label: str, sample_name: str) -> bool:
    """Tell whether proxies write this label themselves, as far as names can tell."""
    if label in _NATIVE or label.startswith(_NATIVE_PREFIXES):
        return True
    families = _NATIVE_ON.get(label)
    return families is not None and families.fullmatch(sample_name) is not None


def _otel(labels: dict[str, str]) -> dict[str, AttributeValue]:
    """Name target labels as OpenTelemetry does. A target label that has such a name already is taken at its word."""
    kind = _class_of(labels.get("job", ""), labels)
    derived: dict[str, AttributeValue] = {}
    owners = (labels[name] for name in _SERVICE_NAMES if name in labels)
    derived["service.name"] = next(owners, UNKNOWN_SERVICE)
    if kind == "proxy":
        derived["k8s.container.name"] = _PROXY_JOB
    if "namespace" in labels:
        derived["service.namespace"] = labels["namespace"]
    if "instance" in labels:
        derived.update(_instance(labels["instance"], on_pod=kind != "other" or "pod" in labels))
    if "job" in labels:
        derived["prometheus.job"] = labels["job"]
    derived.update(_renamed(labels, kind))
    return derived


def _renamed(labels: Mapping[str, str], kind: _Class) -> Iterator[tuple[str, str]]:
    names = {"proxy": _PROXY_NAMES, "controller": _CONTROLLER_NAMES, "other": _OTHER_NAMES}[kind]
    prefix = "k8s.pod.label." if kind == "proxy" else ""
    for name, value in labels.items():
        if name not in _DROPPED and name not in ("job", "instance"):
            yield names.get(name) or prefix + name, value


def _instance(instance: str, on_pod: bool) -> Iterator[tuple[str, AttributeValue]]:
    """``10.1.2.3:4191`` -> service.instance.id, server.address, server.port and, on a pod, k8s.pod.ip.

    A host that says nothing of who it is (localhost and the like) is left out, as the Collector does.
    """
    yield "service.instance.id", instance
    host, colon, port = instance.rpartition(":")
    if not colon or "]" in port or (":" in host and not host.endswith("]")):
        host, port = instance, ""  # no port: a name, or an IPv6 address with or without brackets
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    tells = host not in ("", "localhost") and not (address and (address.is_loopback or address.is_unspecified))
    if tells:
        yield "server.address", host
    if port.isascii() and port.isdecimal() and int(port) < 65536:
        yield "server.port", int(port)
    if tells and address and on_pod:
        yield "k8s.pod.ip", host


def _prometheus(labels: dict[str, str]) -> dict[str, AttributeValue]:
    names = {"job": "service.name", "instance": "service.instance.id"}
    return {names[name]: value for name, value in labels.items()}


def _none(labels: dict[str, str]) -> dict[str, AttributeValue]:
    return {}


_PROFILES = {"otel": _otel, "prometheus": _prometheus, "none": _none}
