"""Lines of OpenMetrics: what they say, and what is wrong with them."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import Exemplar
from receivers.openmetrics_lines import parse_comment, parse_line, parse_seconds
from receivers.text import BadLine, Comment, Sample


def test_a_line_with_everything() -> None:
    line = b'a_bucket{le="1.0",x="} # {"} 17.0 1520879607.789 # {trace_id="KOO",y=""} 0.67 1520879606.5'
    assert parse_line(line) == (
        Sample("a_bucket", ("le", "1.0", "x", "} # {"), 17.0, 1520879607789, 29),
        Exemplar(("trace_id", "KOO"), 0.67, 1520879606500 * 10**6),
    )


@pytest.mark.parametrize(
    ("line", "name", "labels"),
    [
        (b"a 1", "a", ()),
        (b"a{} 1", "a", ()),
        (b'{"a.b"} 1', "a.b", ()),
        (b'{"a.b", "c d"="e"} 1', "a.b", ("c d", "e")),
        (b'{x="y","a.b"} 1', "a.b", ("x", "y")),
        (b'a{b="\\"\\\\\\n\\x"} 1', "a", ("b", '"\\\n\\x')),
        (b'a{c="1",b="2"} 1', "a", ("b", "2", "c", "1")),
        (b'a{b=""} 1', "a", ()),
        ('a{b="é"} 1'.encode(), "a", ("b", "é")),
    ],
)
def test_names_and_labels(line: bytes, name: str, labels: tuple[str, ...]) -> None:
    assert parse_line(line).sample[:2] == (name, labels)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "a line is blank"),
        (b" a 1", "expected a metric name at byte 1, where ' a 1' stands"),
        (b"1a 1", "expected a metric name"),
        (b"a", "expected one blank and a value at byte 2, where the line's end stands"),
        (b"a  1", "expected one blank and a value at byte 2"),
        (b"a\t1", "expected one blank and a value at byte 2"),
        (b"a 1 ", "expected the line to end, or ` # {` and an exemplar at byte 4"),
        (b"a 1 1 1", "expected the line to end, or ` # {` and an exemplar at byte 6"),
        (b"a 1 #", "expected the line to end, or ` # {`"),
        (b"a 1_0", "the value is not a number"),
        (b"a 0x1p-3", "the value is not a number"),
        (b"a 1e999", "the value is out of range"),
        (b"a 1 1z", "the timestamp is not a number"),
        (b'a{b="1",} 1', 'expected labels of the form {a="b",c="d"} at byte 2'),
        (b'a{,b="1"} 1', "expected labels of the form"),
        (b"a{b} 1", "the label name 'b' has no value"),
        (b'a{b="1",b="2"} 1', "a label name is given twice"),
        (b'a{__name__="b"} 1', "the label name __name__ is reserved"),
        (b'a{"b"} 1', "the metric name is given twice"),
        (b'{"a","b"} 1', "the metric name is given twice"),
        (b'{b="1"} 1', "the line has no metric name"),
        (b'{""} 1', "a name is empty"),
        (b'a{b="\xff"} 1', "a label value is not valid UTF-8"),
        (b'{"\xff"} 1', "a name is not valid UTF-8"),
        (b'a 1 # {b="1"}', "expected one blank and the value of the exemplar"),
        (b'a 1 # {"b"} 1', "expected the labels of an exemplar"),
        (b"a 1 # {} 1 1 1", "expected the line to end at byte 13"),
        (b"a 1 # {} x", "the value is not a number"),
        (b"a 1 # {} 1 x", "the timestamp is not a number"),
        (b'a 1 # {b="' + b"c" * 128 + b'"} 1', "the labels of the exemplar have more than 128 characters"),
    ],
)
def test_what_is_wrong(line: bytes, reason: str) -> None:
    with pytest.raises(BadLine) as caught:
        parse_line(line)
    assert caught.value.reason.startswith(reason)


def test_a_time_that_is_not_finite_counts_as_none_and_is_forbidden_strictly() -> None:
    for word in (b"NaN", b"Inf", b"-Inf"):
        assert parse_line(b"a 1 " + word).sample.timestamp_ms is None
        assert parse_line(b"a 1 # {} 1 " + word).exemplar == Exemplar((), 1.0, 0)
        for line in (b"a 1 ", b"a 1 # {} 1 "):
            with pytest.raises(BadLine, match="not finite"):
                parse_line(line + word, strict=True)


@pytest.mark.parametrize(
    ("token", "milliseconds"),
    [
        (b"0", 0),
        (b"1520879607.789", 1520879607789),
        (b"1.001", 1001),  # 1000.9999999999999 as a product of floats
        (b"123.1239", 123123),
        (b".5", 500),
        (b"5.", 5000),
        (b"-1.5", -1500),
        (b"1.5e3", 1500000),
        (b"1e-400000000", 0),
        (b"1e-99999999999999999999", 0),
        (b"1" + b"0" * 60_000 + b"e-60000", 1000),
        (b"12345678901234567890.5", 2**63 - 1),
        (b"-1e300", -(2**63)),
    ],
)
def test_seconds(token: bytes, milliseconds: int) -> None:
    assert parse_seconds(token) == milliseconds


@given(st.integers(0, 10**14))
def test_milliseconds_survive_in_seconds(milliseconds: int) -> None:
    whole, rest = divmod(milliseconds, 1000)
    assert parse_seconds(f"{whole}.{rest:03d}".encode()) == milliseconds


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        (b"# TYPE a counter", Comment("TYPE", "a", "counter")),
        (b'# TYPE "a.b" gaugehistogram', Comment("TYPE", "a.b", "gaugehistogram")),
        (b"# HELP a ", Comment("HELP", "a", "")),
        (b'# HELP a  b \\" \\n \\\\ \\x ', Comment("HELP", "a", ' b " \n \\ \\x ')),
        (b"# UNIT a_s s", Comment("UNIT", "a_s", "s")),
        (b"# UNIT a ", Comment("UNIT", "a", "")),
    ],
)
def test_comments(line: bytes, comment: Comment) -> None:
    assert parse_comment(line) == comment


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"#", "expected `# TYPE`"),
        (b"# a comment", "expected `# TYPE`"),
        (b"#  TYPE a counter", "expected `# TYPE`"),
        (b"# TYPE a", "expected `# TYPE`"),
        (b"# HELP a", "expected `# TYPE`"),
        (b"# TYPE a untyped", "unknown metric type 'untyped'"),
        (b"# TYPE a counter ", "unknown metric type 'counter '"),
        (b"# UNIT as s", "the unit 's' is not the end of the metric name"),
        (b"# UNIT s s", "the unit 's' is not the end of the metric name"),
        (b"# HELP a \xff", "the text of HELP is not valid UTF-8"),
    ],
)
def test_bad_comments(line: bytes, reason: str) -> None:
    with pytest.raises(BadLine) as caught:
        parse_comment(line)
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    "line",
    [
        b'a{b="' + b"x" * 4_000_000 + b'"} 1',
        b'a{b="' + b"\\" * 4_000_000,
        b"a{" + b'b="1",' * 300_000 + b"} 1",
        b"a " + b" " * 4_000_000,
        b'a 1 # {b="' + b'\\"' * 2_000_000 + b'"} 1',
    ],
)
def test_long_lines_cost_linear_time(line: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(BadLine):
        parse_line(line)
    assert time.process_time() - began < 2
