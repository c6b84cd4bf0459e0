"""A real proxy's pages read directly, and what a real Prometheus that scraped them federated: the same points."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from exporters.otlp_template import encode
from receivers.exposition import parse_page
from receivers.proxy_pages import Answered
from tests.real.conversion import Labels, convert
from tests.real.judge import points_of
from tests.receivers.page_harness import Targets, scraped

PAGES = {"page_A.prom": "10.42.0.5:4191", "page_B.prom": "10.42.0.6:4191"}
REPORTS = ("up", "scrape_")


@pytest.fixture(scope="module")
def files(vectors: Path) -> dict[str, bytes]:
    with tarfile.open(vectors / "linkerd_proxy_recorded" / "via_prometheus.tar.xz") as tar:
        members = {Path(member.name).name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
        return {name: file.read() for name, file in members.items() if file is not None}


def labels_of(files: dict[str, bytes], instance: str) -> dict[str, str]:
    targets: list[Any] = json.loads(files["targets.json"])["data"]["activeTargets"]
    return next(target["labels"] for target in targets if target["labels"]["instance"] == instance)


def test_series_and_values_are_those_that_prometheus_federates(files: dict[str, bytes]) -> None:
    targets = Targets(*(labels_of(files, instance) for instance in PAGES.values()))
    rows = scraped(targets.take(*(files[page] for page in PAGES)))
    federated = {
        (sample.name, sample.labels): sample.value
        for sample in parse_page(files["federate.txt"]).samples
        if not sample.name.startswith(REPORTS)
    }
    assert {(row.series.name, row.series.flat): row.value for row in rows} == federated


@pytest.mark.parametrize("page", PAGES)
def test_points_are_those_of_the_page(files: dict[str, bytes], page: str) -> None:
    labels = labels_of(files, PAGES[page])
    targets = Targets(labels, reports=False)
    answer = Answered(targets.sources[0], page, 10**18, 0.1, files[page])
    reads = targets.pages.read([answer], targets.store.rules)
    batches = [portion.batch for portion in targets.memory.take(targets.tables, [read.reading for read in reads])]
    points = [
        point for batch in batches for point in points_of(ExportMetricsServiceRequest.FromString(encode(batch).body))
    ]
    arrived = {(point.name, Labels(point.attributes)): (point.kind, *point.body) for point in points}
    assert arrived == convert(files[page].decode(), labels)
