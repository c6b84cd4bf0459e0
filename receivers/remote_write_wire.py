"""Reading protobuf's wire format on bytes, carefully: every length and every number is checked. Sans-IO.

Source: protobuf.dev, "Encoding". Unknown fields are passed over, as every reader must; groups are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""

_MOST_SHIFT = 63  # bits: a varint of more than ten bytes is none
_DOUBLE = struct.Struct("<d")


class Malformed(Exception):
    """The bytes are no such message; the text says where they cease to be."""


def read_varint(data: bytes, position: int, stop: int) -> tuple[int, int]:
    """Return an unsigned 64-bit varint and where it ends."""
    value = shift = 0
    while position < stop and shift <= _MOST_SHIFT:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise Malformed(f"a number breaks off at byte {position}")


def fields(data: bytes, position: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Walk a message's fields: number, wire type, and then by type: (varint, its end) or (begin, end) of what it holds."""
    while position < stop:
        tag = data[position]
        if tag < 0x80:  # mostly: a call less
            position += 1
        else:
            tag, position = read_varint(data, position, stop)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise Malformed(f"a field has number {number} at byte {position}")
        if kind == VARINT:
            value, position = read_varint(data, position, stop)
            yield number, kind, value, position
            continue
        if kind == BYTES:
            if position < stop and data[position] < 0x80:
                length = data[position]
                position += 1
            else:
                length, position = read_varint(data, position, stop)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise Malformed(f"a field has the wire type {kind} at byte {position}")
        if length > stop - position:
            raise Malformed(f"a field breaks off at byte {position}: {length} bytes announced, {stop - position} left")
        yield number, kind, position, position + length
        position += length


def signed(value: int) -> int:
    """An int64 that was read as unsigned."""
    return value - (1 << 64) if value >> 63 else value


def signed32(value: int) -> int:
    """An int32 or enum that was read as unsigned: its low 32 bits, as protobuf's own parsers take them."""
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value


def zigzag(value: int) -> int:
    """A sint64 that was read as unsigned."""
    return value >> 1 ^ -(value & 1)


def double(data: bytes, begin: int, end: int) -> float:
    """The double at ``begin``."""
    if end - begin != _DOUBLE.size:
        raise Malformed(f"a double has {end - begin} bytes at byte {begin}")
    number: float = _DOUBLE.unpack_from(data, begin)[0]
    return number


def varints(data: bytes, kind: int, begin: int, end: int) -> list[int]:
    """The numbers of a repeated varint field: packed, or a single one whose value is ``begin``."""
    if kind == VARINT:
        return [begin]
    expect(kind, BYTES, begin)
    found = []
    while begin < end:
        value, begin = read_varint(data, begin, end)
        found.append(value)
    return found


def doubles(data: bytes, kind: int, begin: int, end: int) -> list[float]:
    """The numbers of a repeated double field: packed or a single one."""
    if kind == BYTES:
        if (end - begin) % 8:
            raise Malformed(f"packed doubles take {end - begin} bytes at byte {begin}")
        return list(struct.unpack_from(f"<{(end - begin) // 8}d", data, begin))
    expect(kind, FIXED64, begin)
    return [double(data, begin, end)]


def expect(kind: int, wanted: int, where: int) -> None:
    """Raise Malformed where a known field has another wire type than it is defined with."""
    if kind != wanted:
        raise Malformed(f"a field has the wire type {kind} instead of {wanted} at byte {where}")
