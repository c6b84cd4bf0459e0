"""Selectors are looked at as the server that is asked by them would."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from agent.demo.query import parse_query
from receivers.match import FederatedSelector, QuerySelector, ranged

OF_QUERY = TypeAdapter[str](QuerySelector)
OF_FEDERATION = TypeAdapter[str](FederatedSelector)

# Tried on Prometheus 2.42 and 3.13: both of them take the first two lists; of the third, /federate of both or of 3.x alone.
EVERYWHERE = [
    "up", "up{}", ' up { a = "b" , } # c', '{job="a",x!="b",y=~"c|d",z!~`\\d+`}', '{__name__=~"a|b"}', "{__name__!=''}",
    'sum{by="x"}', "offset", "start", 'start{a="b"}', '{on=~"x"}', "# one\nup", '{__name__="a",__name__="b"}',
    '{a=~"(?i)x|[[:alpha:]]|\\\\pL"}', '{a=~"(?P<n>x)"}', "job:rate:5m",
]  # fmt: skip
ONLY_IN_3 = ['{"a.b"}', '{"a.b", "c d"="e"}', "{'a'='b'}"]
ONLY_FEDERATED = [
    "{}", '{a=""}', '{a=~".*"}', '{a!="x"}', '{__name__=~".*"}', 'up{__name__="x"}', 'up{__name__=~"x.*"}',
    '{""}', 'up{"x"}', '{__name__=""}',
]  # fmt: skip
NOWHERE = [
    '{job="x"', "{job}", "{job=x}", '{job=="x"}', '{job="x" a="b"}', "{,}", '{a=~"("}', '{a=~"x{1001}"}', '{a="\\q"}',
    "up offset 5m", "up[5m]", "up @ 1", "rate(up[5m])", "up + up", "(up)", "on", "NaN", "1", '"up"', "-up", "é", "up}",
]  # fmt: skip


@pytest.mark.parametrize("text", EVERYWHERE + ONLY_IN_3)
def test_what_both_take(text: str) -> None:
    assert OF_QUERY.validate_python(text) == text
    assert OF_FEDERATION.validate_python(text) == text
    assert parse_query(ranged(text, 5)).range_ms == 5  # a comment does not swallow it


@pytest.mark.parametrize("text", ONLY_FEDERATED)
def test_federation_may_take_all(text: str) -> None:
    assert OF_FEDERATION.validate_python(text) == text
    with pytest.raises(ValidationError, match="not a selector: 1:1: parse error: "):
        OF_QUERY.validate_python(text)


@pytest.mark.parametrize("text", NOWHERE)
def test_what_neither_takes(text: str) -> None:
    for kind in (OF_QUERY, OF_FEDERATION):
        with pytest.raises(ValidationError, match=r"not a selector: \d+:\d+: .*; write one such as "):
            kind.validate_python(text)


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing(text: str) -> None:
    for kind in (OF_QUERY, OF_FEDERATION):
        with pytest.raises(ValidationError, match="an empty selector; write one such as "):
            kind.validate_python(text)


def test_ranges() -> None:
    assert ranged('{a="b"}', 35_001) == '{a="b"}[35001ms]'
    assert ranged("up # all", 1) == "up # all\n[1ms]"
