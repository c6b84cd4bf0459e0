"""The admin port's answers and its address."""

from __future__ import annotations

import json

import pytest

from agent.admin import Admin
from agent.httpserver import Request
from agent.ledger import Ledger, ReceiverCounts
from agent.settings import parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", None),
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("[::]:0", ("::", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int] | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "9464",
        "localhost",
        "host:",
        ":",
        "host:x",
        "host:65536",
        "host:-1",
        "host:+1",
        "::1:9464",
        "[::1:9464",
        "::1]:9464",
        "host:１",
        "host: 1",
        "a:b:1",
    ],
)
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="not an address; write") as error:
        parse_address(text)
    assert "such as" in str(error.value)


READY = {"now": False}


def admin() -> Admin:
    ledger = Ledger({"linkerd": ReceiverCounts(polls=3)})
    return Admin(ledger, lambda: READY["now"], lambda: 'ebbtide_x{a="é"} 1\n')


def request(path: str, method: str = "GET") -> Request:
    return Request(method, path, [], [])


async def test_health_is_always_well() -> None:
    assert (await admin()(request("/healthz"))).status == 200


async def test_readiness_follows_the_agent() -> None:
    served = admin()
    READY["now"] = False
    assert (await served(request("/readyz"))).status == 503
    READY["now"] = True
    assert (await served(request("/readyz"))).status == 200


async def test_metrics_are_prometheus_text() -> None:
    response = await admin()(request("/metrics"))
    assert response.body == 'ebbtide_x{a="é"} 1\n'.encode()
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_ledger_is_live_json() -> None:
    ledger = Ledger({"linkerd": ReceiverCounts()})
    served = Admin(ledger, lambda: True, str)
    for polls in (1, 2):
        ledger.receivers["linkerd"].polls = polls
        response = await served(request("/ledger"))
        assert response.content_type == "application/json"
        assert json.loads(response.body) == ledger.as_dict()


async def test_other_paths_and_methods_are_refused() -> None:
    assert (await admin()(request("/"))).status == 404
    assert b"/healthz" in (await admin()(request("/metrics/x"))).body
    response = await admin()(request("/metrics", "POST"))
    assert (response.status, dict(response.headers)) == (405, {"Allow": "GET, HEAD"})
    assert (await admin()(request("/metrics", "HEAD"))).status == 200
