"""What options are made of: durations and sizes as people write them, secrets that are never shown, TLS, auth."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from agent.kubernetes.address import is_address, split_address

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"([0-9]{1,18})\s*(B|[KMG]i?B)")
_BLANK = re.compile(r"[\x00-\x20\x7f]")

# Larger ones are slips of the pen, and would not fit the int64 of nanoseconds or bytes that they end in.
MAX_DURATION = 100 * 365 * 86400.0
MAX_SIZE = 2**62


class OptionError(ValueError):
    """Raised by a validator of settings: options that do not go together. ``option`` is the one to point at.

    The text is shown to the operator as it is, so it must not hold a value of the file.
    """

    def __init__(self, message: str, option: str = ""):
        super().__init__(message)
        self.option = option


class Settings(BaseModel):
    """The options of one component: strict, closed, immutable, and silent about values in its errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)

    @model_validator(mode="after")
    def _at_most_one_source(self) -> Self:
        for clash in clashes(name for name in type(self).model_fields if getattr(self, name) is not None):
            raise clash
        return self


def clashes(given: Iterable[str]) -> Iterator[OptionError]:
    """Yield what cannot be set together: an option and the file it may come from; two ways to say who we are."""
    names = set(given)
    for name in sorted(names):
        if f"{name}_file" in names:
            yield OptionError(f"{name} and {name}_file are both set; keep one of them", f"{name}_file")
    token = next((name for name in ("bearer_token", "bearer_token_file") if name in names), None)
    if token and "basic_auth" in names:
        yield OptionError(f"{token} and basic_auth are both set; keep one of them", "basic_auth")


def option(default: Any, help: str, **more: Any) -> Any:
    """One option: its default as an operator would write it (``...`` for none), and its help."""
    return Field(default=default, description=help, validate_default=default is not ..., **more)


def parse_duration(text: Any) -> float:
    """``"1m30s"`` -> 90.0 seconds. Raises ValueError that names the form."""
    if isinstance(text, str) and text and _DURATION.sub("", text) == "":
        seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION.findall(text))
        if seconds <= MAX_DURATION:
            return seconds
        raise ValueError("too long; write at most 36500d")
    raise ValueError('not a duration; write one such as "250ms", "30s", "5m" or "6h"')


def show_duration(seconds: float) -> str:
    """90.0 -> ``"1m30s"``: the inverse of ``parse_duration``, for logs and docs."""
    parts, left = [], round(seconds * 1000)
    for unit in ("d", "h", "m", "s", "ms"):
        number, left = divmod(left, round(_DURATION_UNITS[unit] * 1000))
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: Any) -> int:
    """``"64MiB"`` -> 67108864 bytes. Raises ValueError that names the form."""
    if isinstance(text, str) and (match := _SIZE.fullmatch(text)):
        size = int(match[1]) * _SIZE_UNITS[match[2]]
        if size <= MAX_SIZE:
            return size
        raise ValueError("too large; write at most 4294967296GiB")
    raise ValueError('not a size; write one such as "500KB" or "64MiB"')


