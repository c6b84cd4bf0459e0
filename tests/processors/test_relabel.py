"""Relabelling of series: what becomes of names, families, targets, histograms; the same for shared labels as for each."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import (
    Arrival,
    Batch,
    Context,
    Family,
    ReceiverCounts,
    Relabelling,
    RelabelRule,
    Series,
    SeriesTable,
    Target,
)
from exporters.otlp_template import encode
from processors.relabel import Relabel, RelabelSettings
from processors.resource import Resource
from receivers.exposition import parse_page
from receivers.scrape import Scrape
from receivers.types import TypeBook

HISTOGRAM = Family("latency", "histogram", "ms", "How long.", "metadata")


def relabel(*rules: dict[str, Any]) -> Relabel:
    return Relabel(RelabelSettings.model_validate({"rules": list(rules)}), Context("tidy"))


def batch(*series: Series) -> Batch:
    return Batch(SeriesTable(series), np.arange(float(len(series))), np.arange(len(series), dtype=np.int64))


def histogram(**labels: str) -> list[Series]:
    buckets = [Series.of("latency_bucket", labels | {"le": le}, HISTOGRAM) for le in ("1", "5", "+Inf")]
    return [*buckets, *(Series.of(f"latency_{part}", labels, HISTOGRAM) for part in ("sum", "count"))]


def shown(found: Batch | None) -> list[str]:
    return [] if found is None else [str(series) for series in found.table]


def test_no_rules_change_nothing() -> None:
    given_batch = batch(*histogram(a="1"))
    assert relabel().process(given_batch) is given_batch


def test_rules_that_meet_nothing_leave_the_series_as_they_are() -> None:
    given_batch = batch(*histogram(a="1"))
    assert relabel({"action": "labeldrop", "regex": "x"}).process(given_batch) is given_batch
    rename = {"source_labels": ["__name__"], "regex": "x", "target_label": "__name__", "replacement": "y"}
    assert relabel(rename).process(given_batch) is given_batch


def test_a_steady_batch_keeps_its_table() -> None:
    processor, given_batch = relabel({"target_label": "cluster", "replacement": "north"}), batch(*histogram(a="1"))
    first, second = processor.process(given_batch), processor.process(given_batch.but(values=np.ones(5)))
    assert first is not None
    assert second is not None
    assert first.table is second.table
    assert second.values.tolist() == [1] * 5


def test_labels_of_all_parts_of_a_histogram() -> None:
    found = relabel(
        {"source_labels": ["a"], "target_label": "b", "replacement": "x$1"}, {"action": "labeldrop", "regex": "a"}
    ).process(batch(*histogram(a="1")))
    assert shown(found) == [
        'latency_bucket{b="x1",le="1"}', 'latency_bucket{b="x1",le="5"}', 'latency_bucket{b="x1",le="+Inf"}',
        'latency_sum{b="x1"}', 'latency_count{b="x1"}',
    ]  # fmt: skip
    assert found is not None
    assert {series.family for series in found.table} == {HISTOGRAM}
    assert len({series.base for series in found.table}) == 1


def test_a_new_name_takes_the_family_along() -> None:
    rename = {
        "source_labels": ["__name__"],
        "regex": "latency(_.*)",
        "target_label": "__name__",
        "replacement": "delay$1",
    }
    found = relabel(rename).process(batch(*histogram(a="1"), Series.of("up", {}, Family("up", "gauge"))))
    assert shown(found)[3:] == ['delay_sum{a="1"}', 'delay_count{a="1"}', "up{}"]
    assert found is not None
    families = {series.family.name: series.family for series in found.table}
    assert set(families) == {"delay", "up"}
    assert families["delay"].identity == ("delay", "histogram", "ms")
    assert (families["delay"].help, families["delay"].typed_by) == ("How long.", "metadata")
    assert encode(found).points == 2


def test_dropped_and_nameless_rows_are_counted_as_relabel() -> None:
    processor = relabel(
        {"action": "drop", "source_labels": ["a"], "regex": "1"},
        {"source_labels": ["__name__"], "regex": "y", "target_label": "__name__", "replacement": ""},
    )
    found = processor.process(batch(Series.of("x", {"a": "1"}), Series.of("y"), Series.of("z")))
    assert shown(found) == ["z{}"]
    assert processor.counts.dropped == {"relabel": 2}
    assert relabel({"action": "labelkeep", "regex": "a"}).process(batch(Series.of("x", {"a": "1"}))) is None
    assert relabel({"action": "keep", "source_labels": ["a"], "regex": "2"}).process(batch(*histogram(a="1"))) is None


def test_labels_with_underscores_stay_as_in_prometheus() -> None:
    found = relabel({"target_label": "__tmp", "replacement": "x"}).process(batch(Series.of("a")))
    assert shown(found) == ['a{__tmp="x"}']


def test_bounds_are_labels() -> None:
    rules = [
        {"source_labels": ["le", "__name__"], "regex": r"(\d+)\.0+;.*_bucket", "target_label": "le"},
        {"source_labels": ["quantile"], "regex": r"(\d+)\.0+", "target_label": "quantile"},
    ]
    summary = Family("s", "summary")
    found = relabel(*rules).process(batch(
        Series.of("latency_bucket", {"a": "1", "le": "1.0"}, HISTOGRAM),
        Series.of("latency_bucket", {"a": "1", "le": "0.5"}, HISTOGRAM),
        Series.of("s", {"quantile": "1.0"}, summary), Series.of("s_sum", {}, summary),
    ))  # fmt: skip
    assert shown(found) == [
        'latency_bucket{a="1",le="1"}',
        'latency_bucket{a="1",le="0.5"}',
        's{quantile="1"}',
        "s_sum{}",
    ]
    assert found is not None
    assert [series.own for series in found.table] == [("le", "1"), ("le", "0.5"), ("quantile", "1"), ()]


def test_the_bounds_of_prometheus_own_case(vectors: Path) -> None:
    case = json.loads((vectors / "prometheus_scrape/scrape.json").read_text())["le_quantile_relabel"]
    page = parse_page(case["page"].encode())
    series = [
        Series.of(sample.name, dict(zip(sample.labels[::2], sample.labels[1::2], strict=True)))
        for sample in page.samples
    ]
    found = relabel(*case["metric_relabel_configs"]).process(batch(*series))
    assert found is not None
    assert [s.label("le") for s in found.table if s.label("le")] == case["expected_le_values"]
    assert [s.label("quantile") for s in found.table if s.label("quantile")] == case["expected_quantile_values"]


def test_rules_that_write_bounds_by_a_pattern() -> None:
    """Nothing in the rule tells beforehand that it writes ``le``."""
    found = relabel({"action": "labelmap", "regex": "x_(.+)"}).process(
        batch(Series.of("l_bucket", {"x_le": "7", "le": "1"}), Series.of("l_count", {"x_a": "7"}))
    )
    assert shown(found) == ['l_bucket{le="7",x_le="7"}', 'l_count{a="7",x_a="7"}']


# -- collisions ----------------------------------------------------------------------------------------------------


def test_of_series_that_become_equal_the_first_stays(caplog: pytest.LogCaptureFixture) -> None:
    processor = relabel({"target_label": "c", "replacement": "north"}, {"action": "labeldrop", "regex": "pod"})
    given_batch = batch(*(Series.of("x", {"pod": pod, "a": a}) for pod, a in ("11", "21", "12", "22", "31")))
    found = processor.process(given_batch)
    assert shown(found) == ['x{a="1",c="north"}', 'x{a="2",c="north"}']
    assert found is not None
    assert found.values.tolist() == [0, 2]
    processor.process(given_batch)
    processor.process(batch(*reversed(given_batch.table.series)))
    assert processor.counts.dropped == {"collision": 9}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        'processor tidy (rules[1], labeldrop) makes 3 series equal to others (first: x{a="1",pod="1"} and x{a="1",pod="2"} '
        'both become x{a="1",c="north"}); the first of each is kept'
    )


def test_each_rule_that_makes_series_equal_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    processor = relabel(
        {"source_labels": ["__name__"], "regex": "(.)_total", "target_label": "__name__"},
        {"action": "labeldrop", "regex": "pod"},
    )
    processor.process(batch(Series.of("x"), Series.of("x_total")))
    processor.process(batch(Series.of("y"), Series.of("y_total")))
    processor.process(batch(Series.of("x"), Series.of("x", {"pod": "1"})))
    assert [record.getMessage().partition(" makes")[0] for record in caplog.records] == [
        "processor tidy (rules[0], replace)", "processor tidy (rules[1], labeldrop)",
    ]  # fmt: skip


def test_series_of_two_targets_collide_where_their_labels_become_equal() -> None:
    targets = [Target.of({"job": "linkerd-proxy", "pod": pod}) for pod in ("web-1", "web-2")]
    series = [Series.of("x", dict(zip(t.flat[::2], t.flat[1::2], strict=True)) | {"a": "1"}, target=t) for t in targets]
    processor = relabel({"action": "labeldrop", "regex": "pod"})
    found = processor.process(batch(*series))
    assert shown(found) == ['x{a="1",job="linkerd-proxy"}']
    assert processor.counts.dropped == {"collision": 1}
    assert found is not None
    assert found.table.series[0].target is Target.of({"job": "linkerd-proxy"})


def test_series_of_several_batches_of_a_page_collide(caplog: pytest.LogCaptureFixture) -> None:
    processor, arrival = relabel({"action": "labeldrop", "regex": "pod"}), Arrival()
    found = []
    for pods in (("1", "2"), ("3",)):
        given_batch = batch(*(Series.of("x", {"pod": pod, "a": a}) for pod in pods for a in pods))
        given_batch.together = arrival
        found.append(shown(processor.process(given_batch)))
    last = batch(Series.of("x", {"pod": "4", "a": "3"}), Series.of("x", {"pod": "4", "a": "4"}))
    last.together = arrival
    assert [*found, shown(processor.process(last))] == [['x{a="1"}', 'x{a="2"}'], ['x{a="3"}'], ['x{a="4"}']]
    assert processor.counts.dropped == {"collision": 3}
    assert caplog.messages == [
        'processor tidy (rules[0], labeldrop) makes 2 series equal to others (first: x{a="1",pod="1"} and x{a="1",pod="2"} '
        'both become x{a="1"}); the first of each is kept'
    ]


def test_a_page_of_several_batches_is_relabelled_as_one(caplog: pytest.LogCaptureFixture) -> None:
    """A page of /federate with more rows than go into one batch."""
    rows, left = 5000, 3000
    lines = b"".join(b'x{job="j",instance="i-%d",a="%d"} 1 1000\n' % (i % 7, i % left) for i in range(rows))
    scrape = Scrape(ReceiverCounts(), TypeBook())
    reader = scrape.read()
    reader.feed(lines)
    processor = relabel({"action": "labeldrop", "regex": "instance"})
    found = [processor.process(one) for one in scrape.take(scrape.finish(reader), 10**12)]
    assert len(found) > 1
    series = [one for kept in found if kept is not None for one in kept.table]
    assert len(series) == len(set(series)) == left
    assert processor.counts.dropped == {"collision": rows - left}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# -- what comes after ----------------------------------------------------------------------------------------------


def after_resource(
    labels: Mapping[str, str], target: Mapping[str, str], *rules: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    series = Series.of("x", {**labels, **target}, target=Target.of(target))
    relabelled = relabel(*rules).process(batch(series))
    found = Resource().process(relabelled) if relabelled is not None else None
    assert found is not None
    return dict(found.table.series[0].resource.attributes), found.table.series[0].labels


def test_what_is_left_of_the_target_is_the_resource() -> None:
    target = {"job": "linkerd-proxy", "deployment": "web", "pod": "web-1", "app": "web"}
    resource, labels = after_resource(
        {"a": "1"}, target, {"action": "labeldrop", "regex": "app"}, {"target_label": "cluster", "replacement": "north"}
    )
    assert labels == {"a": "1", "cluster": "north"}
    assert (resource["service.name"], resource["k8s.pod.name"]) == ("web", "web-1")
    assert "k8s.pod.label.app" not in resource


def test_a_label_of_the_target_that_was_changed_stays_on_the_point() -> None:
    resource, labels = after_resource(
        {}, {"job": "j", "pod": "WEB"}, {"action": "lowercase", "source_labels": ["pod"], "target_label": "pod"}
    )
    assert labels == {"pod": "web"}
    assert "k8s.pod.name" not in resource


def test_a_histogram_left_without_its_bounds_is_told_by_the_ledger() -> None:
    processor = relabel({"action": "labeldrop", "regex": "le"})
    found = processor.process(batch(*histogram(a="1")))
    assert processor.counts.dropped == {"collision": 2}
    assert found is not None
    encoded = encode(found)
    assert encoded.samples + encoded.incomplete == len(found) == 3


def test_a_histogram_whose_count_went_is_incomplete() -> None:
    rename = {"source_labels": ["__name__"], "regex": ".*_count", "target_label": "__name__", "replacement": "n"}
    found = relabel(rename).process(batch(*histogram(a="1")))
    assert found is not None
    encoded = encode(found)
    assert (encoded.points, encoded.samples, encoded.incomplete) == (1, 1, 4)


# -- the fast way is the plain way ---------------------------------------------------------------------------------

_RULES: list[dict[str, Any]] = [
    {"action": "labeldrop", "regex": "a"},
    {"action": "labeldrop", "regex": "l.|b"},
    {"action": "labelkeep", "regex": "__name__|le|a"},
    {"action": "labelkeep", "regex": "__name__|b"},
    {"action": "labelmap", "regex": "(.)"},
    {"action": "labelmap", "regex": "x_(.+)"},
    {"action": "labelmap", "regex": "le|quantile", "replacement": "bound"},
    {"action": "drop", "source_labels": ["a"], "regex": "1"},
    {"action": "keep", "source_labels": ["a", "le"], "regex": ".*;1?"},
    {"source_labels": ["a"], "target_label": "b"},
    {"source_labels": ["b"], "target_label": "le"},
    {"source_labels": ["a"], "regex": "(.+)", "target_label": "x_$1", "replacement": "y"},
    {"source_labels": ["a"], "regex": "2", "target_label": "${1}le", "replacement": ""},
    {"source_labels": ["__name__"], "regex": "(.*)_count", "target_label": "__name__", "replacement": "${1}_bucket"},
    {"source_labels": ["__name__"], "regex": "h_(.*)", "target_label": "__name__", "replacement": "$1"},
    {"source_labels": ["a"], "regex": "2", "target_label": "__name__", "replacement": ""},
    {"action": "hashmod", "source_labels": ["a", "b"], "modulus": 2, "target_label": "a"},
    {"action": "uppercase", "source_labels": ["__name__"], "target_label": "b"},
]
_labels = st.dictionaries(
    st.sampled_from(["a", "b", "x_le", "x_a", "quantile"]), st.sampled_from(["1", "2", "_count"]), max_size=3
)
_series = st.builds(
    lambda name, labels, le: Series.of(name, labels | ({"le": le} if le else {}), Family("h", "histogram")),
    st.sampled_from(["h_bucket", "h_count", "h_sum", "h", "count"]), _labels, st.sampled_from(["", "1", "2"]),
)  # fmt: skip


@given(st.lists(_series, max_size=8), st.lists(st.sampled_from(_RULES), max_size=4))
def test_a_batch_is_relabelled_as_each_row_would_be(series: list[Series], rules: list[dict[str, Any]]) -> None:
    processor = relabel(*rules)
    plain = Relabelling(processor.settings.rules)
    expected: dict[object, float] = {}
    dropped = 0
    for row, one in enumerate(series):
        labels = plain(one.labels | {"__name__": one.name})
        if labels is None or "__name__" not in labels:
            dropped += 1
        else:
            name = labels["__name__"]
            family = one.family if name == one.name else one.family.renamed(one.name, name)
            expected.setdefault((frozenset(labels.items()), family.identity), float(row))
    found = processor.process(batch(*series))
    rows = [] if found is None else list(found.rows())
    assert {_identity(row.series): row.value for row in rows} == expected
    assert len(rows) == len(expected)
    assert processor.counts.dropped["relabel"] == dropped
    assert len(rows) + processor.counts.dropped.total() == len(series)


def _identity(series: Series) -> object:
    """Name, labels and type: series that differ in type alone are two streams in OTLP."""
    return frozenset((series.labels | {"__name__": series.name}).items()), series.family.identity


def test_what_is_known_of_a_target_beside_its_labels_stays() -> None:
    target = Target.of({"job": "j", "pod": "p"}, {"k8s.node.name": "n"})
    series = Series.of("x", {"job": "j", "pod": "p"}, target=target)
    found = Relabel(RelabelSettings(rules=[RelabelRule(action="labeldrop", regex="pod")])).map_series(series)
    assert found is not None
    assert found.target is Target.of({"job": "j"}, {"k8s.node.name": "n"})
