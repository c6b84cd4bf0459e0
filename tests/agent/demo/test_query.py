"""What the demo's Prometheus reads: selectors, and ranges of them."""

import pytest

from agent.demo.query import parse_duration_ms, parse_query
from agent.selectors import SelectorError, parse_selector


@pytest.mark.parametrize(
    ("text", "selector", "range_ms"),
    [
        ("up", "up", None),
        ("up[5m]", "up", 300_000),
        ('{job="a"}[1h30m]', '{job="a"}', 5_400_000),
        ("up [ 500ms ] ", "up", 500),
    ],
)
def test_selectors_with_and_without_a_range(text: str, selector: str, range_ms: int | None) -> None:
    query = parse_query(text)
    assert (query.selector, query.range_ms) == (parse_selector(selector), range_ms)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("up[5m", "1:3: parse error: unclosed left bracket"),
        ("up[5]", "1:4: parse error: not a valid duration string: '5'"),
        ("up[0s]", "1:4: parse error: duration must be greater than 0"),
        ("up[5m] offset 1m", "1:3: parse error: unclosed left bracket, or more after the range"),
        ("rate(up[5m])", '1:5: parse error: unexpected "("'),
        ("{}[5m]", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("", "1:1: parse error: unexpected end of input"),
    ],
)
def test_refusals(text: str, said: str) -> None:
    with pytest.raises(SelectorError) as refused:
        parse_query(text)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(("text", "ms"), [("1d", 86_400_000), ("1w2d", 777_600_000), ("1m1ms", 60_001)])
def test_durations(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5m1h", "1.5m"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid duration"):
        parse_duration_ms(text)
