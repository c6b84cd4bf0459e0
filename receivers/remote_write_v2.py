"""Remote write 2.0: ``io.prometheus.write.v2.Request`` from bytes to columns. Sans-IO.

Source: prometheus/prometheus, prompb/io/prometheus/write/v2/types.proto; the specification "Prometheus Remote-Write 2.0".

Strategy. Labels are references into a table of symbols that is made anew for each request, so their bytes say nothing from
one request to the next. Here each symbol has a number for good; the references of all series are decoded and translated at
once by numpy, and the translated references are a series' key. Its sample is read as in 1.0, from the end of the message.
Of what is not known a sibling may be (``remote_write_siblings``); all else, and what is of an unusual make, is read field by
field.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ebbtide import Exemplar, Floats, Ints
from receivers.memory import Slots
from receivers.remote_write_labels import TYPES, About, BadLabels, Learn, series_of
from receivers.remote_write_samples import FORMS, Decoded, Gathering, Index, Words, read_samples
from receivers.remote_write_siblings import NumberSiblings
from receivers.remote_write_v1 import make_exemplar, read_histograms, take_histograms
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
_LEAST = 8  # bytes of a usual message

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


@dataclass(slots=True)
class _Open:
    """A request that is being read."""

    data: bytes
    symbols: list[bytes]
    siblings: NumberSiblings
    found: Gathering = field(default_factory=Gathering)
    abouts: dict[bytes, About] = field(default_factory=dict)  # by the metadata's bytes

    def about(self, places: list[tuple[int, int]]) -> About:
        """Read what metadata say that lie there."""
        text = b"".join([self.data[begin:end] for begin, end in places])  # which is one message: protobuf merges them
        about = self.abouts.get(text)
        if about is None:
            about = self.abouts[text] = _about(text, self.symbols)
        return about


class ReaderV2:
    """Reads requests. ``learn`` numbers series that are new to it; what it remembers of them is ``known``."""

    def __init__(self, learn: Learn):
        self._learn = learn
        self._symbols: list[bytes] = []  # by their number for good
        self._numbers: dict[bytes, int] = {}
        self.known: dict[bytes, int] = {}  # slots by the symbols' numbers and the type

    def read(self, data: bytes) -> Decoded:
        """Return all that a request holds. Raises Malformed where it is none."""
        if len(self._numbers) > MOST_SYMBOLS:
            self._symbols, self._numbers, self.known = [], {}, {}
        words = np.frombuffer(data, np.uint8)
        symbols, begins, ends = _walk(data)
        usual, unusual = _tell_usual(words, begins, ends)
        request = _Open(data, symbols, NumberSiblings(self._four_bytes, self._symbol))
        for row in unusual.tolist():
            self._series(request, int(begins[row]), int(ends[row]))
        return request.found.decoded(*self._at_once(request, words, usual))

    def forget(self, slots: frozenset[int]) -> None:
        """Forget the series of these slots."""
        self.known = {key: slot for key, slot in self.known.items() if slot not in slots}

    def _at_once(self, request: _Open, words: Words, usual: _Usual) -> tuple[Index, Slots, Floats, Ints, Ints]:
        """Read the usual messages, and where they end; those that only look like it with care."""
        keys = self._keys(words, usual, request.symbols)
        known = self.known.get
        slots = np.fromiter((known(key, -1) for key in keys), np.int32, len(keys))
        forms = usual.metadata - usual.sample - 2
        for row in np.flatnonzero(slots < 0).tolist():
            slots[row] = self._newcomer(request, usual, row, keys[row], int(forms[row]))
        rows = np.flatnonzero(slots >= 0)
        values, times, starts = np.zeros(len(keys)), np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        good = np.zeros(len(keys), np.bool_)
        for form in FORMS:
            of_form = rows[forms[rows] == form]
            if len(of_form):
                columns = read_samples(words, usual.metadata[of_form], form)
                values[of_form], times[of_form], starts[of_form], good[of_form] = columns
        for row in rows[~good[rows]].tolist():
            self._series(request, int(usual.begin[row]), int(usual.end[row]))
        if good.all():
            return usual.end, slots, values, times, starts
        return usual.end[good], slots[good], values[good], times[good], starts[good]

    def _newcomer(self, request: _Open, usual: _Usual, row: int, key: bytes, form: int) -> int:
        """Return the slot of a new series whose sample may be read with the others; else read all of it, and return -1."""
        sibling = request.siblings.find(key[:-1]) if form in FORMS else None
        if sibling is None:
            slot = self._series(request, int(usual.begin[row]), int(usual.end[row]), key[:-1])
            if slot is not None:
                self.known[key] = slot
            return -1
        metadata, end = int(usual.metadata[row]), int(usual.end[row])
        about = request.about([(metadata + 2, end)] if metadata < end else [])
        slot = self.known[key] = self._learn(*sibling, False, about)
        return slot

    def _keys(self, words: Words, usual: _Usual, symbols: list[bytes]) -> list[bytes]:
        """Return each message's key: the numbers of its labels' symbols, then its type."""
        numbers, counts = _read_refs(words, usual)
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
            table[ref] = self._number(symbol) if number is None else number
        return table[refs]

    def _number(self, symbol: bytes) -> int:
        number = self._numbers.setdefault(symbol, len(self._symbols))
        if number == len(self._symbols):
            self._symbols.append(symbol)
        return number

    def _four_bytes(self, symbol: bytes) -> bytes:
        """Return a symbol's number as it stands in keys."""
        return self._number(symbol).to_bytes(4, sys.byteorder)

    def _symbol(self, number: bytes) -> bytes:
        """Return the symbol of such a number."""
        return self._symbols[int.from_bytes(number, sys.byteorder)]

    def _series(self, request: _Open, begin: int, end: int, key: bytes = b"") -> int | None:
        """Read one TimeSeries field by field; return the slot of its samples, None where it has none.

        ``key``: the numbers of all its labels' symbols, where that is known.
        """
        data, symbols, found = request.data, request.symbols, request.found
        refs: list[int] = []
        places: dict[int, list[tuple[int, int]]] = {2: [], 3: [], 4: [], 5: []}
        for number, kind, first, last in fields(data, begin, end):
            if number == 1:
                refs += varints(data, kind, first, last)
            elif number in places:
                expect(kind, BYTES, first)
                places[number].append((first, last))
        samples = [_sample(data, *place) for place in places[2]]
        points, wrong = read_histograms(data, places[3])
        exemplars = [_exemplar(data, *place, symbols) for place in places[4]]
        about = request.about(places[5])
        try:
            name, flat = series_of(_resolve(refs, symbols))
        except BadLabels as error:
            found.refuse(len(samples) + len(places[3]), str(error))
            return None
        if wrong:
            found.refuse(len(places[3]) - len(points), f"{name[:80]!r}: {wrong}")
        slot = None
        if samples or (exemplars and not points):
            slot = self._learn(*request.siblings.keep(key, name, flat), False, about)
            for value, time, start in samples:
                found.add(end, slot, value, time, start)
            found.exemplars += [(slot, exemplar) for exemplar in exemplars]
        if points:
            native = self._learn(name, flat, (), True, about)
            take_histograms(found, end, native, points)
            if slot is None:
                found.exemplars += [(native, exemplar) for exemplar in exemplars]
        return slot


