"""Pages: metadata, families, content types, and what a bad line does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.exposition import (
    BadPage,
    Metadata,
    Page,
    ends_whole,
    family_of,
    lines_of,
    parse_page,
)


def test_errors_show_a_bounded_excerpt() -> None:
    with pytest.raises(BadPage) as caught:
        parse_page(b"good 1\n" + b"b" * 10_000_000 + b"\n")
    assert (caught.value.line_number, len(caught.value.excerpt)) == (2, 120)
    assert len(str(caught.value)) < 300
    assert str(caught.value).startswith("cannot read line 2 of the page, 'bbb")


@pytest.mark.parametrize("line", [b"# TYPE a", b"# TYPE a Counter", b"# TYPE a counters", b"# TYPE a counter gauge"])
def test_a_page_with_an_unknown_type_is_refused(line: bytes) -> None:
    with pytest.raises(BadPage, match="unknown metric type"):
        parse_page(line)


def test_a_hybrid_page() -> None:
    page = parse_page(
        b"# TYPE request counter\nrequest_total 3\n\n \t\n# HELP rtt How long\n# TYPE rtt_seconds histogram\n"
        b'# UNIT rtt_seconds seconds\nrtt_seconds_bucket{le="+Inf"} 1\n# EOF\nlate 1\n'
    )
    assert [sample.name for sample in page.samples] == ["request_total", "rtt_seconds_bucket", "late"]
    assert page.metadata == {
        "request": Metadata("counter"),
        "rtt": Metadata(help="How long"),
        "rtt_seconds": Metadata("histogram", unit="seconds"),
    }


def test_the_last_word_on_a_family_counts() -> None:
    assert parse_page(b"# TYPE a gauge\na 1\n# TYPE a counter\n").metadata["a"].kind == "counter"


def test_a_page_of_garbage_is_counted_and_listed_in_part() -> None:
    page = parse_page(b"?\n" * 5000 + b"a 1\n", on_bad_line="skip")
    assert (page.bad_count, len(page.bad_lines), len(page.samples)) == (5000, 1000, 1)
    assert page.bad_lines[-1] == (1000, "expected a metric name at byte 1, where '?' stands")


@pytest.mark.parametrize(("body", "whole"), [(b"", True), (b"a 1\n", True), (b"a 1", False)])
def test_ends_whole(body: bytes, whole: bool) -> None:
    assert ends_whole(body) is whole


@pytest.mark.parametrize(
    ("sample", "family"),
    [
        ("h_bucket", "h"),
        ("h_sum", "h"),
        ("h_count", "h_count"),  # a family of its own name
        ("c", "c"),
        ("c_total", "c"),
        ("d_total", "d_total"),
        ("g_total", None),
        ("helped_sum", "helped"),
        ("only_help", "only_help"),
        ("build_info", "build"),
        ("", None),
    ],
)
def test_family_of(sample: str, family: str | None) -> None:
    page = parse_page(
        b"# TYPE h histogram\n# TYPE h_count gauge\n# TYPE c counter\n# TYPE d_total counter\n# TYPE g gauge\n"
        b"# TYPE helped summary\n# HELP helped_sum x\n# HELP only_help x\n# TYPE build info\n"
    )
    found = family_of(sample, page.metadata)
    assert (found and found[0]) == family
    assert found is None or found[1] is page.metadata[found[0]]


rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "a_total", "b:c"]),
        st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["1", "é", "}{ "]), max_size=3),
        st.floats(),
        st.none() | st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=6,
)


@given(rows)
def test_a_rendered_page_parses_back(rows: list[tuple[str, dict[str, str], float, int | None]]) -> None:
    lines = []
    for name, labels, value, time in rows:
        inside = ",".join(f'{key}="{label}"' for key, label in labels.items())
        lines.append(f"{name}{{{inside}}} {value!r} {'' if time is None else time}\n")
    expected = [(name, sorted(labels.items()), value, time) for name, labels, value, time in rows]
    page = parse_page("".join(lines).encode())
    assert repr(
        [
            (s.name, sorted(zip(s.labels[::2], s.labels[1::2], strict=True)), s.value, s.timestamp_ms)
            for s in page.samples
        ]
    ) == repr(expected)


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
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Skipping keeps exactly what the good lines alone would give, and refusing names the first bad one."""
    page = parse_page(body, on_bad_line="skip")
    bad = [number for number, _ in page.bad_lines]
    good = b"\n".join(line for number, line in enumerate(lines_of(body), 1) if number not in bad)
    assert repr(parse_page(good)) == repr(Page(page.samples, page.metadata))
    assert page.bad_count == len(bad)
    if bad:
        with pytest.raises(BadPage) as caught:
            parse_page(body)
        assert (caught.value.line_number, caught.value.reason) == page.bad_lines[0]
