"""Custody and delivery: a bounded queue before one exporter, and the one task that sends from it, in order.

Strategy. All bookkeeping is the backlog's, without IO; here is what waits. The sender parks until there is something
to do: a request whose turn it is, the end of a linger, of a back-off or of a life. Nothing polls. The request at the
front is tried until it is taken, refused for good, or too old, so that order survives every failure. The back-off
belongs to the destination, not to a request: where the queue drops the front one, the next one waits as long.

Taking custody is never interrupted: what waits for room ("block") is shielded from cancellation, and is let in over the
bound once the agent stops, because its bytes are in memory anyway and can still be sent.

A reload gives an outbox another exporter of the same type between two attempts: ``pause``, ``take_over``, ``resume``.
What is queued stays queued, and is brought into the new exporter's form when its turn comes.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import trio

from agent.backlog import Backlog, Request
from agent.batch import Batch
from agent.folded import FoldedLog
from agent.ledger import ExporterCounts
from agent.plugin import ClosedOutput, Exporter, Partly, Payload, Rejected, Retry, TooLarge
from agent.settings import OutboxSettings
from agent.tracing import span

logger = logging.getLogger("ebbtide.outbox")

LEAST_JITTER = 0.5
"""A back-off of t seconds waits between this share of t and t, at random."""


class Taken(NamedTuple):
    """A batch in custody, by its number, as payloads that are yet to be let in."""

    batch: int
    payloads: list[Payload]


class Outbox:
    """What one exporter is to send. ``put`` or ``offer`` a batch; ``run`` in a task; ``close``, then wait for ``run``."""

    def __init__(
        self,
        exporter: Exporter[Any],
        settings: OutboxSettings,
        counts: ExporterCounts,
        *,
        jitter: Callable[[float, float], float] = random.uniform,
    ):
        self.name = exporter.context.id
        self.blocks = settings.queue.on_full == "block"
        self.output_closed = False
        self._exporter = exporter
        self._counts = counts
        self._retry = settings.retry
        self._jitter = jitter
        self._log = FoldedLog(logger, trio.current_time, f"exporters.{self.name}")
        self._backlog = Backlog(exporter, settings, counts, self._log)
        self._work = trio.lowlevel.ParkingLot()  # the sender, until there is something to do
        self._room = trio.lowlevel.ParkingLot()  # offers, until there is room
        self._turn = trio.Lock()  # offers wait for room one after the other
        self._entering: set[int] = set()  # batches that were taken and are not all let in yet
        self._abandoned = math.inf  # the oldest batch that was
        self._closing = False
        self._unbounded = False
        self._seen_bytes = 0
        self._backoff = 0.0
        self._not_before = 0.0
        self._failures = 0
        self._paused = False
        self._attempting = trio.CancelScope()
        self._landed = trio.lowlevel.ParkingLot()  # who waits for the end of an attempt
        counts.holders.append(self.held)

    def held(self) -> int:
        """Samples in custody: waiting for room, pending, queued and in flight."""
        return self._backlog.samples

    @property
    def bytes(self) -> int:
        """Bytes pending and sealed."""
        return self._backlog.bytes

    @property
    def max_bytes(self) -> int:
        """The bound of ``bytes``."""
        return self._backlog.max_bytes

    @property
    def oldest(self) -> float:
        """When what waits longest came in, in trio's time; infinity where nothing waits."""
        return self._backlog.expires - self._backlog.max_age

    # -- custody -------------------------------------------------------------------------------------------------

    def put(self, batch: Batch) -> None:
        """Take custody at once; where the queue is full, its oldest requests are dropped as ``overflow``."""
        taken = self.take(batch)
        for payload in taken.payloads:
            self._backlog.add(payload, taken.batch, trio.current_time())
        self._entering.discard(taken.batch)
        self._backlog.drop_oldest()
        self._work.unpark_all()

    async def offer(self, batch: Batch) -> None:
        """Take custody at once, and return when there is room. Not interrupted by cancellation: see the strategy above."""
        await self.admit(self.take(batch))

    async def admit(self, taken: Taken) -> None:
        """Let in what was taken, as there is room."""
        with trio.CancelScope(shield=True):
            async with self._turn:
                for payload in taken.payloads:
                    await self._until_room(len(payload.body))
                    if not self.output_closed:
                        self._backlog.add(payload, taken.batch, trio.current_time())
                    self._work.unpark_all()
        self._entering.discard(taken.batch)

    def take(self, batch: Batch) -> Taken:
        """Take custody of a batch that ``admit`` is to let in."""
        if self.output_closed:
            self._backlog.refuse(batch, "closed")
            return Taken(self._backlog.batches, [])
        payloads = self._backlog.encode(batch)
        self._entering.add(self._backlog.batches)
        return Taken(self._backlog.batches, payloads)

    @property
    def batches(self) -> int:
        """How many batches have been taken: the number of the newest."""
        return self._backlog.batches

    def settled(self, batch: int) -> bool:
        """Tell whether nothing of the batches up to this number is held any more, nor was abandoned."""
        return batch < min(self._backlog.oldest_batch, self._abandoned, *self._entering)

    async def _until_room(self, size: int) -> None:
        while not (self._unbounded or self.output_closed or self._backlog.has_room(size)):
            self._work.unpark_all()  # what was pending may have been sealed to make room
            await self._room.park()

    def lift_bound(self) -> None:
        """Offers that wait for room are let in from now on: the agent stops, or polls but once, so little more will come."""
        self._unbounded = True
        self._room.unpark_all()

    def restore_bound(self) -> None:
        """Offers wait for room again."""
        self._unbounded = self._closing

    def close(self) -> None:
        """Nothing more will come: lingering ends, and ``run`` returns once all is sent."""
        self._closing = True
        self.lift_bound()
        self._work.unpark_all()

    def abandon(self, reason: str = "shutdown") -> None:
        """Drop all that is held, for this reason."""
        self._abandoned = min(self._abandoned, self._backlog.oldest_batch, *self._entering)
        self._backlog.drop_all(reason)
        self._room.unpark_all()

    # -- another exporter -----------------------------------------------------------------------------------------

    async def pause(self, seconds: float) -> None:
        """Begin no further attempt; an attempt under way may take so long, then it is broken off, to be made again."""
        self._paused = True
        with trio.move_on_after(seconds):
            while self._backlog.flying:
                await self._landed.park()
        self._attempting.cancel()
        while self._backlog.flying:
            await self._landed.park()

    def take_over(self, exporter: Exporter[Any], settings: OutboxSettings) -> None:
        """Send by this exporter, of the same type, from now on. Only while paused."""
        self.blocks = settings.queue.on_full == "block"
        self._exporter = exporter
        self._retry = settings.retry
        self._backlog.take_over(exporter, settings)
        self._backoff, self._not_before = 0.0, 0.0

    def resume(self) -> None:
        """Go on sending."""
        self._paused = False
        self._room.unpark_all()
        self._work.unpark_all()

    # -- delivery ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send until closed and empty, or until nobody reads any more (``output_closed``)."""
        try:
            while (request := await self._next()) is not None:
                await self._attempt(request)
        except ClosedOutput as closed:
            self.output_closed = True
            logger.debug("exporter %s ends: %s", self.name, closed)
            self.abandon("closed")

    async def _next(self) -> Request | None:
        """Wait for the request whose turn it is; None once closed and empty."""
        backlog = self._backlog
        while True:
            now = trio.current_time()
            backlog.expire(now)
            if not backlog.requests and (self._closing or now >= backlog.linger_ends):
                backlog.seal()
            self._tell_room()
            if backlog.requests and now >= self._not_before and not self._paused:
                return backlog.requests[0]
            if self._closing and not backlog.requests and not backlog.samples:
                return None
            resumes = self._not_before if backlog.requests else backlog.linger_ends
            with trio.move_on_at(min(math.inf if self._paused else resumes, backlog.expires)):
                await self._work.park()

    def _tell_room(self) -> None:
        """Wake offers where there may be room; never for nothing, since they wake the sender in turn."""
        if self._backlog.bytes != self._seen_bytes:
            self._seen_bytes = self._backlog.bytes
            self._room.unpark_all()

    async def _attempt(self, request: Request) -> None:
        """Send the first request once, and act on the answer."""
        try:
            if self._backlog.fits(request):
                await self._send(request)
        except Retry as error:
            self._try_later(error)
        except Partly as taken:
            self._backlog.settle(request, taken)
            if taken.retry is None:
                self._answered()
            else:
                self._try_later(taken.retry)
        except Rejected as error:
            self._rejected(request, error)
        except ClosedOutput:
            raise
        except Exception:  # noqa: BLE001 - a plugin's bug costs this request, not the process
            self._bug(request)

    async def _send(self, request: Request) -> None:
        """One attempt, not beyond the request's life. One that proves too large is cut or dropped; its pieces come next."""
        self._counts.requests += 1
        self._counts.retries += request.attempts > 0
        request.attempts += 1
        self._backlog.flying = True
        too_large = False
        try:
            with trio.CancelScope(deadline=self._backlog.expires) as self._attempting, self._measured(request):
                await self._exporter.send(request.payload())
        except TooLarge:
            too_large = True
        finally:
            self._backlog.flying = False
            self._landed.unpark_all()
        if too_large:
            self._backlog.halve(request)
        elif not self._attempting.cancelled_caught:
            self._backlog.sent(request)
            self._answered()

    @contextmanager
    def _measured(self, request: Request) -> Iterator[None]:
        """An attempt for the self-telemetry: as a span, and with how long it took and when it last went well."""
        counts, began = self._counts, trio.current_time()
        size, attempt = len(request.body), request.attempts
        try:
            with span("send", "client", exporter=self.name, samples=request.samples, points=request.points,
                      bytes=size, attempt=attempt):  # fmt: skip
                yield
            counts.last_success = self._exporter.context.now() / 1e9
        except Partly:
            counts.last_success = self._exporter.context.now() / 1e9
            raise
        finally:
            counts.send_seconds += trio.current_time() - began

    def _try_later(self, error: Retry) -> None:
        self._back_off(error.after)
        self._log(logging.WARNING, "retry", "exporter %s: %s; trying again", self.name, error)

    def _answered(self) -> None:
        """The destination is there: the next failure waits for the shortest time again."""
        if self._failures:
            self._log.recovered("retry", "exporter %s: sends again after %d failed attempts", self.name)
        self._failures, self._backoff = 0, 0.0

    def _rejected(self, request: Request, error: Rejected) -> None:
        """A final answer: all of the request is refused, or some of its points."""
        self._answered()
        if error.points is None:
            self._backlog.drop(request, "rejected")
            self._log(logging.ERROR, "rejected", "exporter %s: %s; dropped %d samples",
                      self.name, error, request.samples)  # fmt: skip
            return
        points = max(error.points, 0)
        self._backlog.sent(request, points)
        self._log(logging.WARNING, "partial", "exporter %s: the destination refused %d of %d points: %s",
                  self.name, points, request.points, error)  # fmt: skip

    def _bug(self, request: Request) -> None:
        self._log(logging.ERROR, "bug", "exporter %s cannot send %d samples: a bug of this exporter; dropped",
                  self.name, request.samples, bug=True)  # fmt: skip
        self._backlog.drop(request, "bug")
        self._back_off(None)

    def _back_off(self, asked: float | None) -> None:
        """Wait twice as long as last time, with jitter, and never less than the destination asked for.

        Source: OTLP specification, "OTLP/HTTP throttling": the back-off grows from the asked delay, up to a cap. An
        asked delay beyond ``queue.max_age`` is one that no request outlives, so it counts as that.
        """
        retry, least = self._retry, min(max(asked or 0.0, 0.0), self._backlog.max_age)
        self._backoff = min(max(2 * self._backoff, retry.initial, least), retry.max)
        wait = max(self._jitter(LEAST_JITTER, 1.0) * self._backoff, least)
        self._not_before = trio.current_time() + wait
        self._failures += 1
