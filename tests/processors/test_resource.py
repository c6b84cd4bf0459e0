import gc
import tarfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import ebbtide
from ebbtide import AGENT_SCOPE, EMPTY_RESOURCE, Batch, Family, Scope, Series, SeriesTable, Target
from processors.resource import Resource, ResourceSettings
from receivers.exposition import parse_page

POD = {
    "job": "linkerd-proxy", "instance": "10.1.2.3:4191", "namespace": "shop", "pod": "web-6d4-x2", "deployment": "web",
    "control_plane_ns": "linkerd", "workload_ns": "shop", "app": "web", "pod_template_hash": "6d4",
}  # fmt: skip
POD_RESOURCE = {
    "service.name": "web",
    "service.namespace": "shop",
    "service.instance.id": "10.1.2.3:4191",
    "server.address": "10.1.2.3",
    "server.port": 4191,
    "k8s.namespace.name": "shop",
    "k8s.pod.name": "web-6d4-x2",
    "k8s.pod.ip": "10.1.2.3",
    "k8s.deployment.name": "web",
    "k8s.container.name": "linkerd-proxy",
    "k8s.pod.label.app": "web",
    "linkerd.control_plane.namespace": "linkerd",
    "linkerd.workload.namespace": "shop",
    "prometheus.job": "linkerd-proxy",
}


def resource(profile: str = "otel", **attributes: Any) -> Resource:
    return Resource(ResourceSettings(profile=profile, attributes=attributes))  # type: ignore[arg-type]


