"""Into a Prometheus 3 by its OTLP receiver and back: with profile "prometheus", Linkerd's own queries answer there.

Such a Prometheus cannot be had from Debian, whose 3.x is built without the OTLP receiver; so this may be skipped even where
real servers are required.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.processes import Agent, Demo
from tests.real.prometheus import Prometheus, viz_config
from tests.real.waiting import until

RATE = 'sum by (deployment) (rate(request_total{direction="inbound"}[1m]))'

pytestmark = pytest.mark.timeout(240)


def find_prometheus3() -> Path | str:
    """The program, or why there is none."""
    named = os.environ.get("EBBTIDE_PROMETHEUS3") or shutil.which("prometheus")
    if not named:
        return "no Prometheus 3 on PATH, nor named by EBBTIDE_PROMETHEUS3; Debian's is built without the OTLP receiver"
    version = subprocess.run([named, "--version"], capture_output=True, text=True, timeout=60).stdout
    if not re.match(r"prometheus, version 3\.", version):
        return f"{named} is not of version 3 ({version.partition(chr(10))[0]}); name one by EBBTIDE_PROMETHEUS3"
    flags = subprocess.run([named, "--help"], capture_output=True, text=True, timeout=60)
    if "web.enable-otlp-receiver" not in flags.stdout + flags.stderr:  # listed as --[no-]web.enable-otlp-receiver
        return f"{named} is built without the OTLP receiver (--web.enable-otlp-receiver), as Debian's is"
    return Path(named)


@pytest.fixture(scope="module")
def prometheus3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    found = find_prometheus3()
    if isinstance(found, str):
        pytest.skip(found)
    config = {
        "global": {"scrape_interval": "10s"},
        "otlp": {"translation_strategy": "NoUTF8EscapingWithSuffixes"},
        "storage": {"tsdb": {"out_of_order_time_window": "10m"}},
    }
    folder = tmp_path_factory.mktemp("prometheus3")
    with Prometheus(found, folder, config, flags=("--web.enable-otlp-receiver",)) as server:
        yield server


@pytest.mark.real
def test_linkerds_rates_answer_behind_otlp(
    prometheus3: Prometheus, demo: Demo, prometheus_program: Path, tmp_path: Path
) -> None:
    targets = demo.targets
    config = viz_config(targets, demo.prometheus.removeprefix("http://"), "2s")
    with Prometheus(prometheus_program, tmp_path / "source", config) as source:
        until(lambda: source.up() == len(targets), "all targets are up")
        text = f"""
agent.admin = ""
[receivers.linkerd]
type = "federate"
url = "{source.url}"
interval = "2s"
[processors.who]
type = "resource"
profile = "prometheus"
[exporters.prometheus]
type = "otlp"
endpoint = "{prometheus3.url}/api/v1/otlp/v1/metrics"
[pipelines.metrics]
receivers = ["linkerd"]
processors = ["who"]
exporters = ["prometheus"]
"""
        with Agent(tmp_path, text) as agent:
            wanted = {target["labels"]["deployment"] for target in targets if "deployment" in target["labels"]}
            rates = until(
                lambda: {r["metric"].get("deployment") for r in prometheus3.query(RATE)} >= wanted, "rates", 90
            )
            assert rates
            assert agent.stop() == 0, agent.stderr
        instances = {r["metric"]["instance"] for r in prometheus3.query('request_total{job="linkerd-proxy"}')}
        assert instances <= {target["labels"]["instance"] for target in targets}
