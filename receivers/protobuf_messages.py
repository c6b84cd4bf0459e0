"""The message classes of ``io.prometheus.client``, made from a description instead of generated code.

Source: prometheus/prometheus, prompb/io/prometheus/client/metrics.proto. Names, help and labels are bytes here: decoded
(and found to be no UTF-8) by whoever reads them. The type is a number, so that an unknown one can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

_PACKAGE = "io.prometheus.client"

# By message: (number, name, type, repeated). A type that is no scalar's is the name of a message.
_Field = tuple[int, str, str, bool]
_MESSAGES: Mapping[str, tuple[_Field, ...]] = {
    "LabelPair": ((1, "name", "bytes", False), (2, "value", "bytes", False)),
    "Timestamp": ((1, "seconds", "int64", False), (2, "nanos", "int32", False)),
    "Exemplar": ((1, "label", "LabelPair", True), (2, "value", "double", False), (3, "timestamp", "Timestamp", False)),
    "Simple": ((1, "value", "double", False),),
    "Counter": (
        (1, "value", "double", False),
        (2, "exemplar", "Exemplar", False),
        (3, "created_timestamp", "Timestamp", False),
    ),
    "Quantile": ((1, "quantile", "double", False), (2, "value", "double", False)),
    "Summary": (
        (1, "sample_count", "uint64", False),
        (2, "sample_sum", "double", False),
        (3, "quantile", "Quantile", True),
        (4, "created_timestamp", "Timestamp", False),
    ),
    "Bucket": (
        (1, "cumulative_count", "uint64", False),
        (2, "upper_bound", "double", False),
        (3, "exemplar", "Exemplar", False),
        (4, "cumulative_count_float", "double", False),
    ),
    "BucketSpan": ((1, "offset", "sint32", False), (2, "length", "uint32", False)),
    "Histogram": (
        (1, "sample_count", "uint64", False),
        (2, "sample_sum", "double", False),
        (3, "bucket", "Bucket", True),
        (4, "sample_count_float", "double", False),
        (5, "schema", "sint32", False),
        (6, "zero_threshold", "double", False),
        (7, "zero_count", "uint64", False),
        (8, "zero_count_float", "double", False),
        (9, "negative_span", "BucketSpan", True),
        (10, "negative_delta", "sint64", True),
        (11, "negative_count", "double", True),
        (12, "positive_span", "BucketSpan", True),
        (13, "positive_delta", "sint64", True),
        (14, "positive_count", "double", True),
        (15, "created_timestamp", "Timestamp", False),
        (16, "exemplars", "Exemplar", True),
    ),
    "Metric": (
        (1, "label", "LabelPair", True),
        (2, "gauge", "Simple", False),
        (3, "counter", "Counter", False),
        (4, "summary", "Summary", False),
        (5, "untyped", "Simple", False),
        (6, "timestamp_ms", "int64", False),
        (7, "histogram", "Histogram", False),
    ),
    "MetricFamily": (
        (1, "name", "bytes", False),
        (2, "help", "bytes", False),
        (3, "type", "int32", False),
        (4, "metric", "Metric", True),
        (5, "unit", "bytes", False),
    ),
}


@cache
def message_class(name: str) -> type[Any]:
    """Return the class of a message. protobuf is imported at the first call: a start should not wait for it."""
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def _file() -> FileDescriptorProto:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

    file = FileDescriptorProto(name="metrics.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, name, type_name, repeated in fields:
            label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            if type_name in _MESSAGES:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{type_name}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{type_name.upper()}")
    return file
