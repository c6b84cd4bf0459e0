"""Sending over HTTP: by a proxy, and what stays of a reason."""

from __future__ import annotations

import pytest

from agent.http import Fault
from agent.scripted import answer, serve
from ebbtide import Payload, Retry, Tls
from exporters.otlp_http import HttpSender


def sender(url: str, proxy: str | None = None) -> HttpSender:
    return HttpSender(
        url, content_type="application/x-protobuf", content_encoding="", headers={}, tls=Tls(), timeout=5.0,
        max_response=1000, user_agent="test", proxy=proxy,
    )  # fmt: skip


OK = answer(200, b"", {"Content-Type": "application/x-protobuf"})


async def test_a_proxy(nursery):
    proxy = await serve(nursery, [OK])
    used = sender("http://collector.invalid:4318/v1/metrics", proxy.url.replace("//", "//me:s3cret@"))
    assert await used.send(Payload(b"", b"", 0, 0)) is None
    assert proxy.requests[0].target == "http://collector.invalid:4318/v1/metrics"
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6czNjcmV0"
    await used.aclose()


async def test_a_proxy_that_is_not_there():
    used = sender("http://collector.invalid:4318", "http://me:s3cret@127.0.0.1:1")
    with pytest.raises(
        Retry,
        match=r"cannot reach http://collector\.invalid:4318 through the proxy http://127\.0\.0\.1:1: connection refused",
    ) as caught:
        await used.send(Payload(b"", b"", 0, 0))
    assert "s3cret" not in str(caught.value)
    await used.aclose()


async def test_the_reason_is_kept():
    used = sender("http://127.0.0.1:1/v1/metrics")
    with pytest.raises(Retry, match=r"cannot reach http://127\.0\.0\.1:1/v1/metrics: connection refused") as caught:
        await used.send(Payload(b"", b"", 0, 0))
    assert isinstance(caught.value.__cause__, Fault)
    await used.aclose()
