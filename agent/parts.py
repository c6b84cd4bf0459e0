"""How a histogram or summary is scattered over series: ``x_bucket{le}``, ``x_sum``, ``x_count``, ``x{quantile}``.

Source: Prometheus' text format 0.0.4, "Histograms and summaries". Receivers and exporters group by the same rule.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from agent.series import Series


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
    name, kind = series.name, series.family.kind
    if name.endswith("_bucket"):
        return _numbered(name[:-7], series.flat, "le", "bucket") if kind == "histogram" else None
    if name.endswith("_count"):
        return Part(name[:-6], series.flat, "count", math.nan)
    if name.endswith("_sum"):
        return Part(name[:-4], series.flat, "sum", math.nan)
    return _numbered(name, series.flat, "quantile", "quantile") if kind == "summary" else None


def _numbered(name: str, flat: tuple[str, ...], label: str, role: Literal["bucket", "quantile"]) -> Part | None:
    try:
        index = flat.index(label)
        if index % 2:  # a value that reads like the label's name
            index = 2 * flat[::2].index(label)
        number = float(flat[index + 1])
    except ValueError:
        return None
    return None if math.isnan(number) else Part(name, flat[:index] + flat[index + 2 :], role, number)
