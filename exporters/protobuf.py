"""The few protobuf encodings that a request needs (protobuf.dev, "Encoding"): varints, fields, OTLP's KeyValue; and back."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ebbtide import AttributeValue

_SMALL = [bytes([n]) for n in range(128)]
_TWO_BYTES = 1 << 14  # numbers below it take two bytes at most
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}

MOST_FRAMING = 6
"""Bytes of a message's tag and length at most: field numbers are below 16, lengths below 2**35."""


def varint(number: int) -> bytes:
    """Encode a number below 2**64 (a negative int64 is given as its two's complement)."""
    if number < 128:
        return _SMALL[number]
    if number < _TWO_BYTES:
        return bytes((number & 127 | 128, number >> 7))
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
    """Encode a message, string or packed field whose number is below 16."""
    size = len(body)
    return _SMALL[field << 3 | _BYTES] + (_SMALL[size] if size < 128 else varint(size)) + body


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


Field = tuple[int, int, int, int]
"""A field of a message: its number, where its tag is, where its value begins, and where it ends."""


def fields(body: bytes, at: int, end: int) -> Iterator[Field]:
    """Walk the fields of a message ``body[at:end]`` whose numbers are below 16, without looking into them."""
    while at < end:
        start, key = at, body[at]
        at += 1
        wire_type = key & 7
        if wire_type == _BYTES:
            size = body[at]
            at += 1
            if size > 127:
                size, at = _long_varint(body, at, size)
            begin, at = at, at + size
        elif wire_type == _VARINT:
            begin = at
            while body[at] > 127:
                at += 1
            at += 1
        else:
            begin, at = at, at + _FIXED_SIZES[wire_type]
        yield key >> 3, start, begin, at


def _long_varint(body: bytes, at: int, first: int) -> tuple[int, int]:
    """Read what follows the first byte of a varint; return the number, and where it ends."""
    number, shift = first & 127, 7
    while body[at] > 127:
        number |= (body[at] & 127) << shift
        shift += 7
        at += 1
    return number | body[at] << shift, at + 1
