"""Collected metrics as text: names, units, escapes."""

from __future__ import annotations

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from agent.metrics_text import render


def test_nothing_is_empty_text() -> None:
    assert render(None) == ""


def test_sums_gauges_units_and_escapes_as_text() -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("m")
    meter.create_observable_counter("a.time", [lambda _: [Observation(1.5, {"x": 'q"\n\\'})]], "s", "back\\slash\nline")
    meter.create_observable_gauge("b.size", [lambda _: [Observation(2, {})]], "By", "Size.")
    meter.create_observable_up_down_counter("c.level", [lambda _: [Observation(-3, {"z": 1, "a": "2"})]], "{thing}")
    meter.create_histogram("d.ignored").record(1)
    assert render(reader.get_metrics_data()) == (
        "# HELP a_time_seconds_total back\\\\slash\\nline\n"
        "# TYPE a_time_seconds_total counter\n"
        'a_time_seconds_total{x="q\\"\\n\\\\"} 1.5\n'
        "# HELP b_size_bytes Size.\n"
        "# TYPE b_size_bytes gauge\n"
        "b_size_bytes 2\n"
        "# HELP c_level \n"
        "# TYPE c_level gauge\n"
        'c_level{a="2",z="1"} -3\n'
    )
