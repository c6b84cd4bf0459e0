"""A Kafka cluster within the process: librdkafka's own mock, which fails by order.

Strategy. The library inside the client's wheel carries a mock cluster for its own tests (rdkafka_mock.h). Its functions
are exported without a promise that they stay as they are, so ctypes calls them here and nowhere else, on the very library
that the client has loaded. The cluster hangs on a client handle that serves nothing but it; one thread plays all brokers,
on ports of 127.0.0.1.

What it cannot do needs a real broker: it checks no sequence numbers (so it cannot tell whether a record was written
twice), keeps 5 MB per partition, creates any topic it is asked for (``refuse`` makes one unknown), knows neither TLS nor
SASL, and answers librdkafka alone.

A new idempotent producer waits 500 ms for its producer id before it sends anything: a test that needs none says
``enable.idempotence=false``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import files
from time import monotonic, sleep
from typing import Any, Final, Self, cast

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

PRODUCE: Final = 0
METADATA: Final = 3
INIT_PRODUCER_ID: Final = 22
"""Kinds of request by their numbers ("API keys", kafka.apache.org/protocol)."""

EVERY_BROKER: Final = -1
PATIENCE = 10.0
"""Seconds within which a topic must be read to its end."""

BREATH = 0.001
"""Seconds between two orders: one that comes while the cluster's thread still ends the last is not seen for a second."""

_PRODUCER = 0  # of rd_kafka_type_t
_TEXT = 512  # bytes that librdkafka asks for an error's text


@dataclass(frozen=True, slots=True)
class Record:
    """One record as a consumer read it; ``headers`` in their order."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class MockCluster:
    """A cluster of ``brokers``, numbered from 1, for as long as the context is open.

    What is to fail is said by Kafka's error codes, the constants of ``confluent_kafka.KafkaError``.
    """

    def __init__(self, brokers: int = 1):
        self._size = brokers
        self._handle: int | None = None
        self._cluster: int | None = None

    def __enter__(self) -> Self:
        text = ctypes.create_string_buffer(_TEXT)
        configuration = _call("conf_new")
        _call("conf_set_log_cb", configuration, None)  # it would write to stderr
        self._handle = _call("new", _PRODUCER, configuration, text, len(text))
        if not self._handle:
            _call("conf_destroy", configuration)
            raise RuntimeError(f"cannot start a mock cluster: {text.value.decode()}")
        self._cluster = _call("mock_cluster_new", self._handle, self._size)
        if not self._cluster:
            self.__exit__()
            raise RuntimeError(f"cannot start a mock cluster of {self._size} brokers")
        _call("mock_start_request_tracking", self._cluster)
        return self

    def __exit__(self, *_: object) -> None:
        cluster, handle, self._cluster, self._handle = self._cluster, self._handle, None, None
        if cluster:
            _call("mock_cluster_destroy", cluster)
        if handle:
            _call("destroy", handle)

    @property
    def brokers(self) -> list[str]:
        """The addresses, as ``host:port``."""
        addresses: bytes = _call("mock_cluster_bootstraps", self._open)
        return addresses.decode().split(",")

    @property
    def bootstrap(self) -> str:
        """The addresses as ``bootstrap.servers`` wants them."""
        return ",".join(self.brokers)

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create a topic. Raises KafkaException where there is one of that name."""
        self._order("mock_topic_create", topic.encode(), partitions, 1)

    def refuse(self, topic: str, code: int) -> None:
        """Answer for this topic by this error whenever it is looked up, until ``refuse(topic, KafkaError.NO_ERROR)``.

        The topic comes into being if it is not there.
        """
        _call("mock_topic_set_error", self._open, topic.encode(), code)

    def fail(self, request: int, *codes: int) -> None:
        """Answer the next requests of this kind by these errors, one each; ``_TRANSPORT`` cuts the connection instead."""
        array = (ctypes.c_int * len(codes))(*codes)
        _call("mock_push_request_errors_array", self._open, request, len(codes), array)

    def forgive(self, request: int) -> None:
        """Forget what ``fail`` has left for this kind of request."""
        _call("mock_clear_request_errors", self._open, request)

    def down(self, broker: int = EVERY_BROKER) -> None:
        """Cut the connections of a broker and refuse new ones; what it holds stays."""
        self._order("mock_broker_set_down", broker)

    def up(self, broker: int = EVERY_BROKER) -> None:
        """Take connections again."""
        self._order("mock_broker_set_up", broker)

    def delay(self, seconds: float, broker: int = EVERY_BROKER) -> None:
        """Hold back each answer of a broker for so long; what is asked is done at once."""
        self._order("mock_broker_set_rtt", broker, round(seconds * 1000))

    def requests(self, request: int) -> int:
        """Count the requests of this kind that have come in since the start."""
        count = ctypes.c_size_t()
        array = _call("mock_get_requests", self._open, ctypes.byref(count))
        try:
            return sum(_call("mock_request_api_key", one) == request for one in array[: count.value])
        finally:
            _call("mock_request_destroy_array", array, count.value)

    def read(self, topic: str) -> list[Record]:
        """Read a topic from its beginning to its end: partition after partition, each in order.

        Raises KafkaException where a part cannot be read, TimeoutError where it takes longer than ``PATIENCE``.
        """
        options = {"bootstrap.servers": self.bootstrap, "group.id": "reader", "enable.partition.eof": True}
        consumer = Consumer({**options, "enable.auto.commit": False, "fetch.wait.max.ms": 10})
        try:
            partitions = sorted(consumer.list_topics(topic, PATIENCE).topics[topic].partitions)
            consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
            return sorted(_read_to_the_end(consumer, len(partitions)), key=lambda record: record.partition)
        finally:
            consumer.close()

    def _order(self, name: str, *arguments: Any) -> None:
        """Let the cluster's own thread do something. Raises KafkaException where it cannot."""
        sleep(BREATH)
        code = _call(name, self._open, *arguments)
        if code:
            raise KafkaException(KafkaError(code))

    @property
    def _open(self) -> int:
        if self._cluster is None:
            raise RuntimeError("cannot use a mock cluster that is not open: enter its context first")
        return self._cluster


