"""The embedded mesh: simulated proxies and a small Prometheus on loopback. A simulation, and it says so."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from agent.demo.api import DemoApi
from agent.demo.mesh import Mesh, MeshOptions
from agent.demo.storage import Storage
from agent.files import allow_files
from agent.httpserver import serve_http
from agent.settings import AgentSettings, parse_address

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What ``ebbtide demo`` is told. ``history`` in seconds; ``port`` 0 takes a free one."""

    proxies: int = 12
    routes: int = 3
    port: int = 0
    history: float = 21600.0
    no_agent: bool = False
    file: Path | None = None
    seed: int = 1
    scrape_interval: float = 10.0
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the demo serves: ``prometheus`` without a path, and one URL for each proxy's page.

    ``kubernetes`` is the API server of the mesh's pods, "" where the library for it is not installed.
    """

    prometheus: str
    proxies: tuple[str, ...]
    kubernetes: str = ""


async def serve(options: DemoOptions, task_status: trio.TaskStatus[Urls] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve the mesh until cancelled; reports its URLs once it listens."""
    origin = options.clock()
    mesh = Mesh(MeshOptions(options.proxies, options.routes, options.seed, options.scrape_interval, origin))
    api = DemoApi(mesh, Storage(mesh, origin, options.history), options.clock)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_http, api, HOST, options.port)
        base = f"http://{HOST}:{port}"
        pages = tuple(base + target.path for target in mesh.targets if target.openmetrics_tail)
        task_status.started(Urls(base, pages, await _serve_cluster(mesh, api, port, nursery)))


async def _serve_cluster(mesh: Mesh, pages: DemoApi, port: int, nursery: trio.Nursery) -> str:
    """Serve Kubernetes' API beside the mesh, and each proxy's page at a port of its own; return the API's URL."""
    if importlib.util.find_spec("wsproto") is None:  # an extra
        return ""
    from agent.demo.cluster import ClusterApi
    from agent.demo.cluster_objects import cluster_of, proxies_of
    from agent.demo.cluster_server import serve_cluster

    proxies = proxies_of(mesh)
    allow_files(len(proxies))
    ports = {one.path: await nursery.start(serve_http, pages.page_alone(one), HOST, 0) for one in proxies}
    api = ClusterApi(cluster_of(mesh, HOST, port, ports))
    return f"http://{HOST}:{await nursery.start(serve_cluster, api, HOST)}"


def main(options: DemoOptions) -> int:
    """Run the demo until SIGINT or SIGTERM, or until its pipeline ends; returns the exit status.

    Raises agent.config.ConfigErrors or agent.plugin.ConfigError where the pipeline file is wrong.
    """
    return trio.run(_run, options)


async def _run(options: DemoOptions) -> int:
    outcome = _Outcome()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_at_signal, signals, nursery.cancel_scope)
                await _run_parts(options, nursery, outcome)
                nursery.cancel_scope.cancel()
        except* OSError as group:
            reason = group.exceptions[0]
            outcome.status = 1
            print(f"cannot serve the demo on {HOST}:{options.port}: {reason}; try another --port", file=sys.stderr)
    if outcome.mistake is not None:
        raise outcome.mistake
    return outcome.status


@dataclass(slots=True)
class _Outcome:
    """How it ended. A mistake in the pipeline file is carried out of the nursery here, which would wrap it."""

    status: int = 0
    mistake: Exception | None = None


async def _end_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


async def _run_parts(options: DemoOptions, nursery: trio.Nursery, outcome: _Outcome) -> None:
    from agent.config import ConfigErrors
    from agent.plugin import ConfigError

    urls: Urls = await nursery.start(serve, options)
    gc.freeze()  # the mesh stays as long as the process: collections need not look through it again and again
    with _kubeconfig(urls.kubernetes) as kubeconfig:
        _announce(urls, kubeconfig)
        if options.no_agent:
            await trio.sleep_forever()
        try:
            outcome.status = await _run_agent(options, urls)
        except (ConfigErrors, ConfigError) as mistake:
            outcome.mistake = mistake


@contextmanager
def _kubeconfig(server: str) -> Iterator[str]:
    """Write a kubeconfig for the demo's cluster, and make it this process' own; returns its path, "" for none."""
    if not server:
        yield ""
        return
    from agent.demo.cluster_objects import kubeconfig

    before = os.environ.get("KUBECONFIG")
    with tempfile.NamedTemporaryFile("w", prefix="ebbtide-demo-", suffix=".kubeconfig") as file:
        file.write(kubeconfig(server))
        file.flush()
        os.environ["KUBECONFIG"] = file.name
        try:
            yield file.name
        finally:
            del os.environ["KUBECONFIG"]
            os.environ.update({"KUBECONFIG": before} if before is not None else {})


def _announce(urls: Urls, kubeconfig: str) -> None:
    cluster = f", Kubernetes at {urls.kubernetes} (kubeconfig {kubeconfig})" if kubeconfig else ""
    print(
        f"ebbtide demo: a simulated mesh, nothing in it is real: Prometheus at {urls.prometheus} "
        f"(/federate, /api/v1/query), {len(urls.proxies)} proxies at {urls.proxies[0]} and on{cluster}",
        file=sys.stderr,
        flush=True,
    )


async def _run_agent(options: DemoOptions, urls: Urls) -> int:
    """Run the pipeline file with the demo's Prometheus as Linkerd's."""
    from agent import config, log, run

    environment = {**os.environ, "LINKERD_PROMETHEUS_URL": urls.prometheus}
    loaded = config.load(options.file or default_file(), environment)
    admin = on_a_free_port(loaded.agent).admin

    def placed(read: config.Config) -> config.Config:
        """Keep the admin port where it is, unless the file has come to name another."""
        same = read.agent.admin == loaded.agent.admin
        return replace(read, agent=read.agent.model_copy(update={"admin": admin})) if same else read

    log.setup(loaded.agent.log_level, loaded.agent.log_format)
    for warning in loaded.warnings:
        logging.getLogger("ebbtide").warning("%s", warning)
    return await run.main(placed(loaded), read=lambda path: placed(config.load(path, environment)))


def on_a_free_port(settings: AgentSettings) -> AgentSettings:
    """Move the admin port where another process has it already, perhaps a real agent: the demo need not fail for that."""
    address = parse_address(settings.admin)
    if address is None:
        return settings
    try:
        socket.create_server(address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET).close()
    except OSError:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return settings.model_copy(update={"admin": f"{host}:0"})
    return settings


def default_file() -> Path:
    """Return the pipeline file where none is named: ./agent.toml, else the one that was installed with this package."""
    here = Path("agent.toml")
    package = Path(__file__).parents[1]
    installed = package / "agent.toml", package.parent / "agent.toml"  # in a wheel; in a checkout
    return next((path for path in (here, *installed) if path.exists()), here)
