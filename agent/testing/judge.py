"""An independent judge of what an exporter encodes as OTLP.

Strategy. ``reference_request`` builds a request by opentelemetry-proto's own classes, one point at a time, by the rules
of the OpenTelemetry specification ("Prometheus and OpenMetrics Compatibility") and of metrics.proto: slow, plain, and
sharing nothing with the encoders that it judges. ``comparable`` makes two requests comparable, whatever their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2

from agent.batch import Batch, Row
from agent.identity import AGENT_SCOPE, AttributeValue

_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_SUFFIXES = ("_bucket", "_sum", "_count")


def reference_request(batch: Batch, scope_name: str = "ebbtide", scope_version: str | None = None) -> Any:
    """Return the ExportMetricsServiceRequest that a batch stands for; the scope is the one for ``AGENT_SCOPE``."""
    builder = _Builder(scope_name, version("ebbtide") if scope_version is None else scope_version)
    groups: dict[tuple[object, ...], dict[str, list[Row]]] = {}
    key: tuple[object, ...]
    for row in batch.rows():
        kind = row.series.family.kind
        if kind in ("histogram", "summary"):
            name, role, labels = _part(row, kind)
            key = (name, labels, row.series.family.identity, id(row.series.resource), id(row.series.scope))
            groups.setdefault(key, {}).setdefault(role, []).append(row)
        elif kind != "gaugehistogram":
            builder.number(row)
    for key, parts in groups.items():
        if len(parts.get("_count", ())) == 1:
            builder.compound(str(key[0]), parts)
    return builder.request


def comparable(request: Any) -> dict[tuple[object, ...], tuple[object, ...]]:
    """Return {identity of the stream and time: everything else} of all points; a point without value has no numbers.

    Raises ValueError where two points have the same identity and time.
    """
    found: dict[tuple[object, ...], tuple[object, ...]] = {}
    for resource_metrics in request.resource_metrics:
        resource = _attributes_key(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            scope = scope_metrics.scope
            who = (resource, scope.name, scope.version, _attributes_key(scope.attributes), scope_metrics.schema_url)
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                how = (getattr(data, "aggregation_temporality", None), getattr(data, "is_monotonic", None))
                what = (metric.name, metric.unit, metric.description, kind, *how, _attributes_key(metric.metadata))
                for point in data.data_points:
                    key = (*who, *what, _attributes_key(point.attributes), point.time_unix_nano)
                    if key in found:
                        raise ValueError(f"two points of {metric.name} have the same identity and time")
                    found[key] = (point.start_time_unix_nano, point.flags, *_numbers(point, kind))
    return found


def _numbers(point: Any, kind: str) -> Iterable[object]:
    """The numbers of a point; NaN as a word, so that it equals itself."""
    if point.flags & 1:
        return
    if kind in ("gauge", "sum"):
        yield point.WhichOneof("value")
        yield _word(point.as_double)
        return
    yield point.count
    yield _word(point.sum) if kind == "summary" or point.HasField("sum") else None
    if kind == "summary":
        yield tuple(sorted((q.quantile, _word(q.value)) for q in point.quantile_values))
    else:
        yield tuple(point.explicit_bounds)
        yield tuple(point.bucket_counts)


def _word(number: float) -> float | str:
    return "NaN" if math.isnan(number) else number


def _attributes_key(attributes: Iterable[Any]) -> tuple[object, ...]:
    pairs = []
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        pairs.append((attribute.key, kind, getattr(attribute.value, kind)))
    return tuple(sorted(pairs))


def _part(row: Row, kind: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """The whole's name, the part's role (a suffix, or "" for a bound quantile; "none"), the whole's labels."""
    name, labels = row.series.name, row.series.labels
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and (suffix != "_bucket" or (kind == "histogram" and _number(labels.get("le")))):
            if suffix == "_bucket":
                del labels["le"]
            return name.removesuffix(suffix), suffix, tuple(sorted(labels.items()))
    if kind == "summary" and not name.endswith("_bucket") and _number(labels.get("quantile")):
        del labels["quantile"]
        return name, "", tuple(sorted(labels.items()))
    return name, "none", ()


def _number(text: str | None) -> bool:
    try:
        return text is not None and not math.isnan(float(text))
    except ValueError:
        return False


