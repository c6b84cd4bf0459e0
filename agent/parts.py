"""How a histogram or summary is scattered over series: ``x_bucket{le}``, ``x_sum``, ``x_count``, ``x{quantile}``.

Source: Prometheus' text format 0.0.4, "Histograms and summaries". Receivers and exporters group by the same rule.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from agent.series import Series

_SUFFIXES: tuple[tuple[str, Literal["bucket", "count", "sum"]], ...] = (
    ("_bucket", "bucket"),
    ("_count", "count"),
    ("_sum", "sum"),
)


class Part(NamedTuple):
    """One series' part in a compound: ``name`` and ``flat`` labels of the whole, its role, and the bound or quantile."""

    name: str
    flat: tuple[str, ...]
    role: Literal["bucket", "quantile", "count", "sum"]
    number: float


def part_of(series: Series) -> Part | None:
    """Return the part that a series of a histogram or summary plays; None where it can play none.

    ``le`` and ``quantile`` are compared as numbers: ``1``, ``1.0`` and ``1e0`` are one bound.
    """
    kind = series.family.kind
    for suffix, role in _SUFFIXES:
        if series.name.endswith(suffix):
            name = series.name[: -len(suffix)]
            if role != "bucket":
                return Part(name, series.flat, role, math.nan)
            return _numbered(name, series.flat, "le", role) if kind == "histogram" else None
    return _numbered(series.name, series.flat, "quantile", "quantile") if kind == "summary" else None


def _numbered(name: str, flat: tuple[str, ...], label: str, role: Literal["bucket", "quantile"]) -> Part | None:
    for index in range(0, len(flat), 2):
        if flat[index] == label:
            try:
                number = float(flat[index + 1])
            except ValueError:
                return None
            return None if math.isnan(number) else Part(name, flat[:index] + flat[index + 2 :], role, number)
    return None