Refs = npt.NDArray[np.int64]

_BYTE = [bytes((number,)) for number in range(256)]


def _walk(data: bytes) -> tuple[list[bytes], Index, Index]:
    """Find all messages; return the symbols, and where series' begin and end."""
    symbols: list[bytes] = []
    begins: list[int] = []
    ends: list[int] = []
    position, stop = 0, len(data)
    while position < stop:
        tag = data[position]
        if tag not in (_TIMESERIES_TAG, _SYMBOLS_TAG):
            position = _other(data, position, stop)
            continue
        begin = position + 2
        if begin <= stop and data[position + 1] < _SMALL:
            position = begin + data[position + 1]
        elif begin < stop and data[begin] < _SMALL:  # a length of two bytes
            begin += 1
            position = begin + (data[begin - 2] & 0x7F | data[begin - 1] << 7)
        else:
            length, begin = read_varint(data, position + 1, stop)
            position = begin + length
        if position > stop:
            raise Malformed(
                f"a field breaks off at byte {begin}: {position - begin} bytes announced, {stop - begin} left"
            )
        if tag == _SYMBOLS_TAG:
            symbols.append(data[begin:position])
        else:
            begins.append(begin)
            ends.append(position)
    return symbols, np.array(begins, np.intp), np.array(ends, np.intp)


