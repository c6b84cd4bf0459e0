"""What one simulated linkerd2-proxy shows: its page family by family, labels in the proxy's own order.

Names, labels and their order are those of recorded pages of linkerd2-proxy 29637b64f; who calls whom is the shop's.
"""

from __future__ import annotations

from dataclasses import replace

from agent.demo.families import PROXY_FAMILIES
from agent.demo.form import Form, Labels
from agent.demo.proxy_inbound import add_admin, add_inbound
from agent.demo.proxy_outbound import add_outbound
from agent.demo.proxy_page import ProxyPage, add_balancer
from agent.demo.shop import Pod, Service
from agent.demo.traffic import ALWAYS, ONE, Life, Process, Stream, StreamDrivers

RETAIN_IDLE = 600.0
"""Seconds after which idle legacy series are dropped (LINKERD2_PROXY_METRICS_RETAIN_IDLE)."""

_DOMAIN = "serviceaccount.identity.linkerd.cluster.local"
_CLIENTS = (  # of the control plane: name, address, service account, gRPC status of its answers
    ("identity", "linkerd-identity-headless.linkerd.svc.cluster.local:8080", "linkerd-identity", "0"),
    ("destination", "linkerd-dst-headless.linkerd.svc.cluster.local:8086", "linkerd-destination", "0"),
    ("policy", "linkerd-policy.linkerd.svc.cluster.local:8090", "linkerd-destination", "5"),
)  # fmt: skip
_ASKS_A_SECOND = 1 / 270
_CERTIFICATE_REFRESH = 43200.0
_STACKS = (
    ("outbound", "tls", "endpoint"), ("inbound", "http", "logical"), ("outbound", "tls", "forward"),
    ("outbound", "opaq", "forward"), ("outbound", "tls", "balance"), ("outbound", "opaq", "balance"),
    ("outbound", "http", "forward"), ("outbound", "http", "balance"), ("outbound", "opaq", "endpoint"),
    ("outbound", "http", "endpoint"),
)  # fmt: skip
_TLS: Labels = (
    ("tls_suites", "TLS13_AES_128_GCM_SHA256,TLS13_AES_256_GCM_SHA384,TLS13_CHACHA20_POLY1305_SHA256,"),
    ("tls_kx_groups", "X25519MLKEM768,X25519,secp256r1,secp384r1,"),
    ("tls_rand", "AwsLcRs"),
    ("tls_key_provider", "AwsLcRs"),
    ("tls_fips", "false"),
)
_BUILD: Labels = (("date", "2026-08-21T09:12:44Z"), ("git_sha", "29637b64f"), ("profile", "release"), ("vendor", ""),
                  ("version", "2.366.0"))  # fmt: skip


def add_proxy(form: Form, pod: Pod, process: Process, callers: list[Service], peers: list[Pod], routes: int,
              scrape_interval: float) -> None:  # fmt: skip
    """Add the page of ``pod``: ``callers`` are the services that call it, ``peers`` the pods that it calls."""
    traffic = form.traffic
    index = traffic.process(process)
    form.begin_page(index)
    period, active = pod.service.schedule or (ALWAYS, ALWAYS)
    always = traffic.life(Life(index))
    used = traffic.life(Life(index, period, active, retain=RETAIN_IDLE))
    worked = traffic.life(Life(index, period, active))
    page = ProxyPage(form, pod, index, always, used, worked)
    add_admin(page, scrape_interval)
    if callers:
        add_inbound(page, callers, routes)
    if peers:
        add_outbound(page, peers, routes)
    _add_control(page, process)
    _add_stacks(page)
    _add_runtime(page)
    _add_process(page)
    form.end_page(PROXY_FAMILIES)


def _add_control(page: ProxyPage, process: Process) -> None:
    """What the proxy asks of the control plane."""
    for client, address, account, status in _CLIENTS:
        life, steady = _control_lives(page, process, client)
        stream, kept = _control_stream(page, life), _control_stream(page, steady)
        labels: Labels = (("addr", address), ("tls", "true"), ("server_id", f"{account}.linkerd.{_DOMAIN}"))
        page.add("control_request_total", labels, stream.total, life=life)
        coded = (*labels, ("status_code", "200"))
        page.spread("control_response_latency_ms", coded, stream.total, median=9.0, life=life, gate=stream.total)
        answer = (("classification", "success"), ("grpc_status", status), ("error", ""))
        page.add("control_response_total", (*coded, *answer), stream.total, life=life, gate=stream.total)
        add_balancer(page, f"control_{client}", (("addr", address),), kept.total, endpoints=1, life=page.always,
                     timeout=30.0, queue_median=0.003)  # fmt: skip
        for record, result in (("A/AAAA", "not_found"), ("A/AAAA", "ok"), ("SRV", "not_found"), ("SRV", "ok")):
            asked: Labels = (("client", client), ("record_type", record), ("result", result))
            page.add("control_dns_resolutions", asked, kept.total, 1.0 if (record, result) == ("SRV", "ok") else 0.0)
    _add_certificate(page)


