"""The demo over real sockets, and what it is started with."""

import json
import os
import socket
from pathlib import Path

import httpx
import pytest
import trio

import agent.demo
from agent.demo import DemoOptions, Urls, default_file, main, on_a_free_port, serve
from agent.demo.cluster_objects import kubeconfig
from agent.http import Client
from agent.settings import AgentSettings


async def test_it_serves_pages_and_federate(nursery: trio.Nursery) -> None:
    options = DemoOptions(proxies=4, routes=1, seed=3, clock=lambda: 1.8e9, scrape_interval=5.0)
    urls: Urls = await nursery.start(serve, options)
    assert len(urls.proxies) == 4
    async with httpx.AsyncClient() as client:
        page = await client.get(urls.proxies[0])
        assert page.headers["content-type"] == "text/plain"
        assert page.text.endswith("# EOF\n")
        federated = await client.get(f"{urls.prometheus}/federate", params={"match[]": '{job="linkerd-proxy"}'})
        again = await client.get(f"{urls.prometheus}/federate", params={"match[]": '{job="linkerd-proxy"}'})
        assert federated.content == again.content
        assert federated.content.count(b"\n") > 1000
    nursery.cancel_scope.cancel()


async def test_it_serves_a_cluster(nursery: trio.Nursery, tmp_path: Path) -> None:
    urls: Urls = await nursery.start(serve, DemoOptions(proxies=2))
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig(urls.kubernetes), encoding="utf-8")
    client = Client(kubeconfig=str(file))
    for place in ("service/prometheus:9090", "pods?selector=linkerd.io/control-plane-component=prometheus:9090"):
        async with client.get(f"kubernetes://linkerd-viz/{place}/federate", [("match[]", "up")]) as response:
            assert (await response.read(1 << 20)).count(b"up{") > 2
    async with client.get(urls.kubernetes + "/api/v1/pods") as response:
        pods = [item["metadata"] for item in json.loads(await response.read(1 << 20))["items"]]
    proxies = [pod for pod in pods if pod["namespace"] != "linkerd-viz"]
    assert len(proxies) == 2
    for pod in proxies:
        async with client.get(f"kubernetes://{pod['namespace']}/pod/{pod['name']}:4191/metrics") as response:
            assert b"process_start_time_seconds" in await response.read(1 << 20)
        async with client.get(f"kubernetes://{pod['namespace']}/pod/{pod['name']}:4191/") as response:
            assert response.status == 404
    await client.aclose()
    nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken_is_said(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    urls: Urls = await nursery.start(serve, DemoOptions(proxies=1))
    port = int(urls.prometheus.rpartition(":")[2])
    assert await agent.demo._run(DemoOptions(proxies=1, port=port, no_agent=True)) == 1
    assert f"cannot serve the demo on 127.0.0.1:{port}" in capsys.readouterr().err
    nursery.cancel_scope.cancel()


def test_the_first_line_names_the_urls_and_says_that_it_is_a_simulation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once(options: DemoOptions, urls: Urls) -> int:
        assert "http://" in Path(os.environ["KUBECONFIG"]).read_text()  # noqa: ASYNC240
        return 3

    monkeypatch.setenv("KUBECONFIG", "mine")
    monkeypatch.setattr(agent.demo, "_run_agent", once)
    assert main(DemoOptions(proxies=1)) == 3
    assert os.environ["KUBECONFIG"] == "mine"
    first = capsys.readouterr().err.splitlines()[0]
    assert ".kubeconfig)" in first
    assert "http://127.0.0.1:" in first
    assert "simulated" in first


def test_a_mistake_in_the_file_comes_out_as_it_is(tmp_path: Path) -> None:
    from agent.config import ConfigErrors

    file = tmp_path / "agent.toml"
    file.write_text("[nonsense]\n", encoding="utf-8")
    with pytest.raises(ConfigErrors, match="nonsense"):
        main(DemoOptions(proxies=1, file=file))


def test_the_file_here_goes_before_the_installed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_file().is_absolute()
    (tmp_path / "agent.toml").write_text("", encoding="utf-8")
    assert default_file() == Path("agent.toml")


@pytest.mark.parametrize(("admin", "moved"), [("127.0.0.1:{port}", "127.0.0.1:0"), ("", "")])
def test_an_admin_port_that_is_taken_does_not_end_the_demo(admin: str, moved: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = AgentSettings(admin=admin.format(port=taken.getsockname()[1]))
        assert on_a_free_port(settings).admin == moved


def test_an_admin_port_that_is_free_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = AgentSettings(admin=f"127.0.0.1:{port}")
    assert on_a_free_port(settings) is settings
