"""Sending OTLP requests by gRPC: grpcio's synchronous channel, bridged to trio.

Strategy. ``future()`` starts a call without a thread of ours; its callback wakes the waiting task through the trio token.
Cancelling the task cancels the call. Bodies go in and out as bytes: no serializer. Retries are the outbox's alone
(``grpc.enable_retries`` 0). grpcio (18 MB, 50 ms) is imported at the first request, and told to keep off stderr.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from ebbtide import (
    ConfigError,
    Payload,
    Retry,
    Secret,
    Tls,
    files_stamp,
    reason,
)
from exporters.otlp_answers import judge_grpc, judge_partial

if TYPE_CHECKING:
    import grpc

METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"

# Where distributions keep the system's authorities; grpcio has a list of its own, which knows no private ones.
SYSTEM_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")

_KEY = re.compile(r"(?!grpc-)[0-9a-z_.-]+")


class GrpcSender:
    """One destination: unary Export calls over one channel, made anew when a certificate file changes."""

    def __init__(
        self,
        target: str,
        *,
        secure: bool,
        gzip: bool,
        headers: Mapping[str, Secret],
        tls: Tls,
        timeout: float,
        max_response: int,
        user_agent: str,
    ):
        self.where = target
        self._secure = secure
        self._gzip = gzip
        self._metadata = _metadata(headers)
        self._tls = tls
        self._timeout = timeout
        self._options = [
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", max_response),
            ("grpc.max_send_message_length", -1),  # bounded by `max_request`
            ("grpc.primary_user_agent", user_agent),
        ]
        self._channel: grpc.Channel | None = None
        self._call: Any = None
        self._stamp: tuple[object, ...] = ()
        if tls.insecure_skip_verify:
            raise ConfigError(
                "cannot skip verifying with gRPC: grpcio offers no way; set tls.ca_file, or use http/protobuf", "tls"
            )
        if tls.server_name:
            self._options.append(("grpc.ssl_target_name_override", tls.server_name))

    async def send(self, payload: Payload) -> str | None:
        """Send one request; return a sentence to warn of, if any. Raises ``Retry``, ``Rejected``, ``TooLarge``."""
        import_grpc()
        import grpc

        self._open()
        try:
            body = await _finished(self._call.future(payload.body, timeout=self._timeout, metadata=self._metadata))
        except grpc.RpcError as error:
            raise self._judge(error) from error
        answer = ExportMetricsServiceResponse()
        try:
            answer.ParseFromString(body)
        except DecodeError:
            return f"the answer of {self.where} is not OTLP's ({len(body)} bytes), taken for success"
        return judge_partial(answer, payload.points, self.where)

    async def aclose(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        await trio.lowlevel.checkpoint()

    def _judge(self, error: Any) -> Exception:
        """What to raise for a failed call, which grpcio raises as an RpcError that is also the call."""
        trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
        details = trailers.get("grpc-status-details-bin", b"")
        return judge_grpc(error.code().name, error.details() or "", details, self.where)

    def _open(self) -> None:
        """Make the channel, at first and when a certificate file has changed."""
        import grpc

        stamp = files_stamp(self._tls) if self._secure else ()
        if self._channel is not None and stamp == self._stamp:
            return
        compression = grpc.Compression.Gzip if self._gzip else grpc.Compression.NoCompression
        if self._secure:
            channel = grpc.secure_channel(self.where, self._credentials(), self._options, compression)
        else:
            channel = grpc.insecure_channel(self.where, self._options, compression)
        if self._channel is not None:
            self._channel.close()  # one request at a time: nothing is under way on it
        self._channel, self._stamp = channel, stamp
        self._call = channel.unary_unary(METHOD)

    def _credentials(self) -> grpc.ChannelCredentials:
        import grpc

        tls = self._tls
        try:
            return grpc.ssl_channel_credentials(
                _read(tls.ca_file) if tls.ca_file else _system_authorities(), _read(tls.key_file), _read(tls.cert_file)
            )
        except OSError as error:
            raise Retry(
                None, f"cannot load {error.filename} for {self.where}: {reason(error)}; expected a readable PEM file"
            ) from error


def import_grpc() -> None:
    """Import grpcio with its own log off: it writes to stderr what we report."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    __import__("grpc")


async def _finished(future: Any) -> bytes:
    """Wait for a call and return its answer; cancelled, it cancels the call."""
    token, finished = trio.lowlevel.current_trio_token(), trio.Event()

    def wake(_: Any) -> None:
        with suppress(trio.RunFinishedError):  # then nobody waits any more
            token.run_sync_soon(finished.set)

    future.add_done_callback(wake)
    try:
        await finished.wait()
    finally:
        future.cancel()  # does nothing to a call that has finished
    return bytes(future.result())


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def _system_authorities() -> bytes | None:
    """The system's authorities, where they are in one of the usual places; else None: grpcio's own."""
    for path in (ssl.get_default_verify_paths().cafile, *SYSTEM_AUTHORITIES):
        if path and os.path.isfile(path):
            return _read(path)
    return None


def _metadata(headers: Mapping[str, Secret]) -> list[tuple[str, str | bytes]]:
    """Headers as gRPC metadata; grpcio would refuse an illegal one only at the call, and show its value."""
    metadata: list[tuple[str, str | bytes]] = []
    for name, secret in headers.items():
        value = secret.get_secret_value()
        if not _KEY.fullmatch(name.lower()) or not (value.isascii() and value.isprintable()):
            raise ConfigError(
                f"cannot send the header {name!r} by gRPC: names are made of a-z, 0-9, '_', '-' and '.', do not begin "
                "with 'grpc-', and values are printable ASCII; correct it",
                "headers",
            )
        metadata.append((name.lower(), value.encode() if name.lower().endswith("-bin") else value))
    return metadata
