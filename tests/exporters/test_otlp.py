"""The exporter "otlp" over HTTP, against a server that says exactly what it is told."""

from __future__ import annotations

import gzip
import logging
import socket
from typing import Any

import pytest
import trio
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from pydantic import ValidationError

from agent.backlog import Backlog
from agent.folded import FoldedLog
from agent.scripted import Step, answer, serve, then_close, then_hang, then_reset
from agent.settings import OutboxSettings
from agent.testing import comparable, reference_request
from ebbtide import Batch, ConfigError, Payload, Rejected, Retry, TooLarge
from exporters.otlp import OTLP_USER_AGENT, Otlp, OtlpSettings
from exporters.otlp_forms import ProtobufForm
from exporters.otlp_json import from_json
from tests.exporters.test_otlp_template import any_batch

PROTOBUF = {"Content-Type": "application/x-protobuf"}
OK = answer(200, b"", PROTOBUF)


def exporter(environ: dict[str, str] | None = None, **options: Any) -> Otlp:
    return Otlp(OtlpSettings.model_validate(options), environ=environ or {})


def sealed(otlp: Otlp, batch: Batch) -> Payload:
    (payload,) = otlp.encode(batch)
    return Payload(payload.key, otlp.seal(otlp.join([payload.body])), payload.points, payload.samples)


async def send(batch: Batch, url: str, **options: Any) -> Otlp:
    async with exporter(endpoint=url, **options) as otlp:
        await otlp.send(sealed(otlp, batch))
        return otlp


async def test_http_protobuf(nursery, batch):
    server = await serve(nursery, [OK])
    await send(batch, server.url, headers={"X-Scope": "tenant"})
    request = server.requests[0]
    assert (request.method, request.target) == ("POST", "/v1/metrics")
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["x-scope"] == "tenant"
    assert request.headers["user-agent"] == OTLP_USER_AGENT
    assert OTLP_USER_AGENT.startswith("ebbtide/")
    assert " OTel-OTLP-Exporter-Python/" in OTLP_USER_AGENT
    got = ExportMetricsServiceRequest.FromString(gzip.decompress(request.body))
    assert comparable(got) == comparable(reference_request(batch))


async def test_http_json(nursery, batch):
    server = await serve(nursery, [answer(200, b"{}", {"Content-Type": "application/json"})])
    await send(batch, server.url, protocol="http/json", compression="none")
    request = server.requests[0]
    assert request.headers["content-type"] == "application/json"
    assert "content-encoding" not in request.headers
    got = ExportMetricsServiceRequest.FromString(from_json(request.body))
    assert comparable(got) == comparable(reference_request(batch))


async def test_counts(batch):
    otlp = exporter()
    (payload,) = otlp.encode(batch)
    assert (payload.points, payload.samples) == (22, len(batch))
    without_counts = batch.take([row for row, s in enumerate(batch.table) if not s.name.endswith("ms_count")])
    (payload,) = otlp.encode(without_counts)
    assert otlp.counts.dropped["incomplete"] == len(without_counts) - payload.samples > 0
    assert list(otlp.encode(without_counts.take([1]))) == []


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
@settings(max_examples=60, deadline=None)
@given(any_batch(), st.integers(1, 3000))
def test_requests_are_laid_out_for_what_the_outbox_takes(protocol: str, batch: Batch, limit: int):
    otlp, whole = exporter(protocol=protocol), exporter(protocol=protocol)
    otlp.max_payload = limit
    payloads, expected = list(otlp.encode(batch)), list(whole.encode(batch))
    got = [payload.body for payload in payloads]
    assert comparable(read(otlp, got)) == comparable(read(whole, [payload.body for payload in expected]))
    for column in ("points", "samples"):
        assert sum(getattr(p, column) for p in payloads) == sum(getattr(p, column) for p in expected)
    assert otlp.counts.dropped == whole.counts.dropped
    if protocol != "http/json":  # whose numbers are longer at times than is thought
        assert all(len(payload.body) <= limit or payload.points == 1 for payload in payloads)
        assert all(otlp.cut(payload, limit) == [payload] for payload in payloads)


def read(otlp: Otlp, bodies: list[bytes]) -> ExportMetricsServiceRequest:
    return ExportMetricsServiceRequest.FromString(b"".join(ProtobufForm().adopt(body) for body in bodies))


