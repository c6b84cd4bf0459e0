"""What answers mean, for every status class and gRPC code, by the specification's own lists."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from ebbtide import Rejected, Retry, TooLarge
from exporters.otlp_answers import JSON, MAX_WAIT, PROTOBUF, judge_grpc, judge_http, retry_after, retry_delay

NOW = 1_763_879_000.0
WHERE = "http://c:4318/v1/metrics"


def judge(status: int, body: bytes = b"", content_type: str = PROTOBUF, **headers: str) -> str | None:
    return judge_http(status, {"content-type": content_type, **headers}, body, 10, WHERE, NOW)


def test_status_codes_of_the_specification(vectors: Path):
    rules = json.loads((vectors / "otel_spec" / "otlp_protocol.json").read_text())
    retryable = set(rules["http_retryable_status"])
    assert retryable == {429, 502, 503, 504}
    for status in range(300, 600):
        expected = Retry if status in retryable else TooLarge if status == 413 else Rejected
        with pytest.raises(expected) as caught:
            judge(status)
        assert str(caught.value).startswith(f"cannot deliver to {WHERE}: HTTP {status}")
        if isinstance(caught.value, Rejected):
            assert caught.value.points is None


def test_the_collectors_word_for_too_large():
    """otlpreceiver answers 400 where its `max_request_body_size` is passed: net/http's sentence in a google.rpc.Status."""
    said = status_pb2.Status(code=3, message="http: request body too large")
    with pytest.raises(TooLarge, match="the request is cut and sent again"):
        judge(400, said.SerializeToString())
    with pytest.raises(TooLarge):
        judge(400, b'{"code":3,"message":"http: request body too large"}', JSON)
    with pytest.raises(Rejected):
        judge(400, status_pb2.Status(code=3, message="proto: wrong wireType").SerializeToString())


def test_grpc_codes_of_the_specification(vectors: Path):
    rules = json.loads((vectors / "otel_spec" / "otlp_protocol.json").read_text())
    only_with_info = rules["grpc_retryable_only_with_RetryInfo"]
    seen = {"OK", *rules["grpc_retryable"], *only_with_info, *rules["grpc_not_retryable"]}
    assert seen == {code.name for code in grpc.StatusCode}
    for code in sorted(seen - {"OK"}):
        raised = judge_grpc(code, "why", b"", WHERE)
        assert isinstance(raised, Retry if code in rules["grpc_retryable"] else Rejected), code
        assert f'gRPC {code}, "why"' in str(raised)
        informed = judge_grpc(code, "why", details(7.5), WHERE)
        if code in (*rules["grpc_retryable"], *only_with_info):
            assert isinstance(informed, Retry)
            assert informed.after == 7.5
        else:
            assert isinstance(informed, Rejected)


def details(seconds: float) -> bytes:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=8, details=[any_pb2.Any(type_url="x/y"), packed]).SerializeToString()


@pytest.mark.parametrize(
    ("data", "delay"), [(details(7.5), 7.5), (details(-3), 0.0), (details(1e9), MAX_WAIT), (b"", None), (b"\xff", None)]
)
def test_retry_info(data: bytes, delay: float | None):
    assert retry_delay(data) == delay


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("99999999999", MAX_WAIT),
        ("9" * 5000, None),
        ("Sun, 23 Nov 2025 06:24:20 GMT", 60.0),
        ("Sunday, 23-Nov-25 06:24:20 GMT", 60.0),
        ("Sun, 23 Nov 2025 06:24:20", 60.0),
        ("Sat, 22 Nov 2025 06:24:20 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
    ],
)
def test_retry_after(text: str, after: float | None):
    assert retry_after(text, NOW) == after
    with pytest.raises(Retry) as caught:
        judge(503, **{"retry-after": text})
    assert caught.value.after == after


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        (PROTOBUF, status_pb2.Status(message="no such tenant").SerializeToString(), ', "no such tenant";'),
        (JSON, b'{"code":3,"message":"no such tenant"}', ', "no such tenant";'),
        (JSON + "; charset=utf-8", b'{"code":3,"message":"no such tenant","x":1}', ', "no such tenant";'),
        (JSON, b'{"error":"x"}', """, "{"error":"x"}";"""),
        ("text/plain", b"go\naway\x1b[31m", ', "go away [31m";'),
        ("text/html", b"<html>", "400;"),
        (PROTOBUF, b"\xff", "400;"),
        ("text/plain", b"x" * 10_000, 'x…";'),
    ],
)
def test_what_the_destination_says(content_type: str, body: bytes, said: str):
    with pytest.raises(Rejected) as caught:
        judge(400, body, content_type)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


def partial(rejected: int, message: str = "") -> bytes:
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = rejected
    answer.partial_success.error_message = message
    return answer.SerializeToString()


@pytest.mark.parametrize(
    ("body", "content_type", "points"),
    [
        (partial(3, "too old"), PROTOBUF, 3),
        (b'{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too old"}}', JSON, 3),
        (b'{"partialSuccess":{"rejectedDataPoints":3,"errorMessage":"too old"}}', JSON, 3),
        (partial(10**12, "too old"), PROTOBUF, 10),
    ],
)
def test_partial_success(body: bytes, content_type: str, points: int):
    with pytest.raises(Rejected, match=r"refused \d+ points, too old") as caught:
        judge(200, body, content_type)
    assert caught.value.points == points


@pytest.mark.parametrize(
    ("status", "body", "content_type", "warning"),
    [
        (200, b"", PROTOBUF, None),
        (200, b"{}", JSON, None),
        (200, partial(0), PROTOBUF, None),
        (200, partial(-4), PROTOBUF, None),
        (202, b"", "", None),
        (204, b"", "", None),
        (200, partial(0, "slow down"), PROTOBUF, f"{WHERE} says: slow down"),
        (200, b"", "", None),
        (200, b"", JSON, None),
        (200, b"\0", "", "is not OTLP's (no Content-Type, 1 bytes), taken for success"),
        (200, b"<html>", "text/html; x", "is not OTLP's (text/html, 6 bytes), taken for success"),
        (200, b"\xff\xff", PROTOBUF, "is not OTLP's"),
        (200, b"[1]", JSON, "is not OTLP's"),
        (200, b"\xff", JSON, "is not OTLP's"),
    ],
)
def test_success(status: int, body: bytes, content_type: str, warning: str | None):
    got = judge(status, body, content_type)
    assert got == warning if warning is None else warning in (got or "")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (10 vs. 4)"),
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (10 vs. 4)"),
        ("RESOURCE_EXHAUSTED", "grpc: received message after decompression larger than max 4"),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4: 10"),
        ("RESOURCE_EXHAUSTED", "Received message exceeds the maximum configured message size."),
        ("OUT_OF_RANGE", "Error, message length too large: found 10 bytes, the limit is: 4 bytes"),
    ],
)
def test_grpc_too_large(code: str, said: str):
    assert isinstance(judge_grpc(code, said, b"", WHERE), TooLarge)


@pytest.mark.parametrize("form", ["{}", "Stream removed ({})"])
def test_grpc_answer_too_large_is_final(form: str):
    said = form.format("CLIENT: Received message larger than max (10 vs. 4)")
    raised = judge_grpc("RESOURCE_EXHAUSTED", said, b"", WHERE)
    assert isinstance(raised, Rejected)
    assert "max_response" in str(raised)
