"""The demo's API server, read by kubectl: what our client is tested against is what others take for a cluster."""

from __future__ import annotations

import json
import os
import ssl
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import trio
import trustme

from tests.clusters import Running, pod, running, service
from tests.deploy.tools import program

pytestmark = pytest.mark.real


@pytest.fixture
async def server(nursery: trio.Nursery, tmp_path: Path) -> Running:
    """A cluster that asks for TLS and a token."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return await running(
        nursery, tmp_path, [*(pod(f"p{number}") for number in range(5)), pod("q", labels={"app": "db"}), service("web")],
        tls=context, cluster={"certificate-authority": "ca.pem"}, user={"token": "t"}, tokens={"t": "me"},
    )  # fmt: skip


async def kubectl(server: Running, *arguments: str) -> CompletedProcess[bytes]:
    """Run kubectl on the cluster; its output is what it prints."""
    command = [str(program("kubectl", "kubernetes-client")), f"--kubeconfig={server.kubeconfig}", *arguments]
    environ = {**os.environ, "HOME": str(Path(server.kubeconfig).parent)}
    run = partial(trio.run_process, command, capture_stdout=True, capture_stderr=True, check=False, env=environ)
    with trio.fail_after(60):
        return await run()


async def names(server: Running, *arguments: str) -> list[str]:
    done = await kubectl(server, "get", "pods", "-n", "shop", "-o", "name", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().split()


async def test_lists(server: Running):
    everything = [f"pod/p{number}" for number in range(5)] + ["pod/q"]
    assert await names(server) == everything
    assert await names(server, "--chunk-size=2") == everything
    assert await names(server, "-l", "app in (db)") == ["pod/q"]
    assert await names(server, "--field-selector=metadata.name=p3") == ["pod/p3"]
    done = await kubectl(server, "get", "services", "-A", "-o", "json")
    assert json.loads(done.stdout)["items"][0]["spec"]["selector"] == {"app": "web"}
    assert server.api.complaints == []


async def test_a_watch(server: Running, nursery: trio.Nursery):
    done: list[CompletedProcess[bytes]] = []

    async def watch() -> None:
        arguments = (
            "get",
            "pods",
            "-n",
            "shop",
            "--watch-only",
            "--output-watch-events",
            "-o",
            "name",
            "-l",
            "app=web",
        )
        done.append(await kubectl(server, *arguments, "--request-timeout=3s"))

    async with trio.open_nursery() as both:
        both.start_soon(watch)
        with trio.fail_after(30):
            while server.api.asked.count("GET /api/v1/namespaces/shop/pods") < 2:  # noqa: ASYNC110 (nobody is told)
                await trio.sleep(0.05)
        server.cluster.put(pod("new"))
        server.cluster.put(pod("q", labels={"app": "web"}))
        server.cluster.delete(pod("p1"))
    assert done[0].stdout.decode().split() == ["pod/new", "pod/q", "pod/p1"]
    assert server.api.complaints == []


async def test_refusals(server: Running):
    server.api.allowed = lambda user, verb, resource, namespace: namespace == "shop"
    done = await kubectl(server, "get", "pods", "-A")
    assert done.returncode == 1
    assert 'User "me" cannot list resource "pods" in API group "" at the cluster scope' in done.stderr.decode()
    done = await kubectl(server, "get", "pod", "none", "-n", "shop")
    assert '(NotFound): pods "none" not found' in done.stderr.decode()
