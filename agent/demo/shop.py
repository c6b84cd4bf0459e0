"""The shop: its services, who calls whom, and how the pods asked for are dealt out among them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Owner = Literal["deployment", "statefulset", "daemonset", "cronjob", "k8s_job"]
Protocol = Literal["http", "grpc", "opaque"]

TRUST_DOMAIN = "identity.linkerd.cluster.local"
ZONES = ("zone-a", "zone-b")
PEERS_PER_SERVICE = 2
"""How many pods of one service a client's balancer uses at once; bounds what a big mesh costs."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the shop. ``rate`` is requests a second that a pod of it handles on each route."""

    name: str
    namespace: str
    owner: Owner
    port: int
    protocol: Protocol
    calls: tuple[str, ...] = ()
    rate: float = 2.0
    latency_ms: float = 12.0
    bad: tuple[int, int, float] = (1000, 0, 0.0)
    """Of so many requests the last so many fail by this share."""
    schedule: tuple[float, float] | None = None
    """Seconds from one run to the next, and seconds of work in it; None: always at work."""
    nouns: tuple[str, ...] = ("items",)
    meshed: bool = True

    @property
    def authority(self) -> str:
        """The service's name as outbound series carry it: port 80 is left out."""
        host = f"{self.name}.{self.namespace}.svc.cluster.local"
        return host if self.port == 80 else f"{host}:{self.port}"

    @property
    def identity(self) -> str:
        """The TLS name of its service account."""
        return f"{self.name}.{self.namespace}.serviceaccount.{TRUST_DOMAIN}"

    def routes(self, count: int) -> list[str]:
        """Return the names of its first ``count`` routes."""
        rounds = (
            (noun, number // len(self.nouns))
            for number in range(count)
            for noun in [self.nouns[number % len(self.nouns)]]
        )
        return [f"{self.name}-{noun}" + (f"-v{again + 1}" if again else "") for noun, again in rounds]


SERVICES = (
    Service("web", "shop", "deployment", 8080, "http", ("catalog", "cart", "checkout", "recommendation", "search"), 6.0, 38.0,
            bad=(3000, 60, 0.3), nouns=("home", "product", "basket", "account")),
    Service("catalog", "shop", "deployment", 80, "http", ("search",), 9.0, 6.0, nouns=("products", "prices", "pictures")),
    Service("cart", "shop", "deployment", 80, "http", ("cart-store",), 3.0, 4.0, nouns=("lines", "totals")),
    Service("checkout", "shop", "deployment", 80, "http", ("cart", "payment", "shipping", "orders-db"), 0.8, 120.0,
            bad=(700, 60, 0.5), nouns=("orders", "vouchers")),
    Service("payment", "payments", "deployment", 9000, "grpc", (), 0.6, 210.0, bad=(400, 40, 0.6), nouns=("charge", "refund")),
    Service("shipping", "logistics", "deployment", 9000, "grpc", ("orders-db",), 0.5, 25.0, nouns=("quote", "book")),
    Service("orders-db", "data", "statefulset", 5432, "opaque", (), 0.3, 3.0),
    Service("cart-store", "data", "statefulset", 6379, "opaque", (), 0.4, 1.0),
    Service("log-shipper", "platform", "daemonset", 9428, "http", ("search",), 0.5, 2.0, nouns=("push",)),
    Service("nightly-report", "reports", "cronjob", 8080, "http", ("catalog", "orders-db"), schedule=(1200.0, 180.0)),
    Service("import-prices", "reports", "k8s_job", 8080, "http", ("catalog",), schedule=(2700.0, 600.0)),
    Service("recommendation", "shop", "deployment", 9000, "grpc", ("catalog",), 2.5, 18.0, nouns=("similar", "popular")),
    Service("search", "legacy", "statefulset", 9200, "http", (), 4.0, 15.0, nouns=("query",), meshed=False),
)  # fmt: skip

# Whose pods are dealt first, then again and again, as a busy shop would scale them.
_FIRST = ("web", "web", "catalog", "cart", "checkout", "payment", "shipping", "orders-db", "cart-store", "log-shipper",
          "nightly-report", "import-prices", "recommendation")  # fmt: skip
_THEN = ("catalog", "cart", "web", "checkout", "recommendation", "payment", "log-shipper", "catalog", "web", "shipping",
         "cart-store", "orders-db")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a service, with the names Kubernetes would have given."""

    service: Service
    name: str
    ip: str
    zone: str
    template_hash: str

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.service.namespace

    def labels(self) -> dict[str, str]:
        """The pod's own labels, as they end up on every series."""
        labels = {"app": self.service.name, "control_plane_ns": "linkerd", "workload_ns": self.service.namespace}
        if self.service.name == "web":
            labels["version"] = "v7"  # collides with proxy_build_info's own
        if self.template_hash:
            key = "controller_revision_hash" if self.service.owner == "daemonset" else "pod_template_hash"
            labels[key] = self.template_hash
        return labels


def make_pods(count: int, seed: int = 0) -> list[Pod]:
    """Return ``count`` meshed pods and, at the end, one of each unmeshed service."""
    order = [*_FIRST[:count], *(_THEN[index % len(_THEN)] for index in range(count - len(_FIRST)))]
    by_name = {service.name: service for service in SERVICES}
    unmeshed = [service.name for service in SERVICES if not service.meshed]
    chance = random.Random(seed)
    numbers = dict.fromkeys(by_name, 0)
    hashes = {name: _letters(chance, 9) for name in by_name}
    pods = []
    for index, name in enumerate([*order, *unmeshed]):
        service, number = by_name[name], numbers[name]
        numbers[name] += 1
        ip = f"10.42.{index // 250}.{index % 250 + 4}"
        hash_label = "" if service.owner in ("statefulset", "cronjob", "k8s_job") else hashes[name]
        pods.append(Pod(service, _pod_name(service, number, hashes[name], chance), ip, ZONES[number % 2], hash_label))
    return pods


def _pod_name(service: Service, number: int, template_hash: str, chance: random.Random) -> str:
    match service.owner:
        case "deployment":
            return f"{service.name}-{template_hash}-{_letters(chance, 5)}"
        case "statefulset":
            return f"{service.name}-{number}"
        case "cronjob":
            return f"{service.name}-29{chance.randrange(10**6):06d}-{_letters(chance, 5)}"
        case _:
            return f"{service.name}-{_letters(chance, 5)}"


def _letters(chance: random.Random, count: int) -> str:
    return "".join(chance.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(count))
