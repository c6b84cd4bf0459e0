"""Metrics collected by the OpenTelemetry SDK as Prometheus' text format 0.0.4.

Names follow OpenTelemetry's "Prometheus and OpenMetrics Compatibility": dots become underscores, a unit that is a word
is a suffix, and a monotonic sum ends in ``_total``. Only sums and gauges are written: there are no others here.
"""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.sdk.metrics.export import Gauge, Metric, MetricsData, NumberDataPoint, Sum

_UNITS = {"s": "seconds", "By": "bytes"}
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def render(data: MetricsData | None) -> str:
    """Return all sums and gauges, one family after the other."""
    return "".join(line for metric in _metrics(data) for line in _family(metric))


def _metrics(data: MetricsData | None) -> Iterator[Metric]:
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            yield from scope.metrics


def _family(metric: Metric) -> Iterator[str]:
    if not isinstance(metric.data, Sum | Gauge):
        return
    monotonic = isinstance(metric.data, Sum) and metric.data.is_monotonic
    name = _name(metric.name, metric.unit or "", monotonic)
    yield f"# HELP {name} {(metric.description or '').translate(_HELP_ESCAPES)}\n"
    yield f"# TYPE {name} {'counter' if monotonic else 'gauge'}\n"
    for point in metric.data.data_points:
        if isinstance(point, NumberDataPoint):
            yield f"{name}{_labels(point)} {point.value!r}\n"


def _name(name: str, unit: str, monotonic: bool) -> str:
    words = [name.replace(".", "_")]
    if unit in _UNITS:
        words.append(_UNITS[unit])
    if monotonic:
        words.append("total")
    return "_".join(words)


def _labels(point: NumberDataPoint) -> str:
    pairs = sorted((point.attributes or {}).items())
    inside = ",".join(f'{name}="{str(value).translate(_LABEL_ESCAPES)}"' for name, value in pairs)
    return f"{{{inside}}}" if inside else ""
