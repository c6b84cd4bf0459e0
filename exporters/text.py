"""OTLP metrics for eyes: one aligned line a point under a header per resource. Sans-IO.

Strategy. The renderer reads serialized requests, so that what is shown is what any backend would be told. The header
says who speaks (service, namespace, pod, instance) and when, so that no line need repeat it; where the times of its
points differ, lines begin with their own. Columns are as wide as the points of their resource need. On a terminal the
name's is bounded and longer names lose their middle, never their ends; attributes get what is left, those first that
tell the points of a metric apart: long values lose their middle first, then the line is cut. Values are always whole.
In a pipe nothing is shortened, so that grep finds everything.

    ─── web · emojivoto · web-5f8d7 · 10.42.0.6:4191  2026-11-23 06:41:12.250 deployment=web
    request_total         1234     ctr   direction=inbound tls=true
    response_latency_ms   n=40 ms  hist  ▁▃█▅▁ mean=20.3 p50≈14 p99≈48  direction=inbound
    native_seconds        n=9 s    hist  ▄█ mean=0.71 p50≈0.66 p99≈1.9  direction=inbound  sum=6.4 (0.5,1]:6 (1,2]:3
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from exporters.text_cells import cells_of, estimate

BARS = "▁▂▃▄▅▆▇█"
MAX_BARS = 12  # cells of a sparkline; more buckets share cells
MAX_CELLS = 12  # buckets of an exponential histogram that are told; more are merged
NAME_WIDTH = 80  # of the name's column where nothing is cut; a longer name pushes its own line only
NAME_SHARE = 0.4  # of a terminal's width, which the name's column may take
VALUE_WIDTH = 20
UNIT_WIDTH = 8
CAPS = (40, 32, 26, 20, 16, 12)  # lengths tried for attribute values, that all may fit
LONG_VALUE = 26  # length of attribute values where they cannot all fit
RANKS = (0.5, 0.99)  # quantiles that are estimated
NO_RECORDED_VALUE = 1  # bit 0 of flags
RULE = "─── "
NO_RESOURCE = "no resource"

KINDS = {
    "counter": "ctr",
    "histogram": "hist",
    "gaugehistogram": "ghist",
    "summary": "summ",
    "stateset": "state",
    "unknown": "?",
}  # gauge, info and sum are short enough
KIND_WIDTH = 5

# Shown by value alone, in this order.
HEADER_FIRST = ("service.name", "service.namespace", "k8s.pod.name", "service.instance.id")
# Left out where their value is part of one of those.
HEADER_REPEATS = ("k8s.namespace.name", "k8s.pod.ip", "server.address", "server.port")
_PREFIXES = ("k8s.pod.label.", "k8s.", "linkerd.")


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
    value: str
    unit: str
    kind: str
    detail: str  # what a histogram or summary says beside its count
    attributes: list[tuple[str, str]]
    ended: bool
    rest: str  # what comes last, where there is room


@dataclass(slots=True)
class _Group:
    """The points of one resource."""

    title: str
    about: str
    lines: list[_Line] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Widths:
    """The columns of one resource's lines; ``time`` is 0 where all points share the header's."""

    time: int
    name: int
    value: int
    unit: int


def render(body: bytes, style: Style = Style()) -> str:
    """Render a serialized request, one line a point, each line ended."""
    out: list[str] = []
    shown = None
    for resource_metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        group = _group(resource_metrics)
        if not group.lines:
            continue
        if (group.title, group.about) != shown:
            shown = group.title, group.about
            out.append(_header(group, style))
        widths = _widths(group.lines, style)
        out.extend(_line(line, widths, style) for line in group.lines)
    return "".join(out)


def _header(group: _Group, style: Style) -> str:
    title = _cut(RULE + group.title, style.width)
    room = None if style.width is None else style.width - len(title) - 2
    about = _cut(group.about, room) if room is None or room > 1 else ""
    return style.paint("1;36", title) + ("  " + style.paint("36", about) if about else "") + "\n"


def _widths(lines: Sequence[_Line], style: Style) -> _Widths:
    most = NAME_WIDTH if style.width is None else max(int(style.width * NAME_SHARE), 8)
    times = {line.time for line in lines}
    return _Widths(
        len(max(times)) if len(times) > 1 else 0,
        _width((line.name for line in lines), most),
        _width((line.value for line in lines), VALUE_WIDTH),
        _width((line.unit for line in lines), UNIT_WIDTH),
    )


def _line(line: _Line, widths: _Widths, style: Style) -> str:
    """Write one line; the attributes get what is left of the width."""
    name = (line.name if style.width is None else shorten(line.name, widths.name)).ljust(widths.name)
    value, unit, kind = line.value.rjust(widths.value), line.unit.ljust(widths.unit), line.kind.ljust(KIND_WIDTH)
    columns = [(line.time, "2"), (name, "1"), (value, "2" if line.ended else "32"), (unit, ""), (kind, "35")]
    columns = [(text, code) for text, code in columns if text and (text is not line.time or widths.time)]
    used = sum(len(text) + 1 for text, _ in columns)
    detail = _cut(line.detail, _left(style, used))
    if detail:
        columns.append((detail + " ", "33"))  # it varies in length: two spaces behind it
        used += len(detail) + 2
    attributes = _attributes(line.attributes, _left(style, used))
    if attributes:
        columns.append((attributes, "2"))
        used += len(attributes) + 1
    room = _left(style, used + 1)
    if line.rest and (room is None or room > 1):
        columns.append((" " * bool(attributes) + _cut(line.rest, room), "33"))
    columns[-1] = columns[-1][0].rstrip(), columns[-1][1]
    return " ".join(style.paint(code, text) if code else text for text, code in columns) + "\n"


def _left(style: Style, used: int) -> int | None:
    """Return how many columns are left, None: no end of them."""
    return None if style.width is None else max(style.width - used, 0)


def _attributes(pairs: Sequence[tuple[str, str]], room: int | None) -> str:
    """Join attributes; where they do not fit the room, first long values lose their middle, then the end is cut."""
    text = " ".join(f"{key}={value}" for key, value in pairs)
    if room is None or len(text) <= room:
        return text
    for cap in (*CAPS, LONG_VALUE):
        text = " ".join(f"{key}={shorten(value, cap)}" for key, value in pairs)
        if len(text) <= room:
            break
    return _cut(text, room) if room > 1 else ""


def shorten(text: str, width: int) -> str:
    """Cut a text in its middle to the width: the ends of names and addresses tell more."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def _group(resource_metrics: Any) -> _Group:
    attributes = {a.key: _plain(a.value) for a in resource_metrics.resource.attributes}
    first = [attributes.pop(key) for key in HEADER_FIRST if attributes.get(key)]
    for key in HEADER_REPEATS:
        if any(attributes.get(key, "\n") in value for value in first):
            del attributes[key]
    lines: list[_Line] = []
    newest = 0
    for scope_metrics in resource_metrics.scope_metrics:
        for metric in scope_metrics.metrics:
            points = _points(metric)
            newest = max([newest, *(point.time_unix_nano for point in points)])
            lines += _telling_first([_read(metric, point) for point in points])
    rest = [f"{_short_key(key)}={value}" for key, value in attributes.items()]
    when = _moment(newest).replace("T", " ") if newest else ""
    title = printable(" · ".join(dict.fromkeys(first)) or NO_RESOURCE)
    return _Group(title, printable(" ".join(filter(None, (when, *rest)))), lines)


