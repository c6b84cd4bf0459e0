"""What eyes see: golden text, reviewed by eye."""

from __future__ import annotations

import math
import re

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.testing import reference_request
from ebbtide import CUSTOM_BUCKETS, Batch, Extra, Family, NativeHistogram, Resource, Row, Series
from exporters.otlp_template import encode
from exporters.text import Style, printable, quantile, render, shorten, show_number, sparkline

TIME = 1_763_879_000_123_456_789

GOLDEN = """\
─── web · emojivoto  2025-11-23 06:23:20.123 deployment=web
request_total        1234    ctr   direction=inbound tls=true
request_total        1234    ctr   direction=outbound tls=true
gone                ended    ?
response_latency_ms  n=40 ms hist  ▃██▃ mean=20.3 p50≈10 p99>50  direction=inbound tls=true
response_latency_ms  n=40 ms hist  ▃██▃ mean=20.3 p50≈10 p99>50  direction=outbound tls=true
gc_seconds            n=7 s  summ  mean=1.79 p50=0.25
g                       0    gauge n=0
g                     NaN    gauge n=1
g                    +Inf    gauge n=2
g                    -Inf    gauge n=3
g                   1e+21    gauge n=4
"""


def first_resource(batch: Batch) -> bytes:
    request = reference_request(batch)
    del request.resource_metrics[1:]
    body: bytes = request.SerializeToString()
    return body


def test_golden(batch: Batch):
    assert render(first_resource(batch)) == GOLDEN


def request(**resource: str) -> ExportMetricsServiceRequest:
    made = ExportMetricsServiceRequest()
    attributes = made.resource_metrics.add().resource.attributes
    for key, value in resource.items():
        attributes.add(key=key.replace("__", ".")).value.string_value = value
    return made


def add_gauge(to: ExportMetricsServiceRequest, name: str, time: int = TIME, **attributes: str) -> None:
    scope = to.resource_metrics[-1].scope_metrics.add()
    point = scope.metrics.add(name=name).gauge.data_points.add(as_double=1, time_unix_nano=time)
    for key, value in attributes.items():
        point.attributes.add(key=key).value.string_value = value


def test_a_header_when_the_resource_changes(batch: Batch):
    text = render(reference_request(batch).SerializeToString())
    assert [line.split()[1] for line in text.splitlines() if line.startswith("───")] == ["web", "voting"]
    assert render(first_resource(batch) * 2).count("───") == 1


def test_the_header_says_nothing_twice():
    one = request(
        service__name="web", service__namespace="shop", service__instance__id="10.0.0.1:4191", server__address="10.0.0.1",
        k8s__namespace__name="shop", k8s__pod__name="web-1", k8s__pod__ip="10.0.0.1", k8s__deployment__name="web",
        linkerd__workload__namespace="shop", k8s__pod__label__tier="front", k8s__pod__label__="x", zone="a",
    )  # fmt: skip
    add_gauge(one, "g")
    assert render(one.SerializeToString()).splitlines() == [
        "─── web · shop · web-1 · 10.0.0.1:4191  2025-11-23 06:23:20.123 "
        "deployment=web workload.namespace=shop tier=front k8s.pod.label.=x zone=a",
        "g 1 gauge",
    ]


def test_lines_carry_their_own_times_where_those_differ():
    one = request()
    add_gauge(one, "a")
    add_gauge(one, "bc", TIME - 10**9)
    assert render(one.SerializeToString()).splitlines() == [
        "─── no resource  2025-11-23 06:23:20.123",
        "06:23:20.123 a  1 gauge",
        "06:23:19.123 bc 1 gauge",
    ]


def test_a_terminal_of_80_columns(batch: Batch):
    lines = render(first_resource(batch), Style(width=80)).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:4] == GOLDEN.splitlines()[:4]
    assert lines[4] == "response_latency_ms  n=40 ms hist  ▃██▃ mean=20.3 p50≈10 p99>50  direction=inbo…"
    assert lines[6] == GOLDEN.splitlines()[6]


@pytest.mark.parametrize("width", [*range(60), 100])
def test_no_width_is_too_small_for_a_number(batch: Batch, width: int):
    lines = render(first_resource(batch), Style(width=width)).splitlines()
    assert len(lines) == len(GOLDEN.splitlines())
    assert [line for line in lines if " 1234 " in line] == lines[1:3]


def test_long_names_and_values_lose_their_middle_on_a_terminal():
    one = request()
    name, address = (
        "control_destination_balancer_queue_gate_open_total",
        "linkerd-dst-headless.linkerd.svc.cluster.local:80",
    )
    add_gauge(one, name, addr=address, state="ready")
    body = one.SerializeToString()
    assert render(body).splitlines()[1] == f"{name} 1 gauge addr={address} state=ready"
    assert render(body, Style(width=80)).splitlines()[1] == (
        "control_destinat…gate_open_total 1 gauge addr=linkerd-ds….local:80 state=ready"
    )
    assert render(body, Style(width=60)).splitlines()[1] == (
        "control_dest…_open_total 1 gauge addr=linkerd-dst-h…ter.loc…"
    )


