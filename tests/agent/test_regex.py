"""Patterns as Go reads them, by RE2; the expected results are those of Go's regexp package."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.regex import Regex, RegexError, Template


@pytest.mark.parametrize(
    ("pattern", "text", "groups"),
    [
        ("(.*)", "a\nb", ("a\nb", "a\nb")),
        ("a|b", "b", ("b",)),
        ("a|b", "ab", None),
        ("a|", "", ("",)),
        ("f(.*)", "foo", ("foo", "oo")),
        ("f(.*)", "xfoo", None),
        ("(a)?(b)?", "b", ("b", None, "b")),
        ("line1.*line2", "line1\nline2", ("line1\nline2",)),
        (r"(?P<x>\d+)(?<y>\D*)", "12ab", ("12ab", "12", "ab")),
        (r"\Qa.b\E(c)", "a.bc", ("a.bc", "c")),
        ("(?i)k", "\u212a", ("\u212a",)),
        (r"\pL+", "é", ("é",)),
        ("a)|(?:b", "ax", ("a",)),  # with the anchors: begins with a, or ends with b
        ("(|a)*", "a", ("a", "a")),
        ("", "", ("",)),
        ("", "a", None),
    ],
)
def test_groups(pattern: str, text: str, groups: tuple[str | None, ...] | None) -> None:
    regex = Regex(pattern)
    assert regex.groups(text) == (None if groups is None else groups + (None,) * (len(regex.names) - len(groups)))
    assert regex.matches(text) is (groups is not None)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("abc(def", "missing closing ): `abc(def`"),
        ("[a", "missing closing ]: `[a`"),
        ("a)", "unexpected ): `a)`"),
        ("*a", "missing argument to repetition operator: `*a`, at `*`"),
        ("a**", "invalid nested repetition operator: `a**`, at `**`"),
        ("a{1001}", "invalid repeat count: `a{1001}`, at `{1001}`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=a)`, at `(?=`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"a\C", r"invalid escape sequence: `a\C`, at `\C`"),
        (r"[z-a]", "invalid character class range: `[z-a]`, at `z-a`"),
        (r"\p{Letter}x", r"invalid character class range: `\p{Letter}x`, at `\p{Letter}`"),
        ("(?P<é>a)", "invalid named capture: `(?P<é>a)`, at `(?P<é>`"),
        ("a\\", "missing closing ): `a\\`"),  # the backslash takes the anchor's parenthesis
        ("\udcff.", r"invalid UTF-8: `\udcff.`"),
    ],
)
def test_refusals(pattern: str, said: str) -> None:
    with pytest.raises(RegexError) as refused:
        Regex(pattern)
    assert str(refused.value) == f"error parsing regexp: {said}"


@pytest.mark.parametrize(
    "pattern", [r"\\C", r"\Q\C\E", r"[(?P<é>]", r"\_", r"a{,2}", r"\pL{1000}", "(?P<n>a)(?P<n>b)", "a{1000}", "^*"]
)
def test_what_go_takes_is_taken(pattern: str) -> None:
    Regex(pattern)


def test_a_pattern_that_must_stand_alone() -> None:
    Regex("x)|(?:y")
    with pytest.raises(RegexError, match=r"unexpected \): `x\)\|\(\?:y`"):
        Regex.alone("x)|(?:y")
    assert Regex.alone("x|y").matches("y")


def test_no_pattern_takes_its_time() -> None:
    assert not Regex("(a*)*(a*)*(a|aa)+c").matches("a" * 20_000 + "b")


@pytest.mark.parametrize(
    ("template", "expanded"),
    [
        ("$1", "one"), ("${1}", "one"), ("$1-$2", "one-two"), ("$0", "one.two."), ("$3", ""), ("$4", ""), ("$99", ""),
        ("$1x", ""), ("${1}x", "onex"), ("$1_", ""), ("$name", "two"), ("${name}!", "two!"), ("$names", ""),
        ("$$", "$"), ("$$1", "$1"), ("$", "$"), ("a$", "a$"), ("$-", "$-"), ("${", "${"), ("${}", "${}"),
        ("${1", "${1"), ("${na-me}", "${na-me}"), ("$é", ""), ("$²", "$²"), ("$01", ""), ("$000000001", ""),
        ("$1000000000", ""), ("", ""), ("plain", "plain"), ("$1$2$2", "onetwotwo"), ("{$1}", "{one}"), ("$٣", ""),
    ],
)  # fmt: skip
def test_templates(template: str, expanded: str) -> None:
    regex = Regex(r"(\w+)\.(?P<name>\w+)\.(x)?")
    groups = regex.groups("one.two.")
    assert groups is not None
    assert Template(template, regex).expand(groups) == expanded


@pytest.mark.parametrize(("text", "expanded"), [("a", "a"), ("b", "b")])
def test_of_groups_with_one_name_the_first_that_took_part_counts(text: str, expanded: str) -> None:
    regex = Regex("(?P<n>a)|(?P<n>b)")
    groups = regex.groups(text)
    assert groups is not None
    assert Template("$n", regex).expand(groups) == expanded


@pytest.mark.parametrize(
    ("pattern", "text", "replaced"),
    [("x_(.+)", "x_a", "<a>"), ("x)|(y", "xyy", "<>y<y>"), ("a*)|(?:b", "aab", "<><>"), ("y", "x", "x")],
)
def test_replacing(pattern: str, text: str, replaced: str) -> None:
    regex = Regex(pattern)
    assert regex.replaced(text, Template("<$1>", regex)) == replaced


_simple = st.lists(st.sampled_from(["a", "b", "c", ".", "a*", "b+", "(a|b)", "(c?)", "[ab]", "\\."]), max_size=5)


@given(_simple.map("".join), st.text("abc.\n", max_size=6))
def test_simple_patterns_as_pythons_own(pattern: str, text: str) -> None:
    match = re.fullmatch(pattern, text, re.DOTALL)
    found = Regex(pattern).groups(text)
    assert found == (None if match is None else (match[0], *match.groups()))


@given(st.text("ab|.", max_size=6), st.text("ab.", max_size=3))
def test_literals_need_no_engine_and_match_alike(pattern: str, text: str) -> None:
    assert Regex(pattern).matches(text) is (re.fullmatch(pattern, text, re.DOTALL) is not None)


@given(st.text("$1{}ax\\é-"), st.text("ab"))
def test_any_template_expands(template: str, text: str) -> None:
    regex = Regex("(a*)(.*)")
    groups = regex.groups(text)
    assert groups is not None
    assert isinstance(Template(template, regex).expand(groups), str)
