"""Numbers of many lines at once: what stands behind the constant part of each line, read as columns.

Strategy. A field is ``VALUE`` or ``VALUE TIMESTAMP``, and nearly always both are plain decimal integers (13 digits of
milliseconds; counters) or short decimals (``12.0``, as OpenMetrics writes counters). Eight digits are one unaligned
64-bit load and a few multiplications on whole columns (the "SWAR" way), some 30 ns a line instead of 200 by ``float``; of
a decimal the point is first moved out of the way. Whatever else stands there is left to the caller: this module never
guesses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ebbtide import Floats, Ints

NO_TIME = np.iinfo(np.int64).min  # "this line has no timestamp of its own"
MARGIN = 26  # bytes that must lie before a field's end, so that its loads stay inside the buffer

_U = np.uint64
_ZEROS = _U(0x3030303030303030)
_HIGH = _U(0xF0F0F0F0F0F0F0F0)
_SIXES = _U(0x0606060606060606)
_TIMESTAMP_DIGITS = 13  # milliseconds from 2001 to 2286
_BLANK = 0x20
_ZERO = _U(0x30)
_POINTS = _U(0x2E2E2E2E2E2E2E2E)
_POINT_ZERO = _U(0x302E)  # ".0" as the last two bytes of a word
_ONES = _U(0x0101010101010101)
_HIGHEST = _U(0x8080808080808080)
_POWERS = np.array([10.0**n for n in range(_TIMESTAMP_DIGITS + 4)])
_MAX_DIGITS = 16  # two loads; below 10**16 the sum is exact in 64 bits and rounded once

# _KEEP[n] has ones in the bytes that hold the last n of eight digits (the highest bytes of a little-endian load).
_KEEP = np.array([(0xFFFFFFFFFFFFFFFF << (8 * (8 - n))) & 0xFFFFFFFFFFFFFFFF for n in range(9)], _U)
_PAD = _ZEROS & ~_KEEP

Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns of some lines: ``values``, ``times`` in ms (``NO_TIME`` where absent), ``odd`` rows not read here."""

    values: Floats
    times: Ints
    odd: Index


def words_of(data: bytes | Bytes) -> Words:
    """View every 8 bytes of ``data``, at every offset, as one little-endian word."""
    return np.ndarray(shape=(len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))


def read_fields(octets: Bytes, words: Words, starts: Index, ends: Index, *, timed_ms: bool = True) -> Fields:
    """Read the fields ``octets[start:end]``; ``words`` is ``words_of`` the same buffer. Ends below ``MARGIN`` are odd.

    Without ``timed_ms`` all fields with a timestamp are odd: OpenMetrics writes seconds.
    """
    near = ends < MARGIN if len(ends) and ends.min() < MARGIN else None
    stops = ends if near is None else np.maximum(ends, MARGIN)
    times = np.full(len(starts), NO_TIME, np.int64)
    if timed_ms:
        timed = octets[stops - (_TIMESTAMP_DIGITS + 1)] == _BLANK
        timed &= stops - starts > _TIMESTAMP_DIGITS + 1
        stops_of_value = stops - timed * (_TIMESTAMP_DIGITS + 1)
    else:
        timed, stops_of_value = np.zeros(len(starts), np.bool_), stops
    values, good = _numbers(words, stops_of_value, stops_of_value - starts)
    if near is not None:
        good &= ~near
    if timed.all():
        stamps, right = _stamps(words, stops)
        times = stamps
        good &= right
    elif timed.any():
        rows = np.flatnonzero(timed)
        stamps, right = _stamps(words, stops[rows])
        times[rows] = stamps
        good[rows] &= right
    return Fields(values, times, np.flatnonzero(~good))


def _stamps(words: Words, stops: Index) -> tuple[Ints, npt.NDArray[np.bool_]]:
    low_words, high_words = words[stops - 8], words[stops - 16]
    high_words &= _KEEP[5]
    if (low_words == low_words[0]).all() and (high_words == high_words[0]).all():  # one scrape: one time
        low_words, high_words = low_words[:1], high_words[:1]
    high_words |= _ZEROS & ~_KEEP[5]
    (low, low_good), (high, high_good) = _eight(low_words), _eight(high_words)
    high *= _U(10**8)
    high += low
    return np.broadcast_to(high.astype(np.int64), stops.shape), np.broadcast_to(low_good & high_good, stops.shape)


