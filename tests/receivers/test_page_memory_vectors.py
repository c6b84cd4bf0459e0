"""What Prometheus' scrape loop and the Collector's receiver do with pages, as their own tests say it."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest

from agent.parts import part_of
from ebbtide import Row
from receivers.limits import Limits
from receivers.negotiation import Format, format_of
from receivers.proxy_pages import Answered
from tests.receivers.page_harness import SECOND, T0, Targets, scraped


def load(vectors: Path, name: str) -> Any:
    return json.loads((vectors / name).read_text())


def test_labels_that_clash(vectors: Path) -> None:
    tables = load(vectors, "prometheus_scrape/scrape.json")
    for case in tables["honor_labels"] + tables["conflicting_prefixed_labels"]:
        targets = Targets(case["target_labels"], honor_labels=case["honor_labels"], reports=False)
        (row,) = targets.take(case["page"])
        expected = dict(case["expected_labels"])
        assert (row.series.name, row.value) == (expected.pop("__name__"), case["expected_value"]), case["name"]
        assert row.series.labels == expected, case["name"]


def test_limits_of_labels(vectors: Path) -> None:
    for case in load(vectors, "prometheus_scrape/scrape.json")["label_limits"]:
        limits = case["limits"]
        targets = Targets(
            case["target_labels"],
            limits=Limits(
                labels=limits.get("label_limit", 0),
                label_name_length=limits.get("label_name_length_limit", 0),
                label_value_length=limits.get("label_value_length_limit", 0),
            ),
        )
        targets.take(case["page"])
        assert bool(targets.failures[0]) == case["expect_whole_scrape_fails"], case["name"]


def test_a_family_has_the_members_that_prometheus_gives_it(vectors: Path) -> None:
    """A member's family is known by its unit; it has a kind as well where it can be part of one."""
    for case in load(vectors, "prometheus_scrape/scrape.json")["is_series_part_of_family"]:
        if case["type"] in ("counter", "gauge"):
            (row,) = scraped(Targets().take(f"# TYPE {case['family']} {case['type']}\n{case['series']} 1\n"))
            assert (row.series.family.kind == case["type"]) == case["member"], case


def points(rows: list[Row]) -> dict[tuple[str, tuple[str, ...]], list[Row]]:
    """Group rows to points: the parts of a histogram or summary together."""
    found: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    for row in rows:
        part = part_of(row.series) if row.series.family.kind in ("histogram", "summary") else None
        key = (row.series.name, row.series.flat) if part is None else (part.name, part.base.flat)
        found.setdefault(key, []).append(row)
    return found


def test_the_collector_s_end_to_end_cases(vectors: Path) -> None:
    for case in load(vectors, "prometheusreceiver/e2e.json")["cases"]:
        config = case["config"].get("scrape", {})
        targets = Targets({"job": case["job"], "instance": "x:1"}, honor_labels=config.get("honor_labels", False))
        expected = {scrape["page"]: scrape for scrape in case["expected_scrapes"]}
        for at, page in enumerate(case["pages"]):
            body = base64.b64decode(page["body_base64"]) if "body_base64" in page else page["body"].encode()
            format: Format = format_of(page["content_type"])
            failure = "" if page["status"] == 200 else f"answered {page['status']}"
            rows = targets.take_answers(
                [Answered(targets.sources[0], "x", T0 + at * SECOND, 0.1, b"" if failure else body, format, failure)]
            )
            assert targets.failures == [failure], case["id"]
            if at in expected:
                _check_scrape(case, at, expected[at], rows)


