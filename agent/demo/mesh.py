"""The simulated mesh: every target with its labels and page, and what a page's text is at any moment.

Strategy. The text between the numbers is worked out once per *presence* (which blocks are there, in which order) and
kept until it changes; a page is then those pieces with the numbers between. Everything follows from (seed, time).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from agent.demo.controller import COMPONENTS, Component, add_controller
from agent.demo.form import Block, Form, Formulas, Page
from agent.demo.proxy import add_proxy
from agent.demo.shop import PEERS_PER_SERVICE, SERVICES, Pod, Service, make_pods
from agent.demo.traffic import Bools, Floats, Process

PROXY_JOB, CONTROLLER_JOB = "linkerd-proxy", "linkerd-controller"


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """What the mesh is made of; equal options give equal meshes."""

    proxies: int = 12
    routes: int = 2
    seed: int = 1
    scrape_interval: float = 10.0
    origin: float = 1.75e9
    """The moment (seconds since the epoch) before which everything began: processes started days or minutes ago."""


@dataclass(slots=True)
class Target:
    """One process that is scraped: its page, its target labels, where its page is served."""

    name: str
    labels: dict[str, str]
    page: Page
    path: str
    openmetrics_tail: bool
    """Whether the page has the proxy's hybrid form; else it is plain text 0.0.4."""
    discovered: dict[str, str]
    """What Kubernetes' service discovery says of it."""
    cached: _PageText | None = field(default=None, repr=False)


class Mesh:
    """All targets, and the formulas of their numbers."""

    def __init__(self, options: MeshOptions) -> None:
        self.options = options
        self.form = Form()
        self.targets: list[Target] = []
        chance = random.Random(options.seed)
        pods = make_pods(options.proxies, options.seed)
        self._add_proxies(pods, chance)
        for component in COMPONENTS:
            self._add_component(component, chance)
        self.formulas: Formulas = self.form.freeze()
        self.process_of = np.array([target.page.process for target in self.targets], np.intp)

    def page(self, target: Target, now: float) -> bytes | None:
        """Return the text of a page at ``now`` (seconds); None while its process is down."""
        page = target.page
        moments = self.formulas.at(np.full((len(self.form.traffic.processes), 1), now))
        present = self.formulas.present(moments, slice(page.first, page.end))[:, 0]
        if not present.any():
            return None
        start = float(moments.drivers[self.form.traffic.resolve(("start", page.process)), 0])
        key = present.tobytes() + np.float64(start).tobytes()
        if target.cached is None or target.cached.key != key:
            target.cached = _PageText(self, target, key, present, start)
        text = target.cached
        return text.fill(self.formulas.values(moments, text.rows)[:, 0])

    def _add_proxies(self, pods: list[Pod], chance: random.Random) -> None:
        by_service: dict[str, list[Pod]] = {}
        for pod in pods:
            by_service.setdefault(pod.service.name, []).append(pod)
        here = [service for service in SERVICES if service.name in by_service]
        outside = Service("ingress", "ingress", "deployment", 80, "http", meshed=False)
        for index, pod in enumerate(pods):
            if not pod.service.meshed:
                continue
            callers = [service for service in here if service.meshed and pod.service.name in service.calls]
            if pod.service.name in ("web", "log-shipper"):
                callers.append(outside)
            peers = [peer for name in pod.service.calls for peer in _balanced(by_service.get(name, []), index)]
            page = len(self.form.pages)
            add_proxy(self.form, pod, _process(index, chance, self.options.origin), callers, peers, self.options.routes,
                      self.options.scrape_interval)  # fmt: skip
            labels = _proxy_labels(pod)
            discovered = {"job": PROXY_JOB, **_discovered(pod.namespace, pod.name, pod.ip, "linkerd-admin", "4191"),
                          "__meta_kubernetes_pod_container_name": "linkerd-proxy"}  # fmt: skip
            self.targets.append(
                Target(pod.name, labels, self.form.pages[page], f"/proxies/{index}/metrics", True, discovered)
            )

    def _add_component(self, component: Component, chance: random.Random) -> None:
        page = len(self.form.pages)
        add_controller(self.form, component, Process(phase=self.options.origin - chance.uniform(3e5, 2e6)))
        labels = {"job": CONTROLLER_JOB, "instance": component.instance, "component": component.name}
        ip, _, port = component.instance.partition(":")
        discovered = {"job": CONTROLLER_JOB, **_discovered("linkerd", component.name, ip, "admin", port),
                      "__meta_kubernetes_pod_container_name": component.name}  # fmt: skip
        path = f"/controllers/{component.name}/metrics"
        self.targets.append(Target(component.name, labels, self.form.pages[page], path, False, discovered))


