"""The built-in table: what Linkerd's own pages say of their families, for when Prometheus has forgotten it.

One line a family, ``name|kind|unit|help``, exactly as the page's TYPE, UNIT and HELP lines have them. So the counters of
the proxy's registry part stand here without the ``_total`` that their samples end in, and those of the legacy part with
it, where they have one at all. A unit is a UNIT line's word; families without such a line have none.

Sources: pages of linkerd2-proxy 29637b64f (about v2.366) under traffic, in page order; linkerd2-proxy's and linkerd2's
sources for what those pages do not show; Prometheus for the five series that it adds to every scrape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

from ebbtide import Kind


class Entry(NamedTuple):
    """What a source says of a family; ``unit`` as a UNIT line's word."""

    kind: Kind
    unit: str = ""
    help: str = ""


_PROXY_LEGACY = """
inbound_http_authz_allow_total|counter||The total number of inbound HTTP requests that were authorized
inbound_http_authz_deny_total|counter||The total number of inbound HTTP requests that could not be processed due to a proxy error.
inbound_http_route_not_found_total|counter||The total number of inbound HTTP requests that could not be associated with a route
inbound_http_local_ratelimit_total|counter||The total number of inbound HTTP requests that were rate-limited
inbound_http_errors_total|counter||The total number of inbound HTTP requests that could not be processed due to a proxy error.
inbound_tcp_authz_allow_total|counter||The total number of inbound TCP connections that were authorized
inbound_tcp_authz_deny_total|counter||The total number of inbound TCP connections that were denied
inbound_tcp_errors_total|counter||The total number of inbound TCP connections that could not be processed due to a proxy error.
outbound_http_errors_total|counter||The total number of inbound HTTP requests that could not be processed due to a proxy error.
outbound_tcp_errors_total|counter||The total number of outbound TCP connections that could not be processed due to a proxy error.
request_total|counter||Total count of HTTP requests.
response_latency_ms|histogram||Elapsed times between a request's headers being received and its response stream completing
response_total|counter||Total count of HTTP responses.
route_request_total|counter||Total count of HTTP requests.
route_response_latency_ms|histogram||Elapsed times between a request's headers being received and its response stream completing
route_response_total|counter||Total count of HTTP responses.
route_retryable_total|counter||Total count of retryable HTTP responses.
route_actual_request_total|counter||Total count of HTTP requests.
route_actual_response_total|counter||Total count of HTTP responses.
control_request_total|counter||Total count of HTTP requests.
control_response_latency_ms|histogram||Elapsed times between a request's headers being received and its response stream completing
control_response_total|counter||Total count of HTTP responses.
tcp_open_total|counter||Total count of opened connections
tcp_open_connections|gauge||Number of currently-open connections
tcp_read_bytes_total|counter||Total count of bytes read from peers
tcp_write_bytes_total|counter||Total count of bytes written to peers
tcp_close_total|counter||Total count of closed connections
opentelemetry_span_export_streams|counter||Total count of opened span export streams
opentelemetry_span_export_requests|counter||Total count of span export request messages
opentelemetry_span_exports|counter||Total count of spans exported
stack_create_total|counter||Total number of services created
stack_drop_total|counter||Total number of services dropped
stack_poll_total|counter||Total number of stack polls
stack_poll_total_ms|counter||Total number of milliseconds this service has spent awaiting readiness
"""

