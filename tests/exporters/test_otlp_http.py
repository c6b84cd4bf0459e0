"""Which destinations go through the proxies of the environment."""

from __future__ import annotations

import pytest

from agent.http import Fault
from agent.scripted import answer, serve
from ebbtide import Payload, Retry, Tls
from exporters.otlp_http import HttpSender


def sender(url: str) -> HttpSender:
    return HttpSender(
        url, content_type="application/x-protobuf", content_encoding="", headers={}, tls=Tls(), timeout=5.0,
        max_response=1000, user_agent="test",
    )  # fmt: skip


@pytest.fixture
def proxy_of(monkeypatch: pytest.MonkeyPatch):
    def use(url: str) -> None:
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)

    return use


OK = answer(200, b"", {"Content-Type": "application/x-protobuf"})


async def test_a_destination_elsewhere_goes_through_the_proxy(nursery, proxy_of):
    proxy = await serve(nursery, [OK])
    proxy_of(proxy.url)
    used = sender("http://collector.invalid:4318/v1/metrics")
    assert await used.send(Payload(b"", b"", 0, 0)) is None
    assert proxy.requests[0].target == "http://collector.invalid:4318/v1/metrics"
    await used.aclose()


async def test_loopback_does_not(nursery, proxy_of):
    proxy, server = await serve(nursery, []), await serve(nursery, [OK])
    proxy_of(proxy.url)
    used = sender(server.url)
    assert await used.send(Payload(b"", b"", 0, 0)) is None
    assert (len(proxy.requests), len(server.requests)) == (0, 1)
    await used.aclose()


async def test_the_reason_is_kept(proxy_of):
    used = sender("http://127.0.0.1:1/v1/metrics")
    with pytest.raises(Retry, match=r"cannot reach http://127\.0\.0\.1:1/v1/metrics: connection refused") as caught:
        await used.send(Payload(b"", b"", 0, 0))
    assert isinstance(caught.value.__cause__, Fault)
    await used.aclose()
