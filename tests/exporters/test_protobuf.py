"""The encodings equal those of protobuf's own classes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue

from exporters.protobuf import any_value, fields, key_value, length_delimited, string_field, tag, varint

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text()
VALUES = TEXT | st.booleans() | INT64 | st.floats()


def reference(value: object) -> AnyValue:
    """Build the message by its classes."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=str(value))


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (150, "9601"),  # protobuf.dev, "Encoding"
        (16383, "ff7f"),
        (16384, "808001"),
        (2**63, "80808080808080808001"),
        (2**64 - 1, "ffffffffffffffffff01"),
    ],
)
def test_varints(number: int, encoded: str) -> None:
    assert varint(number).hex() == encoded


@given(st.integers(0, 2**64 - 1))
def test_varints_are_read_back(number: int) -> None:
    encoded = varint(number)
    assert sum((byte & 127) << (7 * place) for place, byte in enumerate(encoded)) == number
    assert [byte >> 7 for byte in encoded] == [1] * (len(encoded) - 1) + [0]
    assert len(encoded) == max(1, math.ceil(number.bit_length() / 7))


@pytest.mark.parametrize(
    ("field", "wire_type", "encoded"), [(1, 0, "08"), (2, 2, "12"), (15, 1, "79"), (16, 2, "8201"), (2047, 2, "fa7f")]
)
def test_tags(field: int, wire_type: int, encoded: str) -> None:
    assert tag(field, wire_type).hex() == encoded


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16384])
def test_lengths(size: int) -> None:
    assert length_delimited(2, b"x" * size) == b"\x12" + varint(size) + b"x" * size


@pytest.mark.parametrize(
    "value",
    ["", "text", "ünï", "x" * 300, True, False, 0, 1, -1, 2**63 - 1, -(2**63), 0.0, -0.0, 1.5, math.nan, math.inf],
)
def test_values(value: str | bool | int | float) -> None:
    assert any_value(value) == reference(value).SerializeToString()


@given(VALUES)
def test_any_value_equals_the_classes(value: str | bool | int | float) -> None:
    assert any_value(value) == reference(value).SerializeToString()


@given(TEXT, VALUES)
def test_key_value_equals_the_classes(key: str, value: str | bool | int | float) -> None:
    assert key_value(key, value) == KeyValue(key=key, value=reference(value)).SerializeToString()


@given(TEXT, TEXT)
def test_string_fields_equal_the_classes(name: str, version: str) -> None:
    encoded = string_field(1, name) + string_field(2, version)
    assert encoded == InstrumentationScope(name=name, version=version).SerializeToString()


def test_an_integer_is_not_a_bool_nor_a_double() -> None:
    kinds = [AnyValue.FromString(any_value(value)).WhichOneof("value") for value in (1, 1.0, True, "1")]
    assert kinds == ["int_value", "double_value", "bool_value", "string_value"]


WRITTEN = st.one_of(
    st.builds(lambda body: (2, varint(len(body)), body), st.binary(max_size=300) | st.just(b"x" * 20_000)),
    st.builds(lambda number: (0, b"", varint(number)), st.integers(0, 2**64 - 1)),
    st.builds(lambda body: (1, b"", body), st.binary(min_size=8, max_size=8)),
    st.builds(lambda body: (5, b"", body), st.binary(min_size=4, max_size=4)),
)


@given(st.lists(st.tuples(st.integers(1, 15), WRITTEN), max_size=8), st.binary(max_size=3))
def test_fields_are_walked_over(written: list[tuple[int, tuple[int, bytes, bytes]]], before: bytes) -> None:
    body, expected = before, []
    for number, (wire_type, size, content) in written:
        start = len(body)
        body += tag(number, wire_type) + size + content
        expected.append((number, start, len(body) - len(content), len(body)))
    assert list(fields(body + b"behind", len(before), len(body))) == expected
