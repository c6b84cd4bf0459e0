"""The outbox as the pipeline and a destination see it, on a virtual clock."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.backlog import GROW_AFTER
from agent.batch import Batch, Row
from agent.ledger import ExporterCounts
from agent.outbox import Outbox
from agent.plugin import ClosedOutput, Context, Exporter, Partly, Payload, Rejected, Retry, TooLarge
from agent.series import Series
from agent.settings import OutboxSettings

ONE = Series.of("one")
ITEM = 10  # bytes of a sample in these tests


def batch(*numbers: int) -> Batch:
    """One row per number; the number is its time."""
    return Batch.of(Row(ONE, 1.0, number, 0, False) for number in numbers)


def numbers(body: bytes) -> list[int]:
    return [int(body[i : i + ITEM]) for i in range(0, len(body), ITEM)]


class Destination(Exporter[Any]):
    """Writes each sample as ten digits; answers by script, then takes everything."""

    def __init__(self, script: Iterable[Any] = ()):
        super().__init__(None, Context("backend"))
        self.script: Iterator[Any] = iter(script)
        self.taken: list[list[int]] = []
        self.tried: list[tuple[float, list[int]]] = []
        self.each: Callable[[Batch], Iterable[Payload]] | None = None
        self.largest = 10**9
        self.latency = 0.0

    def encode(self, batch: Batch) -> Iterable[Payload]:
        if self.each is not None:
            return self.each(batch)
        body = b"".join(b"%010d" % time for time in batch.times.tolist())
        return [Payload(b"", body, len(batch), len(batch))]

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        step = max(max_bytes // ITEM, 1) * ITEM
        bodies = [payload.body[i : i + step] for i in range(0, len(payload.body), step)]
        return [Payload(payload.key, body, len(body) // ITEM, len(body) // ITEM) for body in bodies]

    def seal(self, body: bytes) -> bytes:
        return b"z" + body

    def unseal(self, body: bytes) -> bytes:
        return body[1:]

    async def send(self, payload: Payload) -> None:
        assert payload.body[:1] == b"z"
        now, sent = trio.current_time(), numbers(payload.body[1:])
        self.tried.append((now, sent))
        await trio.sleep(self.latency)
        answer = next(self.script, None)
        if isinstance(answer, BaseException):
            raise answer
        if len(payload.body) - 1 > self.largest:
            raise TooLarge
        self.taken.append(sent)


def outbox(destination: Destination, jitter: float = 1.0, **options: Any) -> Outbox:
    """An outbox with ``queue``, ``batch``, ``retry`` as in the file; jitter takes the whole back-off unless told."""
    return Outbox(
        destination, OutboxSettings.model_validate(options), destination.counts, jitter=lambda low, high: jitter
    )


async def drained(box: Outbox, timeout: float = 1000.0) -> ExporterCounts:
    """Close, drain, abandon what is left, as at the end of a run."""
    box.close()
    with trio.move_on_after(timeout):
        await box.run()
    box.abandon()
    counts = box._counts
    assert counts.imbalance() == 0
    assert (box.held(), box.bytes) == (0, 0)
    return counts


# -- joining, cutting, sealing -----------------------------------------------------------------------------------


async def test_payloads_are_joined_for_linger_and_sealed_once(autojump_clock: object, nursery: trio.Nursery) -> None:
    destination = Destination()
    box = outbox(destination, batch={"linger": "200ms"})
    nursery.start_soon(box.run)
    began = trio.current_time()
    box.put(batch(1, 2))
    await trio.sleep(0.15)
    box.put(batch(3))
    await trio.sleep(0.15)
    assert destination.tried == [(began + 0.2, [1, 2, 3])]
    box.put(batch(4))
    await trio.sleep(1)
    assert destination.tried[1] == (began + 0.5, [4])
    nursery.cancel_scope.cancel()


async def test_no_request_exceeds_batch_max_bytes(autojump_clock: object) -> None:
    destination = Destination()
    box = outbox(destination, batch={"max_bytes": "30B", "linger": "1h"})
    for numbers in ([1], [2], [3, 4], [5, 6, 7, 8, 9, 10, 11]):
        box.put(batch(*numbers))
    counts = await drained(box)
    assert destination.taken == [[1, 2], [3, 4], [5, 6, 7], [8, 9, 10], [11]]
    assert (counts.sent, counts.points_sent, counts.requests, counts.retries) == (11, 11, 5, 0)


async def test_a_full_request_leaves_before_linger_ends(autojump_clock: object, nursery: trio.Nursery) -> None:
    destination = Destination()
    box = outbox(destination, batch={"max_bytes": "20B", "linger": "1h"})
    nursery.start_soon(box.run)
    box.put(batch(1, 2))
    box.put(batch(3))
    await trio.sleep(1)
    assert destination.taken == [[1, 2]]
    assert box.held() == 1
    nursery.cancel_scope.cancel()


async def test_a_single_sample_larger_than_a_request_is_dropped_alone(autojump_clock: object) -> None:
    destination = Destination()
    destination.cut = lambda payload, max_bytes: [  # type: ignore[method-assign]
        Payload(b"", b"%010d" % 1, 1, 1),
        Payload(b"", b"2" * 50, 1, 1),
        Payload(b"", b"%010d" % 3, 1, 1),
    ]
    box = outbox(destination, batch={"max_bytes": "20B"})
    box.put(batch(1, 2, 3))
    counts = await drained(box)
    assert destination.taken == [[1, 3]]
    assert counts.dropped == {"too_large": 1}


async def test_the_key_stays_where_all_payloads_have_the_same(autojump_clock: object) -> None:
    keys = []

    class Keyed(Destination):
        async def send(self, payload: Payload) -> None:
            keys.append(payload.key)

    for names in ([b"a", b"a"], [b"a", b"b"]):
        destination = Keyed()
        box = outbox(destination)
        destination.each = lambda batch, names=names: [Payload(n, b"%010d" % 1, 1, 1) for n in names]  # type: ignore[misc]
        box.put(batch(1, 2))
        await drained(box)
    assert keys == [b"a", b""]


# -- answers -----------------------------------------------------------------------------------------------------


async def test_retries_go_on_in_order_with_growing_waits(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    destination = Destination([Retry(reason="cannot reach it"), Retry(), Retry(), Retry(), None])
    box = outbox(destination, batch={"max_bytes": "10B"}, retry={"initial": "1s", "max": "3s"})
    began = trio.current_time()
    box.put(batch(1))
    box.put(batch(2))
    counts = await drained(box)
    assert [(time - began, sent) for time, sent in destination.tried] == [
        (0, [1]), (1, [1]), (3, [1]), (6, [1]), (9, [1]), (9, [2]),
    ]  # fmt: skip
    assert (counts.sent, counts.requests, counts.retries, counts.dropped) == (2, 6, 4, {})
    assert [record.getMessage() for record in caplog.records] == [
        "exporter backend: cannot reach it; trying again",
        "exporter backend: the destination asks to try again; trying again",
        "exporter backend: sends again after 4 failed attempts",
    ]


@pytest.mark.parametrize(
    ("after", "jitter", "wait"),
    [(None, 0.5, 0.5), (7.0, 0.5, 7.0), (0.1, 1.0, 1.0), (-5.0, 1.0, 1.0), (1e12, 1.0, 50.0), (40.0, 1.0, 40.0)],
)
async def test_a_wait_is_never_shorter_than_the_destination_asks(
    autojump_clock: object, nursery: trio.Nursery, after: float | None, jitter: float, wait: float
) -> None:
    destination = Destination([Retry(after)])
    box = outbox(destination, jitter, queue={"max_age": "50s"}, batch={"linger": "0s"}, retry={"max": "30s"})
    nursery.start_soon(box.run)
    began = trio.current_time()
    box.put(batch(1))
    await trio.sleep(0.001)  # the second is young enough to outlive any wait
    box.put(batch(2))
    await trio.sleep(60)
    assert [time - began for time, _ in destination.tried[:2]] == pytest.approx([0, wait])
    nursery.cancel_scope.cancel()


async def test_after_a_success_the_first_wait_is_short_again(autojump_clock: object) -> None:
    destination = Destination([Retry(), Retry(), None, Retry(), None])
    box = outbox(destination, batch={"max_bytes": "10B"})
    box.put(batch(1))
    box.put(batch(2))
    await drained(box)
    times = [time for time, _ in destination.tried]
    assert [later - sooner for sooner, later in pairwise(times)] == [1, 2, 0, 1]


async def test_what_is_refused_for_good_is_dropped_and_the_next_goes_on(autojump_clock: object) -> None:
    destination = Destination([Rejected(None, "no"), None])
    box = outbox(destination, batch={"max_bytes": "20B"})
    box.put(batch(1, 2, 3))
    counts = await drained(box)
    assert destination.taken == [[3]]
    assert (counts.sent, counts.points_sent, counts.dropped) == (1, 1, {"rejected": 2})


@pytest.mark.parametrize(("told", "points_sent", "rejected"), [(1, 2, 1), (0, 3, 0), (9, 0, 9), (-1, 3, 0)])
async def test_partial_success_is_sent_and_its_points_are_counted(
    autojump_clock: object, told: int, points_sent: int, rejected: int
) -> None:
    box = outbox(Destination([Rejected(told, "too old")]))
    box.put(batch(1, 2, 3))
    counts = await drained(box)
    assert (counts.sent, counts.points_sent, counts.rejected_points) == (3, points_sent, rejected)
    assert (counts.requests, counts.retries, counts.dropped) == (1, 0, {})


async def test_refusals_are_logged_once_with_their_repeats(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    destination = Destination([Rejected(None, "no")] * 9)
    box = outbox(destination, batch={"max_bytes": "10B"})
    box.put(batch(*range(9)))
    await drained(box)
    assert [record.getMessage() for record in caplog.records] == ["exporter backend: no; dropped 1 samples"]


async def test_too_large_is_halved_until_it_fits_and_the_limit_is_remembered(autojump_clock: object) -> None:
    destination = Destination()
    destination.largest = 25
    box = outbox(destination, batch={"max_bytes": "80B"})
    box.put(batch(*range(16)))
    counts = await drained(box)
    assert destination.taken == [[n, n + 1] for n in range(0, 16, 2)]
    assert [len(sent) for _, sent in destination.tried] == [8, 4, *[2] * 8]  # the second eight were cut before sending
    assert (counts.sent, counts.points_sent, counts.dropped, counts.retries) == (16, 16, {}, 0)


async def test_only_a_single_sample_that_is_too_large_is_dropped(autojump_clock: object) -> None:
    destination = Destination()
    destination.largest = 9
    box = outbox(destination)
    box.put(batch(1, 2, 3, 4))
    counts = await drained(box)
    assert destination.taken == []
    assert counts.dropped == {"too_large": 4}
    assert counts.requests == 1 + 1 + 4  # four, two, then each alone: the second two were cut before they were sent


async def test_a_lowered_limit_grows_back(autojump_clock: object) -> None:
    destination = Destination([TooLarge()])
    box = outbox(destination, batch={"max_bytes": "40B"})
    box.put(batch(1, 2, 3, 4))
    await_all = range(2 * GROW_AFTER)
    box.put(batch(*await_all))
    await drained(box)
    assert {len(sent) for _, sent in destination.tried[1 : GROW_AFTER - 1]} == {2}
    second = outbox(destination, batch={"max_bytes": "40B"})
    backlog = second._backlog
    backlog.limit = 10
    second.put(batch(*range(GROW_AFTER)))
    await drained(second)
    assert backlog.limit == 20


def rest(*left: int) -> Payload:
    """What a destination left of a request, unsealed."""
    return Payload(b"", b"".join(b"%010d" % number for number in left), len(left), len(left))


async def test_what_a_destination_leaves_comes_next_and_waits_only_where_it_is_told_to(autojump_clock: object) -> None:
    destination = Destination([Partly(rest(2, 3, 4)), Partly(rest(4), retry=Retry(None, "busy")), Retry(), None])
    box = outbox(destination, batch={"max_bytes": "40B"})
    box.put(batch(1, 2, 3, 4))
    box.put(batch(5))
    counts = await drained(box)
    assert destination.tried == [(0.0, [1, 2, 3, 4]), (0.0, [2, 3, 4]), (1.0, [4]), (3.0, [4]), (3.0, [5])]
    assert (counts.sent, counts.points_sent, counts.dropped) == (5, 5, {})
    assert (counts.requests, counts.retries) == (5, 3)


async def test_what_is_refused_of_a_part_is_dropped_by_its_reason(autojump_clock: object) -> None:
    destination = Destination(
        [Partly(rest(4), refused={"rejected": 1, "too_large": 1}, refused_points=2), Partly(None)]
    )
    box = outbox(destination)
    box.put(batch(1, 2, 3, 4))
    counts = await drained(box)
    assert (counts.sent, counts.points_sent) == (2, 2)
    assert counts.dropped == {"rejected": 1, "too_large": 1}
    assert counts.last_success > 0


@pytest.mark.parametrize(
    ("answer", "sent", "dropped"),
    [
        (Partly(Payload(b"", b"%010d" % 1, 9, 9)), 3, {}),  # more left than there was: all of it is
        (Partly(None, refused={"rejected": 9}, refused_points=9), 0, {"rejected": 3}),
        (Partly(None, refused={"rejected": -9}, refused_points=-9), 3, {}),
    ],
)
async def test_a_part_is_never_more_than_the_whole(
    autojump_clock: object, answer: Partly, sent: int, dropped: dict[str, int]
) -> None:
    box = outbox(Destination([answer]))
    box.put(batch(1, 2, 3))
    counts = await drained(box)
    assert (counts.sent, counts.dropped, counts.imbalance()) == (sent, dropped, 0)


async def test_an_attempt_does_not_outlast_its_request(autojump_clock: object) -> None:
    destination = Destination()
    destination.latency = math.inf
    box = outbox(destination, queue={"max_age": "1m"})
    box.put(batch(1, 2))
    counts = await drained(box)
    assert trio.current_time() == 60
    assert (counts.sent, counts.dropped) == (0, {"expired": 2})


# -- bugs --------------------------------------------------------------------------------------------------------


def raises(*_: object) -> Any:
    raise ZeroDivisionError("planted")


@pytest.mark.parametrize("method", ["encode", "seal", "join", "cut"])
async def test_a_bug_costs_its_batch_and_no_other(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    destination = Destination()
    right = getattr(destination, method)
    box = outbox(destination, batch={"max_bytes": "30B", "linger": "1h"})
    setattr(destination, method, raises)
    box.put(batch(1))
    box.put(batch(2))
    box.put(batch(3, 4, 5, 6))  # is cut; seals the first two
    if method == "cut":
        box.put(batch(7, 8))
    setattr(destination, method, right)
    box.put(batch(9, 10))
    counts = await drained(box)
    assert counts.dropped["bug"] > 0
    assert [9, 10] in [sent[-2:] for sent in destination.taken]
    assert counts.sent + counts.dropped["bug"] == counts.received
    assert "planted" in caplog.text
    assert "Traceback" in caplog.text


async def test_a_bug_in_send_is_logged_with_its_traceback_and_the_sender_goes_on(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    destination = Destination([KeyError("planted"), None])
    box = outbox(destination, batch={"max_bytes": "10B"})
    began = trio.current_time()
    box.put(batch(1))
    box.put(batch(2))
    counts = await drained(box)
    assert destination.tried == [(began, [1]), (began + 1, [2])]
    assert (counts.sent, counts.dropped) == (1, {"bug": 1})
    assert "Traceback" in caplog.text


async def test_a_bug_in_cutting_what_was_too_large_drops_that_request(autojump_clock: object) -> None:
    for method in ("unseal", "cut"):
        destination = Destination([TooLarge()])
        setattr(destination, method, raises)
        box = outbox(destination, batch={"max_bytes": "20B"})
        box.put(batch(1, 2))
        box.put(batch(3, 4))
        counts = await drained(box)
        assert (destination.taken, counts.dropped) == ([[3, 4]], {"bug": 2})


@pytest.mark.parametrize(("claimed", "bug"), [(1, 2), (3, 0), (7, 0), (-2, 3)])
async def test_samples_that_encode_forgets_are_a_bug_and_invented_ones_are_not_believed(
    autojump_clock: object, claimed: int, bug: int
) -> None:
    destination = Destination()
    destination.each = lambda batch: [Payload(b"", b"%010d" % 1, 1, claimed)]
    box = outbox(destination)
    box.put(batch(1, 2, 3))
    counts = await drained(box)
    assert (counts.dropped["bug"], counts.sent) == (bug, 3 - bug)


async def test_what_encode_drops_by_itself_is_not_held(autojump_clock: object) -> None:
    destination = Destination()

    def each(batch: Batch) -> Iterable[Payload]:
        destination.counts.dropped["incomplete"] += 2
        yield Payload(b"", b"%010d" % 1, 1, len(batch) - 2)

    destination.each = each
    box = outbox(destination)
    box.put(batch(1, 2, 3))
    assert (box.held(), destination.counts.imbalance()) == (1, 0)
    counts = await drained(box)
    assert (counts.sent, counts.dropped) == (1, {"incomplete": 2})


# -- bounds ------------------------------------------------------------------------------------------------------


async def test_a_full_queue_drops_its_oldest_but_not_what_is_in_flight(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    destination = Destination()
    destination.latency = 10
    box = outbox(destination, queue={"max_bytes": "33B"}, batch={"max_bytes": "10B", "linger": "0s"})
    nursery.start_soon(box.run)
    box.put(batch(1))
    await trio.sleep(1)
    for number in (2, 3, 4, 5):
        box.put(batch(number))
        assert box.bytes <= 33
    assert destination.counts.dropped == {"overflow": 2}
    await trio.sleep(100)
    assert destination.taken == [[1], [4], [5]]
    nursery.cancel_scope.cancel()


async def test_what_waits_for_its_next_attempt_may_be_dropped(autojump_clock: object, nursery: trio.Nursery) -> None:
    destination = Destination([Retry(20.0)])
    box = outbox(destination, queue={"max_bytes": "11B"}, batch={"max_bytes": "10B", "linger": "0s"})
    nursery.start_soon(box.run)
    began = trio.current_time()
    box.put(batch(1))
    await trio.sleep(1)
    box.put(batch(2))
    await trio.sleep(100)
    assert destination.tried == [(began, [1]), (began + 20, [2])]  # the wait is the destination's, not the request's
    assert destination.counts.dropped == {"overflow": 1}
    assert destination.counts.retries == 0
    nursery.cancel_scope.cancel()


async def test_pending_payloads_are_sealed_before_any_is_dropped(autojump_clock: object) -> None:
    class Packs(Destination):
        def seal(self, body: bytes) -> bytes:
            return b"z"

        async def send(self, payload: Payload) -> None:
            self.taken.append([payload.samples])

    destination = Packs()
    box = outbox(destination, queue={"max_bytes": "25B"}, batch={"linger": "1h"})
    for number in range(9):
        box.put(batch(number))
    counts = await drained(box)
    assert (counts.sent, counts.dropped) == (9, {})


async def test_a_batch_larger_than_the_queue_is_kept_when_all_else_is_gone(autojump_clock: object) -> None:
    destination = Destination()
    box = outbox(destination, queue={"max_bytes": "30B"}, batch={"max_bytes": "10B"})
    box.put(batch(1, 2))
    box.put(batch(3, 4, 5, 6, 7))
    assert box.held() == 5
    box.put(batch(8))
    counts = await drained(box)
    assert destination.taken == [[7], [8]]
    assert counts.dropped == {"overflow": 6}


async def test_what_is_too_old_expires_while_it_waits(autojump_clock: object, nursery: trio.Nursery) -> None:
    destination = Destination([Retry(1000.0)])
    box = outbox(destination, queue={"max_age": "60s"}, batch={"linger": "0s"})
    nursery.start_soon(box.run)
    box.put(batch(1))
    await trio.sleep(30)
    box.put(batch(2))
    await trio.sleep(29.9)
    assert destination.counts.dropped == {}
    await trio.sleep(0.2)
    assert destination.counts.dropped == {"expired": 1}
    assert destination.taken == [[2]]  # no request outlives a wait longer than max_age, so it ends with it
    nursery.cancel_scope.cancel()


async def test_block_waits_for_room_and_loses_nothing(autojump_clock: object, nursery: trio.Nursery) -> None:
    destination = Destination()
    destination.latency = 1
    box = outbox(destination, queue={"max_bytes": "22B", "on_full": "block"}, batch={"max_bytes": "10B"})
    nursery.start_soon(box.run)
    assert box.blocks
    began = trio.current_time()
    await box.offer(batch(1, 2))
    assert trio.current_time() == began
    await box.offer(batch(3))
    assert trio.current_time() - began >= 1
    assert destination.taken == [[1]]
    await box.offer(batch(4, 5, 6, 7))  # larger than the whole queue
    counts = await drained_in_task(box)
    assert destination.taken == [[n] for n in range(1, 8)]
    assert counts.dropped == {}


async def drained_in_task(box: Outbox) -> ExporterCounts:
    box.close()
    await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(1000)
    assert (box.held(), box._counts.imbalance()) == (0, 0)
    return box._counts


async def test_a_single_payload_larger_than_the_queue_waits_until_it_is_empty(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    destination = Destination()
    destination.latency = 1
    box = outbox(destination, queue={"max_bytes": "20B", "on_full": "block"})
    nursery.start_soon(box.run)
    await box.offer(batch(1))
    await box.offer(batch(2, 3, 4))
    assert destination.taken == [[1]]
    await drained_in_task(box)
    assert destination.taken == [[1], [2, 3, 4]]


async def test_offers_that_wait_keep_their_order(autojump_clock: object, nursery: trio.Nursery) -> None:
    destination = Destination()
    destination.latency = 1
    box = outbox(destination, queue={"max_bytes": "15B", "on_full": "block"}, batch={"linger": "0s"})
    for number in range(1, 6):
        nursery.start_soon(box.offer, batch(2 * number, 2 * number + 1))
        await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(box.run)
    await drained_in_task(box)
    flat = [number for sent in destination.taken for number in sent]
    assert flat == list(range(2, 12))


async def test_custody_is_not_interrupted_and_a_stop_lets_waiting_offers_in(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    destination = Destination([Retry(5.0)])
    box = outbox(destination, queue={"max_bytes": "11B", "on_full": "block"}, batch={"linger": "0s"})
    nursery.start_soon(box.run)
    await box.offer(batch(1))
    custody = []

    async def offer() -> None:
        await box.offer(batch(2))
        custody.append(2)

    with trio.CancelScope() as scope:
        nursery.start_soon(lift_later, box)
        scope.cancel()
        await offer()
    assert custody == [2]
    assert box.held() == 2
    assert destination.counts.imbalance() == 0
    await drained_in_task(box)
    assert destination.taken == [[1], [2]]


async def lift_later(box: Outbox) -> None:
    await trio.sleep(1)
    box.lift_bound()


# -- the end -----------------------------------------------------------------------------------------------------


async def test_closing_ends_linger_and_drains(autojump_clock: object) -> None:
    destination = Destination()
    box = outbox(destination, batch={"linger": "1h"})
    began = trio.current_time()
    box.put(batch(1))
    await drained(box)
    assert destination.tried == [(began, [1])]


async def test_what_the_deadline_leaves_is_dropped_as_shutdown(autojump_clock: object) -> None:
    destination = Destination([None])
    destination.latency = 3
    box = outbox(destination, batch={"max_bytes": "10B"})
    for number in (1, 2, 3):
        box.put(batch(number))
    counts = await drained(box, timeout=5)
    assert destination.taken == [[1]]
    assert (counts.sent, counts.dropped) == (1, {"shutdown": 2})


async def test_a_closed_output_ends_the_sender_and_drops_the_rest(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    destination = Destination([None, ClosedOutput("nobody reads")])
    box = outbox(destination, queue={"max_bytes": "22B", "on_full": "block"}, batch={"max_bytes": "10B"})
    nursery.start_soon(box.offer, batch(1, 2, 3, 4))
    await box.run()
    assert box.output_closed
    await trio.testing.wait_all_tasks_blocked()
    box.put(batch(5))
    await box.offer(batch(6))
    counts = destination.counts
    assert destination.taken == [[1]]
    assert (counts.sent, counts.dropped, box.held(), counts.imbalance()) == (1, {"closed": 5}, 0, 0)


async def test_an_idle_outbox_wakes_up_for_nothing(autojump_clock: object, nursery: trio.Nursery) -> None:
    box = outbox(Destination())
    nursery.start_soon(box.run)
    await trio.testing.wait_all_tasks_blocked()
    expires = []
    box._backlog.expire = expires.append  # type: ignore[method-assign, assignment]
    await trio.sleep(10**6)
    assert expires == []
    nursery.cancel_scope.cancel()


# -- what the meter asks -------------------------------------------------------------------------------------------------


async def test_attempts_are_measured_and_the_last_success_is_known(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    destination = Destination([Retry(after=5)])
    destination.latency = 2.0
    destination.context.now = lambda: 1_000 * 10**9
    box = outbox(destination, batch={"linger": "0s"}, queue={"max_bytes": "100B"})
    nursery.start_soon(box.run)
    counts = destination.counts
    assert (box.oldest, box.max_bytes) == (math.inf, 100)
    box.put(batch(1))
    await trio.sleep(3)
    assert (counts.send_seconds, counts.last_success, box.oldest) == (2.0, 0, 0.0)
    await trio.sleep(7)
    assert (counts.send_seconds, counts.last_success, box.oldest) == (4.0, 1_000, math.inf)
    nursery.cancel_scope.cancel()


# -- another exporter ---------------------------------------------------------------------------------------------------


async def test_a_pause_waits_for_the_attempt_under_way_and_begins_no_other(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    destination = Destination()
    destination.latency = 3.0
    box = outbox(destination, batch={"linger": "0s"})
    box.put(batch(1))
    nursery.start_soon(box.run)
    await trio.sleep(1)
    box.put(batch(2))
    await box.pause(10)
    assert trio.current_time() == 3
    await trio.sleep(100)
    assert destination.taken == [[1]]
    box.resume()
    await trio.sleep(4)
    assert destination.taken == [[1], [2]]
    nursery.cancel_scope.cancel()


async def test_an_attempt_that_outlasts_the_pause_is_made_again(autojump_clock: object, nursery: trio.Nursery) -> None:
    destination = Destination()
    destination.latency = 50.0
    box = outbox(destination, batch={"linger": "0s"})
    box.put(batch(1))
    nursery.start_soon(box.run)
    await trio.sleep(1)
    await box.pause(10)
    assert (trio.current_time(), destination.taken, box.held()) == (11, [], 1)
    destination.latency = 0.0
    box.resume()
    await trio.sleep(1)
    assert [sent for _, sent in destination.tried] == [[1], [1]]
    assert (destination.taken, box.held(), destination.counts.retries) == ([[1]], 0, 1)
    nursery.cancel_scope.cancel()


async def test_the_next_exporter_sends_what_waited_at_once_and_in_its_own_form(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    class Other(Destination):
        def seal(self, body: bytes) -> bytes:
            return b"zz" + body

        async def send(self, payload: Payload) -> None:
            assert payload.body[:2] == b"zz"
            self.taken.append(numbers(payload.body[2:]))

    away = Destination([Retry(after=3600)])
    other = Other()
    box = outbox(away, batch={"linger": "0s"})
    nursery.start_soon(box.run)
    box.put(batch(1))
    await trio.sleep(1)
    box.put(batch(2))
    await box.pause(10)
    box.take_over(other, OutboxSettings.model_validate({"batch": {"linger": "0s"}}))
    box.put(batch(3))
    box.resume()
    await trio.sleep(1)
    assert other.taken == [[1], [2], [3]]
    assert (box.bytes, box.held(), away.counts.sent) == (0, 0, 3)
    nursery.cancel_scope.cancel()


async def test_a_smaller_request_size_holds_for_what_waited(autojump_clock: object) -> None:
    destination = Destination()
    box = outbox(destination)
    box.put(batch(1, 2, 3, 4))
    await box.pause(0)
    box.take_over(destination, OutboxSettings.model_validate({"batch": {"max_bytes": "20B"}}))
    box.resume()
    assert (await drained(box)).sent == 4
    assert destination.taken == [[1, 2], [3, 4]]


async def test_a_closed_outbox_waits_for_what_was_taken_and_not_yet_let_in(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    destination = Destination()
    box = outbox(destination, queue={"max_bytes": "10B", "on_full": "block"})
    taken = box.take(batch(1))
    box.close()
    nursery.start_soon(box.run)
    await trio.sleep(5)
    assert box.held() == 1
    await box.admit(taken)
    await trio.sleep(1)
    assert destination.taken == [[1]]
    nursery.cancel_scope.cancel()


# -- random faults -------------------------------------------------------------------------------------------------------

ANSWERS = st.sampled_from(
    [
        *("take",) * 6,
        lambda: Retry(),
        lambda: Retry(3.0),
        lambda: Rejected(None),
        lambda: Rejected(1),
        lambda: TooLarge(),
        lambda: ValueError("planted"),
        *(lambda: Partly(None), lambda: Partly(None, retry=Retry())),
    ]
)
STEPS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0, 0.1, 1, 30]), st.sampled_from([False, False, False, True])),
    min_size=1,
    max_size=20,
)


class Chaos(Destination):
    """Answers at random; remembers what it took and what it may have taken before it said Retry."""

    mark = b"a"

    def __init__(self, answers: list[Any], latency: float):
        super().__init__()
        self.latency = latency
        self.answers = iter(answers)
        self.seen: list[int] = []

    def successor(self) -> Chaos:
        """The exporter after a reload: seals in another way, speaks to the same destination."""
        other = Chaos([], self.latency)
        other.mark, other.answers, other.seen = bytes([self.mark[0] + 1]), self.answers, self.seen
        return other

    def seal(self, body: bytes) -> bytes:
        return self.mark + body

    def unseal(self, body: bytes) -> bytes:
        assert body[:1] == self.mark
        return body[1:]

    async def send(self, payload: Payload) -> None:
        assert payload.body[:1] == self.mark
        await trio.sleep(self.latency)
        answer = next(self.answers, "take")
        given = numbers(payload.body[1:])
        if answer == "take" or (isinstance(made := answer(), Rejected) and made.points is not None):
            self.seen += given
        elif isinstance(made, Partly):
            half = (len(given) + 1) // 2
            self.seen += given[:half]
            made.rest = rest(*given[half:]) if given[half:] else None
        if answer != "take":
            raise made


@settings(max_examples=150, deadline=None)
@given(
    steps=STEPS,
    answers=st.lists(ANSWERS, max_size=30),
    latency=st.sampled_from([0.0, 0.05, 5.0]),
    block=st.booleans(),
    queue=st.sampled_from([15, 60, 10**6]),
    request=st.sampled_from([10, 35, 10**6]),
    age=st.sampled_from(["5s", "24h"]),
    patience=st.sampled_from([0.0, 20.0, 10**5]),
)
def test_the_ledger_balances_and_order_holds_under_random_faults(
    steps: list[tuple[int, float, bool]],
    answers: list[Any],
    latency: float,
    block: bool,
    queue: int,
    request: int,
    age: str,
    patience: float,
) -> None:
    destination = Chaos(answers, latency)

    async def scenario() -> None:
        options = {
            "queue": {"max_bytes": f"{queue}B", "max_age": age, "on_full": "block" if block else "drop_oldest"},
            "batch": {"max_bytes": f"{request}B"},
        }
        box = outbox(destination, **options)
        counts, time, exporter = destination.counts, 0, destination
        async with trio.open_nursery() as nursery:
            nursery.start_soon(box.run)
            for rows, pause, reload in steps:
                if reload:
                    exporter = exporter.successor()
                    await box.pause(1.0)
                    box.take_over(exporter, OutboxSettings.model_validate(options))
                    box.resume()
                made = batch(*range(time, time + rows))
                time += rows
                if block:
                    await box.offer(made)
                else:
                    box.put(made)
                assert counts.imbalance() == 0
                await trio.sleep(pause)
                assert counts.imbalance() == 0
            box.close()
            nursery.cancel_scope.deadline = trio.current_time() + patience
        box.abandon()
        assert (counts.imbalance(), box.held(), box.bytes) == (0, 0, 0)
        assert counts.received == time
        assert counts.sent == len(destination.seen)

    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))
    assert destination.seen == sorted(set(destination.seen))  # in order, and nothing twice
