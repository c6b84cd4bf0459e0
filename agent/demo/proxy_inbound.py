"""The inbound half of a simulated proxy's page: its servers, routes and clients, and its own admin port."""

from __future__ import annotations

from agent.demo.form import Labels
from agent.demo.proxy_page import ProxyPage, add_detection, add_responses, add_tcp, target
from agent.demo.shop import Service
from agent.demo.traffic import ONE, StreamDrivers

ADMIN_PORT = "4191"
CONNECTIONS_A_REQUEST = 0.02
"""New connections per HTTP request: clients keep theirs alive."""

_PLAIN: Labels = (("tls", "no_identity"), ("no_tls_reason", "no_tls_from_remote"))
_DEFAULT_SERVER: Labels = (("srv_group", ""), ("srv_kind", "default"), ("srv_name", "all-unauthenticated"))
_DEFAULT_ROUTE: Labels = (("route_group", ""), ("route_kind", "default"), ("route_name", "default"))
_DEFAULT_AUTHZ: Labels = (("authz_group", ""), ("authz_kind", "default"), ("authz_name", "all-unauthenticated"))
_SERVER_KIND = {"http": "http", "grpc": "grpc", "opaque": "tcp"}


def add_admin(page: ProxyPage, scrape_interval: float) -> None:
    """The proxy's own admin port: scrapes and the kubelet's probes are counted like any other request."""
    requests = page.stream(1 / scrape_interval + 0.2)
    server = (*_DEFAULT_SERVER, ("srv_port", ADMIN_PORT))
    place, policy = target("0.0.0.0", ADMIN_PORT), (*server, *_DEFAULT_ROUTE, *_DEFAULT_AUTHZ)
    page.add("inbound_http_authz_allow_total", (*place, *policy, *_PLAIN), requests.total)
    if page.process == 0:  # one proxy shows the same series twice, with different values: linkerd2#9502, #13821
        page.add("inbound_http_authz_allow_total", (*place, *policy, *_PLAIN), requests.total, 0.5, repeated=True)
    http = (("direction", "inbound"), *place, *_PLAIN, *policy)
    page.add("request_total", http, requests.total)
    add_responses(page, http, requests, page.always, latency_ms=1.5)
    add_tcp(page, (("direction", "inbound"), ("peer", "src"), *place, *_PLAIN, *server), requests.total, page.always,
            opened=0.05, read=420.0, written=6000.0)  # fmt: skip
    add_detection(page, "inbound", server, requests.total, 0.05, life=page.always)


def add_inbound(page: ProxyPage, callers: list[Service], routes: int) -> None:
    """What the pod serves: opaque connections, or HTTP or gRPC on ``routes`` routes."""
    identities = [caller.identity if caller.meshed else "" for caller in callers]
    if page.pod.service.protocol == "opaque":
        for identity in identities:
            _add_opaque_client(page, identity)
        _add_denied(page)
        return
    names = page.pod.service.routes(routes) or [""]
    for number in range(max(len(names), len(identities))):  # each route has a caller, each caller a route
        name, identity = names[number % len(names)], identities[number % len(identities)]
        stream = page.stream(page.pod.service.rate / (number + 1), bad=page.pod.service.bad)
        _add_http_client(page, identity, stream, _route(page, name))
        if number < len(names):
            _add_route(page, stream, name)
    _add_connections(page, identities, page.pod.service.rate)
    if page.pod.service.name == "web":
        _add_refusals(page, names[0])


def _server(page: ProxyPage) -> Labels:
    service = page.pod.service
    return (("srv_group", "policy.linkerd.io"), ("srv_kind", "server"),
            ("srv_name", f"{service.name}-{_SERVER_KIND[service.protocol]}"), ("srv_port", str(service.port)))  # fmt: skip


def _route(page: ProxyPage, name: str) -> Labels:
    if not name:
        return _DEFAULT_ROUTE
    grpc = page.pod.service.protocol == "grpc"
    group = "gateway.networking.k8s.io" if grpc else "policy.linkerd.io"
    return (("route_group", group), ("route_kind", "GRPCRoute" if grpc else "HTTPRoute"), ("route_name", name))


def _authorization(page: ProxyPage) -> Labels:
    name = f"{page.pod.service.name}-clients"
    return (("authz_group", "policy.linkerd.io"), ("authz_kind", "authorizationpolicy"), ("authz_name", name))


def _place(page: ProxyPage) -> Labels:
    return target(page.pod.ip, page.pod.service.port)


def _client(identity: str) -> Labels:
    return (("tls", "true"), ("client_id", identity)) if identity else _PLAIN


def _add_http_client(page: ProxyPage, identity: str, stream: StreamDrivers, route: Labels) -> None:
    policy = (*_server(page), *route, *_authorization(page))
    allowed = (*_place(page), *policy, *_client(identity))
    page.add("inbound_http_authz_allow_total", allowed, stream.total, gate=stream.total)
    http = (("direction", "inbound"), *_place(page), *_client(identity), *policy)
    page.add("request_total", http, stream.total, life=page.used, gate=stream.total)
    service = page.pod.service
    add_responses(page, http, stream, page.used, latency_ms=service.latency_ms, grpc=service.protocol == "grpc")


