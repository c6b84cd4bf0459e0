"""What eyes see: golden text, reviewed by eye."""

from __future__ import annotations

import math

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.testing import reference_request
from ebbtide import Batch
from exporters.text import Style, printable, quantile, render, show_number, sparkline

GOLDEN = """\
2025-11-23  web · emojivoto  k8s.deployment.name=web
06:23:20.123 web request_total       counter           1234  direction=inbound tls=true
06:23:20.123 web request_total       counter           1234  direction=outbound tls=true
06:23:20.123 web gone                unknown          ended
06:23:20.123 web response_latency_ms histogram ▃██▃ n=40 Σ=812.5 p50≈10 p99>50 ms  direction=inbound tls=true
06:23:20.123 web response_latency_ms histogram ▃██▃ n=40 Σ=812.5 p50≈10 p99>50 ms  direction=outbound tls=true
06:23:20.123 web gc_seconds          summary   n=7 Σ=12.5 p50=0.25 s
06:23:20.123 web g                   gauge                0  n=0
06:23:20.123 web g                   gauge              NaN  n=1
06:23:20.123 web g                   gauge             +Inf  n=2
06:23:20.123 web g                   gauge             -Inf  n=3
06:23:20.123 web g                   gauge            1e+21  n=4
"""


def first_resource(batch: Batch) -> bytes:
    request = reference_request(batch)
    del request.resource_metrics[1:]
    body: bytes = request.SerializeToString()
    return body


def test_golden(batch: Batch):
    assert render(first_resource(batch)) == GOLDEN


def test_a_header_when_the_resource_changes(batch: Batch):
    text = render(reference_request(batch).SerializeToString())
    assert [line.split()[1] for line in text.splitlines() if line.startswith("2025")] == ["web", "voting"]
    assert render(first_resource(batch) * 2).count("2025-11-23") == 1


def test_a_terminal_of_100_columns(batch: Batch):
    lines = render(first_resource(batch), Style(width=100)).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1] == GOLDEN.splitlines()[1]
    assert (
        lines[4]
        == "06:23:20.123 web response_latency_ms histogram ▃██▃ n=40 Σ=812.5 p50≈10 p99>50 ms  direction=inboun…"
    )
    assert "p99>50 ms\n" in render(first_resource(batch), Style(width=70))  # attributes give way, values do not


def test_colours_change_nothing_but_colours(batch: Batch):
    plain = render(first_resource(batch), Style(width=100))
    painted = render(first_resource(batch), Style(colour=True, width=100))
    assert "\x1b[32m" in painted
    stripped = painted
    for code in ("1;36", "0", "2", "36", "1", "35", "32"):
        stripped = stripped.replace(f"\x1b[{code}m", "")
    assert stripped == plain


def test_strangers_cannot_move_the_cursor():
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "a\x1b[2Jb"
    point = resource.scope_metrics.add().metrics.add(name="x\ny", unit="\r").gauge.data_points.add(as_double=1)
    point.attributes.add(key="k").value.string_value = "v\n\x07"
    text = render(request.SerializeToString(), Style(width=100))
    assert text.count("\n") == 2
    assert printable(text.replace("\n", "")) == text.replace("\n", "")


@pytest.mark.parametrize("time", [0, 1, 2**63, 2**64 - 1])
def test_any_time(time: int):
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    metrics.add(name="x").gauge.data_points.add(as_int=-3, time_unix_nano=time)
    metrics.add(name="without data")
    exponential = metrics.add(name="e").exponential_histogram.data_points.add(count=3, zero_count=1, sum=2)
    exponential.positive.bucket_counts.extend([2])
    text = render(request.SerializeToString())
    assert "- x" in text
    assert "-3" in text
    assert "▅█ n=3 Σ=2" in text


def test_nothing():
    assert render(b"") == ""


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ([], ""),
        ([0, 0], ""),
        ([5], "█"),
        ([0, 0, 1, 0, 8, 0], "▂ █"),
        ([1, 2, 3, 4, 5, 6, 7, 7], "▂▃▄▅▆▇██"),
        ([1] * 26, "████████▆"),
        ([2**63, 1], "█▂"),
    ],
)
def test_sparkline(counts: list[int], line: str):
    assert sparkline(counts).startswith(line)
    assert len(sparkline(counts)) <= 12


@pytest.mark.parametrize(
    ("rank", "bounds", "counts", "shown"),
    [
        (0.5, [1, 2, 4], [0, 4, 0, 0], "≈1.5"),
        (0.5, [10], [4, 0], "≈5"),
        (0.99, [1, 2], [1, 1, 98], ">2"),
        (0.5, [-4, 0], [2, 0, 0], "≈-4"),
        (0.5, [1], [0, 0], None),
        (0.5, [], [3], None),
        (0.99, [1000], [100, 0], "≈990"),
    ],
)
def test_quantile(rank: float, bounds: list[float], counts: list[int], shown: str | None):
    assert quantile(rank, bounds, counts) == shown


@pytest.mark.parametrize(
    ("number", "text"),
    [(1234.0, "1234"), (0.1, "0.1"), (1e21, "1e+21"), (1 / 3, "0.3333333"), (-0.0, "0"), (2.0**52, "4503599627370496"),
     (math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (7, "7")],
)  # fmt: skip
def test_numbers(number: float, text: str):
    assert show_number(number) == text
