"""The life of the agent: the only place where tasks start.

Strategy. Nurseries are nested as data flows: sources (receivers) inside senders inside the house (signals, admin port,
watchdog). Leaving the inner one is the stop: receivers are cancelled or have polled once, processors are flushed,
outboxes close, and the senders drain under one deadline. Whatever ends the sources, the way out is the same.

SIGHUP reads the file again and applies what has changed (``agent.reload``) while all else flows on.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from agent import closing, held_signals, log
from agent.admin import Admin
from agent.checkpoint import Writer
from agent.config import Config, ConfigErrors, load
from agent.house import CannotOpen, House
from agent.notify import keep_watchdog, notify, reloading
from agent.outbox import Outbox
from agent.pipeline import Pipeline, deliver
from agent.plugin import Exporter, ReceiveError, Receiver
from agent.receiving import Reception
from agent.reload import Change, Reloads
from agent.settings import show_duration
from agent.telemetry import Telemetry
from agent.wiring import Wiring, wire

logger = logging.getLogger("ebbtide.run")

WELL, FAILED, MISCONFIGURED = 0, 1, 78

SEND_AGAIN_SECONDS = 1.0
"""How long an outbox with a bug of its own rests before it sends again."""
FLUSH_SECONDS = 1.0
"""How often processors that work over time are asked what they hold back."""
CLOSE_SECONDS = 1.0
"""How long an exporter may take to let go of its connections."""


def run(config: Config, *, once: bool = False, ledger_path: Path | None = None) -> int:
    """Run the pipelines until told to stop, or poll ``once``; returns the exit status."""
    return trio.run(lambda: main(config, once=once, ledger_path=ledger_path))


async def main(
    config: Config,
    *,
    once: bool = False,
    ledger_path: Path | None = None,
    read: Callable[[Path], Config] = load,
) -> int:
    """The same, inside a trio loop (of the main thread, for the signals). ``ledger_path`` is written at the end.

    ``read`` reads the file again when a reload is asked for.
    """
    try:
        wiring = wire(config, once=once)
    except ConfigErrors as error:
        print(error, file=sys.stderr)
        return MISCONFIGURED
    life = Life(wiring, once=once, read=read)
    try:
        await life.run()
    finally:
        written = closing.report(wiring.ledger, ledger_path)
    return FAILED if life.failed or not written else closing.status(wiring.ledger, once=once)


class Life:
    """One run of one file. ``failed``: the exit status is 1 whatever the ledger says."""

    def __init__(self, wiring: Wiring, *, once: bool = False, read: Callable[[Path], Config] = load):
        self.wiring = wiring
        self.once = once
        self.ready = False
        self.failed = False
        self.reloads = Reloads()
        self.outboxes = dict(wiring.outboxes)  # by id: what the meter asks
        self._read = read
        self._exporters = {outbox: wiring.exporters[name] for name, outbox in wiring.outboxes.items()}
        self._receptions: dict[str, Reception] = {}
        self._sources = trio.CancelScope()
        self._reload_asked = trio.Event()
        self._notes = Writer()
        self._signals = 0
        self._telemetry = Telemetry(wiring.ledger, self.outboxes, self.reloads, {} if once else os.environ)

    async def run(self) -> None:
        """Live until told to stop, then drain."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._obey_signals, nursery.cancel_scope)
                self._house = House(nursery, Admin(self.wiring.ledger, lambda: self.ready, self._telemetry.render))
                try:
                    if self.once or await self._settled():
                        nursery.start_soon(keep_watchdog)
                        nursery.start_soon(self._telemetry.start)
                        nursery.start_soon(self._notes.run, lambda: self.wiring.checkpoints.values())
                        await self._flow()
                finally:
                    self._notes.last(self.wiring.checkpoints.values())
                    self._house.close()
                nursery.cancel_scope.cancel()
        finally:
            for exporter in self._exporters.values():
                await _close(exporter)
            await self._telemetry.close()

    def stop(self, why: str) -> None:
        """Cancel the receivers; what follows from that is the way out."""
        if not self._sources.cancel_called:
            timeout = show_duration(self.wiring.config.agent.shutdown_timeout)
            logger.info("stopping (%s): draining for at most %s", why, timeout)
            self._sources.cancel()

    async def _settled(self) -> bool:
        """Take the ports and the state directory; False, and said why, where they cannot be had."""
        try:
            (await self._house.prepare(self.wiring.config.agent)).make()
            await _open(self.wiring.receivers, {})
        except (CannotOpen, ReceiveError) as error:
            logger.error("%s", error)
            self.failed = True
            return False
        return True

    async def _flow(self) -> None:
        try:
            async with trio.open_nursery() as senders:
                for outbox in self._exporters:
                    senders.start_soon(self._send, outbox)
                with self._sources:
                    await self._receive_all(senders)
                self.ready = False
                notify("STOPPING=1")
                await self._flush()
                for outbox in self._exporters:
                    outbox.close()
                timeout = self.wiring.config.agent.shutdown_timeout
                senders.cancel_scope.deadline = trio.current_time() + timeout
        finally:
            for outbox in self._exporters:
                outbox.abandon()

    # -- sources -------------------------------------------------------------------------------------------------

    async def _receive_all(self, senders: trio.Nursery) -> None:
        """Run every receiver until cancelled, or let each poll once.

        A single poll waits for no room, or ``shutdown_timeout`` would never begin where a destination is away.
        """
        async with trio.open_nursery() as sources:
            if self.once:
                self._lift_bounds()
            sources.start_soon(self._lift_bounds_when_cancelled)
            sources.start_soon(self._flush_often)
            async with trio.open_nursery() as receivers:
                for name, receiver in self.wiring.receivers.items():
                    if self.once:
                        receivers.start_soon(Reception(receiver, self.wiring.emits[name]).poll)
                    else:
                        self._start(name, receivers)
                self.ready = True
                notify("READY=1")
                if not self.once:
                    await self._reload_when_asked(receivers, senders)
            sources.cancel_scope.cancel()

    def _start(self, name: str, receivers: trio.Nursery) -> None:
        reception = self._receptions[name] = Reception(self.wiring.receivers[name], self.wiring.emits[name])
        receivers.start_soon(reception.run)

    async def _lift_bounds_when_cancelled(self) -> None:
        """However the sources end, nobody may go on waiting for room: those offers are shielded."""
        try:
            await trio.sleep_forever()
        finally:
            self._lift_bounds()

    def _lift_bounds(self) -> None:
        for outbox in self._exporters:
            outbox.lift_bound()

    # -- processors ----------------------------------------------------------------------------------------------

    async def _flush_often(self) -> None:
        due = trio.current_time()
        while True:
            due = max(due + FLUSH_SECONDS, trio.current_time())
            await trio.sleep_until(due)
            if any(pipeline.flushes for pipeline in self.wiring.pipelines.values()):
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
            await trio.sleep(SEND_AGAIN_SECONDS)
        if outbox not in self.wiring.outboxes.values():
            logger.info("exporter %s: drained and removed", outbox.name)
            await _close(self._exporters.pop(outbox))
        elif outbox.output_closed:
            self.stop(f"the output of exporter {outbox.name} is closed")

    # -- reload --------------------------------------------------------------------------------------------------

    async def _reload_when_asked(self, receivers: trio.Nursery, senders: trio.Nursery) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked = trio.Event()
            reloading()
            try:
                await self._reload(receivers, senders)
            finally:
                notify("READY=1")

    async def _reload(self, receivers: trio.Nursery, senders: trio.Nursery) -> None:
        """Apply the file as it is now; one that is wrong changes nothing."""
        path = self.wiring.config.path
        try:
            config = self._read(path)
            change = Change(self.wiring, wire(config, before=self.wiring))
            move = await self._house.prepare(config.agent)
            try:
                running = self.wiring.receivers
                await _open({name: change.new.receivers[name] for name in change.entering}, running)
            except BaseException:
                move.take_back()
                raise
        except Exception as error:
            self.reloads.failed += 1
            self.reloads.well = False
            bug = None if isinstance(error, ConfigErrors | CannotOpen | ReceiveError) else error
            logger.error("cannot reload %s, so nothing has changed:\n%s", path, error, exc_info=bug)
            return
        try:
            await self._apply(change, receivers, senders)
        except BaseException:
            move.take_back()
            raise
        move.make()
        log.setup(config.agent.log_level, config.agent.log_format)
        self.reloads.done, self.reloads.last = self.reloads.done + 1, time.time_ns()
        self.reloads.well = True
        logger.info("reloaded %s: %s", path, change)
        for warning in config.warnings:
            logger.warning("%s", warning)

    async def _apply(self, change: Change, receivers: trio.Nursery, senders: trio.Nursery) -> None:
        """Bring what changes to rest, exchange it at once, and start what is new."""
        patience = self.wiring.config.agent.shutdown_timeout
        handed_over = change.handed_over.values()
        former = [(outbox, self._exporters[outbox]) for outbox in handed_over]
        try:
            await self._bring_to_rest(change, patience)
            flushed = change.apply(time.time_ns())
            self._adopt(change, receivers, senders)
        finally:
            for outbox in handed_over:
                outbox.resume()
        await deliver(flushed)
        for outbox in change.draining:
            outbox.close()
        for _, exporter in former:
            await _close(exporter)

    async def _bring_to_rest(self, change: Change, patience: float) -> None:
        """Let what leaves or changes finish. After ``patience`` it waits for no room any more: such offers are shielded."""
        async with trio.open_nursery() as watch:
            watch.start_soon(self._lift_bounds_later, patience)
            async with trio.open_nursery() as nursery:
                for name in change.leaving:
                    nursery.start_soon(self._receptions[name].retire, patience)
                for outbox in change.handed_over.values():
                    nursery.start_soon(outbox.pause, patience)
            watch.cancel_scope.cancel()
        for outbox in self._exporters:
            outbox.restore_bound()

    async def _lift_bounds_later(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self._lift_bounds()

    def _adopt(self, change: Change, receivers: trio.Nursery, senders: trio.Nursery) -> None:
        self.wiring = change.new
        self.outboxes.clear()
        self.outboxes.update(change.new.outboxes)
        for name, outbox in change.new.outboxes.items():
            self._exporters[outbox] = change.new.exporters[name]
        for outbox in change.opening:
            senders.start_soon(self._send, outbox)
        for name in change.receivers.gone:
            del self._receptions[name]
        for name in change.entering:
            self._start(name, receivers)

    # -- the house -----------------------------------------------------------------------------------------------

    async def _obey_signals(
        self, house: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """SIGTERM, SIGINT: stop; a second one: give up at once. SIGHUP: reload."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            held_signals.let_in()
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    self._reload_asked.set()
                    continue
                self._signals += 1
                if self._signals == 1:
                    self.stop(signal.Signals(number).name)
                else:
                    logger.error("giving up at a second signal: what is held is lost")
                    self.failed = True
                    house.cancel()


async def _open(receivers: Mapping[str, Receiver[Any]], running: Mapping[str, Receiver[Any]]) -> None:
    """Let receivers take their ports, all of them or none. Raises ReceiveError."""
    opened: list[Receiver[Any]] = []
    try:
        for name, receiver in receivers.items():
            await receiver.open(running.get(name))
            opened.append(receiver)
    except BaseException:
        for receiver in opened:
            receiver.close()
        raise


async def _close(exporter: Exporter[Any]) -> None:
    with trio.move_on_after(CLOSE_SECONDS, shield=True):
        try:
            await exporter.aclose()
        except* Exception as group:
            logger.error("exporter %s cannot close: a bug of this exporter", exporter.context.id, exc_info=group)
