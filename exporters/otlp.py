"""The exporter "otlp": to any OTLP destination, over HTTP (protobuf or JSON) or by gRPC.

Strategy. A thin shell over parts that do no IO: the template encodes, laid out so that the outbox need not cut; a form joins,
and cuts what proves too large later; a codec compresses once; a sender (``otlp_http``, ``otlp_grpc``) does one exchange, and
``otlp_answers`` judges it. What the file leaves open the environment's OTEL_EXPORTER_OTLP_* say, by their own rules
(``otlp_env``). Proxies are the environment's: HTTP_PROXY and HTTPS_PROXY over HTTP; by gRPC HTTPS_PROXY alone, for either
scheme, as in Go and so in the Collector.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from ebbtide import (
    USER_AGENT,
    Batch,
    ConfigError,
    Context,
    Exporter,
    Headers,
    Owner,
    Payload,
    PositiveDuration,
    PositiveSize,
    ProxyError,
    Secret,
    Settings,
    Tls,
    TooLarge,
    option,
    proxy_of,
)
from exporters.otlp_env import DEFAULT_HTTP, METRICS_PATH, Compression, Environment, read_environment
from exporters.otlp_forms import Form, JsonForm, ProtobufForm
from exporters.otlp_http import HttpSender
from exporters.otlp_seal import Codec, codec
from exporters.otlp_template import Division, encode

if TYPE_CHECKING:
    from exporters.otlp_grpc import GrpcSender

DEFAULT_GRPC_PORTS = {"http": 4317, "https": 443}
MAX_WARNINGS = 10  # different warnings of one destination that are logged

# OpenTelemetry specification, protocol/exporter.md, "User Agent": a product may precede the exporter's own identifier.
OTLP_USER_AGENT = f"{USER_AGENT} OTel-OTLP-Exporter-Python/{USER_AGENT.partition('/')[2]}"


class OtlpSettings(Settings):
    """Options of the exporter "otlp". What is absent is taken from OTEL_EXPORTER_OTLP_[METRICS_]* where those are set."""

    endpoint: str | None = option(
        None,
        "URL of the destination. http: a path of \"\" or \"/\" becomes /v1/metrics, any other is used as it is; "
        "default http://localhost:4318. grpc: http:// is plain, https:// is TLS; default http://localhost:4317. "
        "The environment's HTTP_PROXY, HTTPS_PROXY and NO_PROXY are obeyed (grpc: HTTPS_PROXY alone), never to loopback.",
    )  # fmt: skip
    protocol: Literal["http/protobuf", "http/json", "grpc"] = option("http/protobuf", "How requests are sent.")
    headers: Headers = option({}, "Headers (gRPC: metadata) of every request, added to those of the environment.")
    compression: Literal["none", "gzip", "zstd"] | None = option(
        None, 'How requests are compressed; "zstd" over http only. Default: "gzip" over http, "none" by grpc.'
    )
    timeout: PositiveDuration = option("10s", "Deadline of one request, from connecting to the end of the answer.")
    tls: Tls | None = option(None, "TLS of an https:// endpoint.")
    max_request: PositiveSize = option(
        "64MiB", "Largest request before compression: a hard bound over `batch.max_bytes`."
    )
    max_response: PositiveSize = option(
        "4MiB", "Largest answer, inflated; a larger one is a failure that is not retried."
    )


class _Layout(NamedTuple):
    """How requests are laid out for what the outbox takes uncut: in segments, serialized, of at most ``room`` bytes."""

    max_payload: int
    room: int
    division: Division


class Otlp(Exporter[OtlpSettings]):
    """Sends points to an OTLP destination: a Collector, or a backend."""

    Settings = OtlpSettings

    def __init__(
        self,
        settings: OtlpSettings | None = None,
        context: Context | None = None,
        environ: Mapping[str, str] = os.environ,
    ):
        super().__init__(settings, context)
        environment = read_environment(environ)
        plan = _Plan(self.settings, environment, environ)
        for warning in (*environment.warnings, *plan.warnings):
            self.context.log.warning("exporter %s: %s", self.context.id, warning)
        self._form: Form = JsonForm() if plan.protocol == "http/json" else ProtobufForm()
        self._layout = self._laid_out()
        # By gRPC the channel compresses each message itself: bodies are held plain.
        self._codec: Codec = codec("none" if plan.protocol == "grpc" else plan.compression)
        self._sender: HttpSender | GrpcSender = (
            plan.grpc_sender(self._warn_once) if plan.protocol == "grpc" else plan.http_sender(self._form, self._codec)
        )
        self._warned: set[str] = set()

    @property
    def max_request(self) -> int:
        """Bytes of the largest request before compression."""
        return self.settings.max_request

    def encode(self, batch: Batch) -> Iterable[Payload]:
        """Encode as requests that the outbox need not cut, in the form in which they will be sent but for compression."""
        if self._layout.max_payload != self.max_payload:
            self._layout = self._laid_out()
        encoded = encode(batch, self._layout.division)
        if encoded.incomplete:
            self.counts.dropped["incomplete"] += encoded.incomplete
        if encoded.points:
            for body, points, samples in encoded.pieces(self._layout.room):
                yield Payload(b"", self._form.make(body), points, samples)

    def _laid_out(self) -> _Layout:
        room = max(self.max_payload // self._form.growth, 1)
        return _Layout(self.max_payload, room, Division(Owner.of("otlp division", room), lambda _: room))

    def join(self, bodies: list[bytes]) -> bytes:
        """Make one request of several, in order."""
        return self._form.join(bodies)

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut by resource, metric and point, in order, into requests of at most ``max_bytes`` and ``max_request``."""
        return self._form.cut(payload, min(max_bytes, self.max_request))

    def seal(self, body: bytes) -> bytes:
        """Compress. After a reload under another `protocol` the body may be of the form before: it is brought into ours."""
        return self._codec.compress(self._form.adopt(body))

    def unseal(self, body: bytes) -> bytes:
        """Decompress."""
        return self._codec.decompress(body)

    async def send(self, payload: Payload) -> None:
        """Send one request; raise what the answer means."""
        if self._codec.size(payload.body) > self.max_request:
            raise TooLarge(f"the request is larger than `max_request`, {self.max_request} bytes")
        warning = await self._sender.send(payload)
        if warning:
            self._warn_once(warning)

    def _warn_once(self, warning: str) -> None:
        if warning not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(warning)
            self.context.log.warning("exporter %s: %s", self.context.id, warning)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._sender.aclose()


