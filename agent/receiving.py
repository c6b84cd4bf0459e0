"""The life of one receiver: run, started again after a bug, asked to leave by a reload."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from agent.folded import FoldedLog
from agent.ledger import ReceiverCounts
from agent.plugin import Emit, ReceiveError, Receiver

FIRST_RESTART, LAST_RESTART = 1.0, 30.0
"""Seconds before a receiver with a bug is started again: the first time, and at most."""


class Reception:
    """One receiver and where it emits to."""

    def __init__(self, receiver: Receiver[Any], emit: Emit):
        self._receiver = receiver
        self._emit = emit
        name = receiver.context.id
        self._log = FoldedLog(receiver.context.log, trio.current_time, f"receivers.{name}")
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._leaving = False

    async def run(self) -> None:
        """Receive until the receiver leaves or is cancelled; one with a bug is started again, ever more slowly."""
        try:
            with self._scope:
                await self._keep_receiving()
        finally:
            self._ended.set()

    async def poll(self) -> None:
        """Let the receiver poll once; a bug, or a ReceiveError that it lets through, is a failed poll."""
        counts = self._receiver.counts
        failed = counts.failed_polls
        if await self._fails(self._receiver.once):
            counts.failed_polls = max(counts.failed_polls, failed + 1)
            counts.polls = max(counts.polls, counts.failed_polls)

    async def retire(self, patience: float) -> None:
        """Return once ``run`` has ended: what is under way may take ``patience`` seconds, then it is cancelled."""
        self._leaving = True
        with trio.move_on_after(patience):
            if self._receiver.leave():
                await self._ended.wait()
        self._scope.cancel()
        await self._ended.wait()

    async def _keep_receiving(self) -> None:
        wait = FIRST_RESTART
        while True:
            began = trio.current_time()
            failed = await self._fails(self._receiver.run)
            if self._leaving:
                return
            if not failed:
                name = self._receiver.context.id
                self._receiver.context.log.warning("receiver %s has ended by itself; it is not started again", name)
                return
            if trio.current_time() - began > LAST_RESTART:
                wait = FIRST_RESTART
            await trio.sleep(wait)
            wait = min(2 * wait, LAST_RESTART)

    async def _fails(self, receive: Callable[[Emit], Awaitable[None]]) -> bool:
        """Await ``receive``; True where it failed. Samples that it counted and did not emit are booked."""
        name, lost, failed = self._receiver.context.id, "shutdown", False
        try:
            await receive(self._emit)
        except* ReceiveError as group:
            self._log(logging.WARNING, "failed", "receivers.%s: %s", name, _only(group))
            lost, failed = "bug", True
        except* Exception as group:  # noqa: BLE001 - logged, folded
            self._log(logging.ERROR, "bug", "receiver %s failed: a bug of this receiver", name, bug=_only(group))
            lost, failed = "bug", True
        finally:
            _book_lost(self._receiver.counts, lost)
        return failed


def _only(group: BaseExceptionGroup[Exception]) -> BaseException:
    """The exception itself where a nursery wrapped just one."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group


def _book_lost(counts: ReceiverCounts, reason: str) -> None:
    """Samples that a receiver counted and did not emit before it was ended."""
    lost = counts.imbalance()
    if lost > 0:
        counts.dropped[reason] += lost