def _other(data: bytes, position: int, stop: int) -> int:
    """Pass over one field of the request that is unknown; return where it ends."""
    number, kind, begin, end = next(fields(data, position, stop))
    if number in (_SYMBOLS, _TIMESERIES):
        expect(kind, BYTES, begin)
        raise Malformed(f"a field's tag is written in too many bytes at byte {position}")
    if number in (1, 2, 3):
        raise Malformed(f"it has field {number}, which is of version 1.0; see the Content-Type that it came with")
    return end


def _tell_usual(words: Words, begins: Index, ends: Index) -> tuple[_Usual, Index]:
    """Find the messages of labels, one sample, metadata or none, and nothing else; return the rows of all others, too."""
    rows = np.flatnonzero(ends - begins >= _LEAST)  # what is looked at below lies within them
    begin, end = begins[rows], ends[rows]
    length, second = words[begin + 1].astype(np.intp), words[begin + 2].astype(np.intp)
    long = length >= _SMALL
    refs = begin + 2 + long
    sample = refs + np.where(long, length & 0x7F | second << 7, length)
    usual = (words[begin] == _LABELS_TAG) & ~(long & (second >= _SMALL)) & (sample + 1 < end)
    sample = np.where(usual, sample, begin)
    usual &= words[sample] == _SAMPLE_TAG
    metadata = sample + 2 + words[sample + 1]
    told = usual & (metadata + 1 < end)
    at = np.where(told, metadata, begin)
    told &= (words[at] == _METADATA_TAG) & (words[at + 1] == end - at - 2) & (words[at + 1] < _SMALL)
    usual &= told | (metadata == end)
    found = _Usual(*(column[usual] for column in (begin, refs, sample, metadata, end)))
    others = np.ones(len(begins), np.bool_)
    others[rows[usual]] = False
    return found, np.flatnonzero(others)


def _read_refs(words: Words, usual: _Usual) -> tuple[Refs, Index]:
    """Decode packed references, all at once; return them, and how many each message has. Raises Malformed."""
    lengths = usual.sample - usual.refs
    ends = np.cumsum(lengths)
    text = words[_within(usual.refs, usual.sample, len(words))]
    last = text < _SMALL
    if not last[ends[lengths > 0] - 1].all():
        raise Malformed("a label's reference breaks off")
    stops = np.flatnonzero(last)
    sizes = np.diff(stops, prepend=-1)
    longest = int(sizes.max()) if len(sizes) else 0
    if longest > _MOST_REF_BYTES:
        raise Malformed("a label's reference has too many bytes")
    refs = text.take(stops).astype(np.int64)
    for back in range(1, longest):
        longer = np.flatnonzero(sizes > back)
        refs[longer] = refs[longer] << 7 | text[stops[longer] - back] & 0x7F
    return refs, np.diff(np.searchsorted(stops, ends), prepend=0)


def _within(begins: Index, ends: Index, size: int) -> npt.NDArray[np.bool_]:
    """Tell which of so many places lie within these stretches, which follow one another."""
    edges = np.concatenate(([0], np.column_stack((begins, ends)).ravel(), [size]))
    inside = np.zeros(len(edges) - 1, np.bool_)
    inside[1::2] = True
    return np.repeat(inside, np.diff(edges))


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


def _about(text: bytes, symbols: list[bytes]) -> About:
    """Read what a series' metadata say."""
    told = {1: 0, 3: 0, 4: 0}
    for number, kind, value, last in fields(text, 0, len(text)):
        if number in told:
            expect(kind, VARINT, last)
            told[number] = value
    help, unit = (_symbol(told[number], symbols).decode(errors="replace") if told[number] else "" for number in (3, 4))
    return About(TYPES.get(signed32(told[1]), ""), unit, help)