def _check_scrape(case: dict[str, Any], page: int, scrape: dict[str, Any], rows: list[Row]) -> None:
    if "up" in scrape:
        assert [row.value for row in rows if row.series.name == "up"] == [scrape["up"]]
    found = points(scraped(rows))
    for metric in scrape["metrics"]:
        named = [group for (name, _), group in found.items() if name in (metric["name"], metric["name"] + "_info")]
        assert len(named) == len(metric["points"]), (case["id"], metric["name"])
        for point in metric["points"]:
            matching = [group for group in named if _has(group[0], point.get("attributes"))]
            assert matching, (case["id"], metric["name"], point)
            assert any(_is(metric, point, group) for group in matching), (case["id"], page, point)
    if scrape.get("no_other_metrics_but_scrape_metrics"):
        assert {name for name, _ in found} == {metric["name"] for metric in scrape["metrics"]}


def _has(row: Row, attributes: dict[str, str] | None) -> bool:
    own = {
        name: value
        for name, value in row.series.labels.items()
        if name not in ("job", "instance", "exported_job", "exported_instance", "le", "quantile")
        and not name.startswith("otel_scope_")
    }
    return attributes is None or own == attributes


def _is(metric: dict[str, Any], point: dict[str, Any], group: list[Row]) -> bool:
    row = next((row for row in group if row.series.name.endswith("_count")), group[0])
    kind = {"sum": "counter", "gauge": "gauge"}.get(metric["type"], metric["type"])
    if metric.get("monotonic") is False:
        assert row.series.family.kind in ("info", "stateset")
    elif kind == "gauge":
        assert row.series.family.kind in ("gauge", "unknown")
    else:
        assert row.series.family.kind == kind
    same = row.stale == point.get("stale", False)
    if not row.stale and "value" in point:
        same = same and (row.value == point["value"] or (math.isnan(row.value) and point["value"] == "NaN"))
    if not row.stale and (compound := point.get("histogram") or point.get("summary")):
        same = same and row.value == compound["count"]
    if "time" in point:
        same = same and row.time == _time(point["time"])
    if "start" in point:
        same = same and row.start == _time(point["start"])
    if "start_adjusted" in point:
        same = same and row.start == _time(point["start_adjusted"])
    return same


def _time(told: dict[str, int]) -> int:
    return T0 + told["scrape"] * SECOND if "scrape" in told else told["unix_ms"] * 10**6


@pytest.mark.parametrize("name", ["linkerd2-proxy-small", "linkerd2-proxy", "node_exporter-e2e", "nri-prometheus-plain",
                                  "prometheus-alltypes.237mfs", "prometheus_common-text", "prometheus-1histogram",
                                  "prometheus-alltypes.237mfs.nometa"])  # fmt: skip
def test_real_pages_give_as_many_points_of_each_kind_as_the_specification_says(vectors: Path, name: str) -> None:
    (path,) = [path for path in (vectors / "real_pages").iterdir() if path.name.rsplit(".", 2)[0] == name]
    counts = load(vectors, "real_pages/counts.json")["pages"][path.name]
    format: Format = "openmetrics" if ".om." in path.name else "text"
    targets = Targets(reports=False)
    rows = targets.take(path.read_bytes(), format=format)
    assert targets.failures == [""]
    told = {key: value["points"] for key, value in counts["otlp_derived"].items()}
    got: dict[str, int] = {}
    for group in points(rows).values():
        kind = group[0].series.family.kind
        key = {"counter": "sum(monotonic)", "unknown": "gauge", "info": "sum(non-monotonic)",
               "stateset": "sum(non-monotonic)"}.get(kind, kind)  # fmt: skip
        got[key] = got.get(key, 0) + 1
    assert got == told


@pytest.mark.parametrize(("name", "format"), [("prometheus-alltypes.5mfs.om.txt", "openmetrics"),
                                              ("prometheus_common-protobuf.delimited.pb", "protobuf")])  # fmt: skip
def test_pages_of_other_formats_are_taken_again_and_again(vectors: Path, name: str, format: Format) -> None:
    targets, body = Targets(), (vectors / "real_pages" / name).read_bytes()
    first = {str(row.series) for row in scraped(targets.take(body, format=format))}
    assert first
    assert {str(row.series) for row in scraped(targets.take(body, at=10, format=format)) if not row.stale} == first
    assert targets.failures == [""]
