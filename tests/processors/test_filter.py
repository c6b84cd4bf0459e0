"""Filtering by selectors: who stays, what is counted, what becomes of histograms, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import ConfigErrors, load
from ebbtide import Batch, Family, Labels, Series, SeriesTable, parse_selector
from exporters.otlp_template import encode
from processors.filter import Filter, FilterSettings

HISTOGRAM = Family("latency", "histogram")


def filters(**settings: list[str]) -> Filter:
    return Filter(FilterSettings.model_validate(settings))


def batch(*series: Series) -> Batch:
    return Batch(SeriesTable(series), np.arange(float(len(series))), np.arange(len(series), dtype=np.int64))


def histogram(**labels: str) -> list[Series]:
    buckets = [Series.of("latency_bucket", labels | {"le": le}, HISTOGRAM) for le in ("1", "5", "+Inf")]
    return [*buckets, *(Series.of(f"latency_{part}", labels, HISTOGRAM) for part in ("sum", "count"))]


@pytest.fixture
def some() -> list[Series]:
    labels = {"job": "a"}
    return [Series.of("up", labels), Series.of("stack_x", labels), Series.of("up", {"job": "b", "zone": "z"})]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, [0, 1, 2]),
        ({"keep": []}, [0, 1, 2]),
        ({"keep": ["up"]}, [0, 2]),
        ({"keep": ['{job="b"}', "stack_x"]}, [1, 2]),
        ({"drop": ['{__name__=~"stack_.*|tokio_rt_.*"}']}, [0, 2]),
        ({"drop": ['{job="a"}', '{zone!=""}']}, []),
        ({"keep": ["up"], "drop": ['{job="a"}']}, [2]),
        ({"keep": ["nothing"]}, []),
        ({"drop": ["nothing"]}, [0, 1, 2]),
        ({"drop": ['{job=~"a|b",zone=""}']}, [2]),
        ({"keep": ['up{zone!~"z|"}']}, []),
    ],
)
def test_who_stays(settings: dict[str, list[str]], left: list[int], some: list[Series]) -> None:
    processor = filters(**settings)
    found = processor.process(batch(*some))
    assert ([] if found is None else [some.index(series) for series in found.table]) == left
    assert processor.counts.dropped == ({"filtered": 3 - len(left)} if len(left) < 3 else {})


def test_a_batch_of_which_all_stays_passes_as_it_is(some: list[Series]) -> None:
    given_batch = batch(*some)
    assert filters(drop=["x"]).process(given_batch) is given_batch


def test_steady_batches_keep_their_table(some: list[Series]) -> None:
    processor, given_batch = filters(drop=["stack_x"]), batch(*some)
    first, second = processor.process(given_batch), processor.process(given_batch.but(values=np.ones(3)))
    assert first is not None
    assert second is not None
    assert first.table is second.table


def test_shared_labels_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Labels] = []
    ask = Filter._ask
    monkeypatch.setattr(Filter, "_ask", lambda self, base: (asked.append(base), ask(self, base))[1])
    filters(drop=['{once="2",le="1"}']).process(batch(*histogram(once="1"), *histogram(once="2")))
    assert len(asked) == 2


# -- histograms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drop", "points", "samples", "incomplete"),
    [
        ('latency_bucket{le="1"}', 1, 4, 0),
        ("latency_bucket", 1, 2, 0),
        ("latency_sum", 1, 4, 0),
        ("latency_count", 0, 0, 4),
        ('{__name__=~"latency_(bucket|sum|count)"}', 0, 0, 0),
    ],
)
def test_parts_of_a_histogram(drop: str, points: int, samples: int, incomplete: int) -> None:
    processor = filters(drop=[drop])
    found = processor.process(batch(*histogram(a="1")))
    assert processor.counts.dropped == {"filtered": 5 - samples - incomplete}
    if found is None:
        assert points == 0
    else:
        encoded = encode(found)
        assert (encoded.points, encoded.samples, encoded.incomplete) == (points, samples, incomplete)


# -- refusals ------------------------------------------------------------------------------------------------------

FILE = """\
[receivers.r]
type = "federate"
url = "http://127.0.0.1:9090"
[processors.quiet]
type = "filter"
keep = ['up{job="x"}', "{}"]
drop = [
  '{__name__=~"a|b"}',
  '{a=~"("}',
  3,
]
[processors.tidy]
type = "relabel"
[[processors.tidy.rules]]
action = "labeldrop"
regex = "a("
[[processors.tidy.rules]]
action = "hashmod"
target_label = "x"
[exporters.e]
type = "stdout"
[pipelines.p]
receivers = ["r"]
processors = ["quiet", "tidy"]
exporters = ["e"]
"""


def test_mistakes_are_told_with_their_lines(tmp_path: Path) -> None:
    """Those of filter and relabel: both read their rules from lists."""
    file = tmp_path / "agent.toml"
    file.write_text(FILE)
    with pytest.raises(ConfigErrors) as refused:
        load(file, {})
    like = "; write one such as '{job=\"linkerd-proxy\"}'"
    assert [problem.removeprefix(f"{file}:") for problem in refused.value.problems] == [
        f"6: processors.quiet.keep[1]: not a selector: 1:1: parse error: vector selector must contain at least one "
        f"non-empty matcher{like}",
        f"9: processors.quiet.drop[1]: not a selector: 1:2: parse error: error parsing regexp: missing closing ): `(`{like}",
        "10: processors.quiet.drop[2]: expected a string in quotes, not a whole number; put it in quotes",
        "16: processors.tidy.rules[0].regex: error parsing regexp: missing closing ): `a(`; correct the pattern, which "
        "is of RE2's syntax",
        "17: processors.tidy.rules[1].modulus: relabel configuration for hashmod requires non-zero modulus; write one, "
        "such as 8",
    ]


# -- the fast way is the plain way ---------------------------------------------------------------------------------

_SELECTORS = [
    "h_bucket", "h_count", '{a="1"}', '{a!="1",__name__=~".+"}', '{le="1"}', '{le!="1",a=~"1|2"}', '{quantile=~"1.*",a=""}',
    '{__name__=~"h.*",b!~"1|"}', 'h{a=~"(1|2)?",le=""}', '{b=~"."}', '{"a"="2","h_count"}',
]  # fmt: skip
_labels = st.dictionaries(st.sampled_from(["a", "b", "le", "quantile"]), st.sampled_from(["1", "2"]))
_series = st.builds(Series.of, st.sampled_from(["h_bucket", "h_count", "h_sum", "h"]), _labels)
_some = st.lists(st.sampled_from(_SELECTORS), max_size=3)


@given(st.lists(_series, max_size=6, unique=True), _some, _some)
def test_a_batch_is_filtered_as_each_row_would_be(series: list[Series], keep: list[str], drop: list[str]) -> None:
    def selected(texts: list[str], one: Series) -> bool:
        labels: dict[str, Any] = one.labels | {"__name__": one.name}
        return any(parse_selector(text).matches(labels) for text in texts)

    expected = [one for one in series if (not keep or selected(keep, one)) and not selected(drop, one)]
    found = filters(keep=keep, drop=drop).process(batch(*series))
    assert ([] if found is None else list(found.table)) == expected
