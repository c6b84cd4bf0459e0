"""OTLP's JSON form of a metrics request, and back.

The form is the one of the OTLP specification ("JSON Protobuf Encoding"): lowerCamelCase, enums as numbers, 64-bit
integers as decimal strings, NaN and infinities as strings, trace and span ids in hex, fields at their default left out.
Written by hand, message by message: protobuf's own json_format takes half as long again and writes ids in base64.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from exporters.otlp_json_cut import written


def to_json(body: bytes) -> bytes:
    """Turn a serialized request into its OTLP JSON, on one line."""
    return request_to_json(ExportMetricsServiceRequest.FromString(body))


def request_to_json(request: Any) -> bytes:
    """Turn a request into its OTLP JSON, on one line."""
    tree = _fields(resourceMetrics=[_resource_metrics(r) for r in request.resource_metrics])
    return written(tree)


def from_json(text: bytes) -> bytes:
    """Turn OTLP JSON into a serialized request; unknown fields are ignored. Raises ValueError for what is not OTLP."""
    request = ExportMetricsServiceRequest()
    tree = json.loads(text)
    if not isinstance(tree, dict):
        raise ValueError("cannot read OTLP JSON: it is no object")
    try:
        json_format.ParseDict(_with_base64_ids(tree), request, ignore_unknown_fields=True)
    except (json_format.ParseError, TypeError, AttributeError) as error:
        raise ValueError(f"cannot read OTLP JSON: {error}") from error
    return bytes(request.SerializeToString())


def _with_base64_ids(tree: Any) -> Any:
    """Trace and span ids are hex in OTLP and base64 in protobuf's own JSON; they occur in exemplars only."""
    if isinstance(tree, list):
        return [_with_base64_ids(item) for item in tree]
    if isinstance(tree, dict):
        return {
            key: base64.b64encode(bytes.fromhex(value)).decode()
            if key in ("traceId", "spanId") and isinstance(value, str)
            else _with_base64_ids(value)
            for key, value in tree.items()
        }
    return tree


def _fields(**fields: Any) -> dict[str, Any]:
    """An object of the fields that are not at their default."""
    return {name: value for name, value in fields.items() if value}


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _int(value: int) -> str:
    """A 64-bit integer; the default as the empty string, which ``_fields`` leaves out."""
    return str(value) if value else ""


def _value(value: Any) -> dict[str, Any]:
    """An AnyValue: a oneof, so that its value is written even at its default."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return {"stringValue": value.string_value}
    if kind == "bool_value":
        return {"boolValue": value.bool_value}
    if kind == "int_value":
        return {"intValue": str(value.int_value)}
    if kind == "double_value":
        return {"doubleValue": _float(value.double_value)}
    if kind == "bytes_value":
        return {"bytesValue": base64.b64encode(value.bytes_value).decode()}
    if kind == "array_value":
        return {"arrayValue": _fields(values=[_value(item) for item in value.array_value.values])}
    if kind == "kvlist_value":
        return {"kvlistValue": _fields(values=_attributes(value.kvlist_value.values))}
    return {}


def _attributes(attributes: Iterable[Any]) -> list[dict[str, Any]]:
    return [_fields(key=a.key, value=_value(a.value) if a.HasField("value") else None) for a in attributes]


def _resource_metrics(message: Any) -> dict[str, Any]:
    tree = _fields(
        scopeMetrics=[_scope_metrics(s) for s in message.scope_metrics],
        schemaUrl=message.schema_url,
    )
    if message.HasField("resource"):
        resource = message.resource
        tree = {
            "resource": _fields(
                attributes=_attributes(resource.attributes), droppedAttributesCount=resource.dropped_attributes_count
            ),
            **tree,
        }
    return tree


def _scope_metrics(message: Any) -> dict[str, Any]:
    tree = _fields(metrics=[_metric(m) for m in message.metrics], schemaUrl=message.schema_url)
    if message.HasField("scope"):
        scope = message.scope
        tree = {
            "scope": _fields(
                name=scope.name,
                version=scope.version,
                attributes=_attributes(scope.attributes),
                droppedAttributesCount=scope.dropped_attributes_count,
            ),
            **tree,
        }
    return tree


def _metric(metric: Any) -> dict[str, Any]:
    tree = _fields(
        name=metric.name,
        description=metric.description,
        unit=metric.unit,
        metadata=_attributes(metric.metadata),
    )
    kind = metric.WhichOneof("data")
    if kind:
        data = getattr(metric, kind)
        name, point = _KINDS[kind]
        tree[name] = _fields(
            dataPoints=[_fields(**_common(p)) | point(p) for p in data.data_points],
            aggregationTemporality=getattr(data, "aggregation_temporality", 0),
            isMonotonic=getattr(data, "is_monotonic", False),
        )
    return tree


def _common(point: Any) -> dict[str, Any]:
    return {
        "attributes": _attributes(point.attributes),
        "startTimeUnixNano": _int(point.start_time_unix_nano),
        "timeUnixNano": _int(point.time_unix_nano),
        "flags": point.flags,
    }


def _number(point: Any) -> dict[str, Any]:
    tree = _fields(exemplars=_exemplars(point))
    kind = point.WhichOneof("value")
    if kind == "as_double":
        tree["asDouble"] = _float(point.as_double)
    elif kind == "as_int":
        tree["asInt"] = str(point.as_int)
    return tree


def _histogram(point: Any) -> dict[str, Any]:
    return _fields(
        count=_int(point.count),
        bucketCounts=[str(n) for n in point.bucket_counts],
        explicitBounds=[_float(bound) for bound in point.explicit_bounds],
        exemplars=_exemplars(point),
    ) | _present(point, "sum", "min", "max")


def _exponential(point: Any) -> dict[str, Any]:
    tree = _fields(
        count=_int(point.count),
        scale=point.scale,
        zeroCount=_int(point.zero_count),
        zeroThreshold=_float(point.zero_threshold),
        exemplars=_exemplars(point),
    )
    for name in ("positive", "negative"):
        if point.HasField(name):
            buckets = getattr(point, name)
            tree[name] = _fields(offset=buckets.offset, bucketCounts=[str(n) for n in buckets.bucket_counts])
    return tree | _present(point, "sum", "min", "max")


def _summary(point: Any) -> dict[str, Any]:
    return _fields(
        count=_int(point.count),
        sum=_float(point.sum),
        quantileValues=[_fields(quantile=_float(q.quantile), value=_float(q.value)) for q in point.quantile_values],
    )


def _present(point: Any, *names: str) -> dict[str, Any]:
    """Optional numbers: written when set, even to 0."""
    return {name: _float(getattr(point, name)) for name in names if point.HasField(name)}


def _exemplars(point: Any) -> list[dict[str, Any]]:
    return [
        _fields(
            filteredAttributes=_attributes(e.filtered_attributes),
            timeUnixNano=_int(e.time_unix_nano),
            spanId=e.span_id.hex(),
            traceId=e.trace_id.hex(),
        )
        | _number_value(e)
        for e in point.exemplars
    ]


def _number_value(exemplar: Any) -> dict[str, Any]:
    kind = exemplar.WhichOneof("value")
    if kind == "as_double":
        return {"asDouble": _float(exemplar.as_double)}
    return {"asInt": str(exemplar.as_int)} if kind == "as_int" else {}


_KINDS: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "gauge": ("gauge", _number),
    "sum": ("sum", _number),
    "histogram": ("histogram", _histogram),
    "exponential_histogram": ("exponentialHistogram", _exponential),
    "summary": ("summary", _summary),
}