_PROXY_REGISTRY = """
proxy_build_info|gauge||Proxy build info.
rustls_info|gauge||Proxy TLS info.
tokio_rt_workers|gauge||The number of worker threads used by the runtime.
tokio_rt_park|counter||Total number of times worker threads parked.
tokio_rt_noop|counter||Number of times workers unparked but found no new work.
tokio_rt_steal|counter||Number of tasks stolen by workers from others.
tokio_rt_steal_operations|counter||Number of times workers stole tasks from other.
tokio_rt_remote_schedule|counter||Total number of remote schedule operations.
tokio_rt_local_schedule|counter||Total number of local schedule operations.
tokio_rt_overflow|counter||Total number of overflow operations.
tokio_rt_polls|counter||The number of tasks that have been polled across all worker threads.
tokio_rt_busy_seconds|counter|seconds|Total duration of time when worker threads were busy processing tasks.
tokio_rt_injection_queue_depth|gauge||The number of tasks currently scheduled in the runtime's injection queue.
tokio_rt_local_queue_depth|gauge||The total number of tasks currently scheduled in workers' local queues.
tokio_rt_budget_forced_yield|counter||Number of times a worker thread was forced to yield due to budget exhaustion.
tokio_rt_io_driver_ready|counter||Number of times the IO driver was woken up.
control_dns_resolutions|counter||Counts the number of DNS records that have been resolved..
control_identity_cert_expiration_timestamp_seconds|gauge|seconds|Time when this proxy's current mTLS identity certificate will expire (in seconds since the UNIX epoch).
control_identity_cert_refresh_timestamp_seconds|gauge|seconds|Time when this proxy's current mTLS identity certificate was last updated.
control_identity_cert_refreshes|counter||The total number of times this proxy's mTLS identity certificate has been refreshed by the Identity provider.
control_identity_balancer_endpoints|gauge||The number of endpoints currently in a HTTP request balancer.
control_identity_balancer_p2c_endpoints|gauge||The number of endpoints currently in the balancer.
control_identity_balancer_p2c_updates|counter||The total number of service discovery updates received by a balancer.
control_identity_balancer_queue_length|gauge||The current count of requests waiting in the queue.
control_identity_balancer_queue_requests|counter||The total number of requests that have entered the queue.
control_identity_balancer_queue_latency_seconds|histogram|seconds|The distribution of durations that requests have spent in the queue.
control_identity_balancer_queue_gate_open|counter||The total number of gate state changes to open.
control_identity_balancer_queue_gate_shut|counter||The total number of gate state changes from open to shut.
control_identity_balancer_queue_gate_open_time_seconds|gauge|seconds|The time at which the gate was opened.
control_identity_balancer_queue_gate_shut_time_seconds|gauge|seconds|The time at which the gate was shut.
control_identity_balancer_queue_gate_timeout_seconds|gauge|seconds|Indicates the request timeout after which the gate will shut and enter failfast.
control_destination_balancer_endpoints|gauge||The number of endpoints currently in a HTTP request balancer.
control_destination_balancer_p2c_endpoints|gauge||The number of endpoints currently in the balancer.
control_destination_balancer_p2c_updates|counter||The total number of service discovery updates received by a balancer.
control_destination_balancer_queue_length|gauge||The current count of requests waiting in the queue.
control_destination_balancer_queue_requests|counter||The total number of requests that have entered the queue.
control_destination_balancer_queue_latency_seconds|histogram|seconds|The distribution of durations that requests have spent in the queue.
control_destination_balancer_queue_gate_open|counter||The total number of gate state changes to open.
control_destination_balancer_queue_gate_shut|counter||The total number of gate state changes from open to shut.
control_destination_balancer_queue_gate_open_time_seconds|gauge|seconds|The time at which the gate was opened.
control_destination_balancer_queue_gate_shut_time_seconds|gauge|seconds|The time at which the gate was shut.
control_destination_balancer_queue_gate_timeout_seconds|gauge|seconds|Indicates the request timeout after which the gate will shut and enter failfast.
control_policy_balancer_endpoints|gauge||The number of endpoints currently in a HTTP request balancer.
control_policy_balancer_p2c_endpoints|gauge||The number of endpoints currently in the balancer.
control_policy_balancer_p2c_updates|counter||The total number of service discovery updates received by a balancer.
control_policy_balancer_queue_length|gauge||The current count of requests waiting in the queue.
control_policy_balancer_queue_requests|counter||The total number of requests that have entered the queue.
control_policy_balancer_queue_latency_seconds|histogram|seconds|The distribution of durations that requests have spent in the queue.
control_policy_balancer_queue_gate_open|counter||The total number of gate state changes to open.
control_policy_balancer_queue_gate_shut|counter||The total number of gate state changes from open to shut.
control_policy_balancer_queue_gate_open_time_seconds|gauge|seconds|The time at which the gate was opened.
control_policy_balancer_queue_gate_shut_time_seconds|gauge|seconds|The time at which the gate was shut.
control_policy_balancer_queue_gate_timeout_seconds|gauge|seconds|Indicates the request timeout after which the gate will shut and enter failfast.
inbound_tcp_detect_http_duration_seconds|histogram|seconds|Time taken for protocol detection.
inbound_tcp_detect_http_results|counter||Protocol detection results.
inbound_tcp_transport_header_connections|counter||TCP connections with transport headers.
inbound_grpc_requests|counter||The total number of requests dispatched.
inbound_http_requests|counter||The total number of requests dispatched.
inbound_grpc_request_frame_size_bytes|histogram|bytes|Request data frame sizes.
inbound_http_request_frame_size_bytes|histogram|bytes|Request data frame sizes.
inbound_grpc_request_duration_seconds|histogram|seconds|The time between request initialization and response completion.
inbound_http_request_duration_seconds|histogram|seconds|The time between request initialization and response completion.
inbound_grpc_response_frame_size_bytes|histogram|bytes|Response data frame sizes.
inbound_http_response_frame_size_bytes|histogram|bytes|Response data frame sizes.
inbound_grpc_response_duration_seconds|histogram|seconds|The time between request completion and response completion.
inbound_http_response_duration_seconds|histogram|seconds|The time between request completion and response completion.
inbound_grpc_statuses|counter||Completed gRPC responses.
inbound_http_statuses|counter||Completed HTTP responses.
outbound_tcp_protocol_connections|counter||Outbound TCP connections by protocol configuration.
outbound_tcp_detect_http_duration_seconds|histogram|seconds|Time taken for protocol detection.
outbound_tcp_detect_http_results|counter||Protocol detection results.
outbound_http_route_request_duration_seconds|histogram|seconds|The time between request initialization and response completion.
outbound_http_route_request_frame_size_bytes|histogram|bytes|Request data frame sizes.
outbound_http_route_backend_requests|counter||The total number of requests dispatched.
outbound_http_route_backend_response_duration_seconds|histogram|seconds|The time between request completion and response completion.
outbound_http_route_backend_response_frame_size_bytes|histogram|bytes|Response data frame sizes.
outbound_http_route_backend_response_statuses|counter||Completed responses.
outbound_http_route_request_statuses|counter||Completed request-response streams.
outbound_http_route_retry_limit_exceeded|counter||Retryable requests not sent due to retry limits.
outbound_http_route_retry_overflow|counter||Retryable requests not sent due to circuit breakers.
outbound_http_route_retry_requests|counter||Retry requests emitted.
outbound_http_route_retry_successes|counter||Successful responses to retry requests.
outbound_http_balancer_endpoints|gauge||The number of endpoints currently in a HTTP request balancer.
outbound_http_balancer_p2c_endpoints|gauge||The number of endpoints currently in the balancer.
outbound_http_balancer_p2c_updates|counter||The total number of service discovery updates received by a balancer.
outbound_http_balancer_queue_length|gauge||The current count of requests waiting in the queue.
outbound_http_balancer_queue_requests|counter||The total number of requests that have entered the queue.
outbound_http_balancer_queue_latency_seconds|histogram|seconds|The distribution of durations that requests have spent in the queue.
outbound_http_balancer_queue_gate_open|counter||The total number of gate state changes to open.
outbound_http_balancer_queue_gate_shut|counter||The total number of gate state changes from open to shut.
outbound_http_balancer_queue_gate_open_time_seconds|gauge|seconds|The time at which the gate was opened.
outbound_http_balancer_queue_gate_shut_time_seconds|gauge|seconds|The time at which the gate was shut.
outbound_http_balancer_queue_gate_timeout_seconds|gauge|seconds|Indicates the request timeout after which the gate will shut and enter failfast.
outbound_grpc_route_request_duration_seconds|histogram|seconds|The time between request initialization and response completion.
outbound_grpc_route_request_frame_size_bytes|histogram|bytes|Request data frame sizes.
outbound_grpc_route_backend_requests|counter||The total number of requests dispatched.
outbound_grpc_route_backend_response_duration_seconds|histogram|seconds|The time between request completion and response completion.
outbound_grpc_route_backend_response_frame_size_bytes|histogram|bytes|Response data frame sizes.
outbound_grpc_route_backend_response_statuses|counter||Completed responses.
outbound_grpc_route_request_statuses|counter||Completed request-response streams.
outbound_grpc_route_retry_limit_exceeded|counter||Retryable requests not sent due to retry limits.
outbound_grpc_route_retry_overflow|counter||Retryable requests not sent due to circuit breakers.
outbound_grpc_route_retry_requests|counter||Retry requests emitted.
outbound_grpc_route_retry_successes|counter||Successful responses to retry requests.
outbound_tcp_balancer_endpoints|gauge||The number of endpoints currently in a HTTP request balancer.
outbound_tcp_balancer_p2c_endpoints|gauge||The number of endpoints currently in the balancer.
outbound_tcp_balancer_p2c_updates|counter||The total number of service discovery updates received by a balancer.
outbound_tcp_balancer_queue_length|gauge||The current count of requests waiting in the queue.
outbound_tcp_balancer_queue_requests|counter||The total number of requests that have entered the queue.
outbound_tcp_balancer_queue_latency_seconds|histogram|seconds|The distribution of durations that requests have spent in the queue.
outbound_tcp_balancer_queue_gate_open|counter||The total number of gate state changes to open.
outbound_tcp_balancer_queue_gate_shut|counter||The total number of gate state changes from open to shut.
outbound_tcp_balancer_queue_gate_open_time_seconds|gauge|seconds|The time at which the gate was opened.
outbound_tcp_balancer_queue_gate_shut_time_seconds|gauge|seconds|The time at which the gate was shut.
outbound_tcp_balancer_queue_gate_timeout_seconds|gauge|seconds|Indicates the request timeout after which the gate will shut and enter failfast.
outbound_tcp_route_open|counter||The number of connections opened.
outbound_tcp_route_close|counter||The number of connections closed.
outbound_tcp_transfer_cost_bytes|counter|bytes|The total amount of data transferred in and out of this proxy, by cost zone.
outbound_tls_route_open|counter||The number of connections opened.
outbound_tls_route_close|counter||The number of connections closed.
process_start_time_seconds|gauge|seconds|Time that the process started (in seconds since the UNIX epoch).
process_clock_time_seconds|gauge|seconds|Current system time for this process.
process_uptime_seconds|counter|seconds|Total time since the process started (in seconds)
process_cpu_seconds|counter|seconds|Total user and system CPU time spent in seconds
process_virtual_memory_bytes|gauge|bytes|Virtual memory size in bytes
process_resident_memory_bytes|gauge|bytes|Resident memory size in bytes
process_open_fds|gauge||Number of open file descriptors
process_max_fds|gauge||Maximum number of open file descriptors
process_network_receive_bytes|counter|bytes|Number of bytes received by the process over the network
process_network_transmit_bytes|counter|bytes|Number of bytes sent by the process over the network
process_threads|gauge||Number of OS threads in the process.
"""

