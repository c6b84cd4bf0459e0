"""Instruments become Prometheus text: names, types, escapes."""

from __future__ import annotations

import pytest

from agent.meter import Instrument
from agent.metrics_text import prometheus_name, render


def instrument(name: str, unit: str = "", counter: bool = False, help: str = "Help.") -> Instrument:
    return Instrument(name, unit, help, (), lambda: [(1, ())], counter)


@pytest.mark.parametrize(
    ("name", "unit", "counter", "shown"),
    [
        ("a.b", "", False, "a_b"),
        ("a.b", "", True, "a_b_total"),
        ("a.b", "{poll}", True, "a_b_total"),
        ("a.cpu", "s", True, "a_cpu_seconds_total"),
        ("a.memory", "By", False, "a_memory_bytes"),
    ],
)
def test_names(name: str, unit: str, counter: bool, shown: str) -> None:
    assert prometheus_name(instrument(name, unit, counter)) == shown


def test_the_text() -> None:
    readings = [(7, ("b", 'quo"te')), (1.5, ("a", "back\\slash\nline"))]
    one = Instrument("a.b", "", "What\nit \\ is.", ("z", "y"), lambda: readings, True)
    none = Instrument("c", "", "Nothing.", (), list)
    assert render([one, none, instrument("d")]) == (
        "# HELP a_b_total What\\nit \\\\ is.\n"
        "# TYPE a_b_total counter\n"
        'a_b_total{y="quo\\"te",z="b"} 7\n'
        'a_b_total{y="back\\\\slash\\nline",z="a"} 1.5\n'
        "# HELP c Nothing.\n"
        "# TYPE c gauge\n"
        "# HELP d Help.\n"
        "# TYPE d gauge\n"
        "d 1\n"
    )


def test_nothing_is_nothing() -> None:
    assert render([]) == ""
