"""Requests to the API server: pages, watches, credentials, and every refusal with what would lift it."""

from __future__ import annotations

import json
import ssl
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
import trustme

from agent.http_fault import Fault
from agent.kubernetes.access import Access, Pass
from agent.kubernetes.api import Api, ApiFault, ApiResource, event_fault
from agent.scripted import answer, serve
from agent.settings import Tls
from tests.clusters import kubeconfig, pod, running

PODS = ApiResource("pods", "shop")


async def names_of(api: Api, resource: ApiResource = PODS, page: int = 2, **params: str) -> tuple[list[str], str]:
    found: list[str] = []
    version = await api.list_all(resource, params, lambda item: found.append(item["metadata"]["name"]), page)
    return found, version


async def fault_of(api: Api, resource: ApiResource = PODS) -> ApiFault:
    with pytest.raises(Fault) as caught:
        await names_of(api, resource)
    assert str(caught.value).startswith("cannot ")
    return caught.value


@pytest.mark.parametrize(
    ("resource", "path", "text"),
    [
        (PODS, "/api/v1/namespaces/shop/pods", "pods in namespace shop"),
        (ApiResource("pods"), "/api/v1/pods", "pods"),
        (
            ApiResource("pods", "a", "b", "portforward"),
            "/api/v1/namespaces/a/pods/b/portforward",
            "pods b in namespace a",
        ),
        (ApiResource("jobs", "a", group="apis/batch/v1"), "/apis/batch/v1/namespaces/a/jobs", "jobs in namespace a"),
        (ApiResource("nodes", "", "a/b?"), "/api/v1/nodes/a/b%3F", "nodes a/b?"),
    ],
)
def test_resources(resource, path, text):
    assert (resource.path, str(resource)) == (path, text)


async def test_a_list_comes_in_pages(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [pod(f"p{n}") for n in range(5)] + [pod("x", "other")])
    api = Api(server.kubeconfig)
    assert await names_of(api) == ([f"p{n}" for n in range(5)], str(server.cluster.version))
    assert len(server.api.asked) == 3
    assert (await names_of(api, ApiResource("pods"), page=0))[0] == ["x", *[f"p{n}" for n in range(5)]]
    assert (await names_of(api, labelSelector="app=db"))[0] == []
    assert server.api.complaints == []
    await api.aclose()


async def test_a_watch(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [pod("a")])
    api = Api(server.kubeconfig)
    _, version = await names_of(api)
    server.cluster.put(pod("b"))
    params = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "30"}
    async with aclosing(api.watch(PODS, params)) as events:
        assert await anext(events) == []
        first = await anext(events)
        server.cluster.delete(pod("a"))
        second = await anext(events)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in (*first, *second)] == [
        ("ADDED", "b"), ("DELETED", "a"),
    ]  # fmt: skip
    server.api.bookmark_seconds = 0.01
    async with aclosing(api.watch(PODS, params | {"resourceVersion": str(server.cluster.version)})) as events:
        assert await anext(events) == []
        [bookmark] = await anext(events)
    assert bookmark["type"] == "BOOKMARK"
    assert server.api.complaints == []
    await api.aclose()


async def test_what_role_is_needed(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, allowed=lambda *_: False)
    api = Api(server.kubeconfig)
    fault = await fault_of(api)
    assert (fault.status, fault.kind) == (403, "credentials")
    assert 'answered 403, \'pods is forbidden: User "system:anonymous" cannot list resource "pods"' in str(fault)
    assert str(fault).endswith(
        f"we are there by context 'north' of {server.kubeconfig}; bind a Role in namespace shop that allows get, list, "
        "watch on pods to it (docs/kubernetes.md)"
    )
    assert "bind a ClusterRole that allows get, list, watch on jobs of batch to it" in str(
        await fault_of(api, ApiResource("jobs", group="apis/batch/v1"))
    )
    await api.aclose()


