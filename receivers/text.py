"""One line of the Prometheus text format, version 0.0.4, read carefully.

Strategy. Nearly every line is ordinary: a bare name, labels without a backslash, no odd white space. Such a line is
cut at its braces and its quotation marks, and the pieces are checked. Every other line goes to a scanner that walks
it token by token, accepts all of the grammar, and names what is wrong and where. Cutting is linear, and the scanner's
quantifiers are possessive: nothing is ever tried twice, so that a label value of 10 MB and a line of a million labels
cost linear time.

Source of the grammar: prometheus/prometheus, model/textparse/promlex.l and promparse.go (3.x); where it is silent,
prometheus/common, expfmt/text_parse.go. Text carries no stale marker: its NaN is the ordinary one.
"""

from __future__ import annotations

import re
from itertools import chain
from math import isinf
from operator import lt
from sys import intern
from typing import Literal, NamedTuple, cast

Keyword = Literal["HELP", "TYPE", "UNIT", "EOF", ""]

MAX_EXCERPT = 120  # bytes of a bad line that an error shows
_MAX_TIMESTAMP = 2**63
_RESERVED = "__name__"  # the metric's own name is not a label

_BLANKS = re.compile(rb"[ \t]*+")
_METRIC_NAME = re.compile(rb"[a-zA-Z_:][a-zA-Z0-9_:]*+")
_LABEL_NAME = re.compile(rb"[a-zA-Z_][a-zA-Z0-9_]*+")
_QUOTED = re.compile(rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"')
_SIMPLE_LABEL = re.compile(rb'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"([^"\\\n]*+)"[ \t]*+,?+')
_TOKEN = re.compile(rb"[^ \t{\n]++")
# What Go's strconv.ParseFloat reads, less what Prometheus refuses beforehand: underscores and "p", hence all hex.
_DECIMAL = re.compile(rb"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+")
_SPECIAL = re.compile(rb"(?i:[+-]?+inf(?:inity)?+|nan)")
_TIMESTAMP = re.compile(rb"-?+[0-9]++")
_TAIL = re.compile(rb"[ \t]*+([^ \t{\n]++)(?:[ \t]++(-?+[0-9]++))?+[ \t]*+")
_COMMENT = re.compile(rb"[ \t]*+#[ \t]++(HELP|TYPE|UNIT|EOF)(?:[ \t]++|$)")


class BadLine(ValueError):
    """One line cannot be read. ``reason`` is a clause without a subject's name; ``line`` a bounded excerpt."""

    def __init__(self, reason: str, line: bytes):
        super().__init__(reason)
        self.reason = reason
        self.line = line[:MAX_EXCERPT]
        self._shown = line[: MAX_EXCERPT + 1]

    def __str__(self) -> str:  # made only where it is asked for: bad lines that are skipped may be many
        return f"cannot read the line {show(self._shown)}: {self.reason}"


class Sample(NamedTuple):
    """One sample. ``labels`` flat, sorted by name, without empty values; ``line[:value_at]`` is the constant part.

    ``timestamp_ms`` is int64 milliseconds since the epoch, None where the line has none.
    """

    name: str
    labels: tuple[str, ...]
    value: float
    timestamp_ms: int | None
    value_at: int


class Comment(NamedTuple):
    """A line that begins with ``#``. ``name`` is empty but for HELP, TYPE and UNIT; ``text`` is unescaped."""

    keyword: Keyword
    name: str
    text: str


def show(line: bytes) -> str:
    """Return a printable excerpt of a line, bounded by ``MAX_EXCERPT`` bytes."""
    dots = "..." if len(line) > MAX_EXCERPT else ""
    return repr(line[:MAX_EXCERPT].decode("utf-8", "backslashreplace")) + dots


def parse_sample(line: bytes) -> Sample:
    """Read a sample's line, without its newline; raise BadLine where Prometheus would refuse it."""
    closed = line.rfind(b"}")
    opened = line.find(b"{") if closed >= 0 else -1
    name = _METRIC_NAME.match(line) if opened < 0 else _METRIC_NAME.fullmatch(line, 0, opened)
    tail = name and _TAIL.fullmatch(line, name.end() if opened < 0 else closed + 1)
    labels = () if opened < 0 else _ordinary_labels(line, line[opened + 1 : closed])
    if name is None or tail is None or labels is None:
        return scan_sample(line)
    value, timestamp = tail.groups()
    return Sample(
        intern(name[0].decode()),
        labels,
        _value(value, line),
        None if timestamp is None else _timestamp(timestamp, line),
        tail.start(1),
    )


def scan_sample(line: bytes) -> Sample:
    """Read a sample's line token by token: gives what ``parse_sample`` gives, more slowly, and says what is wrong."""
    return _Scanner(line).sample()


def parse_comment(line: bytes) -> Comment:
    """Read a line that begins with ``#``; raise BadLine for a HELP or TYPE line that Prometheus would refuse.

    UNIT and EOF do not exist in version 0.0.4, but Linkerd's proxies write them: they are told apart and never bad.
    """
    head = _COMMENT.match(line)
    if head is None:
        return _plain(line)
    keyword = cast(Keyword, head[1].decode())
    if keyword == "EOF":
        return Comment("EOF", "", "")
    if head.end() == head.end(1):  # "# HELP" and nothing after it, not even a blank
        return _plain(line)
    scanner = _Scanner(line, head.end())
    try:
        name = scanner.family_name()
        text = line[scanner.position :].lstrip(b" \t").decode()
    except BadLine:
        if keyword == "UNIT":
            return _plain(line)
        raise
    except UnicodeDecodeError:
        raise BadLine(f"the text of {keyword} is not valid UTF-8", line) from None
    if line[scanner.position : scanner.position + 1] not in (b" ", b"\t", b""):
        if keyword == "TYPE":
            raise BadLine("TYPE is not followed by a metric name and a type", line)
        return _plain(line)
    if keyword == "HELP":
        return Comment(keyword, name, unescape(text, quotes=False))
    return Comment(keyword, name, text.rstrip(" \t"))


def parse_value(token: bytes) -> float:
    """Read a number as Prometheus does; raise ValueError with a clause that says what is wrong."""
    if _DECIMAL.fullmatch(token):
        value = float(token)
        if isinf(value):
            raise ValueError("the value is out of range")
        return value
    if _SPECIAL.fullmatch(token):
        return float(token)
    if token.endswith(b"\r"):
        raise ValueError("the line ends in a carriage return")
    raise ValueError("the value is not a number")


def _plain(line: bytes) -> Comment:
    return Comment("", "", line.strip(b" \t").decode("utf-8", "replace"))


def _value(token: bytes, line: bytes) -> float:
    try:
        return parse_value(token)
    except ValueError as error:
        raise BadLine(str(error), line) from None


def _timestamp(token: bytes, line: bytes) -> int:
    if len(token) < 19:
        return int(token)
    digits = token.lstrip(b"-").lstrip(b"0")
    if len(digits) < 20:
        timestamp = int(b"-0" + digits if token.startswith(b"-") else b"0" + digits)
        if -_MAX_TIMESTAMP <= timestamp < _MAX_TIMESTAMP:
            return timestamp
    raise BadLine("the timestamp is out of range", line)


def _ordinary_labels(line: bytes, inside: bytes) -> tuple[str, ...] | None:
    """Cut ``a="b",c="d"`` at its quotation marks; None where something rarer stands there."""
    if b"\\" in inside or b"\n" in inside:
        return None
    try:
        pieces = inside.decode().split('"')  # a= b ,c= d and what follows the last quotation mark
    except UnicodeDecodeError:
        return None
    if len(pieces) % 2 == 0 or pieces.pop() not in ("", ","):
        return None
    if not pieces:
        return ()
    between, values = '"'.join(pieces[::2]), pieces[1::2]
    names = between[:-1].split('=",')
    if between[-1:] != "=" or len(names) != len(values) or not between.isascii():
        return None
    if not all(map(str.isidentifier, names)):  # of ASCII letters alone: exactly the label names that need no quotes
        return None
    return flatten(names, values, line)


def flatten(names: list[str], values: list[str], line: bytes) -> tuple[str, ...]:
    """Sort labels, refuse a name given twice, leave out empty values, share the strings."""
    if not all(map(lt, names, names[1:])):  # Prometheus writes them sorted; others need not
        if len(set(names)) != len(names):
            raise BadLine("a label name is given twice", line)
        pairs = sorted(zip(names, values, strict=True))
        names, values = [name for name, _ in pairs], [value for _, value in pairs]
    if _RESERVED in names:
        raise BadLine(f"the label name {_RESERVED} is reserved", line)
    if "" in values:
        present = [(name, value) for name, value in zip(names, values, strict=True) if value]
        return tuple(map(intern, chain.from_iterable(present)))
    flat = names * 2  # the right length; every place is written below
    flat[::2], flat[1::2] = names, values
    return tuple(map(intern, flat))


def unescape(text: str, *, quotes: bool = True) -> str:
    r"""Undo ``\\``, ``\n`` and (outside HELP) ``\"``; any other escape stays as it is written."""
    if "\\" not in text:
        return text
    parts = [part.replace("\\n", "\n") for part in text.split("\\\\")]
    if quotes:
        parts = [part.replace('\\"', '"') for part in parts]
    return "\\".join(parts)


class _Scanner:
    """Walks a line that is not ordinary, token by token; blanks are allowed between all tokens."""

    def __init__(self, line: bytes, position: int = 0):
        self.line = line
        self.position = position
        self.names: list[str] = []
        self.values: list[str] = []

    def sample(self) -> Sample:
        name = self._take(_METRIC_NAME).decode()
        if self._next(b"{"):
            name = self._braces(name)
        if not name:
            raise self._bad("expected a metric name")
        self._blanks()
        value_at = self.position
        value = self._take(_TOKEN)
        if not value:
            raise self._bad("expected a value")
        number = _value(value, self.line)
        timestamp = self._take(_TIMESTAMP)
        self._blanks()
        if self.position < len(self.line):
            raise self._bad("expected the line to end" if timestamp else "expected an integer timestamp")
        return Sample(
            intern(name),
            flatten(self.names, self.values, self.line),
            number,
            _timestamp(timestamp, self.line) if timestamp else None,
            value_at,
        )

    def family_name(self) -> str:
        """Take the name on a HELP, TYPE or UNIT line, quoted or not."""
        name = self._take(_METRIC_NAME).decode() or self._quoted("metric name")
        if not name:
            raise self._bad("expected a metric name")
        return name

    def _braces(self, name: str) -> str:
        """Take what stands in the braces, the quoted metric name among it, and the closing brace."""
        if self._next(b",") and self._peek() != b"}":
            raise self._bad("expected a label name")
        while not self._next(b"}"):
            if self._simple_label():
                continue
            quoted = self._peek() == b'"'
            key = self._quoted("name") if quoted else self._take(_LABEL_NAME).decode()
            if not key:
                raise self._bad("a name is empty" if quoted else "expected a label name")
            if quoted and self._peek() in (b",", b"}"):
                if name:
                    raise self._bad("the metric name is given twice")
                name = key
            else:
                self._label_value(key)
            self._next(b",")
        return name

    def _simple_label(self) -> bool:
        """Take a label with a bare name and no escapes, and its comma: what makes a long line bearable."""
        label = _SIMPLE_LABEL.match(self.line, self.position)
        if label is None:
            return False
        try:
            self.values.append(label[2].decode())
        except UnicodeDecodeError:
            raise BadLine("a label value is not valid UTF-8", self.line) from None
        self.names.append(label[1].decode())
        self.position = label.end()
        return True

    def _label_value(self, name: str) -> None:
        if not self._next(b"="):
            raise self._bad("expected an equals sign after the label name")
        if self._peek() != b'"':
            raise self._bad("expected a quoted label value")
        self.names.append(name)
        self.values.append(self._quoted("label value"))

    def _quoted(self, what: str) -> str:
        """Take a quoted string, empty where there is none."""
        if self._peek() != b'"':
            return ""
        raw = self._take(_QUOTED)
        if not raw:
            raise self._bad(f"a quoted {what} does not end")
        try:
            return unescape(raw[1:-1].decode())
        except UnicodeDecodeError:
            raise BadLine(f"a {what} is not valid UTF-8", self.line) from None

    def _take(self, token: re.Pattern[bytes]) -> bytes:
        """Skip blanks and take a token, empty where there is none."""
        self._blanks()
        found = token.match(self.line, self.position)
        if found is None:
            return b""
        self.position = found.end()
        return found[0]

    def _next(self, character: bytes) -> bool:
        """Skip blanks, and this character if it is there."""
        if self._peek() != character:
            return False
        self.position += 1
        return True

    def _peek(self) -> bytes:
        self._blanks()
        return self.line[self.position : self.position + 1]

    def _blanks(self) -> None:
        blanks = _BLANKS.match(self.line, self.position)
        self.position = blanks.end() if blanks else self.position

    def _bad(self, reason: str) -> BadLine:
        if self.position >= len(self.line):
            return BadLine(f"{reason}, but the line ends", self.line)
        there = show(self.line[self.position : self.position + 20])
        return BadLine(f"{reason} at byte {self.position + 1}, where {there} stands", self.line)
