"""The API server of the demo: what it answers, and that it lets nothing pass that is not right."""

from __future__ import annotations

import pytest

from agent.demo import cluster as demo_cluster
from agent.demo.cluster import (
    Cluster,
    ClusterApi,
    Forwarding,
    RefusedError,
    Watching,
    selector_test,
    to_json,
)
from tests.clusters import pod, service


@pytest.fixture
def api() -> ClusterApi:
    return ClusterApi(Cluster([pod("a"), pod("b", labels={"app": "db"}), pod("c", "other"), service("web")]))


def ask(api: ClusterApi, path: str, method: str = "GET", **query: str) -> object:
    return api.answer(method, path, list(query.items()), {})


def refusal(api: ClusterApi, path: str, method: str = "GET", **query: str) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        ask(api, path, method, **query)
    return caught.value


def names(answer: object) -> list[str]:
    assert isinstance(answer, dict)
    return [item["metadata"]["name"] for item in answer["items"]]


def test_lists(api: ClusterApi):
    assert names(ask(api, "/api/v1/pods")) == ["c", "a", "b"]
    assert names(ask(api, "/api/v1/namespaces/shop/pods")) == ["a", "b"]
    assert names(ask(api, "/api/v1/pods", labelSelector="app=web")) == ["c", "a"]
    assert names(ask(api, "/api/v1/pods", fieldSelector="metadata.namespace=other,spec.nodeName=node-1")) == ["c"]
    assert names(ask(api, "/apis/apps/v1/deployments")) == []
    one = ask(api, "/api/v1/namespaces/shop/pods/a")
    assert (one["kind"], one["apiVersion"], one["metadata"]["resourceVersion"]) == ("Pod", "v1", "1001")
    assert to_json(ask(api, "/api/v1/namespaces/shop/services")).startswith(b'{"kind":"ServiceList","apiVersion":"v1"')


def test_pages(api: ClusterApi):
    first = ask(api, "/api/v1/pods", limit="2")
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["c", "a"], 1)
    second = ask(api, "/api/v1/pods", **{"limit": "2", "continue": first["metadata"]["continue"]})
    assert names(second) == ["b"]
    assert "continue" not in second["metadata"]
    api.cluster.forget()
    gone = refusal(api, "/api/v1/pods", **{"limit": "2", "continue": first["metadata"]["continue"]})
    assert (gone.code, gone.status["reason"]) == (410, "Expired")


def test_watches(api: ClusterApi):
    watch = ask(
        api, "/api/v1/pods", watch="true", resourceVersion="1004", allowWatchBookmarks="true", timeoutSeconds="9"
    )
    assert isinstance(watch, Watching)
    assert (watch.version, watch.bookmarks, watch.seconds) == (1004, True, 9.0)
    api.cluster.forget()
    assert refusal(api, "/api/v1/pods", watch="1", resourceVersion="1004").code == 410
    api.gone_by_event = True
    assert isinstance(ask(api, "/api/v1/pods", watch="1", resourceVersion="1004"), Watching)


def test_port_forwards(api: ClusterApi):
    api.cluster.forwards["shop", "a", 80] = "127.0.0.1", 1234
    forward = ask(api, "/api/v1/namespaces/shop/pods/a/portforward", ports="80")
    assert forward == Forwarding("shop", "a", "uid-of-a", 80, ("127.0.0.1", 1234))
    api.cluster.put(pod("a", phase="Pending"))
    assert "pod is not running. Current status=Pending" in str(
        refusal(api, "/api/v1/namespaces/shop/pods/a/portforward", ports="80")
    )


@pytest.mark.parametrize(
    ("path", "query", "code", "wrong"),
    [
        ("/nowhere", {}, 404, False),
        ("/api/v1/things", {}, 404, False),
        ("/api/v1/namespaces/a/nodes", {}, 404, False),
        ("/api/v1/namespaces/shop/pods/gone", {}, 404, False),
        ("/api/v1/namespaces/shop/pods/a/log", {}, 404, False),
        ("/api/v1/pods", {"limit": "x"}, 400, True),
        ("/api/v1/pods", {"continue": "x"}, 400, True),
        ("/api/v1/pods", {"labelselector": "a"}, 400, True),
        ("/api/v1/pods", {"labelSelector": "a=b=c"}, 400, True),
        ("/api/v1/pods", {"watch": "true"}, 400, True),
        ("/api/v1/pods", {"watch": "true", "resourceVersion": "x"}, 400, True),
        ("/api/v1/pods", {"watch": "true", "sendInitialEvents": "true"}, 422, False),
        ("/api/v1/pods", {"watch": "true", "resourceVersion": "1", "limit": "3"}, 400, True),
        ("/api/v1/namespaces/shop/pods/a/portforward", {"ports": "0"}, 400, True),
        ("/api/v1/namespaces/shop/pods/a/portforward", {"port": "80"}, 400, True),
    ],
)  # fmt: skip
def test_refusals(api: ClusterApi, path, query, code, wrong):
    refused = refusal(api, path, **query)
    assert (refused.code, refused.status["code"], refused.status["kind"]) == (code, code, "Status")
    assert bool(api.complaints) is wrong


def test_what_is_given_twice_and_other_methods(api: ClusterApi):
    with pytest.raises(RefusedError, match="a parameter is given twice"):
        api.answer("GET", "/api/v1/pods", [("limit", "1"), ("limit", "2")], {})
    assert refusal(api, "/api/v1/pods", "DELETE").code == 405


def test_who_may(api: ClusterApi):
    api.tokens["t"] = "me"
    api.allowed = lambda user, verb, resource, namespace: (
        (user, verb, resource, namespace) == ("me", "list", "pods", "shop")
    )
    assert refusal(api, "/api/v1/pods").code == 401
    header = {"authorization": "Bearer t"}
    assert names(api.answer("GET", "/api/v1/namespaces/shop/pods", [], header)) == ["a", "b"]
    with pytest.raises(
        RefusedError, match='User "me" cannot list resource "pods" in API group "" at the cluster scope'
    ):
        api.answer("GET", "/api/v1/pods", [], header)


@pytest.mark.parametrize("path", ["/version", "/api", "/apis", "/api/v1", "/apis/apps/v1", "/apis/batch/v1"])
def test_discovery(api: ClusterApi, path):
    assert isinstance(ask(api, path, timeout="32s"), dict)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("a=b", [True, False, False]), ("a==b", [True, False, False]), ("a!=b", [False, True, True]),
        ("a", [True, True, False]), ("!a", [False, False, True]), ("a in (b, c)", [True, True, False]),
        ("a notin (b)", [False, True, True]), ("a=", [False, False, False]),
    ],
)  # fmt: skip
def test_selectors(text, matches):
    test = selector_test(text)
    assert [test(labels) for labels in ({"a": "b"}, {"a": "c"}, {})] == matches


@pytest.mark.parametrize("text", ["", "=b", "a in b", "a>1", "a b"])
def test_no_selectors(text):
    assert selector_test(text) is None


def test_the_history_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo_cluster, "MOST_CHANGES", 10)
    cluster = Cluster()
    for _ in range(15):
        cluster.put(pod("a"))
    assert len(cluster.history) <= 10
    assert cluster.oldest == cluster.history[0].version - 1