class _Plan:
    """The settings, with what they leave open filled in from the environment; raises ConfigError."""

    def __init__(self, settings: OtlpSettings, environment: Environment, environ: Mapping[str, str]):
        given = settings.model_fields_set
        self._settings = settings
        self._environment = environment
        self._environ = environ
        self.warnings: list[str] = []
        self.protocol = settings.protocol if "protocol" in given else environment.protocol or settings.protocol
        self.timeout = settings.timeout if "timeout" in given else environment.timeout or settings.timeout
        self.compression = self._compression()
        self.headers = {name: Secret(value) for name, value in environment.headers.items()}
        self.headers.update((name.lower(), value) for name, value in settings.headers.items())
        self.tls = self._tls()

    def _compression(self) -> Compression:
        chosen, wished = self._settings.compression, self._environment.compression
        if self.protocol != "grpc":
            return chosen or wished or "gzip"
        if chosen == "zstd":
            raise ConfigError(
                'cannot compress with zstd by gRPC; use "gzip" or "none", or http/protobuf', "compression"
            )
        if chosen is None and wished == "zstd":
            self.warnings.append(
                "cannot use OTEL_EXPORTER_OTLP_COMPRESSION from the environment: gRPC has no zstd; it is ignored"
            )
            wished = None
        return chosen or wished or "none"

    def _tls(self) -> Tls:
        """The file's word, key by key; a client certificate and its key come from one place."""
        tls, environment = self._settings.tls or Tls(), self._environment
        more = {} if tls.ca_file else {"ca_file": environment.certificate}
        if not tls.cert_file:
            more |= {"cert_file": environment.client_certificate, "key_file": environment.client_key}
        return tls.model_copy(update=more)

    def _proxy(self, url: str, schemes: tuple[str, ...] = ("http", "https")) -> str | None:
        try:
            return proxy_of(url, self._environ, schemes)
        except ProxyError as error:
            raise ConfigError(str(error), "endpoint") from error

    def http_sender(self, form: Form, codec: Codec) -> HttpSender:
        """Return the sender for OTLP over HTTP."""
        url = self._settings.endpoint
        if url is None:
            self._split(self._environment.endpoint or DEFAULT_HTTP)
            url = self._environment.http_url()
        else:
            parts = self._split(url)
            if parts.path in ("", "/"):
                url = urlunsplit(parts._replace(path=f"/{METRICS_PATH}"))
        return HttpSender(
            url,
            content_type=form.content_type,
            content_encoding=codec.encoding,
            headers=self.headers,
            tls=self.tls,
            timeout=self.timeout,
            max_response=self._settings.max_response,
            user_agent=OTLP_USER_AGENT,
            proxy=self._proxy(url),
        )

    def grpc_sender(self, warn: Callable[[str], None]) -> GrpcSender:
        """Return the sender for OTLP by gRPC."""
        from exporters.otlp_grpc import GrpcSender  # here, as plain HTTP needs none of what it imports

        given = self._settings.endpoint
        parts = self._split(self._environment.grpc_url() if given is None else given)
        if parts.path not in ("", "/") or parts.query or parts.username:
            raise ConfigError(
                f"cannot use the endpoint given by {self._source} by gRPC: it has more than scheme, host and port; "
                "remove the rest",
                "endpoint",
            )
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        target = f"{host}:{parts.port or DEFAULT_GRPC_PORTS[parts.scheme]}"
        return GrpcSender(
            target,
            secure=parts.scheme == "https",
            gzip=self.compression == "gzip",
            headers=self.headers,
            tls=self.tls,
            timeout=self.timeout,
            max_response=self._settings.max_response,
            user_agent=OTLP_USER_AGENT,
            proxy=self._proxy(f"https://{target}", ("http",)),
            warn=warn,
        )

    @property
    def _source(self) -> str:
        """Where the endpoint comes from, for errors."""
        given = self._settings.endpoint is not None
        return "the option" if given else f"{self._environment.endpoint_name} in the environment"

    def _split(self, url: str) -> SplitResult:
        """Take the URL apart, having seen that it is one of http or https with a host. It is not shown: it may hold secrets."""
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            raise ConfigError(
                f"cannot use the endpoint given by {self._source}: it is no URL; write http://host:port or https://host:port",
                "endpoint",
            )
        return parts
