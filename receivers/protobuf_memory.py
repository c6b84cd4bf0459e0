"""Pages of delimited protobuf one after the other: whose series they are is not read again.

Strategy. A metric begins with its labels, and their bytes stay from page to page. They are cut off unread and looked up,
together with the family's own fields; only the numbers behind them go through protobuf's parser, and where they are one
double, not even that. What is not known, or of another make, is read as ``protobuf_page`` reads it, which alone decides
what a message says.

What is remembered is what the last good page held.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ebbtide import Exemplar, Floats, Ints, NativeHistogram
from receivers.exposition import Kind, Metadata, OnBadLine
from receivers.limits import TooMuch
from receivers.memory import Slots
from receivers.native_page import BadHistogram
from receivers.numbers import NO_TIME
from receivers.protobuf_messages import message_class
from receivers.protobuf_page import (
    SIMPLE,
    BadFamily,
    BadMessage,
    Family,
    Labels,
    Shape,
    Values,
    empty_labels_of,
    family_of,
    identities,
    labels_of,
    messages_of,
    read_varint,
    reason_of,
    values_of,
)
from receivers.text import BadLine, Sample

_METRIC, _LABEL = 0x22, 0x0A  # tags: of a metric in its family, of a label in its metric
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_HEADS: Mapping[Kind, bytes] = {  # of a metric's value that is one double, up to the double
    "gauge": b"\x12\x09\x09",
    "counter": b"\x1a\x09\x09",
    "unknown": b"\x2a\x09\x09",
}
_ONE_DOUBLE = 11  # bytes of such a value
_double = struct.Struct("<d").unpack_from

Learn = Callable[[Sample, tuple[str, ...]], int]
"""Return the slot of a series, of which the labels without value are named besides."""

_New = tuple[Labels, tuple[str, ...]]  # of a metric that is not known: its labels, and the names of the empty ones


@dataclass(frozen=True, slots=True)
class MessagePage:
    """The samples of a page, in its order; ``steady``: the same series in the same order as the page before.

    By row: ``natives``, ``exemplars``, ``created`` (ns), as in ``exposition.Page``. ``metadata`` by family name.
    """

    slots: Slots
    values: Floats
    times: Ints
    steady: bool
    metadata: Mapping[str, Metadata]
    bad_lines: list[tuple[int, str]]
    natives: dict[int, NativeHistogram]
    exemplars: dict[int, tuple[Exemplar, ...]]
    created: dict[int, int]


@dataclass(slots=True)
class _Known:
    """What one page has shown: slots by (family's fields, labels' bytes, shape), and families by their fields."""

    slots: dict[tuple[bytes, bytes, Shape], list[int]] = field(default_factory=dict)
    families: dict[bytes, Family] = field(default_factory=dict)
    order: Slots | None = None  # the slots of its rows


class MessageMemory:
    """The series of a source of protobuf pages. ``learn`` is asked for the slot of one that was not on the last page."""

    def __init__(self, learn: Learn):
        self.learn = learn
        self._last = _Known()

    def read(self, body: bytes, *, on_bad_line: OnBadLine = "refuse", most: int = 0) -> MessagePage:
        """Read a whole page of at most so many samples (0: any number).

        Raises what ``protobuf_page.parse_page`` raises, what ``learn`` raises, and TooMuch; nothing is remembered of the
        page then.
        """
        from google.protobuf.message import DecodeError

        page = _Page(self.learn, self._last)
        for number, message in enumerate(messages_of(body), 1):
            try:
                metrics = page.metrics_of(message)
            except (BadFamily, BadLine, BadHistogram, DecodeError) as bad:
                if on_bad_line == "refuse":
                    raise BadMessage(number, reason_of(bad)) from None
                page.bad_lines.append((number, reason_of(bad)))
            else:
                page.take(*metrics)
        if most and len(page.slots) > most:
            raise TooMuch(f"the page has {len(page.slots)} samples, sample_limit is {most}")
        slots = np.array(page.slots, np.int32)
        last = self._last.order
        steady = last is not None and np.array_equal(slots, last) and page.known.families == self._last.families
        page.known.order = slots
        self._last = page.known
        return MessagePage(
            slots,
            np.array(page.values, np.float64),
            np.array(page.times, np.int64),
            steady,
            {family.name: family.metadata for family in page.known.families.values()},
            page.bad_lines,
            page.natives,
            page.exemplars,
            page.created,
        )


class _Page:
    """One page while it is read."""

    def __init__(self, learn: Learn, last: _Known):
        self._learn, self._last = learn, last
        self.known = _Known()
        self.slots: list[int] = []
        self.values: list[float] = []
        self.times: list[int] = []
        self.bad_lines: list[tuple[int, str]] = []
        self.natives: dict[int, NativeHistogram] = {}
        self.exemplars: dict[int, tuple[Exemplar, ...]] = {}
        self.created: dict[int, int] = {}

    def metrics_of(self, message: bytes) -> tuple[bytes, Family | None, list[tuple[bytes, _New | None, Values]]]:
        """Read a family: (its own fields, what they say, each metric's label bytes, labels if unknown, and numbers)."""
        own, metrics, family = self._cut(message)
        if family is None:
            return own, None, []
        kind, head = family.metadata.kind, _HEADS.get(family.metadata.kind)
        found = []
        for metric in metrics:
            end = labels_end(metric)
            prefix = metric[:end]
            if len(metric) - end == _ONE_DOUBLE and metric[end : end + 3] == head:
                values = Values(SIMPLE, list(_double(metric, end + 3)), None, 0, {})
            else:
                parsed = message_class("Metric").FromString(metric[end:])
                if parsed.label:  # further labels behind the numbers: nobody writes that
                    prefix, parsed = metric, message_class("Metric").FromString(metric)
                values = values_of(kind, parsed)
            new = None
            if (own, prefix, values.shape) not in self._last.slots:
                labelled = message_class("Metric").FromString(prefix)
                new = labels_of(labelled), empty_labels_of(labelled)
                list(identities(family.name, new[0], values.shape))  # raises before anything is learned
            found.append((prefix, new, values))
        return own, family, found

    def _cut(self, message: bytes) -> tuple[bytes, list[bytes], Family | None]:
        """Cut a family, None for one without metrics. Raises what tells that it cannot be read."""
        whole = message_class("MetricFamily")
        try:
            own, metrics = cut_family(message)
        except BadFamily:
            own, metrics = cut_family(_plainly(whole.FromString(message)))
        family = self._last.families.get(own)
        if family is None or not metrics:
            parsed = whole.FromString(own)
            if parsed.metric:  # in an encoding that nobody writes
                own, metrics = cut_family(_plainly(whole.FromString(message)))
            family = family_of(parsed) if metrics else None
        return own, metrics, family

    def take(self, own: bytes, family: Family | None, metrics: list[tuple[bytes, _New | None, Values]]) -> None:
        """Add the rows of a family that is good."""
        if family is None:
            return
        self.known.families[own] = family
        for prefix, new, values in metrics:
            key = own, prefix, values.shape
            slots = self._last.slots.get(key)
            if slots is None:
                labels, empty = new or ((), ())
                named = identities(family.name, labels, values.shape)
                slots = [self._learn(Sample(*one, 0.0, None, 0), empty) for one in named]
            self.known.slots[key] = slots
            first = len(self.slots)
            self.slots += slots
            self.values += values.values
            self.times += [NO_TIME if values.time is None else values.time] * len(slots)
            if values.native is not None:
                self.natives[first] = values.native
            if values.exemplars:
                self.exemplars.update((first + row, found) for row, found in values.exemplars.items())
            if values.start:
                self.created.update(dict.fromkeys(range(first, len(self.slots)), values.start))


def cut_family(message: bytes) -> tuple[bytes, list[bytes]]:
    """Cut a MetricFamily: (its fields without metrics, in order, and each metric). Raises BadFamily."""
    own, metrics, at = [], [], 0
    while at < len(message):
        begin = at
        tag = message[at]
        if tag == _METRIC:
            length, start = _varint(message, at + 1)
            at = start + length
            if at > len(message):
                raise _cut_short()
            metrics.append(message[start:at])
        else:
            at = _past(message, at)
            own.append(message[begin:at])
    return b"".join(own), metrics


def labels_end(metric: bytes) -> int:
    """Return where the labels at the beginning of a Metric end. Raises BadFamily."""
    at, size = 0, len(metric)
    while at < size and metric[at] == _LABEL:
        length = metric[at + 1] if at + 1 < size else 0x80
        if length < 0x80:
            at += 2 + length
        else:
            length, start = _varint(metric, at + 1)
            at = start + length
    if at > size:
        raise _cut_short()
    return at


def _plainly(family: Any) -> bytes:
    """Write a family anew, as every program writes it."""
    family.DiscardUnknownFields()
    return bytes(family.SerializeToString())


def _past(message: bytes, at: int) -> int:
    """Return where a field ends that is none of ours to read."""
    tag, at = _varint(message, at)
    wire_type = tag & 7
    if wire_type == _VARINT:
        at = _varint(message, at)[1]
    elif wire_type == _BYTES:
        length, at = _varint(message, at)
        at += length
    else:
        at += {_FIXED64: 8, _FIXED32: 4}.get(wire_type, len(message) + 1)  # groups: not in protobuf since 2008
    if at > len(message):
        raise _cut_short()
    return at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    if at < len(data) and data[at] < 0x80:
        return data[at], at + 1
    number, end = read_varint(data, at)
    if end < 0:
        raise _cut_short()
    return number, end


def _cut_short() -> BadFamily:
    return BadFamily("it is no MetricFamily in protobuf's encoding")
