"""The books of an outbox, without waiting: every operation leaves bytes and samples right."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.backlog import MEMORY_QUEUE_BYTES, Backlog
from agent.batch import Batch, Row
from agent.folded import FoldedLog
from agent.plugin import Context, Exporter, Payload
from agent.series import Series
from agent.settings import OutboxSettings


class Digits(Exporter[Any]):
    """Ten bytes a sample."""

    def __init__(self) -> None:
        super().__init__(None, Context("backend"))

    def encode(self, batch: Batch) -> Iterable[Payload]:
        return [Payload(b"k", b"%010d" % time, 1, 1) for time in batch.times.tolist()]

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        step = max(max_bytes // 10, 1) * 10
        bodies = [payload.body[i : i + step] for i in range(0, len(payload.body), step)]
        return [Payload(payload.key, body, len(body) // 10, len(body) // 10) for body in bodies]

    async def send(self, payload: Payload) -> None:
        raise NotImplementedError


def backlog(**options: Any) -> Backlog:
    exporter = Digits()
    log = FoldedLog(logging.getLogger("ebbtide.test"))
    book = Backlog(exporter, OutboxSettings.model_validate(options), exporter.counts, log)
    exporter.counts.holders = [lambda: book.samples]
    return book


def batch(first: int, rows: int) -> Batch:
    return Batch.of(Row(Series.of("a"), 1.0, time, 0, False) for time in range(first, first + rows))


def fill(book: Backlog, first: int, rows: int, now: float = 0.0) -> None:
    for payload in book.encode(batch(first, rows)):
        book.add(payload, book.batches, now)


def test_defaults_are_those_of_a_queue_in_memory() -> None:
    assert backlog().max_bytes == MEMORY_QUEUE_BYTES == 64 * 2**20
    assert backlog(queue={"max_bytes": "7B"}).max_bytes == 7


def test_a_request_is_as_old_as_its_oldest_payload() -> None:
    book = backlog(batch={"linger": "2s"}, queue={"max_age": "60s"})
    assert (book.linger_ends, book.expires) == (math.inf, math.inf)
    fill(book, 0, 1, now=10.0)
    fill(book, 1, 1, now=11.0)
    assert (book.linger_ends, book.expires) == (12.0, 70.0)
    book.seal()
    (request,) = book.requests
    assert (request.born, request.samples, request.raw, request.key) == (10.0, 2, 20, b"k")
    assert (book.linger_ends, book.expires) == (math.inf, 70.0)
    book.expire(69.9)
    assert book.samples == 2
    book.expire(70.0)
    assert (book.samples, book.bytes, len(book.requests)) == (0, 0, 0)


def test_what_is_pending_expires_too() -> None:
    book = backlog(queue={"max_age": "60s"})
    fill(book, 0, 3)
    book.expire(60.0)
    assert book.samples == 0


def test_what_is_being_sent_neither_expires_nor_overflows() -> None:
    book = backlog(queue={"max_age": "60s", "max_bytes": "10B"})
    fill(book, 0, 1)
    book.seal()
    book.flying = True
    book.expire(1000.0)
    fill(book, 1, 1)
    book.drop_oldest()
    assert [request.body for request in book.requests] == [b"%010d" % 0]


def test_losses_are_said_and_folded(caplog: pytest.LogCaptureFixture) -> None:
    book = backlog(queue={"max_age": "60s", "max_bytes": "25B"}, batch={"max_bytes": "10B"})
    for first in (0, 4, 8):
        fill(book, first, 4)
        book.drop_oldest()
    book.expire(60.0)
    book.expire(60.0)
    assert [record.message for record in caplog.records] == [
        "exporter backend: cannot keep all that waits: its queue is full; dropped 4 samples, the oldest; "
        "see why its destination is slow, or raise `queue.max_bytes`",
        "exporter backend: cannot keep what waits any longer: it is older than `queue.max_age`; dropped 4 samples; "
        "see why its destination takes nothing, or raise it",
    ]


def test_room() -> None:
    book = backlog(queue={"max_bytes": "25B"})
    assert book.has_room(1000)  # an empty queue takes all
    fill(book, 0, 2)
    assert book.has_room(5)
    assert not book.has_room(6)


STEPS = st.lists(
    st.sampled_from(["fill", "fill", "seal", "sent", "drop", "halve", "fits", "expire", "overflow", "fly", "drop_all"]),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS, st.integers(0, 7), st.sampled_from([10, 40, 1000]), st.sampled_from([15, 100, 10**6]))
def test_books_are_right_after_any_sequence(steps: list[str], rows: int, request: int, queue: int) -> None:
    book = backlog(batch={"max_bytes": f"{request}B"}, queue={"max_bytes": f"{queue}B", "max_age": "10s"})
    counts, time = book._counts, 0
    for step in steps:
        head = book.requests[0] if book.requests else None
        if step == "fill":
            fill(book, time, rows, float(time))
            time += rows
        elif step == "overflow":
            book.drop_oldest()
        elif step == "expire":
            book.expire(float(time))
        elif step == "seal":
            book.seal()
        elif step == "drop_all":
            book.flying = False
            book.drop_all("shutdown")
        elif head is not None:
            book.flying = step == "fly"
            if step == "sent":
                book.sent(head)
            elif step == "drop":
                book.drop(head, "rejected")
            elif step == "halve":
                book.halve(head)
            elif step == "fits":
                book.fits(head)
        if not book.requests:
            book.flying = False
        assert counts.imbalance() == 0
        assert book.samples == sum(r.samples for r in book.requests) + sum(p.samples for p in book._pending)
        assert book.bytes == sum(len(r.body) for r in book.requests) + sum(len(p.body) for p in book._pending)
        held = b"".join([*(r.body for r in book.requests), *(p.body for p in book._pending)])
        order = [int(held[i : i + 10]) for i in range(0, len(held), 10)]
        assert order == sorted(set(order))
    assert counts.received == time
