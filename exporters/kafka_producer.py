"""librdkafka's producer: made when it is first needed, made anew when it must be, and waited for in a worker thread.

Strategy. Between two sends there is no thread of ours and nothing is polled. During one, a worker thread hands a wave of
records to librdkafka, whose own threads do the IO, and sleeps in ``poll`` until each has its delivery report; callbacks
are called there, too. (``flush`` loses reports when an error is fatal, and ``close`` waits without end.) Cancellation
purges what is left; such a producer is thrown away, so that nothing of it is delivered later. So is one that is of no
further use, or whose certificates or password have changed on disk: before a send, or during one that comes to nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import trio

from ebbtide import ConfigError, Fault, file_stamp, files_stamp
from exporters.kafka_answers import BROKEN_OFF, Error, ends_producer
from exporters.kafka_options import KafkaSettings, checked_properties, properties_of
from exporters.kafka_records import Record

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

WAKE_SECONDS = 0.1
"""How often the worker thread looks whether the send was cancelled, while records wait for a broker."""
STUCK_SECONDS = 5.0
"""How long a send comes to nothing before files that have changed since are a reason to begin it anew."""
PURGE_SECONDS = 1.0
"""How long the reports of what is purged are waited for."""

Headers = list[tuple[str, str | bytes | None]]


class Listener(Protocol):
    """Who is told, in the worker thread, what librdkafka has to say beside delivery reports."""

    def error(self, error: Error) -> None:
        """An error of the client as a whole, such as brokers that are away."""

    def log(self, level: int, facility: str, text: str) -> None:
        """A line of its log."""

    def stuck(self, seconds: float) -> None:
        """No record has been acknowledged for so long."""


class _Unreported:
    """The report of a record of which librdkafka said nothing."""

    def name(self) -> str:
        return BROKEN_OFF[0]

    def str(self) -> str:
        return "broken off"

    def fatal(self) -> bool:
        return False


UNREPORTED: Error = _Unreported()


class RecordWriter:
    """Writes waves of records. ``batch_bytes``: the most that goes to a partition at once."""

    def __init__(self, settings: KafkaSettings, listener: Listener):
        self._settings = settings
        self._listener = listener
        self._producer: Producer | None = None
        self._made_of: tuple[object, ...] = ()
        self.batch_bytes = settings.max_message
        self._check()

    def _check(self) -> None:
        """Let librdkafka say what is wrong with the options; without brokers it opens no connection."""
        try:
            _make(checked_properties(self._settings), _Deaf())
        except Fault as fault:
            raise ConfigError(str(fault), "sasl") from None
        except _exception() as error:
            raise ConfigError(f"cannot use the options: librdkafka says: {_said(error)}; correct them") from None

    def write(self, records: Sequence[Record], headers: Headers) -> list[Error | None]:
        """Write records; return the report of each, None where it was taken. Blocks: to be called by ``trio.to_thread``.

        Cancellation shows in the reports. Raises Fault where a file cannot be read.
        """
        producer = self._ready()
        reports: list[Error | None] = [UNREPORTED] * len(records)
        end: Error | None = None
        try:
            for number, record in enumerate(records):
                self._produce(producer, record, headers, _reporter(reports, number))
            if not self._wait(producer, reports):
                end = UNREPORTED
        except trio.Cancelled:
            end = UNREPORTED
        except _exception() as error:  # fatal: librdkafka says so to whoever polls next
            end = error.args[0]
        if end is None and any(report is not None and report.name() == "_FATAL" for report in reports):
            end = _fatal_error(producer)
        if end is not None:
            _purge(producer)
            reports = [
                end if report is not None and report.name() in (*BROKEN_OFF, "_FATAL") else report for report in reports
            ]
        if end is not None or any(map(ends_producer, reports)):
            self.close()
        return reports

    def _wait(self, producer: Producer, reports: list[Error | None]) -> bool:
        """Wait for all reports. False where none comes, and a password or certificate was put right in the meantime."""
        waiting = len(reports)
        progress = look = time.monotonic()
        while len(producer):
            producer.poll(WAKE_SECONDS)
            trio.from_thread.check_cancelled()
            now = time.monotonic()
            if now > look + STUCK_SECONDS:
                left, look = sum(report is UNREPORTED for report in reports), now
                if left < waiting:
                    waiting, progress = left, now
                elif self._ingredients() != self._made_of:
                    return False
                else:
                    self._listener.stuck(now - progress)
        return True

    def _produce(self, producer: Producer, record: Record, headers: Headers, report: _Report) -> None:
        """Hand over one record, as soon as there is room for it."""
        while True:
            try:
                producer.produce(
                    self._settings.topic, bytes(record.value), record.key, headers=headers, on_delivery=report
                )
            except BufferError:
                producer.poll(WAKE_SECONDS)
                trio.from_thread.check_cancelled()
            except _exception() as error:
                report(error.args[0], None)
                return
            else:
                return

    def _ready(self) -> Producer:
        """The producer; a new one where there is none, or what it was made of has changed."""
        ingredients = self._ingredients()
        if self._producer is None or ingredients != self._made_of:
            self.close()
            properties = properties_of(self._settings, self.batch_bytes)
            try:
                self._producer = _make(properties, self._listener)
            except _exception() as error:  # the options were looked at before: it must be a file that has changed
                raise Fault(
                    "tls", f"cannot make a producer: librdkafka says: {_said(error)}; check the files of `tls`"
                ) from None
            self._made_of = ingredients
        return self._producer

    def _ingredients(self) -> tuple[object, ...]:
        """What a producer is made of that may change: the limit, and the files that hold certificates and the password."""
        return self.batch_bytes, *_stamp(self._settings)

    def close(self) -> None:
        """Let go of the producer. Nothing of it is waited for but its threads."""
        self._producer = None


_Report = Callable[["KafkaError | None", "Message | None"], None]


def _reporter(reports: list[Error | None], number: int) -> _Report:
    def report(error: KafkaError | None, _: Message | None) -> None:
        reports[number] = error

    return report


def _fatal_error(producer: Producer) -> Error | None:
    """Return why the producer takes nothing any more: ``produce`` says only that it does not."""
    try:
        producer.poll(0)
    except _exception() as error:
        return error.args[0]  # type: ignore[no-any-return]
    return None


def _purge(producer: Producer) -> None:
    """Give up what is not delivered, and hear the reports of it."""
    producer.purge()
    patience = time.monotonic() + PURGE_SECONDS
    while len(producer) and time.monotonic() < patience:
        with contextlib.suppress(_exception()):  # said a second time
            producer.poll(WAKE_SECONDS)


class _Deaf:
    """Listens to nothing: the options are only looked at."""

    def error(self, error: Error) -> None:
        """Let it pass."""

    def log(self, level: int, facility: str, text: str) -> None:
        """Let it pass."""

    def stuck(self, seconds: float) -> None:
        """Let it pass."""


class _Log:
    """Takes librdkafka's lines in place of a ``logging.Logger``: confluent_kafka calls nothing but ``log``."""

    def __init__(self, listener: Listener):
        self._listener = listener

    def log(self, level: int, form: str, facility: str, client: str, text: str) -> None:
        """Pass a line on."""
        self._listener.log(level, facility, text)


def _make(properties: dict[str, str], listener: Listener) -> Producer:
    from confluent_kafka import Producer

    options: dict[str, Any] = {**properties, "error_cb": listener.error}
    return Producer(options, logger=_Log(listener))


def _exception() -> type[Exception]:
    from confluent_kafka import KafkaException

    return KafkaException


def _said(error: Exception) -> str:
    return str(error.args[0].str()).strip()


def need_library() -> None:
    """Raise ConfigError where librdkafka is not installed."""
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        raise ConfigError(
            "cannot write to Kafka: no library for it is installed; run: pip install 'ebbtide[kafka]'"
        ) from None


def _stamp(settings: KafkaSettings) -> tuple[object, ...]:
    """What changes when a file does that a producer is made of."""
    password_file = settings.sasl and settings.sasl.password_file
    try:
        password = file_stamp(password_file) if password_file else None
    except OSError:
        password = None  # reading it will say what is wrong
    return files_stamp(settings.tls) if settings.tls else (), password
