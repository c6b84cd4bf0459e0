"""Prometheus' own remote write, taken in over HTTP: versions 1.0 and 2.0.

Strategy. A request is answered once all outboxes have custody of what it holds. Requests are decoded and taken one at a
time, in the order of their turn; a request that finds no room waits for ``wait``, and then its client is told to come
again. Where that happens to one that is taken already, its samples are on their way nevertheless, and when it comes again
they are known to be repeated. So nothing is lost by a full queue, and nothing doubled.

At its end the receiver still completes what waits for other parts: it takes from each request just these, and tells its
client to come again with the whole, to whoever listens next. A request that opens nothing new is taken as ever.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Self

import trio

from ebbtide import (
    CannotListen,
    ConfigError,
    Context,
    Emit,
    Fault,
    FoldedLog,
    HttpAnswer,
    HttpLimits,
    HttpRequest,
    ReceiveError,
    Receiver,
    close_listeners,
    open_listeners,
    port_of,
    serve_listeners,
    server_context,
    settle,
    share_listeners,
    span,
)
from receivers import remote_write_answers as answers
from receivers.remote_write_memory import Ready, TooMany, Written
from receivers.remote_write_options import Doorkeeper, RemoteWriteSettings
from receivers.remote_write_snappy import TooLarge, inflate, most_compressed
from receivers.remote_write_wire import Malformed
from receivers.types import TypeBook

_NS = 10**9
_MANY = 1000  # newcomers, after which the heap is settled
TICK_SECONDS = 1.0
"""How often it is looked whether something has waited for long enough."""
DRAIN_SECONDS = 6.0
"""How long the end waits for the parts that are missing: Prometheus sends what it has after 5 s (``batch_send_deadline``)."""
ANSWER_SECONDS = 1.0
"""How long answers under way may take once nothing more is taken."""


class RemoteWrite(Receiver[RemoteWriteSettings]):
    """Takes Prometheus' remote write, and joins histograms whose parts come in different requests."""

    Settings: ClassVar[type[RemoteWriteSettings]] = RemoteWriteSettings
    waits: ClassVar[bool] = True

    def __init__(self, settings: RemoteWriteSettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        options = self.settings
        try:
            self._tls = server_context(options.tls)
        except CannotListen as error:
            raise ConfigError(str(error), "tls") from error
        self._doorkeeper = Doorkeeper(options)
        try:
            self._doorkeeper.check()
        except Fault as fault:
            raise ConfigError(str(fault), self._doorkeeper.option) from fault
        self._written = Written(
            self.counts,
            TypeBook(options.types),
            patience=round(options.patience * _NS),
            track_starts=options.start_times == "track",
        )
        self._log = FoldedLog(self.context.log, trio.current_time, f"receivers.{self.context.id}")
        self._listeners: list[trio.SocketListener] = []
        self._left = trio.Event()
        self._turn = trio.Semaphore(1)
        self._slots = trio.Semaphore(options.max_requests)
        self._answering = 0
        self._born = 0  # series since the heap was last settled
        self._stuck = False  # what was taken last has waited for room longer than a client should
        self._draining = False
        self._idle = trio.Event()  # no answer is under way any more, at the end
        self._settled = trio.Event()  # nothing waits for other parts any more, at the end

    # -- life ----------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that is listened at, 0 while it is not."""
        return port_of(self._listeners) if self._listeners else 0

    async def open(self, before: Receiver[RemoteWriteSettings] | None = None) -> None:
        """Take the port, of the receiver ``before`` this one where it is the same. Raises ReceiveError."""
        if isinstance(before, RemoteWrite) and before._listeners and before.settings.listen == self.settings.listen:
            self._listeners = share_listeners(before._listeners)
            return
        try:
            self._listeners = await open_listeners(self.settings.address, f"receivers.{self.context.id}.listen")
        except CannotListen as error:
            raise ReceiveError(str(error)) from error

    def close(self) -> None:
        """Let go of a port that was taken in vain."""
        close_listeners(self._listeners)
        self._listeners = []

    def inherit(self, old: Self) -> None:
        """Go on with all that the former one remembers of its series, under this one's options."""
        written, own = old._written, self._written
        written.patience, written.track_starts, written.counts = own.patience, own.track_starts, self.counts
        written.registry.types.obey(self.settings.types)
        self._written = written

    def leave(self) -> bool:
        """Return from ``run`` once what waits is decided."""
        self._left.set()
        return True

    async def run(self, emit: Emit) -> None:
        """Listen until asked to leave, or cancelled; then take what is missing of what waits, for a bounded time."""
        if not self._listeners:
            await self.open()
        where = f"[{self.settings.address[0]}]" if ":" in self.settings.address[0] else self.settings.address[0]
        scheme = "http" if self._tls is None else "https"
        self.context.log.info(
            "listening for remote write at %s://%s:%d%s", scheme, where, self.port, self.settings.path
        )
        house = trio.CancelScope(shield=True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stay, house, emit)
                try:
                    await self._left.wait()
                finally:
                    with trio.CancelScope(shield=True):
                        await self._end()
                    house.cancel()
        finally:
            self._listeners = []
            with trio.CancelScope(shield=True):
                await self._emit_all(self._written.finish(self.context.now()), emit)

    async def _stay(self, house: trio.CancelScope, emit: Emit) -> None:
        """Serve and look at the clock, until the house is closed."""
        with house:
            async with trio.open_nursery() as self._nursery:
                self._emit = emit
                limits = HttpLimits(
                    self.settings.max_connections, most_compressed(self.settings.max_body), self.settings.timeout
                )
                self._nursery.start_soon(self._watch_clock)
                await serve_listeners(self._answer, self._listeners, limits=limits, gate=self._gate, tls=self._tls)

    async def _end(self) -> None:
        self._draining = True
        if self._written.held:
            with trio.move_on_after(DRAIN_SECONDS):
                await self._settled.wait()
        if not self._answering:
            self._idle.set()
        with trio.move_on_after(ANSWER_SECONDS):
            await self._idle.wait()
        await self._turn.acquire()  # what is taken is emitted first; nothing is taken after this

    async def _watch_clock(self) -> None:
        while True:
            await trio.sleep(TICK_SECONDS)
            try:
                self._turn.acquire_nowait()
            except trio.WouldBlock:
                continue  # what waits for room, waits with all that is behind it
            await self._pass_on(self._written.tick(self.context.now()))
            if self._born > _MANY:
                self._born = 0
                settle()

    # -- requests ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _gate(self, request: HttpRequest) -> AsyncIterator[HttpAnswer | None]:
        """Refuse a request before its body is read, or let it wait for its place."""
        refusal = self._refusal(request)
        if refusal is not None:
            self.counts.polls += 1
            self._note_refusal(refusal)
            yield refusal
            return
        if not await self._has_place():
            self.counts.polls += 1
            self.counts.failed_polls += 1
            yield self._later()
            return
        self._answering += 1
        try:
            yield None
        finally:
            self._answering -= 1
            self._slots.release()
            if self._draining and not self._answering:
                self._idle.set()

    async def _has_place(self) -> bool:
        """Wait for a place among those that are read at once, unless room has long been waited for."""
        if self._stuck:
            return False
        with trio.move_on_after(self.settings.wait) as scope:
            await self._slots.acquire()
        return not scope.cancelled_caught

    def _refusal(self, request: HttpRequest) -> HttpAnswer | None:
        refusal = answers.not_here(request, self.settings.path)
        if refusal is not None:
            return refusal
        try:
            if not self._doorkeeper.lets_in(request.header("authorization")):
                return answers.unauthorized(self._doorkeeper.scheme)
            answers.check_encoding(request)
            answers.version_of(request)
        except Fault as fault:
            self._log(logging.ERROR, "secret", "receivers.%s: %s", self.context.id, fault)
            return answers.later(self._seconds, "the secret to compare with cannot be read")
        except answers.Unacceptable as error:
            return answers.refused(1, 415, str(error))
        return None

    async def _answer(self, request: HttpRequest) -> HttpAnswer:
        """Take one request; answer once every outbox has custody of it."""
        began = trio.current_time()
        with span("write", receiver=self.context.id) as spoken:
            answer = await self._take(request)
            spoken.set(status=answer.status)
        self.counts.polls += 1
        self.counts.poll_seconds += trio.current_time() - began
        if answer.status == 204:
            self.counts.last_success = self.context.now() / _NS
            self._log.recovered("refused", "receivers.%s: takes requests again after %d refused", self.context.id)
        else:
            self._note_refusal(answer)
        return answer

    async def _take(self, request: HttpRequest) -> HttpAnswer:
        version = answers.version_of(request)
        try:
            body = inflate(request.body, self.settings.max_body)
        except TooLarge as error:
            return answers.refused(version, 413, f"{error}; lower max_samples_per_send, or raise max_body")
        except Malformed as error:
            return answers.refused(version, 400, str(error))
        with trio.move_on_after(self.settings.wait) as scope:
            await self._turn.acquire()
        if scope.cancelled_caught:
            return self._later()
        return await self._take_in_turn(version, body)

    async def _take_in_turn(self, version: int, body: bytes) -> HttpAnswer:
        """Decode and pass on, holding the turn, which is given back when all is emitted, be it after the answer."""
        now = self.context.now()
        try:
            decoded = self._written.read(version, body)
            self._born += len(self._written.registry.newcomers)
            partly = self._draining and self._written.opens(decoded)
            ready = self._written.take_rest(decoded, now) if partly else self._written.take(decoded, now)
        except Malformed as error:
            self._turn.release()
            return answers.refused(version, 400, f"the body is no request of remote write {version}.0: {error}")
        except TooMany as error:
            self._turn.release()
            return answers.refused(version, 413, str(error))
        except BaseException:
            self._turn.release()
            raise
        if not await self._pass_on(ready):
            return self._later()
        if self._draining and not self._written.held:
            self._settled.set()
        if partly:
            return answers.later(1, "this receiver ends; send it again")
        if decoded.refused:
            reason = decoded.reasons[0] if decoded.reasons else "it has bad labels"
            self._log(logging.WARNING, "series",
                      "receivers.%s: cannot take %d samples of a request: %s; correct what writes them",
                      self.context.id, decoded.refused, reason)  # fmt: skip
        return answers.taken(version, decoded)

    async def _pass_on(self, ready: list[Ready]) -> bool:
        """Emit, and give the turn back when done; return whether that was soon enough for a client to wait for."""
        if not ready:
            self._turn.release()
            return True
        done = trio.Event()
        self._nursery.start_soon(self._emit_in_turn, ready, done)
        with trio.move_on_after(self.settings.wait):
            await done.wait()
        self._stuck = not done.is_set()
        return done.is_set()

    async def _emit_in_turn(self, ready: list[Ready], done: trio.Event) -> None:
        with trio.CancelScope(shield=True):
            try:
                await self._emit_all(ready, self._emit)
            finally:
                self._stuck = False
                done.set()
                self._turn.release()

    async def _emit_all(self, ready: list[Ready], emit: Emit) -> None:
        for batch in self._written.booked(ready):
            await emit(batch)

    # -- words ---------------------------------------------------------------------------------------------------

    @property
    def _seconds(self) -> int:
        return max(1, math.ceil(self.settings.wait))

    def _later(self) -> HttpAnswer:
        self._written.hindered = self.context.now()
        return answers.later(self._seconds, "the queues are full; nothing is lost, send it again")

    def _note_refusal(self, answer: HttpAnswer) -> None:
        """Count and say what was not taken; what comes again is said by the exporter that is full."""
        self.counts.failed_polls += 1
        if answer.status < 500:
            words = answer.body.decode(errors="replace").strip()
            self._log(logging.WARNING, "refused",
                      "receivers.%s: cannot take a request: it was answered %d, %s; look at what sends it",
                      self.context.id, answer.status, words)  # fmt: skip