def mapped(
    labels: Mapping[str, str], name: str = "request_total", known: Mapping[str, str] | None = None, **settings: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """The resource's attributes and the labels left; ``known``: the target's own labels."""
    target = None if known is None else Target.of(known)
    series = resource(**settings).map_series(Series.of(name, labels, target=target))
    assert series.target is None
    assert series.name == name
    return dict(series.resource.attributes), series.labels


# -- otel, target known -------------------------------------------------------------------------------------------------


def test_the_workload_is_the_resource() -> None:
    assert mapped(POD | {"direction": "inbound"}, known=POD) == (POD_RESOURCE, {"direction": "inbound"})


def test_labels_of_the_target_move_and_all_others_stay() -> None:
    known = POD | {"version": "v7", "name": "blue", "error": "none"}
    own = {"exported_version": "edge", "date": "today", "status_code": "200", "unheard_of": "x"}
    attributes, labels = mapped(known | own, "proxy_build_info", known)
    assert labels == own
    assert attributes == POD_RESOURCE | {
        "k8s.pod.label.version": "v7", "k8s.pod.label.name": "blue", "k8s.pod.label.error": "none",
    }  # fmt: skip


def test_what_is_known_beside_the_labels_is_on_the_resource() -> None:
    beside = {"k8s.node.name": "node-1", "k8s.pod.uid": "u", "k8s.container.name": "proxy"}
    target = Target.of(POD, beside)
    found = resource().map_series(Series.of("request_total", POD, target=target))
    assert dict(found.resource.attributes) == POD_RESOURCE | beside
    assert found.labels == {}
    assert dict(resource("prometheus").map_series(Series.of("x", POD, target=target)).resource.attributes) == {
        "service.name": POD["job"], "service.instance.id": POD["instance"],
    }  # fmt: skip
    assert mapped(POD, known=POD) == (POD_RESOURCE, {})


def test_a_label_whose_value_is_not_the_targets_stays() -> None:
    attributes, labels = mapped(POD | {"pod": "other", "deployment": "relabelled"}, known=POD)
    assert labels == {"pod": "other", "deployment": "relabelled"}
    assert attributes["service.name"] == "linkerd-proxy"
    assert "k8s.pod.name" not in attributes


def test_job_and_instance_are_of_the_resource_whatever_their_value() -> None:
    """As relabelled there, so the Collector has them: TestJobInstanceRelabelEndToEnd, TestTransactionAppendMultipleResources."""
    known = {"job": "test", "instance": "10.0.0.1:80"}
    attributes, labels = mapped({"job": "not-test", "instance": "relabelled", "a": "1"}, known=known)
    assert labels == {"a": "1"}
    assert attributes == {
        "service.name": "not-test", "prometheus.job": "not-test",
        "service.instance.id": "relabelled", "server.address": "relabelled",
    }  # fmt: skip


def test_a_dropped_label_does_not_come_back() -> None:
    attributes, labels = mapped({name: value for name, value in POD.items() if name != "app"}, known=POD)
    assert labels == {}
    assert attributes == {name: value for name, value in POD_RESOURCE.items() if name != "k8s.pod.label.app"}


@pytest.mark.parametrize(
    ("owner", "attribute"),
    [
        ("deployment", "k8s.deployment.name"),
        ("statefulset", "k8s.statefulset.name"),
        ("daemonset", "k8s.daemonset.name"),
        ("replicaset", "k8s.replicaset.name"),
        ("replicationcontroller", "k8s.replicationcontroller.name"),
        ("cronjob", "k8s.cronjob.name"),
        ("k8s_job", "k8s.job.name"),
    ],
)
@pytest.mark.parametrize("target_known", [True, False])
def test_owners(owner: str, attribute: str, target_known: bool) -> None:
    labels = {name: value for name, value in POD.items() if name != "deployment"} | {owner: "it"}
    attributes, left = mapped(labels, known=labels if target_known else None)
    assert (attributes["service.name"], attributes[attribute], left) == ("it", "it", {})


@pytest.mark.parametrize(
    ("labels", "service"),
    [
        (POD, "web"),
        ({"job": "linkerd-proxy", "pod": "bare", "component": "c"}, "bare"),
        ({"job": "linkerd-controller", "component": "destination", "instance": "i"}, "destination"),
        ({"job": "prometheus", "instance": "localhost:9090"}, "prometheus"),
        ({"instance": "i"}, "unknown_service"),
        ({}, "unknown_service"),
        ({"deployment": "web", "namespace": "shop"}, "web"),
    ],
)
@pytest.mark.parametrize("target_known", [True, False])
def test_service_name(labels: dict[str, str], service: str, target_known: bool) -> None:
    assert mapped(labels, known=labels if target_known else None)[0]["service.name"] == service


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            {"job": "linkerd-controller", "instance": "10.1.2.9:9996", "component": "destination"},
            {"service.name": "destination", "k8s.container.name": "destination", "k8s.pod.ip": "10.1.2.9",
             "service.instance.id": "10.1.2.9:9996", "server.address": "10.1.2.9", "server.port": 9996,
             "prometheus.job": "linkerd-controller"},
        ),
        (
            {"job": "shop/linkerd-proxy", "pod": "p", "extension": "viz", "control_plane_component": "tap", "zone": "z"},
            {"service.name": "p", "k8s.pod.name": "p", "k8s.container.name": "linkerd-proxy", "linkerd.extension": "viz",
             "linkerd.control_plane.component": "tap", "k8s.pod.label.zone": "z", "prometheus.job": "shop/linkerd-proxy"},
        ),
        (
            {"job": "relabelled-by-a-pod", "control_plane_ns": "linkerd", "app": "a"},
            {"service.name": "relabelled-by-a-pod", "k8s.container.name": "linkerd-proxy", "k8s.pod.label.app": "a",
             "linkerd.control_plane.namespace": "linkerd", "prometheus.job": "relabelled-by-a-pod"},
        ),
        (
            {"job": "nodes", "node": "n1", "container": "c", "cluster": "north"},
            {"service.name": "nodes", "k8s.node.name": "n1", "k8s.container.name": "c", "cluster": "north",
             "prometheus.job": "nodes"},
        ),
        (
            {"job": "nodes", "service.name": "named", "component": "c"},
            {"service.name": "named", "component": "c", "prometheus.job": "nodes"},
        ),
    ],
)  # fmt: skip
def test_jobs(labels: dict[str, str], expected: dict[str, Any]) -> None:
    assert mapped(labels, known=labels) == (expected, {})


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        ("10.1.2.3:4191", {"server.address": "10.1.2.3", "server.port": 4191, "k8s.pod.ip": "10.1.2.3"}),
        ("web.shop:80", {"server.address": "web.shop", "server.port": 80}),
        ("[fd00::1]:4191", {"server.address": "fd00::1", "server.port": 4191, "k8s.pod.ip": "fd00::1"}),
        ("[fd00::1]", {"server.address": "fd00::1", "k8s.pod.ip": "fd00::1"}),
        ("fd00::1", {"server.address": "fd00::1", "k8s.pod.ip": "fd00::1"}),
        ("web", {"server.address": "web"}),
        ("web:http", {"server.address": "web"}),
        ("web:99999", {"server.address": "web"}),
        ("web:²", {"server.address": "web"}),
        ("localhost:9090", {"server.port": 9090}),
        ("127.0.0.1:9090", {"server.port": 9090}),
        ("0.0.0.0:9090", {"server.port": 9090}),
        ("[::1]:9090", {"server.port": 9090}),
        (":9090", {"server.port": 9090}),
    ],
)
def test_instance(instance: str, expected: dict[str, Any]) -> None:
    attributes, _ = mapped({"job": "linkerd-controller", "instance": instance})
    assert attributes.pop("service.instance.id") == instance
    assert {name: attributes.get(name) for name in ("server.address", "server.port", "k8s.pod.ip")} == {
        "server.address": None, "server.port": None, "k8s.pod.ip": None,
    } | expected  # fmt: skip