def test_what_tells_points_apart_comes_first():
    one = request()
    metric = one.resource_metrics[0].scope_metrics.add().metrics.add(name="x")
    for attributes in ({"a": "1", "b": "2", "z": "3"}, {"a": "1", "b": "2", "z": "4"}, {"a": "1", "c": "5"}):
        point = metric.gauge.data_points.add(as_double=1, time_unix_nano=TIME)
        for key, value in attributes.items():
            point.attributes.add(key=key).value.string_value = value
    shown = [line.partition("gauge ")[2] for line in render(one.SerializeToString()).splitlines()[1:]]
    assert shown == ["b=2 z=3 a=1", "b=2 z=4 a=1", "c=5 a=1"]


def test_colours_change_nothing_but_colours(batch: Batch):
    plain = render(first_resource(batch), Style(width=100))
    painted = render(first_resource(batch), Style(colour=True, width=100))
    assert "\x1b[32m" in painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain


def test_strangers_cannot_move_the_cursor():
    one = request(service__name="a\x1b[2Jb", service__namespace="\x9b", **{"k\n": "v\n"})
    add_gauge(one, "x\ny", **{"k\r": "v\n\x07"})
    metric = one.resource_metrics[0].scope_metrics[0].metrics[0]
    metric.unit = "\r"
    metric.metadata.add(key="prometheus.type").value.string_value = "\x1b["
    text = render(one.SerializeToString(), Style(width=100))
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
    assert "─── no resource" in text
    assert "x  -3 gauge" in text
    assert "e n=3 hist  ▅█ mean=0.667" in text


NATIVE_GOLDEN = """\
─── shop  2025-11-23 06:23:20.123
native_seconds   n=9 s hist  ▅▃▅█ mean=0.711 p50≈0.841 p99≈1.97  path=/  sum=6.4 [-0.001,0.001]:2 (0.25,0.5]:1 (0.5,1]:2 (1,2]:4
native_seconds ended s hist  path=/gone
native_seconds   n=5 s hist  █ ▆ mean=0.1 p50≈-1.12 p99≈1.97  path=/both  sum=0.5 [-2,-1):3 (1,2]:2
native_seconds  n=40 s hist  ██████████ mean=NaN p50≈32 p99≈955  path=/wide  sum=NaN (1,2]:4 (2,4]:4 (4,8]:4 (8,16]:4 (16,32]:4 (32,64]:4 (64,128]:4 (128,256]:4 (256,512]:4 (512,1024]:4
native_seconds   n=6 s hist  ▃ █ mean=1.25 p50>1 p99>1  path=/bounds
"""


def native_batch() -> Batch:
    of, resource = NativeHistogram.of, Resource.of({"service.name": "shop"})
    histograms = {
        "/": of(count=9.0, sum=6.4, schema=0, zero_threshold=1e-3, zero_count=2.0, positive={-1: 1.0, 0: 2.0, 1: 4.0}),
        "/gone": None,
        "/bounds": of(count=6.0, sum=7.5, schema=CUSTOM_BUCKETS, positive={0: 1.0, 2: 5.0}, custom_bounds=(0.1, 1.0)),
        "/both": of(count=5.0, sum=0.5, schema=0, positive={1: 2.0}, negative={1: 3.0}),
        "/wide": of(count=40.0, sum=math.nan, schema=2, positive=dict.fromkeys(range(1, 41), 1.0)),
    }  # fmt: skip
    family = Family("native_seconds", "histogram", "s")
    return Batch.of(
        Row(
            Series.of(family.name, {"path": path}, family, resource),
            1.0,
            TIME,
            0,
            one is None,
            Extra(one) if one else None,
        )
        for path, one in histograms.items()
    )


def test_native_histograms_show_count_sum_and_buckets_by_bound():
    assert render(encode(native_batch()).body) == NATIVE_GOLDEN


@pytest.mark.parametrize("width", [60, 80, 120])
def test_native_histograms_lose_their_buckets_first(width: int):
    lines = render(encode(native_batch()).body, Style(width=width)).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == len(NATIVE_GOLDEN.splitlines())
    if width >= 80:
        assert all("path=" in line for line in lines[1:])


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


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [("abcdef", 6, "abcdef"), ("abcdef", 5, "ab…ef"), ("abcdef", 4, "ab…f"), ("abcdef", 2, "a…"), ("abc", 1, "…")],
)
def test_shorten(text: str, width: int, short: str):
    assert shorten(text, width) == short
