"""The exporter "kafka": one OTLP request per record, one record per resource, written once and in order.

Strategy. The template's segments are the records' values: what the exporter "otlp" sends joined is cut apart here, and no
byte is encoded twice. A segment is laid out to fit a record when the template is made; only JSON, and a limit learned
later, cut what is encoded. What waits is framed (``kafka_records``), written by librdkafka (``kafka_producer``), judged
(``kafka_answers``). A record counts as sent when its delivery report says so, never before.

Limits. A record is never larger than `max_message`. The brokers may take less (a topic's ``max.message.bytes``, of a whole
batch): their refusal halves what is sent at once, until it is taken or a refused record is a single point.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import trio

from ebbtide import (
    USER_AGENT,
    Batch,
    Context,
    Exporter,
    Fault,
    FoldedLog,
    Owner,
    Partly,
    Payload,
    Resource,
    Retry,
    SeriesTable,
    traceparent,
)
from exporters.kafka_answers import BROKEN_OFF, Error, judge, sentence, steady
from exporters.kafka_options import KafkaSettings
from exporters.kafka_producer import Headers, RecordWriter, need_library
from exporters.kafka_records import (
    AROUND,
    Record,
    first_value,
    head_of,
    key_of,
    not_first,
    payload_of,
    records_of,
    room_for_value,
    runs,
    waves,
)
from exporters.otlp_forms import Form, JsonForm, ProtobufForm
from exporters.otlp_template import Division, Encoded, Segment, encode, template_of
from exporters.wire import first_metric

CLOSE_SECONDS = 1.0
"""How long letting go of the brokers may take."""
SILENT_SECONDS = 30.0
"""How long nothing is acknowledged before it is said, where the brokers do not say why."""
_SAID_AS_ERRORS = ("FAIL", "ERROR")  # facilities of librdkafka's log whose lines come as errors, too


@dataclass(slots=True)
class _Outcome:
    """What became of the records of one send, wave by wave."""

    taken: int = 0
    rest: list[Record] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    refused_points: int = 0
    too_large: int = 0  # bytes that the brokers did not take at once
    later: str = ""  # why some of the rest was not taken

    def refuse(self, record: Record, reason: str) -> None:
        """The record will never be taken."""
        self.refused[reason] += record.samples
        self.refused_points += record.points


class Kafka(Exporter[KafkaSettings]):
    """Writes points to a topic of Apache Kafka."""

    Settings = KafkaSettings

    def __init__(self, settings: KafkaSettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        need_library()
        self._form: Form = JsonForm() if self.settings.encoding == "otlp_json" else ProtobufForm()
        self._together: object = None  # of the last batch that was encoded
        self._names = None if self.settings.key is None else tuple(self.settings.key)
        self._keys = Owner.of("kafka key", self._names)
        self._log = FoldedLog(self.context.log, component=f"exporters.{self.context.id}")
        self._thread = trio.CapacityLimiter(1)
        self._listener = _Listener(self.context.id, self.settings.topic, self._log)
        self._writer = RecordWriter(self.settings, self._listener)
        self._obey(self.settings.max_message)

    def _obey(self, limit: int) -> None:
        """From now on no batch of records is larger than ``limit`` bytes, but for single points."""
        self._writer.batch_bytes = limit
        self._heads = Owner.of("kafka heads", self._names, limit)
        self._division = Division(Owner.of("kafka division", self._names, limit), self._room)

    @property
    def _limit(self) -> int:
        return self._writer.batch_bytes

    def _room(self, resource: Resource) -> int:
        return max(self._limit - AROUND - len(self._key(resource)), 1)

    def _key(self, resource: Resource) -> bytes:
        return resource.derive(self._keys, lambda resource: key_of(resource, self._names))

    # -- before the queue ------------------------------------------------------------------------------------------

    def encode(self, batch: Batch) -> Iterable[Payload]:
        """Encode as a bundle of records. What is too large for a record, and cannot be cut, is dropped and named."""
        encoded = encode(batch, self._division if isinstance(self._form, ProtobufForm) else None)
        if encoded.incomplete:
            self.counts.dropped["incomplete"] += encoded.incomplete
        first = batch.together is None or batch.together is not self._together
        payload = self._framed(batch, encoded, first) or self._cut_to_fit(encoded, first)
        if payload is not None:
            self._together = batch.together
            yield payload

    def _framed(self, batch: Batch, encoded: Encoded, first: bool) -> Payload | None:
        """Frame segments as they are, by heads that are remembered with the table; None where there is more to do."""
        if not encoded.points or not isinstance(self._form, ProtobufForm):
            return None
        segments, heads = batch.table.derive(self._heads, self._heads_of)
        if segments is not encoded.segments or not heads:
            return None
        body = memoryview(encoded.body)
        values = (body[one.start : one.end] for one in segments)
        pieces: Iterable[bytes | memoryview] = chain.from_iterable(zip(heads, values, strict=True))
        start = [] if first else [not_first(next(iter(pieces)))]
        return Payload(b"", b"".join(chain(start, pieces)), encoded.points, encoded.samples)

    def _cut_to_fit(self, encoded: Encoded, first: bool) -> Payload | None:
        """Frame segments in the form in which they are sent, in pieces that may be sent."""
        outcome, records = _Outcome(), list[Record]()
        for one in encoded.segments:
            value = self._form.make(encoded.body[one.start : one.end])
            records += self._fitting(Record(1, self._key(one.resource), value, one.points, one.samples), outcome)
        self.counts.dropped.update(outcome.refused)
        return payload_of(records, first=first) if records else None

    def _heads_of(self, table: SeriesTable) -> tuple[list[Segment], list[bytes]]:
        """Return the segments of the table's template and the heads of their records; no heads where one is too large."""
        segments = template_of(table, self._division).segments
        sizes = [(one, self._key(one.resource), one.end - one.start) for one in segments]
        if any(len(key) + size + AROUND > self._limit for _, key, size in sizes):
            return segments, []
        heads = [head_of(key, one.points, one.samples, size, first=one is segments[0]) for one, key, size in sizes]
        return segments, heads

    def seal(self, body: bytes) -> bytes:
        """Return the bundle: librdkafka compresses. After a reload under another `encoding` its values are brought into ours."""
        if (first_value(body) == b"{") == isinstance(self._form, JsonForm):
            return body
        adopted = [record._replace(value=self._form.adopt(bytes(record.value))) for record in records_of(body)]
        return payload_of(adopted).body

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut between records, and where one is larger than ``max_bytes``, by metric and by point."""
        records = records_of(payload.body)
        pieces = (piece for record in records for piece in self._cut(record, room_for_value(record, max_bytes)))
        return [payload_of(run) for run in runs(pieces, max_bytes)]

    def _fitting(self, record: Record, outcome: _Outcome) -> Iterator[Record]:
        """Yield the record in pieces that may be sent; a point larger than `max_message` is refused."""
        if record.size <= self._limit:
            yield record
            return
        for piece in self._cut(record, self._limit - AROUND - len(record.key)):
            if piece.size <= self.settings.max_message:
                yield piece
            else:
                self._drop_too_large(piece, outcome, "`max_message` allows")

    def _cut(self, record: Record, room: int) -> list[Record]:
        if len(record.value) <= room or record.points == 1:
            return [record]
        pieces = self._form.cut(Payload(record.key, bytes(record.value), record.points, record.samples), max(room, 1))
        return [Record(record.group, record.key, one.body, one.points, one.samples) for one in pieces]

    def _drop_too_large(self, record: Record, outcome: _Outcome, than: str) -> None:
        outcome.refuse(record, "too_large")
        self._log(
            logging.ERROR, "too_large", "exporter %s: one point of %s makes a record of %d bytes, larger than %s; dropped",
            self.context.id, first_metric(ProtobufForm().adopt(bytes(record.value))), record.size, than,
        )  # fmt: skip

    # -- behind the queue ------------------------------------------------------------------------------------------

    async def send(self, payload: Payload) -> None:
        """Write a bundle, and return once all of it is acknowledged; else raise what became of it."""
        self._listener.token = trio.lowlevel.current_trio_token()
        outcome = _Outcome()
        fitting = [piece for record in records_of(payload.body) for piece in self._fitting(record, outcome)]
        await self._write(deque(waves(fitting)), outcome)
        self._learn(outcome)
        if not outcome.rest:
            self._listener.well()
            if not outcome.refused:
                return
        retry = Retry(None, outcome.later) if outcome.later else None
        if not (outcome.taken or outcome.refused or outcome.too_large):
            await trio.lowlevel.checkpoint_if_cancelled()
            raise retry or Retry(None, "the brokers did not answer in time")
        rest = payload_of(outcome.rest) if outcome.rest else None
        raise Partly(rest, refused=outcome.refused, refused_points=outcome.refused_points, retry=retry)

    async def _write(self, waiting: deque[list[Record]], outcome: _Outcome) -> None:
        """Write wave by wave, until one is not taken whole or the send is cancelled; what is left is the outcome's rest."""
        headers = self._headers()
        try:
            while waiting and not outcome.rest:
                wave = waiting[0]
                reports = await trio.to_thread.run_sync(self._writer.write, wave, headers, limiter=self._thread)
                waiting.popleft()
                for record, report in zip(wave, reports, strict=True):
                    self._settle(record, report, outcome)
        except Fault as fault:
            outcome.later = str(fault)
        except trio.Cancelled:
            if not outcome.taken:
                raise
        outcome.rest += chain.from_iterable(waiting)

    def _headers(self) -> Headers:
        traced = traceparent()
        headers: Headers = [("content-type", self._form.content_type), ("user-agent", USER_AGENT)]
        return [*headers, ("traceparent", traced)] if traced else headers

    def _settle(self, record: Record, report: Error | None, outcome: _Outcome) -> None:
        """Book what was reported of a record."""
        verdict = judge(report)
        if report is None or verdict == "taken":
            outcome.taken += 1
        elif verdict == "never":
            outcome.refuse(record, "rejected")
            self._log(logging.ERROR, "rejected", "exporter %s: the brokers will never take a record of %d samples: %s; dropped",
                      self.context.id, record.samples, sentence(report, self.settings.topic))  # fmt: skip
        elif verdict == "too large" and record.points == 1 and record.size > self._limit:  # it was alone in its batch
            self._drop_too_large(record, outcome, "the brokers take")
        else:
            outcome.rest.append(record)
            if verdict == "too large":
                outcome.too_large += record.size
            elif report.name() not in BROKEN_OFF:
                outcome.later = outcome.later or sentence(report, self.settings.topic)

    def _learn(self, outcome: _Outcome) -> None:
        """Send less at once from now on, if that was too much."""
        if outcome.too_large:
            self._obey(max(min(self._limit, outcome.too_large) // 2, 1))
            self._log(logging.WARNING, "limit", "exporter %s: the brokers take no batches of records as large as they were; "
                      "cutting at %d bytes from now on; see max.message.bytes of topic %s",
                      self.context.id, self._limit, self.settings.topic)  # fmt: skip

    async def aclose(self) -> None:
        """Let go of the brokers. A connection that is being made must not hold up the end."""
        with trio.move_on_after(CLOSE_SECONDS):
            await trio.to_thread.run_sync(self._writer.close, limiter=self._thread, abandon_on_cancel=True)


class _Listener:
    """Puts what librdkafka says beside delivery reports into the log. Called in the worker thread; the log is the loop's."""

    token: trio.lowlevel.TrioToken

    def __init__(self, name: str, topic: str, log: FoldedLog):
        self._name, self._topic, self._log = name, topic, log
        self._cause = self._told = ""  # of the last connection that failed; of that which was last said

    def error(self, error: Error) -> None:
        """Brokers are away, or do not let the agent in: librdkafka tries again, without end."""
        said = sentence(error, self._topic)
        if error.name() == "_ALL_BROKERS_DOWN":
            if self._told and self._cause == self._told:
                return
            said = f"{said}: {self._cause}" if self._cause else said
        self._told = self._cause
        self._soon(logging.WARNING, "brokers", "exporter %s: %s; trying again", self._name, said)

    def log(self, level: int, facility: str, text: str) -> None:
        """What comes as an error, too, is for those who look closely."""
        if facility == "FAIL":
            self._cause = steady(text)
        level = logging.DEBUG if facility in _SAID_AS_ERRORS else level
        self._soon(level, f"librdkafka {facility}", "exporter %s: librdkafka: %s: %s", self._name, facility, text)

    def stuck(self, seconds: float) -> None:
        """Said only where librdkafka says nothing: it takes what the brokers answer for a reason to go on trying."""
        if seconds >= SILENT_SECONDS and not self._told:
            self._soon(logging.WARNING, "brokers", "exporter %s: no broker has acknowledged a record for %.0f s, and none says why; "
                       "look whether enough replicas are in sync (min.insync.replicas), and into the brokers' logs; trying again",
                       self._name, seconds)  # fmt: skip

    def well(self) -> None:
        """All is taken. To be called in the loop."""
        self._told = ""
        self._log.recovered("brokers", "exporter %s: the brokers take records again after %d errors", self._name)

    def _soon(self, *line: Any) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self.token.run_sync_soon(lambda: self._log(*line))
