"""A consumer that shares no line with the producer under test: kafka-python alone, and opentelemetry-proto to decode.

Strategy. Partitions are assigned by hand and read from their beginning to the end that the broker names, so that nothing
depends on consumer groups. kafka-python leaves snappy to a library; what that one is asked for is small and stands below.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.real.judge import Point, points_of
from tests.real.waiting import PATIENCE, until

with warnings.catch_warnings(
    action="ignore", category=DeprecationWarning
):  # of the way in which it reads its own files
    import kafka.codec
    from kafka import KafkaConsumer, TopicPartition
    from kafka.partitioner.default import murmur2

PROTOBUF, JSON = "application/x-protobuf", "application/json"


@dataclass(frozen=True)
class Record:
    """One record as it lies on the broker. ``time`` is the record's own, in ms; ``headers`` in order."""

    partition: int
    offset: int
    time: int
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value: bytes

    @property
    def content_type(self) -> str:
        (found,) = (value for name, value in self.headers if name == "content-type")
        return found.decode()

    @property
    def request(self) -> ExportMetricsServiceRequest:
        """The value, decoded as the header says."""
        request = ExportMetricsServiceRequest()
        if self.content_type == JSON:
            Parse(self.value, request)
        else:
            assert self.content_type == PROTOBUF, self.headers
            request.ParseFromString(self.value)
        return request

    @cached_property
    def points(self) -> list[Point]:
        return list(points_of(self.request))


def read_topic(address: str, topic: str) -> list[Record]:
    """Every record that a topic holds now, by partition and offset; none where there is no such topic."""
    with _Consumer(address, topic) as consumer:
        return consumer.to_the_end()


def points_in(records: Iterable[Record]) -> list[Point]:
    """Every point, in the order in which a consumer of each partition finds it."""
    return [point for record in records for point in record.points]


def java_partition(key: bytes, partitions: int) -> int:
    """The partition that Java's clients choose for a key (``Utils.toPositive(Utils.murmur2(key)) % partitions``)."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class Follower:
    """Reads a topic in a thread of its own while it is written; ``records`` in order of arrival."""

    def __init__(self, address: str, topic: str):
        self.records: list[Record] = []
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self._consumer = _Consumer(address, topic)
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self) -> None:
        try:
            with self._consumer as consumer:
                while not self._stopping.is_set():
                    self.records.extend(consumer.some())
        except BaseException as error:  # noqa: BLE001 - told to the test's thread, which raises it
            self.failure = error

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        if self.failure is not None:
            raise self.failure


class _Consumer:
    def __init__(self, address: str, topic: str):
        self._consumer = KafkaConsumer(
            bootstrap_servers=[address], enable_auto_commit=False, allow_auto_create_topics=False, metrics_enabled=False,
            fetch_max_wait_ms=50, fetch_max_bytes=64 << 20, max_partition_fetch_bytes=16 << 20, max_poll_records=10_000,
        )  # fmt: skip
        self._partitions = [TopicPartition(topic, one) for one in sorted(self._partitions_of(topic))]
        self._consumer.assign(self._partitions)
        if self._partitions:
            self._consumer.seek_to_beginning(*self._partitions)

    def _partitions_of(self, topic: str) -> set[int]:
        if topic not in self._consumer.topics():
            return set()
        found: set[int] = until(lambda: self._consumer.partitions_for_topic(topic) or set(), f"partitions of {topic}")
        return found

    def to_the_end(self) -> list[Record]:
        ends = self._consumer.end_offsets(self._partitions) if self._partitions else {}
        records: list[Record] = []

        def whole() -> bool:
            left = [one for one, end in ends.items() if self._consumer.position(one) < end]
            if left:
                records.extend(self.some())
            return not left

        until(whole, f"everything up to {ends} is read", pause=0.0)
        return sorted(records, key=lambda record: (record.partition, record.offset))

    def some(self) -> Iterator[Record]:
        for batch in self._consumer.poll(timeout_ms=100).values():
            for one in batch:
                yield Record(one.partition, one.offset, one.timestamp, one.key, tuple(one.headers), one.value)

    def __enter__(self) -> _Consumer:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close(autocommit=False)


# -- snappy --------------------------------------------------------------------------------------------------------------


def unsnap(data: bytes) -> bytes:
    """Decompress snappy's raw format (google/snappy, ``format_description.txt``)."""
    length, at = _varint(data)
    out = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        kind, size = tag & 3, tag >> 2
        if kind == 0:  # a literal; above 59 its length stands in the next one to four bytes
            extra = max(size - 59, 0)
            size = int.from_bytes(data[at : at + extra], "little") if extra else size
            at += extra
            out += data[at : at + size + 1]
            at += size + 1
            continue
        width = (0, 1, 2, 4)[kind]
        back = int.from_bytes(data[at : at + width], "little")
        at += width
        if kind == 1:
            back, size = (tag >> 5) << 8 | back, (size & 7) + 3
        _copy(out, back, size + 1)
    assert len(out) == length, "snappy: a wrong length"
    return bytes(out)


def _varint(data: bytes) -> tuple[int, int]:
    value = at = 0
    while True:
        value |= (data[at] & 0x7F) << 7 * at
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def _copy(out: bytearray, back: int, size: int) -> None:
    """Append ``size`` bytes from ``back`` bytes before the end; what is appended may be repeated."""
    for _ in range(size):
        out.append(out[-back])


def _offer_snappy() -> Any:
    if kafka.codec.snappy is None:
        kafka.codec.snappy = SimpleNamespace(decompress=lambda data: unsnap(bytes(data)))
    return kafka.codec.snappy


_offer_snappy()
