"""Into a Prometheus 3 by its OTLP receiver and back: with profile "prometheus", all is there as it was at the source.

Debian 12's Prometheus is 2.42 and has no OTLP receiver; this one is built by build_prometheus3.sh.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.source import Counting, expected_samples, pipeline
from tests.real.judge import Sample
from tests.real.processes import Agent, Demo
from tests.real.prometheus import Prometheus, viz_config
from tests.real.servers import Forwarder
from tests.real.waiting import until

OTLP_PATH = "/api/v1/otlp/v1/metrics"
PROTOCOLS = ("http/protobuf", "http/json")
RATE = 'sum by (deployment) (rate(request_total{direction="inbound"}[1m]))'
OF_MESH = '{job=~"linkerd-.*"}'  # without the series that the agent adds to each poll

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def prometheus3(prometheus3_program: Path, tmp_path: Path) -> Iterator[Prometheus]:
    config = {
        "global": {"scrape_interval": "10s"},
        "otlp": {"translation_strategy": "NoTranslation"},
        "storage": {"tsdb": {"out_of_order_time_window": "10m"}},
    }
    with Prometheus(
        prometheus3_program, tmp_path / "prometheus3", config, flags=("--web.enable-otlp-receiver",)
    ) as server:
        yield server


def into(prometheus3: Prometheus, url: str, protocol: str = "http/protobuf", **options: str) -> str:
    return pipeline(url, prometheus3.url + OTLP_PATH, protocol, profile="prometheus", **options)


SLOWLY = {"interval": "2s", "stale_after": "5m"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_sample_comes_back_as_it_was(prometheus3: Prometheus, demo: Demo, protocol: str, tmp_path: Path) -> None:
    with Forwarder(demo.prometheus) as forwarder:
        text = into(prometheus3, forwarder.url, protocol, **SLOWLY)
        with Agent(tmp_path, text) as agent:
            until(lambda: len(forwarder.whole("/federate")) >= 3, "three polls")
            assert agent.stop() == 0, agent.stderr
        expected = expected_samples(forwarder.whole("/federate"))
    found = stored(prometheus3, OF_MESH + "[30m]")
    assert len(expected) > 1000
    assert found.keys() == expected.keys()
    assert {sample: (value, expected[sample]) for sample, value in found.items() if value != expected[sample]} == {}


def stored(prometheus3: Prometheus, selector: str) -> dict[Sample, float]:
    """Every sample that a range selector gives."""
    found: dict[Sample, float] = {}
    for series in prometheus3.query(selector):
        labels: dict[str, Any] = dict(series["metric"])
        name = labels.pop("__name__")
        labels.update({one: float(labels[one]) for one in ("le", "quantile") if one in labels})
        for time, value in series["values"]:
            found[name, frozenset(labels.items()), round(time * 1000)] = float(value)
    return found


def test_a_series_that_ends_there_ends_here(prometheus3: Prometheus, tmp_path: Path) -> None:
    source = Counting(20)
    gone = '{target_addr="10.0.0.2:19"}'
    with source.server, Agent(tmp_path, into(prometheus3, source.server.url)) as agent:
        until(lambda: prometheus3.query("request_total" + gone), "the series is there")
        until(lambda: not prometheus3.query("request_total" + gone), "the series has ended")
        assert len(prometheus3.query("request_total")) == 19
        assert len(prometheus3.query("response_latency_ms_bucket")) == 4
        assert agent.stop() == 0, agent.stderr
    assert [len(series["values"]) for series in prometheus3.query("request_total" + gone + "[10m]")] == [2]


def test_linkerds_rates_answer_behind_otlp(
    prometheus3: Prometheus, demo: Demo, prometheus_program: Path, tmp_path: Path
) -> None:
    targets = demo.targets
    config = viz_config(targets, demo.prometheus.removeprefix("http://"), "2s")
    with Prometheus(prometheus_program, tmp_path / "source", config) as source:
        until(lambda: source.up() == len(targets), "all targets are up")
        with Agent(tmp_path, into(prometheus3, source.url, **SLOWLY)) as agent:
            wanted = {target["labels"]["deployment"] for target in targets if "deployment" in target["labels"]}
            rates = until(
                lambda: {r["metric"].get("deployment") for r in prometheus3.query(RATE)} >= wanted, "rates", 90
            )
            assert rates
            assert agent.stop() == 0, agent.stderr
        instances = {r["metric"]["instance"] for r in prometheus3.query('request_total{job="linkerd-proxy"}')}
        assert instances <= {target["labels"]["instance"] for target in targets}
