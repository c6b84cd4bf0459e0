"""What the demo's Prometheus understands of PromQL: a series selector, with or without a range ``[5m]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.selectors import Selector, SelectorError, begin_selector, parse_selector

_RANGE = re.compile(r"\[\s*([^]]*?)\s*\]\s*")
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_UNIT_MS = (31_536_000_000, 604_800_000, 86_400_000, 3_600_000, 60_000, 1_000, 1)


@dataclass(frozen=True, slots=True)
class Query:
    """A selector; ``range_ms`` is set where a range was asked for."""

    selector: Selector
    range_ms: int | None = None


def parse_query(text: str) -> Query:
    """Read one instant or range selector. Raises SelectorError with a message like Prometheus' own."""
    selector, at = begin_selector(text)
    if not text.startswith("[", at):
        return Query(parse_selector(text))
    match = _RANGE.fullmatch(text, at)
    if match is None:
        raise SelectorError(text, at, "unclosed left bracket, or more after the range: this Prometheus knows no more")
    try:
        range_ms = parse_duration_ms(match[1])
    except ValueError as error:
        raise SelectorError(text, match.start(1), str(error)) from error
    if range_ms <= 0:
        raise SelectorError(text, match.start(1), "duration must be greater than 0")
    return Query(selector, range_ms)


def parse_duration_ms(text: str) -> int:
    """Read a Prometheus duration ("1h30m", "500ms") in milliseconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"not a valid duration string: {text!r}")
    return sum(int(number) * unit for number, unit in zip(match.groups(), _UNIT_MS, strict=True) if number)
