"""Columns of numbers read at once equal the same numbers read one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.numbers import MARGIN, NO_TIME, read_fields, words_of


def read(
    fields: list[bytes], *, before: bytes = b"x" * MARGIN, timed_ms: bool = True
) -> list[tuple[float, int] | None]:
    """Read fields laid out as on a page; None for a row that is left to the caller."""
    data, starts, ends = bytearray(before), [], []
    for field in fields:
        data += b"name{} "
        starts.append(len(data))
        data += field
        ends.append(len(data))
        data += b"\n"
    body = bytes(data)
    columns = read_fields(
        np.frombuffer(body, np.uint8), words_of(body), np.array(starts), np.array(ends), timed_ms=timed_ms
    )
    rows = list(zip(columns.values.tolist(), columns.times.tolist(), strict=True))
    return [None if row in columns.odd else rows[row] for row in range(len(fields))]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"0", (0.0, NO_TIME)),
        (b"7 1795362155542", (7.0, 1795362155542)),
        (b"12345678 1795362155542", (12345678.0, 1795362155542)),
        (b"123456789 1795362155542", (123456789.0, 1795362155542)),
        (b"9999999999999999 0000000000000", (1e16, 0)),
        (b"00012", (12.0, NO_TIME)),
        (b"12345678901234567", None),  # seventeen digits
        (b"1 179536215554", None),  # a timestamp of twelve
        (b"1 17953621555421", None),  # of fourteen
        (b"1.5 1795362155542", (1.5, 1795362155542)),
        (b"12.0", (12.0, NO_TIME)),
        (b".5", (0.5, NO_TIME)),
        (b"5.", (5.0, NO_TIME)),
        (b".0", (0.0, NO_TIME)),
        (b"0.1", (0.1, NO_TIME)),
        (b"1234567890.12345", (1234567890.12345, NO_TIME)),  # 15 digits and a point: the longest
        (b"1234567890.123456", None),  # 16
        (b"1234567890123456.0", (1234567890123456.0, NO_TIME)),
        (b"12345678901234567.0", None),
        (b".", None),
        (b"1.2.3", None),
        (b"1..0", None),
        (b"-1", None),
        (b"1e+06 1795362155542", None),
        (b"NaN", None),
        (b"", None),
        (b"/ 1795362155542", None),  # the characters beside the digits
        (b": 1795362155542", None),
        (b"1 179536215554/", None),
        (b"1 :795362155542", None),
        (b"1  1795362155542", None),
        (b" 1795362155542", None),
    ],
)
def test_one_field(field: bytes, expected: tuple[float, int] | None) -> None:
    assert read([field]) == [expected]


def test_fields_near_the_start_of_the_buffer_are_left_to_the_caller() -> None:
    assert read([b"1", b"2", b"3"], before=b"") == [None, None, (3.0, NO_TIME)]


@given(st.lists(st.tuples(st.integers(0, 10**16 - 1), st.none() | st.integers(0, 10**13 - 1)), min_size=1, max_size=50))
def test_digits_are_read_exactly(rows: list[tuple[int, int | None]]) -> None:
    fields = [b"%d" % value + (b"" if time is None else b" %013d" % time) for value, time in rows]
    assert read(fields) == [(float(value), NO_TIME if time is None else time) for value, time in rows]


@given(st.lists(st.tuples(st.integers(0, 10**15 - 1), st.integers(0, 15)), min_size=1, max_size=50))
def test_decimals_are_read_as_python_reads_them(rows: list[tuple[int, int]]) -> None:
    texts = [(f"{number:015d}", point) for number, point in rows]
    fields = [f"{text[:point]}.{text[point:]}".encode() for text, point in texts]
    assert read(fields) == [(float(field), NO_TIME) for field in fields]


@given(st.lists(st.tuples(st.integers(0, 10**7 - 1), st.integers(0, 7)), min_size=1, max_size=50))
def test_short_decimals_are_read_by_one_word(rows: list[tuple[int, int]]) -> None:
    texts = [(f"{number:07d}", point) for number, point in rows]
    fields = [f"{text[:point]}.{text[point:]}".encode() for text, point in texts]
    assert read(fields) == [(float(field), NO_TIME) for field in fields]


def test_without_milliseconds_a_timestamp_is_left_to_the_caller() -> None:
    assert read([b"1.0 1795362155542", b"1.0"], timed_ms=False) == [None, (1.0, NO_TIME)]


@given(st.lists(st.binary(max_size=24).filter(lambda b: b"\n" not in b), min_size=1, max_size=20))
def test_what_is_read_is_what_stands_there(fields: list[bytes]) -> None:
    for field, row in zip(fields, read(fields), strict=True):
        if row is not None:
            value, _, time = field.partition(b" ")
            assert value.replace(b".", b"", 1).isdigit()
            assert row == (float(value), int(time) if time else NO_TIME)
