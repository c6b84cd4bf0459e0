"""Sending OTLP requests by gRPC: grpcio's synchronous channel, bridged to trio.

Strategy. ``future()`` starts a call without a thread of ours; its callback wakes the waiting task through the trio token.
Cancelling the task cancels the call. Bodies go in and out as bytes: no serializer. Retries are the outbox's alone
(``grpc.enable_retries`` 0). grpcio (18 MB, 50 ms) is imported at the first request, and told to keep off stderr.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from ebbtide import (
    ConfigError,
    Fault,
    Payload,
    Retry,
    Secret,
    Tls,
    client_context,
    files_stamp,
    reason,
)
from exporters.otlp_answers import judge_grpc, judge_partial

if TYPE_CHECKING:
    import grpc

METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"

# Where distributions keep the system's authorities; grpcio has a list of its own, which knows no private ones.
SYSTEM_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")

# grpcio's own back-off between attempts to connect, in milliseconds: short, since the outbox's is the one that counts.
# By default it grows to two minutes, in which every request fails at once with the old reason.
RECONNECT_BACKOFF = {"initial": 100, "max": 1000}

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
        proxy: str | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ):
        self.where = target
        self._secure = secure
        self._gzip = gzip
        self._metadata = _metadata(headers)
        self._tls = tls
        self._timeout = timeout
        self._warn = warn
        self._options: list[tuple[str, int | str]] = [
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", int(proxy is not None)),
            *((f"grpc.{name}_reconnect_backoff_ms", wait) for name, wait in RECONNECT_BACKOFF.items()),
            ("grpc.max_receive_message_length", max_response),
            ("grpc.max_send_message_length", -1),  # bounded by `max_request`
            ("grpc.primary_user_agent", user_agent),
        ]
        if proxy is not None:
            self._options.append(("grpc.http_proxy", proxy))
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
        return judge_grpc(error.code().name, error.details() or "", details, self.where, self._secure)

    def _open(self) -> None:
        """Make the channel, at first and when a certificate file has changed; where the new files are of no use, keep it."""
        stamp = files_stamp(self._tls) if self._secure else ()
        if self._channel is not None and stamp == self._stamp:
            return
        try:
            channel = self._make_channel(stamp)
        except Fault as fault:
            if self._channel is None:
                raise Retry(None, str(fault)) from fault
            self._warn(f"{fault}; the certificates read before stay in use")
            self._stamp = stamp
            return
        if self._channel is not None:
            self._channel.close()  # one request at a time: nothing is under way on it
        self._channel, self._stamp = channel, stamp
        self._call = channel.unary_unary(METHOD)

    def _make_channel(self, stamp: tuple[object, ...]) -> grpc.Channel:
        import grpc

        compression = grpc.Compression.Gzip if self._gzip else grpc.Compression.NoCompression
        if self._secure:
            return grpc.secure_channel(self.where, self._credentials(stamp), self._options, compression)
        return grpc.insecure_channel(self.where, self._options, compression)

    def _credentials(self, stamp: tuple[object, ...]) -> grpc.ChannelCredentials:
        """Read the files; raise Fault where they are of no use, which grpcio would only say of each connection."""
        import grpc

        tls = self._tls
        client_context(tls, stamp, self.where)  # OpenSSL's word on the files, a half-written pair included
        try:
            authorities = _read(tls.ca_file) if tls.ca_file else _system_authorities()
            key, certificates = _read(tls.key_file or tls.cert_file), _read(tls.cert_file)
        except OSError as error:
            raise Fault("tls", f"cannot load {error.filename} for {self.where}: {reason(error)}") from error
        if files_stamp(tls) != stamp:
            raise Fault("tls", f"cannot load the certificates for {self.where}: they change at this moment; try again")
        return grpc.ssl_channel_credentials(authorities, key, certificates)


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
