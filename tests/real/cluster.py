"""A cluster whose pods are on loopback: the demo's API server in a thread, and a page at the address of every pod.

Strategy. All of 127.0.0.0/8 is the host itself on Linux, so that a pod can have an address of its own with port 4191 as in
a cluster, and whoever discovers it scrapes it there, without rules that lead elsewhere. Which addresses are taken follows
from the process, so that two runs at a time do not meet.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import trio
import trustme

from tests.clusters import Object, Running, running
from tests.real.servers import HttpServer, Reply

ADMIN_PORT = 4191
_FIRST_NETWORK, _NETWORKS = 64, 128  # of 127.X.0.0/16, so that no usual address is among them
PROXY_PORTS = {"linkerd-proxy": 4143, "linkerd-admin": ADMIN_PORT}
USER, TOKEN = "viewer", "a-token"


def address(number: int) -> str:
    """The address of the pod of this number, 1 to 254."""
    process = os.getpid()
    return f"127.{_FIRST_NETWORK + process % _NETWORKS}.{process // _NETWORKS % 256}.{number}"


def container(name: str, ports: dict[str, int] | None = None) -> Object:
    """A container with these ports, by their names."""
    listed = [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in (ports or {}).items()]
    return {"name": name, "image": f"{name}:1", **({"ports": listed} if listed else {})}


def meshed(name: str, ip: str, labels: dict[str, str], **more: Any) -> Object:
    """A pod with a proxy: ``namespace``, ``phase``, ``native`` (sidecar), ``proxy`` (its container), ``app`` (another)."""
    namespace = more.get("namespace", "shop")
    proxy = more.get("proxy", container("linkerd-proxy", PROXY_PORTS))
    application = more.get("app", container("app", {"http": 8080}))
    first = [container("linkerd-init"), *([{**proxy, "restartPolicy": "Always"}] if more.get("native") else [])]
    return {
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "uid": f"{namespace}-{name}-{ip}",
            "labels": {"linkerd.io/control-plane-ns": "linkerd", **labels},
            "annotations": {"linkerd.io/proxy-version": "edge-26.8.1"},
        },
        "spec": {
            "nodeName": "node-1", "initContainers": first,
            "containers": [application, *([] if more.get("native") else [proxy])],
        },
        "status": {
            "phase": more.get("phase", "Running"), "hostIP": "192.168.0.1", **({"podIP": ip} if ip else {}),
            "conditions": [{"type": "Ready", "status": str(more.get("phase", "Running") == "Running")}],
        },
    }  # fmt: skip


class ClusterThread:
    """An API server that asks for TLS and a token, with a kubeconfig for it; its objects can be changed as it runs."""

    def __init__(self, folder: Path, objects: Iterable[Object], **options: Any):
        folder.mkdir(parents=True, exist_ok=True)
        self._objects = list(objects)
        self._folder, self._options = folder, options
        self._ready = threading.Event()
        self._running: Running | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ClusterThread:
        self._thread.start()
        self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self.running.scope.cancel)
        self._thread.join(30)

    @property
    def running(self) -> Running:
        assert self._running is not None
        return self._running

    def pods(self) -> list[Object]:
        """All pods as they are."""
        return [item for item in list(self.running.cluster.items.values()) if item["kind"] == "Pod"]

    def put(self, item: Object) -> None:
        """Create or replace an object."""
        self._do(self.running.cluster.put, item)

    def delete(self, item: Object) -> None:
        self._do(self.running.cluster.delete, item)

    def forget(self) -> None:
        """Forget the history: who watches is told 410 and must list again."""
        self._do(self.running.cluster.forget)

    def _do(self, function: Callable[..., object], *arguments: object) -> None:
        trio.from_thread.run_sync(function, *arguments, trio_token=self._token)

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(str(self._folder / "ca.pem"))
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._running = await running(
                nursery, self._folder, self._objects, tls=context, cluster={"certificate-authority": "ca.pem"},
                user={"token": TOKEN}, tokens={TOKEN: USER}, **self._options,
            )  # fmt: skip
            self._ready.set()


class Pages:
    """Serves pages at the addresses of pods, until the ``with`` block ends."""

    def __init__(self) -> None:
        self._servers: list[HttpServer] = []

    def serve(self, ip: str, page: bytes, port: int = ADMIN_PORT) -> None:
        """Serve a page as a proxy does, with its bare Content-Type."""

        def answer(handler: BaseHTTPRequestHandler) -> Reply:
            if handler.path != "/metrics":
                return Reply(404)
            return Reply(200, page, {"Content-Type": "text/plain"})

        self._servers.append(HttpServer(answer, port, host=ip))

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
