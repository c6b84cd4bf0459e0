"""The direct conversion of an exposition page, written from the documents alone and sharing no code with the agent.

What Prometheus makes of a page: target labels win, a scraped label of the same name becomes ``exported_...``; an empty
label is none; of two equal series the first stays. What OTLP makes of it: the page's own TYPE lines decide; histograms
and summaries become one point each, bucket counts by subtraction, the ``+Inf`` bound goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Labels = frozenset[tuple[str, str]]
Key = tuple[str, Labels]  # metric name, labels without le and quantile
Value = tuple[Any, ...]  # kind, then as Point.body of the judge

_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+(-?\d+))?$")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def read_samples(page: str) -> Iterator[tuple[str, dict[str, str], float, int | None]]:
    """Name, labels, value and own timestamp (ms) of every sample line."""
    for line in page.splitlines():
        if line and not line.startswith("#"):
            found = _LINE.match(line)
            assert found, f"not a sample: {line[:200]!r}"
            name, inside, value, time = found.groups()
            yield name, _labels(inside or ""), float(value), None if time is None else int(time)


def _labels(inside: str) -> dict[str, str]:
    labels, at = {}, 0
    while at < len(inside):
        found = _LABEL.match(inside, at)
        assert found, f"not labels: {inside[at : at + 200]!r}"
        labels[found[1]] = re.sub(r"\\[\\\"n]", lambda escape: _ESCAPES[escape[0]], found[2])
        at = found.end()
    return labels


def read_types(page: str) -> dict[str, str]:
    """The page's own TYPE lines."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))


def scraped(own: Mapping[str, str], target: Mapping[str, str]) -> dict[str, str]:
    """The labels that Prometheus gives a scraped series (honor_labels off)."""
    labels = {("exported_" if name in target else "") + name: value for name, value in own.items()}
    return {name: value for name, value in {**labels, **target}.items() if value}


def convert(page: str, target: Mapping[str, str]) -> dict[Key, Value]:
    """Every point that the page gives, by metric name and labels."""
    types = read_types(page)
    plain: dict[Key, Value] = {}
    parts: dict[tuple[str, str, Labels], dict[Any, float]] = {}
    for name, own, value, _ in read_samples(page):
        metric, kind, role = _belongs(name, own, types)
        if role is None:
            key = name, frozenset(scraped(own, target).items())
            plain.setdefault(key, (kind, value))
            continue
        bound = own.pop("le", None) if role == "bucket" else own.pop("quantile", None) if role == "quantile" else None
        group = parts.setdefault((metric, kind, frozenset(scraped(own, target).items())), {})
        group.setdefault(role if bound is None else (role, float(bound)), value)
    return plain | {(metric, labels): _compound(kind, group) for (metric, kind, labels), group in parts.items()}


def _belongs(name: str, labels: Mapping[str, str], types: Mapping[str, str]) -> tuple[str, str, str | None]:
    """Metric name, OTLP kind, and the sample's role in a compound metric."""
    for suffix, role in (("_bucket", "bucket"), ("_sum", "sum"), ("_count", "count")):
        base = name.removesuffix(suffix)
        kind = types.get(base)
        if base != name and (kind == "histogram" or (kind == "summary" and role != "bucket")):
            return base, kind, role
    kind = types.get(name, "")
    if kind == "summary" and "quantile" in labels:
        return name, "summary", "quantile"
    if kind == "counter" or (not kind and types.get(name.removesuffix("_total")) == "counter"):
        return name, "sum", None
    return name, "gauge", None


def _compound(kind: str, group: Mapping[Any, float]) -> Value:
    marks = sorted((key[1], value) for key, value in group.items() if isinstance(key, tuple))
    if kind == "summary":
        return "summary", int(group["count"]), group["sum"], tuple(marks)
    counts = [value for _, value in marks]
    steps = tuple(int(after - before) for before, after in zip([0.0, *counts], counts, strict=False))
    bounds = tuple(bound for bound, _ in marks)
    assert bounds[-1] == float("inf"), "the page's histogram has no +Inf bucket"
    return "histogram", int(group["count"]), group["sum"], bounds[:-1], steps