def _proxy_labels(pod: Pod) -> dict[str, str]:
    """The labels of a proxy's target, in the order of viz' relabelling: what comes later wins."""
    own = {"job": PROXY_JOB, "instance": f"{pod.ip}:4191", "namespace": pod.namespace, "pod": pod.name}
    return {**pod.labels(), pod.service.owner: pod.service.name, **own}


def _discovered(namespace: str, name: str, ip: str, port_name: str, port: str) -> dict[str, str]:
    meta = {"namespace": namespace, "pod_name": name, "pod_ip": ip, "pod_phase": "Running", "pod_ready": "true",
            "pod_container_port_name": port_name, "pod_container_port_number": port}  # fmt: skip
    return {f"__meta_kubernetes_{key}": value for key, value in meta.items()}


def _balanced(pods: list[Pod], client: int) -> list[Pod]:
    """The few pods of a service that one client's balancer uses: neighbours in a ring."""
    count = min(len(pods), PEERS_PER_SERVICE)
    return [pods[(client + number) % len(pods)] for number in range(count)]


def _process(index: int, chance: random.Random, origin: float) -> Process:
    """Most proxies have run for days; every fourth is restarted every 50 minutes or so, and is then away for 15 s."""
    if index % 4 == 3:
        return Process(period=2700.0 + chance.uniform(0, 900), phase=origin - chance.uniform(60, 2000), down=15.0)
    return Process(phase=origin - chance.uniform(1e5, 1e6))


class _PageText:
    """The constant text of a page for one set of blocks and one order of lines."""

    def __init__(self, mesh: Mesh, target: Target, key: bytes, present: Bools, start: float) -> None:
        self.key = key
        page = mesh.form.blocks[target.page.first : target.page.end]
        here = _by_family(block for block, there in zip(page, present.tolist(), strict=True) if there)
        # A hash map that grows, and a new process, put all samples of the legacy families into another order.
        salt = crc32(repr((int(present.sum()), start)).encode())
        rows: list[int] = []
        parts: list[str] = []
        text = ""
        for name, every in _by_family(page).items():
            blocks = here.get(name, [])
            if blocks or _BARE.get(name) in here:
                text += _head(every[0], target.openmetrics_tail)
            for block in _shuffled(blocks, salt) if every[0].family.legacy else blocks:
                for line in block_lines(block):
                    parts.append(text + line)
                    text = "\n"
                rows.extend(range(block.first, block.first + len(block.samples)))
        self.rows = np.array(rows, np.intp)
        self._parts = parts
        self._end = "\n# EOF\n" if target.openmetrics_tail else "\n"
        decimal = mesh.form.decimal
        self._decimal = [decimal[row] for row in rows]

    def fill(self, values: Floats) -> bytes:
        numbers = [page_number(value, decimal) for value, decimal in zip(values.tolist(), self._decimal, strict=True)]
        pieces = [piece for pair in zip(self._parts, numbers, strict=True) for piece in pair]
        return ("".join(pieces) + self._end).encode()


# Families whose HELP and TYPE stand there without a sample while the other family has some.
_BARE = {
    "response_latency_ms": "request_total",
    "response_total": "request_total",
    "control_response_latency_ms": "control_request_total",
    "control_response_total": "control_request_total",
    "tcp_close_total": "tcp_open_total",
}


def _by_family(blocks: Iterable[Block]) -> dict[str, list[Block]]:
    groups: dict[str, list[Block]] = {}
    for block in blocks:
        groups.setdefault(block.family.name, []).append(block)
    return groups


def _shuffled(blocks: list[Block], salt: int) -> list[Block]:
    return sorted(blocks, key=lambda block: crc32(repr(block.labels).encode(), salt))


def _head(block: Block, hybrid: bool) -> str:
    family = block.family
    unit = f"# UNIT {family.name} {family.unit}\n" if family.unit and hybrid else ""
    return f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n{unit}"


def block_lines(block: Block) -> list[str]:
    """Return the text of a block's lines up to the number, labels in the page's own order."""
    name = block.family.sample_name
    inner = ",".join(f'{key}="{value}"' for key, value in block.labels)
    extra = "quantile" if block.family.kind == "summary" else "le"
    lines = []
    for suffix, bound in block.samples:
        added = f'{extra}="{bound}"' if bound else ""
        pair = (inner, added) if block.family.legacy else (added, inner)
        labels = ",".join(part for part in pair if part)
        lines.append(f"{name}{suffix}{{{labels}}} " if labels else f"{name}{suffix} ")
    return lines


def page_number(value: float, decimal: bool) -> str:
    """Write a number as the proxy does: integers bare, floats shortest but never with an exponent (Rust's dtoa)."""
    if not decimal and value.is_integer():
        return str(int(value))
    text = repr(value)
    return np.format_float_positional(value, trim="0") if "e" in text else text
