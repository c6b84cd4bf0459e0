"""Prometheus' series selectors: ``name{label="value",other=~"regex"}``, with or without a range ``[5m]``.

This is the whole of PromQL that the demo's Prometheus understands. Grammar and quoting: prometheus/promql/parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_UNIT_MS = (31_536_000_000, 604_800_000, 86_400_000, 3_600_000, 60_000, 1_000, 1)
_ESCAPE = re.compile(
    r"""\\(?:([abfnrtv\\'"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))""", re.DOTALL
)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class SelectorError(ValueError):
    """Text that is no selector; ``at`` is the place of the mistake, counted from 0."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(f"1:{at + 1}: parse error: {reason}")
        self.at = at


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; a label that is absent has the value ""."""

    label: str
    operator: str
    value: str
    regex: re.Pattern[str] | None = None

    def __call__(self, value: str) -> bool:
        """Tell whether a value of the label meets the condition; regular expressions match the whole value."""
        found = value == self.value if self.regex is None else self.regex.fullmatch(value) is not None
        return found is (self.operator in ("=", "=~"))


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions that all must hold; ``range_ms`` is set for a range selector."""

    matchers: tuple[Matcher, ...]
    range_ms: int | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a label set (name included, as ``__name__``) meets all conditions."""
        return all(matcher(labels.get(matcher.label, "")) for matcher in self.matchers)


def parse_selector(text: str) -> Selector:
    """Read one instant or range selector. Raises SelectorError with a message like Prometheus' own."""
    return _Parser(text).selector()


def parse_duration_ms(text: str) -> int:
    """Read a Prometheus duration ("1h30m", "500ms") in milliseconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"not a valid duration string: {text!r}")
    return sum(int(number) * unit for number, unit in zip(match.groups(), _UNIT_MS, strict=True) if number)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def selector(self) -> Selector:
        matchers: list[Matcher] = []
        self._skip_space()
        if name := self._take(_NAME):
            matchers.append(Matcher("__name__", "=", name))
        self._skip_space()
        if self._accept("{"):
            matchers += self._matchers(named=bool(name))
        elif not name:
            raise self._unexpected("a selector")
        self._skip_space()
        range_ms = self._range() if self._accept("[") else None
        self._skip_space()
        if self.at < len(self.text):
            raise self._unexpected("the end: this Prometheus knows selectors only")
        if all(matcher("") for matcher in matchers):
            raise SelectorError(0, "vector selector must contain at least one non-empty matcher")
        return Selector(tuple(matchers), range_ms)

    def _matchers(self, named: bool) -> list[Matcher]:
        matchers: list[Matcher] = []
        self._skip_space()
        while not self._accept("}"):
            matchers.append(self._matcher())
            if named and matchers[-1].label == "__name__":
                raise SelectorError(self.at, "metric name must not be set twice")
            self._skip_space()
            if not self._accept(",") and not self._peek("}"):
                raise self._unexpected('"," or "}" in label matching')
            self._skip_space()
        return matchers

    def _matcher(self) -> Matcher:
        if self._peek('"') or self._peek("'") or self._peek("`"):
            label = self._string()
        elif not (label := self._take(_LABEL)):
            raise self._unexpected('a label name or "}" in label matching')
        self._skip_space()
        operator = self._take(_OPERATOR)
        if not operator:
            raise self._unexpected("a label matching operator")
        self._skip_space()
        place = self.at
        value = self._string()
        return Matcher(label, operator, value, self._regex(value, place) if "~" in operator else None)

    def _regex(self, value: str, place: int) -> re.Pattern[str]:
        try:
            return re.compile(value, re.DOTALL)
        except re.error as error:
            raise SelectorError(place, f"error parsing regexp: {error}") from error

    def _string(self) -> str:
        quote = self.text[self.at : self.at + 1]
        if not quote or quote not in "\"'`":
            raise self._unexpected("a quoted string")
        start = end = self.at + 1
        while end < len(self.text) and self.text[end] != quote and (quote == "`" or self.text[end] != "\n"):
            end += 2 if self.text[end] == "\\" and quote != "`" else 1
        if end >= len(self.text) or self.text[end] != quote:
            raise SelectorError(self.at, "unterminated quoted string")
        self.at = end + 1
        raw = self.text[start:end]
        return raw if quote == "`" else _ESCAPE.sub(self._unescape, raw)

    def _unescape(self, match: re.Match[str]) -> str:
        simple, byte, octal, short, long, wrong = match.groups()
        if wrong is not None:
            raise SelectorError(self.at, "invalid escape in string")
        if simple:
            return _ESCAPED.get(simple, simple)
        return chr(int(octal, 8) if octal else int(byte or short or long, 16))

    def _range(self) -> int:
        end = self.text.find("]", self.at)
        if end < 0:
            raise SelectorError(self.at, "unclosed left bracket")
        place, text = self.at, self.text[self.at : end].strip()
        self.at = end + 1
        try:
            range_ms = parse_duration_ms(text)
        except ValueError as error:
            raise SelectorError(place, str(error)) from error
        if range_ms <= 0:
            raise SelectorError(place, "duration must be greater than 0")
        return range_ms

    def _skip_space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match[0]

    def _peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def _accept(self, text: str) -> bool:
        if not self._peek(text):
            return False
        self.at += len(text)
        return True

    def _unexpected(self, wanted: str) -> SelectorError:
        found = repr(self.text[self.at]) if self.at < len(self.text) else "end of input"
        return SelectorError(self.at, f"unexpected {found}, expected {wanted}")
