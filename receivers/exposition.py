"""A page of metrics as a target or ``/federate`` writes it, read carefully and whole.

Strategy. Right before fast: ``skeleton`` is the fast road and comes here with the lines that it does not know. A page
is a list of lines, and each line is read by ``text`` (or, for another format, by a module of the same shape).
What is known of families (TYPE, HELP, UNIT) is kept beside the samples, not mixed into them: ``/federate`` and the
proxies write lines in any order, so that membership is asked afterwards, by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from receivers.text import BadLine, Comment, Sample, parse_comment, parse_sample, parse_value, show

__all__ = [
    "BadContentType",
    "BadLine",
    "BadPage",
    "Comment",
    "Format",
    "Kind",
    "Metadata",
    "OnBadLine",
    "Page",
    "Sample",
    "apply_comment",
    "belongs",
    "ends_whole",
    "family_of",
    "format_of",
    "kind_of",
    "lines_of",
    "parse_comment",
    "parse_page",
    "parse_sample",
    "parse_value",
]

Kind = Literal["counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"]
Format = Literal["text", "openmetrics", "protobuf"]
OnBadLine = Literal["refuse", "skip"]

MAX_LISTED_BAD_LINES = 1000  # a page of garbage must not become a longer list of reasons

# The words after a metric's name on a TYPE line. Version 0.0.4 has the first five; the others are OpenMetrics' and
# prometheus/common's, which the proxies' pages use.
_KINDS: Mapping[str, Kind] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "untyped": "unknown",
    "unknown": "unknown",
    "gaugehistogram": "gaugehistogram",
    "gauge_histogram": "gaugehistogram",
    "info": "info",
    "stateset": "stateset",
}
# What a sample's name may add to its family's, besides nothing.
_SUFFIXES: Mapping[Kind, tuple[str, ...]] = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount", "_sum", "_count"),
    "summary": ("_sum", "_count"),
    "info": ("_info",),
}
_ALL_SUFFIXES = tuple(sorted({suffix for suffixes in _SUFFIXES.values() for suffix in suffixes}))

_FORMATS: Mapping[str, Format] = {
    "text/plain": "text",
    "application/openmetrics-text": "openmetrics",
    "application/vnd.google.protobuf": "protobuf",
}
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_MEDIA_TYPE = re.compile(rf"[ \t]*+({_TOKEN}/{_TOKEN})[ \t]*+")
_PARAMETER = re.compile(rf";[ \t]*+({_TOKEN})[ \t]*+=[ \t]*+(?:{_TOKEN}|\"[^\"\\]*+(?:\\.[^\"\\]*+)*+\")[ \t]*+")
_END = re.compile(r"(?:;[ \t]*+)?+")


class BadPage(ValueError):
    """The page cannot be read: the number of the line (from 1), the reason, and a bounded excerpt of the line."""

    def __init__(self, line_number: int, reason: str, excerpt: bytes):
        self.line_number = line_number
        self.reason = reason
        self.excerpt = excerpt
        super().__init__(f"cannot read line {line_number} of the page, {show(excerpt)}: {reason}")


class BadContentType(ValueError):
    """The Content-Type names no format that can be read."""


@dataclass(slots=True)
class Metadata:
    """What a page says of a family."""

    kind: Kind = "unknown"
    help: str = ""
    unit: str = ""


@dataclass(slots=True)
class Page:
    """A page read: samples in page order, metadata by family name, and what was skipped.

    ``bad_count`` lines were skipped; ``bad_lines`` lists (line number from 1, reason) of the first
    ``MAX_LISTED_BAD_LINES`` of them.
    """

    samples: list[Sample] = field(default_factory=list)
    metadata: dict[str, Metadata] = field(default_factory=dict)
    bad_lines: list[tuple[int, str]] = field(default_factory=list)
    bad_count: int = 0


def parse_page(body: bytes, *, on_bad_line: OnBadLine = "refuse") -> Page:
    """Read a whole page of text 0.0.4; the proxies' hybrid (``# UNIT``, ``# EOF``) is read as one too.

    A bad line refuses the page (BadPage), as in Prometheus, or is left out and listed. Whether the body is complete
    is a separate question: ``ends_whole``.
    """
    page = Page()
    for number, line in enumerate(lines_of(body), 1):
        try:
            _read_line(page, line)
        except BadLine as bad:
            if on_bad_line == "refuse":
                raise BadPage(number, bad.reason, bad.line) from None
            page.bad_count += 1
            if page.bad_count <= MAX_LISTED_BAD_LINES:
                page.bad_lines.append((number, bad.reason))
    return page


def lines_of(body: bytes) -> Iterator[bytes]:
    """Walk the lines of a body without their newlines, one copied at a time."""
    start = 0
    while (end := body.find(b"\n", start)) >= 0:
        yield body[start:end]
        start = end + 1
    if start < len(body):
        yield body[start:]


def ends_whole(body: bytes) -> bool:
    """Tell whether the body ends at a line's end; one that does not was cut short. An empty body is whole."""
    return not body or body.endswith(b"\n")


def kind_of(word: str) -> Kind | None:
    """Return the kind that a TYPE line's word means, None for a word that is none."""
    return _KINDS.get(word)


def apply_comment(metadata: dict[str, Metadata], comment: Comment, line: bytes) -> None:
    """Enter a HELP, TYPE or UNIT comment; the last of several counts, as in Prometheus. Unknown types are bad."""
    if not comment.name:
        return
    if comment.keyword == "TYPE":
        kind = kind_of(comment.text)
        if kind is None:
            raise BadLine(f"unknown metric type {comment.text[:40]!r}", line)
        metadata.setdefault(comment.name, Metadata()).kind = kind
    elif comment.keyword == "HELP":
        metadata.setdefault(comment.name, Metadata()).help = comment.text
    else:
        metadata.setdefault(comment.name, Metadata()).unit = comment.text


def family_of(sample_name: str, metadata: Mapping[str, Metadata]) -> tuple[str, Metadata] | None:
    """Return the name and metadata of the family that a sample belongs to, None where the page names none.

    A family of the sample's own name that has a kind comes first, then one whose kind allows the suffix, then one of
    the sample's own name without a kind (HELP alone, or untyped).
    """
    own = metadata.get(sample_name)
    if own is not None and own.kind != "unknown":
        return sample_name, own
    for suffix in _ALL_SUFFIXES:
        if sample_name.endswith(suffix):
            name = sample_name[: -len(suffix)]
            found = metadata.get(name)
            if found is not None and suffix in _SUFFIXES.get(found.kind, ()):
                return name, found
    return None if own is None else (sample_name, own)


def belongs(sample_name: str, family_name: str, kind: Kind) -> bool:
    """Tell whether a sample of this name may stand in this family (Prometheus' isSeriesPartOfFamily)."""
    if sample_name == family_name:
        return True
    suffix = sample_name.removeprefix(family_name)
    return suffix != sample_name and suffix in _SUFFIXES.get(kind, ())


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


def _read_line(page: Page, line: bytes) -> None:
    text = line.lstrip(b" \t")
    if not text:
        return
    if text.startswith(b"#"):
        apply_comment(page.metadata, parse_comment(line), line)
    else:
        page.samples.append(parse_sample(line))
