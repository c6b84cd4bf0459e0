"""Which format a page comes in: what is asked for (Accept), and what came (Content-Type).

Source: prometheus/prometheus, scrape/scrape.go (acceptHeader), config/config.go (ScrapeProtocolsHeaders) and
model/textparse/interface.go (New).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

Format = Literal["text", "openmetrics", "protobuf"]
Escaping = Literal["allow-utf-8", "underscores", "dots", "values"]
Protocol = Literal[
    "PrometheusProto", "OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4"
]

TEXT_FIRST: tuple[Protocol, ...] = (
    "OpenMetricsText1.0.0",
    "OpenMetricsText0.0.1",
    "PrometheusText1.0.0",
    "PrometheusText0.0.4",
)
"""What Prometheus asks for by default, in the order of its liking."""

PROTOBUF_FIRST: tuple[Protocol, ...] = ("PrometheusProto", *TEXT_FIRST)
"""What Prometheus asks for where native histograms are wanted: no other format has them."""

_MEDIA_TYPES: Mapping[Protocol, str] = {
    "PrometheusProto": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    "OpenMetricsText1.0.0": "application/openmetrics-text;version=1.0.0",
    "OpenMetricsText0.0.1": "application/openmetrics-text;version=0.0.1",
    "PrometheusText1.0.0": "text/plain;version=1.0.0",
    "PrometheusText0.0.4": "text/plain;version=0.0.4",
}
_ESCAPED: frozenset[Protocol] = frozenset(("OpenMetricsText1.0.0", "PrometheusText1.0.0"))

_FORMATS: Mapping[str, Format] = {
    "text/plain": "text",
    "application/openmetrics-text": "openmetrics",
    "application/vnd.google.protobuf": "protobuf",
}
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_MEDIA_TYPE = re.compile(rf"[ \t]*+({_TOKEN}/{_TOKEN})[ \t]*+")
_PARAMETER = re.compile(rf";[ \t]*+({_TOKEN})[ \t]*+=[ \t]*+(?:{_TOKEN}|\"[^\"\\]*+(?:\\.[^\"\\]*+)*+\")[ \t]*+")
_END = re.compile(r"(?:;[ \t]*+)?+")


class BadContentType(ValueError):
    """The Content-Type names no format that can be read."""


def accept_header(protocols: Iterable[Protocol] = PROTOBUF_FIRST, escaping: Escaping = "allow-utf-8") -> str:
    """Return the Accept header that asks for these formats, the dearest first, and for anything at last.

    ``escaping`` says how the server is to write names that are not of ASCII letters, digits and underscores alone.
    """
    weight = len(_MEDIA_TYPES) + 1
    wanted = []
    for protocol in protocols:
        escaped = f";escaping={escaping}" if protocol in _ESCAPED else ""
        wanted.append(f"{_MEDIA_TYPES[protocol]}{escaped};q=0.{weight}")
        weight -= 1
    return ",".join([*wanted, f"*/*;q=0.{weight}"])


def format_of(content_type: str | None, fallback: Format | None = None) -> Format:
    """Return the format that a Content-Type names, or the fallback where it names none (Prometheus 3's rule).

    Without a fallback a missing, malformed or foreign Content-Type raises BadContentType.
    """
    media_type, reason = _media_type(content_type or "")
    found = _FORMATS.get(media_type)
    if found is not None:
        return found
    if fallback is not None:
        return fallback
    raise BadContentType(
        f"cannot choose a parser for Content-Type {(content_type or '')[:100]!r}: {reason}; "
        'set fallback_format if the body is known to be "text" or "openmetrics"'
    )


def _media_type(content_type: str) -> tuple[str, str]:
    """Read a media type as Go's mime.ParseMediaType does: (type in lower case or empty, what is wrong with it)."""
    if not content_type.strip():
        return "", "the server sent none"
    head = _MEDIA_TYPE.match(content_type)
    if head is None:
        return "", "it is not of the form type/subtype"
    position, names = head.end(), set[str]()
    while (parameter := _PARAMETER.match(content_type, position)) is not None:
        name = parameter[1].lower()
        if name in names:
            return "", f"its parameter {name[:40]!r} is given twice"
        names.add(name)
        position = parameter.end()
    if not _END.fullmatch(content_type, position):
        return "", "its parameters are malformed"
    return head[1].lower(), "no metrics come in this format"