# -- otel, target not known ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "labels", "stay"),
    [
        ("request_total", {"direction": "inbound", "srv_name": "s", "dst_pod": "p", "tls": "true"}, "direction dst_pod srv_name tls"),
        ("request_total", {"version": "v7", "name": "n", "protocol": "p", "error": "e", "date": "d"}, ""),
        ("proxy_build_info", {"version": "v", "git_sha": "g", "date": "d", "name": "n"}, "date git_sha version"),
        ("proxy_build_info", {"version": "v7", "exported_version": "v"}, "exported_version"),
        ("stack_poll_total_ms", {"name": "n", "protocol": "p", "ready": "true"}, "name protocol ready"),
        ("outbound_tcp_protocol_connections_total", {"protocol": "http/1"}, "protocol"),
        ("inbound_http_errors_total", {"error": "e"}, "error"),
        ("outbound_http_route_request_statuses_total", {"error": "e", "http_status": "200"}, "error http_status"),
        ("response_total", {"error": "e"}, "error"),
        ("route_actual_response_total", {"error": "e"}, "error"),
        ("outbound_tls_route_close_total", {"error": "e"}, "error"),
        ("rustls_info", {"tls_fips": "f", "tls_suites": "s"}, "tls_fips tls_suites"),
        ("control_dns_resolutions_total", {"client": "c", "record_type": "A"}, "client record_type"),
        ("outbound_tcp_balancer_endpoints", {"logical": "l", "concrete": "c"}, "concrete logical"),
        ("tcp_open_total", {"app": "a", "unheard_of": "u", "exported_job": "j"}, "exported_job"),
    ],
)  # fmt: skip
def test_names_decide_where_the_target_is_not_known(name: str, labels: dict[str, str], stay: str) -> None:
    attributes, left = mapped({"job": "linkerd-proxy", "pod": "p"} | labels, name)
    assert sorted(left) == stay.split()
    assert all(attributes[f"k8s.pod.label.{moved}"] == value for moved, value in labels.items() if moved not in left)


def test_of_a_controller_only_component_job_and_instance_move() -> None:
    labels = {
        "job": "linkerd-controller",
        "instance": "i",
        "component": "destination",
        "namespace": "of",
        "pod": "about",
    }
    attributes, left = mapped(labels, "endpoints_pods")
    assert left == {"namespace": "of", "pod": "about"}
    assert "k8s.namespace.name" not in attributes


def test_of_another_job_only_well_known_names_move() -> None:
    attributes, left = mapped(
        {"job": "app", "namespace": "n", "pod": "p", "handler": "/", "cluster": "c"}, "http_total"
    )
    assert left == {"handler": "/", "cluster": "c"}
    assert attributes["service.name"] == "p"


# -- other profiles, attributes, scope ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target_known", [True, False])
def test_prometheus_takes_job_and_instance_alone(target_known: bool) -> None:
    attributes, labels = mapped(POD | {"tls": "true"}, known=POD if target_known else None, profile="prometheus")
    assert attributes == {"service.name": "linkerd-proxy", "service.instance.id": "10.1.2.3:4191"}
    assert labels == {name: value for name, value in POD.items() if name not in ("job", "instance")} | {"tls": "true"}


def test_none_leaves_everything_where_it_is() -> None:
    assert mapped(POD, known=POD, profile="none") == ({}, POD)


@pytest.mark.parametrize("profile", ["otel", "prometheus", "none"])
def test_configured_attributes_win(profile: str) -> None:
    attributes = {"k8s.cluster.name": "north", "service.name": "mine", "weight": 2, "share": 0.5, "spot": True}
    found, _ = mapped(POD, known=POD, profile=profile, **attributes)
    assert {name: found[name] for name in attributes} == attributes
    assert {name: type(found[name]) for name in attributes} == {name: type(value) for name, value in attributes.items()}


@pytest.mark.parametrize("profile", ["otel", "prometheus", "none"])
def test_scope_labels_become_the_scope(profile: str) -> None:
    scope = {"otel_scope_name": "n", "otel_scope_version": "1", "otel_scope_schema_url": "u", "otel_scope_lib": "x"}
    series = resource(profile).map_series(Series.of("x", {"job": "j", "a": "1", "zone": "z"} | scope))
    assert series.scope is Scope.of("n", "1", "u", {"lib": "x"})
    assert not [name for name in series.labels if name.startswith("otel_scope")]
    assert {"a": "1", "zone": "z"}.items() <= series.labels.items()