# Families that a proxy has only when so configured, and those of older proxies.
_PROXY_OTHER = """
inbound_tcp_authz_terminate_total|counter||The total number of inbound TCP connections that were terminated due to an authorization change
identity_cert_expiration_timestamp_seconds|gauge||Time when the this proxy's current mTLS identity certificate will expire (in seconds since the UNIX epoch).
identity_cert_refresh_count|counter||The total number of times this proxy's mTLS identity certificate has been refreshed by the Identity service.
opencensus_span_export_streams|counter||Total count of opened span export streams
opencensus_span_export_requests|counter||Total count of span export request messages
opencensus_span_exports|counter||Total count of spans exported
tcp_connection_duration_ms|histogram||Connection lifetimes
outbound_tls_balancer_endpoints|gauge||The number of endpoints currently in a HTTP request balancer.
outbound_tls_balancer_p2c_endpoints|gauge||The number of endpoints currently in the balancer.
outbound_tls_balancer_p2c_updates|counter||The total number of service discovery updates received by a balancer.
outbound_tls_balancer_queue_length|gauge||The current count of requests waiting in the queue.
outbound_tls_balancer_queue_requests|counter||The total number of requests that have entered the queue.
outbound_tls_balancer_queue_latency_seconds|histogram|seconds|The distribution of durations that requests have spent in the queue.
outbound_tls_balancer_queue_gate_open|counter||The total number of gate state changes to open.
outbound_tls_balancer_queue_gate_shut|counter||The total number of gate state changes from open to shut.
outbound_tls_balancer_queue_gate_open_time_seconds|gauge|seconds|The time at which the gate was opened.
outbound_tls_balancer_queue_gate_shut_time_seconds|gauge|seconds|The time at which the gate was shut.
outbound_tls_balancer_queue_gate_timeout_seconds|gauge|seconds|Indicates the request timeout after which the gate will shut and enter failfast.
opentelemetry_balancer_endpoints|gauge||The number of endpoints currently in a HTTP request balancer.
opentelemetry_balancer_p2c_endpoints|gauge||The number of endpoints currently in the balancer.
opentelemetry_balancer_p2c_updates|counter||The total number of service discovery updates received by a balancer.
opentelemetry_balancer_queue_length|gauge||The current count of requests waiting in the queue.
opentelemetry_balancer_queue_requests|counter||The total number of requests that have entered the queue.
opentelemetry_balancer_queue_latency_seconds|histogram|seconds|The distribution of durations that requests have spent in the queue.
opentelemetry_balancer_queue_gate_open|counter||The total number of gate state changes to open.
opentelemetry_balancer_queue_gate_shut|counter||The total number of gate state changes from open to shut.
opentelemetry_balancer_queue_gate_open_time_seconds|gauge|seconds|The time at which the gate was opened.
opentelemetry_balancer_queue_gate_shut_time_seconds|gauge|seconds|The time at which the gate was shut.
opentelemetry_balancer_queue_gate_timeout_seconds|gauge|seconds|Indicates the request timeout after which the gate will shut and enter failfast.
"""

