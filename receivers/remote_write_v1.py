"""Remote write 1.0: ``prometheus.WriteRequest`` from bytes to columns. Sans-IO.

Source: prometheus/prometheus, prompb/remote.proto and prompb/types.proto.

Strategy. Prometheus writes one message per sample: all labels, then the sample. From request to request the labels of a
series are the same bytes, so they are its key: what stands before the last 18 (or 9) bytes is looked up, and what follows
a known key is exactly one sample, whose numbers are gathered for all series at once (``remote_write_samples``). A key that
is not known, or a message of any other make, is read field by field.
"""

from __future__ import annotations

import numpy as np

from ebbtide import STALE_NAN, Exemplar, Floats, Ints
from receivers.memory import Slots
from receivers.remote_write_labels import NAME, NOTHING, TYPES, BadLabels, Learn, series_of
from receivers.remote_write_native import BadHistogram, HistogramPoint, read_histogram
from receivers.remote_write_samples import TIME_ALONE, VALUE_AND_TIME, Decoded, Gathering, Index, Words, read_samples
from receivers.remote_write_wire import (
    BYTES,
    FIXED64,
    VARINT,
    Malformed,
    double,
    expect,
    fields,
    read_varint,
    signed,
    signed32,
)

_MS = 10**6  # ns
_TIMESERIES, _METADATA = 1, 3  # fields of a WriteRequest
_TIMESERIES_TAG = _TIMESERIES << 3 | BYTES
_SAMPLE_TAG = 2 << 3 | BYTES  # in a TimeSeries
_NAME_TAG, _VALUE_TAG = 1 << 3 | BYTES, 2 << 3 | BYTES  # in a Label
_SMALL = 0x80  # lengths below take one byte
_LONG, _SHORT = VALUE_AND_TIME + 2, TIME_ALONE + 2  # a sample with its tag and length

_Places = tuple[list[int], list[int], list[int]]  # slot, begin and end of the message of each sample


class ReaderV1:
    """Reads requests. ``learn`` numbers series that are new to it; what it remembers of them is ``known``."""

    def __init__(self, learn: Learn):
        self._learn = learn
        self.known: dict[bytes, int] = {}  # by the bytes of the labels

    def read(self, data: bytes) -> Decoded:
        """Return all that a request holds. Raises Malformed where it is none."""
        found = Gathering()
        long: _Places = ([], [], [])
        short: _Places = ([], [], [])
        self._walk(data, found, long, short)
        words = np.frombuffer(data, np.uint8)
        parts = [self._at_once(data, words, long, VALUE_AND_TIME, found)]
        parts.append(self._at_once(data, words, short, TIME_ALONE, found))
        places, slots, values, times = (np.concatenate(column) for column in zip(*parts, strict=True))
        return found.decoded(places, slots, values, times, np.zeros(len(slots), np.int64))

    def forget(self, slots: frozenset[int]) -> None:
        """Forget the series of these slots."""
        self.known = {key: slot for key, slot in self.known.items() if slot not in slots}

    def _walk(self, data: bytes, found: Gathering, long: _Places, short: _Places) -> None:
        """Find every series' message; look the usual ones up, and read the others."""
        known, position, stop = self.known.get, 0, len(data)
        long_slots, long_begins, long_ends = long
        short_slots, short_begins, short_ends = short
        while position < stop:
            if data[position] != _TIMESERIES_TAG:
                position = self._other(data, position, stop, found)
                continue
            begin = position + 3
            if begin <= stop and data[position + 1] >= 0x80 > data[position + 2]:  # mostly: two bytes
                length = data[position + 1] & 0x7F | data[position + 2] << 7
            else:
                length, begin = read_varint(data, position + 1, stop)
            position = begin + length
            if position > stop:
                raise Malformed(f"a series breaks off at byte {begin}: {length} bytes announced, {stop - begin} left")
            if length > _LONG and data[position - _LONG] == _SAMPLE_TAG:
                slot = known(data[begin : position - _LONG])
                if slot is not None:
                    long_slots.append(slot)
                    long_begins.append(begin)
                    long_ends.append(position)
                    continue
            if length > _SHORT and data[position - _SHORT] == _SAMPLE_TAG:
                slot = known(data[begin : position - _SHORT])
                if slot is not None:
                    short_slots.append(slot)
                    short_begins.append(begin)
                    short_ends.append(position)
                    continue
            self._series(data, begin, position, found)

    def _at_once(
        self, data: bytes, words: Words, places: _Places, form: int, found: Gathering
    ) -> tuple[Index, Slots, Floats, Ints]:
        """Read samples of one form, and where their messages end; what proves to be of another is read with care."""
        slots = np.array(places[0], np.int32)
        ends: Index = np.array(places[2], np.intp)
        values, times, _, right = read_samples(words, ends, form)
        right &= words[ends - form - 1] == form
        if not right.all():
            for row in np.flatnonzero(~right).tolist():
                self._series(data, places[1][row], places[2][row], found)
            ends, slots, values, times = ends[right], slots[right], values[right], times[right]
        return ends, slots, values, times

    def _other(self, data: bytes, position: int, stop: int, found: Gathering) -> int:
        """Read one field of the request that is not begun by the usual tag; return where it ends."""
        number, kind, begin, end = next(fields(data, position, stop))
        if number in (_TIMESERIES, _METADATA):
            expect(kind, BYTES, begin)
            read = self._series if number == _TIMESERIES else _read_metadata
            read(data, begin, end, found)
        return end

    def _series(self, data: bytes, begin: int, end: int, found: Gathering) -> None:
        """Read one TimeSeries field by field, and remember its labels where they stand first."""
        labels: list[tuple[bytes, bytes]] = []
        samples: list[tuple[int, int]] = []
        exemplars: list[tuple[int, int]] = []
        histograms: list[tuple[int, int]] = []
        after_labels, rest, apart = begin, False, False
        for number, kind, first, last in fields(data, begin, end):
            if number not in (1, 2, 3, 4):
                rest = True
                continue
            expect(kind, BYTES, first)
            if number == 1:
                labels.append(_label(data, first, last))
                apart = apart or rest
                after_labels = last
            else:
                (samples, exemplars, histograms)[number - 2].append((first, last))
                rest = True
        read = [_sample(data, *place) for place in samples]
        points: list[HistogramPoint] = []
        wrong = ""
        for place in histograms:
            try:
                points.append(read_histogram(data, *place))
            except BadHistogram as error:
                wrong = str(error)
        try:
            name, flat = series_of(labels)
        except BadLabels as error:
            found.refuse(len(samples) + len(histograms), str(error))
            return
        if wrong:
            found.refuse(len(histograms) - len(points), f"{name[:80]!r}: {wrong}")
        if read or (exemplars and not points):
            slot = self._learn(name, flat, False, NOTHING)
            if not apart:  # all labels come first
                self.known[data[begin:after_labels]] = slot
            for value, time in read:
                found.add(end, slot, value, time, 0)
            found.exemplars += [(slot, _exemplar(data, *place)) for place in exemplars]
        if points:
            slot = self._learn(name, flat, True, NOTHING)
            take_histograms(found, end, slot, points)
            if not read:
                found.exemplars += [(slot, _exemplar(data, *place)) for place in exemplars]


