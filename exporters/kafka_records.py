"""Records for Kafka as they wait in an outbox: framed one behind the other, so that they join, and can be told apart. Sans-IO.

Strategy. What an outbox sends at once is a *bundle* of records. A frame has a head of five numbers, the key and the value;
bundles concatenate. Records of batches that came together hold different series, so their order among themselves means
nothing; the first of them says so in its head. Others must be written in turn where they have the same key. A bundle is
therefore sent in *waves*, in which no key comes from two of these groups: whatever fails in a wave, nothing that should
follow it has overtaken it. Polls are further apart than an outbox lingers, so there is nearly always one wave.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ebbtide import AttributeValue, Payload, Resource

_HEAD = struct.Struct("<?4I")  # first of its group; points, samples, bytes of the key, bytes of the value

SEPARATOR = b"\x1f"
"""Stands between the parts of a key: ASCII's unit separator."""
AROUND = 256
"""Bytes that a record may need beside key and value: its headers, and Kafka's framing of records and batches."""


class Record(NamedTuple):
    """One record: ``points`` that stand for ``samples`` of one resource. ``group`` numbers those of a bundle.

    The value is a part of its bundle, not a copy: ``bytes(value)`` is one.
    """

    group: int
    key: bytes
    value: bytes | memoryview
    points: int
    samples: int

    @property
    def size(self) -> int:
        """Bytes of the record on the wire before compression, at most."""
        return len(self.key) + len(self.value) + AROUND


def head_of(key: bytes, points: int, samples: int, size: int, *, first: bool) -> bytes:
    """Return what stands before a value of ``size`` bytes; ``first``: its record is the first of a group."""
    return _HEAD.pack(first, points, samples, len(key), size) + key


def not_first(head: bytes | memoryview) -> bytes:
    """Return the head of a record that belongs to what stands before it."""
    return b"\0" + bytes(head[1:])


def bundle(records: Iterable[Record], *, first: bool = True) -> bytes:
    """Frame records one behind the other; not ``first``: the first of them belongs to what stands before the bundle."""
    pieces: list[bytes | memoryview] = []
    last = None if first else next(iter(records)).group
    for group, key, value, points, samples in records:
        pieces += (head_of(key, points, samples, len(value), first=group != last), value)
        last = group
    return b"".join(pieces)


def records_of(body: bytes) -> Iterator[Record]:
    """Yield the records of a bundle, in order."""
    view, at, group = memoryview(body), 0, 0
    while at < len(body):
        first, points, samples, key_size, value_size = _HEAD.unpack_from(body, at)
        group += first
        value_at = at + _HEAD.size + key_size
        at = value_at + value_size
        yield Record(group, body[value_at - key_size : value_at], view[value_at:at], points, samples)


def first_value(body: bytes) -> bytes:
    """Return the first bytes of the first value of a bundle: enough to tell its form."""
    key_size = _HEAD.unpack_from(body)[3]
    return body[_HEAD.size + key_size :][:1]


def payload_of(records: list[Record], *, first: bool = True) -> Payload:
    """Return records as one payload; ``first`` as in ``bundle``."""
    points, samples = sum(record.points for record in records), sum(record.samples for record in records)
    return Payload(b"", bundle(records, first=first), points, samples)


def room_for_value(record: Record, max_bytes: int) -> int:
    """Return how large the value of a record with this key may be, so that its frame is no larger than ``max_bytes``."""
    return max(max_bytes - _HEAD.size - len(record.key), 1)


def runs(records: Iterable[Record], max_bytes: int) -> Iterator[list[Record]]:
    """Deal records out, in order, to bundles of at most ``max_bytes``; one that is larger is alone in its bundle."""
    run: list[Record] = []
    used = 0
    for record in records:
        size = _HEAD.size + len(record.key) + len(record.value)
        if run and used + size > max_bytes:
            yield run
            run, used = [], 0
        run.append(record)
        used += size
    if run:
        yield run


def waves(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Deal records out, in order, so that no key of a wave comes from two groups."""
    wave: list[Record] = []
    group_of: dict[bytes, int] = {}
    for record in records:
        if group_of.setdefault(record.key, record.group) != record.group:
            yield wave
            wave, group_of = [], {record.key: record.group}
        wave.append(record)
    if wave:
        yield wave


def key_of(resource: Resource, names: tuple[str, ...] | None) -> bytes:
    """Return the key of a resource's records: the values of the attributes of these names, or of all in order of their names.

    A missing attribute is an empty value, so that the parts keep their places.
    """
    attributes = dict(resource.attributes)
    chosen = attributes if names is None else names
    return SEPARATOR.join(_text(attributes.get(name, "")).encode() for name in chosen)


def _text(value: AttributeValue) -> str:
    """Numbers and truth values as JSON writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
