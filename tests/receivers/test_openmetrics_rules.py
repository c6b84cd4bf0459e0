"""Rules beyond the grammar: what may follow what, and what can be right at all."""

from __future__ import annotations

import math

import pytest

from receivers.exposition import Metadata
from receivers.openmetrics_lines import parse_comment, parse_line
from receivers.openmetrics_rules import Rules, bound_of, first_fault, without
from receivers.text import BadLine


def broken(*lines: str) -> str:
    """What the rules say to these lines, empty where nothing."""
    rules = Rules()
    try:
        for line in map(str.encode, lines):
            if line.startswith(b"#"):
                rules.comment(parse_comment(line), line)
            else:
                sample, exemplar = parse_line(line)
                rules.sample(sample, exemplar is not None, line)
        rules.end()
    except BadLine as bad:
        return bad.reason
    return ""


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["# TYPE a counter", "a_total 1", "# HELP a b"], "the HELP of a family stands behind its samples"),
        (["# TYPE a counter", "# TYPE a gauge"], "a family has more than one TYPE"),
        (["# TYPE a counter", "b 1", "# HELP a b"], "the name 'a' belongs to a family before"),
        (["# TYPE a_total gauge", "# TYPE a counter"], "the name 'a_total' belongs to a family before"),
        (["# TYPE a_s info", "# UNIT a_s s"], "a family of type info has a unit"),
        (["# UNIT a_s s", "# TYPE a_s stateset"], "a family of type stateset has a unit"),
        (["# TYPE a counter", "a_total 1 # {} 1"], ""),
        (["# TYPE a counter", "a_created 1 # {} 1"], "only totals and buckets have exemplars"),
        (["# TYPE a stateset", 'a{b="1"} 1'], "the state has no label of its family's name"),
        (["# TYPE a stateset", 'a{a="b"} 0.5'], "a state is neither 0 nor 1"),
        (["# TYPE a info", "a_info 1"], ""),
        (["# TYPE a info", "a_info 0"], "the value of an info is not 1"),
        (["# TYPE a summary", 'a{quantile="2"} 1'], "the label quantile is missing"),
        (["# TYPE a summary", 'a{quantile="1"} -1'], "a quantile is negative"),
        (["# TYPE a histogram", "a_bucket 1"], "the label le is missing"),
        (["# TYPE a histogram", 'a_bucket{le="+Inf"} 0.5'], "a count is not a whole number"),
        (["# TYPE a summary", "a_count 0.5"], "a count is not a whole number"),
        (["# TYPE a counter", "a_total NaN"], "a value that is counted is not a number"),
        (["# TYPE a gauge", "a NaN"], ""),
        (["# TYPE a gauge", 'a{b="1"} 1', 'a{b="2"} 1', 'a{b="1"} 1'], "the lines of a metric do not stand together"),
        (["# TYPE a gauge", "a 1 2", "a 1"], "some samples of a metric have a timestamp"),
        (["# TYPE a gauge", "a 1 2", "a 1 1"], "the timestamps of a metric go backwards"),
        (["# TYPE a info", "a_info 1 2", "a_info 1 1"], ""),
        (["# TYPE h histogram", "h_sum 1"], 'of the histogram h, it has no bucket of le="+Inf"'),
        (["# TYPE h histogram", 'h_bucket{le="1"} 1', "b 1"], "of the histogram h, its buckets do not end with"),
        (["# TYPE h histogram", 'h_bucket{le="+Inf"} 1', "h_count 1"], "of the histogram h, it has only one of"),
        (
            ["# TYPE h gaugehistogram", 'h_bucket{le="+Inf"} 1', "h_gcount 1", "h_gsum -1"],
            "of the histogram h, it has a",
        ),
        (["# TYPE h gaugehistogram", 'h_bucket{le="-1"} 1', 'h_bucket{le="+Inf"} 1', "h_gcount 1", "h_gsum -1"], ""),
        (["# TYPE h histogram", 'h_bucket{le="+Inf"} 1 1', 'h_bucket{le="+Inf"} 0 2'], ""),  # two times, two wholes
    ],
)
def test_rules(lines: list[str], reason: str) -> None:
    said = broken(*lines)
    assert said.startswith(reason)
    assert bool(said) == bool(reason)


HISTOGRAM = {"h": Metadata("histogram"), "g": Metadata("gaugehistogram"), "s": Metadata("summary")}


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([], ""),
        (["h_sum NaN"], ""),  # incomplete, but nothing contradicts anything
        (['h_bucket{le="+Inf"} 1', "h_count 2"], "of the histogram h, its count is not that of its last bucket"),
        (['h_bucket{le="+Inf"} 1', "h_count 2", "x 1"], ""),
        (
            ['h_bucket{le="2"} 1', 'h_bucket{le="1"} 1', 'h_bucket{le="+Inf"} 1'],
            "of the histogram h, its buckets are out",
        ),
        (['h_bucket{le="1"} 2', 'h_bucket{le="+Inf"} 1'], "of the histogram h, the counts of its buckets fall"),
        (['h_bucket{a="1",le="+Inf"} -1', 'h_bucket{a="2",le="+Inf"} 1'], ""),
        (['g_bucket{le="+Inf"} -1'], ""),
        (["g_gcount 1"], "of the histogram g, it has a count and no sum"),
        (["s 1", 's{quantile="x"} 1'], "s has a quantile that is no number"),
        (['s{quantile="NaN"} 1'], ""),
        (["s_count -1"], ""),
    ],
)
def test_what_can_be_right(lines: list[str], fault: str) -> None:
    said = first_fault([parse_line(line.encode()).sample for line in lines], HISTOGRAM)
    assert said.startswith(fault)
    assert bool(said) == bool(fault)


@pytest.mark.parametrize(
    ("text", "bound"), [("1", 1.0), ("1e-3", 0.001), ("+Inf", math.inf), ("-Inf", -math.inf), ("0.0", 0.0)]
)
def test_bounds(text: str, bound: float) -> None:
    assert bound_of(("a", "b", "le", text), "le") == bound


@pytest.mark.parametrize("text", ["", "x", "NaN", "+INF", "Inf", "inf", "1_0", " 1", "1e999"])
def test_what_is_no_bound(text: str) -> None:
    assert math.isnan(bound_of(("le", text), "le"))


def test_without() -> None:
    assert without(("a", "1", "le", "2", "z", "3"), "le") == ("a", "1", "z", "3")
    assert without(("a", "le"), "le") == ("a", "le")
