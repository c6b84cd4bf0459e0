"""Remote write 2.0: ``io.prometheus.write.v2.Request`` from bytes to columns. Sans-IO.

Source: prometheus/prometheus, prompb/io/prometheus/write/v2/types.proto; the specification "Prometheus Remote-Write 2.0".

Strategy. Labels are references into a table of symbols that is made anew for each request, so their bytes say nothing from
one request to the next. Here each symbol has a number for good; the references of all series are decoded and translated at
once by numpy, and the translated references are a series' key. Its sample is read as in 1.0, from the end of the message.
What is not known, or of an unusual make, is read field by field.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ebbtide import Exemplar, Floats, Ints
from receivers.memory import Slots
from receivers.remote_write_labels import TYPES, About, BadLabels, Learn, series_of
from receivers.remote_write_native import BadHistogram, HistogramPoint, read_histogram
from receivers.remote_write_samples import FORMS, Decoded, Gathering, Index, Words, read_samples
from receivers.remote_write_v1 import make_exemplar, take_histograms
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
    varints,
)

_SYMBOLS, _TIMESERIES = 4, 5  # fields of a Request
_TIMESERIES_TAG, _SYMBOLS_TAG = _TIMESERIES << 3 | BYTES, _SYMBOLS << 3 | BYTES
_LABELS_TAG, _SAMPLE_TAG, _METADATA_TAG = 1 << 3 | BYTES, 2 << 3 | BYTES, 5 << 3 | BYTES  # in a TimeSeries
_TYPE_TAG = 1 << 3 | VARINT  # in its Metadata
_MOST_REF_BYTES = 5  # of a uint32
_SMALL = 0x80  # numbers below take one byte

MOST_SYMBOLS = 1 << 20
"""Symbols that are remembered from request to request; beyond, all of them are learned anew."""


class BadReference(Malformed):
    """A reference that leads beyond the table of symbols."""


class _Usual(NamedTuple):
    """Where things lie in messages of the usual make: labels, one sample, and metadata or none. Columns by message."""

    begin: Index
    refs: Index
    sample: Index  # where the sample's field begins: the references end here
    metadata: Index  # where the metadata's field begins: the sample ends here
    end: Index


class ReaderV2:
    """Reads requests. ``learn`` numbers series that are new to it; what it remembers of them is ``known``."""

    def __init__(self, learn: Learn):
        self._learn = learn
        self._numbers: dict[bytes, int] = {}  # of symbols
        self.known: dict[bytes, int] = {}  # by the type and the symbols' numbers

    def read(self, data: bytes) -> Decoded:
        """Return all that a request holds. Raises Malformed where it is none."""
        if len(self._numbers) > MOST_SYMBOLS:
            self._numbers, self.known = {}, {}
        found = Gathering()
        symbols, usual, unusual = _walk(data)
        for begin, end in unusual:
            self._series(data, begin, end, symbols, found)
        return found.decoded(*self._at_once(data, symbols, usual, found))

    def forget(self, slots: frozenset[int]) -> None:
        """Forget the series of these slots."""
        self.known = {key: slot for key, slot in self.known.items() if slot not in slots}

    def _at_once(
        self, data: bytes, symbols: list[bytes], usual: _Usual, found: Gathering
    ) -> tuple[Index, Slots, Floats, Ints, Ints]:
        """Read the usual messages, and where they end; those of unknown series with care."""
        words = np.frombuffer(data, np.uint8)
        keys = self._keys(data, words, usual, symbols)
        known = self.known.get
        slots = np.fromiter((known(key, -1) for key in keys), np.int32, len(keys))
        rows = np.flatnonzero(slots >= 0)
        values, times, starts = np.zeros(len(keys)), np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        good = np.zeros(len(keys), np.bool_)
        forms = usual.metadata - usual.sample - 2
        for form in FORMS:
            of_form = rows[forms[rows] == form]
            if len(of_form):
                columns = read_samples(words, usual.metadata[of_form], form)
                values[of_form], times[of_form], starts[of_form], good[of_form] = columns
        for row in np.flatnonzero(~good).tolist():
            slot = self._series(data, int(usual.begin[row]), int(usual.end[row]), symbols, found)
            if slot is not None:
                self.known[keys[row]] = slot
        if good.all():
            return usual.end, slots, values, times, starts
        return usual.end[good], slots[good], values[good], times[good], starts[good]

    def _keys(self, data: bytes, words: Words, usual: _Usual, symbols: list[bytes]) -> list[bytes]:
        """Return each message's key: the numbers of its labels' symbols, then its type."""
        numbers, counts = _read_refs(data, usual)
        if len(numbers) and int(numbers.max()) >= len(symbols):
            raise BadReference(f"a label refers to symbol {int(numbers.max())} of {len(symbols)}")
        translated = self._translate(numbers, symbols).tobytes()
        type_at = np.where(usual.end - usual.metadata >= 4, usual.metadata + 2, 0)
        types = np.where(words[type_at] == _TYPE_TAG, words[type_at + 1], 0) if len(type_at) else type_at
        keys, begin = [], 0
        for end, kind in zip((np.cumsum(counts) * 4).tolist(), types.tolist(), strict=True):
            keys.append(translated[begin:end] + _BYTE[kind])
            begin = end
        return keys

    def _translate(self, refs: npt.NDArray[np.int64], symbols: list[bytes]) -> npt.NDArray[np.int32]:
        """Translate references into this request's table to the symbols' numbers for good."""
        used = np.zeros(len(symbols), np.bool_)
        used[refs] = True
        numbers, table = self._numbers, np.zeros(len(symbols), np.int32)
        for ref in np.flatnonzero(used).tolist():
            symbol = symbols[ref]
            number = numbers.get(symbol)
            if number is None:
                number = numbers[symbol] = len(numbers)
            table[ref] = number
        return table[refs]

    def _series(self, data: bytes, begin: int, end: int, symbols: list[bytes], found: Gathering) -> int | None:
        """Read one TimeSeries field by field; return the slot of its samples, None where it has none."""
        refs: list[int] = []
        places: dict[int, list[tuple[int, int]]] = {2: [], 3: [], 4: [], 5: []}
        for number, kind, first, last in fields(data, begin, end):
            if number == 1:
                refs += varints(data, kind, first, last)
            elif number in places:
                expect(kind, BYTES, first)
                places[number].append((first, last))
        samples = [_sample(data, *place) for place in places[2]]
        points: list[HistogramPoint] = []
        wrong = ""
        for place in places[3]:
            try:
                points.append(read_histogram(data, *place))
            except BadHistogram as error:
                wrong = str(error)
        exemplars = [_exemplar(data, *place, symbols) for place in places[4]]
        about = _about(data, places[5], symbols)
        try:
            name, flat = series_of(_resolve(refs, symbols))
        except BadLabels as error:
            found.refuse(len(samples) + len(places[3]), str(error))
            return None
        if wrong:
            found.refuse(len(places[3]) - len(points), f"{name[:80]!r}: {wrong}")
        slot = None
        if samples or (exemplars and not points):
            slot = self._learn(name, flat, False, about)
            for value, time, start in samples:
                found.add(end, slot, value, time, start)
            found.exemplars += [(slot, exemplar) for exemplar in exemplars]
        if points:
            native = self._learn(name, flat, True, about)
            take_histograms(found, end, native, points)
            if slot is None:
                found.exemplars += [(native, exemplar) for exemplar in exemplars]
        return slot


Refs = npt.NDArray[np.int64]

_BYTE = [bytes((number,)) for number in range(256)]


def _walk(data: bytes) -> tuple[list[bytes], _Usual, list[tuple[int, int]]]:
    """Find all messages; return the symbols, the series of the usual make, and where all others lie."""
    symbols: list[bytes] = []
    places: list[int] = []
    unusual: list[tuple[int, int]] = []
    position, stop = 0, len(data)
    while position < stop:
        tag = data[position]
        if tag not in (_TIMESERIES_TAG, _SYMBOLS_TAG):
            position = _other(data, position, stop)
            continue
        begin = position + 2
        if begin <= stop and data[position + 1] < _SMALL:
            position = begin + data[position + 1]
        else:
            length, begin = read_varint(data, position + 1, stop)
            position = begin + length
        if position > stop:
            raise Malformed(
                f"a field breaks off at byte {begin}: {position - begin} bytes announced, {stop - begin} left"
            )
        if tag == _SYMBOLS_TAG:
            symbols.append(data[begin:position])
        elif (parts := _usual_parts(data, begin, position)) is not None:
            places += parts
        else:
            unusual.append((begin, position))
    return symbols, _Usual(*np.array(places, np.intp).reshape(-1, len(_Usual._fields)).T), unusual


def _other(data: bytes, position: int, stop: int) -> int:
    """Pass over one field of the request that is unknown; return where it ends."""
    number, kind, begin, end = next(fields(data, position, stop))
    if number in (_SYMBOLS, _TIMESERIES):
        expect(kind, BYTES, begin)
        raise Malformed(f"a field's tag is written in too many bytes at byte {position}")
    if number in (1, 2, 3):
        raise Malformed(f"it has field {number}, which is of version 1.0; see the Content-Type that it came with")
    return end


def _usual_parts(data: bytes, begin: int, end: int) -> tuple[int, int, int, int, int] | None:
    """Return where things lie in a message of labels, one sample, metadata, and nothing else; None for any other."""
    if end - begin < 8 or data[begin] != _LABELS_TAG:
        return None
    length, refs = data[begin + 1], begin + 2
    if length >= _SMALL:
        if data[refs] >= _SMALL:
            return None
        length, refs = length & 0x7F | data[refs] << 7, refs + 1
    sample = refs + length
    if sample + 1 >= end or data[sample] != _SAMPLE_TAG:
        return None
    metadata = sample + 2 + data[sample + 1]
    if metadata + 1 < end and data[metadata] == _METADATA_TAG and data[metadata + 1] == end - metadata - 2 < _SMALL:
        return begin, refs, sample, metadata, end
    return (begin, refs, sample, metadata, end) if metadata == end else None


def _read_refs(data: bytes, usual: _Usual) -> tuple[Refs, Index]:
    """Decode packed references, all at once; return them, and how many each message has. Raises Malformed."""
    places = zip(usual.refs.tolist(), usual.sample.tolist(), strict=True)
    text = np.frombuffer(b"".join([data[begin:end] for begin, end in places]), np.uint8)
    lengths = usual.sample - usual.refs
    ends = np.cumsum(lengths)
    last = text < _SMALL
    if not last[ends[lengths > 0] - 1].all():
        raise Malformed("a label's reference breaks off")
    stops = np.flatnonzero(last)
    sizes = np.diff(stops, prepend=-1)
    longest = int(sizes.max()) if len(sizes) else 0
    if longest > _MOST_REF_BYTES:
        raise Malformed("a label's reference has too many bytes")
    refs = text[stops].astype(np.int64)
    for back in range(1, longest):
        longer = np.flatnonzero(sizes > back)
        refs[longer] = refs[longer] << 7 | text[stops[longer] - back] & 0x7F
    return refs, np.diff(np.searchsorted(stops, ends), prepend=0)


def _resolve(refs: list[int], symbols: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Return labels as pairs. Raises BadReference, and BadLabels for a name without a value."""
    if len(refs) % 2:
        raise BadLabels("a series has a label without a value")
    texts = [_symbol(ref, symbols) for ref in refs]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _symbol(ref: int, symbols: list[bytes]) -> bytes:
    if ref >= len(symbols):
        raise BadReference(f"a reference leads to symbol {ref} of {len(symbols)}")
    return symbols[ref]


