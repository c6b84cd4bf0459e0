"""``kubernetes://`` URLs: what they mean, and what is none."""

from __future__ import annotations

import pytest

from agent.http_fault import safe_url
from agent.kubernetes.address import SCHEME, Destination, is_address, split_address, wire_url, with_query

SERVICE = Destination("linkerd-viz", "service", "prometheus", "", "9090")
PODS = Destination("viz", "pods", "", "linkerd.io/control-plane-component=prometheus", "9090")


@pytest.mark.parametrize(
    ("rest", "destination", "path"),
    [
        ("linkerd-viz/service/prometheus:9090", SERVICE, ""),
        ("linkerd-viz/service/prometheus:9090/", SERVICE, "/"),
        ("linkerd-viz/service/prometheus:9090/prefix/federate?match[]=a", SERVICE, "/prefix/federate?match[]=a"),
        ("linkerd-viz/service/prometheus:9090?x=1", SERVICE, "/?x=1"),
        ("linkerd-viz/service/prometheus:9090/a#b", SERVICE, "/a"),
        ("a/service/b:admin-http/x", Destination("a", "service", "b", "", "admin-http"), "/x"),
        ("a/pod/web-0.example:4191", Destination("a", "pod", "web-0.example", "", "4191"), ""),
        ("viz/pods?selector=linkerd.io/control-plane-component=prometheus:9090", PODS, ""),
        ("viz/pods?selector=linkerd.io/control-plane-component=prometheus:9090/federate?x=1", PODS, "/federate?x=1"),
        ("viz/pods?selector=app%20in%20(a,b):1", Destination("viz", "pods", "", "app in (a,b)", "1"), ""),
        ("viz/pods?selector=!a,b!=c:x1", Destination("viz", "pods", "", "!a,b!=c", "x1"), ""),
    ],
)
def test_addresses(rest, destination, path):
    assert split_address(SCHEME + rest) == (destination, path)


@pytest.mark.parametrize(
    "rest",
    ["", "ns", "ns/service/a", "ns/service/:80", "ns/services/a:80", "/service/a:80", "ns/service/a:0", "ns/service/a:65536",
     "ns/service/a:", "ns/service/a:80x/y z:", "Ns/service/a:80", "ns/service/-a:80", "ns/pods?selector=:80", "ns/pods?selector=a",
     "ns/pods?labels=a:80", "ns/pods:80", "ns/service/a.:80", "user@ns/service/a:80", "ns/service/a:80\n"],
)  # fmt: skip
def test_no_addresses(rest):
    if rest in ("ns/service/a:80x/y z:",):
        assert split_address(SCHEME + rest)[0].port == "80x"  # a name
        return
    with pytest.raises(ValueError, match="write kubernetes://NAMESPACE/service/NAME:PORT") as caught:
        split_address(SCHEME + rest)
    assert not rest or rest not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "wire", "queried"),
    [
        ("http://a/b", "http://a/b", "http://a/b?q=1"),
        ("http://a/b?c", "http://a/b?c", "http://a/b?c&q=1"),
        ("kubernetes://n/service/s:80", "http://localhost:80/", "kubernetes://n/service/s:80?q=1"),
        ("kubernetes://n/service/s:web/a?b=1", "http://localhost/a?b=1", "kubernetes://n/service/s:web/a?b=1&q=1"),
        ("kubernetes://n/pods?selector=a=b:80/x", "http://localhost:80/x", "kubernetes://n/pods?selector=a=b:80/x?q=1"),
        (
            "kubernetes://n/pods?selector=a:80/x?y",
            "http://localhost:80/x?y",
            "kubernetes://n/pods?selector=a:80/x?y&q=1",
        ),
    ],
)
def test_requests(url, wire, queried):
    assert (wire_url(url), with_query(url, "q=1"), with_query(url, "")) == (wire, queried, url)
    assert is_address(url) is url.startswith(SCHEME)


def test_what_is_shown():
    assert SERVICE.url == "kubernetes://linkerd-viz/service/prometheus:9090"
    assert PODS.url == "kubernetes://viz/pods?selector=linkerd.io/control-plane-component=prometheus:9090"
    assert (SERVICE.instance, PODS.instance) == ("prometheus.linkerd-viz:9090", "viz:9090")
    assert safe_url(SERVICE.url + "/a?secret=1") == SERVICE.url + "/a"
    assert safe_url(PODS.url + "/a?secret=1") == PODS.url + "/a"
