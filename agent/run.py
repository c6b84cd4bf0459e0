"""The life of the agent: the only place where tasks start.

Strategy. Nurseries are nested as data flows: sources (receivers) inside senders inside the house (signals, admin port,
watchdog). Leaving the inner one is the stop: receivers are cancelled or have polled once, processors are flushed,
outboxes close, and the senders drain under one deadline. Whatever ends the sources, the way out is the same.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from agent import closing, heap
from agent.config import Config, ConfigErrors
from agent.ledger import ReceiverCounts
from agent.notify import keep_watchdog, notify
from agent.outbox import Outbox
from agent.pipeline import Pipeline, deliver
from agent.plugin import Emit, Receiver
from agent.settings import AgentSettings, parse_address, show_duration
from agent.wiring import Wiring, wire

logger = logging.getLogger("ebbtide.run")

WELL, FAILED, MISCONFIGURED = 0, 1, 78

FIRST_RESTART, LAST_RESTART = 1.0, 30.0
"""Seconds before a component with a bug is started again: the first time, and at most."""
FLUSH_SECONDS = 1.0
"""How often processors that work over time are asked what they hold back."""
CLOSE_SECONDS = 1.0
"""How long an exporter may take to let go of its connections."""


def run(config: Config, *, once: bool = False, ledger_path: Path | None = None) -> int:
    """Run the pipelines until told to stop, or poll ``once``; returns the exit status."""
    heap.prepare()
    return trio.run(lambda: main(config, once=once, ledger_path=ledger_path))


async def main(config: Config, *, once: bool = False, ledger_path: Path | None = None) -> int:
    """The same, inside a trio loop (of the main thread, for the signals). ``ledger_path`` is written at the end."""
    try:
        wiring = wire(config, once=once)
    except ConfigErrors as error:
        print(error, file=sys.stderr)
        return MISCONFIGURED
    life = Life(wiring, config.agent, once=once)
    try:
        await life.run(None if once else parse_address(config.agent.admin))
    finally:
        written = closing.report(wiring.ledger, ledger_path)
    return FAILED if life.failed or not written else closing.status(wiring.ledger, once=once)


class Life:
    """One run of one wiring. ``failed``: the exit status is 1 whatever the ledger says."""

    def __init__(self, wiring: Wiring, settings: AgentSettings, *, once: bool = False):
        self.wiring = wiring
        self.settings = settings
        self.once = once
        self.ready = False
        self.failed = False
        self._sources = trio.CancelScope()
        self._signals = 0

    async def run(self, admin: tuple[str, int] | None) -> None:
        """Live until told to stop, then drain."""
        try:
            async with trio.open_nursery() as house:
                await house.start(self._obey_signals, house.cancel_scope)
                if admin is None or await self._open_admin(house, admin):
                    house.start_soon(keep_watchdog)
                    await self._flow()
                house.cancel_scope.cancel()
        finally:
            await self._close_exporters()

    def stop(self, why: str) -> None:
        """Cancel the receivers; what follows from that is the way out."""
        if not self._sources.cancel_called:
            logger.info("stopping (%s): draining for at most %s", why, show_duration(self.settings.shutdown_timeout))
            self._sources.cancel()

    async def _flow(self) -> None:
        outboxes = self.wiring.outboxes.values()
        try:
            async with trio.open_nursery() as senders:
                for outbox in outboxes:
                    senders.start_soon(self._send, outbox)
                with self._sources:
                    await self._receive_all()
                self.ready = False
                notify("STOPPING=1")
                await self._flush()
                for outbox in outboxes:
                    outbox.close()
                senders.cancel_scope.deadline = trio.current_time() + self.settings.shutdown_timeout
        finally:
            for outbox in outboxes:
                outbox.abandon()

    # -- sources -------------------------------------------------------------------------------------------------

    async def _receive_all(self) -> None:
        """Run every receiver until cancelled, or let each poll once.

        A single poll waits for no room, or ``shutdown_timeout`` would never begin where a destination is away.
        """
        async with trio.open_nursery() as sources:
            if self.once:
                self._lift_bounds()
            sources.start_soon(self._lift_bounds_when_cancelled)
            if any(pipeline.flushes for pipeline in self.wiring.pipelines.values()):
                sources.start_soon(self._flush_often)
            async with trio.open_nursery() as receivers:
                for name, receiver in self.wiring.receivers.items():
                    receivers.start_soon(self._poll if self.once else self._receive, receiver, self.wiring.emits[name])
                self.ready = True
                notify("READY=1")
                if not self.once:
                    await trio.sleep_forever()
            sources.cancel_scope.cancel()

    async def _lift_bounds_when_cancelled(self) -> None:
        """However the sources end, nobody may go on waiting for room: those offers are shielded."""
        try:
            await trio.sleep_forever()
        finally:
            self._lift_bounds()

    def _lift_bounds(self) -> None:
        for outbox in self.wiring.outboxes.values():
            outbox.lift_bound()

    async def _receive(self, receiver: Receiver[Any], emit: Emit) -> None:
        """Run one receiver; one with a bug is started again, ever more slowly."""
        wait = FIRST_RESTART
        while True:
            began = trio.current_time()
            if not await self._guarded(receiver.run, receiver, emit):
                logger.warning("receiver %s has ended by itself; it is not started again", receiver.context.id)
                return
            if trio.current_time() - began > LAST_RESTART:
                wait = FIRST_RESTART
            logger.info("receiver %s starts again in %s", receiver.context.id, show_duration(wait))
            await trio.sleep(wait)
            wait = min(2 * wait, LAST_RESTART)

    async def _poll(self, receiver: Receiver[Any], emit: Emit) -> None:
        """Let one receiver poll once; a bug is a failed poll."""
        if await self._guarded(receiver.once, receiver, emit):
            counts = receiver.counts
            counts.failed_polls += 1
            counts.polls = max(counts.polls, counts.failed_polls)

    async def _guarded(self, receive: Callable[[Emit], Awaitable[None]], receiver: Receiver[Any], emit: Emit) -> bool:
        """Await ``receive``; True where it had a bug. Samples that it counted and did not emit are booked."""
        lost, bug = "shutdown", False
        try:
            await receive(emit)
        except* Exception as group:
            error = group.exceptions[0] if len(group.exceptions) == 1 else group
            logger.error("receiver %s failed: a bug of this receiver", receiver.context.id, exc_info=error)
            lost, bug = "bug", True
        finally:
            _book_lost(receiver.counts, lost)
        return bug

    # -- processors ----------------------------------------------------------------------------------------------

    async def _flush_often(self) -> None:
        due = trio.current_time()
        while True:
            due = max(due + FLUSH_SECONDS, trio.current_time())
            await trio.sleep_until(due)
            await self._flush()

    async def _flush(self) -> None:
        """Pass on what processors hold back."""
        flushed: list[tuple[Pipeline, Any]] = []
        for pipeline in self.wiring.pipelines.values():
            if pipeline.flushes:
                flushed.extend((pipeline, batch) for batch in pipeline.flush(time.time_ns()))
        await deliver(flushed)

    # -- senders -------------------------------------------------------------------------------------------------

    async def _send(self, outbox: Outbox) -> None:
        """Send from one outbox until it is closed and empty. Its own bugs are caught there; this is the last resort."""
        while True:
            bug = False
            try:
                await outbox.run()
            except* Exception as group:
                logger.error("exporter %s failed: a bug", outbox.name, exc_info=group)
                bug = True
            if not bug:
                break
            await trio.sleep(FIRST_RESTART)
        if outbox.output_closed:
            self.stop(f"the output of exporter {outbox.name} is closed")

    async def _close_exporters(self) -> None:
        for name, exporter in self.wiring.exporters.items():
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                try:
                    await exporter.aclose()
                except* Exception as group:
                    logger.error("exporter %s cannot close: a bug of this exporter", name, exc_info=group)

    # -- the house -----------------------------------------------------------------------------------------------

    async def _obey_signals(
        self, house: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """SIGTERM, SIGINT: stop; a second one: give up at once."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    logger.warning("reload is not available in this version; restart to apply the file")
                    continue
                self._signals += 1
                if self._signals == 1:
                    self.stop(signal.Signals(number).name)
                else:
                    logger.error("giving up at a second signal: what is held is lost")
                    self.failed = True
                    house.cancel()

    async def _open_admin(self, house: trio.Nursery, address: tuple[str, int]) -> bool:
        """Open the admin port; False, and said why, where it cannot be had."""
        from agent.admin import Admin
        from agent.httpserver import serve_http
        from agent.meter import Meter

        meter = Meter(self.wiring.ledger, self.wiring.outboxes)
        admin = Admin(self.wiring.ledger, lambda: self.ready, meter.render)
        try:
            port = await house.start(serve_http, admin, *address)
        except OSError as error:
            logger.error(
                "cannot open the admin port %s: %s; set agent.admin to a free address, or to \"\" to do without",
                self.settings.admin, error.strerror or error,
            )  # fmt: skip
            self.failed = True
            return False
        logger.info("admin port open at http://%s:%d", f"[{address[0]}]" if ":" in address[0] else address[0], port)
        return True


def _book_lost(counts: ReceiverCounts, reason: str) -> None:
    """Samples that a receiver counted and did not emit before it was ended."""
    lost = counts.imbalance()
    if lost > 0:
        counts.dropped[reason] += lost