def _telling_first(lines: list[_Line]) -> list[_Line]:
    """Put those attributes first that tell the points of one metric apart: what is cut is what they share."""
    pairs: Counter[tuple[str, str]] = Counter(pair for line in lines for pair in line.attributes)
    for line in lines:
        line.attributes.sort(key=lambda pair: pairs[pair] == len(lines))
    return lines


def _short_key(key: str) -> str:
    """``k8s.deployment.name`` -> ``deployment``, ``linkerd.control_plane.namespace`` -> ``control_plane.namespace``."""
    short = next((key.removeprefix(prefix) for prefix in _PREFIXES if key.startswith(prefix)), key)
    return short if short == key else short.removesuffix(".name") or key


def _points(metric: Any) -> Sequence[Any]:
    kind = metric.WhichOneof("data")
    points: Sequence[Any] = getattr(metric, kind).data_points if kind else ()
    return points


def _read(metric: Any, point: Any) -> _Line:
    ended = bool(point.flags & NO_RECORDED_VALUE)
    shape = metric.WhichOneof("data")
    value, detail = ("ended", "") if ended else _VALUES[shape](point)
    rest = _buckets(point) if shape == "exponential_histogram" and not ended else ""
    return _Line(
        time=_moment(point.time_unix_nano)[11:],
        name=printable(metric.name),
        value=value,
        unit=printable(metric.unit),
        kind=_kind(metric, shape),
        detail=detail,
        attributes=[(printable(a.key), printable(_plain(a.value))) for a in point.attributes],
        ended=ended,
        rest=rest,
    )


