"""Which destinations go by which proxy: the cases of Go's httpproxy, and what cannot be used."""

from __future__ import annotations

import pytest

from agent.proxy import ProxyError, proxy_of

BOTH = {"HTTP_PROXY": "http://plain:3128", "HTTPS_PROXY": "http://secure:3128"}


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("http://c:4318/v1/metrics", BOTH, "http://plain:3128"),
        ("https://c:4318", BOTH, "http://secure:3128"),
        ("http://c", {}, None),
        ("http://c", {"HTTPS_PROXY": "http://p"}, None),
        ("http://c", {"http_proxy": "p:3128"}, "http://p:3128"),
        ("http://c", {"HTTP_PROXY": "http://a", "http_proxy": "http://b"}, "http://a"),
        ("http://c", {"HTTP_PROXY": " ", "http_proxy": "https://u:p@b:1"}, "https://u:p@b:1"),
        ("http://localhost:4318", BOTH, None),
        ("http://otel.localhost", BOTH, None),
        ("http://127.0.0.9", BOTH, None),
        ("https://[::1]:1", BOTH, None),
        ("", BOTH, None),
    ],
)
def test_proxies(url: str, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_of(url, environ) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "inside", "outside"),
    [
        ("*", ["http://any", "http://10.1.1.1"], []),
        ("example.com", ["http://example.com", "http://a.example.com:1", "http://EXAMPLE.com."], ["http://myexample.com"]),
        (".example.com", ["http://a.example.com"], ["http://example.com", "http://aexample.com"]),
        ("*.example.com", ["http://a.b.example.com"], ["http://example.com"]),
        (" a , ,b:81 ", ["http://a", "http://b:81"], ["http://b", "http://b:80"]),
        ("a:80,b:443", ["http://a", "https://b"], ["https://a"]),
        ("10.0.0.0/8,fd00::/8", ["http://10.200.0.1:4318", "http://[fd00::9]"], ["http://11.0.0.1", "http://ten"]),
        ("10.0.0.1,10.0.0.2:80", ["http://10.0.0.1:9", "http://10.0.0.2"], ["http://10.0.0.2:9", "http://10.0.0.3"]),
        ("fd00::1,[fd00::2]:80", ["http://[fd00::1]:9", "http://[fd00::2]"], ["http://[fd00::2]:9"]),
        ("10.0.0.0/99,:::,a:b:c", [], ["http://10.0.0.1", "http://a"]),
        (".svc,.svc.cluster.local", ["http://otel.monitoring.svc", "http://o.m.svc.cluster.local"], ["http://svc"]),
    ],
)  # fmt: skip
def test_no_proxy(no_proxy: str, inside: list[str], outside: list[str]) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        environ = {**BOTH, name: no_proxy}
        assert [url for url in inside if proxy_of(url, environ)] == []
        assert [url for url in outside if not proxy_of(url, environ)] == []


@pytest.mark.parametrize("proxy", ["socks5://u:s3cret@p:1080", "http://u:s3cret@", "http://p:s3cret", "http://[s3cret"])
def test_what_cannot_be_used_is_named_and_not_shown(proxy: str) -> None:
    with pytest.raises(
        ProxyError, match="given by HTTPS_PROXY in the environment: expected http://host:port"
    ) as caught:
        proxy_of("https://c", {"HTTPS_PROXY": proxy})
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ProxyError):
        proxy_of("https://c", {"HTTPS_PROXY": "https://p"}, ("http",))