def _sample(data: bytes, begin: int, end: int) -> tuple[float, int, int]:
    value, times = 0.0, [0, 0]
    for number, kind, first, last in fields(data, begin, end):
        if number == 1:
            expect(kind, FIXED64, first)
            value = double(data, first, last)
        elif number in (2, 3):
            expect(kind, VARINT, last)
            times[number - 2] = signed(first)
    return value, times[0], times[1]


def _exemplar(data: bytes, begin: int, end: int, symbols: list[bytes]) -> Exemplar:
    refs: list[int] = []
    value, time = 0.0, 0
    for number, kind, first, last in fields(data, begin, end):
        if number == 1:
            refs += varints(data, kind, first, last)
        elif number == 2:
            expect(kind, FIXED64, first)
            value = double(data, first, last)
        elif number == 3:
            expect(kind, VARINT, last)
            time = signed(first)
    pairs = zip(refs[::2], refs[1::2], strict=False)
    return make_exemplar([(_symbol(name, symbols), _symbol(text, symbols)) for name, text in pairs], value, time)


def _about(data: bytes, places: list[tuple[int, int]], symbols: list[bytes]) -> About:
    """Read what the metadata says; fields of several messages are merged, as protobuf does."""
    told = {1: 0, 3: 0, 4: 0}
    for place in places:
        for number, kind, value, last in fields(data, *place):
            if number in told:
                expect(kind, VARINT, last)
                told[number] = value
    help, unit = (_symbol(told[number], symbols).decode(errors="replace") if told[number] else "" for number in (3, 4))
    return About(TYPES.get(signed32(told[1]), ""), unit, help)
