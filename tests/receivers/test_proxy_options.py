"""What follows from the options alone: targets, their labels, discoveries."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pydantic import ValidationError

from ebbtide import FoldedLog
from receivers.proxy_options import ProxySettings
from receivers.target_set import ScrapeTarget

LOG = FoldedLog(logging.getLogger("ebbtide.test"))


async def targets(**options: Any) -> tuple[ScrapeTarget, ...]:
    return await ProxySettings.model_validate(options).static_set(LOG, "proxies").once()


async def test_static_targets() -> None:
    found = await targets(targets=["b:4191", "http://a/x", "https://c"], path="/m", labels={"zone": "1"})
    assert {target.url: dict(target.labels) for target in found} == {
        "http://b:4191/m": {"job": "linkerd-proxy", "instance": "b:4191", "zone": "1"},
        "http://a/x": {"job": "linkerd-proxy", "instance": "a:80", "zone": "1"},
        "https://c/m": {"job": "linkerd-proxy", "instance": "c:443", "zone": "1"},
    }


async def test_rules_and_shards_choose_among_them() -> None:
    names = [f"t{n}:4191" for n in range(30)]
    dropped = await targets(
        targets=names, relabel=[{"source_labels": ["__address__"], "regex": "t1.*", "action": "drop"}]
    )
    assert len(dropped) == 19
    parts = [await targets(targets=names, shard=f"{part}/3") for part in range(3)]
    assert sorted(t.url for part in parts for t in part) == sorted(f"http://{name}/metrics" for name in names)
    assert all(parts)


def test_every_kind_of_discovery_can_be_had() -> None:
    settings = ProxySettings.model_validate({"discovery": [
        {"kind": "file", "files": ["/nowhere/*.json"]},
        {"kind": "prometheus", "url": "http://127.0.0.1:9090"},
        {"kind": "dns", "names": ["web.example"], "port": 4191},
    ]})  # fmt: skip
    pytest.importorskip("dns")
    found = settings.target_set(LOG, "proxies")._discoveries
    assert [type(discovery).__name__ for discovery in found.values()] == [
        "FileDiscovery", "PrometheusDiscovery", "DnsDiscovery"]  # fmt: skip


def test_rules_of_pages() -> None:
    rules = ProxySettings.model_validate(
        {"on_bad_line": "skip", "start_times": "none", "honor_labels": True, "sample_limit": 5, "scrape_metrics": False}
    ).rules
    assert (rules.skip_bad_lines, rules.track_starts, rules.honor_labels, rules.reports) == (True, False, True, False)
    assert rules.limits.samples == 5
    assert not rules.strict_openmetrics
    assert ProxySettings(strict_openmetrics=True).rules.strict_openmetrics


@pytest.mark.parametrize("labels", [{"": "x"}, {"job": ""}])
def test_labels_that_cannot_be(labels: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="labels"):
        ProxySettings(labels=labels)
