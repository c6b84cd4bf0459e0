"""What waits for one destination: payloads joined, sealed once, bounded, each sample of them counted. No IO, no waiting.

Strategy. Payloads are collected (``pending``) until they are joined and sealed into a request; requests leave at the
front, in order. One record per payload or request, never per sample. ``samples`` and ``bytes`` are kept up to date at
each step, so that the ledger's ``in = sent + held + dropped`` is true at any moment, whatever a plugin does: samples
that an exporter's ``encode`` or ``cut`` forgets are booked as ``bug``, samples that it makes up are not believed.

Bounds. ``queue.max_bytes`` is meant of what will be sent, so pending payloads are sealed before anything is dropped
for want of room. A batch larger than the whole queue is kept once all else that can be dropped is gone. What is being
sent cannot be dropped; what waits for its next attempt can.

Cutting. A request that the destination calls too large is cut at half its size, and this limit holds for what follows;
after ``GROW_AFTER`` requests taken in a row it doubles, up to ``batch.max_bytes``, since a limit met once may have been
a proxy's of yesterday. A wrong guess costs one refused request in ``GROW_AFTER``. The exporter is told the limit before it
encodes, so that it can lay out for it what else would be cut.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from agent.batch import Batch
from agent.folded import FoldedLog
from agent.ledger import ExporterCounts
from agent.plugin import Exporter, Partly, Payload
from agent.settings import OutboxSettings

MEMORY_QUEUE_BYTES = 64 * 2**20
"""``queue.max_bytes`` of a queue in memory, where the file says nothing."""
GROW_AFTER = 100
"""Requests taken in a row after which a lowered size limit doubles."""


@dataclass(slots=True, eq=False)
class Request:
    """Sealed payloads, sent as one. ``raw`` bytes unsealed; ``born`` when its oldest payload came (seconds of trio's clock)."""

    key: bytes
    body: bytes
    points: int
    samples: int
    raw: int
    born: float
    oldest: int  # number of the oldest batch in it
    newest: int
    sealer: Exporter[Any]
    attempts: int = 0
    whole: bool = False  # cannot be cut any further

    @property
    def batches(self) -> tuple[int, int]:
        """Numbers of the oldest and the newest batch in it."""
        return self.oldest, self.newest

    def payload(self) -> Payload:
        """The request as the exporter sends it."""
        return Payload(self.key, self.body, self.points, self.samples)


class Backlog:
    """The bounded queue before one exporter. ``samples``: all that is held, offers that wait for room included."""

    def __init__(self, exporter: Exporter[Any], settings: OutboxSettings, counts: ExporterCounts, log: FoldedLog):
        self._counts = counts
        self._log = log
        self._name = exporter.context.id
        self._obey(exporter, settings)
        self.samples = 0
        self.bytes = 0
        self.requests: deque[Request] = deque()
        self.flying = False  # the first request is being sent
        self._pending: list[Payload] = []
        self._pending_bytes = 0
        self._pending_since = 0.0
        self._pending_batches = 0, 0  # numbers of the oldest and the newest
        self.batches = 0  # taken so far
        self._taken = 0

    def _obey(self, exporter: Exporter[Any], settings: OutboxSettings) -> None:
        self._exporter = exporter
        self.max_bytes = MEMORY_QUEUE_BYTES if settings.queue.max_bytes is None else settings.queue.max_bytes
        self.max_age = settings.queue.max_age
        self.linger = settings.batch.linger
        self.max_request = self.limit = min(settings.batch.max_bytes, exporter.max_request)

    def take_over(self, exporter: Exporter[Any], settings: OutboxSettings) -> None:
        """Keep for another exporter of the same type, under its settings, what was kept for the former one."""
        self.seal()
        self._obey(exporter, settings)
        if settings.queue.on_full == "drop_oldest":
            self.drop_oldest()

    # -- in ------------------------------------------------------------------------------------------------------

    def encode(self, batch: Batch) -> list[Payload]:
        """Take a batch into the books and return it as payloads of at most ``limit`` bytes each."""
        counts, rows = self._counts, len(batch)
        self.batches += 1
        counts.received += rows
        self.samples += rows
        before = counts.dropped.total()
        self._exporter.max_payload = self.limit
        try:
            payloads = list(self._exporter.encode(batch))
        except Exception:  # noqa: BLE001 - a plugin's bug costs its batch, not the process
            payloads = []
            self._bug("encode %d samples", rows)
        self.samples -= counts.dropped.total() - before  # what encode itself dropped, and said so
        left = rows - (counts.dropped.total() - before)
        return [piece for payload in self._believed(payloads, left) for piece in self._cut(payload, self.limit)]

    def refuse(self, batch: Batch, reason: str) -> None:
        """Take a batch into the books only to drop it."""
        self._counts.received += len(batch)
        self._counts.dropped[reason] += len(batch)

    def add(self, payload: Payload, batch: int, now: float) -> None:
        """Let a payload of the batch of this number wait for others to be joined with."""
        if self._pending and self._pending_bytes + len(payload.body) > self.limit:
            self.seal()
        if not self._pending:
            self._pending_since = now
            self._pending_batches = batch, batch
        oldest, newest = self._pending_batches
        self._pending_batches = min(oldest, batch), max(newest, batch)
        self._pending.append(payload)
        self._pending_bytes += len(payload.body)
        self.bytes += len(payload.body)

    def seal(self) -> None:
        """Make one request of all that is pending."""
        payloads, self._pending = self._pending, []
        self.bytes -= self._pending_bytes
        self._pending_bytes = 0
        if payloads:
            samples = sum(payload.samples for payload in payloads)
            try:
                self._push(self._joined(payloads, samples))
            except Exception:  # noqa: BLE001 - a plugin's bug costs this request, not the process
                self._bug("join and seal %d samples", samples)
                self._forget(samples, "bug")

    def _joined(self, payloads: list[Payload], samples: int) -> Request:
        keys = {payload.key for payload in payloads}
        bodies = [payload.body for payload in payloads]
        body = bodies[0] if len(bodies) == 1 else self._exporter.join(bodies)
        points = sum(payload.points for payload in payloads)
        key = keys.pop() if len(keys) == 1 else b""
        return self._sealed(Payload(key, body, points, samples), self._pending_since, self._pending_batches)

    def _sealed(self, payload: Payload, born: float, batches: tuple[int, int], whole: bool = False) -> Request:
        body = self._exporter.seal(payload.body)
        size, by = len(payload.body), self._exporter
        return Request(payload.key, body, payload.points, payload.samples, size, born, *batches, by, whole=whole)

    def _push(self, request: Request) -> None:
        self.requests.append(request)
        self.bytes += len(request.body)

    # -- bounds --------------------------------------------------------------------------------------------------

    def has_room(self, size: int) -> bool:
        """Tell whether a payload of ``size`` bytes may come in without dropping any; an empty queue takes all."""
        if self.bytes + size > self.max_bytes:
            self.seal()
        return self.bytes + size <= self.max_bytes or not self.bytes

    def drop_oldest(self) -> None:
        """After a batch came in: drop as ``overflow``, oldest first, what is over the bound."""
        if self.bytes <= self.max_bytes:
            return
        self.seal()
        newest = self.batches
        larger_than_queue = sum(len(r.body) for r in self.requests if r.newest == newest) > self.max_bytes
        before = self.samples
        while self.bytes > self.max_bytes and len(self.requests) > self.flying:
            oldest = self.requests[int(self.flying)]
            if larger_than_queue and oldest.newest == newest:
                break
            self.drop(oldest, "overflow")
        if lost := before - self.samples:
            self._log(logging.ERROR, "overflow", "exporter %s: cannot keep all that waits: its queue is full; dropped %d samples, the oldest; "
                      "see why its destination is slow, or raise `queue.max_bytes`", self._name, lost)  # fmt: skip

    def expire(self, now: float) -> None:
        """Drop as ``expired`` what has waited for ``queue.max_age``."""
        if self._pending and now >= self._pending_since + self.max_age:
            self.seal()
        before = self.samples
        while self.requests and not self.flying and now >= self.requests[0].born + self.max_age:
            self.drop(self.requests[0], "expired")
        if lost := before - self.samples:
            self._log(logging.ERROR, "expired", "exporter %s: cannot keep what waits any longer: it is older than `queue.max_age`; dropped %d "
                      "samples; see why its destination takes nothing, or raise it", self._name, lost)  # fmt: skip

    @property
    def linger_ends(self) -> float:
        """When what is pending is to be sealed; infinity where nothing is."""
        return self._pending_since + self.linger if self._pending else math.inf

    @property
    def expires(self) -> float:
        """When the oldest of all reaches ``queue.max_age``; infinity where nothing waits."""
        oldest = self.requests[0].born if self.requests else self._pending_since if self._pending else math.inf
        return oldest + self.max_age

    @property
    def oldest_batch(self) -> float:
        """The number of the oldest batch of which anything waits; infinity where nothing does."""
        pending = self._pending_batches[0] if self._pending else math.inf
        return min((request.oldest for request in self.requests), default=pending)

    # -- out -----------------------------------------------------------------------------------------------------

    def sent(self, request: Request, rejected_points: int = 0) -> None:
        """The destination took the request, but for so many of its points."""
        self._remove(request)
        counts = self._counts
        counts.sent += request.samples
        counts.points_sent += max(request.points - rejected_points, 0)
        counts.rejected_points += rejected_points
        self.samples -= request.samples
        self._taken += 1
        if self.limit < self.max_request and self._taken >= GROW_AFTER:
            self.limit, self._taken = min(2 * self.limit, self.max_request), 0

    def settle(self, request: Request, taken: Partly) -> None:
        """The destination took a part of the first request: what is left comes next, as old as it was."""
        rest = taken.rest and replace(taken.rest, samples=min(max(taken.rest.samples, 0), request.samples))
        again = rest and self._sealed(rest, request.born, request.batches)
        self._remove(request)
        if again:
            again.attempts = request.attempts
            self.requests.appendleft(again)
            self.bytes += len(again.body)
        settled, points = request.samples - (rest.samples if rest else 0), request.points - (rest.points if rest else 0)
        for reason, samples in taken.refused.items():
            refused = min(max(samples, 0), settled)
            self._forget(refused, reason)
            settled -= refused
        self._counts.sent += settled
        self._counts.points_sent += max(points - taken.refused_points, 0)
        self.samples -= settled

    def drop(self, request: Request, reason: str) -> None:
        """The request will never be sent."""
        self._remove(request)
        self._forget(request.samples, reason)

    def drop_all(self, reason: str) -> None:
        """Nothing that is held will ever be sent, offers that still wait for room included."""
        self.requests.clear()
        self._pending.clear()
        self.bytes = self._pending_bytes = 0
        self._forget(self.samples, reason)

    def halve(self, request: Request) -> None:
        """The destination called the request too large: cut it at half its size, or drop the single point that it is."""
        size = request.raw // 2
        pieces = [] if request.whole else self._pieces(request, size)
        if len(pieces) > 1:
            self.limit, self._taken = min(self.limit, max(size, 1)), 0
            self._replace(request, pieces)
        else:
            self._log(logging.ERROR, "too_large", "exporter %s: one point of %d bytes is too large for the destination; dropped",
                      self._name, request.raw)  # fmt: skip
            self.drop(request, "too_large")

    def fits(self, request: Request) -> bool:
        """Tell whether the first request is within the limit learned meanwhile; where not, it is cut and False returned.

        One that was sealed by the exporter's predecessor is brought into the form of the present one.
        """
        if request.sealer is not self._exporter:
            self._seal_again(request)
        if request.raw <= self.limit or request.whole:
            return True
        self._replace(request, self._pieces(request, self.limit))
        return False

    def _seal_again(self, request: Request) -> None:
        body = self._exporter.seal(request.sealer.unseal(request.body))
        self.bytes += len(body) - len(request.body)
        request.body, request.sealer = body, self._exporter

    def _pieces(self, request: Request, max_bytes: int) -> list[Request]:
        unsealed = replace(request.payload(), body=self._exporter.unseal(request.body))
        pieces = self._exporter.cut(unsealed, max(max_bytes, 1))
        if sum(piece.samples for piece in pieces) != request.samples:
            raise ValueError(f"cut makes {sum(p.samples for p in pieces)} samples of {request.samples}")
        alone = len(pieces) == 1
        return [
            self._sealed(piece, request.born, request.batches, alone or len(piece.body) > max_bytes) for piece in pieces
        ]

    def _replace(self, request: Request, pieces: list[Request]) -> None:
        self._remove(request)
        self.requests.extendleft(reversed(pieces))
        self.bytes += sum(len(piece.body) for piece in pieces)

    def _remove(self, request: Request) -> None:
        self.requests.remove(request)
        self.bytes -= len(request.body)

    # -- books ---------------------------------------------------------------------------------------------------

    def _forget(self, samples: int, reason: str) -> None:
        if samples:
            self._counts.dropped[reason] += samples
            self.samples -= samples

    def _believed(self, payloads: Iterable[Payload], samples: int) -> list[Payload]:
        """The payloads, with sample counts that add up to ``samples`` or less; what is missing is booked as ``bug``."""
        believed, left = [], samples
        for payload in payloads:
            counted = min(max(payload.samples, 0), left)
            left -= counted
            believed.append(payload if counted == payload.samples else replace(payload, samples=counted))
        self._forget(left, "bug")
        return believed

    def _cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut a payload that is too large for one request, and drop what cannot be cut."""
        if len(payload.body) <= max_bytes:
            return [payload]
        try:
            pieces = list(self._exporter.cut(payload, max_bytes))
        except Exception:  # noqa: BLE001 - a plugin's bug costs this payload, not the process
            pieces = []
            self._bug("cut %d samples", payload.samples)
        fitting = []
        for piece in self._believed(pieces, payload.samples):
            if len(piece.body) <= self.max_request:
                fitting.append(piece)
                continue
            self._log(logging.ERROR, "too_large", "exporter %s: one point of %d bytes is larger than any request may be; dropped",
                      self._name, len(piece.body))  # fmt: skip
            self._forget(piece.samples, "too_large")
        return fitting

    def _bug(self, what: str, *args: object) -> None:
        self._log(
            logging.ERROR,
            f"bug {what}",
            f"exporter %s cannot {what}: a bug of this exporter; dropped",
            self._name,
            *args,
            bug=True,
        )
