"""The outbound half of a simulated proxy's page: the pods and services that it calls, balancers, profiles and egress."""

from __future__ import annotations

from itertools import groupby

from agent.demo.form import Labels
from agent.demo.proxy_page import ProxyPage, add_balancer, add_detection, add_responses, add_tcp, target
from agent.demo.shop import Pod, Service
from agent.demo.traffic import ONE, StreamDrivers

PROFILED = "catalog"
"""The one service that still has a ServiceProfile, and so the ``route_*`` families."""
RETRIED = "payment"
"""The one service whose routes retry."""
OUTBOUND_ROUTES = 2
"""How many routes of a service one client uses."""
EGRESS_IP = "198.51.100.7"

_PROFILE_LATENCY_MS = 14.0
_LOOPBACK: Labels = (("tls", "no_identity"), ("no_tls_reason", "loopback"))
_UNMESHED: Labels = (("tls", "no_identity"), ("no_tls_reason", "not_provided_by_service_discovery"))
_CLOSES = ("", "forbidden", "invalid_backend", "invalid_policy", "unexpected")


def add_outbound(page: ProxyPage, peers: list[Pod], routes: int) -> None:
    """Add what the proxy knows of the pods that it calls, ``peers``, grouped by service."""
    for service, group in groupby(peers, key=lambda pod: pod.service):
        pods = list(group)
        total = page.stream(_rate(service), life=page.worked, bad=service.bad)
        if service.protocol == "opaque":
            _add_opaque(page, service, pods, total)
        else:
            _add_http(page, service, pods, total, routes)
    _add_transfer_cost(page)
    failed = page.stream(0.02, life=page.worked)
    for error, share in (("failfast", 0.7), ("unexpected", 0.3)):
        page.add(
            "outbound_http_errors_total", (("error", error),), failed.total, share, life=page.worked, gate=failed.total
        )
    if page.pod.service.name == "checkout":
        _add_egress(page)


def _rate(service: Service) -> float:
    return service.rate * 0.7


def _destination(page: ProxyPage, pod: Pod) -> Labels:
    """The labels of one endpoint, the ``dst_*`` as the destination controller gives them: sorted."""
    service = pod.service
    secured: Labels = (("tls", "true"), ("server_id", service.identity)) if service.meshed else _UNMESHED
    found = {
        "dst_namespace": service.namespace,
        f"dst_{service.owner}": service.name,
        "dst_pod": pod.name,
        "dst_service": service.name,
        "dst_serviceaccount": service.name if service.meshed else "default",
        "dst_zone": pod.zone,
        "dst_zone_locality": "local" if pod.zone == page.pod.zone else "remote",
    }
    if service.meshed:
        found["dst_control_plane_ns"] = "linkerd"
    if pod.template_hash:
        found["dst_pod_template_hash"] = pod.template_hash
    return (("authority", service.authority), *target(pod.ip, service.port), *secured, *sorted(found.items()))


def _parent(service: Service) -> Labels:
    return (("parent_group", "core"), ("parent_kind", "Service"), ("parent_namespace", service.namespace),
            ("parent_name", service.name), ("parent_port", str(service.port)), ("parent_section_name", ""))  # fmt: skip


def _backend(service: Service) -> Labels:
    return (("backend_group", "core"), ("backend_kind", "Service"), ("backend_namespace", service.namespace),
            ("backend_name", service.name), ("backend_port", str(service.port)), ("backend_section_name", ""))  # fmt: skip


def _route(service: Service, name: str) -> Labels:
    """A route of a service; "" is what the proxy makes up where there is none."""
    if not name:
        kind = "opaque" if service.protocol == "opaque" else "http"
        return (("route_group", ""), ("route_kind", "default"), ("route_namespace", ""), ("route_name", kind))
    kind = "GRPCRoute" if service.protocol == "grpc" else "HTTPRoute"
    return (("route_group", "gateway.networking.k8s.io"), ("route_kind", kind), ("route_namespace", service.namespace),
            ("route_name", name))  # fmt: skip


def _cluster_address(service: Service) -> Labels:
    number = sum(map(ord, service.name)) % 200 + 10
    return target(f"10.43.0.{number}", service.port)


