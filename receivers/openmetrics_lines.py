"""One line of OpenMetrics text 1.0, read carefully.

Strategy. The grammar leaves no choice: one blank between tokens, none elsewhere, so that one regular expression reads a
whole line. Its quantifiers are possessive: nothing is tried twice, and a line of megabytes costs linear time. A line that
does not match is walked piece by piece, to say what is wrong with it.

Source of the grammar: prometheus/prometheus, model/textparse/openmetricslex.l and openmetricsparse.go (3.x), and the
OpenMetrics specification 1.0, "Text Format"; quoted names are later than both, as prometheus/proposals 0028 has them.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from math import isfinite
from sys import intern
from typing import NamedTuple, cast

from ebbtide import Exemplar
from receivers.text import BadLine, Comment, Keyword, Sample, flatten, parse_value, show, unescape

MAX_EXEMPLAR = 128
"""Characters that the names and values of an exemplar's labels may have together (OpenMetrics 1.0, "Exemplars")."""

EOF = b"# EOF"

_MS_AT_MOST = 2**63 - 1

_BARE = rb"[a-zA-Z_][a-zA-Z0-9_]*+"
_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_QUOTED = rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"'
# Prometheus' lexer takes no blank in braces, client_python does, and writes one behind a quoted metric name.
_ITEM = rb"(?:%b|%b)(?:=%b)?+" % (_BARE, _QUOTED, _QUOTED)
_BRACES = rb"\{(?:%b(?: *+, *+%b)*+)?+\}" % (_ITEM, _ITEM)
_PAIR = rb"(?:%b|%b)=%b" % (_BARE, _QUOTED, _QUOTED)
_PAIRS = rb"\{(?:%b(?: *+, *+%b)*+)?+\}" % (_PAIR, _PAIR)
_TOKEN = rb"[^ \n]++"

_SAMPLE = re.compile(
    rb"(?! )(?P<name>%b)?+(?P<braces>%b)?+ (?P<value>%b)(?: (?!#)(?P<time>%b))?+"
    rb"(?: # (?P<exemplar>%b) (?P<example>%b)(?: (?P<example_time>%b))?+)?+"
    % (_NAME, _BRACES, _TOKEN, _TOKEN, _PAIRS, _TOKEN, _TOKEN)
)
_ITEMS = re.compile(rb"(%b|%b)(?:=(%b))?+" % (_BARE, _QUOTED, _QUOTED))
_COMMENT = re.compile(rb"# (HELP|TYPE|UNIT) (%b|%b) (.*+)" % (_NAME, _QUOTED), re.DOTALL)
_ORDINARY_TIME = re.compile(rb"([0-9]{1,11}+)(?:\.([0-9]*+))?+")
_KINDS = frozenset(("counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"))

# What a line is made of, in order, for the walk that says what is wrong: (piece, what is missing where it does not match).
_HEAD = re.compile(rb"(?:%b)?+(?:%b)?+" % (_NAME, _BRACES))
_STEPS = (
    (re.compile(rb" %b" % _TOKEN), "expected one blank and a value"),
    (re.compile(rb"(?: (?!#)%b)?+" % _TOKEN), ""),
    (re.compile(rb" # (?=\{)"), "expected the line to end, or ` # {` and an exemplar"),
    (re.compile(_PAIRS), "expected the labels of an exemplar"),
    (re.compile(rb" %b" % _TOKEN), "expected one blank and the value of the exemplar"),
    (re.compile(rb"(?: %b)?+" % _TOKEN), ""),
    (re.compile(rb"\Z"), "expected the line to end"),
)


class Line(NamedTuple):
    """A sample and what hangs on it."""

    sample: Sample
    exemplar: Exemplar | None


def parse_line(line: bytes, *, strict: bool = False) -> Line:
    """Read a sample's line, without its newline. Raises BadLine.

    Leniently a time that is NaN or infinite counts as none.
    """
    found = _SAMPLE.fullmatch(line)
    if not line:
        raise BadLine("a line is blank", line)
    if found is None:
        raise _explain(line)
    name, braces, value, time, exemplar, example, example_time = found.groups()
    outer = "" if name is None else name.decode()
    inner, labels = _labels(braces, line) if braces else ("", ())
    if bool(outer) == bool(inner):
        raise BadLine("the metric name is given twice" if outer else "the line has no metric name", line)
    sample = Sample(
        intern(outer or inner),
        labels,
        _number(value, line),
        None if time is None else _milliseconds(time, line, strict=strict),
        found.start("value"),
    )
    if exemplar is None:
        return Line(sample, None)
    at = 0 if example_time is None else (_milliseconds(example_time, line, strict=strict) or 0) * 10**6
    return Line(sample, Exemplar(_exemplar_labels(exemplar, line), _number(example, line), at))