def _kind(metric: Any, shape: str) -> str:
    """The Prometheus type where it is told, else OTLP's own word; abbreviated."""
    word = "histogram" if shape.endswith("histogram") else shape
    if shape == "sum" and metric.sum.is_monotonic:
        word = "counter"
    for attribute in metric.metadata:
        if attribute.key == "prometheus.type":
            word = attribute.value.string_value
    return printable(KINDS.get(word, word))[:KIND_WIDTH]


def _number(point: Any) -> tuple[str, str]:
    value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
    return show_number(value), ""


def _histogram(point: Any) -> tuple[str, str]:
    counts, bounds = list(point.bucket_counts), list(point.explicit_bounds)
    return f"n={point.count}", " ".join((sparkline(counts), *_mean(point), *_percentiles(bounds, counts))).strip()


def _exponential(point: Any) -> tuple[str, str]:
    counts = [*reversed(point.negative.bucket_counts), point.zero_count, *point.positive.bucket_counts]
    cells = cells_of(point)
    ranks = ((rank, estimate(rank, cells)) for rank in RANKS)
    percentiles = (f"p{rank * 100:g}≈{_rounded(value)}" for rank, value in ranks if value is not None)
    return f"n={point.count}", " ".join((sparkline(counts), *_mean(point), *percentiles)).strip()


def _buckets(point: Any) -> str:
    """The sum, and buckets by their bounds as Prometheus writes them."""
    told = [f"sum={show_number(point.sum)}"] if point.HasField("sum") else []
    for lower, upper, count in cells_of(point, MAX_CELLS):
        first, last = "[" if lower < 0 or lower == upper else "(", "]" if upper > 0 or lower == upper else ")"
        told.append(f"{first}{_bound(lower)},{_bound(upper)}{last}:{count}")
    return " ".join(told)


def _bound(value: float) -> str:
    return show_number(value) if value.is_integer() else _rounded(value)


def _mean(point: Any) -> Iterator[str]:
    if point.HasField("sum") and point.count:
        yield f"mean={_rounded(point.sum / point.count)}"


def _percentiles(bounds: list[float], counts: list[int]) -> Iterator[str]:
    for rank in RANKS:
        found = quantile(rank, bounds, counts)
        if found is not None:
            yield f"p{rank * 100:g}{found}"


def _summary(point: Any) -> tuple[str, str]:
    quantiles = (f"p{100 * q.quantile:g}={show_number(q.value)}" for q in point.quantile_values)
    mean = (f"mean={_rounded(point.sum / point.count)}",) if point.count else ()
    return f"n={point.count}", " ".join((*mean, *quantiles))


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
    return f"≈{_rounded(lower + (upper - lower) * within)}"


def _rounded(value: float) -> str:
    """What is estimated is shown with three digits."""
    return show_number(float(f"{value:.3g}"))


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
