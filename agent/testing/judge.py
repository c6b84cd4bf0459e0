"""An independent judge of what an exporter encodes as OTLP.

Strategy. ``reference_request`` builds a request by opentelemetry-proto's own classes, one point at a time, by the rules
of the OpenTelemetry specification ("Prometheus and OpenMetrics Compatibility") and of metrics.proto: slow, plain, and
sharing nothing with the encoders that it judges. ``comparable`` makes two requests comparable, whatever their order.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2

from agent.batch import Batch, Row
from agent.identity import AGENT_SCOPE, AttributeValue
from agent.native import Buckets, NativeHistogram

_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_CUSTOM, _COARSEST, _FINEST, _KNOWN = -53, -4, 8, 52  # schemas of native histograms
_ALL = "all"  # in order, beside the roles
_SUFFIXES = ("_bucket", "_sum", "_count")


def reference_request(batch: Batch, scope_name: str = "ebbtide", scope_version: str | None = None) -> Any:
    """Return the ExportMetricsServiceRequest that a batch stands for; the scope is the one for ``AGENT_SCOPE``."""
    builder = _Builder(scope_name, version("ebbtide") if scope_version is None else scope_version)
    groups: dict[tuple[object, ...], dict[str, list[Row]]] = {}
    key: tuple[object, ...]
    for row in batch.rows():
        kind = row.series.family.kind
        if kind == "histogram" and row.series.name == row.series.family.name:
            builder.native(row)
        elif kind in ("histogram", "summary"):
            name, role, labels = _part(row, kind)
            key = (name, labels, row.series.family.identity, id(row.series.resource), id(row.series.scope))
            parts = groups.setdefault(key, {})
            parts.setdefault(role, []).append(row)
            parts.setdefault(_ALL, []).append(row)
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
    if kind != "summary":
        yield tuple(_exemplar_key(exemplar) for exemplar in point.exemplars)
    if kind in ("gauge", "sum"):
        yield point.WhichOneof("value")
        yield _word(point.as_double)
        return
    yield point.count
    yield _word(point.sum) if kind == "summary" or point.HasField("sum") else None
    if kind == "summary":
        yield tuple(sorted((q.quantile, _word(q.value)) for q in point.quantile_values))
    elif kind == "exponential_histogram":
        yield point.scale, point.zero_count, point.zero_threshold
        yield tuple((side.offset, *side.bucket_counts) for side in (point.positive, point.negative))
    else:
        yield tuple(point.explicit_bounds)
        yield tuple(point.bucket_counts)


def _exemplar_key(exemplar: Any) -> tuple[object, ...]:
    ids = exemplar.trace_id, exemplar.span_id
    return *ids, exemplar.time_unix_nano, _word(exemplar.as_double), _attributes_key(exemplar.filtered_attributes)


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
        _add_exemplars(point, [row])

    def native(self, row: Row) -> None:
        """Add an ExponentialHistogram point, or a Histogram point of one with custom bounds."""
        native = None if row.extra is None else row.extra.native
        if (native is None or not _sayable(native)) and not row.stale:
            return
        if native is not None and native.schema == _CUSTOM:
            data = self._metric(row, row.series.name, "histogram").histogram
        else:
            data = self._metric(row, row.series.name, "exponential_histogram").exponential_histogram
        data.aggregation_temporality = _CUMULATIVE
        point = data.data_points.add()
        if native is not None and not row.stale:
            (_fill_custom if native.schema == _CUSTOM else _fill_exponential)(point, native)
            _add_exemplars(point, [row])
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
            _add_exemplars(point, parts[_ALL])
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

    def _metric(self, row: Row, name: str, data: str = "") -> Any:
        series = row.series
        key = (name, data, series.family.identity, id(series.resource), id(series.scope))
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


def _sayable(native: NativeHistogram) -> bool:
    """Counters of whole numbers of observations, in a schema that is known; schemas above 8 can be brought to 8."""
    numbers = [*map(float, (native.count, native.zero_count, *native.positive.counts, *native.negative.counts))]
    counted = all(number >= 0 and number.is_integer() and number < 2.0**64 for number in numbers)
    counted = counted and sum(map(int, numbers[1:])) < 2**64
    return counted and not native.is_gauge and (native.schema == _CUSTOM or _COARSEST <= native.schema <= _KNOWN)


def _fill_exponential(point: Any, native: NativeHistogram) -> None:
    point.scale = min(native.schema, _FINEST)
    point.sum, point.zero_count, point.zero_threshold = native.sum, int(native.zero_count), native.zero_threshold
    point.count = point.zero_count
    for side, message in ((native.positive, point.positive), (native.negative, point.negative)):
        counts = _merged(side, native.schema - point.scale)
        finite = {index: count for index, count in counts.items() if (index - 1) * 2.0**-point.scale < 1024}
        if finite:
            message.offset = min(finite) - 1
            message.bucket_counts.extend(finite.get(index, 0) for index in range(min(finite), max(finite) + 1))
            point.count += sum(message.bucket_counts)


def _merged(side: Buckets, steps: int) -> dict[int, int]:
    """Counts by index, each pair of neighbours merged so many times."""
    counts = {side.offset + number: int(count) for number, count in enumerate(side.counts)}
    for _ in range(steps):
        merged: dict[int, int] = {}
        for index, count in counts.items():
            merged[-(-index // 2)] = merged.get(-(-index // 2), 0) + count
        counts = merged
    return counts


def _fill_custom(point: Any, native: NativeHistogram) -> None:
    point.sum = native.sum
    point.explicit_bounds.extend(native.custom_bounds)
    point.bucket_counts.extend([0] * (len(native.custom_bounds) + 1))
    for number, count in enumerate(native.positive.counts):
        point.bucket_counts[native.positive.offset + number] = int(count)
    uncounted = max(int(native.count) - sum(point.bucket_counts), 0)
    point.bucket_counts[-1] += uncounted
    point.count = sum(point.bucket_counts)


def _add_exemplars(point: Any, rows: Iterable[Row]) -> None:
    """Ids are 16 and 8 bytes, not all of them 0; a label that is none stays an attribute."""
    for exemplar in (one for row in rows if row.extra is not None and not row.stale for one in row.extra.exemplars):
        time = exemplar.time if 0 < exemplar.time < 2**64 else 0
        message = point.exemplars.add(time_unix_nano=time, as_double=exemplar.value)
        labels = dict(zip(exemplar.labels[::2], exemplar.labels[1::2], strict=True))
        message.trace_id, message.span_id = _id(labels, "trace_id", 16), _id(labels, "span_id", 8)
        for name, value in labels.items():
            message.filtered_attributes.add(key=name).value.string_value = value


def _id(labels: dict[str, str], name: str, size: int) -> bytes:
    """Take an id out of the labels, where it is one; b"" else."""
    text = labels.get(name, "")
    if len(text) != 2 * size or not set(text) <= set(string.hexdigits) or not int(text, 16):
        return b""
    return bytes.fromhex(labels.pop(name))
