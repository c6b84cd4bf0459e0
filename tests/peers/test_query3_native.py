"""Native histograms out of a Prometheus 3 by its query API, beside the same pages read directly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers.native_pages import BOUNDS, TURNS, NativePages
from tests.real.judge import Judge, Point, bare_pipeline
from tests.real.processes import Agent
from tests.real.prometheus import Prometheus
from tests.real.waiting import until

pytestmark = pytest.mark.timeout(240)

SECONDS = TURNS + 8
QUERIES = {
    "total": "sum(request_seconds)",
    "custom_total": "sum(classic_seconds)",
    "median": "histogram_quantile(0.5, request_seconds)",
    "rates": "rate(request_seconds[10s])",
}


@dataclass
class Read:
    """What came by the query API and straight from the pages, and what the agents said."""

    queried: list[Point]
    direct: list[Point]
    began: int
    ledger: dict[str, Any]
    said: str

    def of(self, points: list[Point], name: str) -> dict[tuple[int, Any], Point]:
        """Points with a value by time in s since the beginning, and path."""
        found = {}
        for point in points:
            if point.name == name and not point.no_value:
                key = point.time // 10**9 - self.began, dict(point.attributes).get("path")
                assert key not in found
                found[key] = point
        return found


@pytest.fixture(scope="module")
def read(prometheus3_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    folder = tmp_path_factory.mktemp("native")
    pages = NativePages()
    host = pages.server.url.removeprefix("http://")
    scrape = {
        "job_name": "proxies", "static_configs": [{"targets": [host]}], "scrape_protocols": ["PrometheusProto"],
        "scrape_native_histograms": True, "convert_classic_histograms_to_nhcb": True,
    }  # fmt: skip
    config = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}, "scrape_configs": [scrape]}
    queries = "\n".join(
        f"[[receivers.linkerd.queries]]\nname = '{name}'\nquery = '{text}'" for name, text in QUERIES.items()
    )
    with (
        pages.server, Prometheus(prometheus3_program, folder / "prometheus3", config) as server,
        Judge("http/protobuf") as queried, Judge("http/protobuf") as direct,
    ):  # fmt: skip
        options = f'url = "{server.url}"\ninterval = "1s"\ndelay = "1s"\nmatch = [\'{{job="proxies"}}\']\n{queries}'
        target = f'targets = ["{host}"]\ninterval = "500ms"\nlabels = {{ job = "proxies" }}'
        with (
            Agent(folder, bare_pipeline("linkerd", f'type = "query"\n{options}', queried), "querying") as agent,
            Agent(folder, bare_pipeline("linkerd", f'type = "proxy"\n{target}', direct), "scraping") as other,
        ):
            until(
                lambda: max((p.time for p in queried.points()), default=0) >= (pages.began + SECONDS) * 10**9, "the end"
            )
            ledger = agent.ledger()
            assert agent.stop() == 0, agent.stderr
            assert other.stop() == 0, other.stderr
        yield Read(queried.points(), direct.points(), pages.began, ledger, agent.stderr)


def test_the_points_are_those_of_the_pages(read: Read) -> None:
    queried, direct = (read.of(points, "request_seconds") for points in (read.queried, read.direct))
    both = queried.keys() & direct.keys()
    assert len(both) > SECONDS
    for key in both:
        assert queried[key].kind == "exponential_histogram"
        assert queried[key].cumulative
        assert queried[key].body == direct[key].body
        assert queried[key].attributes == direct[key].attributes


def test_custom_boundaries_place_every_count_where_the_page_does(read: Read) -> None:
    queried, direct = (read.of(points, "classic_seconds") for points in (read.queried, read.direct))
    both = queried.keys() & direct.keys()
    assert len(both) > SECONDS // 2
    seen = set()
    for key in both:
        (count, total, bounds, counts), (wanted, wanted_total, all_bounds, all_counts) = (
            queried[key].body,
            direct[key].body,
        )
        assert queried[key].kind == "histogram"
        assert (count, total, all_bounds) == (wanted, wanted_total, BOUNDS)
        assert set(bounds) <= set(BOUNDS)
        for place, bound in enumerate(bounds):
            assert sum(counts[: place + 1]) == sum(all_counts[: all_bounds.index(bound) + 1])
        seen.add(bounds)
    assert max(seen, key=len) == BOUNDS


def test_a_number_that_becomes_a_histogram_ends_and_the_histogram_begins(read: Read) -> None:
    turning = read.of(read.queried, "turning_seconds")
    for (second, _), point in turning.items():
        assert point.kind == ("gauge" if second < TURNS else "exponential_histogram")
    numbers = [point for point in turning.values() if point.kind == "gauge"]
    histograms = [point for point in turning.values() if point.kind != "gauge"]
    assert numbers
    assert len(histograms) > 3
    (end,) = {point.time for point in read.queried if point.name == "turning_seconds" and point.no_value}
    assert {point.start for point in histograms} == {end} == {min(point.time for point in histograms)}


def test_sums_of_histograms_are_histograms_and_quantiles_are_numbers(read: Read) -> None:
    totals = [point for point in read.queried if point.name == "total"]
    assert len(totals) > 5
    for point in totals:
        count, total, scale, _, zero_count, *_ = point.body
        assert point.kind == "exponential_histogram"
        assert (scale, count, total) == (1, 9 * zero_count, 4.5 * zero_count)
    custom = [point for point in read.queried if point.name == "custom_total"]
    assert {point.kind for point in custom} == {"histogram"}
    medians = [point for point in read.queried if point.name == "median"]
    assert {point.kind for point in medians} == {"gauge"}
    assert len({point.attributes for point in medians}) == 2


def test_rates_of_histograms_are_counted_and_told(read: Read) -> None:
    assert [point for point in read.queried if point.name == "rates" and not point.no_value and point.body[0]] == []
    assert read.ledger["receivers"]["linkerd"]["dropped"]["unsupported"] > 5
    assert "cannot pass on the histograms of query rates" in read.said
    assert read.ledger["receivers"]["linkerd"]["failed_polls"] == 0
