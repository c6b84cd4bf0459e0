"""Where a ``kubernetes://`` URL leads: the pod that is chosen, its port, and what happens when it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from agent.http import Client, deadline
from agent.http_fault import Fault
from agent.http_kept import KeptGet
from agent.http_pool import Pool
from agent.httpserver import Request, Response, serve_http
from agent.kubernetes.address import split_address
from agent.kubernetes.forward import Forwarder
from tests.clusters import Running, pod, running, service

SERVICE = "kubernetes://shop/service/web:80"


class Fixture:
    """A cluster with pods that answer, and a client of it."""

    def __init__(self, nursery: trio.Nursery, server: Running):
        self.nursery = nursery
        self.server = server
        self.client = Client(kubeconfig=server.kubeconfig)
        self.pods: dict[str, trio.CancelScope] = {}

    async def add(self, name: str, port: int = 8080, **more: object) -> None:
        """Add a pod that answers with its name and what it was asked."""
        scope = trio.CancelScope()

        async def serve(task_status: trio.TaskStatus[int]) -> None:
            async def handle(request: Request) -> Response:
                if request.path == "/moved":
                    return Response(302, headers=(("Location", "/here?a=1"),))
                return Response(200, f"{name} {request.path} {request.header('host')}".encode())

            with scope:
                await serve_http(handle, "127.0.0.1", 0, task_status=task_status)

        self.server.cluster.forwards["shop", name, port] = "127.0.0.1", await self.nursery.start(serve)
        self.server.cluster.put(pod(name, **more))
        self.pods[name] = scope

    async def get(self, url: str = SERVICE, path: str = "/x") -> str:
        with deadline(5, url):
            async with self.client.get(url + path) as response:
                return (await response.read(1000)).decode()

    async def fault(self, url: str) -> str:
        with pytest.raises(Fault) as caught:
            await self.get(url)
        assert str(caught.value).startswith("cannot ")
        return f"{caught.value.kind}: {caught.value}"

    @property
    def asked(self) -> list[str]:
        asked, self.server.api.asked[:] = list(self.server.api.asked), []
        return [one.removeprefix("GET /api/v1/namespaces/shop/") for one in asked]


@pytest.fixture
async def fixture(nursery: trio.Nursery, tmp_path: Path):
    fixture = Fixture(nursery, await running(nursery, tmp_path, [service("web")]))
    yield fixture
    await fixture.client.aclose()
    assert fixture.server.api.complaints == []


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (SERVICE, "localhost"),
        ("kubernetes://shop/service/web:http", "localhost"),
        ("kubernetes://shop/pod/a:8080", "localhost:8080"),
        ("kubernetes://shop/pod/a:web", "localhost"),
        ("kubernetes://shop/pods?selector=app=web:8080", "localhost:8080"),
        ("kubernetes://shop/pods?selector=app%20in%20(web):web", "localhost"),
    ],
)
async def test_every_form(fixture, url, host):
    await fixture.add("a")
    assert await fixture.get(url) == f"a /x {host}"


async def test_connections_are_kept(fixture):
    await fixture.add("a")
    assert [await fixture.get() for _ in range(3)] == ["a /x localhost"] * 3
    assert fixture.asked == ["services/web", "pods", "pods/a/portforward"]


async def test_polls_again_and_again_until_it_is_let_go(fixture):
    await fixture.add("a")
    await fixture.add("b")
    kept = [KeptGet(fixture.client, f"kubernetes://shop/pod/{name}:8080/metrics") for name in "ab"]
    for _ in range(2):
        assert [(await one.get()).body for one in kept] == [b"a /metrics localhost:8080", b"b /metrics localhost:8080"]
    assert fixture.asked == ["pods/a", "pods/a/portforward", "pods/b", "pods/b/portforward"]
    kept[0].close()
    assert (await kept[1].get()).status == 200
    assert fixture.asked == []
    assert (await kept[0].get()).status == 200
    assert fixture.asked == ["pods/a", "pods/a/portforward"]


async def test_what_was_let_go_is_closed(fixture, monkeypatch):
    closed = []
    retire = Pool.retire
    monkeypatch.setattr(Pool, "retire", lambda pool: closed.append(pool) or retire(pool))
    await fixture.add("a")
    await fixture.add("b")
    await fixture.get("kubernetes://shop/pod/a:8080")
    fixture.client.forget("kubernetes://shop/pod/a:8080/metrics")
    fixture.client.forget("kubernetes://shop/pod/b:8080/metrics")
    assert closed == []
    await fixture.get("kubernetes://shop/pod/b:8080")
    assert len(closed) == 1
    left = list(fixture.client._forwards._pools.values())
    await fixture.client.aclose()
    assert set(left) < set(closed)


async def test_query_redirect_and_post(fixture):
    await fixture.add("a")
    assert await fixture.get(path="/moved") == "a /here localhost"
    answer = await fixture.client.post(SERVICE + "/post", b"body", timeout=5)
    assert answer.body == b"a /post localhost"


async def test_a_ready_pod_is_chosen_and_stays_chosen(fixture):
    await fixture.add("a", ready=False)
    await fixture.add("b")
    await fixture.add("c", phase="Succeeded")
    assert (await fixture.get()).startswith("b ")
    await fixture.add("a")
    await fixture.client.aclose()
    fixture.client = Client(kubeconfig=fixture.server.kubeconfig)
    assert (await fixture.get()).startswith("a ")


async def test_a_pod_that_is_about_to_end_is_not_chosen(fixture):
    await fixture.add("a")
    ending = pod("a")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    fixture.server.cluster.put(ending)
    assert "none of 1 is ready" in await fixture.fault(SERVICE)
    await fixture.add("b")
    silent = pod("b")
    del silent["status"]["conditions"]
    fixture.server.cluster.put(silent)
    assert (await fixture.get()).startswith("b ")


async def test_the_pod_that_served_serves_again(fixture):
    await fixture.add("b")
    backend = Forwarder(fixture.server.kubeconfig)
    destination, _ = split_address(SERVICE)
    stream, name = await backend.connect(destination)
    assert name == "b"
    backend.praise(destination, name)
    await stream.aclose()
    await fixture.add("a")
    for expected, blamed in (("b", "b"), ("a", "a"), ("a", None)):
        stream, name = await backend.connect(destination)
        await stream.aclose()
        assert name == expected
        if blamed:
            backend.blame(destination, blamed)
        if blamed == "a":
            backend.praise(destination, "a")
    await backend.aclose()


async def test_it_moves_to_another_pod_when_one_goes(fixture):
    await fixture.add("a")
    assert (await fixture.get()).startswith("a ")
    await fixture.add("b")
    fixture.server.cluster.delete(pod("a"))
    fixture.pods["a"].cancel()
    assert (await fixture.get()).startswith("b ")


async def test_it_reopens_what_broke(fixture):
    await fixture.add("a")
    await fixture.get()
    fixture.pods["a"].cancel()
    await fixture.add("a")
    assert (await fixture.get()).startswith("a ")


async def test_a_pod_where_nothing_listens_is_passed_over_the_next_time(fixture):
    await fixture.add("a")
    await fixture.add("b")
    del fixture.server.cluster.forwards["shop", "a", 8080]
    assert (await fixture.fault(SERVICE)).startswith("refused: cannot reach port 8080 of pod a in namespace shop")
    assert (await fixture.get()).startswith("b ")


async def test_a_pod_that_cannot_be_forwarded_to_is_passed_over(fixture):
    await fixture.add("a")
    await fixture.add("b")
    permit = fixture.server.api._forward

    def refuse(asked, kind, namespace, name):
        if name == "a":
            raise fixture.server.api.complain("no such container")
        return permit(asked, kind, namespace, name)

    type(fixture.server.api)._forward, kept = lambda api, *args: refuse(*args), type(fixture.server.api)._forward
    try:
        assert (await fixture.get()).startswith("b ")
    finally:
        type(fixture.server.api)._forward = kept
        fixture.server.api.complaints.clear()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (SERVICE, "unreachable: cannot reach kubernetes://shop/service/web:80: none of 1 is ready; check"),
        ("kubernetes://shop/service/web:81", "the service has no such port; its ports are 80"),
        ("kubernetes://shop/service/none:80", 'services "none" not found'),
        ("kubernetes://shop/service/bare:80", "this service selects no pods"),
        ("kubernetes://shop/pods?selector=app=none:80", "no pod has the labels 'app=none'"),
        ("kubernetes://shop/pod/a:none", "pod a has no port named 'none'; write its number"),
        ("kubernetes://shop/pod/b:80", 'pods "b" not found'),
        (
            "kubernetes://shop/pod/B:80",
            "protocol: cannot reach kubernetes://shop/pod/B:80/x: not a URL of something in",
        ),
    ],
)
async def test_faults(fixture, url, words):
    fixture.server.cluster.put(pod("a", ready=False))
    fixture.server.cluster.put(service("bare", selector=None))
    assert words in await fixture.fault(url)


async def test_an_api_server_that_is_down(fixture):
    fixture.server.scope.cancel()
    assert (await fixture.fault(SERVICE)).startswith("refused: cannot reach http://127.0.0.1:")


async def test_what_role_is_needed(fixture):
    fixture.server.api.allowed = lambda user, verb, resource, namespace: resource != "services"
    assert "bind a Role in namespace shop that allows get on services to it" in await fixture.fault(SERVICE)


async def test_opening_has_its_time(fixture):
    await fixture.add("a")
    api = fixture.server.api

    def never(*_: object) -> object:
        raise AssertionError

    client = Client(kubeconfig=fixture.server.kubeconfig, connect_timeout=0.05)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")  # accepts, and says nothing
    port = listeners[0].socket.getsockname()[1]
    path = trio.Path(fixture.server.kubeconfig)
    await path.write_text((await path.read_text()).replace(fixture.server.url, f"http://127.0.0.1:{port}"))
    with pytest.raises(Fault, match="opening a port-forward took more than 50ms"):
        async with client.get(SERVICE):
            never()
    await client.aclose()
    await listeners[0].aclose()
    assert api.asked == []