def _read_to_the_end(consumer: Consumer, partitions: int) -> Iterator[Record]:
    """Yield what comes until every partition has said that it is at its end."""
    deadline = monotonic() + PATIENCE
    while partitions:
        message = consumer.poll(max(0.0, deadline - monotonic()))
        if message is None:
            raise TimeoutError(f"cannot read the topic to its end within {PATIENCE:g} s")
        error = message.error()
        if error is None:
            yield _record(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            partitions -= 1
        else:
            raise KafkaException(error)


def _record(message: Message) -> Record:
    partition, key, value = message.partition(), message.key(), message.value()
    assert partition is not None
    headers = cast(Iterable[tuple[str, bytes | None]], message.headers() or ())
    return Record(partition, key, value, tuple(headers))


_pointer, _text, _size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
_broker, _kind = ctypes.c_int32, ctypes.c_int16
_list = ctypes.POINTER(_pointer)
_FORMS: dict[str, tuple[Any, list[Any]]] = {
    "conf_new": (_pointer, []),
    "conf_destroy": (None, [_pointer]),
    "conf_set_log_cb": (None, [_pointer, _pointer]),
    "new": (_pointer, [ctypes.c_int, _pointer, _text, _size]),
    "destroy": (None, [_pointer]),
    "mock_cluster_new": (_pointer, [_pointer, ctypes.c_int]),
    "mock_cluster_destroy": (None, [_pointer]),
    "mock_cluster_bootstraps": (_text, [_pointer]),
    "mock_topic_create": (ctypes.c_int, [_pointer, _text, ctypes.c_int, ctypes.c_int]),
    "mock_topic_set_error": (None, [_pointer, _text, ctypes.c_int]),
    "mock_push_request_errors_array": (None, [_pointer, _kind, _size, ctypes.POINTER(ctypes.c_int)]),
    "mock_clear_request_errors": (None, [_pointer, _kind]),
    "mock_broker_set_down": (ctypes.c_int, [_pointer, _broker]),
    "mock_broker_set_up": (ctypes.c_int, [_pointer, _broker]),
    "mock_broker_set_rtt": (ctypes.c_int, [_pointer, _broker, ctypes.c_int]),
    "mock_start_request_tracking": (None, [_pointer]),
    "mock_get_requests": (_list, [_pointer, ctypes.POINTER(_size)]),
    "mock_request_api_key": (_kind, [_pointer]),
    "mock_request_destroy_array": (None, [_list, _size]),
}
"""Result and arguments of what is called, by the names of rdkafka.h and rdkafka_mock.h without ``rd_kafka_``."""


@cache
def _library() -> ctypes.CDLL:
    """The library that confluent_kafka itself runs on."""
    inside = [file for file in files("confluent-kafka") or () if file.match("librdkafka*.so*")]
    if len(inside) != 1:
        raise RuntimeError(
            f"cannot find librdkafka in confluent-kafka {confluent_kafka.__version__}: install its wheel, which has it inside"
        )
    library = ctypes.CDLL(str(inside[0].locate()))
    for name, (result, arguments) in _FORMS.items():
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def _call(name: str, *arguments: Any) -> Any:
    return getattr(_library(), f"rd_kafka_{name}")(*arguments)