async def test_a_steady_table_is_laid_out_once_for_each_limit(batch):
    otlp = exporter()
    for limit, pieces in ((1000, 3), (10**6, 1), (1000, 3)):
        otlp.max_payload = limit
        first, again = ([p.body for p in otlp.encode(one)] for one in (batch, batch.but()))
        assert first == again
        assert len(first) >= pieces
        assert max(map(len, first)) <= limit


async def test_a_limit_learned_lays_out_what_follows(batch):
    """What is too large is cut once; the batches behind it come in pieces that need no cut."""
    otlp = exporter()
    counts = otlp.counts
    box = Backlog(otlp, OutboxSettings(), counts, FoldedLog(logging.getLogger("test")))
    for payload in box.encode(batch):
        box.add(payload, 1, 0.0)
    box.seal()
    (request,) = box.requests
    box.halve(request)
    cut = otlp.cut
    otlp.cut = lambda payload, size: pytest.fail(f"cut {len(payload.body)} bytes at {size}")  # type: ignore[method-assign]
    pieces = box.encode(batch.but())
    otlp.cut = cut  # type: ignore[method-assign]
    assert max(len(payload.body) for payload in pieces) <= box.limit == request.raw // 2
    assert sum(payload.samples for payload in pieces) == len(batch)


async def test_sealing_is_undone(batch):
    for protocol in ("http/protobuf", "http/json", "grpc"):
        otlp = exporter(protocol=protocol)
        (payload,) = otlp.encode(batch)
        assert otlp.unseal(otlp.seal(payload.body)) == payload.body


async def test_connections_persist(nursery, batch):
    server = await serve(nursery, [OK] * 3)
    async with exporter(endpoint=server.url) as otlp:
        for _ in range(3):
            await otlp.send(sealed(otlp, batch))
    assert server.connections == 1


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [("", "/v1/metrics"), ("/", "/v1/metrics"), ("/otlp", "/otlp"), ("/otlp/", "/otlp/"), ("?a=1", "/v1/metrics?a=1")],
)
async def test_endpoints(nursery, batch, endpoint, target):
    server = await serve(nursery, [OK])
    await send(batch, server.url + endpoint)
    assert server.requests[0].target == target


@pytest.mark.parametrize("endpoint", ["", "localhost:4318", "ftp://x", "http://", "http://[", "http://x:99999", "//x"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_wrong_endpoints(endpoint, protocol):
    with pytest.raises(ConfigError, match="cannot use the endpoint given by the option") as caught:
        exporter(endpoint=endpoint, protocol=protocol)
    assert caught.value.option == "endpoint"
    with pytest.raises(ConfigError, match="given by OTEL_EXPORTER_OTLP_METRICS_ENDPOINT in the environment") as caught:
        exporter({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "ftp://u:s3cret@["})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "grpc", "endpoint": "http://x/path"},
        {"protocol": "grpc", "compression": "zstd"},
        {"protocol": "grpc", "headers": {"grpc-x": "1"}},
        {"protocol": "grpc", "headers": {"x": "s3crét"}},
        {"protocol": "grpc", "tls": {"insecure_skip_verify": True}},
    ],
)
async def test_options_that_do_not_go_together(options):
    with pytest.raises(ConfigError) as caught:
        exporter(**options)
    assert caught.value.option in options
    assert "s3cr" not in str(caught.value)


async def test_the_environment_gives_defaults(nursery, batch):
    server = await serve(nursery, [OK] * 2)
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": server.url + "/base",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-a=1,x-b=2",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    async with exporter(environ) as otlp:
        await otlp.send(sealed(otlp, batch))
    async with exporter(environ, headers={"X-B": "3"}, protocol="http/protobuf", compression="gzip") as otlp:
        await otlp.send(sealed(otlp, batch))
    first, second = server.requests
    assert (first.target, first.headers["x-a"], first.headers["x-b"]) == ("/base/v1/metrics", "1", "2")
    assert (first.headers["content-type"], first.headers.get("content-encoding")) == ("application/json", None)
    assert (second.headers["x-a"], second.headers["x-b"]) == ("1", "3")
    assert (second.headers["content-type"], second.headers["content-encoding"]) == ("application/x-protobuf", "gzip")


