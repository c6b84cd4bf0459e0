"""The metric families of a present-day linkerd2-proxy, in the order of its page.

Source: pages of linkerd2-proxy 29637b64f (about v2.366) under traffic. The first part is the hand-written text of
``linkerd/metrics``, whose TYPE lines name the samples; the second is the ``prometheus_client`` registry, whose counters
are named without ``_total`` there and whose HELP got a full stop added (hence the one with two).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "summary"]

LATENCY_MS = tuple(float(digit * power) for power in (1, 10, 100, 1000, 10000) for digit in (1, 2, 3, 4, 5))
"""Upper bounds of every legacy latency histogram, without +Inf (26 buckets with it)."""


@dataclass(frozen=True, slots=True)
class DemoFamily:
    """One family as its page declares it; ``legacy`` tells which of the two dialects writes it."""

    name: str
    kind: Kind
    help: str
    unit: str = ""
    legacy: bool = False

    @property
    def sample_name(self) -> str:
        """The name of its samples, suffixes of histograms apart."""
        return self.name + "_total" if self.kind == "counter" and not self.legacy else self.name


_LATENCY = "Elapsed times between a request's headers being received and its response stream completing"
_PROXY_ERROR = "could not be processed due to a proxy error."

_LEGACY = f"""
inbound_http_authz_allow_total|counter|The total number of inbound HTTP requests that were authorized
inbound_http_authz_deny_total|counter|The total number of inbound HTTP requests that {_PROXY_ERROR}
inbound_http_route_not_found_total|counter|The total number of inbound HTTP requests that could not be associated with a route
inbound_http_local_ratelimit_total|counter|The total number of inbound HTTP requests that were rate-limited
inbound_http_errors_total|counter|The total number of inbound HTTP requests that {_PROXY_ERROR}
inbound_tcp_authz_allow_total|counter|The total number of inbound TCP connections that were authorized
inbound_tcp_authz_deny_total|counter|The total number of inbound TCP connections that were denied
inbound_tcp_errors_total|counter|The total number of inbound TCP connections that {_PROXY_ERROR}
outbound_http_errors_total|counter|The total number of inbound HTTP requests that {_PROXY_ERROR}
outbound_tcp_errors_total|counter|The total number of outbound TCP connections that {_PROXY_ERROR}
request_total|counter|Total count of HTTP requests.
response_latency_ms|histogram|{_LATENCY}
response_total|counter|Total count of HTTP responses.
route_request_total|counter|Total count of HTTP requests.
route_response_latency_ms|histogram|{_LATENCY}
route_response_total|counter|Total count of HTTP responses.
route_retryable_total|counter|Total count of retryable HTTP responses.
route_actual_request_total|counter|Total count of HTTP requests.
route_actual_response_total|counter|Total count of HTTP responses.
control_request_total|counter|Total count of HTTP requests.
control_response_latency_ms|histogram|{_LATENCY}
control_response_total|counter|Total count of HTTP responses.
tcp_open_total|counter|Total count of opened connections
tcp_open_connections|gauge|Number of currently-open connections
tcp_read_bytes_total|counter|Total count of bytes read from peers
tcp_write_bytes_total|counter|Total count of bytes written to peers
tcp_close_total|counter|Total count of closed connections
opentelemetry_span_export_streams|counter|Total count of opened span export streams
opentelemetry_span_export_requests|counter|Total count of span export request messages
opentelemetry_span_exports|counter|Total count of spans exported
stack_create_total|counter|Total number of services created
stack_drop_total|counter|Total number of services dropped
stack_poll_total|counter|Total number of stack polls
stack_poll_total_ms|counter|Total number of milliseconds this service has spent awaiting readiness
"""

_BALANCER = """
{prefix}_balancer_endpoints|gauge|The number of endpoints currently in a HTTP request balancer.
{prefix}_balancer_p2c_endpoints|gauge|The number of endpoints currently in the balancer.
{prefix}_balancer_p2c_updates|counter|The total number of service discovery updates received by a balancer.
{prefix}_balancer_queue_length|gauge|The current count of requests waiting in the queue.
{prefix}_balancer_queue_requests|counter|The total number of requests that have entered the queue.
{prefix}_balancer_queue_latency_seconds|histogram|The distribution of durations that requests have spent in the queue.|seconds
{prefix}_balancer_queue_gate_open|counter|The total number of gate state changes to open.
{prefix}_balancer_queue_gate_shut|counter|The total number of gate state changes from open to shut.
{prefix}_balancer_queue_gate_open_time_seconds|gauge|The time at which the gate was opened.|seconds
{prefix}_balancer_queue_gate_shut_time_seconds|gauge|The time at which the gate was shut.|seconds
{prefix}_balancer_queue_gate_timeout_seconds|gauge|Indicates the request timeout after which the gate will shut and enter failfast.|seconds
"""

_ROUTE = """
outbound_{protocol}_route_request_duration_seconds|histogram|The time between request initialization and response completion.|seconds
outbound_{protocol}_route_request_frame_size_bytes|histogram|Request data frame sizes.|bytes
outbound_{protocol}_route_backend_requests|counter|The total number of requests dispatched.
outbound_{protocol}_route_backend_response_duration_seconds|histogram|The time between request completion and response completion.|seconds
outbound_{protocol}_route_backend_response_frame_size_bytes|histogram|Response data frame sizes.|bytes
outbound_{protocol}_route_backend_response_statuses|counter|Completed responses.
outbound_{protocol}_route_request_statuses|counter|Completed request-response streams.
outbound_{protocol}_route_retry_limit_exceeded|counter|Retryable requests not sent due to retry limits.
outbound_{protocol}_route_retry_overflow|counter|Retryable requests not sent due to circuit breakers.
outbound_{protocol}_route_retry_requests|counter|Retry requests emitted.
outbound_{protocol}_route_retry_successes|counter|Successful responses to retry requests.
"""

_RUNTIME = """
proxy_build_info|gauge|Proxy build info.
rustls_info|gauge|Proxy TLS info.
tokio_rt_workers|gauge|The number of worker threads used by the runtime.
tokio_rt_park|counter|Total number of times worker threads parked.
tokio_rt_noop|counter|Number of times workers unparked but found no new work.
tokio_rt_steal|counter|Number of tasks stolen by workers from others.
tokio_rt_steal_operations|counter|Number of times workers stole tasks from other.
tokio_rt_remote_schedule|counter|Total number of remote schedule operations.
tokio_rt_local_schedule|counter|Total number of local schedule operations.
tokio_rt_overflow|counter|Total number of overflow operations.
tokio_rt_polls|counter|The number of tasks that have been polled across all worker threads.
tokio_rt_busy_seconds|counter|Total duration of time when worker threads were busy processing tasks.|seconds
tokio_rt_injection_queue_depth|gauge|The number of tasks currently scheduled in the runtime's injection queue.
tokio_rt_local_queue_depth|gauge|The total number of tasks currently scheduled in workers' local queues.
tokio_rt_budget_forced_yield|counter|Number of times a worker thread was forced to yield due to budget exhaustion.
tokio_rt_io_driver_ready|counter|Number of times the IO driver was woken up.
control_dns_resolutions|counter|Counts the number of DNS records that have been resolved..
control_identity_cert_expiration_timestamp_seconds|gauge|Time when this proxy's current mTLS identity certificate will expire (in seconds since the UNIX epoch).|seconds
control_identity_cert_refresh_timestamp_seconds|gauge|Time when this proxy's current mTLS identity certificate was last updated.|seconds
control_identity_cert_refreshes|counter|The total number of times this proxy's mTLS identity certificate has been refreshed by the Identity provider.
"""

_INBOUND = """
inbound_tcp_detect_http_duration_seconds|histogram|Time taken for protocol detection.|seconds
inbound_tcp_detect_http_results|counter|Protocol detection results.
inbound_tcp_transport_header_connections|counter|TCP connections with transport headers.
inbound_grpc_requests|counter|The total number of requests dispatched.
inbound_http_requests|counter|The total number of requests dispatched.
inbound_grpc_request_frame_size_bytes|histogram|Request data frame sizes.|bytes
inbound_http_request_frame_size_bytes|histogram|Request data frame sizes.|bytes
inbound_grpc_request_duration_seconds|histogram|The time between request initialization and response completion.|seconds
inbound_http_request_duration_seconds|histogram|The time between request initialization and response completion.|seconds
inbound_grpc_response_frame_size_bytes|histogram|Response data frame sizes.|bytes
inbound_http_response_frame_size_bytes|histogram|Response data frame sizes.|bytes
inbound_grpc_response_duration_seconds|histogram|The time between request completion and response completion.|seconds
inbound_http_response_duration_seconds|histogram|The time between request completion and response completion.|seconds
inbound_grpc_statuses|counter|Completed gRPC responses.
inbound_http_statuses|counter|Completed HTTP responses.
outbound_tcp_protocol_connections|counter|Outbound TCP connections by protocol configuration.
outbound_tcp_detect_http_duration_seconds|histogram|Time taken for protocol detection.|seconds
outbound_tcp_detect_http_results|counter|Protocol detection results.
"""

_LAST = """
outbound_tcp_route_open|counter|The number of connections opened.
outbound_tcp_route_close|counter|The number of connections closed.
outbound_tcp_transfer_cost_bytes|counter|The total amount of data transferred in and out of this proxy, by cost zone.|bytes
outbound_tls_route_open|counter|The number of connections opened.
outbound_tls_route_close|counter|The number of connections closed.
process_start_time_seconds|gauge|Time that the process started (in seconds since the UNIX epoch).|seconds
process_clock_time_seconds|gauge|Current system time for this process.|seconds
process_uptime_seconds|counter|Total time since the process started (in seconds)|seconds
process_cpu_seconds|counter|Total user and system CPU time spent in seconds|seconds
process_virtual_memory_bytes|gauge|Virtual memory size in bytes|bytes
process_resident_memory_bytes|gauge|Resident memory size in bytes|bytes
process_open_fds|gauge|Number of open file descriptors
process_max_fds|gauge|Maximum number of open file descriptors
process_network_receive_bytes|counter|Number of bytes received by the process over the network|bytes
process_network_transmit_bytes|counter|Number of bytes sent by the process over the network|bytes
process_threads|gauge|Number of OS threads in the process.
"""

_REGISTRY = "".join((
    _RUNTIME,
    *(_BALANCER.format(prefix=f"control_{client}") for client in ("identity", "destination", "policy")),
    _INBOUND,
    _ROUTE.format(protocol="http"),
    _BALANCER.format(prefix="outbound_http"),
    _ROUTE.format(protocol="grpc"),
    _BALANCER.format(prefix="outbound_tcp"),
    _LAST,
))  # fmt: skip


def _read(table: str, legacy: bool) -> Iterator[DemoFamily]:
    for line in table.split("\n"):
        if line:
            name, kind, help_text, *unit = line.split("|")
            yield DemoFamily(name, kind, help_text, unit[0] if unit else "", legacy)  # type: ignore[arg-type]


PROXY_FAMILIES: dict[str, DemoFamily] = {
    family.name: family for family in (*_read(_LEGACY, True), *_read(_REGISTRY, False))
}
"""Every family a proxy's page may hold, in the order of the page."""
