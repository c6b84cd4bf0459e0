"""Protobuf's wire format, read with care."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.remote_write_wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Malformed,
    double,
    doubles,
    fields,
    read_varint,
    signed,
    signed32,
    varints,
    zigzag,
)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


@given(st.integers(0, 2**64 - 1))
def test_varints_come_back(value: int) -> None:
    text = varint(value)
    assert read_varint(b"x" + text, 1, 1 + len(text)) == (value, 1 + len(text))


@pytest.mark.parametrize("text", [b"", b"\x80", b"\xff" * 9, b"\x80" * 10 + b"\x01"])
def test_a_varint_that_breaks_off_or_does_not_end_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        read_varint(text, 0, len(text))


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_numbers(value: int) -> None:
    assert signed(value & (2**64 - 1)) == value
    assert zigzag((value << 1 ^ value >> 63) & (2**64 - 1)) == value


@pytest.mark.parametrize(("value", "wanted"), [(3, 3), (2**64 - 1, -1), (2**31, -(2**31)), (2**32 + 7, 7)])
def test_an_enum_is_its_low_bits(value: int, wanted: int) -> None:
    assert signed32(value) == wanted


def test_fields_are_walked_and_unknown_ones_with_them() -> None:
    data = b"\x08\x96\x01" + b"\x12\x03abc" + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    assert list(fields(data, 0, len(data))) == [
        (1, VARINT, 150, 3),
        (2, BYTES, 5, 8),
        (3, FIXED64, 9, 17),
        (4, FIXED32, 18, 22),
    ]


@pytest.mark.parametrize(
    "data", [b"\x12\x04abc", b"\x19" + bytes(7), b"\x0b", b"\x0c", b"\x0f\x01", b"\x00\x01", b"\x12", b"\x08"]
)
def test_fields_that_break_off_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed, match="at byte"):
        list(fields(data, 0, len(data)))


def test_repeated_numbers_are_packed_or_single() -> None:
    assert varints(b"\x01\x96\x01", BYTES, 0, 3) == [1, 150]
    assert varints(b"", VARINT, 7, 1) == [7]
    packed = struct.pack("<2d", 1.5, -2.0)
    assert doubles(packed, BYTES, 0, 16) == [1.5, -2.0]
    assert doubles(packed, FIXED64, 8, 16) == [-2.0]
    with pytest.raises(Malformed, match="packed doubles take 15 bytes"):
        doubles(packed, BYTES, 0, 15)
    with pytest.raises(Malformed, match="wire type 5"):
        varints(b"", FIXED32, 0, 4)
    with pytest.raises(Malformed, match="a double has 4 bytes"):
        double(packed, 0, 4)
