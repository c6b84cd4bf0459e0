"""The few protobuf encodings that a request needs (protobuf.dev, "Encoding"): varints, fields, OTLP's KeyValue."""

from __future__ import annotations

import struct

from ebbtide import AttributeValue

_SMALL = [bytes([n]) for n in range(128)]
_VARINT, _FIXED64, _BYTES = 0, 1, 2  # wire types


def varint(number: int) -> bytes:
    """Encode a number below 2**64 (a negative int64 is given as its two's complement)."""
    if number < 128:
        return _SMALL[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(field: int, wire_type: int = _BYTES) -> bytes:
    """Encode a field's tag."""
    return varint(field << 3 | wire_type)


def length_delimited(field: int, body: bytes) -> bytes:
    """Encode a message, string or packed field."""
    return tag(field) + varint(len(body)) + body


def string_field(field: int, text: str) -> bytes:
    """Encode a string field; nothing for the empty string, which is the default."""
    return length_delimited(field, text.encode()) if text else b""


def any_value(value: AttributeValue) -> bytes:
    """Encode an AnyValue (common.proto): string 1, bool 2, int 3, double 4."""
    if isinstance(value, str):
        return length_delimited(1, value.encode())  # written even when empty: the oneof says which kind it is
    if isinstance(value, bool):
        return tag(2, _VARINT) + _SMALL[value]
    if isinstance(value, int):
        return tag(3, _VARINT) + varint(value & 0xFFFFFFFFFFFFFFFF)
    return tag(4, _FIXED64) + struct.pack("<d", value)


def key_value(key: str, value: AttributeValue) -> bytes:
    """Encode a KeyValue."""
    return string_field(1, key) + length_delimited(2, any_value(value))
