"""Remote write's messages as protobuf classes, defined here from the documents: what the readers are compared with.

Source: prometheus/prometheus, prompb/remote.proto, prompb/types.proto, prompb/io/prometheus/write/v2/types.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "int64": _Field.TYPE_INT64,
    "int32": _Field.TYPE_INT32,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "sint32": _Field.TYPE_SINT32,
    "sint64": _Field.TYPE_SINT64,
}

_HISTOGRAM = """
1 uint64 count_int, 2 double count_float, 3 double sum, 4 sint32 schema, 5 double zero_threshold,
6 uint64 zero_count_int, 7 double zero_count_float, 8 *BucketSpan negative_spans, 9 *sint64 negative_deltas,
10 *double negative_counts, 11 *BucketSpan positive_spans, 12 *sint64 positive_deltas, 13 *double positive_counts,
14 int32 reset_hint, 15 int64 timestamp, 16 *double custom_values
"""
_SPAN = "1 sint32 offset, 2 uint32 length"

V1 = {
    "Label": "1 string name, 2 string value",
    "Sample": "1 double value, 2 int64 timestamp",
    "Exemplar": "1 *Label labels, 2 double value, 3 int64 timestamp",
    "BucketSpan": _SPAN,
    "Histogram": _HISTOGRAM,
    "TimeSeries": "1 *Label labels, 2 *Sample samples, 3 *Exemplar exemplars, 4 *Histogram histograms",
    "MetricMetadata": "1 int32 type, 2 string metric_family_name, 4 string help, 5 string unit",
    "WriteRequest": "1 *TimeSeries timeseries, 3 *MetricMetadata metadata",
}
V2 = {
    "Sample": "1 double value, 2 int64 timestamp, 3 int64 start_timestamp",
    "Exemplar": "1 *uint32 labels_refs, 2 double value, 3 int64 timestamp",
    "BucketSpan": _SPAN,
    "Histogram": _HISTOGRAM + ", 17 int64 start_timestamp",
    "Metadata": "1 int32 type, 3 uint32 help_ref, 4 uint32 unit_ref",
    "TimeSeries": "1 *uint32 labels_refs, 2 *Sample samples, 3 *Histogram histograms, 4 *Exemplar exemplars, 5 Metadata metadata",
    "Request": "4 *string symbols, 5 *TimeSeries timeseries",
}


def _classes(package: str, messages: dict[str, str]) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, text in messages.items():
        message = file.message_type.add(name=name)
        for line in text.replace("\n", " ").split(","):
            number, kind, field = line.split()
            repeated, kind = kind.startswith("*"), kind.lstrip("*")
            made = message.field.add(name=field, number=int(number))
            made.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in _TYPES:
                made.type = _TYPES[kind]
            else:
                made.type, made.type_name = _Field.TYPE_MESSAGE, f".{package}.{kind}"
            _keep_zero(message, made, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def _keep_zero(message: Any, field: Any, kind: str) -> None:
    """The counts of a histogram are a oneof each: a zero that is set is written."""
    for group in ("zero_count", "count"):
        if field.name in (f"{group}_int", f"{group}_float"):
            names = [one.name for one in message.oneof_decl]
            if group not in names:
                message.oneof_decl.add(name=group)
                names.append(group)
            field.oneof_index = names.index(group)
            return


_V1, _V2 = _classes("ebbtide.test.v1", V1), _classes("ebbtide.test.v2", V2)
WriteRequest, Request = _V1["WriteRequest"], _V2["Request"]
HistogramV1, HistogramV2 = _V1["Histogram"], _V2["Histogram"]

Labels = dict[str, str]


def add_series(request: Any, labels: Labels, *samples: tuple[float, int]) -> Any:
    """Add one series of 1.0 with these (value, ms)."""
    series = request.timeseries.add()
    for name, value in sorted(labels.items()):
        series.labels.add(name=name, value=value)
    for value, ms in samples:
        series.samples.add(value=value, timestamp=ms)
    return series


class Symbols:
    """The table of symbols of one request of 2.0."""

    def __init__(self, request: Any):
        self._request = request
        self._refs = {"": 0}
        request.symbols.append("")

    def ref(self, text: str) -> int:
        if text not in self._refs:
            self._refs[text] = len(self._refs)
            self._request.symbols.append(text)
        return self._refs[text]

    def add(
        self, labels: Labels, *samples: tuple[float, int] | tuple[float, int, int],
        type: int = 0, help: str = "", unit: str = "",
    ) -> Any:  # fmt: skip
        """Add one series with these (value, ms) or (value, ms, start in ms)."""
        series = self._request.timeseries.add()
        for name, value in sorted(labels.items()):
            series.labels_refs.extend((self.ref(name), self.ref(value)))
        for value, ms, *start in samples:
            series.samples.add(value=value, timestamp=ms, start_timestamp=start[0] if start else 0)
        series.metadata.type = type
        series.metadata.help_ref = self.ref(help)
        series.metadata.unit_ref = self.ref(unit)
        return series


def request_v1(*series: tuple[Labels, float, int]) -> bytes:
    """A request of 1.0, one sample a series, as Prometheus writes them."""
    request = WriteRequest()
    for labels, value, ms in series:
        add_series(request, labels, (value, ms))
    return bytes(request.SerializeToString())


def request_v2(*series: tuple[Labels, float, int]) -> bytes:
    """The same of 2.0."""
    request = Request()
    symbols = Symbols(request)
    for labels, value, ms in series:
        symbols.add(labels, (value, ms))
    return bytes(request.SerializeToString())