def show_size(size: int) -> str:
    """67108864 -> ``"64MiB"``."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(show_duration, return_type=str),
    WithJsonSchema({"type": "string", "format": "duration", "examples": ["250ms", "30s", "5m", "6h"]}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(show_size, return_type=str),
    WithJsonSchema({"type": "string", "format": "size", "examples": ["500KB", "64MiB"]}),
]
Secret = SecretStr


def _more_than_zero(form: str) -> Callable[[float], float]:
    def check(number: float) -> float:
        if number > 0:
            return number
        raise ValueError(f'must be more than zero; write one such as "{form}"')

    return check


PositiveDuration = Annotated[Duration, AfterValidator(_more_than_zero("10s"))]
PositiveSize = Annotated[Size, AfterValidator(_more_than_zero("4MiB"))]


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_OWN_HEADERS = (
    "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "transfer-encoding",
)  # fmt: skip
_UNSENDABLE = re.compile(r"[\r\n\0]")


def _headers(headers: dict[str, Secret]) -> dict[str, Secret]:
    for name in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError("a header's name is none that HTTP has; write one such as X-Scope-OrgID")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"the header {name.lower()} is the agent's own; remove it")
        if _UNSENDABLE.search(headers[name].get_secret_value()):
            raise ValueError(f"the header {name.lower()} holds a line break, or a NUL; remove it")
    return headers


def _token(token: Secret) -> Secret:
    text = token.get_secret_value()
    if not text:
        raise ValueError("must not be empty; write some text")
    if _UNSENDABLE.search(text):
        raise ValueError("holds a line break, or a NUL; remove it")
    return token


Headers = Annotated[dict[str, Secret], AfterValidator(_headers)]
"""Headers to send with each request, beside those that make the request what it is."""

Token = Annotated[Secret, AfterValidator(_token)]
"""A bearer token: a secret that can stand in a header."""


class BasicAuth(Settings):
    """User name and password for HTTP basic authentication."""

    username: str = option(..., "User name.")
    password: Secret | None = option(None, "Password.")
    password_file: str | None = option(None, "File that holds the password; read again at every connection.")

    @model_validator(mode="after")
    def _has_password(self) -> Self:
        if self.password is None and self.password_file is None:
            raise OptionError("needs a password or a password_file; add one of them")
        return self


class Tls(Settings):
    """TLS as a client."""

    ca_file: str | None = option(None, "PEM file of the authorities to trust instead of the system's.")
    cert_file: str | None = option(None, "PEM file of the client certificate.")
    key_file: str | None = option(None, "PEM file of the client certificate's key.")
    server_name: str | None = option(
        None, "Name to expect in the server's certificate, where it differs from the host."
    )
    insecure_skip_verify: bool = option(False, "Accept any certificate. Only for trials.")

    @model_validator(mode="after")
    def _key_has_certificate(self) -> Self:
        if self.key_file is not None and self.cert_file is None:
            raise OptionError("key_file is set without cert_file; set both", "key_file")
        return self


def parse_server_url(url: str) -> str:
    """Return the base URL of a server, without a slash at its end: ``http://``, ``https://`` or ``kubernetes://``.

    Raises ValueError, whose text does not show the URL.
    """
    if is_address(url):
        rest = split_address(url)[1]
        if "?" in rest or "#" in url:
            raise ValueError("a base URL has no query and no fragment; leave out what stands behind the path")
        return url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError("not an HTTP URL; write one that begins with http://, https:// or kubernetes://")
    try:
        parts = urlsplit(url)
        reachable = bool(parts.hostname) and parts.port != 0 and not _BLANK.search(url)
    except ValueError:  # its text quotes the URL, which may hold a password
        reachable = False
    if not reachable:
        raise ValueError("no host, or no port that can be; write one such as http://prometheus:9090") from None
    if parts.query or parts.fragment:
        raise ValueError("a base URL has no query and no fragment; leave out what begins with ? or #")
    return url.rstrip("/")


ServerUrl = Annotated[str, AfterValidator(parse_server_url)]


class ClusterSettings(Settings):
    """Which Kubernetes cluster, and as whom."""

    kubeconfig: str | None = option(
        None,
        "Kubeconfig file. Default: those of KUBECONFIG, else the service account of the pod that this runs in, else "
        "~/.kube/config.",
        examples=["/etc/ebbtide/kubeconfig"],
    )
    context: str | None = option(None, "Context of the kubeconfig. Default: its current one.", examples=["north"])

    @model_validator(mode="after")
    def _leads_into_it(self) -> Self:
        url = getattr(self, "url", None)
        if url is None or is_address(url):
            return self
        for name in ("kubeconfig", "context"):
            if getattr(self, name) is not None:
                raise OptionError(f"{name} is for kubernetes:// URLs, and `url` is another; remove one of them", name)
        return self


class QueueSettings(Settings):
    """What waits for the destination, in the form in which it will be sent."""

    kind: Literal["memory", "disk"] | None = option(
        None, 'Where it waits. Default: "disk" where `state_dir` is set, else "memory".'
    )
    max_bytes: PositiveSize | None = option(
        None, 'Bound of what waits. Default: "64MiB" in memory, "1GiB" on disk.', examples=["64MiB"]
    )
    max_age: PositiveDuration = option("24h", "What could not be sent for so long is dropped, as `expired`.")
    on_full: Literal["drop_oldest", "block"] = option(
        "drop_oldest", "When full: drop what waits longest, as `overflow`, or let the receivers wait."
    )


class BatchSettings(Settings):
    """How payloads are joined into requests."""

    max_bytes: PositiveSize = option(
        "4MiB", "Largest request, before compression: smaller payloads are joined, larger ones cut."
    )
    linger: Duration = option("200ms", "How long a payload waits for others to be joined with.")


class RetrySettings(Settings):
    """How often a request is tried again; it goes on until `queue.max_age`."""

    initial: PositiveDuration = option("1s", "First wait after a failure; it doubles at each further one, with jitter.")
    max: PositiveDuration = option("30s", "Longest wait.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.initial:
            raise OptionError("max is shorter than initial; make it at least as long", "max")
        return self


class OutboxSettings(Settings):
    """The options every exporter has: its queue, its batches, its retries."""

    queue: QueueSettings = option(QueueSettings(), "The queue before the destination.")
    batch: BatchSettings = option(BatchSettings(), "Joining payloads into requests.")
    retry: RetrySettings = option(RetrySettings(), "Trying again.")


LOOPBACK = "127.0.0.1"
"""Where it listens unless told otherwise."""


def parse_address(text: str) -> tuple[str, int] | None:
    """``"host:port"``, ``":port"`` (loopback), ``"[::1]:port"`` -> host and port; ``""`` -> None, which is off."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "[" in host or "]" in host:
        raise ValueError('not an address; write an IPv6 address in brackets, such as "[::1]:9464"')
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError('not an address; write one such as "127.0.0.1:9464", or "" to do without')
    return host or LOOPBACK, int(port)


class AgentSettings(Settings):
    """The process itself."""

    state_dir: str | None = option(
        None,
        "Folder for what must outlive the process. Absent: nothing is kept on disk.",
        examples=["/var/lib/ebbtide"],
        min_length=1,
    )
    admin: str = option("127.0.0.1:9464", 'Where /healthz, /readyz, /metrics and /ledger are served; "" = off.')
    log_level: Literal["debug", "info", "warning", "error"] = option("info", "Least severe level that is logged.")
    log_format: Literal["text", "json"] = option("text", "Form of the log lines on stderr.")
    shutdown_timeout: Duration = option("10s", "How long a stop may take to send what is held.")

    @field_validator("admin")
    @classmethod
    def _an_address(cls, admin: str) -> str:
        parse_address(admin)
        return admin


class PipelineSettings(Settings):
    """Which receivers feed which exporters, through which processors, in this order."""

    receivers: list[str] = option(..., "Ids of receivers, at least one.", min_length=1)
    processors: list[str] = option([], "Ids of processors, in order.")
    exporters: list[str] = option(..., "Ids of exporters, at least one.", min_length=1)
