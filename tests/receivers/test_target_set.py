"""Raw targets become URLs and labels by Prometheus' rules; sets of them follow what discoveries say."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from ebbtide import FoldedLog, ReceiveError, Relabelling, RelabelRule
from receivers.discovery import Groups, TargetGroup
from receivers.target_set import MORE, BadTarget, Passed, Population, ScrapeTarget, Shard, TargetSet, static_group

VECTORS = Path(os.environ.get("EBBTIDE_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))
SCRAPE = VECTORS / "prometheus_scrape" / "scrape.json"
LOG = FoldedLog(logging.getLogger("ebbtide.test"))
JOB = {"job": "linkerd-proxy"}


def vectors(name: str) -> Any:
    if not SCRAPE.is_file():
        pytest.skip(f"no test vectors at {SCRAPE}: set EBBTIDE_VECTORS")
    return json.loads(SCRAPE.read_text(encoding="utf-8"))[name]


def text(given: Any) -> str:
    return bytes.fromhex(given["$bytes_hex"]).decode(errors="surrogateescape") if isinstance(given, dict) else given


def rules(*given: Mapping[str, Any]) -> Relabelling:
    return Relabelling([RelabelRule.model_validate(rule) for rule in given])


def made(population: Population, found: Mapping[str, str]) -> ScrapeTarget:
    target = population(found)
    assert isinstance(target, ScrapeTarget)
    return target


def test_prometheus_own_cases() -> None:
    tried = 0
    for case in vectors("populate_labels"):
        config = case["scrape_config"]
        if any(word in str(case["error"]) for word in ("interval", "timeout", "nhcb")):
            continue  # targets have none of their own
        population = Population(
            {"__scheme__": config["scheme"], "__metrics_path__": config["metrics_path"], "job": config["job_name"]},
            rules=rules(*config.get("relabel_configs", ())),
        )
        found = {name: text(value) for name, value in case["discovered"].items()}
        tried += 1
        if case["error"]:
            with pytest.raises(BadTarget):
                population(found)
            continue
        target = population(found)
        if case["result_labels"] is None or not case["result_labels"]:
            assert target is Passed.DROPPED, case
            continue
        assert isinstance(target, ScrapeTarget)
        expected = {name: value for name, value in case["result_labels"].items() if not name.startswith("__")}
        address, path = case["result_labels"]["__address__"], case["result_labels"]["__metrics_path__"]
        if expected["instance"] == address and not address.rpartition("]")[2].rpartition(":")[2].isdigit():
            expected["instance"] += ":443" if case["result_labels"]["__scheme__"] == "https" else ":80"
        assert dict(target.labels) == expected
        assert target.url.startswith(f"{case['result_labels']['__scheme__']}://{address}{path}")
    assert tried > 5


def test_prometheus_own_url() -> None:
    target = made(Population({}), vectors("target_url")["labels"])
    assert target.url == "https://example.com:1234/metricz?abc=overwrite&cde=huu"


@pytest.mark.parametrize(
    ("found", "url", "instance"),
    [
        ({"__address__": "10.0.0.1:4191"}, "http://10.0.0.1:4191/metrics", "10.0.0.1:4191"),
        ({"__address__": "host"}, "http://host/metrics", "host:80"),
        ({"__address__": "host", "__scheme__": "https"}, "https://host/metrics", "host:443"),
        ({"__address__": "[::1]:1"}, "http://[::1]:1/metrics", "[::1]:1"),
        ({"__address__": "[::1]"}, "http://[::1]/metrics", "[::1]:80"),
        ({"__address__": "h:1", "__metrics_path__": "x y"}, "http://h:1/x%20y", "h:1"),
        ({"__address__": "h:1", "__param_b": "2", "__param_a": "1 &"}, "http://h:1/metrics?a=1+%26&b=2", "h:1"),
        ({"__address__": "h:1", "__param_a": "1", MORE: "a=2&b="}, "http://h:1/metrics?a=1&a=2&b=", "h:1"),
        ({"__address__": "[fe80::1%eth0]:1"}, "http://[fe80::1%eth0]:1/metrics", "[fe80::1%eth0]:1"),
        ({"__address__": "h:1", "instance": "mine"}, "http://h:1/metrics", "mine"),
    ],
)
def test_how_a_target_is_reached_and_named(found: dict[str, str], url: str, instance: str) -> None:
    target = made(Population(JOB), found)
    assert (target.url, target.instance) == (url, instance)
    assert dict(target.labels)["job"] == "linkerd-proxy"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({}, "it has no __address__"),
        ({"__address__": "h:0"}, "is not host:port"),
        ({"__address__": "h:65536"}, "is not host:port"),
        ({"__address__": "h:x"}, "is not host:port"),
        ({"__address__": "http://h:1"}, "is not host:port"),
        ({"__address__": "user@h:1"}, "is not host:port"),
        ({"__address__": "h?x=:1"}, "is not host:port"),
        ({"__address__": "h#x:1"}, "is not host:port"),
        ({"__address__": "h\0:1"}, "is not host:port"),
        ({"__address__": "h%2f:1"}, "is not host:port"),
        ({"__address__": "[h]:1"}, "is not host:port"),
        ({"__address__": "h:1", "__scheme__": "ftp"}, "none of http, https and kubernetes"),
        ({"__address__": "h:1", "__scheme__": "kubernetes"}, "its __address__ is not a URL of something in Kubernetes"),
        ({"__address__": "shop/pod/web:4191/x", "__scheme__": "kubernetes"}, "has a path"),
        ({"__address__": "h:1", "x": "\udcbd"}, "its label 'x' is not valid text"),
    ],
)
def test_what_cannot_be_scraped(found: dict[str, str], why: str) -> None:
    with pytest.raises(BadTarget, match=why):
        Population(JOB)(found)


@pytest.mark.parametrize(
    ("target", "url", "instance"),
    [
        ("kubernetes://shop/pod/web-1:4191", "kubernetes://shop/pod/web-1:4191/page", "web-1.shop:4191"),
        (
            "kubernetes://shop/service/web:admin/a?b=c",
            "kubernetes://shop/service/web:admin/a?b=c",
            "web.shop:admin",
        ),
        (
            "kubernetes://shop/pods?selector=app=web:4191/a",
            "kubernetes://shop/pods?selector=app=web:4191/a",
            "shop:4191",
        ),
    ],
)
def test_targets_behind_port_forwards(target: str, url: str, instance: str) -> None:
    (found,) = static_group([target]).targets
    population = Population({**JOB, "__metrics_path__": "/page", "__kubeconfig__": "/k", "__context__": "north"})
    one = made(population, found)
    assert (one.url, one.instance, one.cluster) == (url, instance, ("/k", "north"))
    assert made(population, {"__address__": "h:1"}).cluster == ("", "")


def test_labels_of_the_operator_beat_discovered_ones_and_rules_come_last() -> None:
    population = Population(
        JOB,
        {"cluster": "east", "pod": "given"},
        rules(
            {"source_labels": ["__meta_node"], "target_label": "node"},
            {"regex": "secret", "action": "labeldrop"},
            {"source_labels": ["pod"], "regex": "web-.*", "action": "drop"},
        ),
    )
    target = made(population, {"__address__": "h:1", "pod": "found", "__meta_node": "n1", "secret": "x", "empty": ""})
    assert dict(target.labels) == {
        "job": "linkerd-proxy",
        "cluster": "east",
        "pod": "given",
        "node": "n1",
        "instance": "h:1",
    }
    assert dict(target.found)["__meta_node"] == "n1"
    assert Population(JOB, {"pod": "web-0"}, rules({"source_labels": ["pod"], "regex": "web-.*", "action": "drop"}))(
        {"__address__": "h:1"}
    ) is Passed.DROPPED  # fmt: skip


@pytest.mark.parametrize("of", [1, 2, 3, 5])
@pytest.mark.parametrize("first", [0, 1])
def test_every_target_is_in_one_shard_however_they_are_counted(of: int, first: int) -> None:
    shards = [Shard.parse(f"{number}/{of}", "host") for number in range(first, first + of)]
    for host in range(200):
        assert sum(shard.has(f"10.0.0.{host}:4191") for shard in shards) == 1
    sizes = [sum(shard.has(f"10.0.0.{host}:4191") for host in range(200)) for shard in shards]
    assert min(sizes) > 100 / of


def test_a_shard_is_the_one_that_hashmod_would_choose() -> None:
    population = Population(JOB, rules=rules(
        {"source_labels": ["__address__"], "modulus": 3, "target_label": "shard", "action": "hashmod"},
    ))  # fmt: skip
    for host in range(20):
        target = made(population, {"__address__": f"10.0.0.{host}:4191"})
        assert Shard(int(dict(target.labels)["shard"]), 3).has(f"10.0.0.{host}:4191")


@pytest.mark.parametrize(("hostname", "index"), [("ebbtide-0", 0), ("ebbtide-4", 4), ("a-b-2", 2), ("a-1.b.ns.svc", 1)])
def test_a_stateful_set_numbers_its_shards(hostname: str, index: int) -> None:
    assert Shard.parse("ordinal/5", hostname) == Shard(index, 5)


@pytest.mark.parametrize(
    ("given", "hostname"), [("2", "h"), ("1/0", "h"), ("-1/2", "h"), ("a/2", "h"), ("6/5", "h"), ("ordinal/2", "host")]
)
def test_what_is_no_shard(given: str, hostname: str) -> None:
    with pytest.raises(ValueError, match="shard"):
        Shard.parse(given, hostname)


@pytest.mark.parametrize("hostname", ["ebbtide-5", "ebbtide-11", "ebbtide-999999999"])
def test_an_ordinal_beyond_the_last_shard_polls_nothing_twice(hostname: str) -> None:
    with pytest.raises(
        ValueError, match="of 5 shards the last is 4; raise the number behind the slash, or run no more"
    ):
        Shard.parse("ordinal/5", hostname)


def test_targets_named_one_by_one() -> None:
    group = static_group(
        ["127.0.0.1:4191", "https://h:1/x?a=b", "http://[::1]", "http://h/?a%5B%5D=1&a%5B%5D=2&b&c=%26"]
    )
    assert group.targets == (
        {"__address__": "127.0.0.1:4191"},
        {"__address__": "h:1", "__scheme__": "https", "__metrics_path__": "/x", "__param_a": "b"},
        {"__address__": "[::1]", "__scheme__": "http"},
        {"__address__": "h", "__scheme__": "http", "__param_a[]": "1", "__param_c": "&", MORE: "a%5B%5D=2&b="},
    )
    assert made(Population({}), group.targets[-1]).url == "http://h/metrics?a%5B%5D=1&a%5B%5D=2&b=&c=%26"
    for bad in (
        "",
        "ftp://h",
        "http://",
        "h:x",
        "h:65536",
        "http://h:65536/",
        "http://h:0",
        "http://[::1",
        "a b:1",
        "http://a b",
    ):
        with pytest.raises(ValueError, match="is no target"):
            static_group([bad])
    for bad in ("http://u:secret@h/", "u:secret@h", "http://h/#f"):
        with pytest.raises(ValueError, match="no user and no fragment") as refused:
            static_group([bad])
        assert "secret" not in str(refused.value)


class Scripted:
    """Says what it is given, when it is given."""

    def __init__(self) -> None:
        self.update: Callable[[Groups], None] | None = None
        self.groups: Groups | None = None

    async def run(self, update: Callable[[Groups], None]) -> None:
        self.update = update
        await trio.sleep_forever()

    async def once(self) -> Groups:
        if self.groups is None:
            raise ReceiveError("cannot find any")
        return self.groups


def group(source: str, *addresses: str, **labels: str) -> TargetGroup:
    return TargetGroup(source, labels, tuple({"__address__": address} for address in addresses))


async def test_a_set_tells_of_all_targets_at_each_change(nursery: trio.Nursery) -> None:
    discovery, told = Scripted(), list[tuple[ScrapeTarget, ...]]()
    targets = TargetSet(Population(JOB), static_group(["a:1"]), {"kubernetes": discovery}, LOG, "mesh")
    nursery.start_soon(targets.run, told.append)
    await trio.testing.wait_all_tasks_blocked()
    assert discovery.update is not None
    discovery.update({"x": group("x", "c:1", "b:1", pod="p")})
    discovery.update({"x": group("x", "b:1", "c:1", pod="p")})  # the same, in another order
    discovery.update({"x": group("x", "b:1"), "y": group("y", "b:1", "a:1")})
    assert [[target.instance for target in one] for one in told] == [["a:1"], ["a:1", "b:1", "c:1"], ["a:1", "b:1"]]
    assert dict(told[1][1].labels)["pod"] == "p"
    nursery.cancel_scope.cancel()


async def test_what_cannot_be_scraped_is_said_and_the_others_are_scraped(caplog: pytest.LogCaptureFixture) -> None:
    discovery = Scripted()
    discovery.groups = {"x": group("x", "a:1", "b:x", "", "u:geheim@c:1")}
    targets = TargetSet(Population(JOB), static_group([]), {"file": discovery}, FoldedLog(logging.getLogger("ebbtide.test")), "mesh")  # fmt: skip
    assert [target.instance for target in await targets.once()] == ["a:1"]
    assert (
        "receivers.mesh: cannot scrape 3 targets (...@c:1: its __address__ '...@c:1' is not host:port; b:x: its __address__ 'b:x'"
        in caplog.text
    )
    assert "geheim" not in caplog.text


async def test_a_discovery_that_cannot_answer_fails_the_only_poll() -> None:
    targets = TargetSet(Population(JOB), static_group([]), {"file": Scripted()}, LOG, "mesh")
    with pytest.RaisesGroup(ReceiveError):
        await targets.once()


async def test_targets_with_the_same_labels_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    population = Population(JOB, {"instance": "same"})
    targets = TargetSet(population, static_group(["a:1", "b:2"]), {}, LOG, "mesh")
    assert len(await targets.once()) == 2
    assert (
        "receivers.mesh: 1 times, targets have the same labels (http://a:1/metrics and http://b:2/metrics)"
        in caplog.text
    )
    caplog.clear()
    await targets.once()
    assert not caplog.text
