"""What is remembered of a target's page, and what is forgotten."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from receivers.limits import Limits
from receivers.negotiation import Format
from receivers.page_store import PageRules
from receivers.protobuf_messages import message_class
from tests.receivers.page_harness import TARGET, Targets, scraped, values


def test_labels_that_are_empty_remove_target_labels_where_the_page_is_honoured() -> None:
    targets = Targets(honor_labels=True)
    (row,) = scraped(targets.take('a{instance="",x="="} 1\n'))
    assert row.series.labels == {"job": TARGET["job"], "x": "="}
    (row,) = scraped(targets.take('{"b","instance"=""} 1\n', at=10))[1:]
    assert "instance" not in row.series.labels


@pytest.mark.parametrize("value", ["north", "5"])
def test_a_target_label_may_be_called_le(value: str) -> None:
    targets = Targets({**TARGET, "le": value})
    rows = scraped(targets.take('# TYPE a histogram\na_bucket{le="+Inf"} 1\na_count 1\n'))
    assert {row.series.labels.get("exported_le"): row.series.family.kind for row in rows} == {
        None: "histogram", "+Inf": "unknown"}  # fmt: skip
    assert {row.series.labels["le"] for row in rows} == {value}


def test_a_page_may_come_in_another_format_than_the_last() -> None:
    targets = Targets()
    assert values(targets.take("a_total 1\nb 1\n")) == {"a_total": 1, "b": 1}
    rows = targets.take("# TYPE a counter\na_total 2\n# EOF\n", at=10, format="openmetrics")
    assert sorted((row.series.name, row.series.family.kind, row.stale) for row in scraped(rows)) == [
        ("a_total", "counter", False), ("a_total", "unknown", True), ("b", "unknown", True)]  # fmt: skip
    assert values(targets.take("a_total 3\nb 2\n", at=20)) == {"a_total": 3, "b": 2}


def test_target_info_describes_the_target() -> None:
    targets = Targets()
    page = 'a 1\ntarget_info{team="infra",job="other"} 1\n'
    rows = targets.take(page)
    assert {row.series.target.attributes for row in rows if row.series.target} == {("team", "infra")}
    assert values(rows) == {"a": 1}
    rows = targets.take(page.replace("infra", "web"), at=10)
    living = [row for row in rows if not row.stale]
    assert {row.series.target.attributes for row in living if row.series.target} == {("team", "web")}
    assert len(living) == len(rows) - len(living) == 6
    assert all(not row.stale for row in targets.take(page.replace("infra", "web"), at=20))


def test_a_histogram_that_loses_its_count_and_gets_it_back() -> None:
    targets = Targets()
    head, count = "# TYPE h histogram\n" + 'h_bucket{le="+Inf"} 5\nh_sum 1\n', "h_count 5\n"
    targets.take(head + count)
    assert values(targets.take(head, at=10))["h_count"] == "ended"
    rows = scraped(targets.take(head + count, at=20))
    assert {row.series.name for row in rows} == {"h_bucket", "h_sum", "h_count"}


def test_what_is_gone_is_forgotten() -> None:
    targets = Targets()
    keep = "".join(f"stays_{n} 1\n" for n in range(50))
    for at in range(300):
        targets.take(keep + "".join(f'goes{{at="{at}",n="{n}"}} 1\n' for n in range(20)), at=at)
        if at == 30:
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.take_snapshot()
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    grown = sum(change.size_diff for change in after.compare_to(before, "filename"))
    assert grown < 300_000
    assert targets.store.columns.used.sum() == 75
    assert len(targets.sources[0].skeleton) == 70


@pytest.mark.parametrize("format", ["text", "openmetrics", "protobuf"])
def test_limits_that_come_with_a_reload_hold_for_series_that_are_known(format: Format) -> None:
    family = message_class("MetricFamily")(name=b"a", type=1)
    family.metric.add(gauge={"value": 1.0}).label.add(name=b"b", value=b"long")
    message = family.SerializeToString()
    pages = {"text": b'a{b="long"} 1\n', "openmetrics": b'a{b="long"} 1\n# EOF\n'}
    body = pages.get(format, bytes([len(message)]) + message)
    targets = Targets()
    assert values(targets.take(body, format=format)) == {"a{b=long}": 1}
    for limit, outcome in ((3, "ended"), (80, 1.0), (3, "ended"), (0, 1.0)):
        targets.store.rules = PageRules(limits=Limits(label_value_length=limit))
        targets.sources[0].obey(targets.store.rules)
        assert values(targets.take(body, format=format)) == {"a{b=long}": outcome}
        assert bool(targets.failures[0]) is (outcome == "ended")
        assert values(targets.take(body, format=format)) == ({} if outcome == "ended" else {"a{b=long}": 1})
