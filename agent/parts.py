"""How a histogram or summary is scattered over series: ``x_bucket{le}``, ``x_sum``, ``x_count``, ``x{quantile}``.

Source: Prometheus' text format 0.0.4, "Histograms and summaries". Receivers and exporters group by the same rule.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

from agent.identity import Labels
from agent.series import Series


class Part(NamedTuple):
    """One series' part in a compound: ``name`` and ``base`` labels of the whole, its role, and the bound or quantile."""

    name: str
    base: Labels
    role: Literal["bucket", "quantile", "count", "sum"]
    number: float


def part_of(series: Series) -> Part | None:
    """Return the part that a series of a histogram or summary plays; None where it can play none.

    ``le`` and ``quantile`` are compared as numbers: ``1``, ``1.0`` and ``1e0`` are one bound. A histogram's series under
    the family's own name, whatever that ends in, is a native histogram: whole, and part of nothing.
    """
    name, kind = series.name, series.family.kind
    if kind == "histogram" and name == series.family.name:
        return None
    if name.endswith("_bucket"):
        return _numbered(name[:-7], series, "le", "bucket") if kind == "histogram" else None
    if name.endswith("_count"):
        return Part(name[:-6], series.base, "count", math.nan)
    if name.endswith("_sum"):
        return Part(name[:-4], series.base, "sum", math.nan)
    return _numbered(name, series, "quantile", "quantile") if kind == "summary" else None


def _numbered(name: str, series: Series, label: str, role: Literal["bucket", "quantile"]) -> Part | None:
    if not series.own or series.own[0] != label:
        return None
    number = number_of(series.own[1])
    return None if number is None else Part(name, series.base, role, number)


@lru_cache(4096)  # the same bounds again and again
def number_of(text: str) -> float | None:
    """Read the number in an ``le`` or ``quantile``; None for what is none to Prometheus, and for NaN, which bounds nothing."""
    if "_" in text or text.strip() != text:  # numbers to Python, not to Prometheus
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number