def _add_route(page: ProxyPage, stream: StreamDrivers, name: str) -> None:
    """The registry's view of a route, in which clients are not told apart."""
    service = page.pod.service
    labels: Labels = (("parent_group", "policy.linkerd.io"), ("parent_kind", "server"),
                      ("parent_name", f"{service.name}-{_SERVER_KIND[service.protocol]}"),
                      ("parent_port", str(service.port)), *_route(page, name))  # fmt: skip
    prefix, seconds = f"inbound_{service.protocol}", service.latency_ms / 1000
    page.add(f"{prefix}_requests", labels, stream.total, gate=stream.total)
    for direction, size in (("request", 180.0), ("response", 2200.0)):
        page.spread(f"{prefix}_{direction}_frame_size_bytes", labels, stream.total, median=size, gate=stream.total)
        page.spread(f"{prefix}_{direction}_duration_seconds", labels, stream.total, median=seconds, gate=stream.total)
    codes = ("0", "14") if service.protocol == "grpc" else ("200", "503")
    for code, driver in zip(codes, (stream.good, stream.bad), strict=True):
        page.add(f"{prefix}_statuses", (*labels, ("status", code)), driver, gate=driver)


def _add_connections(page: ProxyPage, identities: list[str], rate: float) -> None:
    for identity in identities:
        stream = page.stream(rate)
        labels = (("direction", "inbound"), ("peer", "src"), *_place(page), *_client(identity), *_server(page))
        add_tcp(page, labels, stream.total, page.used, opened=CONNECTIONS_A_REQUEST, read=410.0, written=2300.0, stay=2)
        _add_transport_header(page, identity, stream)
    stream = page.stream(rate)
    # The proxy's own connection to the application has no target labels.
    add_tcp(page, (("direction", "inbound"), ("peer", "dst"), ("tls", "no_identity"), ("no_tls_reason", "loopback")),
            stream.total, page.used, opened=CONNECTIONS_A_REQUEST, read=2300.0, written=410.0)  # fmt: skip
    add_detection(page, "inbound", _server(page), stream.total, CONNECTIONS_A_REQUEST, life=page.always)


def _add_transport_header(page: ProxyPage, identity: str, stream: StreamDrivers) -> None:
    if identity:
        protocol = "" if page.pod.service.protocol == "opaque" else "http/2"
        labels = (("session_protocol", protocol), ("target_port", str(page.pod.service.port)), ("target_name", ""),
                  ("client_id", identity))  # fmt: skip
        page.add("inbound_tcp_transport_header_connections", labels, stream.total, CONNECTIONS_A_REQUEST)


def _add_opaque_client(page: ProxyPage, identity: str) -> None:
    stream = page.stream(page.pod.service.rate)
    allowed = (*_place(page), *_server(page), *_authorization(page), *_client(identity))
    page.add("inbound_tcp_authz_allow_total", allowed, stream.total)
    labels = (("direction", "inbound"), ("peer", "src"), *_place(page), *_client(identity), *_server(page))
    add_tcp(page, labels, stream.total, page.used, opened=1.0, read=5200.0, written=18000.0, stay=3)
    _add_transport_header(page, identity, stream)


def _add_denied(page: ProxyPage) -> None:
    """Something unmeshed that keeps knocking at the database."""
    stream = page.stream(0.01)
    reason: Labels = (("tls", "no_identity"), ("no_tls_reason", "port_skipped"))
    page.add("inbound_tcp_authz_deny_total", (*_place(page), *_server(page), *reason), stream.total, gate=stream.total)
    page.add("inbound_tcp_errors_total", (("error", "unexpected"), *_place(page)), stream.total, gate=stream.total)


def _add_refusals(page: ProxyPage, route: str) -> None:
    """Requests from outside that the policy turns away, finds no route for, or limits."""
    stream = page.stream(0.05)
    labels = (*_place(page), *_server(page))
    limit: Labels = (("ratelimit_group", "policy.linkerd.io"), ("ratelimit_kind", "httplocalratelimitpolicy"),
                     ("ratelimit_name", "web-limit"), ("ratelimit_scope", "total"))  # fmt: skip
    denied = (*labels, *_route(page, route), *_PLAIN)
    page.add("inbound_http_authz_deny_total", denied, stream.total, 0.3, gate=stream.total)
    page.add("inbound_http_route_not_found_total", (*labels, *_PLAIN), stream.total, 0.5, gate=stream.total)
    page.add("inbound_http_local_ratelimit_total", (*labels, *limit, *_PLAIN), stream.total, 0.2, gate=stream.total)
    page.add("inbound_http_errors_total", (("error", "unexpected"), *labels), stream.total, gate=stream.total)
    page.add("inbound_tcp_errors_total", (("error", "i/o"), *_place(page)), ONE, 2.0)
