"""Custody and delivery: a bounded queue before one exporter, and the one task that sends from it, in order.

Strategy. All bookkeeping is the backlog's, without IO; here is what waits. The sender parks until there is something
to do: a request whose turn it is, the end of a linger, of a back-off or of a life. Nothing polls. The request at the
front is tried until it is taken, refused for good, or too old, so that order survives every failure. The back-off
belongs to the destination, not to a request: where the queue drops the front one, the next one waits as long.

Taking custody is never interrupted: an offer that waits for room ("block") is shielded from cancellation, and is let
in over the bound once the agent stops, because its bytes are in memory anyway and can still be sent.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import trio

from agent.backlog import Backlog, Request
from agent.batch import Batch
from agent.folded import FoldedLog
from agent.ledger import ExporterCounts
from agent.plugin import ClosedOutput, Exporter, Payload, Rejected, Retry, TooLarge
from agent.settings import OutboxSettings

logger = logging.getLogger("ebbtide.outbox")

LEAST_JITTER = 0.5
"""A back-off of t seconds waits between this share of t and t, at random."""


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
        self._log = FoldedLog(logger, trio.current_time)
        self._backlog = Backlog(exporter, settings, counts, self._log)
        self._work = trio.lowlevel.ParkingLot()  # the sender, until there is something to do
        self._room = trio.lowlevel.ParkingLot()  # offers, until there is room
        self._turn = trio.Lock()  # offers wait for room one after the other
        self._closing = False
        self._unbounded = False
        self._seen_bytes = 0
        self._backoff = 0.0
        self._not_before = 0.0
        self._failures = 0
        counts.held = self.held

    def held(self) -> int:
        """Samples in custody: waiting for room, pending, queued and in flight."""
        return self._backlog.samples

    @property
    def bytes(self) -> int:
        """Bytes pending and sealed."""
        return self._backlog.bytes

    # -- custody -------------------------------------------------------------------------------------------------

    def put(self, batch: Batch) -> None:
        """Take custody at once; where the queue is full, its oldest requests are dropped as ``overflow``."""
        for payload in self._encoded(batch):
            self._backlog.add(payload, trio.current_time())
        self._backlog.drop_oldest()
        self._work.unpark_all()

    async def offer(self, batch: Batch) -> None:
        """Take custody once there is room. Not interrupted by cancellation: see the strategy above."""
        payloads = self._encoded(batch)
        with trio.CancelScope(shield=True):
            async with self._turn:
                for payload in payloads:
                    await self._until_room(len(payload.body))
                    if not self.output_closed:
                        self._backlog.add(payload, trio.current_time())
                    self._work.unpark_all()

    def _encoded(self, batch: Batch) -> list[Payload]:
        if self.output_closed:
            self._backlog.refuse(batch, "closed")
            return []
        return self._backlog.encode(batch)

    async def _until_room(self, size: int) -> None:
        while not (self._unbounded or self.output_closed or self._backlog.has_room(size)):
            self._work.unpark_all()  # what was pending may have been sealed to make room
            await self._room.park()

    def lift_bound(self) -> None:
        """Offers that wait for room are let in from now on: the agent stops, or polls but once, so little more will come."""
        self._unbounded = True
        self._room.unpark_all()

    def close(self) -> None:
        """Nothing more will come: lingering ends, and ``run`` returns once all is sent."""
        self._closing = True
        self.lift_bound()
        self._work.unpark_all()

    def abandon(self, reason: str = "shutdown") -> None:
        """Drop all that is held, for this reason."""
        self._backlog.drop_all(reason)
        self._room.unpark_all()

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
            if backlog.requests and now >= self._not_before:
                return backlog.requests[0]
            if self._closing and not backlog.requests:
                return None
            resumes = self._not_before if backlog.requests else backlog.linger_ends
            with trio.move_on_at(min(resumes, backlog.expires)):
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
            self._back_off(error.after)
            self._log(logging.WARNING, "retry", "exporter %s: %s; trying again", self.name, error)
        except Rejected as error:
            self._rejected(request, error)
        except ClosedOutput:
            raise
        except Exception:  # noqa: BLE001 - a plugin's bug costs this request, not the process
            self._bug(request)

    async def _send(self, request: Request) -> None:
        """One attempt. A request that proves too large is cut or dropped, and its pieces come next."""
        self._counts.requests += 1
        self._counts.retries += request.attempts > 0
        request.attempts += 1
        self._backlog.flying = True
        too_large = False
        try:
            await self._exporter.send(request.payload())
        except TooLarge:
            too_large = True
        finally:
            self._backlog.flying = False
        if too_large:
            self._backlog.halve(request)
        else:
            self._backlog.sent(request)
            self._answered()

    def _answered(self) -> None:
        """The destination is there: the next failure waits for the shortest time again."""
        if self._failures:
            logger.info("exporter %s: sends again after %d failed attempts", self.name, self._failures)
            self._log.forget("retry")
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