def test_a_scope_label_that_says_nothing_is_a_label() -> None:
    series = resource().map_series(Series.of("x", {"job": "j", "otel_scope_": "1", "otel_scopes": "2"}))
    assert (series.scope, series.labels) == (AGENT_SCOPE, {"otel_scope_": "1", "otel_scopes": "2"})
    series = resource().map_series(Series.of("x", {"job": "j", "otel_scope_": "1", "otel_scope_name": "n"}))
    assert (series.scope, series.labels) == (Scope.of("n"), {"otel_scope_": "1"})


def test_a_resource_that_is_there_stays() -> None:
    there = ebbtide.Resource.of({"service.name": "there"})
    series = resource(env="test").map_series(Series.of("x", {"job": "j"}, resource=there))
    assert series.resource is ebbtide.Resource.of({"service.name": "there", "env": "test"})
    assert series.labels == {"job": "j"}


def test_equal_identities_are_identical_whatever_their_targets() -> None:
    processor = resource("none")
    family = Family("x", "gauge")
    of_target = Series.of("x", POD, family, target=Target.of(POD))
    assert processor.map_series(of_target) is processor.map_series(Series.of("x", POD, family))


def test_the_default_is_otel_without_settings() -> None:
    assert Resource().map_series(Series.of("x", POD)).resource is ebbtide.Resource.of(POD_RESOURCE)


# -- settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"profile": "openmetrics"},
        {"attributes": {"": "x"}},
        {"attributes": {"x": float("nan")}},
        {"attributes": {"x": float("inf")}},
        {"attributes": {"x": 2**63}},
        {"attributes": {"x": None}},
        {"attributes": {"x": ["a"]}},
        {"attributes": {"x": {"y": "z"}}},
        {"attribute": {}},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ResourceSettings(**settings)


# -- as a processor -----------------------------------------------------------------------------------------------------


def test_a_batch_keeps_its_numbers_and_a_steady_form_its_table() -> None:
    table = SeriesTable([Series.of("x", POD | {"n": str(n)}, target=Target.of(POD)) for n in range(3)])
    times = np.array([1, 2, 3], np.int64)
    batch = Batch(table, np.array([1.0, 2.0, 3.0]), times)
    processor = resource()
    first, second = processor.process(batch), processor.process(batch.but(values=batch.values + 1))
    assert first is not None
    assert second is not None
    assert first.values.tolist() == [1.0, 2.0, 3.0]
    assert second.table is first.table
    assert {series.resource for series in first.table} == {ebbtide.Resource.of(POD_RESOURCE)}


def test_nothing_is_pinned_when_targets_are_gone() -> None:
    processor = resource()
    made = processor.map_series(Series.of("x", POD, target=Target.of(POD))).resource
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


# -- the recorded proxies through a real Prometheus ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def federated(vectors: Path) -> list[tuple[str, dict[str, str]]]:
    with tarfile.open(vectors / "linkerd_proxy_recorded" / "via_prometheus.tar.xz") as tar:
        file = tar.extractfile(next(member for member in tar if member.name.endswith("federate.txt")))
        assert file is not None
        samples = parse_page(file.read()).samples
    return [(s.name, dict(zip(s.labels[::2], s.labels[1::2], strict=True))) for s in samples]


@pytest.mark.parametrize("target_known", [True, False])
def test_two_pods_are_two_resources(federated: list[tuple[str, dict[str, str]]], target_known: bool) -> None:
    targets = {labels["instance"]: Target.of(labels) for name, labels in federated if name == "up"}
    processor = resource()
    found = [
        processor.map_series(Series.of(name, labels, target=targets[labels["instance"]] if target_known else None))
        for name, labels in federated
    ]
    assert {series.resource.get("service.name") for series in found} == {"web", "api"}
    assert len({series.resource for series in found}) == 2
    assert len(set(found)) == len(federated)
    native = {(name, series.name) for series in found for name in series.labels if name in ("version", "name", "protocol", "error", "date")}  # fmt: skip
    assert {name for label, name in native if label in ("version", "date")} == {"proxy_build_info"}
    assert {name.partition("_")[0] for label, name in native if label == "name"} == {"stack"}
    web = next(series for series in found if series.name == "proxy_build_info" and "exported_version" in series.labels)
    assert web.resource.get("k8s.pod.label.version") == "v7"
    assert all(series.resource is not EMPTY_RESOURCE for series in found)
