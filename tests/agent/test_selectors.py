"""Selectors as Prometheus reads them; the words of refusals are its own."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.selectors import SelectorError, begin_selector, parse_selector


@pytest.mark.parametrize(
    ("text", "matchers"),
    [
        ("up", ["__name__=up"]),
        ("up{}", ["__name__=up"]),
        (' request_total { job = "a" , } ', ["job=a", "__name__=request_total"]),
        ('{job="a",x!="b",y=~"c|d",z!~`\\d+`}', ["job=a", "x!=b", "y=~c|d", "z!~\\d+"]),
        ('{__name__=~"a|b",x!="y"}', ["__name__=~a|b", "x!=y"]),
        ("job:rate:5m # comment", ["__name__=job:rate:5m"]),
        (":a{}", ["__name__=:a"]),
        ('# one\n{ # two\r\na="b" # }\n,}#', ["a=b"]),
        ('{"http.requests"}', ["__name__=http.requests"]),
        ('{"http.requests", "my.label"="x",}', ["__name__=http.requests", "my.label=x"]),
        ("{'a b'!~`x`,`c`='d'}", ["a b!~x", "c=d"]),
        ('{"x", "y"}', ["__name__=x", "__name__=y"]),
        ('sum{by="x"}', ["by=x", "__name__=sum"]),
        ('offset{on="x", inf="y"}', ["on=x", "inf=y", "__name__=offset"]),
        ('up{a=""}', ["a=", "__name__=up"]),
        ('up{a=~".*"}', ["a=~.*", "__name__=up"]),
        ('{"é"="ü"}', ["é=ü"]),
        ('up{""="x"}', ["=x", "__name__=up"]),
    ],
)
def test_selectors(text: str, matchers: list[str]) -> None:
    assert [m.label + m.operator + m.value for m in parse_selector(text).matchers] == matchers


@pytest.mark.parametrize(
    ("string", "value"),
    [
        (r'"\a\b\f\n\r\t\v\\"', "\a\b\f\n\r\t\v\\"),
        (r'"\""', '"'),
        (r"'\''", "'"),
        ("'\"'", '"'),
        ('"\'`"', "'`"),
        (r"`\n'`", r"\n'"),
        ("`a\nb`", "a\nb"),
        (r'"\101\060\377"', "A0\udcff"),
        (r'"\x41\xC3\xa9"', "Aé"),
        (r'"\u00e9\U0001F600"', "é😀"),
        ('"\t"', "\t"),
        ('"#no comment"', "#no comment"),
    ],
)
def test_strings(string: str, value: str) -> None:
    assert parse_selector(f"{{a={string}}}").matchers[0].value == value


REFUSED = {
    "": "1:1: unexpected end of input, expected a metric name or {",
    " \n ": "2:2: unexpected end of input, expected a metric name or {",
    "{}": "1:1: vector selector must contain at least one non-empty matcher",
    '{a=""}': "1:1: vector selector must contain at least one non-empty matcher",
    '{a=~".*"}': "1:1: vector selector must contain at least one non-empty matcher",
    '{a!~".+"}': "1:1: vector selector must contain at least one non-empty matcher",
    '{a!="x"}': "1:1: vector selector must contain at least one non-empty matcher",
    '{""}': "1:1: vector selector must contain at least one non-empty matcher",
    'up{__name__="x"}': '1:1: metric name must not be set twice: "up" or "x"',
    'up{__name__=~"x.*"}': '1:1: metric name must not be set twice: "up" or "x.*"',
    'up{"x"}': '1:1: metric name must not be set twice: "up" or "x"',
    "up{": "1:4: unexpected end of input inside braces",
    'up{job="a"': "1:11: unexpected end of input inside braces",
    "up{job}": '1:7: unexpected "}" in label matching, expected label matching operator',
    "up{job=}": '1:8: unexpected "}" in label matching, expected string',
    "up{job=a}": '1:8: unexpected identifier "a" in label matching, expected string',
    'up{job=="a"}': '1:8: unexpected "=" in label matching, expected string',
    'up{job= ~"a"}': "1:9: unexpected character inside braces: '~'",
    'up{job>"a"}': "1:7: unexpected character inside braces: '>'",
    'up{job!"a"}': "1:7: unexpected character after '!' inside braces: '\"'",
    'up{1="a"}': "1:4: unexpected character inside braces: '1'",
    'up{a:b="a"}': "1:5: unexpected character inside braces: ':'",
    'up{é="a"}': "1:4: unexpected character inside braces: 'é'",
    'up{a="b" c="d"}': '1:10: unexpected identifier "c" in label matching, expected "," or "}"',
    "up{,}": '1:4: unexpected "," in label matching, expected identifier or "}"',
    'up{a="b",,}': '1:10: unexpected "," in label matching, expected identifier or "}"',
    "up{{": "1:4: unexpected left brace '{'",
    '{"a"=}': '1:6: unexpected "}" in label matching, expected string',
    '{"a" b}': '1:6: unexpected identifier "b" in label matching, expected "," or "}"',
    '{"a" =~ "b" "c"}': '1:13: unexpected string in label matching, expected "," or "}"',
    '{a="b}': "1:4: unterminated quoted string",
    '{a="b\n"}': "1:4: unterminated quoted string",
    "{a=`b}": "1:4: unterminated raw string",
    '{a="\\': "1:4: escape sequence not terminated",
    '{a="\\x4': "1:4: escape sequence not terminated",
    '{a="\\q"}': "1:4: unknown escape sequence U+0071 'q'",
    '{a="\\\'"}': "1:4: unknown escape sequence U+0027 '''",
    "{a='\\\"'}": "1:4: unknown escape sequence U+0022 '\"'",
    '{a="\\xg0"}': "1:4: illegal character U+0067 'g' in escape sequence",
    '{a="\\u00e"}': "1:4: illegal character U+0022 '\"' in escape sequence",
    '{a="\\18"}': "1:4: illegal character U+0038 '8' in escape sequence",
    '{a="\\400"}': "1:4: escape sequence is an invalid Unicode code point",
    '{a="\\ud800"}': "1:4: escape sequence is an invalid Unicode code point",
    '{a="\\U00110000"}': "1:4: escape sequence is an invalid Unicode code point",
    '{a="\ufffd"}': "1:4: invalid UTF-8 rune",
    '{é="x"': "1:2: unexpected character inside braces: 'é'",
    '{"é"="x" b}': '1:11: unexpected identifier "b" in label matching, expected "," or "}"',  # columns are bytes
    '{b="",a=~"("}': "1:7: error parsing regexp: missing closing ): `(`",
    '{a=~"x)|(y"}': "1:2: error parsing regexp: unexpected ): `x)|(y`",
    '{a=~"\\\\C"}': "1:2: error parsing regexp: invalid escape sequence: `\\C`, at `\\C`",
    "up[5m]": "1:3: unexpected range: series are selected here, not a span of time",
    "up offset 5m": '1:4: unexpected "offset": series are selected here, not a time',
    "up OFFSET 5m": '1:4: unexpected "OFFSET": series are selected here, not a time',
    "up @ 1": '1:4: unexpected "@": series are selected here, not a time',
    "rate(up[5m])": '1:5: unexpected "(" after the selector: one is expected, not an expression',
    "up + up": '1:4: unexpected "+" after the selector: one is expected, not an expression',
    "up == 1": '1:4: unexpected "=" after the selector: one is expected, not an expression',
    "up or up": '1:4: unexpected identifier "or" after the selector: one is expected, not an expression',
    "up}": '1:3: unexpected "}" after the selector: one is expected, not an expression',
    "up\f": '1:3: unexpected "\\f" after the selector: one is expected, not an expression',
    "1": '1:1: unexpected "1", expected a metric name or {',
    '"up"': "1:1: unexpected string, expected a metric name or {",
    "-up": '1:1: unexpected "-", expected a metric name or {',
    "é": '1:1: unexpected "é", expected a metric name or {',
    'on{a="b"}': '1:1: unexpected <on>: a keyword (but {"on"} is a name)',
    "NaN": '1:1: unexpected number "nan": a keyword (but {"NaN"} is a name)',
}


@pytest.mark.parametrize(("text", "said"), REFUSED.items())
def test_refusals(text: str, said: str) -> None:
    with pytest.raises(SelectorError) as refused:
        parse_selector(text)
    place, _, reason = said.partition(": ")
    assert str(refused.value) == f"{place}: parse error: {reason}"


@pytest.mark.parametrize("text", ["{}", '{a=""}', '{a=~".*"}', 'up{__name__="x"}', 'up{"x"}', '{""}'])
def test_federation_has_the_grammar_alone(text: str) -> None:
    """Prometheus 2.42 and 3.13 take these as match[]; names in quotes only the latter."""
    parse_selector(text, federated=True)
    with pytest.raises(SelectorError):
        parse_selector(text)


@pytest.mark.parametrize(
    ("text", "labels", "found"),
    [
        ("up", {"__name__": "up"}, True),
        ("up", {"__name__": "upper"}, False),
        ('{a="1"}', {"a": "1"}, True),
        ('{a="1"}', {}, False),
        ('{a!="1",b="2"}', {"b": "2"}, True),
        ('{a!="1",b="2"}', {"a": "1", "b": "2"}, False),
        ('{a=~"x.z"}', {"a": "xyz"}, True),
        ('{a=~"x.z"}', {"a": "x\nz"}, True),
        ('{a=~"x"}', {"a": "xyz"}, False),
        ('{a=~"x|y"}', {"a": "xy"}, False),
        ('{a=~"x|",b="2"}', {"b": "2"}, True),
        ('{a!~"x.*",b="2"}', {"a": "xyz", "b": "2"}, False),
        ('{a!~"x.*",b="2"}', {"b": "2"}, True),
        ('{a=~"(?i)XY"}', {"a": "xy"}, True),
        ('{"my.label"="x"}', {"my.label": "x"}, True),
        ('{"x","y"}', {"__name__": "x"}, False),
        ('{a="",b="2"}', {"a": "", "b": "2"}, True),
        (r'{a!="\xff",b="2"}', {"b": "2"}, True),
    ],
)
def test_matching(text: str, labels: dict[str, str], found: bool) -> None:
    assert parse_selector(text).matches(labels) is found


def test_equal_selectors_are_equal_and_have_one_hash() -> None:
    one, other = (parse_selector(text) for text in ('up{a=~"x.*"}', " up { a =~ `x.*`, } "))
    assert one == other
    assert hash(one) == hash(other)
    assert one != parse_selector('up{a=~"x.+"}')


@pytest.mark.parametrize(
    ("text", "rest"), [("up", ""), ("up # c", ""), ("up [5m]", "[5m]"), ('{a="b"}, up', ", up"), ("up{} up", "up")]
)
def test_the_rest_of_a_text_is_left(text: str, rest: str) -> None:
    assert text[begin_selector(text)[1] :] == rest


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SelectorError):
        assert parse_selector(text).matchers


_PIECES = ["up", "a", "=", "=~", "!~", "!=", '"x"', "'y'", "`z`", "{", "}", ",", " ", "# c\n", '"(|"', '""', "\\", "é"]


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_anything_like_a_selector_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SelectorError):
        assert not all(matcher("") for matcher in parse_selector(text).matchers)


def _escaped(text: str) -> str:
    return "".join(f"\\U{ord(char):08x}" for char in text)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_text_can_be_written_with_escapes(label: str, value: str) -> None:
    (matcher,) = parse_selector(f'{{"{_escaped(label)}"="{_escaped(value)}"}}').matchers
    assert (matcher.label, matcher.value) == (label, value)
