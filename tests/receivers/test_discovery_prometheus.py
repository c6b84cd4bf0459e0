"""Targets that a Prometheus names."""

from __future__ import annotations

import json
import logging
from contextlib import aclosing
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from pydantic import ValidationError

from agent.scripted import Step, answer, serve
from ebbtide import Client, FoldedLog, ReceiveError
from receivers.discovery import Groups
from receivers.discovery_prometheus import PrometheusDiscovery, PrometheusDiscoverySettings
from receivers.target_set import Population, ScrapeTarget
from tests.clusters import pod, running, service

JSON = {"Content-Type": "application/json"}


def active(host: str, job: str = "linkerd-proxy", **more: Any) -> dict[str, Any]:
    return {
        "discoveredLabels": {"__address__": "ignored:1", "__meta_kubernetes_pod_node_name": "n1", "job": "x"},
        "labels": {"job": job, "instance": f"{host}:4191", "pod": "web-0"},
        "scrapeUrl": f"http://{host}:4191/metrics?a=b",
        **more,
    }


def told(*targets: dict[str, Any]) -> Step:
    return answer(200, json.dumps({"status": "success", "data": {"activeTargets": targets}}).encode(), JSON)


def discovery(url: str, client: Client, refresh: str = "30s") -> PrometheusDiscovery:
    settings = PrometheusDiscoverySettings.model_validate({"url": url, "refresh": refresh})
    return PrometheusDiscovery(settings, client, 5.0, FoldedLog(logging.getLogger("ebbtide.test")), "mesh")


async def test_targets_have_the_labels_that_the_server_gives_them(nursery: trio.Nursery) -> None:
    server = await serve(nursery, repeat(told(active("10.0.0.1"), active("10.0.0.2", job="linkerd-controller"))))
    async with aclosing(Client()) as client:
        groups = await discovery(server.url, client).once()
    (found,) = groups["targets"].targets
    target = Population({"job": "other"})(found)
    assert isinstance(target, ScrapeTarget)
    assert target.url == "http://10.0.0.1:4191/metrics?a=b"
    assert dict(target.labels) == {"job": "linkerd-proxy", "instance": "10.0.0.1:4191", "pod": "web-0"}
    assert dict(target.found)["__meta_kubernetes_pod_node_name"] == "n1"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (answer(500, b"no"), "the server answered 500"),
        (answer(200, b"<html>"), "is not that of Prometheus"),
        (answer(200, b'{"data": []}', JSON), "is not that of Prometheus"),
        (told({"labels": {"job": "linkerd-proxy"}}), "is not that of Prometheus"),
        (told(active("h", discoveredLabels={"__meta_a": 1})), "is not that of Prometheus"),
        (answer(200, b"[" * 100_000, JSON), "is not that of Prometheus"),
    ],
)
async def test_what_is_no_answer(nursery: trio.Nursery, step: Step, words: str) -> None:
    server = await serve(nursery, repeat(step))
    async with aclosing(Client()) as client:
        with pytest.raises(ReceiveError, match=words):
            await discovery(server.url, client).once()
    nursery.cancel_scope.cancel()


async def test_a_failure_changes_nothing_and_is_said(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    steps = chain([told(active("a")), answer(503, b"busy"), told(active("b"))], repeat(told(active("b"))))
    server = await serve(nursery, steps)
    heard: list[str] = []
    enough = trio.Event()

    def update(groups: Groups) -> None:
        heard.extend(target["instance"] for target in groups["targets"].targets)
        if len(heard) == 2:
            enough.set()

    async with aclosing(Client()) as client:
        nursery.start_soon(discovery(server.url, client, "10ms").run, update)
        with trio.fail_after(10):
            await enough.wait()
        nursery.cancel_scope.cancel()
    assert heard == ["a:4191", "b:4191"]
    assert "the server answered 503; check `discovery`; the targets stay as they were" in caplog.text


async def test_through_a_port_forward(nursery: trio.Nursery, tmp_path: Path) -> None:
    server = await serve(nursery, repeat(told(active("10.0.0.1"))))
    cluster = await running(nursery, tmp_path, [pod("a"), service("web")])
    cluster.cluster.forwards["shop", "a", 8080] = "127.0.0.1", urlsplit(server.url).port or 0
    found = discovery("kubernetes://shop/service/web:80", Client(kubeconfig=cluster.kubeconfig))
    assert len((await found.once())["targets"].targets) == 1


def test_a_job_has_a_name() -> None:
    with pytest.raises(ValidationError, match="job"):
        PrometheusDiscoverySettings(url="http://prometheus:9090", job="")
