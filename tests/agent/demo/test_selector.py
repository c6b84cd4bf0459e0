"""Selectors as Prometheus reads them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.demo.selector import SelectorError, parse_duration_ms, parse_selector


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("up", [("__name__", "=", "up")]),
        (' request_total { job = "a" , } ', [("__name__", "=", "request_total"), ("job", "=", "a")]),
        (
            '{job="a",x!="b",y=~"c|d",z!~`\\d+`}',
            [("job", "=", "a"), ("x", "!=", "b"), ("y", "=~", "c|d"), ("z", "!~", "\\d+")],
        ),
        ("{job='it\\'s'}", [("job", "=", "it's")]),
        (r'{a="q\"uo\\te\n\x41\u00e9\101"}', [("a", "=", 'q"uo\\te\nAéA')]),
        ("job:rate:5m # comment", [("__name__", "=", "job:rate:5m")]),
        ('{"quoted.name"="v"}', [("quoted.name", "=", "v")]),
        ('{__name__=~"stack_.+"}', [("__name__", "=~", "stack_.+")]),
    ],
)
def test_good_selectors(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert [(m.label, m.operator, m.value) for m in parse_selector(text).matchers] == expected


@pytest.mark.parametrize(
    ("text", "range_ms"), [("up[5m]", 300_000), ('{job="a"}[1h30m]', 5_400_000), ("up [ 500ms ]", 500), ("up", None)]
)
def test_ranges(text: str, range_ms: int | None) -> None:
    assert parse_selector(text).range_ms == range_ms


@pytest.mark.parametrize(
    "text",
    ["", "{}", "up{", 'up{job="a"', "up{job}", "up{job=}", "up{job=a}", 'up{job="a}', 'up{job=="a"}', "up[5m", "up[5]",
     "up[0s]", "rate(up[5m])", "up + up", "1", '{a=~"("}', '{a=~".*"}', '{a=""}', '{a!="x"}', 'up{__name__="x"}',
     '{a="\\q"}', 'up{a="b" c="d"}', "up[5m] offset 1m"],
)  # fmt: skip
def test_bad_selectors(text: str) -> None:
    with pytest.raises(SelectorError, match=r"^1:\d+: parse error: "):
        parse_selector(text)


@pytest.mark.parametrize(
    ("text", "labels", "found"),
    [
        ('{a="1"}', {"a": "1"}, True),
        ('{a="1"}', {}, False),
        ('{a!="1",b="2"}', {"b": "2"}, True),
        ('{a=~"x.z"}', {"a": "xyz"}, True),
        ('{a=~"x"}', {"a": "xyz"}, False),
        ('{a=~"x|",b="2"}', {"b": "2"}, True),
        ('{a!~"x.*",b="2"}', {"a": "xyz", "b": "2"}, False),
    ],
)
def test_matching(text: str, labels: dict[str, str], found: bool) -> None:
    assert parse_selector(text).matches(labels) is found


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SelectorError):
        assert parse_selector(text).matchers


@pytest.mark.parametrize(("text", "ms"), [("1d", 86_400_000), ("1w2d", 777_600_000), ("1m1ms", 60_001)])
def test_durations(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5m1h", "1.5m"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid duration"):
        parse_duration_ms(text)