def _control_lives(page: ProxyPage, process: Process, client: str) -> tuple[int, int]:
    """The lives of a client's legacy and registry series. Identity is asked so seldom that the legacy ones expire."""
    if client != "identity":
        return page.always, page.always
    period, phase = min(process.period, _CERTIFICATE_REFRESH), process.phase + process.down
    legacy = Life(page.process, period, 1.0, phase, retain=RETAIN_IDLE)
    return page.form.traffic.life(legacy), page.form.traffic.life(replace(legacy, retain=None))


def _control_stream(page: ProxyPage, life: int) -> StreamDrivers:
    """Requests to the control plane: one in the second in which identity is asked, one every few minutes to the others."""
    return (
        page.stream(_ASKS_A_SECOND) if life == page.always else page.form.traffic.stream(Stream(life, 1.01, swing=0.0))
    )


def _add_certificate(page: ProxyPage) -> None:
    start = ("start", page.process)
    page.add("control_identity_cert_expiration_timestamp_seconds", (), start, 1.0, 86400.5, whole=False, decimal=True)
    page.add("control_identity_cert_refresh_timestamp_seconds", (), start, 1.0, 0.5, whole=False, decimal=True)
    for result, number in (("ok", 1.0), ("error", 0.0)):
        page.add("control_identity_cert_refreshes", (("result", result),), ONE, number)


def _add_stacks(page: ProxyPage) -> None:
    for name in (
        "opentelemetry_span_export_streams",
        "opentelemetry_span_export_requests",
        "opentelemetry_span_exports",
    ):
        page.add(name, (), ONE, 0.0)
    for direction, protocol, name in _STACKS:
        labels: Labels = (("direction", direction), ("protocol", protocol), ("name", name))
        built = 2.0 if protocol == "http" else 0.0
        page.add("stack_create_total", labels, ONE, built)
        page.add("stack_drop_total", labels, ONE, 0.0)
        page.add("stack_poll_total_ms", labels, ("uptime", page.process), 0.002 * built)
        for ready in ("true", "false", "error"):
            polls = 0.5 * built if ready == "true" else 0.0
            page.add("stack_poll_total", (*labels, ("ready", ready)), ("uptime", page.process), polls)


def _add_runtime(page: ProxyPage) -> None:
    uptime = ("uptime", page.process)
    page.add("proxy_build_info", _BUILD)
    page.add("rustls_info", _TLS)
    page.add("tokio_rt_workers", ())
    for name, a_second in (("park", 90.0), ("noop", 6.0), ("steal", 0.0), ("steal_operations", 0.0),
                           ("remote_schedule", 0.1), ("local_schedule", 400.0), ("overflow", 0.0), ("polls", 400.5),
                           ("budget_forced_yield", 0.0), ("io_driver_ready", 160.0)):  # fmt: skip
        page.add(f"tokio_rt_{name}", (), uptime, a_second)
    page.add("tokio_rt_busy_seconds", (), uptime, 0.0213, whole=False, decimal=True)
    page.add("tokio_rt_injection_queue_depth", (), ONE, 0.0)
    page.add("tokio_rt_local_queue_depth", (), ONE, 0.0)


def _add_process(page: ProxyPage) -> None:
    uptime, wave = ("uptime", page.process), ("wave", page.process)
    page.add("process_start_time_seconds", (), ("start", page.process), whole=False, decimal=True)
    page.add("process_clock_time_seconds", (), ("clock", page.process), decimal=True)
    page.add("process_uptime_seconds", (), uptime, whole=False, decimal=True)
    page.add("process_cpu_seconds", (), uptime, 0.0107, whole=False, decimal=True)
    page.add("process_virtual_memory_bytes", (), wave, 4e6, 1.5e8)
    page.add("process_resident_memory_bytes", (), wave, 1.2e7, 2.1e7)
    page.add("process_open_fds", (), wave, 24.0, 48.0)
    page.add("process_max_fds", (), ONE, 1048576.0)
    page.add("process_network_receive_bytes", (), uptime, 31234.0, decimal=True)
    page.add("process_network_transmit_bytes", (), uptime, 29876.0, decimal=True)
    page.add("process_threads", (), ONE, 2.0)