def take_histograms(found: Gathering, place: int, slot: int, points: list[HistogramPoint]) -> None:
    """Take native histograms as samples whose values are their counts, the end of a series as the stale marker."""
    found.histograms += len(points)
    for point in points:
        if point.native is None:
            found.add(place, slot, STALE_NAN, point.time, point.start)
        else:
            found.add(place, slot, point.native.count, point.time, point.start)
            found.natives[slot, point.time] = point.native


def _label(data: bytes, begin: int, end: int) -> tuple[bytes, bytes]:
    if end - begin > 3 and data[begin] == _NAME_TAG and data[begin + 1] < _SMALL:
        value_at = begin + 2 + data[begin + 1]
        if value_at + 1 < end and data[value_at] == _VALUE_TAG and data[value_at + 1] == end - value_at - 2 < _SMALL:
            return data[begin + 2 : value_at], data[value_at + 2 : end]
    name = value = b""
    for number, kind, first, last in fields(data, begin, end):
        if number in (1, 2):
            expect(kind, BYTES, first)
            if number == 1:
                name = data[first:last]
            else:
                value = data[first:last]
    return name, value


def _sample(data: bytes, begin: int, end: int) -> tuple[float, int]:
    value, time = 0.0, 0
    for number, kind, first, last in fields(data, begin, end):
        if number == 1:
            expect(kind, FIXED64, first)
            value = double(data, first, last)
        elif number == 2:
            expect(kind, VARINT, last)
            time = signed(first)
    return value, time


def _exemplar(data: bytes, begin: int, end: int) -> Exemplar:
    labels: list[tuple[bytes, bytes]] = []
    value, time = 0.0, 0
    for number, kind, first, last in fields(data, begin, end):
        if number == 1:
            expect(kind, BYTES, first)
            labels.append(_label(data, first, last))
        elif number == 2:
            expect(kind, FIXED64, first)
            value = double(data, first, last)
        elif number == 3:
            expect(kind, VARINT, last)
            time = signed(first)
    return make_exemplar(labels, value, time)


def make_exemplar(labels: list[tuple[bytes, bytes]], value: float, time: int) -> Exemplar:
    """An exemplar of these labels (bytes that are no UTF-8 are replaced) at this time in ms."""
    texts = sorted((name.decode(errors="replace"), text.decode(errors="replace")) for name, text in labels)
    flat = tuple(text for pair in texts if pair[0] != NAME for text in pair)
    return Exemplar(flat, value, max(time, 0) * _MS)


def _read_metadata(data: bytes, begin: int, end: int, found: Gathering) -> None:
    """Read one MetricMetadata."""
    texts = {2: "", 4: "", 5: ""}
    kind_number = 0
    for number, kind, first, last in fields(data, begin, end):
        if number == 1:
            expect(kind, VARINT, last)
            kind_number = signed32(first)
        elif number in texts:
            expect(kind, BYTES, first)
            texts[number] = data[first:last].decode(errors="replace")
    if texts[2]:
        entry = {"type": TYPES.get(kind_number, "unknown"), "help": texts[4], "unit": texts[5]}
        found.metadata.setdefault(texts[2], []).append(entry)
