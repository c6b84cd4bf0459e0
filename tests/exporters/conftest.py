"""Points to export, and what answers them."""

from __future__ import annotations

import numpy as np
import pytest

from ebbtide import STALE_NAN, Batch, Family, Resource, Row, Scope, Series

TIME = 1_763_879_000_123_456_789
LATENCY = Family("response_latency_ms", "histogram", "ms", "Latency of answers.")
REQUESTS = Family("request_total", "counter", "", "Requests.")
BUCKETS = {"1": 0, "5": 4, "10": 20, "50": 37, "+Inf": 40}


def histogram(labels: dict[str, str], resource: Resource) -> list[Row]:
    start = TIME - 10**9

    def row(name: str, value: float, **more: str) -> Row:
        return Row(Series.of(name, {**labels, **more}, LATENCY, resource), value, TIME, start, False)

    return [
        *(row("response_latency_ms_bucket", reached, le=le) for le, reached in BUCKETS.items()),
        row("response_latency_ms_sum", 812.5),
        row("response_latency_ms_count", 40),
    ]


@pytest.fixture
def batch() -> Batch:
    """Two workloads: a counter, a histogram, a summary, gauges of all sorts, a series that ended."""
    rows: list[Row] = []
    summary = Family("gc_seconds", "summary", "s")
    for name in ("web", "voting"):
        resource = Resource.of({"service.name": name, "service.namespace": "emojivoto", "k8s.deployment.name": name})

        def row(series: Series, value: float, start: int = 0, stale: bool = False) -> Row:
            return Row(series, value, TIME, start, stale)

        for direction in ("inbound", "outbound"):
            labels = {"direction": direction, "tls": "true"}
            rows.append(row(Series.of("request_total", labels, REQUESTS, resource), 1234.0, TIME - 10**9))
            rows.extend(histogram(labels, resource))
        rows.append(row(Series.of("gc_seconds", {"quantile": "0.5"}, summary, resource), 0.25))
        rows.append(row(Series.of("gc_seconds_sum", {}, summary, resource), 12.5))
        rows.append(row(Series.of("gc_seconds_count", {}, summary, resource), 7.0))
        for number, value in enumerate((0.0, np.nan, np.inf, -np.inf, 1e21)):
            series = Series.of("g", {"n": str(number)}, Family("g", "gauge"), resource, Scope.of("lib", "1"))
            rows.append(row(series, value))
        rows.append(row(Series.of("gone", {}, Family("gone"), resource), STALE_NAN, 0, True))
    return Batch.of(rows)