def parse_comment(line: bytes) -> Comment:
    """Read a line that begins with ``#`` and is not ``# EOF``. Raises BadLine: OpenMetrics knows no free comments."""
    found = _COMMENT.fullmatch(line)
    if found is None:
        raise BadLine("expected `# TYPE`, `# HELP` or `# UNIT`, a metric name and a text, one blank between them", line)
    keyword, name = cast(Keyword, found[1].decode()), _name(found[2], line)
    try:
        text = found[3].decode()
    except UnicodeDecodeError:
        raise BadLine(f"the text of {keyword} is not valid UTF-8", line) from None
    if keyword == "TYPE" and text not in _KINDS:
        raise BadLine(f"unknown metric type {text[:40]!r}", line)
    if keyword == "UNIT" and text and not name.endswith("_" + text):
        raise BadLine(f"the unit {text[:40]!r} is not the end of the metric name", line)
    return Comment(keyword, name, unescape(text) if keyword == "HELP" else text)


def parse_seconds(token: bytes) -> int | None:
    """Read a time in seconds as int64 milliseconds, those behind the third decimal cut off; None where it is not finite.

    Raises ValueError with a clause that says what is wrong.
    """
    ordinary = _ORDINARY_TIME.fullmatch(token)
    if ordinary is not None:
        return int(ordinary[1]) * 1000 + int(((ordinary[2] or b"") + b"000")[:3])
    seconds = parse_value(token)
    if not isfinite(seconds):
        return None
    if abs(seconds) > _MS_AT_MOST / 1000:
        return _MS_AT_MOST if seconds > 0 else -_MS_AT_MOST - 1
    try:
        return int(Decimal(token.decode()) * 1000)
    except InvalidOperation:  # an exponent of tens of digits
        return int(seconds * 1000)


def _milliseconds(token: bytes, line: bytes, *, strict: bool) -> int | None:
    try:
        time = parse_seconds(token)
    except ValueError:
        raise BadLine("the timestamp is not a number", line) from None
    if time is None and strict:
        raise BadLine("the timestamp is not finite", line)
    return time


def _number(token: bytes, line: bytes) -> float:
    try:
        return parse_value(token)
    except ValueError as error:
        raise BadLine(str(error), line) from None


def _name(token: bytes, line: bytes) -> str:
    """Read a name, quoted or not."""
    name = _text(token, line, "name") if token.startswith(b'"') else token.decode()
    if not name:
        raise BadLine("a name is empty", line)
    return name


def _labels(braces: bytes, line: bytes) -> tuple[str, tuple[str, ...]]:
    """Read what stands in braces: (the metric name or empty, flat labels)."""
    metric, names, values = "", [], []
    for key, value in _ITEMS.findall(braces):
        name = _name(key, line)
        if value:
            names.append(name)
            values.append(_text(value, line, "label value"))
        elif not key.startswith(b'"'):
            raise BadLine(f"the label name {name[:40]!r} has no value", line)
        elif metric:
            raise BadLine("the metric name is given twice", line)
        else:
            metric = name
    return metric, flatten(names, values, line)


def _exemplar_labels(braces: bytes, line: bytes) -> tuple[str, ...]:
    _, labels = _labels(braces, line)
    if sum(map(len, labels)) > MAX_EXEMPLAR:
        raise BadLine(f"the labels of the exemplar have more than {MAX_EXEMPLAR} characters", line)
    return labels


def _text(quoted: bytes, line: bytes, what: str) -> str:
    try:
        return unescape(quoted[1:-1].decode())
    except UnicodeDecodeError:
        raise BadLine(f"a {what} is not valid UTF-8", line) from None


def _explain(line: bytes) -> BadLine:
    """Say what keeps a line from being a sample."""
    head = _HEAD.match(line)
    at = head.end() if head else 0
    if not at:
        return BadLine(f"expected a metric name at byte 1, where {show(line[:20])} stands", line)
    if line[at : at + 1] == b"{":
        return BadLine(f'expected labels of the form {{a="b",c="d"}} at byte {at + 1}', line)
    for piece, missing in _STEPS:
        found = piece.match(line, at)
        if found is None:
            there = show(line[at : at + 20]) if at < len(line) else "the line's end"
            return BadLine(f"{missing} at byte {at + 1}, where {there} stands", line)
        at = found.end()
    return BadLine("the line is no sample", line)
