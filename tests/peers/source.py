"""What is collected in these tests, by which pipeline, and what must arrive of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.real.conversion import Key, Value, convert, read_samples
from tests.real.judge import Point, Sample, samples_of
from tests.real.processes import fetch
from tests.real.servers import HttpServer, Reply

LABELS = 'job="linkerd-proxy",instance="10.0.0.1:4191",namespace="shop",pod="web-0",deployment="web"'
OF_AGENT = ("job", "linkerd")  # the label of the series that the agent adds to each poll


class Counting:
    """A Prometheus whose counters, at its n-th answer, all stand at n. From the third answer on the last of them is gone.

    A histogram and a summary count along. Polled by a receiver whose id is "linkerd".
    """

    def __init__(self, series: int = 200):
        self.series, self.polls = series, 0
        self.server = HttpServer(self._answer)

    def _answer(self, handler: BaseHTTPRequestHandler) -> Reply:
        if not handler.path.startswith("/federate") or "match%5B%5D=up" in handler.path:  # not the question for targets
            return Reply(404, b"404 page not found\n")
        self.polls += 1
        return Reply(200, "".join(self._lines(self.polls, round(time.time() * 1000))).encode())

    def _lines(self, n: int, ms: int) -> Iterable[str]:
        yield "# TYPE request_total untyped\n"
        for number in range(self.series - (n > 2)):
            yield f'request_total{{{LABELS},target_addr="10.0.0.2:{number}"}} {n} {ms}\n'
        yield "# TYPE response_latency_ms_bucket untyped\n"
        for bound in ("1", "10", "100", "+Inf"):
            yield f'response_latency_ms_bucket{{{LABELS},le="{bound}"}} {n} {ms}\n'
        yield f"# TYPE response_latency_ms_count untyped\nresponse_latency_ms_count{{{LABELS}}} {n} {ms}\n"
        yield f"# TYPE response_latency_ms_sum untyped\nresponse_latency_ms_sum{{{LABELS}}} {n / 4} {ms}\n"

    def missing(self, points: Iterable[Point]) -> dict[str, set[float]]:
        """By stream, the answers of which nothing has arrived. Of the last one nothing need have arrived."""
        found: dict[str, set[float]] = {f"10.0.0.2:{number}": set() for number in range(self.series - 1)}
        for point in points:
            stream = dict(point.attributes).get("target_addr")
            if point.name == "request_total" and stream in found and not point.no_value:
                found[stream].add(point.body[0])
        answers = {float(n) for n in range(1, self.polls)}
        return {stream: answers - values for stream, values in found.items() if answers - values}


def pipeline(
    url: str,
    endpoint: str,
    protocol: str,
    more: str = "",
    *,
    profile: str = "none",
    interval: str = "300ms",
    stale_after: str = "1s",
) -> str:
    """A pipeline file from a Prometheus at ``url`` to an OTLP destination; ``more`` are options of the exporter."""
    return f"""
agent.admin = "127.0.0.1:0"
[receivers.linkerd]
type = "federate"
url = "{url}"
interval = "{interval}"
stale_after = "{stale_after}"
[processors.who]
type = "resource"
profile = "{profile}"
[exporters.collector]
type = "otlp"
endpoint = "{endpoint}"
protocol = "{protocol}"
retry = {{ initial = "100ms", max = "300ms" }}
{more}
[pipelines.metrics]
receivers = ["linkerd"]
processors = ["who"]
exporters = ["collector"]
"""


def demo_types(url: str) -> str:
    """TYPE lines of all that the demo's Prometheus knows the type of."""
    status, body = fetch(url + "/api/v1/metadata")
    assert status == 200
    known: dict[str, list[dict[str, Any]]] = json.loads(body)["data"]
    return "".join(f"# TYPE {name} {entries[0]['type']}\n" for name, entries in known.items())


def page_of(answer: bytes, types: str) -> str:
    """An answer of /federate with true TYPE lines in place of its own, which say "untyped" of everything."""
    lines = [line for line in answer.decode().splitlines() if not line.startswith("#")]
    return types + "\n".join(lines) + "\n"


def expected_points(page: str) -> dict[Key, Value]:
    """Every point of the page by its direct conversion."""
    return convert(page, {})


def expected_samples(answers: Iterable[bytes]) -> dict[Sample, float]:
    """Every sample of these answers of /federate."""
    found: dict[Sample, float] = {}
    for answer in answers:
        for name, labels, value, ms in read_samples(answer.decode()):
            assert ms is not None
            exact: dict[str, Any] = {**labels}
            exact.update({one: float(labels[one]) for one in ("le", "quantile") if one in labels})
            found[name, frozenset(exact.items()), ms] = value
    return found


def of_source(points: Iterable[Point]) -> list[Point]:
    """Without the series that the agent adds. Attributes must be all labels (profile "none")."""
    return [point for point in points if OF_AGENT not in point.attributes]


def arrived_samples(points: Iterable[Point]) -> Counter[tuple[Sample, float]]:
    """How often each sample arrived with which value; endings apart."""
    return Counter(sample for point in points if not point.no_value for sample in samples_of(point))
