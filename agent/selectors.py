"""Prometheus' series selectors: ``name{label="value",other=~"regex"}``, as PromQL's parser reads them.

Strategy. One pass from left to right; each method reads one thing of the grammar and leaves the place behind it. What is
taken and what is refused, and the words of the refusals, are those of Prometheus 3: promql/parser/lex.go (tokens),
generated_parser.y (``vector_selector``), parse.go (the checks at the end) and util/strutil/quote.go (strings).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.regex import Regex, RegexError

SERIES_NAME = "__name__"
"""The label under which selectors and rules see a series' name."""

Operator = Literal["=", "!=", "=~", "!~"]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_QUOTES = tuple("\"'`")
# The words of PromQL that cannot name a metric, as its errors show them. All other keywords can.
_RESERVED = {
    "atan2": "<op:atan2>",
    "bool": "<bool>",
    "ignoring": "<ignoring>",
    "on": "<on>",
    "group_left": "<group_left>",
    "group_right": "<group_right>",
    "inf": 'number "inf"',
    "nan": 'number "nan"',
}

_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_LARGEST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


class SelectorError(ValueError):
    """Text that is no selector: ``LINE:COLUMN: parse error: reason``, columns in bytes and from 1, as in Prometheus."""

    def __init__(self, text: str, at: int, reason: str) -> None:
        line_start = text.rfind("\n", 0, at) + 1
        column = len(text[line_start:at].encode("utf-8", "surrogatepass")) + 1
        super().__init__(f"{text.count(chr(10), 0, at) + 1}:{column}: parse error: {reason}")


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; a label that is absent has the value ""."""

    label: str
    operator: Operator
    value: str
    regex: Regex | None = field(default=None, compare=False)

    def __call__(self, value: str) -> bool:
        """Tell whether a value of the label meets the condition; regular expressions match the whole value."""
        found = value == self.value if self.regex is None else self.regex.matches(value)
        return found is (self.operator in ("=", "=~"))


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions that all must hold; at least one of them does not hold for an absent label."""

    matchers: tuple[Matcher, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a label set, with the metric's name as ``__name__``, meets all conditions."""
        return all(matcher(labels.get(matcher.label, "")) for matcher in self.matchers)


def parse_selector(text: str, *, federated: bool = False) -> Selector:
    """Read a selector, and nothing else. Raises SelectorError.

    ``federated``: as ``match[]`` of /federate, where one may select all series, or name its metric twice: there Prometheus
    checks the grammar alone (``ParseMetricSelector``).
    """
    parser = _Parser(text)
    selector, rest = parser.selector(federated=federated), parser.at
    if rest < len(text):
        raise SelectorError(text, rest, _surplus(text, rest))
    return selector


def begin_selector(text: str) -> tuple[Selector, int]:
    """Read the selector that a text begins with; returns it and where the rest begins. Raises SelectorError."""
    parser = _Parser(text)
    return parser.selector(), parser.at


def _surplus(text: str, at: int) -> str:
    """Say why a selector cannot go on as it does."""
    word = _NAME.match(text, at)
    if text[at] == "[":
        return "unexpected range: series are selected here, not a span of time"
    if text[at] == "@" or (word and word[0].lower() == "offset"):
        return f'unexpected "{word[0] if word else "@"}": series are selected here, not a time'
    return f"unexpected {_described(text, at)} after the selector: one is expected, not an expression"


def _described(text: str, at: int) -> str:
    """Describe the token at a place as Prometheus does."""
    if at >= len(text):
        return "end of input"
    if word := _LABEL.match(text, at):
        return f"identifier {_quoted(word[0])}"
    if operator := _OPERATOR.match(text, at):
        return f"<op:{operator[0]}>" if len(operator[0]) > 1 else '"="'
    return "string" if text[at] in _QUOTES else _quoted(text[at])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class _Parser:
    """A text and the place in it up to which it was read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def selector(self, *, federated: bool = False) -> Selector:
        """``name``, ``{...}`` or both, and the space around."""
        self.skip_space()
        start = self.at
        name = self.metric_name()
        self.skip_space()
        matchers = []
        if self.accept("{"):
            matchers = self.matchers()
            self.skip_space()
        elif not name:
            raise self.error(self.at, f"unexpected {_described(self.text, self.at)}, expected a metric name or {{")
        if name:
            twice = next((matcher.value for matcher in matchers if matcher.label == SERIES_NAME), None)
            if twice is not None and not federated:
                raise self.error(start, f"metric name must not be set twice: {_quoted(name)} or {_quoted(twice)}")
            matchers.append(Matcher(SERIES_NAME, "=", name))
        if not federated and all(matcher("") for matcher in matchers):
            raise self.error(start, "vector selector must contain at least one non-empty matcher")
        return Selector(tuple(matchers))

    def metric_name(self) -> str:
        """A name outside the braces; "" where there is none."""
        start = self.at
        name = self.take(_NAME)
        if name.lower() in _RESERVED:
            raise self.error(
                start, f"unexpected {_RESERVED[name.lower()]}: a keyword (but {{{_quoted(name)}}} is a name)"
            )
        return name

    def matchers(self) -> list[Matcher]:
        """What stands between the braces, up to and with the closing one."""
        found: list[Matcher] = []
        while not self.closes():
            found.append(self.matcher())
            if not self.closes_or_goes_on():
                break
        return found

    def closes(self) -> bool:
        self.skip_space()
        return self.accept("}")

    def closes_or_goes_on(self) -> bool:
        """Read "," (true) or "}" (false)."""
        if self.closes():
            return False
        if not self.accept(","):
            raise self.unexpected('"," or "}"')
        return True

    def matcher(self) -> Matcher:
        """``label="value"``, ``"label"="value"``, or a metric's name in quotes."""
        start = self.at
        quoted = self.text.startswith(_QUOTES, start)
        label = self.string() if quoted else self.take(_LABEL)
        if not quoted and not label:
            raise self.unexpected('identifier or "}"')
        self.skip_space()
        operator = self.take(_OPERATOR)
        if not operator:
            if quoted:
                return Matcher(SERIES_NAME, "=", label)
            raise self.unexpected("label matching operator")
        self.skip_space()
        if not self.text.startswith(_QUOTES, self.at):
            raise self.unexpected("string")
        value = self.string()
        try:
            regex = Regex.alone(value) if "~" in operator else None
        except RegexError as error:
            raise self.error(start, str(error)) from None
        return Matcher(label, operator, value, regex)  # type: ignore[arg-type]  # the pattern knows these four only

    def string(self) -> str:
        """A string in any of the three quotes. Bytes that are not UTF-8 (by escapes) become lone surrogates."""
        start = self.at
        quote = self.text[start]
        self.at += 1
        out = bytearray()
        while not self.accept(quote):
            if self.at >= len(self.text) or (quote != "`" and self.text[self.at] == "\n"):
                raise self.error(start, "unterminated raw string" if quote == "`" else "unterminated quoted string")
            char = self.text[self.at]
            self.at += 1
            if char == "\ufffd" or ord(char) in _SURROGATES:  # what Go reads in place of a byte that is not UTF-8
                raise self.error(start, "invalid UTF-8 rune")
            out += self.escape(start, quote) if char == "\\" and quote != "`" else char.encode()
        return out.decode("utf-8", "surrogateescape")

    def escape(self, start: int, quote: str) -> bytes:
        """What follows a backslash in the string that began at ``start``."""
        char = self.text[self.at : self.at + 1]
        self.at += 1
        if not char:
            raise self.error(start, "escape sequence not terminated")
        if char == quote or char in _ESCAPED:
            return _ESCAPED.get(char, char).encode()
        if char in "01234567":
            self.at -= 1
            return bytes([self.code(start, 3, 8, 0xFF)])
        if char == "x":
            return bytes([self.code(start, 2, 16, 0xFF)])
        if char in "uU":
            return chr(self.code(start, 4 if char == "u" else 8, 16, _LARGEST_CODE_POINT)).encode()
        raise self.error(start, f"unknown escape sequence {_code_point(char)}")

    def code(self, start: int, digits: int, base: int, largest: int) -> int:
        """The number of an escape."""
        number = 0
        for _ in range(digits):
            char = self.text[self.at : self.at + 1]
            if not char:
                raise self.error(start, "escape sequence not terminated")
            digit = "0123456789abcdef".find(char.lower())
            if not 0 <= digit < base:
                raise self.error(start, f"illegal character {_code_point(char)} in escape sequence")
            number = number * base + digit
            self.at += 1
        if number > largest or number in _SURROGATES:
            raise self.error(start, "escape sequence is an invalid Unicode code point")
        return number

    def skip_space(self) -> None:
        """Blanks and comments may stand between any two tokens."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def take(self, pattern: re.Pattern[str]) -> str:
        """Read what matches here; "" where nothing does."""
        match = pattern.match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match[0]

    def accept(self, text: str) -> bool:
        """Read exactly this, if it stands here."""
        found = self.text.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def error(self, at: int, reason: str) -> SelectorError:
        """Make the error for a place."""
        return SelectorError(self.text, at, reason)

    def unexpected(self, wanted: str) -> SelectorError:
        """Make the error for what stands here, between braces, instead of what is wanted."""
        at, char = self.at, self.text[self.at : self.at + 1]
        if not char:
            return self.error(at, "unexpected end of input inside braces")
        if char == "{":
            return self.error(at, "unexpected left brace '{'")
        if char == "!" and not _OPERATOR.match(self.text, at):
            return self.error(at, f"unexpected character after '!' inside braces: '{self.text[at + 1 : at + 2]}'")
        if char in ",}=!" or char in _QUOTES or _LABEL.match(char):
            return self.error(at, f"unexpected {_described(self.text, at)} in label matching, expected {wanted}")
        return self.error(at, f"unexpected character inside braces: '{_quoted(char)[1:-1]}'")


def _code_point(char: str) -> str:
    return f"U+{ord(char):04X} '{char}'"
