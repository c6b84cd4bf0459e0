"""The environment's ``OTEL_EXPORTER_OTLP_*`` variables, as defaults of the OTLP exporter.

Rules: OpenTelemetry specification, ``protocol/exporter.md`` and ``configuration/sdk-environment-variables.md``. The form
with METRICS wins over the generic one; an empty variable is an unset one; a value that cannot be understood is ignored
with a warning, which never shows it; a timeout of 0 is none. Over HTTP the generic endpoint is a base, to which ``v1/metrics`` is appended; the
one for metrics is used as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

Protocol = Literal["grpc", "http/protobuf", "http/json"]
Compression = Literal["none", "gzip", "zstd"]

_PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http/protobuf", "http/json")
_COMPRESSIONS: tuple[Compression, ...] = ("none", "gzip", "zstd")

DEFAULT_HTTP = "http://localhost:4318"
DEFAULT_GRPC = "http://localhost:4317"
METRICS_PATH = "v1/metrics"
INDEFINITE = (2**31 - 1) / 1000  # seconds that stand for no timeout: the specification's own example

_T = TypeVar("_T")

_PREFIX = "OTEL_EXPORTER_OTLP_"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2: a header's name


@dataclass(frozen=True, slots=True)
class Environment:
    """What the variables say; None where they say nothing. ``timeout`` in seconds. ``warnings`` as sentences.

    ``endpoint_name``: the variable that holds the endpoint.
    """

    endpoint: str | None = None
    endpoint_name: str = ""
    endpoint_is_base: bool = False
    insecure: bool = False
    protocol: Protocol | None = None
    compression: Compression | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float | None = None
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    warnings: tuple[str, ...] = ()

    def http_url(self) -> str:
        """Return the URL for OTLP over HTTP."""
        if self.endpoint is None:
            return f"{DEFAULT_HTTP}/{METRICS_PATH}"
        parts = urlsplit(self.endpoint)
        path = f"{parts.path.rstrip('/')}/{METRICS_PATH}" if self.endpoint_is_base else parts.path or "/"
        return urlunsplit(parts._replace(path=path))

    def grpc_url(self) -> str:
        """Return the endpoint for gRPC, with a scheme: where it has none, INSECURE decides."""
        if self.endpoint is None:
            return DEFAULT_GRPC
        if "://" in self.endpoint:
            return self.endpoint
        return f"{'http' if self.insecure else 'https'}://{self.endpoint}"


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Read the variables; what cannot be understood is in ``warnings``."""
    return _Reader(environ).read()


class _Reader:
    def __init__(self, environ: Mapping[str, str]):
        self._environ = environ
        self._warnings: list[str] = []

    def read(self) -> Environment:
        endpoint_name, endpoint = self._find("ENDPOINT")
        client_certificate, client_key = self._client_pair()
        return Environment(
            endpoint=endpoint,
            endpoint_name=endpoint_name,
            endpoint_is_base=endpoint_name == f"{_PREFIX}ENDPOINT",
            insecure=self._insecure(),
            protocol=self._parsed("PROTOCOL", _protocol, '"grpc", "http/protobuf" or "http/json"'),
            compression=self._parsed("COMPRESSION", _compression, '"none", "gzip" or "zstd"'),
            headers=self._headers(),
            timeout=self._parsed("TIMEOUT", _milliseconds, "a number of milliseconds, or 0 for none"),
            certificate=self._find("CERTIFICATE")[1],
            client_certificate=client_certificate,
            client_key=client_key,
            warnings=tuple(self._warnings),
        )

    def _find(self, word: str) -> tuple[str, str | None]:
        """The variable's name and value: the one for metrics, else the generic one."""
        for name in (f"{_PREFIX}METRICS_{word}", f"{_PREFIX}{word}"):
            value = self._environ.get(name, "").strip()
            if value:
                return name, value
        return "", None

    def _parsed(self, word: str, parse: Callable[[str], _T], expected: str) -> _T | None:
        name, value = self._find(word)
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError:
            self._warnings.append(f"cannot use {name} from the environment: expected {expected}; it is ignored")
            return None

    def _insecure(self) -> bool:
        """By the specification only "true" is true; a warning is due for what is neither that nor "false"."""
        name, value = self._find("INSECURE")
        word = (value or "false").lower()
        if word not in ("true", "false"):
            self._warnings.append(
                f'cannot use {name} from the environment: expected "true" or "false"; it is taken for false'
            )
        return word == "true"

    def _client_pair(self) -> tuple[str | None, str | None]:
        """The files of the client certificate and its key; a key alone is of no use."""
        certificate = self._find("CLIENT_CERTIFICATE")[1]
        name, key = self._find("CLIENT_KEY")
        if key is not None and certificate is None:
            self._warnings.append(
                f"cannot use {name} from the environment: there is no {_PREFIX}CLIENT_CERTIFICATE; it is ignored"
            )
            return None, None
        return certificate, key

    def _headers(self) -> dict[str, str]:
        """``k=v,k2=v2`` with percent-encoded values, as W3C baggage without metadata; names in lower case."""
        name, value = self._find("HEADERS")
        headers: dict[str, str] = {}
        for number, pair in enumerate((value or "").split(","), 1):
            key, equals, text = (part.strip() for part in pair.partition("="))
            text = unquote(text)
            if equals and _TOKEN.fullmatch(key) and text.isprintable():
                headers[key.lower()] = text
            elif pair.strip():
                self._warnings.append(
                    f"cannot use the {number}. entry of {name} from the environment: expected name=value, "
                    "percent-encoded and separated by commas; the entry is ignored"
                )
        return headers


def _protocol(text: str) -> Protocol:
    return _one_of(text, _PROTOCOLS)


def _compression(text: str) -> Compression:
    return _one_of(text, _COMPRESSIONS)


def _one_of(text: str, known: tuple[_T, ...]) -> _T:
    for value in known:
        if value == text.lower():
            return value
    raise ValueError


def _milliseconds(text: str) -> float:
    if re.fullmatch("[0-9]{1,12}", text):
        return int(text) / 1000 or INDEFINITE
    raise ValueError
