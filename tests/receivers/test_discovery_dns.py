"""Targets by DNS, from a name server of the test's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
from pydantic import ValidationError

from ebbtide import ConfigError, FoldedLog, ReceiveError
from receivers.discovery import Groups
from receivers.discovery_dns import DnsDiscovery, DnsDiscoverySettings

Answer = Callable[[str, str], list[str] | int]  # name, type -> records, or an rcode


async def name_server(nursery: trio.Nursery, answer: Answer) -> Any:
    """Serve on loopback; return a resolver that asks there alone."""
    socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await socket.bind(("127.0.0.1", 0))

    async def serve() -> None:
        with socket:
            while True:
                packet, client = await socket.recvfrom(65535)
                query = dns.message.from_wire(packet)
                response = dns.message.make_response(query)
                (question,) = query.question
                kind = dns.rdatatype.to_text(question.rdtype)
                records = answer(question.name.to_text(omit_final_dot=True), kind)
                if isinstance(records, int):
                    response.set_rcode(dns.rcode.Rcode(records))
                elif records:
                    response.answer.append(dns.rrset.from_text(question.name, 30, "IN", kind, *records))
                await socket.sendto(response.to_wire(), client)

    nursery.start_soon(serve)
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], socket.getsockname()[1]
    return resolver


def discovery(resolver: Any, **options: Any) -> DnsDiscovery:
    settings = DnsDiscoverySettings.model_validate({"names": ["mesh.test"], "port": 4191, **options})
    return DnsDiscovery(settings, FoldedLog(logging.getLogger("ebbtide.test")), "mesh", resolver)


def found(groups: Groups) -> list[dict[str, str]]:
    return [{**group.labels, **target} for _, group in sorted(groups.items()) for target in group.targets]


@pytest.mark.parametrize(
    ("record", "records", "targets"),
    [
        ("A", ["10.0.0.2", "10.0.0.1"], [{"__address__": "10.0.0.1:4191"}, {"__address__": "10.0.0.2:4191"}]),
        ("AAAA", ["fd00::1"], [{"__address__": "[fd00::1]:4191"}]),
        ("A", [], []),
        ("A", dns.rcode.NXDOMAIN, []),
    ],
)
async def test_addresses(nursery: trio.Nursery, record: str, records: Any, targets: list[dict[str, str]]) -> None:
    resolver = await name_server(nursery, lambda name, kind: records if kind == record else [])
    groups = await discovery(resolver, record=record).once()
    assert found(groups) == [{"__meta_dns_name": "mesh.test", **target} for target in targets]
    nursery.cancel_scope.cancel()


async def test_services_bring_their_ports(nursery: trio.Nursery) -> None:
    resolver = await name_server(nursery, lambda name, kind: ["0 5 4192 web-0.mesh.test."] if kind == "SRV" else [])
    settings = DnsDiscoverySettings.model_validate({"names": ["_m._tcp.mesh.test"], "record": "SRV"})
    made = DnsDiscovery(settings, FoldedLog(logging.getLogger("ebbtide.test")), "mesh", resolver)
    assert found(await made.once()) == [
        {
            "__meta_dns_name": "_m._tcp.mesh.test",
            "__address__": "web-0.mesh.test:4192",
            "__meta_dns_srv_record_target": "web-0.mesh.test.",
            "__meta_dns_srv_record_port": "4192",
        }
    ]
    nursery.cancel_scope.cancel()


async def test_a_failure_keeps_the_addresses_and_is_said(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbtide.test")
    said: list[Any] = [["10.0.0.1"], dns.rcode.SERVFAIL, ["10.0.0.2"]]
    resolver = await name_server(nursery, lambda name, kind: said[0] if len(said) == 1 else said.pop(0))
    resolver.retry_servfail = False
    told: list[list[str]] = []
    enough = trio.Event()

    def update(groups: Groups) -> None:
        told.append([target["__address__"] for target in found(groups)])
        if len(told) == 3:
            enough.set()

    nursery.start_soon(discovery(resolver, refresh="10ms").run, update)
    with trio.fail_after(10):
        await enough.wait()
    assert told == [["10.0.0.1:4191"], ["10.0.0.1:4191"], ["10.0.0.2:4191"]]
    assert caplog.records[0].getMessage().startswith("receivers.mesh: cannot look up mesh.test: ")
    assert caplog.records[1].getMessage() == "receivers.mesh: mesh.test can be looked up again after 1 failures"
    nursery.cancel_scope.cancel()


async def test_nothing_is_told_before_the_first_answer(nursery: trio.Nursery) -> None:
    resolver = await name_server(nursery, lambda name, kind: int(dns.rcode.REFUSED))
    told: list[Groups] = []
    made = discovery(resolver, refresh="10ms")
    nursery.start_soon(made.run, told.append)
    with pytest.raises(ReceiveError, match=r"cannot look up mesh\.test: .*; check `discovery`"):
        await discovery(resolver).once()
    assert told == []
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "options",
    [{"names": []}, {"names": ["a b"]}, {"names": ["a..b"]}, {"names": ["a"]}, {"names": ["a"], "record": "AAAA"}, {"names": ["a"], "port": 0},
     {"names": ["a"], "port": 1, "record": "MX"}],
)  # fmt: skip
def test_what_cannot_be_looked_up(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DnsDiscoverySettings.model_validate(options)


def test_without_the_library_the_command_to_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dns.asyncresolver", None)
    with pytest.raises(ConfigError, match=r"pip install 'ebbtide\[dns\]'"):
        discovery(None)
