"""Pages to measure with: what Linkerd's Prometheus answers at ``/federate``, 490 bytes a line, 31 samples a route.

Each route is a counter, a counter of responses, a latency histogram of 26 buckets with count and sum, and a gauge, as a
proxy has them for one peer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

BOUNDS = (1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000)  # fmt: skip
PER_ROUTE = 31
ROUTES_PER_TARGET = 10
START_MS = 1_795_362_155_000


def _labels(route: int, name: str) -> str:
    target = route // ROUTES_PER_TARGET
    return (
        f'authority="svc-{name}.shop.svc.cluster.local:8080",control_plane_ns="linkerd",deployment="web",'
        f'direction="outbound",dst_control_plane_ns="linkerd",dst_deployment="svc-{name}",dst_namespace="shop",'
        f'dst_pod="svc-{name}-5f86686c4d-abcde",dst_pod_template_hash="5f86686c4d",dst_service="svc-{name}",'
        f'instance="10.42.{target >> 8}.{target & 255}:4191",job="linkerd-proxy",namespace="shop",pod="web-{target}",'
        f'target_addr="10.42.9.{route % 250}:8080",target_ip="10.42.9.{route % 250}",target_port="8080",tls="true"'
    )


class Mesh:
    """A mesh of about ``samples`` samples, whose numbers move at each page; ``churn`` is the share of new series."""

    def __init__(self, samples: int, churn: float = 0.0):
        self.routes = max(1, samples // PER_ROUTE)
        self.names = [str(route) for route in range(self.routes)]
        self.targets = -(-self.routes // ROUTES_PER_TARGET)
        self.churn = churn
        self.polls = 0
        self._owed = 0.0
        self._rng = random.Random(7)
        self._counts = [self._rng.randrange(1, 10**6) for _ in range(self.routes)]

    @property
    def samples(self) -> int:
        """Samples of one page."""
        return self.routes * PER_ROUTE + self.targets

    @property
    def counts(self) -> list[int]:
        """Requests so far, by route."""
        return self._counts

    def labels(self) -> list[str]:
        """Labels by route, as they stand between the braces."""
        return [_labels(route, name) for route, name in enumerate(self.names)]

    def page(self) -> bytes:
        """Return the next page, as Prometheus federates it."""
        self.move()
        return "".join(self._lines()).encode()

    def move(self) -> None:
        """Let traffic pass, and some routes be replaced by others."""
        self.polls += 1
        self._owed += self.churn * self.routes * (self.polls > 1)
        while self._owed >= 1:
            self._owed -= 1
            route = self._rng.randrange(self.routes)
            self.names[route] = f"{route}-{self.polls}"
            self._counts[route] = 1
        for route in range(self.routes):
            self._counts[route] += self._rng.randrange(50)

    def _lines(self) -> Iterator[str]:
        time = START_MS + 5000 * self.polls
        rows = list(zip(self.labels(), self._counts, strict=True))
        for name, more in (("request_total", ""), ("response_total", ',status_code="200"')):
            yield f"# TYPE {name} untyped\n"
            yield from (f"{name}{{{label}{more}}} {count} {time}\n" for label, count in rows)
        latency = "response_latency_ms"
        yield f"# TYPE {latency}_bucket untyped\n"
        for label, count in rows:
            for index, bound in enumerate(BOUNDS):
                yield f'{latency}_bucket{{{label},le="{bound}"}} {count * (index + 1) // 26} {time}\n'
            yield f'{latency}_bucket{{{label},le="+Inf"}} {count} {time}\n'
        for suffix, factor in (("count", 1), ("sum", 7)):
            yield f"# TYPE {latency}_{suffix} untyped\n"
            yield from (f"{latency}_{suffix}{{{label}}} {count * factor} {time}\n" for label, count in rows)
        yield "# TYPE tcp_open_connections untyped\n"
        yield from (f"tcp_open_connections{{{label}}} {count % 97} {time}\n" for label, count in rows)
        yield "# TYPE up untyped\n"
        for target in range(self.targets):
            where = f'instance="10.42.{target >> 8}.{target & 255}:4191",job="linkerd-proxy"'
            yield f'up{{control_plane_ns="linkerd",deployment="web",{where},namespace="shop",pod="web-{target}"}} 1 {time}\n'