async def test_other_refusals(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, tokens={"right": "me"}, user={"token": "wrong"})
    api = Api(server.kubeconfig)
    assert "answered 401, 'Unauthorized'; the credentials are those of context 'north'" in str(await fault_of(api))
    await api.aclose()
    server = await running(nursery, tmp_path)
    api = Api(server.kubeconfig)
    assert (await fault_of(api, ApiResource("things"))).status == 404
    with pytest.raises(ApiFault, match=r'cannot read pods gone in namespace shop: .*pods "gone" not found'):
        await api.get(ApiResource("pods", "shop", "gone"))
    await api.aclose()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "it is no JSON object; check that this is an API server"),
        (b"[]", "it is no JSON object"),
        (b"[" * 200_000, "it is no JSON object"),
        (b'{"items": 3, "metadata": {}}', "it is no list of objects"),
        (b'{"items": []}', "it is no list of objects"),
    ],
)
async def test_answers_that_are_none(nursery, tmp_path: Path, body, words):
    server = await serve(nursery, [answer(200, body)])
    (tmp_path / "config").write_text(json.dumps(scripted(server.url)))
    api = Api(str(tmp_path / "config"))
    assert words in str(await fault_of(api))
    await api.aclose()


async def test_a_server_that_asks_to_wait(nursery, tmp_path: Path):
    server = await serve(nursery, [answer(429, b'{"message": "slow down"}', {"Retry-After": "7"}), answer(503, b"")])
    (tmp_path / "config").write_text(json.dumps(scripted(server.url)))
    api = Api(str(tmp_path / "config"))
    fault = await fault_of(api)
    assert (fault.status, fault.after, "'slow down'" in str(fault)) == (429, 7.0, True)
    assert "see the log of the API server" in str(await fault_of(api))
    await api.aclose()


async def test_an_item_that_is_no_object_is_passed_on_as_an_empty_one(nursery, tmp_path: Path):
    server = await serve(nursery, [answer(200, b'{"items": [3, null], "metadata": {"resourceVersion": "5"}}')])
    (tmp_path / "config").write_text(json.dumps(scripted(server.url)))
    api, found = Api(str(tmp_path / "config")), []
    assert await api.list_all(PODS, {}, found.append) == "5"
    assert found == [{}, {}]
    await api.aclose()


def scripted(url: str) -> dict[str, object]:
    return kubeconfig({"server": url.rstrip("/")}, {})


async def test_another_try_where_credentials_were_refused(nursery, tmp_path: Path):
    server = await running(nursery, tmp_path, [pod("a")], tokens={"second": "me"})
    shown = iter(["Bearer first", "Bearer second", "Bearer second"])

    class Plugin:
        async def __call__(self) -> Pass:
            return Pass(next(shown))

        def refused(self) -> bool:
            return True

    access = Access(server.url, Tls(), Plugin(), "shop", "a plugin")
    api = Api(find=lambda *_: access)
    assert (await names_of(api))[0] == ["a"]
    assert api.namespace == "shop"
    await api.aclose()


async def test_tls_with_a_client_certificate_and_another_name(nursery, tmp_path: Path):
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("kubernetes").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("me@example.com")
    for name, pem in (
        ("ca.pem", authority.cert_pem), ("cert.pem", client.cert_chain_pems[0]), ("key.pem", client.private_key_pem),
    ):  # fmt: skip
        pem.write_to_path(str(tmp_path / name))
    server = await running(
        nursery, tmp_path, [pod("a")], tls=context,
        cluster={"certificate-authority": "ca.pem", "tls-server-name": "kubernetes"},
        user={"client-certificate": "cert.pem", "client-key": "key.pem"},
    )  # fmt: skip
    api = Api(server.kubeconfig)
    assert (await names_of(api))[0] == ["a"]
    await api.aclose()


async def test_a_kubeconfig_that_changes_is_read_again(nursery, tmp_path: Path):
    old = await running(nursery, tmp_path, [pod("old")])
    api = Api(old.kubeconfig)
    assert (await names_of(api))[0] == ["old"]
    await running(nursery, tmp_path, [pod("new-one")])
    with trio.fail_after(5):
        assert (await names_of(api))[0] == ["new-one"]
    await api.aclose()


async def test_without_an_access(tmp_path: Path):
    api = Api(str(tmp_path / "missing"))
    with pytest.raises(Fault, match="cannot use the kubeconfig"):
        await names_of(api)
    await api.aclose()


@pytest.mark.parametrize(
    ("event", "status", "words"),
    [
        ({"object": {"code": 410, "message": "too old"}}, 410, "said 410, 'too old'"),
        ({"object": {}}, 500, "said 500, 'nothing'"),
        ({}, 500, "said 500, 'nothing'"),
    ],
)
def test_events_of_type_error(event, status, words):
    fault = event_fault(event, PODS)
    assert fault.status == status
    assert words in str(fault)