# The control plane, viz and the multicluster extension: Go programs, whose text pages have no UNIT lines.
_CONTROLLERS = """
issuer_cert_ttl_seconds|gauge||The remaining seconds until the issuer certificate expires
cluster_store_size|gauge||The number of linked clusters in the remote discovery cluster store
endpoints_subscribers|gauge||A gauge for the current number of subscribers to a endpoints.
endpoints_updates|counter||A counter for number of updates to a endpoints.
profile_subscribers|gauge||A gauge for the current number of subscribers to a profile.
profile_updates|counter||A counter for number of updates to a profile.
endpoints_pods|gauge||A gauge for the current number of pods in a endpoints.
endpoints_exists|gauge||A gauge which is 1 if the endpoints exists and 0 if it does not.
endpoint_updates_queue_overflow|counter||A counter incremented whenever the endpoint updates queue overflows
endpoint_profile_updates_queue_overflow|counter||A counter incremented whenever the endpoint profile updates queue overflows
profile_updates_queue_overflow|counter||A counter incremented whenever the profile updates queue overflows
endpoints_informer_lag_seconds|histogram||The amount of time between when an Endpoints resource is updated and when an informer observes it
endpointslices_informer_lag_seconds|histogram||The amount of time between when an EndpointSlice resource is updated and when an informer observes it
services_informer_lag_seconds|histogram||The amount of time between when a Service resource is updated and when an informer observes it
servers_informer_lag_seconds|histogram||The amount of time between when a Server resource is updated and when an informer observes it
pods_informer_lag_seconds|histogram||The amount of time between when a Pod resource is updated and when an informer observes it
externalworkload_informer_lag_seconds|histogram||The amount of time between when an ExternalWorkload resource is updated and when an informer observes it
serviceprofiles_informer_lag_seconds|histogram||The amount of time between when a ServiceProfile resource is updated and when an informer observes it
endpoints_cache_size|gauge||Number of items in the client-go endpoints cache
job_cache_size|gauge||Number of items in the client-go job cache
node_cache_size|gauge||Number of items in the client-go node cache
pod_cache_size|gauge||Number of items in the client-go pod cache
service_cache_size|gauge||Number of items in the client-go service cache
serviceprofile_cache_size|gauge||Number of items in the client-go serviceprofile cache
proxy_inject_admission_requests_total|counter||A counter for number of admission requests to proxy injector.
proxy_inject_admission_responses_total|counter||A counter for number of admission responses from proxy injector.
http_server_requests_total|counter||A counter for requests to the wrapped handler.
http_server_request_latency_seconds|histogram||A histogram of latencies for requests in seconds.
http_server_response_size_bytes|histogram||A histogram of response sizes for requests.
http_client_requests_total|counter||A counter for requests from the wrapped client.
http_client_errors_total|counter||A counter for errors from the wrapped client.
http_client_request_latency_seconds|histogram||A histogram of request latencies.
http_client_in_flight_requests|gauge||A gauge of in-flight requests for the wrapped client.
grpc_server_started_total|counter||Total number of RPCs started on the server.
grpc_server_handled_total|counter||Total number of RPCs completed on the server, regardless of success or failure.
grpc_server_msg_received_total|counter||Total number of RPC stream messages received on the server.
grpc_server_msg_sent_total|counter||Total number of gRPC stream messages sent by the server.
grpc_server_handling_seconds|histogram||Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.
grpc_client_started_total|counter||Total number of RPCs started on the client.
grpc_client_handled_total|counter||Total number of RPCs completed by the client, regardless of success or failure.
grpc_client_msg_received_total|counter||Total number of RPC stream messages received by the client.
grpc_client_msg_sent_total|counter||Total number of gRPC stream messages sent by the client.
grpc_client_handling_seconds|histogram||Histogram of response latency (seconds) of the gRPC until it is finished by the application.
workqueue_adds_total|counter||Total number of adds handled by workqueue
workqueue_depth|gauge||Current depth of workqueue
workqueue_queue_duration_seconds|histogram||How long in seconds an item stays in workqueue before being requested.
workqueue_work_duration_seconds|histogram||How long in seconds processing an item from workqueue takes.
workqueue_unfinished_work_seconds|gauge||How many seconds of work has been done that is in progress and hasn't been observed by work_duration.
workqueue_longest_running_processor_seconds|gauge||How many seconds has the longest running processor for workqueue been running.
workqueue_retries_total|counter||Total number of retries handled by workqueue
go_gc_duration_seconds|summary||A summary of the pause duration of garbage collection cycles.
go_goroutines|gauge||Number of goroutines that currently exist.
go_threads|gauge||Number of OS threads created.
go_info|gauge||Information about the Go environment.
go_memstats_alloc_bytes|gauge||Number of bytes allocated and still in use.
go_memstats_heap_alloc_bytes|gauge||Number of heap bytes allocated and still in use.
go_memstats_heap_inuse_bytes|gauge||Number of heap bytes that are in use.
go_memstats_sys_bytes|gauge||Number of bytes obtained from system.
process_virtual_memory_max_bytes|gauge||Maximum amount of virtual memory available in bytes.
service_mirror_endpoint_repairs|counter||Increments when the service mirror controller attempts to repair mirror endpoints
gateway_alive|gauge||A gauge which is 1 if the gateway is alive and 0 if it is not.
gateway_enabled|gauge||A gauge which is 1 if the gateway is enabled, and 0 if it is not
gateway_latency|gauge||A gauge which is the latency of the last probe to the gateway.
gateway_probe_latency_ms|histogram||A histogram of latencies to a gateway in a target cluster.
gateway_probes|counter||A counter for the number of actual performed probes to a gateway
probe_manager_event_enqueues|counter||A counter for the number of enqueued events to the probe manager
probe_manager_event_dequeues|counter||A counter for the number of dequeued events to the probe manager
up|gauge||Whether the target could be scraped.
scrape_duration_seconds|gauge||How long the scrape took.
scrape_samples_scraped|gauge||Samples that the target exposed.
scrape_samples_post_metric_relabeling|gauge||Samples left after metric relabelling.
scrape_series_added|gauge||Series new in this scrape, approximately.
"""


def _read(table: str) -> Iterator[tuple[str, Entry]]:
    for line in table.strip().splitlines():
        name, kind, unit, help_text = line.split("|")
        yield name, Entry(cast(Kind, kind), unit, help_text)


LINKERD_FAMILIES: dict[str, Entry] = {
    name: entry
    for table in (_CONTROLLERS, _PROXY_OTHER, _PROXY_LEGACY, _PROXY_REGISTRY)
    for name, entry in _read(table)
}
"""Families by the name on their TYPE line."""
