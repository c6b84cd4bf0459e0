"""Remote write 1.0: ``prometheus.WriteRequest`` from bytes to columns. Sans-IO.

Source: prometheus/prometheus, prompb/remote.proto and prompb/types.proto.

Strategy. Prometheus writes one message per sample: all labels, then the sample. From request to request all that stands
before the sample's numbers is the same bytes, and series follow one another in the same order. So what a message begins
with is known by those bytes, and after it the one is tried that followed it last time; only where that fails are they looked
up. The numbers are gathered for all series at once (``remote_write_samples``). Of a series that is not known a sibling may
be (``remote_write_siblings``); all else, and messages of any other make, are read field by field.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ebbtide import STALE_NAN, Exemplar, Floats, Ints, split_own
from receivers.memory import Slots
from receivers.remote_write_labels import NAME, NOTHING, TYPES, BadLabels, Learn, series_of
from receivers.remote_write_native import BadHistogram, HistogramPoint, read_histogram
from receivers.remote_write_samples import TIME_ALONE, VALUE_AND_TIME, Decoded, Gathering, Index, read_samples
from receivers.remote_write_siblings import ByteSiblings
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
_FORMS = (VALUE_AND_TIME, TIME_ALONE)  # of a sample: with its value, or without as that is 0


class _Beginnings:
    """What messages of one sample begin with, up to the sample's numbers; each is numbered. Columns by number.

    Number 0 is none: it stands for what comes before a request's first message, and nothing begins with it.
    """

    def __init__(self) -> None:
        self.number: dict[bytes, int] = {}
        self.bytes: list[bytes | tuple[()]] = [()]  # as startswith takes them
        self.form: list[int] = [0]  # of the sample that follows
        self.size: list[int] = [0]  # of the whole message
        self.slot: list[int] = [-1]
        self.after: list[int] = [0]  # which one came after it last

    def add(self, beginning: bytes, form: int, slot: int) -> int:
        """Number one."""
        number = self.number[beginning] = len(self.bytes)
        self.bytes.append(beginning)
        self.form.append(form)
        self.size.append(len(beginning) + form)
        self.slot.append(slot)
        self.after.append(number)
        return number

    def without(self, slots: frozenset[int]) -> _Beginnings:
        """Return those of other series."""
        left = _Beginnings()
        for beginning, number in self.number.items():
            if self.slot[number] not in slots:
                left.add(beginning, self.form[number], self.slot[number])
        return left


@dataclass(slots=True)
class _Usual:
    """The usual messages of a request: the numbers of their beginnings, and where they end."""

    numbers: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


class ReaderV1:
    """Reads requests. ``learn`` numbers series that are new to it."""

    def __init__(self, learn: Learn):
        self._learn = learn
        self._known = _Beginnings()
        self._siblings = ByteSiblings()

    def read(self, data: bytes) -> Decoded:
        """Return all that a request holds. Raises Malformed where it is none."""
        found, usual = Gathering(), _Usual()
        try:
            self._walk(data, found, usual)
            return found.decoded(*self._at_once(data, usual, found))
        finally:
            self._siblings = ByteSiblings()

    def forget(self, slots: frozenset[int]) -> None:
        """Forget the series of these slots."""
        self._known = self._known.without(slots)

    @property
    def known(self) -> set[int]:
        """The slots of the series that are told by their bytes."""
        return set(self._known.slot[1:])

    def _walk(self, data: bytes, found: Gathering, usual: _Usual) -> None:
        """Find every series' message; tell the usual ones, and read the others."""
        known = self._known
        beginnings, sizes, after = known.bytes, known.size, known.after
        starts_with, met, ended = data.startswith, usual.numbers.append, usual.ends.append
        last, position, stop = 0, 0, len(data)
        while position < stop:
            number = after[last]
            if starts_with(beginnings[number], position):
                end = position + sizes[number]
                if end <= stop:
                    met(number)
                    ended(end)
                    last, position = number, end
                    continue
            if data[position] != _TIMESERIES_TAG:
                position = self._other(data, position, stop, found)
                continue
            length, begin = read_varint(data, position + 1, stop)
            end = begin + length
            if end > stop:
                raise Malformed(f"a series breaks off at byte {begin}: {length} bytes announced, {stop - begin} left")
            number = self._number(data, position, begin, end)
            if number:
                met(number)
                ended(end)
                after[last] = last = number
            else:
                self._series(data, begin, end, found, position)
            position = end

    def _number(self, data: bytes, position: int, begin: int, end: int) -> int:
        """Return the number of what a message begins with that lies there, 0 where it must be read."""
        for form in _FORMS:
            sample = end - form - 2
            if sample >= begin and data[sample] == _SAMPLE_TAG and data[sample + 1] == form:
                beginning = data[position : end - form]
                number = self._known.number.get(beginning)
                if number is None:
                    number = self._new_number(data, begin, sample, form, beginning)
                if number:
                    return number
        return 0

    def _new_number(self, data: bytes, begin: int, sample: int, form: int, beginning: bytes) -> int:
        """Number what the message of a new series begins with, or of one whose value is 0 now, or was; 0 where it must be read."""
        known = self._known
        other = known.number.get(_beginning(data[begin:sample], sum(_FORMS) - form))
        if other is not None:
            return known.add(beginning, form, known.slot[other])
        sibling = self._siblings.find(data, begin, sample)
        return 0 if sibling is None else known.add(beginning, form, self._learn(*sibling, False, NOTHING))

    def _at_once(self, data: bytes, usual: _Usual, found: Gathering) -> tuple[Index, Slots, Floats, Ints, Ints]:
        """Read the samples of usual messages, and where those end; what proves to be none is read with care."""
        words = np.frombuffer(data, np.uint8)
        known, numbers = self._known, usual.numbers
        ends: Index = np.array(usual.ends, np.intp)
        forms = np.fromiter(map(known.form.__getitem__, numbers), np.intp, len(numbers))
        slots = np.fromiter(map(known.slot.__getitem__, numbers), np.int32, len(numbers))
        values, times, right = np.zeros(len(ends)), np.zeros(len(ends), np.int64), np.zeros(len(ends), np.bool_)
        for form in _FORMS:
            rows = np.flatnonzero(forms == form)
            values[rows], times[rows], _, right[rows] = read_samples(words, ends[rows], form)
        if not right.all():
            for row in np.flatnonzero(~right).tolist():
                position = usual.ends[row] - known.size[numbers[row]]
                self._series(data, read_varint(data, position + 1, len(data))[1], usual.ends[row], found)
            ends, slots, values, times = ends[right], slots[right], values[right], times[right]
        return ends, slots, values, times, np.zeros(len(slots), np.int64)

    def _other(self, data: bytes, position: int, stop: int, found: Gathering) -> int:
        """Read one field of the request that is not begun by the usual tag; return where it ends."""
        number, kind, begin, end = next(fields(data, position, stop))
        if number in (_TIMESERIES, _METADATA):
            expect(kind, BYTES, begin)
            read = self._series if number == _TIMESERIES else _read_metadata
            read(data, begin, end, found)
        return end

    def _series(self, data: bytes, begin: int, end: int, found: Gathering, position: int = -1) -> None:
        """Read one TimeSeries field by field; where its field begins at ``position``, remember what it begins with."""
        labels: list[tuple[bytes, bytes]] = []
        begins = [begin]  # of labels, one after the other; and where the last one ends
        parts: tuple[list[tuple[int, int]], ...] = ([], [], [])  # samples, exemplars, histograms
        rest, apart = False, False
        for number, kind, first, last in fields(data, begin, end):
            if number not in (1, 2, 3, 4):
                rest = True
                continue
            expect(kind, BYTES, first)
            if number == 1:
                labels.append(_label(data, first, last))
                apart = apart or rest
                begins.append(last)
            else:
                parts[number - 2].append((first, last))
                rest = True
        samples, exemplars, histograms = parts
        read = [_sample(data, *place) for place in samples]
        points, wrong = read_histograms(data, histograms)
        try:
            name, flat = series_of(labels)
        except BadLabels as error:
            found.refuse(len(samples) + len(histograms), str(error))
            return
        if wrong:
            found.refuse(len(histograms) - len(points), f"{name[:80]!r}: {wrong}")
        if read or (exemplars and not points):
            split = (name, *split_own(name, flat)) if apart else self._siblings.keep(data, begins, name, flat)
            slot = self._learn(*split, False, NOTHING)
            form = end - begins[-1] - 2
            if position >= 0 and not apart and form in _FORMS and len(read) == 1 and samples[0] == (end - form, end):
                self._known.add(data[position : end - form], form, slot)
            for value, time in read:
                found.add(end, slot, value, time, 0)
            found.exemplars += [(slot, _exemplar(data, *place)) for place in exemplars]
        if points:
            slot = self._learn(name, flat, (), True, NOTHING)
            take_histograms(found, end, slot, points)
            if not read:
                found.exemplars += [(slot, _exemplar(data, *place)) for place in exemplars]


def _beginning(labels: bytes, form: int) -> bytes:
    """Return what a message begins with that has these labels and one sample of this form."""
    length = len(labels) + 2 + form
    head = bytearray((_TIMESERIES_TAG,))
    while length >= _SMALL:
        head.append(length & 0x7F | _SMALL)
        length >>= 7
    return bytes((*head, length)) + labels + bytes((_SAMPLE_TAG, form))


def read_histograms(data: bytes, places: list[tuple[int, int]]) -> tuple[list[HistogramPoint], str]:
    """Read native histograms; return those that can be taken, and why another cannot, "" where all can."""
    points: list[HistogramPoint] = []
    wrong = ""
    for place in places:
        try:
            points.append(read_histogram(data, *place))
        except BadHistogram as error:
            wrong = str(error)
    return points, wrong


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
