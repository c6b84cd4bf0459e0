"""The rules, one by one, and the mark that says which of them a test passes.

Sources: opentelemetry-proto ``docs/specification.md``; opentelemetry-specification ``specification/protocol/exporter.md``
and ``specification/configuration/sdk-environment-variables.md``. The first number of a rule's name is its place in the
check-list; a rule that says several things is split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

PROTOBUF, JSON, GRPC = PROTOCOLS = ("http/protobuf", "http/json", "grpc")
HTTP = (PROTOBUF, JSON)

HTTP_HAS_NONE = dict.fromkeys(HTTP, "gRPC alone has it")
GRPC_HAS_NONE = {GRPC: "HTTP alone has it"}
NOT_JSON = dict.fromkeys((PROTOBUF, GRPC), "JSON alone has it")


@dataclass(frozen=True)
class Rule:
    """One rule. ``level``: MUST, SHOULD, MAY, or who else says so. ``apart``: why it does not apply, by protocol."""

    name: str
    says: str
    level: str = "MUST"
    apart: Mapping[str, str] = field(default_factory=dict)


def rule(name: str, *protocols: str) -> pytest.MarkDecorator:
    """Mark a test as one of a rule: by these protocols, or by the one that its parameter ``protocol`` names."""
    assert name in RULES, name
    assert set(protocols) <= set(PROTOCOLS), protocols
    return pytest.mark.otlp(name, protocols)


_SPECIFICATION = (
    Rule("1", "The codes CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS are tried again", "SHOULD", HTTP_HAS_NONE),
    Rule("2.1", "RESOURCE_EXHAUSTED without RetryInfo is final", "SHOULD", HTTP_HAS_NONE),
    Rule("2.2", "RESOURCE_EXHAUSTED with RetryInfo is tried again", "SHOULD", HTTP_HAS_NONE),
    Rule("3.1", "Every other code is final: the data is dropped and not sent again", "MUST", HTTP_HAS_NONE),
    Rule("3.2", "What is dropped is counted", "SHOULD"),
    Rule("4.1", "RetryInfo's delay is waited for at least; one that cannot be read is none", "SHOULD", HTTP_HAS_NONE),
    Rule("4.2", "The back-off grows from the delay that was asked for, up to its cap", "SHOULD"),
    Rule("5.1", "429, 502, 503 and 504 are tried again", "SHOULD", GRPC_HAS_NONE),
    Rule("5.2", "Every other status of 4xx and 5xx is final", "MUST", GRPC_HAS_NONE),
    Rule("5.3", "After 400 the same data is never sent again, though its answer breaks off", "MUST", GRPC_HAS_NONE),
    Rule("6.1", "Retry-After in seconds is honoured", "SHOULD", GRPC_HAS_NONE),
    Rule("6.2", "Retry-After as a date is honoured", "SHOULD", GRPC_HAS_NONE),
    Rule("6.3", "Retry-After that is absent or nonsense leaves the own back-off; one beyond all bounds is bounded", "SHOULD", GRPC_HAS_NONE),
    Rule("7.1", "The back-off grows exponentially, up to its cap, and begins anew after a success"),
    Rule("7.2", "The back-off has a random jitter"),
    Rule("7.3", "A connection that does not come about is tried again", "SHOULD"),
    Rule("7.4", "A connection that breaks before the end of the answer, in whatever phase, makes the same request be sent again", "SHOULD"),
    Rule("7.5", "A kept connection that the server closes at its next use costs no failure", "RFC 9112 §9.3.1"),
    Rule("7.6", "A server that goes away in good order (GOAWAY, Connection: close) costs nothing", "RFC 9113 §6.8"),
    Rule("7.7", "One deadline is around the whole exchange: a server that drips or stops reading does not defeat it", "MUST"),
    Rule("8.1", "200 with an ExportMetricsServiceResponse in the content type of the request (gRPC: OK) is success"),
    Rule("8.2", "200 with nonsense, another content type, or a body that cannot be inflated is success, with one warning", "ours"),
    Rule("9.1", "A partial success is not tried again"),
    Rule("9.2", "Rejected points are counted, never more than were sent, and the message is shown", "MUST"),
    Rule("9.3", "A message without rejected points is a warning"),
    Rule("10.1", "The message of google.rpc.Status in the body of an error (gRPC: the status message) is shown", "MAY"),
    Rule("10.2", "What else an error's body says is shown on one line, bounded; nonsense does no harm", "ours"),
    Rule("11.1", "Content-Type is application/x-protobuf or application/json; gRPC calls MetricsService/Export"),
    Rule("11.2", "What is compressed says so, by Content-Encoding: gzip (gRPC: grpc-encoding)"),
    Rule("11.3", "A client of HTTP/2 falls back to HTTP/1.1", "SHOULD", {
        **dict.fromkeys(HTTP, "the client speaks HTTP/1.1"), GRPC: "gRPC is HTTP/2"}),
    Rule("11.4", "Redirects are followed at home, and are final where they lead elsewhere or would change the method", "RFC 9110 §15.4", GRPC_HAS_NONE),
    Rule("11.5", "Neither credentials nor data go to another host", "RFC 9110 §15.4", GRPC_HAS_NONE),
    Rule("12.1", "Keys are lowerCamelCase", "MUST", NOT_JSON),
    Rule("12.2", "Enums are numbers", "MUST", NOT_JSON),
    Rule("12.3", "Trace and span ids are hexadecimal", "MUST", NOT_JSON),
    Rule("12.4", "64-bit integers are written as decimal strings, and read as strings or numbers", "MUST", NOT_JSON),
    Rule("12.5", "Bytes other than ids are base64; NaN and infinities are strings", "MUST", NOT_JSON),
    Rule("13.1", "The default path is /v1/metrics", "SHOULD", GRPC_HAS_NONE),
    Rule("13.2", "The default port is 4318 over HTTP, 4317 by gRPC", "SHOULD"),
    Rule("13.3", "Connections are kept between requests", "SHOULD"),
    Rule("14.1", "The largest request is an option, 64 MiB before compression by default"),
    Rule("14.2", "No request larger than that, or than `batch.max_bytes`, is sent: it is cut"),
    Rule("14.3", "A point that does not fit is dropped, and recorded; the others go", "SHOULD"),
    Rule("14.4", "The largest answer is an option, 4 MiB by default; a larger one, inflated, is a failure that is not tried again"),
    Rule("14.5", "413, and gRPC's \"larger than max\", are not tried again as they are: the request is cut, down to one point"),
    Rule("15.1", "The number of requests in flight is configurable", "SHOULD", dict.fromkeys(
        PROTOCOLS, "one at a time, so that the points of a series stay in order; requests are joined to `batch.max_bytes` instead")),
    Rule("15.2", "Each destination has a queue of its own: a slow one holds up no other", "SHOULD"),
    Rule("16", "There is no empty ResourceMetrics, ScopeMetrics or Metric", "SHOULD"),
    Rule("17", "A stop waits for the answer in flight and for what is held, up to `shutdown_timeout`", "SHOULD"),
    Rule("18.1", "Compression none and gzip"),
    Rule("18.2", "Compression zstd", "MAY", {GRPC: "gRPC has no zstd; a configuration error says so"}),
    Rule("19", "User-Agent is OTel-OTLP-Exporter-Python/VERSION, preceded by the product", "SHOULD"),
    Rule("20.1", "Unknown fields of answers do no harm"),
    Rule("20.2", "A stream that ended is a point with flag 1, NoRecordedValue, and without a value"),
)  # fmt: skip

_WAY_THERE = (
    Rule("T.1", "An authority that is not trusted: refused, tried again, with what to try", "ours"),
    Rule("T.2", "A certificate for another host: likewise; `tls.server_name` helps", "ours"),
    Rule("T.3", "A certificate that has expired: likewise", "ours"),
    Rule("T.4", "A client certificate that is missing or not trusted: likewise", "ours"),
    Rule("T.5", "TLS to a port of plain text, and plain text to a port of TLS: likewise", "ours"),
    Rule("T.6", "The protocol of another port (HTTP/1.1 to gRPC's, gRPC to HTTP's): likewise", "ours"),
    Rule("T.7", "A server below TLS 1.2: likewise", "ours"),
    Rule("T.8", "Mutual TLS", "MUST"),
    Rule("T.9", "Certificate files that change are used from the next request on; half-written ones leave the old in use", "ours"),
    Rule("T.10", "Proxies of the environment are obeyed, but not to loopback and not where NO_PROXY says so", "as the Collector"),
    Rule("T.11", "No error shows a password, token or header value", "ours"),
)  # fmt: skip

_EVERYWHERE = (
    Rule("ENV.1", "An empty variable is an unset one"),
    Rule("ENV.2", "The form with METRICS beats the generic one", "MUST"),
    Rule("ENV.3", "The file beats the environment", "ours"),
    Rule("ENV.4", "A value that cannot be used is ignored with a warning that names the variable and does not show it", "MUST"),
)  # fmt: skip

_PREFIX = "OTEL_EXPORTER_OTLP_"
_GENERIC = (
    Rule("ENDPOINT", "Over HTTP a base URL, to which v1/metrics is appended; by gRPC a URL, or host:port"),
    Rule("INSECURE", "Whether an endpoint without a scheme is plain text; a scheme beats it", "MAY", dict.fromkeys(HTTP, "gRPC alone has it")),
    Rule("CERTIFICATE", "The authority to trust"),
    Rule("CLIENT_KEY", "The key of the client certificate; one without a certificate is ignored with a warning"),
    Rule("CLIENT_CERTIFICATE", "The client certificate"),
    Rule("HEADERS", "key=value, separated by commas, percent-encoded"),
    Rule("COMPRESSION", "none, gzip (and zstd over HTTP)"),
    Rule("TIMEOUT", "Milliseconds; 0 is none"),
    Rule("PROTOCOL", "grpc, http/protobuf, http/json"),
)  # fmt: skip
_FOR_METRICS = {"ENDPOINT": "Over HTTP used as it is, with the path / where it has none; by gRPC a URL, or host:port"}

_VARIABLES = tuple(
    Rule(f"{_PREFIX}{form}{one.name}", _FOR_METRICS.get(one.name, one.says) if form else one.says, one.level, one.apart)
    for one in _GENERIC
    for form in ("", "METRICS_")
)

CHAPTERS = {
    "The protocol": _SPECIFICATION,
    "The way there": _WAY_THERE,
    "The environment": (*_EVERYWHERE, *_VARIABLES),
}
RULES = {one.name: one for rules in CHAPTERS.values() for one in rules}