def _add_http(page: ProxyPage, service: Service, pods: list[Pod], total: StreamDrivers, routes: int) -> None:
    used, grpc = page.used, service.protocol == "grpc"
    for pod in pods:
        stream = page.stream(_rate(service) / len(pods), life=used, bad=service.bad)
        labels = (("direction", "outbound"), *_destination(page, pod))
        page.add("request_total", labels, stream.total, life=used, gate=stream.total)
        add_responses(page, labels, stream, used, latency_ms=service.latency_ms + 1, grpc=grpc)
        add_tcp(
            page, (labels[0], ("peer", "dst"), *labels[1:]), stream.total, used, opened=0.01, read=2300.0, written=410.0
        )
    names = [""] if not service.meshed else service.routes(min(routes, OUTBOUND_ROUTES)) or [""]
    shares = [1 / (number + 1) for number in range(len(names))]
    for name, share in zip(names, shares, strict=True):
        _add_route(page, service, name, total, share / sum(shares))
    _add_connection(page, service, total, "http/2" if grpc else "detect")
    add_balancer(page, "outbound_http", (*_parent(service), *_backend(service)), total.total, endpoints=len(pods),
                 life=page.worked, timeout=3.0)  # fmt: skip
    if service.name == PROFILED:
        _add_profile(page, service, total, routes)


def _add_route(page: ProxyPage, service: Service, name: str, total: StreamDrivers, share: float) -> None:
    life, seconds = page.worked, service.latency_ms / 1000
    prefix = f"outbound_{service.protocol}_route"
    route = (*_parent(service), *_route(service, name))
    asked, answered = (*route, ("hostname", "")), (*route, *_backend(service))
    page.spread(f"{prefix}_request_duration_seconds", asked, total.total, share, median=seconds * 1.1, life=life)
    page.spread(f"{prefix}_request_frame_size_bytes", asked, total.total, share, median=180.0, life=life)
    page.add(f"{prefix}_backend_requests", answered, total.total, share, life=life)
    page.spread(f"{prefix}_backend_response_duration_seconds", answered, total.total, share, median=seconds, life=life)
    page.spread(f"{prefix}_backend_response_frame_size_bytes", answered, total.total, share, median=2200.0, life=life)
    status, codes = (
        ("grpc_status", ("OK", "UNAVAILABLE")) if service.protocol == "grpc" else ("http_status", ("200", "503"))
    )
    for code, driver in zip(codes, (total.good, total.bad), strict=True):
        answer: Labels = ((status, code), ("error", ""))
        page.add(f"{prefix}_backend_response_statuses", (*answered, *answer), driver, share, life=life, gate=driver)
        page.add(f"{prefix}_request_statuses", (*asked, *answer), driver, share, life=life, gate=driver)
    if service.name in (RETRIED, "cart"):
        for outcome, part in (("limit_exceeded", 0.2), ("overflow", 0.0), ("requests", 0.8), ("successes", 0.6)):
            page.add(f"{prefix}_retry_{outcome}", asked, total.bad, share * part, life=life)


def _add_connection(page: ProxyPage, service: Service, total: StreamDrivers, protocol: str) -> None:
    """What happens at the service's cluster address, before a pod was chosen."""
    life, labels = page.worked, _parent(service)
    page.add("outbound_tcp_protocol_connections", (("protocol", protocol), *labels), total.total, 0.02, 1.0, life=life)
    if protocol == "detect":
        add_detection(page, "outbound", labels, total.total, 0.02, life=life)
    accepted: Labels = (("direction", "outbound"), ("peer", "src"), *_cluster_address(service), *_LOOPBACK)
    add_tcp(page, accepted, total.total, page.used, opened=0.02, read=410.0, written=2300.0)
    failed = (*_cluster_address(service), ("error", "i/o"))
    page.add("outbound_tcp_errors_total", failed, total.bad, 0.1, life=life, gate=total.bad)


