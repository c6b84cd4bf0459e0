"""One line, read carefully: the grammar in tables, its cost, and two roads that agree."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.text import BadLine, Sample, parse_comment, parse_sample, scan_sample

# --- tables ---------------------------------------------------------------------------------------------------------

GOOD_LINES = {
    b"a 1": ("a", (), 1.0, None, 2),
    b"a+1": ("a", (), 1.0, None, 1),
    b"a{} .5": ("a", (), 0.5, None, 4),
    b"a{,}2": ("a", (), 2.0, None, 4),
    b'a:b{c="d"} 1. -5': ("a:b", ("c", "d"), 1.0, -5, 11),
    b'a{c="2",b="1",} 1e3\t7 ': ("a", ("b", "1", "c", "2"), 1000.0, 7, 16),
    b'a{b="1"c="2"} 1': ("a", ("b", "1", "c", "2"), 1.0, None, 14),
    b'a{b="",c="2"} 1': ("a", ("c", "2"), 1.0, None, 14),
    b'a{b="}{ 1 # ,="} 1': ("a", ("b", "}{ 1 # ,="), 1.0, None, 17),
    b' a\t{ b\t= "x" , } 1 2': ("a", ("b", "x"), 1.0, 2, 17),
    rb'a{b="\\n\n\"\z\\"} 1': ("a", ("b", '\\n\n"\\z\\'), 1.0, None, 19),
    b'{"a.b","c d"="e",f="g"} 1': ("a.b", ("c d", "e", "f", "g"), 1.0, None, 24),
    b'{f="g" "a.b"} 1': ("a.b", ("f", "g"), 1.0, None, 14),
    'a{b="ü\0"} 1'.encode(): ("a", ("b", "ü\0"), 1.0, None, 11),
    b"a 1 000": ("a", (), 1.0, 0, 2),
    b"a 1 -9223372036854775808": ("a", (), 1.0, -(2**63), 2),
    b"a 0 " + b"0" * 30 + b"1": ("a", (), 0.0, 1, 2),
    b"a 1e-400": ("a", (), 0.0, None, 2),
    b"a -iNf": ("a", (), -math.inf, None, 2),
    b"a +Infinity": ("a", (), math.inf, None, 2),
}

BAD_LINES = {
    b"": "expected a metric name, but the line ends",
    b"a": "expected a value, but the line ends",
    b"1a 1": "expected a metric name at byte 1, where '1a 1' stands",
    b"a.b 1": "the value is not a number",
    b"a 1\r": "the line ends in a carriage return",
    b"a 0x1p3": "the value is not a number",
    b"a 1_0": "the value is not a number",
    b"a -nan": "the value is not a number",
    b"a .": "the value is not a number",
    b"a 1e400": "the value is out of range",
    b"a 1 9223372036854775808": "the timestamp is out of range",
    b"a 1 1.5": "expected the line to end at byte 6, where '.5' stands",
    b'a 1 # {b="c"} 1': "expected an integer timestamp at byte 5, where '# {b=\"c\"} 1' stands",
    b'a{b="c",,} 1': "expected a label name at byte 9, where ',} 1' stands",
    b'a{,b="c"} 1': "expected a label name at byte 4, where 'b=\"c\"} 1' stands",
    b'a{b="c",b="d"} 1': "a label name is given twice",
    b'a{b="",b="d"} 1': "a label name is given twice",
    b'a{__name__="b"} 1': "the label name __name__ is reserved",
    b'a{"b"} 1': "the metric name is given twice at byte 6, where '} 1' stands",
    b'{a="b"} 1': "expected a metric name at byte 8, where ' 1' stands",
    b'{""} 1': "a name is empty at byte 4, where '} 1' stands",
    b'a{b="c} 1': "a quoted label value does not end at byte 5, where '\"c} 1' stands",
    b'a{b="\xff"} 1': "a label value is not valid UTF-8",
    b'a{b="\xff\\n"} 1': "a label value is not valid UTF-8",
    b'{"\xed\xa0\x80"} 1': "a name is not valid UTF-8",
    b'a{=,"x"b="y"} 1': 'expected a label name at byte 3, where \'=,"x"b="y"} 1\' stands',
    b'a{b="c"} {d="e"} 1': "expected a value at byte 10, where '{d=\"e\"} 1' stands",
}


@pytest.mark.parametrize("line", GOOD_LINES)
def test_good_lines(line: bytes) -> None:
    assert parse_sample(line) == Sample(*GOOD_LINES[line])
    assert scan_sample(line) == Sample(*GOOD_LINES[line])


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_lines_say_why(line: bytes) -> None:
    with pytest.raises(BadLine) as caught:
        parse_sample(line)
    assert caught.value.reason == BAD_LINES[line]
    assert str(caught.value).startswith("cannot read the line '")


def test_a_bad_line_is_shown_in_part() -> None:
    for length, dots in ((120, ""), (121, "...")):
        with pytest.raises(BadLine) as caught:
            parse_sample(b"?" * length)
        assert str(caught.value).startswith(f"cannot read the line '{'?' * 120}'{dots}: expected a metric name")
        assert len(caught.value.line) == 120


@pytest.mark.parametrize("word", [b"nan", b"NaN", b"NAN"])
def test_not_a_number_is_a_number(word: bytes) -> None:
    assert math.isnan(parse_sample(b"a " + word).value)


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        (rb"# HELP a two\nlines \\ \" ", ("HELP", "a", 'two\nlines \\ \\" ')),
        (b"#\tTYPE \t a \t counter \t", ("TYPE", "a", "counter")),
        (rb'# TYPE "a.b\n" gauge', ("TYPE", "a.b\n", "gauge")),
        (b"# HELP a", ("HELP", "a", "")),
        (b"# UNIT a seconds", ("UNIT", "a", "seconds")),
        (b"# UNIT #", ("", "", "# UNIT #")),
        (b"# HELP a.b what", ("", "", "# HELP a.b what")),
        (b"# EOF", ("EOF", "", "")),
        (b"# HELP", ("", "", "# HELP")),
        (b"#HELP a b", ("", "", "#HELP a b")),
        (b"# HELPER a b", ("", "", "# HELPER a b")),
        (b"# \xff", ("", "", "# �")),
    ],
)
def test_comments(line: bytes, comment: tuple[str, str, str]) -> None:
    assert parse_comment(line) == comment


@pytest.mark.parametrize("line", [b"# TYPE #", b"# HELP #", b"# TYPE a-b gauge", b"# HELP a \xff", b'# HELP "a" b\xff'])
def test_bad_comments(line: bytes) -> None:
    with pytest.raises(BadLine):
        parse_comment(line)


# --- cost -----------------------------------------------------------------------------------------------------------

MANY = 100_000


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b'a{b="' + b"x" * 10_000_000 + b'"} 1', 2),
        (b'a{b="' + rb"\n" * 5_000_000 + b'"} 1', 2),
        (b"a{" + b",".join(b'l%d="v"' % n for n in range(MANY)) + b"} 1", 2 * MANY),
        (b"a{" + b" , ".join(b'l%d = "v"' % n for n in range(MANY)) + b"} 1", 2 * MANY),
    ],
    ids=["long value", "many escapes", "many labels", "many spaced labels"],
)
def test_huge_lines_are_read(line: bytes, parts: int) -> None:
    """In quadratic time none of these would end before the test's deadline."""
    assert len(parse_sample(line).labels) == parts


