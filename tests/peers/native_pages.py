"""A target whose native histograms grow by the second, on protobuf pages with timestamps: whoever reads them reads the same."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler
from typing import Any

from exporters.protobuf import varint
from receivers.protobuf_messages import message_class
from tests.real.servers import HttpServer, Reply

TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
GAUGE, HISTOGRAM = 1, 4
TURNS = 8
"""After so many seconds ``turning_seconds`` is a native histogram, and a number before."""
BOUNDS = (0.1, 0.5, 2.5)


class NativePages:
    """Serves ``/metrics`` as it is in the present second."""

    def __init__(self) -> None:
        self.began = int(time.time())
        self.server = HttpServer(self._answer)

    def _answer(self, handler: BaseHTTPRequestHandler) -> Reply:
        if not handler.path.startswith("/metrics"):
            return Reply(404, b"404 page not found\n")
        families = self.families(int(time.time()) - self.began)
        messages = (family.SerializeToString() for family in families)
        body = b"".join(varint(len(message)) + message for message in messages)
        return Reply(200, body, {"Content-Type": TYPE})

    def families(self, n: int) -> list[Any]:
        """All families after ``n`` seconds."""
        ms = 1000 * (self.began + n)
        found = [
            _family(b"request_seconds", HISTOGRAM),
            _family(b"turning_seconds", HISTOGRAM if n >= TURNS else GAUGE),
        ]
        for path in (b"/a", b"/b"):
            _native(_metric(found[0], path, ms).histogram, n)
        turning = _metric(found[1], b"/a", ms)
        if n >= TURNS:
            _native(turning.histogram, n)
        else:
            turning.gauge.value = n
        found.append(_family(b"classic_seconds", HISTOGRAM))
        _classic(_metric(found[2], b"/a", ms).histogram, n)
        return found


def _family(name: bytes, type: int) -> Any:
    return message_class("MetricFamily")(name=name, help=b"how long", type=type)


def _metric(family: Any, path: bytes, ms: int) -> Any:
    metric = family.metric.add(timestamp_ms=ms)
    metric.label.add(name=b"path", value=path)
    return metric


def _native(histogram: Any, n: int) -> None:
    """Buckets on both sides, with a gap; the innermost ones are cut off by the zero bucket."""
    histogram.schema, histogram.zero_threshold, histogram.zero_count = 1, 1.1, n
    for sign in ("positive", "negative"):
        spans, deltas = getattr(histogram, f"{sign}_span"), getattr(histogram, f"{sign}_delta")
        spans.add(offset=1, length=2)
        spans.add(offset=3, length=1)
        deltas.extend([n, n, -n])  # n, 2n, n
    histogram.sample_count, histogram.sample_sum = 9 * n, 4.5 * n


def _classic(histogram: Any, n: int) -> None:
    """Nothing in the first bucket, and nothing in the last one for a while."""
    histogram.sample_count, histogram.sample_sum = 3 * n, 1.5 * n
    for bound, count in zip((*BOUNDS, float("inf")), (0, n, 2 * n if n < TURNS else 3 * n, 3 * n), strict=True):
        histogram.bucket.add(upper_bound=bound, cumulative_count=count)
