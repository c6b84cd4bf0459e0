"""A page of metrics as a target or ``/federate`` writes it, read carefully and whole.

Strategy. Right before fast: ``skeleton`` is the fast road and comes here with the lines that it does not know. A page
is a list of lines, and each line is read by ``text`` (or, for another format, by a module of the same shape).
What is known of families (TYPE, HELP, UNIT) is kept beside the samples, not mixed into them: ``/federate`` and the
proxies write lines in any order, so that membership is asked afterwards, by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ebbtide import Exemplar, NativeHistogram
from receivers.text import BadLine, Comment, Sample, parse_comment, parse_sample, parse_value, show

__all__ = [
    "BadLine",
    "BadPage",
    "Comment",
    "Kind",
    "Metadata",
    "OnBadLine",
    "Page",
    "Sample",
    "apply_comment",
    "belongs",
    "ends_whole",
    "family_of",
    "kind_of",
    "lines_of",
    "parse_comment",
    "parse_page",
    "parse_sample",
    "parse_value",
]

Kind = Literal["counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"]
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


class BadPage(ValueError):
    """The page cannot be read: the number of the line (from 1), the reason, and a bounded excerpt of the line."""

    def __init__(self, line_number: int, reason: str, excerpt: bytes):
        self.line_number = line_number
        self.reason = reason
        self.excerpt = excerpt
        super().__init__(f"cannot read line {line_number} of the page, {show(excerpt)}: {reason}")

    def said_of(self, page: str) -> str:
        """Say it of a page that has a name."""
        return f"cannot read line {self.line_number} of {page}, {show(self.excerpt)}: {self.reason}"


@dataclass(slots=True)
class Metadata:
    """What a page says of a family."""

    kind: Kind = "unknown"
    help: str = ""
    unit: str = ""


@dataclass(slots=True)
class Page:
    """A page read: samples in page order, metadata by family name, and what was skipped.

    By index of the sample: ``natives`` the native histogram whose count is the sample's value; ``exemplars``; ``created``
    the start time in ns of its stream, where the page tells it; ``folded`` the ``_created`` lines themselves, which tell
    it and are no series of their own. ``bad_count`` lines were skipped; ``bad_lines`` lists (line number from 1, reason)
    of the first ``MAX_LISTED_BAD_LINES`` of them.
    """

    samples: list[Sample] = field(default_factory=list)
    metadata: dict[str, Metadata] = field(default_factory=dict)
    bad_lines: list[tuple[int, str]] = field(default_factory=list)
    bad_count: int = 0
    natives: dict[int, NativeHistogram] = field(default_factory=dict)
    exemplars: dict[int, tuple[Exemplar, ...]] = field(default_factory=dict)
    created: dict[int, int] = field(default_factory=dict)
    folded: set[int] = field(default_factory=set)

    def skip(self, line_number: int, reason: str) -> None:
        """Count a bad line that is left out."""
        self.bad_count += 1
        if self.bad_count <= MAX_LISTED_BAD_LINES:
            self.bad_lines.append((line_number, reason))


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
            page.skip(number, bad.reason)
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


def _read_line(page: Page, line: bytes) -> None:
    text = line.lstrip(b" \t")
    if not text:
        return
    if text.startswith(b"#"):
        apply_comment(page.metadata, parse_comment(line), line)
    else:
        page.samples.append(parse_sample(line))