def _add_profile(page: ProxyPage, service: Service, total: StreamDrivers, routes: int) -> None:
    """The families of a ServiceProfile; requests of no route of its have no ``rt_route``."""
    profile: Labels = (
        ("direction", "outbound"),
        ("dst", f"{service.name}.{service.namespace}.svc.cluster.local:{service.port}"),
    )
    named = [((*profile, ("rt_route", f"GET /{noun}")), 0.8 / routes) for noun in service.routes(routes)]
    for labels, share in ((profile, 0.2), *named):
        coded = (*labels, ("status_code", "200"))
        page.add("route_request_total", labels, total.total, share, life=page.used, gate=total.total)
        page.add("route_actual_request_total", labels, total.total, share, life=page.used, gate=total.total)
        page.spread("route_response_latency_ms", coded, total.good, share, median=_PROFILE_LATENCY_MS, life=page.used,
                    gate=total.good)  # fmt: skip
        graded: Labels = (("classification", "success"), ("grpc_status", ""), ("error", ""))
        for name in ("route_response_total", "route_actual_response_total"):
            page.add(name, (*coded, *graded), total.good, share, life=page.used, gate=total.good)
        page.add("route_retryable_total", labels, total.bad, share, life=page.used)
        page.add("route_retryable_total", (*labels, ("skipped", "no_budget")), ONE, 0.0, life=page.used)
    # No answer within the route's timeout: no status code at all.
    late: Labels = (("classification", "failure"), ("grpc_status", ""), ("error", "timeout"))
    labels = named[0][0] if named else profile
    page.add("route_response_total", (*labels, *late), total.bad, life=page.used, gate=total.bad)


def _add_opaque(page: ProxyPage, service: Service, pods: list[Pod], total: StreamDrivers) -> None:
    for pod in pods:
        stream = page.stream(_rate(service) / len(pods), life=page.used)
        labels = (("direction", "outbound"), ("peer", "dst"), *_destination(page, pod))
        add_tcp(page, labels, stream.total, page.used, opened=1.0, read=18000.0, written=5200.0, stay=2)
    _add_connection(page, service, total, "opaq")
    name = service.authority if service.port != 80 else f"{service.authority}:80"
    concrete: Labels = (("logical", name), ("concrete", name))
    add_balancer(page, "outbound_tcp", (*_parent(service), *_backend(service), *concrete), total.total,
                 endpoints=len(pods), life=page.worked, timeout=3.0)  # fmt: skip
    route = (*_parent(service), *_route(service, ""), ("target_ip", ""), ("target_port", str(service.port)))
    page.add("outbound_tcp_route_open", route, total.total, life=page.worked)
    for error in _CLOSES:
        page.add("outbound_tcp_route_close", (*route, ("error", error)), total.total, 0.0 if error else 1.0,
                 life=page.worked)  # fmt: skip


def _add_transfer_cost(page: ProxyPage) -> None:
    for number, locality in enumerate(("Remote", "Local", "Unknown")):
        for direction, size in (("Send", 3100.0), ("Recv", 9400.0)):
            labels: Labels = (("op", direction), ("zone_locality", locality))
            factor = 0.0 if locality == "Unknown" else size / (number + 1)
            page.add("outbound_tcp_transfer_cost_bytes", labels, ("uptime", page.process), factor)


def _add_egress(page: ProxyPage) -> None:
    """Calls to a payment provider outside the cluster, through an EgressNetwork: TLS that the proxy only passes on."""
    stream = page.stream(0.2, life=page.worked, bad=(200, 20, 0.3))
    place: Labels = (*target(EGRESS_IP, 443), *_UNMESHED)
    add_tcp(page, (("direction", "outbound"), ("peer", "dst"), *place), stream.total, page.used, opened=1.0, read=5200.0,
            written=1400.0)  # fmt: skip
    parent: Labels = (("parent_group", "policy.linkerd.io"), ("parent_kind", "EgressNetwork"),
                      ("parent_namespace", page.pod.service.namespace), ("parent_name", "all-egress-traffic"),
                      ("parent_port", "443"), ("parent_section_name", ""))  # fmt: skip
    route: Labels = (("route_group", "gateway.networking.k8s.io"), ("route_kind", "TLSRoute"),
                     ("route_namespace", page.pod.service.namespace), ("route_name", "allow-provider"), ("hostname", ""))  # fmt: skip
    page.add("outbound_tcp_protocol_connections", (("protocol", "tls"), *parent), stream.total, life=page.worked)
    page.add("outbound_tls_route_open", (*parent, *route), stream.total, life=page.worked)
    for error in _CLOSES:
        driver = {"": stream.good, "unexpected": stream.bad}.get(error, ONE)
        page.add("outbound_tls_route_close", (*parent, *route, ("error", error)), driver, 0.0 if driver == ONE else 1.0,
                 life=page.worked)  # fmt: skip
