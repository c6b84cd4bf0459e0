"""Pages of OpenMetrics: how they end, what dates what, and what is refused in each mode."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receivers.exposition import BadPage, Metadata
from receivers.openmetrics import parse_page

GOOD = b"""\
# TYPE a_seconds counter
# UNIT a_seconds seconds
# HELP a_seconds How long
a_seconds_total{x="1"} 3.0 # {t="9"} 0.5
a_seconds_created{x="1"} 1520430000.5
# TYPE h histogram
h_bucket{le="1.0"} 1
h_bucket{le="+Inf"} 2
h_count 2
h_sum 3.5
h_created 1520430001
# TYPE s summary
s_created 1520430002
s{quantile="0.5"} 1
s_count 1
s_sum 1
# EOF
"""


@pytest.mark.parametrize("strict", [False, True])
def test_a_page(strict: bool) -> None:
    page = parse_page(GOOD, strict=strict)
    assert page.metadata == {
        "a_seconds": Metadata("counter", "How long", "seconds"),
        "h": Metadata("histogram"),
        "s": Metadata("summary"),
    }
    assert [sample.name for sample in page.samples][:3] == ["a_seconds_total", "a_seconds_created", "h_bucket"]
    assert page.folded == {1, 6, 7}
    assert page.created == {
        0: 1520430000500 * 10**6,
        **dict.fromkeys(range(2, 6), 1520430001 * 10**9),
        **dict.fromkeys(range(8, 11), 1520430002 * 10**9),
    }
    assert {row: [one.value for one in found] for row, found in page.exemplars.items()} == {0: [0.5]}


@pytest.mark.parametrize(
    ("body", "line", "reason"),
    [
        (b"", 1, "the page does not end with `# EOF`"),
        (b"a 1\n", 1, "the page does not end with `# EOF`"),
        (b"a 1\n# EO", 2, "expected `# TYPE`"),
        (b"# EOF\na 1", 2, "something stands behind `# EOF`"),
        (b"# EOF\n\n", 2, "something stands behind `# EOF`"),
        (b"a 1\n\n# EOF\n", 2, "a line is blank"),
        (
            b"# TYPE s summary\ns 1\n# EOF\n",
            3,
            "no sample of the page can be right: s has a quantile that is no number",
        ),
    ],
)
def test_what_is_refused_in_both_modes(body: bytes, line: int, reason: str) -> None:
    with pytest.raises(BadPage) as caught:
        parse_page(body)
    assert (caught.value.line_number, caught.value.reason[: len(reason)]) == (line, reason)
    with pytest.raises(BadPage):
        parse_page(body, strict=True)


def test_eof_needs_no_newline() -> None:
    assert len(parse_page(b"a 1\n# EOF").samples) == 1


def test_bad_lines_are_skipped_and_told_but_not_what_frames_the_page() -> None:
    page = parse_page(b"a 1\n\nb x\nc 2\n# EOF\n", on_bad_line="skip")
    assert [sample.name for sample in page.samples] == ["a", "c"]
    assert [number for number, _ in page.bad_lines] == [2, 3]
    for body in (b"a 1\n", b"# EOF\na 1\n"):
        with pytest.raises(BadPage):
            parse_page(body, on_bad_line="skip")


def test_strictly_a_skipped_line_is_one_that_breaks_a_rule_too() -> None:
    page = parse_page(b"# TYPE a counter\na_total -1\na_total 1\n# EOF\n", strict=True, on_bad_line="skip")
    assert [sample.value for sample in page.samples] == [1.0]
    assert page.bad_lines == [(2, "a value that is counted is negative")]


def test_a_created_line_of_its_own_family_or_of_none_is_a_sample() -> None:
    page = parse_page(b"# TYPE a_created gauge\na_created 1\nb_created 2\nb_total 1\n# EOF\n")
    assert (page.folded, page.created) == (set(), {})


def test_a_created_line_that_is_no_time_dates_nothing() -> None:
    page = parse_page(b"# TYPE a counter\na_total 1\na_created NaN\n# EOF\n")
    assert (page.folded, page.created) == ({1}, {})


soup = st.lists(
    st.sampled_from(
        [
            *(b"a", b"_total", b"{", b"}", b'"', b"le=", b"=", b",", b" ", b"1", b".5", b"# ", b"TYPE ", b"\n", b"\\"),
            *(b"# EOF\n", b"# TYPE a counter\n", b"# TYPE a histogram\n", b'a_bucket{le="+Inf"} 1\n', b"a_count 1\n"),
        ]
    ),
    max_size=25,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(soup | st.binary(max_size=60), st.booleans())
def test_any_bytes_are_read_or_refused(body: bytes, strict: bool) -> None:
    """What is read strictly reads the same leniently; skipping keeps what the good lines alone give."""
    try:
        page = parse_page(body, strict=strict)
    except BadPage:
        return
    assert repr(page) == repr(parse_page(body))
    assert repr(page) == repr(parse_page(body, strict=strict, on_bad_line="skip"))
