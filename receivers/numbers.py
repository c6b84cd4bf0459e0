"""Numbers of many lines at once: what stands behind the constant part of each line, read as columns.

Strategy. A field is ``VALUE`` or ``VALUE TIMESTAMP``, and nearly always both are plain decimal integers (13 digits of
milliseconds; counters). Eight digits are one unaligned 64-bit load and a few multiplications on whole columns (the
"SWAR" way), some 30 ns a line instead of 200 by ``float``. Whatever else stands there is left to the caller, row by
row: this module never guesses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ebbtide import Floats, Ints

NO_TIME = np.iinfo(np.int64).min  # "this line has no timestamp of its own"
MARGIN = 24  # bytes that must lie before a field's end, so that its loads stay inside the buffer

_U = np.uint64
_ZEROS = _U(0x3030303030303030)
_HIGH = _U(0xF0F0F0F0F0F0F0F0)
_SIXES = _U(0x0606060606060606)
_TIMESTAMP_DIGITS = 13  # milliseconds from 2001 to 2286
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


def words_of(data: bytes) -> Words:
    """View every 8 bytes of ``data``, at every offset, as one little-endian word."""
    return np.ndarray(shape=(len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))


def read_fields(octets: Bytes, words: Words, starts: Index, ends: Index) -> Fields:
    """Read the fields ``octets[start:end]``; ``words`` is ``words_of`` the same buffer. Ends below ``MARGIN`` are odd."""
    near = ends < MARGIN if len(ends) and ends.min() < MARGIN else None
    stops = ends if near is None else np.maximum(ends, MARGIN)
    timed = octets[stops - (_TIMESTAMP_DIGITS + 1)] == 0x20
    timed &= stops - starts > _TIMESTAMP_DIGITS + 1
    stops_of_value = stops - timed * (_TIMESTAMP_DIGITS + 1)
    values, good = _digits(words, stops_of_value, stops_of_value - starts)
    if near is not None:
        good &= ~near
    times = np.full(len(starts), NO_TIME, np.int64)
    if timed.all():
        stamps, right = _stamps(words, stops)
        times = stamps
        good &= right
    elif timed.any():
        rows = np.flatnonzero(timed)
        stamps, right = _stamps(words, stops[rows])
        times[rows] = stamps
        good[rows] &= right
    return Fields(values.astype(np.float64), times, np.flatnonzero(~good))


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
