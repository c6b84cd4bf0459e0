"""What a decoded request is, and the samples of many series read at once from where they lie in its bytes. Sans-IO.

Strategy. A sample's message is one of a few forms: value and time, time alone (a value of 0 is left out), each with or
without a start time; times of our age take six bytes. So where a series' message ends in one of these, its numbers lie at
known distances from its end: they are gathered by numpy for all series together. Anything else is read with care.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ebbtide import Exemplar, Floats, Ints, NativeHistogram
from receivers.memory import Slots

Index = npt.NDArray[np.intp]
Words = npt.NDArray[np.uint8]

_VALUE, _TIME, _START = 0x09, 0x10, 0x18  # tags of a sample's fields
TIME_BYTES = 6  # of a time in ms between the years 1971 and 2109

VALUE_AND_TIME, TIME_ALONE, ALL_THREE, TIME_AND_START = 16, 7, 23, 14
"""The forms of a sample, by their length in bytes."""
FORMS = (VALUE_AND_TIME, TIME_ALONE, ALL_THREE, TIME_AND_START)

_EIGHT = np.arange(8)
_SIX = np.arange(TIME_BYTES)
_SHIFTS = np.arange(TIME_BYTES) * 7

MOST_REASONS = 8
"""So many reasons why series were refused are kept of one request; more are only counted."""


@dataclass(slots=True)
class Decoded:
    """One request. Columns by sample: ``slots`` number its series, ``times`` and ``starts`` in ms (0: no start).

    ``natives``: by (slot, time) the histograms of those rows whose values are counts. ``metadata``: as ``TypeBook.learn``
    takes it. ``refused`` samples and histograms belong to series that cannot be; ``reasons`` say why.
    """

    slots: Slots
    values: Floats
    times: Ints
    starts: Ints
    natives: dict[tuple[int, int], NativeHistogram] = field(default_factory=dict)
    exemplars: list[tuple[int, Exemplar]] = field(default_factory=list)
    metadata: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    histograms: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """Samples and histograms that were taken in, as well as those that were refused."""
        return len(self.slots) + self.refused


@dataclass(slots=True)
class Gathering:
    """What a reader has found so far: samples read with care; all else as in ``Decoded``."""

    slots: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # where the message of each sample ends
    natives: dict[tuple[int, int], NativeHistogram] = field(default_factory=dict)
    exemplars: list[tuple[int, Exemplar]] = field(default_factory=list)
    metadata: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    histograms: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, place: int, slot: int, value: float, time: int, start: int) -> None:
        """Take a sample of the message that ends at ``place``."""
        self.places.append(place)
        self.slots.append(slot)
        self.values.append(value)
        self.times.append(time)
        self.starts.append(start)

    def refuse(self, samples: int, why: str) -> None:
        """Pass over so many samples or histograms of a series."""
        self.refused += samples
        if len(self.reasons) < MOST_REASONS:
            self.reasons.append(why)

    def decoded(self, places: Index, slots: Slots, values: Floats, times: Ints, starts: Ints) -> Decoded:
        """Put what was read at once and what was read with care together, in the order in which it stands."""
        if self.slots:
            places = np.concatenate((places, np.array(self.places, np.intp)))
            slots = np.concatenate((slots, np.array(self.slots, np.int32)))
            values = np.concatenate((values, np.array(self.values, np.float64)))
            times = np.concatenate((times, np.array(self.times, np.int64)))
            starts = np.concatenate((starts, np.array(self.starts, np.int64)))
        if (places[1:] < places[:-1]).any():
            order = np.argsort(places, kind="stable")
            slots, values, times, starts = slots[order], values[order], times[order], starts[order]
        return Decoded(slots, values, times, starts, self.natives, self.exemplars, self.metadata, self.histograms,
                       self.refused, self.reasons)  # fmt: skip


def read_samples(words: Words, ends: Index, form: int) -> tuple[Floats, Ints, Ints, npt.NDArray[np.bool_]]:
    """Return values, times and starts of the samples of this form that end at ``ends``, and which of them are of it.

    ``words`` are the request's bytes.
    """
    begin = ends - form
    values = np.zeros(len(ends), np.float64)
    starts = np.zeros(len(ends), np.int64)
    right = np.ones(len(ends), np.bool_)
    if form in (VALUE_AND_TIME, ALL_THREE):
        right &= words[begin] == _VALUE
        values = words[begin[:, None] + (1 + _EIGHT)].view("<f8")[:, 0]
        begin = begin + 9
    times, good = _read_time(words, begin, _TIME)
    right &= good
    if form in (ALL_THREE, TIME_AND_START):
        starts, good = _read_time(words, begin + 1 + TIME_BYTES, _START)
        right &= good
    return values, times, starts, right


def _read_time(words: Words, begin: Index, tag: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    text = words[begin[:, None] + (1 + _SIX)]
    right = (words[begin] == tag) & (text[:, :-1] >= 0x80).all(1) & (text[:, -1] < 0x80)
    return ((text & 0x7F).astype(np.int64) << _SHIFTS).sum(1), right