@pytest.mark.parametrize(
    "line",
    [
        b" " * 10**7,
        b"a" * 10**7,
        b"{" * 10**6,
        b'"' * 10**6,
        b'a{b="' + b"\\" * 10**7,
        b'a{b="c",' * 10**5,
        b"a{" + b'b="c"' * 10**5,
        b"a " + b"9" * 10**7,
        b"a 1 " + b"9" * 10**7,
        b"a 1" + b" " * 10**7 + b"x",
    ],
    ids=lambda line: repr(line[:8]),
)
def test_huge_garbage_is_refused(line: bytes) -> None:
    with pytest.raises(BadLine):
        parse_sample(line)


# --- properties -----------------------------------------------------------------------------------------------------

label_values = st.text(st.sampled_from('ab1_:\\"\n\r\t\0 {},=#é€𝄞\u2028'), max_size=8)
names = st.one_of(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True), label_values.filter(bool))
blanks = st.text(st.sampled_from(" \t"), max_size=2)
timestamps = st.none() | st.integers(-(2**63), 2**63 - 1)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


@st.composite
def rendered(draw: st.DrawFn) -> tuple[bytes, tuple[Any, ...]]:
    """A line as some exporter might write it, and the sample that it means."""
    name, labels = draw(names), draw(st.dictionaries(names.filter(lambda n: n != "__name__"), label_values, max_size=4))
    bare = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
    items: list[str] = [
        (key if bare.fullmatch(key) and draw(st.booleans()) else quoted(key))
        + draw(blanks)
        + "="
        + draw(blanks)
        + quoted(value)
        for key, value in labels.items()
    ]
    head = name if bare.fullmatch(name) else ""
    if not head:
        items.insert(draw(st.integers(0, len(items))), quoted(name))
    space = draw(blanks)
    inside = f"{space},{space}".join(items) + ("," if draw(st.booleans()) and items else "")
    line = space + head + space + (f"{{{space}{inside}{space}}}" if items else "") + " " + draw(blanks)
    value, timestamp = draw(st.floats()), draw(timestamps)
    constant = line.encode()
    line = line + repr(value) + ("" if timestamp is None else f" {timestamp}") + draw(blanks)
    flat = tuple(part for pair in sorted(labels.items()) if pair[1] for part in pair)
    return line.encode(), (name, flat, value, timestamp, len(constant))


@given(rendered())
def test_what_was_rendered_parses_back(line: tuple[bytes, tuple[Any, ...]]) -> None:
    assert repr(tuple(parse_sample(line[0]))) == repr(line[1])


SCRAPS = [
    b"a",
    b"b",
    b"{",
    b"}",
    b'"',
    b"=",
    b",",
    b" ",
    b"\t",
    b"\\",
    b"\\n",
    b"1",
    b"-",
    b".5",
    b"e",
    b"inf",
    b"nan",
    b'b="c"',
]
SCRAPS += [b',d="e"', b'{f="g"}', b"#", b"# TYPE ", b"# HELP ", b"\n", b"\0", b"\r", b"\xc3\xa4", b"\xff"]
soup = st.lists(st.sampled_from(SCRAPS), max_size=12).map(b"".join)


@given(soup | st.binary())
def test_both_roads_agree_on_any_line(line: bytes) -> None:
    outcomes = []
    for read in (parse_sample, scan_sample):
        try:
            outcomes.append(repr(read(line)))
        except BadLine:
            outcomes.append("bad")
    assert outcomes[0] == outcomes[1]