class _Builder:
    """Finds or makes the messages that a point belongs into."""

    def __init__(self, scope_name: str, scope_version: str):
        self.request = ExportMetricsServiceRequest()
        self._scope_name = scope_name
        self._scope_version = scope_version
        self._resources: dict[int, Any] = {}
        self._scopes: dict[tuple[int, int], Any] = {}
        self._metrics: dict[tuple[object, ...], Any] = {}

    def number(self, row: Row) -> None:
        """Add a Gauge or Sum point."""
        metric = self._metric(row, row.series.name)
        kind = row.series.family.kind
        if kind in ("counter", "info", "stateset"):
            metric.sum.aggregation_temporality = _CUMULATIVE
            metric.sum.is_monotonic = kind == "counter"
            point = metric.sum.data_points.add()
        else:
            point = metric.gauge.data_points.add()
        point.as_double = row.value
        self._common(point, row)

    def compound(self, name: str, parts: dict[str, list[Row]]) -> None:
        """Add a Histogram or Summary point, where its counts are numbers."""
        count = parts["_count"][0]
        rows = [count, *parts.get("_bucket", ())]
        is_histogram = count.series.family.kind == "histogram"
        if not count.stale and not all(math.isfinite(row.value) for row in (rows if is_histogram else [count])):
            return
        metric = self._metric(count, name)
        if is_histogram:
            metric.histogram.aggregation_temporality = _CUMULATIVE
            point = metric.histogram.data_points.add()
            self._histogram(point, count, parts)
        else:
            point = metric.summary.data_points.add()
            self._summary(point, count, parts)
        self._common(point, count)

    @staticmethod
    def _histogram(point: Any, count: Row, parts: dict[str, list[Row]]) -> None:
        cumulative: dict[float, float] = {}
        for row in parts.get("_bucket", ()):
            bound = float(row.series.label("le"))
            if bound != math.inf:
                cumulative.setdefault(bound, 0.0 if count.stale else row.value)
        below = 0
        for bound in sorted(cumulative):
            reached = max(below, math.floor(cumulative[bound]))
            point.explicit_bounds.append(bound)
            point.bucket_counts.append(reached - below)
            below = reached
        point.count = max(below, 0 if count.stale else math.floor(count.value))
        point.bucket_counts.append(point.count - below)
        if "_sum" in parts:
            point.sum = 0.0 if count.stale else parts["_sum"][0].value

    @staticmethod
    def _summary(point: Any, count: Row, parts: dict[str, list[Row]]) -> None:
        if not count.stale:
            point.count = max(0, math.floor(count.value))
            point.sum = parts["_sum"][0].value if "_sum" in parts else 0.0
        quantiles: dict[float, float] = {}
        for row in parts.get("", ()):
            quantiles.setdefault(float(row.series.label("quantile")), row.value)
        for quantile in sorted(quantiles):
            point.quantile_values.add(quantile=quantile, value=quantiles[quantile])

    @staticmethod
    def _common(point: Any, row: Row) -> None:
        point.time_unix_nano = row.time
        point.start_time_unix_nano = row.start
        point.flags = int(row.stale)
        labels = row.series.labels
        for name in sorted(labels):
            point.attributes.add(key=name).value.string_value = labels[name]

    def _metric(self, row: Row, name: str) -> Any:
        series = row.series
        key = (name, series.family.identity, id(series.resource), id(series.scope))
        metric = self._metrics.get(key)
        if metric is None:
            metric = self._metrics[key] = self._scope(row).metrics.add(
                name=name, description=series.family.help, unit=series.family.unit
            )
            metric.metadata.add(key="prometheus.type").value.string_value = series.family.kind
        return metric

    def _scope(self, row: Row) -> Any:
        resource, scope = row.series.resource, row.series.scope
        key = (id(resource), id(scope))
        if key not in self._scopes:
            if id(resource) not in self._resources:
                message = self._resources[id(resource)] = self.request.resource_metrics.add()
                _add_attributes(message.resource.attributes, resource.attributes)
            made = self._scopes[key] = self._resources[id(resource)].scope_metrics.add()
            agent = scope is AGENT_SCOPE
            made.scope.name = self._scope_name if agent else scope.name
            made.scope.version = self._scope_version if agent else scope.version
            made.schema_url = scope.schema_url
            _add_attributes(made.scope.attributes, scope.attributes)
        return self._scopes[key]


def _add_attributes(into: Any, attributes: Iterable[tuple[str, AttributeValue]]) -> None:
    for name, value in attributes:
        message = into.add(key=name).value
        if isinstance(value, bool):
            message.bool_value = value
        elif isinstance(value, int):
            message.int_value = value
        elif isinstance(value, float):
            message.double_value = value
        else:
            message.string_value = value
