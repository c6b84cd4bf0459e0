"""Records for Kafka as they wait in an outbox: framed one behind the other, so that they join, and can be told apart. Sans-IO.

Strategy. What an outbox sends at once is a *bundle* of records. A frame has a head of five numbers, the key and the value;
bundles concatenate. The head of a batch's first record says that it is one: the records of one batch hold different series,
so their order among themselves means nothing, but those of two batches must be written in turn where they have the same
key. A bundle is therefore sent in *waves*, in which no key comes from two batches: whatever fails in a wave, nothing that
should follow it has overtaken it. Polls are further apart than an outbox lingers, so there is nearly always one wave.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ebbtide import AttributeValue, Payload, Resource

_HEAD = struct.Struct("<?4I")  # first of its batch; points, samples, bytes of the key, bytes of the value

SEPARATOR = b"\x1f"
"""Stands between the parts of a key: ASCII's unit separator."""
AROUND = 256
"""Bytes that a record may need beside key and value: its headers, and Kafka's framing of records and batches."""


class Record(NamedTuple):
    """One record: ``points`` that stand for ``samples`` of one resource. ``batch`` numbers the batches of a bundle."""

    batch: int
    key: bytes
    value: bytes
    points: int
    samples: int

    @property
    def size(self) -> int:
        """Bytes of the record on the wire before compression, at most."""
        return len(self.key) + len(self.value) + AROUND


def head_of(key: bytes, points: int, samples: int, size: int, *, first: bool) -> bytes:
    """Return what stands before a value of ``size`` bytes; ``first``: its record is the first of a batch."""
    return _HEAD.pack(first, points, samples, len(key), size) + key


def bundle(records: Iterable[Record]) -> bytes:
    """Frame records one behind the other."""
    pieces: list[bytes] = []
    last = None
    for batch, key, value, points, samples in records:
        pieces += (head_of(key, points, samples, len(value), first=batch != last), value)
        last = batch
    return b"".join(pieces)


def records_of(body: bytes) -> Iterator[Record]:
    """Yield the records of a bundle, in order."""
    at = batch = 0
    while at < len(body):
        first, points, samples, key_size, value_size = _HEAD.unpack_from(body, at)
        batch += first
        value_at = at + _HEAD.size + key_size
        at = value_at + value_size
        yield Record(batch, body[value_at - key_size : value_at], body[value_at:at], points, samples)


def first_value(body: bytes) -> bytes:
    """Return the first bytes of the first value of a bundle: enough to tell its form."""
    key_size = _HEAD.unpack_from(body)[3]
    return body[_HEAD.size + key_size :][:1]


def payload_of(records: list[Record]) -> Payload:
    """Return records as one payload."""
    points, samples = sum(record.points for record in records), sum(record.samples for record in records)
    return Payload(b"", bundle(records), points, samples)


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
    """Deal records out, in order, so that no key of a wave comes from two batches."""
    wave: list[Record] = []
    batch_of: dict[bytes, int] = {}
    for record in records:
        if batch_of.setdefault(record.key, record.batch) != record.batch:
            yield wave
            wave, batch_of = [], {record.key: record.batch}
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
