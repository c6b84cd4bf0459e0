"""A line read by the words of its page says what the careful parser says."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receivers.text import BadLine, Sample, parse_sample
from receivers.words import Words, plain_field

PIECES = st.sampled_from(
    [
        'a="1"',
        'b="2"',
        'b=""',
        'c="x,y"',
        'd="\\""',
        'e="é"',
        '"q.r"="1"',
        "f=1",
        '__name__="z"',
        ' g="1"',
        'h="} 1"',
        "",
    ]
)
LINES = st.builds(
    lambda name, pieces, close, tail: f"{name}{{{','.join(pieces)}{close}{tail}".encode(),
    st.sampled_from(["a", "a:b", "", "1a", "a ", "é"]),
    st.lists(PIECES, max_size=5),
    st.sampled_from(["}", ",}", "} ", ""]),
    st.sampled_from([" 1", " 1 1795362155542", " 1e400", " NaN", " 0x1p3", " 1_0", "  1", " 1 5", " x", ""]),
)


def result(read: object, line: bytes) -> Sample | str:
    try:
        return read(line)  # type: ignore[operator,no-any-return]
    except BadLine as error:
        return error.reason


@settings(max_examples=500)
@given(st.lists(LINES | st.binary(max_size=40).filter(lambda b: b"\n" not in b), max_size=8))
@example([b'a{b="\xff"} 1', b'a{b="1",b="2"} 1', b'a{b="1"} 1', b'a{b="1"} 1'])
def test_words_say_what_the_careful_parser_says(lines: list[bytes]) -> None:
    words = Words()
    for line in lines:
        assert repr(result(words.sample, line)) == repr(result(parse_sample, line))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"1", (1.0, None)),
        (b"1.5e3 1795362155542", (1500.0, 1795362155542)),
        (b"-0.25", (-0.25, None)),
        (b"1e400", None),
        (b"NaN", None),
        (b"+Inf 1795362155542", None),
        (b"1_0", None),
        (b"1\t", None),
        (b"1\r", None),
        (b"1 12", None),
        (b" 1", None),
        (b"", None),
    ],
)
def test_plain_fields(field: bytes, expected: tuple[float, int | None] | None) -> None:
    assert plain_field(field) == expected


BUCKETS = st.builds(
    lambda name, before, bound, behind, tail: f'{name}{{{before}le="{bound}"{behind}}} {tail}'.encode(),
    st.sampled_from(["h_bucket", "g_bucket"]),
    st.sampled_from(["", 'a="1",', 'file="le",', 'z="le",']),
    st.sampled_from(["1", "+Inf", "", "0.5", "\\\\", "é", '1",b="2']),
    st.sampled_from(["", ',m="le"', ',le="2"', ","]),
    st.sampled_from(["1", "2.5 1795362155542", "NaN", " 1", "x"]),
)


@settings(max_examples=500)
@given(st.lists(BUCKETS | LINES, max_size=10))
@example([b'h_bucket{le="1"} 1', b'h_bucket{le="\xff"} 1', b'h_bucket{le="2"} 1', b'h_bucket{le="2",a="1"} 1'])
def test_buckets_that_follow_each_other_say_what_they_say_alone(lines: list[bytes]) -> None:
    words = Words()
    for line in lines:
        assert repr(result(words.sample, line)) == repr(result(parse_sample, line))
