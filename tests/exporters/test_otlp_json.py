"""OTLP JSON against protobuf's own json_format, the specification's rules, and its examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.testing import comparable, reference_request
from agent.testing.batches import batches
from ebbtide import Batch
from exporters.otlp_json import from_json, request_to_json, to_json
from tests.compliance.rules import rule


def by_protobuf(request: Any) -> Any:
    return json_format.MessageToDict(request, use_integers_for_enums=True)


@rule("12.1", "http/json")
def test_equals_protobufs_own_json(batch: Batch):
    request = reference_request(batch)
    assert json.loads(to_json(request.SerializeToString())) == by_protobuf(request)


def test_reads_back(batch: Batch):
    request = reference_request(batch)
    back = ExportMetricsServiceRequest.FromString(from_json(request_to_json(request)))
    assert comparable(back) == comparable(request)


def test_exponential_histograms_and_exemplars_read_back():
    request = reference_request(batches()["native histograms"])
    back = ExportMetricsServiceRequest.FromString(from_json(request_to_json(request)))
    assert comparable(back) == comparable(request)
    assert json.loads(request_to_json(back)) == json.loads(request_to_json(request))
    [trace] = {one["traceId"] for one in exemplars(json.loads(request_to_json(request))) if "traceId" in one}
    assert trace == "0af7651916cd43dd8448eb211c80319c"


def exemplars(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [*tree.get("exemplars", ()), *(one for value in tree.values() for one in exemplars(value))]
    return [one for item in tree for one in exemplars(item)] if isinstance(tree, list) else []


numbers = st.floats(width=64).filter(lambda number: number != 0 or str(number) != "-0.0")
big = st.integers(0, 2**64 - 1)


@rule("12.1", "http/json")
@rule("12.4", "http/json")
@rule("12.5", "http/json")
@given(number=numbers, time=big, flags=st.integers(0, 1), scale=st.integers(-10, 20), counts=st.lists(big, max_size=4))
def test_points_of_every_kind(number: float, time: int, flags: int, scale: int, counts: list[int]):
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add(schema_url="u").scope_metrics.add(schema_url="v").metrics
    metrics.add(name="e").exponential_histogram.data_points.add(
        scale=scale, zero_threshold=number, zero_count=time, sum=number, min=number, max=number, flags=flags,
        positive={"offset": scale, "bucket_counts": counts}, negative={},
    )  # fmt: skip
    metrics.add(name="s").summary.data_points.add(
        time_unix_nano=time, sum=number, quantile_values=[{"quantile": 0.5, "value": number}]
    )
    metrics.add(name="i").sum.data_points.add(as_int=-5, start_time_unix_nano=time)
    metrics.add(name="h").histogram.data_points.add(bucket_counts=counts, explicit_bounds=[number], sum=0)
    metrics.add(name="without data")
    tree = json.loads(request_to_json(request))
    assert tree == by_protobuf(request)
    assert by_protobuf(ExportMetricsServiceRequest.FromString(from_json(request_to_json(request)))) == tree


@rule("12.5", "http/json")
def test_attributes_of_every_kind():
    request = ExportMetricsServiceRequest()
    attributes = request.resource_metrics.add().resource.attributes
    values: list[dict[str, Any]] = [
        {"string_value": ""}, {"bool_value": False}, {"int_value": 0}, {"int_value": -(2**63)},
        {"double_value": 0.0}, {"bytes_value": b"\xff\x00"}, {"array_value": {"values": [{"int_value": 1}]}},
        {"kvlist_value": {"values": [{"key": "k", "value": {"string_value": "v"}}]}},
    ]  # fmt: skip
    for value in values:
        attributes.add(key="a", value=value)
    assert json.loads(request_to_json(request)) == by_protobuf(request)


@rule("12.3", "http/json")
def test_ids_are_hex():
    request = ExportMetricsServiceRequest()
    point = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m").gauge.data_points.add(as_double=0)
    point.exemplars.add(trace_id=bytes(range(16)), span_id=bytes(8), as_int=3, time_unix_nano=2**63)
    text = request_to_json(request)
    exemplar = json.loads(text)["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["gauge"]["dataPoints"][0][
        "exemplars"
    ][0]
    assert exemplar == {
        "traceId": "000102030405060708090a0b0c0d0e0f",
        "spanId": "0000000000000000",
        "asInt": "3",
        "timeUnixNano": "9223372036854775808",
    }
    assert ExportMetricsServiceRequest.FromString(from_json(text)) == request
    assert ExportMetricsServiceRequest.FromString(from_json(text.upper().replace(b"0C0D", b"0c0d"))) != request


def test_one_line_of_utf8():
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.add(name='größe\n"\u2028')
    text = request_to_json(request)
    assert b"\n" not in text
    assert "größe".encode() in text


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"7", b'{"resourceMetrics": 7}', b"\xff", b'{"resourceMetrics":[{"resource":7}]}']
)
def test_nonsense_is_refused(text: bytes):
    with pytest.raises(ValueError):
        from_json(text)


def test_examples_of_the_specification(vectors: Path):
    example = json.loads((vectors / "otlp_proto_examples" / "metrics.json").read_text())
    assert_round_trip(example)
    lines = json.loads((vectors / "otel_spec" / "otlp_protocol.json").read_text())["jsonl_file"]["example_lines"]
    assert lines
    for line in lines:
        assert_round_trip(json.loads(line))


def assert_round_trip(example: Any) -> None:
    """What the example says is what we read and write: as messages, for it spells integers and defaults variously."""
    body = from_json(json.dumps(example).encode())
    assert ExportMetricsServiceRequest.FromString(from_json(to_json(body))) == ExportMetricsServiceRequest.FromString(
        body
    )
    assert names(example) == names(json.loads(to_json(body)))
    assert names(example)


def names(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        return [*([tree["name"]] if "name" in tree else []), *(n for key in sorted(tree) for n in names(tree[key]))]
    return [n for item in tree for n in names(item)] if isinstance(tree, list) else []


@rule("12.1", "http/json")
@rule("12.2", "http/json")
@rule("12.4", "http/json")
def test_rules_of_the_specification(vectors: Path):
    rules = json.loads((vectors / "otel_spec" / "otlp_protocol.json").read_text())["json_rules"]
    integers = next(one["fields"] for one in rules if "fields" in one)
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    metrics.add().sum.data_points.add(as_int=1, time_unix_nano=2, start_time_unix_nano=3)
    metrics[0].sum.aggregation_temporality = 2
    metrics.add().exponential_histogram.data_points.add(count=4, zero_count=5, positive={"bucket_counts": [6]})
    found: dict[str, Any] = {}
    collect(json.loads(request_to_json(request)), found)
    for name in integers:
        assert found[name] in ([str(n) for n in range(1, 7)] + [["6"]]), name
    assert found["aggregationTemporality"] == 2


def collect(tree: Any, found: dict[str, Any]) -> None:
    if isinstance(tree, dict):
        found.update(tree)
        for value in tree.values():
            collect(value, found)
    elif isinstance(tree, list):
        for item in tree:
            collect(item, found)