async def test_warnings_of_the_environment_are_logged(caplog):
    exporter({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"})
    assert "cannot use OTEL_EXPORTER_OTLP_TIMEOUT" in caplog.text


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (answer(503, b"", {"Retry-After": "7"}), "HTTP 503"),
        (then_close(), "closed the connection without an answer"),
        (then_reset(), "reset the connection"),
        (then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "ended early"),
        (then_reset(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "reset"),
        (b"garbage\r\n\r\n", "is not HTTP"),
        (then_hang(), "took more than 100ms"),
        (then_hang(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "took more than 100ms"),
    ],
)
async def test_what_is_tried_again(nursery, batch, step: Step, words):
    server = await serve(nursery, [step])
    with pytest.raises(Retry) as caught:
        await send(batch, server.url, timeout="100ms" if "100ms" in words else "10s")
    assert words in str(caught.value)
    assert caught.value.after == (7.0 if "503" in words else None)


async def test_refused(batch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Retry, match="connection refused"):
            await send(batch, f"http://127.0.0.1:{unused.getsockname()[1]}")


async def test_tls_that_is_not_trusted(nursery, batch):
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await serve(nursery, [], context)
    with pytest.raises(Retry, match=r"certificate is not accepted .* set `tls\.ca_file`"):
        await send(batch, server.url)


async def test_rejected_whole(nursery, batch):
    server = await serve(nursery, [answer(401, b"who are you?", {"Content-Type": "text/plain"})])
    with pytest.raises(Rejected, match='HTTP 401, "who are you'):
        await send(batch, server.url)


async def test_rejected_in_part(nursery, batch):
    said = ExportMetricsServiceResponse()
    said.partial_success.rejected_data_points = 3
    server = await serve(nursery, [answer(200, said.SerializeToString(), PROTOBUF)])
    with pytest.raises(Rejected) as caught:
        await send(batch, server.url)
    assert caught.value.points == 3


async def test_too_large_for_the_destination(nursery, batch):
    server = await serve(nursery, [answer(413)])
    with pytest.raises(TooLarge):
        await send(batch, server.url)


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_nothing_above_max_request_is_sent(nursery, batch, compression):
    server = await serve(nursery, [OK])
    async with exporter(endpoint=server.url, max_request="1000B", compression=compression) as otlp:
        (payload,) = otlp.encode(batch)
        with pytest.raises(TooLarge):
            await otlp.send(Payload(b"", otlp.seal(payload.body), payload.points, payload.samples))
        for piece in otlp.cut(payload, 10**6):
            assert len(piece.body) <= 1000
    assert server.requests == []


@pytest.mark.parametrize("body", [bytes(5000), gzip.compress(bytes(1 << 20), mtime=0)], ids=["plain", "bomb"])
async def test_answers_above_max_response_are_final(nursery, batch, body):
    headers = PROTOBUF if body[:1] == b"\0" else {**PROTOBUF, "Content-Encoding": "gzip"}
    server = await serve(nursery, [answer(200, body, headers)])
    with pytest.raises(Rejected, match="larger than 4KiB"):
        await send(batch, server.url, max_response="4KiB")


@pytest.mark.parametrize(
    "nonsense",
    [
        answer(200, b"<html>welcome", {"Content-Type": "text/html"}),
        answer(200, b"\xff\xff", PROTOBUF),
        answer(200, b"plain", {**PROTOBUF, "Content-Encoding": "gzip"}),
        answer(200, b"\0"),
    ],
    ids=["html", "not protobuf", "not gzip", "no type"],
)
async def test_nonsense_with_200_is_success_and_one_warning(nursery, batch, caplog, nonsense):
    server = await serve(nursery, [nonsense] * 3)
    async with exporter(endpoint=server.url) as otlp:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                await otlp.send(sealed(otlp, batch))
    assert len(server.requests) == 3
    assert len(caplog.records) == 1, caplog.text


async def test_a_message_without_rejections_is_one_warning(nursery, batch, caplog):
    said = ExportMetricsServiceResponse()
    said.partial_success.error_message = "please use gzip"
    server = await serve(nursery, [answer(200, said.SerializeToString(), PROTOBUF)] * 2)
    async with exporter(endpoint=server.url) as otlp:
        for _ in range(2):
            await otlp.send(sealed(otlp, batch))
    assert caplog.text.count("please use gzip") == 1


async def test_a_drip_meets_the_deadline(nursery, batch, autojump_clock):
    async def drip(connection, request):
        await connection.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            await trio.sleep(3)
            await connection.send_all(b"x")

    autojump_clock.autojump_threshold = 0.05  # loopback takes real time
    server = await serve(nursery, [drip])
    with pytest.raises(Retry, match="took more than 10s"):
        await send(batch, server.url)


@pytest.mark.parametrize("options", [{"timeout": "0s"}, {"max_request": "0B"}, {"max_response": "0B"}])
def test_bounds_are_more_than_zero(options):
    with pytest.raises(ValidationError, match="must be more than zero"):
        OtlpSettings.model_validate(options)