def _numbers(words: Words, stops: Index, lengths: Index) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Read whole numbers and short decimals that end at ``stops``; the second array tells which rows are such."""
    whole, good = _digits(words, stops, lengths)
    values = whole.astype(np.float64)
    if not good.all():
        rows = np.flatnonzero(~good & (lengths > 1) & (lengths <= _MAX_DIGITS + 2))
        integral = (words[stops[rows] - 8] >> _U(48)) == _POINT_ZERO
        if integral.any():
            floats = rows[integral]
            whole, good[floats] = _digits(words, stops[floats] - 2, lengths[floats] - 2)
            values[floats] = whole
        rows = rows[~good[rows] & (lengths[rows] <= _MAX_DIGITS)]
        if len(rows):
            values[rows], good[rows] = _decimals(words, stops[rows], lengths[rows])
    return values, good


def _decimals(words: Words, stops: Index, lengths: Index) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Read decimals of 2 to 16 bytes: the point moves out, what stands before it moves up by a byte.

    At most 15 digits are an exact float64, and so is the power of ten: one division rounds correctly.
    """
    low = _last(words, stops, np.minimum(lengths, 8))
    in_low = _first_point(low)
    if lengths.max() <= 8:
        digits, decimals = _without_point(low, in_low, _ZERO)
        numbers, good = _eight(digits)
        return numbers.astype(np.float64) / _POWERS[decimals], good & (in_low != 0)
    high = _last(words, stops - 8, np.clip(lengths - 8, 0, 8))
    in_high = _first_point(high)
    behind = in_low == 0  # the point stands in the first of the two words, if anywhere
    before, fraction = _without_point(high, np.where(behind, in_high, _U(0x80)), _ZERO)
    after, fraction_low = _without_point(low, in_low, high >> _U(56))
    # Where the point is in the low word, all of the high one moves up; else it loses its point, and the low one stays.
    before = np.where(behind, before, (high << _U(8)) | _ZERO)
    after = np.where(behind, low, after)
    decimals = np.where(behind, fraction + 8, fraction_low)
    (low_number, low_good), (high_number, high_good) = _eight(after), _eight(before)
    high_number *= _U(10**8)
    high_number += low_number
    good = low_good & high_good & (~behind | (in_high != 0))
    return high_number.astype(np.float64) / _POWERS[decimals], good


def _first_point(word: Words) -> Words:
    """Return the highest bit of the first byte that is a point, 0 where none is."""
    differs = word ^ _POINTS
    found = (differs - _ONES) & ~differs & _HIGHEST
    return found & (~found + _U(1))


def _without_point(word: Words, point: Words, first: Words | np.uint64) -> tuple[Words, Index]:
    """Take out the byte of ``point``, move those before it up, put ``first`` before them; and how many stand behind it."""
    below = (point - (point != 0)) >> _U(7)  # ones in all bytes before the point
    moved = (word & ~(below | ((point >> _U(7)) * _U(0xFF)))) | ((word & below) << _U(8)) | first
    return moved, 7 - (np.bitwise_count(below) >> 3).astype(np.intp)


def _digits(words: Words, stops: Index, lengths: Index) -> tuple[Words, npt.NDArray[np.bool_]]:
    """Read up to 16 digits that end at ``stops``: their numbers, and which of the rows are digits throughout."""
    numbers, good = _eight(_last(words, stops, np.clip(lengths, 0, 8)))
    good &= (lengths > 0) & (lengths <= _MAX_DIGITS)
    long = np.flatnonzero(good & (lengths > 8))
    if len(long):
        high, right = _eight(_last(words, stops[long] - 8, lengths[long] - 8))
        numbers[long] += high * _U(10**8)
        good[long] &= right
    return numbers, good


def _last(words: Words, stops: Index, lengths: Index) -> Words:
    """Load the last ``lengths`` (at most 8) bytes before ``stops``, with zeros as digits before them."""
    word = words[stops - 8]
    word &= _KEEP[lengths]
    word |= _PAD[lengths]
    return word


def _eight(word: Words) -> tuple[Words, npt.NDArray[np.bool_]]:
    """Turn eight ASCII digits a word into their number; the second array tells where all eight are digits.

    Works in place. Source: Daniel Lemire, "Quickly parsing eight digits" (2018), and simdjson's check of the same.
    """
    check = word + _SIXES
    check &= _HIGH
    check >>= _U(4)
    check |= word & _HIGH
    good = check == _U(0x3333333333333333)
    word -= _ZEROS
    np.right_shift(word, _U(8), out=check)
    word *= _U(10)
    word += check
    np.right_shift(word, _U(16), out=check)
    word &= _U(0x000000FF000000FF)
    word *= _U(0x000F424000000064)
    check &= _U(0x000000FF000000FF)
    check *= _U(0x0000271000000001)
    word += check
    word >>= _U(32)
    return word, good
