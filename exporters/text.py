"""OTLP metrics for eyes: one aligned line a point under a header per resource. Sans-IO.

Strategy. The renderer reads serialized requests, so that what is shown is what any backend would be told. Columns are
as wide as the request needs, within bounds; what does not fit a terminal is cut at its end, never in the name or value.
In a pipe nothing is cut, so that grep finds everything.

    2026-11-23  web · emojivoto · web-5f8d7  k8s.deployment.name=web
    06:41:12.250 web  request_total        counter          1234      direction=inbound tls=true
    06:41:12.250 web  response_latency_ms  histogram  ▁▃█▅▁ n=40 Σ=812 p50≈14 p99≈48 ms  direction=inbound
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

BARS = "▁▂▃▄▅▆▇█"
MAX_BARS = 12  # cells of a sparkline; more buckets share cells
SERVICE_WIDTH = 18
NAME_WIDTH = 36
VALUE_WIDTH = 12
KIND_WIDTH = len("histogram")
NO_RECORDED_VALUE = 1  # bit 0 of flags
HEADER_FIRST = ("service.name", "service.namespace", "service.instance.id")  # shown by value alone, in this order


@dataclass(frozen=True, slots=True)
class Style:
    """How lines are written: ANSI colours or none, and the width to cut at (None: do not cut)."""

    colour: bool = False
    width: int | None = None

    def paint(self, code: str, text: str) -> str:
        """Return the text in an ANSI style, where colours are on."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


@dataclass(slots=True)
class _Line:
    time: str
    name: str
    kind: str
    value: str
    unit: str
    attributes: str
    ended: bool


@dataclass(slots=True)
class _Group:
    """The points of one resource."""

    service: str
    title: str
    lines: list[_Line] = field(default_factory=list)


def render(body: bytes, style: Style = Style()) -> str:
    """Render a serialized request, one line a point, each line ended."""
    groups = [_group(r) for r in ExportMetricsServiceRequest.FromString(body).resource_metrics]
    groups = [group for group in groups if group.lines]
    service = _width((g.service for g in groups), SERVICE_WIDTH)
    name = _width((line.name for g in groups for line in g.lines), NAME_WIDTH)
    out: list[str] = []
    title = None
    for group in groups:
        if group.title != title:
            title = group.title
            out.append(style.paint("1;36", _cut(title, style.width)) + "\n")
        out.extend(_line(line, group.service, service, name, style) for line in group.lines)
    return "".join(out)


def _line(line: _Line, service: str, service_width: int, name_width: int, style: Style) -> str:
    """Write one line; the attributes get what is left of the width."""
    who = _cut(service, service_width).ljust(service_width)
    value = f"{line.value}{' ' if line.unit else ''}{line.unit}"
    fixed = f"{line.time} {who} {line.name.ljust(name_width)} {line.kind.ljust(KIND_WIDTH)} "
    room = None if style.width is None else style.width - len(fixed) - len(value) - 2
    attributes = _cut(line.attributes, room) if room is None or room > 1 else ""
    if not style.colour:
        return f"{fixed}{value}  {attributes}".rstrip() + "\n"
    parts = (
        style.paint("2", line.time),
        style.paint("36", who),
        style.paint("1", line.name.ljust(name_width)),
        style.paint("35", line.kind.ljust(KIND_WIDTH)),
        style.paint("2" if line.ended else "32", value),
    )
    tail = f"  {style.paint('2', attributes)}" if attributes else ""
    return " ".join(parts) + tail + "\n"


def _group(resource_metrics: Any) -> _Group:
    attributes = {a.key: _plain(a.value) for a in resource_metrics.resource.attributes}
    first = [attributes.pop(key) for key in HEADER_FIRST if attributes.get(key)]
    rest = [f"{key}={value}" for key, value in attributes.items()]
    group = _Group(first[0] if first else "-", "")
    newest = 0
    for scope_metrics in resource_metrics.scope_metrics:
        for metric in scope_metrics.metrics:
            for point in _points(metric):
                newest = max(newest, point.time_unix_nano)
                group.lines.append(_read(metric, point))
    day = _moment(newest)[:10]
    group.title = printable("  ".join(filter(None, (day, " · ".join(first) or "no resource", " ".join(rest)))))
    group.service = printable(group.service)
    return group


def _points(metric: Any) -> Sequence[Any]:
    kind = metric.WhichOneof("data")
    points: Sequence[Any] = getattr(metric, kind).data_points if kind else ()
    return points


