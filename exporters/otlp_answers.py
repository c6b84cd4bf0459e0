"""What an OTLP destination's answer means: taken, try again, never again, or less at once. Sans-IO.

Rules: opentelemetry-proto ``docs/specification.md``, "OTLP/gRPC Response" and "OTLP/HTTP Response". A judging function
returns None, or a sentence to warn of, where the data was taken; else it raises ``Retry``, ``Rejected`` or ``TooLarge``.

protobuf's classes are imported by the first answer that says something: a start should not wait for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ebbtide import Rejected, Retry, TooLarge
from exporters.otlp_grpc_faults import connection_fault

if TYPE_CHECKING:
    from google.protobuf.message import Message

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
RETRYABLE_STATUS = frozenset({429, 502, 503, 504})
RETRYABLE_CODES = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
MAX_REASON = 300  # characters of a foreign message that are shown
MAX_WAIT = 24 * 3600.0  # seconds: a destination that asks for more is asked again after this long

# What servers say of a request above their limit: grpc-core, grpc-go, grpc-java, grpc-dotnet, tonic (by OUT_OF_RANGE).
_LARGER_THAN_MAX = re.compile(
    r"larger than max|exceeds maximum size|exceeds the maximum configured|message length too large", re.IGNORECASE
)

# What servers in Go, the Collector among them, say with 400 where 413 is meant: net/http's MaxBytesError.
_BODY_TOO_LARGE = "http: request body too large"


def judge_http(status: int, headers: Mapping[str, str], body: bytes, points: int, where: str, now: float) -> str | None:
    """Judge an HTTP answer to a request of so many points. ``headers`` in lower case, ``now`` Unix seconds."""
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if 200 <= status < 300:
        return _taken(content_type, body, points, where)
    reason = f"cannot deliver to {where}: HTTP {status}"
    said = _said(content_type, body)
    if said:
        reason += f", {said}"
    if status in RETRYABLE_STATUS:
        raise Retry(
            retry_after(headers.get("retry-after", ""), now),
            f"{reason}; where this lasts, see the log of the destination",
        )
    if status == 413 or (status == 400 and _BODY_TOO_LARGE in said):
        raise TooLarge(f"{reason}; the request is cut and sent again")
    if 300 <= status < 400:
        reason += ", a redirect to another place"
    raise Rejected(None, f"{reason}; {_CURES.get(status, 'see the log of the destination')}")


_CURES = {
    301: "set `endpoint` to where it points",
    302: "set `endpoint` to where it points",
    303: "set `endpoint` to where it points",
    307: "set `endpoint` to where it points",
    308: "set `endpoint` to where it points",
    400: "the destination takes this data for malformed",
    401: "set `headers` with the credentials it asks for",
    403: "check that the credentials in `headers` may write metrics",
    404: "check the path of `endpoint`; OTLP's own is /v1/metrics",
    405: "check the path of `endpoint`; OTLP's own is /v1/metrics",
    407: "set user and password in HTTP_PROXY or HTTPS_PROXY",
    415: "try another `protocol` or `compression`",
}


# The field partial_success with nothing in it: how a Collector says that all is well.
_EMPTY_PARTIAL_SUCCESS = b"\n\0"


def _taken(content_type: str, body: bytes, points: int, where: str) -> str | None:
    """The answer of success, which may still tell of points that were refused.

    An empty body is an empty message, which is what Prometheus and VictoriaMetrics answer, without a Content-Type.
    """
    if not body or (content_type, body) == (PROTOBUF, _EMPTY_PARTIAL_SUCCESS):
        return None
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    answer = ExportMetricsServiceResponse()
    if not _parse(content_type, body, answer):
        kind = content_type or "no Content-Type"
        return (
            f"the answer of {where} is not OTLP's ({kind}, {len(body)} bytes), taken for success; is it the right URL?"
        )
    return judge_partial(answer, points, where)


def judge_partial(answer: Any, points: int, where: str) -> str | None:
    """Judge an ExportMetricsServiceResponse; raise ``Rejected`` with the number of points that were refused."""
    rejected = min(max(answer.partial_success.rejected_data_points, 0), points)
    message = shorten(answer.partial_success.error_message)
    if rejected:
        raise Rejected(
            rejected, f"cannot deliver all to {where}: it refused {rejected} points, {message or 'without a reason'}"
        )
    return f"{where} says: {message}" if message else None


def _said(content_type: str, body: bytes) -> str:
    """What the destination says of a failure: google.rpc.Status, else its own text."""
    from google.rpc.status_pb2 import Status

    status = Status()
    if content_type in (PROTOBUF, JSON) and _parse(content_type, body, status) and status.message:
        return f'"{shorten(status.message)}"'
    if content_type in ("", "text/plain", JSON):
        text = shorten(body[: 4 * MAX_REASON].decode("utf-8", "replace"))
        return f'"{text}"' if text else ""
    return ""


def _parse(content_type: str, body: bytes, message: Message) -> bool:
    return {PROTOBUF: _parse_protobuf, JSON: _parse_json}.get(content_type, _parse_nothing)(body, message)


def _parse_protobuf(body: bytes, message: Message) -> bool:
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(body)
        return True
    except DecodeError:
        return False


def _parse_json(body: bytes, message: Message) -> bool:
    from google.protobuf import json_format

    try:
        json_format.Parse(body, message, ignore_unknown_fields=True)
        return True
    except (json_format.ParseError, ValueError):  # ValueError: not UTF-8, or not JSON
        return False


def _parse_nothing(body: bytes, message: Message) -> bool:
    return False


def judge_grpc(code: str, details: str, status_details: bytes, where: str, secure: bool = False) -> Exception:
    """Return what to raise for a gRPC failure. ``status_details``: the trailer grpc-status-details-bin.

    ``secure``: whether TLS is spoken, for what to try where no connection comes about.
    """
    fault = connection_fault(details, secure) if code == "UNAVAILABLE" else None
    if fault:
        why, cure = fault
        return Retry(None, f"cannot deliver to {where}: gRPC {code}, {shorten(why)}; {cure}")
    reason = f"cannot deliver to {where}: gRPC {code}"
    if details:
        reason += f', "{shorten(details)}"'
    if code == "RESOURCE_EXHAUSTED" and "CLIENT: Received" in details:
        return Rejected(None, f"{reason}; its answer is larger than `max_response`")
    if code in ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE") and _LARGER_THAN_MAX.search(details):
        return TooLarge(f"{reason}; the request is cut and sent again")
    delay = retry_delay(status_details)
    if code in RETRYABLE_CODES or (code == "RESOURCE_EXHAUSTED" and delay is not None):
        return Retry(delay, f"{reason}; where this lasts, see the log of the destination")
    return Rejected(None, f"{reason}; {_GRPC_CURES.get(code, 'see the log of the destination')}")


_GRPC_CURES = {
    "UNAUTHENTICATED": "set `headers` with the credentials it asks for",
    "PERMISSION_DENIED": "check that the credentials in `headers` may write metrics",
    "UNIMPLEMENTED": "check that the server at `endpoint` takes OTLP metrics by gRPC",
    "RESOURCE_EXHAUSTED": "it did not say when to try again, which OTLP takes for final",
}


def retry_after(text: str, now: float) -> float | None:
    """``"120"`` or an HTTP date -> seconds from ``now``, 0 for the past; None where it is neither. RFC 9110 §10.2.3."""
    text = text.strip()
    if re.fullmatch("[0-9]{1,15}", text):
        return min(float(text), MAX_WAIT)
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(moment.timestamp() - now, 0.0), MAX_WAIT)
    except (ValueError, TypeError, IndexError, OverflowError):  # what email.utils raises for nonsense
        return None


def retry_delay(status_details: bytes) -> float | None:
    """Return RetryInfo's delay in seconds from a serialized google.rpc.Status; None where there is none."""
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2, status_pb2

    info = error_details_pb2.RetryInfo()
    try:
        for detail in status_pb2.Status.FromString(status_details).details:
            if detail.Unpack(info):
                seconds = float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
                return min(max(seconds, 0.0), MAX_WAIT)
    except DecodeError:
        return None
    return None


def shorten(text: str) -> str:
    """A foreign message on one line, of bounded length, without what would break a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_REASON]).split())
    return line if len(line) <= MAX_REASON else line[: MAX_REASON - 1] + "…"
