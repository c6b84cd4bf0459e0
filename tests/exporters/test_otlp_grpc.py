"""The exporter "otlp" by gRPC, against grpcio's own server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio
import trustme
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from agent.testing import comparable, reference_request
from ebbtide import Payload, Rejected, Retry, TooLarge
from exporters.otlp import OTLP_USER_AGENT, Otlp, OtlpSettings
from tests.compliance.servers import Behaviour, GrpcServer


@pytest.fixture
def serve() -> Iterator[Callable[..., GrpcServer]]:
    servers: list[GrpcServer] = []

    def start(behaviour: Behaviour = lambda body, context: b"", **more: Any) -> GrpcServer:
        servers.append(GrpcServer(behaviour, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def abort(code: grpc.StatusCode, details: str = "", status: bytes | None = None) -> Behaviour:
    def behaviour(body: bytes, context: grpc.ServicerContext) -> bytes:
        if status is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(code, details)

    return behaviour


async def send(batch, url: str, **options: Any) -> Otlp:
    settings = OtlpSettings.model_validate({"endpoint": url, "protocol": "grpc", **options})
    async with Otlp(settings, environ={}) as otlp:
        (payload,) = otlp.encode(batch)
        await otlp.send(Payload(b"", otlp.seal(payload.body), payload.points, payload.samples))
        return otlp


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_a_request(serve, batch, compression):
    server = serve()
    await send(batch, server.url, headers={"X-Scope": "tenant", "key-bin": "raw"}, compression=compression)
    body, metadata = server.requests[0]
    assert comparable(ExportMetricsServiceRequest.FromString(body)) == comparable(reference_request(batch))
    assert metadata["x-scope"] == "tenant"
    assert metadata["key-bin"] == b"raw"
    assert metadata["user-agent"].startswith(OTLP_USER_AGENT)


async def test_one_connection_for_many_requests(serve, batch):
    peers = set()

    def behaviour(body: bytes, context: grpc.ServicerContext) -> bytes:
        peers.add(context.peer())
        return b""

    server = serve(behaviour)
    async with Otlp(OtlpSettings(endpoint=server.url, protocol="grpc"), environ={}) as otlp:
        (payload,) = otlp.encode(batch)
        for _ in range(3):
            await otlp.send(payload)
    assert len(server.requests) == 3
    assert len(peers) == 1


def retry_info(seconds: int) -> bytes:
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds)))
    return status_pb2.Status(code=8, details=[packed]).SerializeToString()


@pytest.mark.parametrize(
    ("code", "status", "expected", "after"),
    [
        ("UNAVAILABLE", None, Retry, None),
        ("UNAVAILABLE", retry_info(7), Retry, 7.0),
        ("RESOURCE_EXHAUSTED", retry_info(7), Retry, 7.0),
        ("RESOURCE_EXHAUSTED", None, Rejected, None),
        ("INVALID_ARGUMENT", None, Rejected, None),
        ("UNAUTHENTICATED", b"nonsense", Rejected, None),
    ],
)
async def test_failures(serve, batch, code, status, expected, after):
    server = serve(abort(grpc.StatusCode[code], "because", status))
    with pytest.raises(expected, match=f'gRPC {code}, "because"') as caught:
        await send(batch, server.url)
    if after is not None:
        assert caught.value.after == after
    assert len(server.requests) == 1


async def test_a_destination_without_the_service(serve, batch):
    server = serve()
    server.server.stop(0).wait()
    with pytest.raises(Retry, match="UNAVAILABLE"):
        await send(batch, server.url)


async def test_partial_success(serve, batch):
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 3
    answer.partial_success.error_message = "too old"
    server = serve(lambda body, context: answer.SerializeToString())
    with pytest.raises(Rejected, match="too old") as caught:
        await send(batch, server.url)
    assert caught.value.points == 3


async def test_nonsense_is_success_and_a_warning(serve, batch, caplog):
    await send(batch, serve(lambda body, context: b"\xff\xff").url)
    assert "taken for success" in caplog.text


async def test_too_large_for_the_server(serve, batch):
    server = serve(max_receive_message_length=1000)
    with pytest.raises(TooLarge, match="larger than max"):
        await send(batch, server.url)


async def test_an_answer_above_max_response_is_final(serve, batch):
    server = serve(lambda body, context: bytes(5000))
    with pytest.raises(Rejected, match="max_response"):
        await send(batch, server.url, max_response="4KiB")


async def test_nothing_above_max_request_is_sent(serve, batch):
    server = serve()
    with pytest.raises(TooLarge, match="max_request"):
        await send(batch, server.url, max_request="1000B")
    assert server.requests == []


async def test_the_deadline(serve, batch):
    release = threading.Event()

    def behaviour(body: bytes, context: grpc.ServicerContext) -> bytes:
        release.wait(5)
        return b""

    server = serve(behaviour)
    try:
        with pytest.raises(Retry, match="DEADLINE_EXCEEDED"):
            await send(batch, server.url, timeout="100ms")
    finally:
        release.set()


async def test_cancelling_cancels_the_call(serve, batch):
    release, cancelled = threading.Event(), threading.Event()

    def behaviour(body: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(cancelled.set)
        release.wait(5)
        return b""

    server = serve(behaviour)
    try:
        with trio.move_on_after(0.2) as scope:
            await send(batch, server.url)
        assert scope.cancelled_caught
        assert await trio.to_thread.run_sync(cancelled.wait, 5)
    finally:
        release.set()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {name: str(tmp_path / name) for name in ("ca", "cert", "key")}


def credentials(ca: trustme.CA, mutual: bool = False) -> grpc.ServerCredentials:
    certificate = ca.issue_cert("127.0.0.1", "otlp.example")
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    root = ca.cert_pem.bytes() if mutual else None
    return grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)], root, mutual)


async def test_tls_and_what_is_not_trusted(serve, batch, files):
    ca, other = trustme.CA(), trustme.CA()
    server = serve(credentials=credentials(ca))
    other.cert_pem.write_to_path(files["ca"])
    with pytest.raises(Retry, match=r"is not accepted \(.*issuer.*\); set `tls\.ca_file`"):
        await send(batch, server.url, tls={"ca_file": files["ca"]})
    with pytest.raises(Retry, match=r"cannot load the certificates for .*/nowhere"):
        await send(batch, server.url, tls={"ca_file": "/nowhere"})
    ca.cert_pem.write_to_path(files["ca"])
    await send(batch, server.url, tls={"ca_file": files["ca"], "server_name": "otlp.example"})
    assert len(server.requests) == 1


async def test_mutual_tls_and_rotated_files(serve, batch, files):
    ca = trustme.CA()
    server = serve(credentials=credentials(ca, mutual=True))
    ca.cert_pem.write_to_path(files["ca"])

    def rotate(authority: trustme.CA) -> None:
        mine = authority.issue_cert("ebbtide.example")
        mine.cert_chain_pems[0].write_to_path(files["cert"])
        mine.private_key_pem.write_to_path(files["key"])

    rotate(trustme.CA())
    tls = {"ca_file": files["ca"], "cert_file": files["cert"], "key_file": files["key"]}
    settings = OtlpSettings.model_validate({"endpoint": server.url, "protocol": "grpc", "tls": tls})
    async with Otlp(settings, environ={}) as otlp:
        (payload,) = otlp.encode(batch)
        with pytest.raises(Retry):
            await otlp.send(payload)
        rotate(ca)
        await otlp.send(payload)
    assert len(server.requests) == 1