def _read(metric: Any, point: Any) -> _Line:
    ended = bool(point.flags & NO_RECORDED_VALUE)
    shape = metric.WhichOneof("data")
    return _Line(
        time=_moment(point.time_unix_nano)[11:],
        name=printable(metric.name),
        kind=_kind(metric, shape),
        value="ended".rjust(VALUE_WIDTH) if ended else _VALUES[shape](point),
        unit=printable(metric.unit),
        attributes=printable(" ".join(f"{a.key}={_plain(a.value)}" for a in point.attributes)),
        ended=ended,
    )


def _kind(metric: Any, shape: str) -> str:
    """The Prometheus type where it is told, else OTLP's own word."""
    for attribute in metric.metadata:
        if attribute.key == "prometheus.type":
            return printable(attribute.value.string_value)
    if shape == "sum":
        return "counter" if metric.sum.is_monotonic else "sum"
    return "histogram" if shape.endswith("histogram") else shape


def _number(point: Any) -> str:
    value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
    return show_number(value).rjust(VALUE_WIDTH)


def _histogram(point: Any) -> str:
    counts, bounds = list(point.bucket_counts), list(point.explicit_bounds)
    bars = sparkline(counts)
    return " ".join(filter(None, (bars, *_totals(point), *_percentiles(bounds, counts))))


def _exponential(point: Any) -> str:
    counts = [*reversed(point.negative.bucket_counts), point.zero_count, *point.positive.bucket_counts]
    return " ".join((sparkline(counts), *_totals(point)))


def _totals(point: Any) -> Iterator[str]:
    yield f"n={point.count}"
    if point.HasField("sum"):
        yield f"Σ={show_number(point.sum)}"


def _percentiles(bounds: list[float], counts: list[int]) -> Iterator[str]:
    for rank in (0.5, 0.99):
        estimate = quantile(rank, bounds, counts)
        if estimate is not None:
            yield f"p{rank * 100:g}{estimate}"


def _summary(point: Any) -> str:
    quantiles = [f"p{100 * q.quantile:g}={show_number(q.value)}" for q in point.quantile_values]
    return " ".join((f"n={point.count}", f"Σ={show_number(point.sum)}", *quantiles))


_VALUES = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}


def sparkline(counts: Sequence[int]) -> str:
    """Draw bucket counts from the first to the last that is not empty, in at most ``MAX_BARS`` cells."""
    filled = [index for index, count in enumerate(counts) if count]
    if not filled:
        return ""
    span = counts[filled[0] : filled[-1] + 1]
    share = -(-len(span) // MAX_BARS)
    cells = [sum(span[start : start + share]) for start in range(0, len(span), share)]
    top = max(cells)
    return "".join(BARS[-(-cell * (len(BARS) - 1) // top)] if cell else " " for cell in cells)


def quantile(rank: float, bounds: Sequence[float], counts: Sequence[int]) -> str | None:
    """Estimate a quantile as PromQL's histogram_quantile does: ``≈3.2``, ``>50`` beyond the last bound; None: unknown."""
    total = sum(counts)
    if not total or not bounds:
        return None
    target = rank * total
    for index, reached in enumerate(accumulate(counts)):
        if reached >= target and counts[index]:
            break
    if index == len(bounds):
        return f">{show_number(bounds[-1])}"
    upper = bounds[index]
    lower = bounds[index - 1] if index else min(0.0, upper)
    within = (target - (reached - counts[index])) / counts[index]
    return f"≈{show_number(float(f'{lower + (upper - lower) * within:.3g}'))}"


def show_number(value: float) -> str:
    """1234.0 -> "1234", 0.1 -> "0.1", 1e21 -> "1e+21"; as Prometheus writes NaN, +Inf and -Inf."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else f"{value:.7g}"


def printable(text: str) -> str:
    """Text from strangers without what moves a terminal's cursor or breaks a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "·" for c in text)


def _plain(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return str(value.string_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind in ("int_value", "double_value"):
        return show_number(getattr(value, kind))
    return "" if kind is None else str(getattr(value, kind))


_LAST = 253402300799 * 10**9  # 9999-12-31T23:59:59Z, the last day datetime knows


def _moment(nanoseconds: int) -> str:
    """``2026-11-23T06:41:12.250``, UTC."""
    moment = datetime.fromtimestamp(min(nanoseconds, _LAST) // 10**9, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds // 10**6 % 1000:03d}"


def _width(texts: Iterable[str], most: int) -> int:
    return min(max(map(len, texts), default=0), most)


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else text[: max(width - 1, 0)] + "…"
