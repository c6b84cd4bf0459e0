"""What a receiver promises: counts that balance, failures that are counted and said, and an end whenever it is asked for.

Strategy. Real sockets on loopback and the real clock, because a receiver's promises are about waiting. ``peer`` starts
what it reads from. Cancellation is tried at one checkpoint after the other, counted over all tasks of the receiver, until
it gets to its end before the knife falls.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from agent.batch import Batch
from agent.plugin import ConfigError, Receiver
from agent.testing.candidate import Candidate, Mood, Nonconformance, NotApplicable, check_form, demand
from agent.testing.meeting import PATIENCE, PROMPT, met

CHECKPOINTS = 60
"""At how many checkpoints cancellation is tried, at most."""
LASTS = 0.3
"""Seconds for which ``run`` must go on while all polls fail."""


class Inbox:
    """Stands for the pipelines: takes batches and counts them as the agent does."""

    def __init__(self, name: str, receiver: Receiver[Any]):
        self.counts = receiver.counts
        self.rows = 0
        self.came = trio.Event()
        self._name = name

    async def __call__(self, batch: Batch) -> None:
        """Take custody of a batch."""
        check_form(batch, f"what {self._name} emits")
        self.rows += len(batch)
        self.counts.out += len(batch)
        self.came.set()
        await trio.lowlevel.cancel_shielded_checkpoint()


async def polls_once(candidate: Candidate) -> None:
    """``once`` emits what came, and every sample of it is accounted for."""

    async def body(options: Any) -> None:
        receiver, inbox = _made(candidate, options)
        await _bounded(candidate, "once", receiver.once, inbox)
        counts = receiver.counts
        demand(inbox.rows, f"{candidate.name}.once emits nothing though its peer is well")
        demand(counts.polls > 0, f"{candidate.name}.once does not count in counts.polls that it asked")
        demand(
            not counts.failed_polls,
            f"{candidate.name}.once counts {counts.failed_polls} failed polls though its peer is well",
        )
        off = counts.imbalance()
        demand(off == 0, f"{candidate.name}.once leaves {abs(off)} samples {'unexplained' if off > 0 else 'from nowhere'}: samples + added must be what it emitted + dropped")  # fmt: skip

    await met(candidate, "well", body)


async def counts_and_says_failures(candidate: Candidate) -> None:
    """A poll that fails is counted, said in one sentence of the log, and no exception."""

    async def body(options: Any) -> None:
        receiver, inbox = _made(candidate, options)
        with _heard(receiver.context.log) as lines:
            await _bounded(candidate, "once", receiver.once, inbox)
        counts = receiver.counts
        demand(
            counts.failed_polls > 0, f"{candidate.name}.once does not count in counts.failed_polls that its poll failed"
        )
        demand(counts.polls >= counts.failed_polls, f"{candidate.name} counts more failed polls than polls")
        demand(
            counts.imbalance() == 0,
            f"{candidate.name}.once leaves {counts.imbalance()} samples of a failed poll unexplained",
        )
        said = [line for line in lines if "cannot" in line]
        demand(said, f"{candidate.name} does not say why its poll failed; log a warning with a sentence that begins with \"cannot\"")  # fmt: skip

    await met(candidate, "failing", body)


async def goes_on_after_failures(candidate: Candidate) -> None:
    """``run`` outlives its peer's bad moods: it neither returns nor raises, and ends when it is cancelled."""

    async def body(options: Any) -> None:
        receiver, inbox = _made(candidate, options)
        with trio.move_on_after(LASTS) as scope:
            await _guarded(candidate, "run", receiver.run, inbox)
        demand(
            scope.cancelled_caught,
            f"{candidate.name}.run returns after a failure; it is to go on until it is cancelled",
        )
        _check_late(candidate, trio.current_time() - scope.deadline, "run")

    await met(candidate, "failing", body)


async def runs_until_cancelled(candidate: Candidate) -> None:
    """``run`` emits, goes on, and ends soon after it is cancelled, with its books in order."""

    async def body(options: Any) -> None:
        receiver, inbox = _made(candidate, options)
        ended = trio.Event()

        async def run() -> None:
            await _guarded(candidate, "run", receiver.run, inbox)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            with trio.move_on_after(PATIENCE) as waiting:
                await inbox.came.wait()
            if not waiting.cancelled_caught:
                await trio.lowlevel.checkpoint()
                demand(
                    not ended.is_set(), f"{candidate.name}.run returns by itself; it is to go on until it is cancelled"
                )
            nursery.cancel_scope.cancel()
            cancelled = trio.current_time()
        _check_late(candidate, trio.current_time() - cancelled, "run")
        demand(inbox.rows, f"{candidate.name}.run emits nothing within {PATIENCE:g} s though its peer is well")
        _check_books(candidate, receiver, "run")

    await met(candidate, "well", body)


async def can_be_cancelled_anywhere(candidate: Candidate) -> None:
    """Wherever a poll is cancelled, nothing was emitted that was not counted, and it ends soon."""

    async def body(options: Any) -> None:
        for steps in range(1, CHECKPOINTS + 1):
            receiver, inbox = _made(candidate, options)
            knife = _Knife(trio.lowlevel.current_task(), steps)
            trio.lowlevel.add_instrument(knife)
            try:
                with knife.scope:
                    await _guarded(candidate, "once", receiver.once, inbox)
            finally:
                trio.lowlevel.remove_instrument(knife)
            if not knife.fell:
                return
            _check_late(candidate, trio.current_time() - knife.fell, "once")
            _check_books(candidate, receiver, f"once, cancelled at its checkpoint {steps},")

    await met(candidate, "well", body)


async def gives_up_a_silent_peer(candidate: Candidate) -> None:
    """A peer that says nothing does not keep it from ending."""

    async def body(options: Any) -> None:
        receiver, inbox = _made(candidate, options)
        with trio.move_on_after(LASTS) as scope:
            await _guarded(candidate, "run", receiver.run, inbox)
        _check_late(candidate, trio.current_time() - scope.deadline, "run")
        _check_books(candidate, receiver, "run")

    await met(candidate, "silent", body)


async def leaves_when_asked(candidate: Candidate) -> None:
    """Asked to leave, it emits what is under way and returns; every sample is accounted for then."""

    async def body(options: Any) -> None:
        receiver, inbox = _made(candidate, options)
        with trio.move_on_after(PATIENCE) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_guarded, candidate, "run", receiver.run, inbox)
                await inbox.came.wait()
                if not receiver.leave():
                    raise NotApplicable("it does not leave by itself")
        demand(
            not scope.cancelled_caught,
            f"{candidate.name}.leave promises that run returns, and it does not within {PATIENCE:g} s; return False where it may take long",
        )
        off = receiver.counts.imbalance()
        demand(
            off == 0, f"{candidate.name} leaves with {abs(off)} samples {'unexplained' if off > 0 else 'from nowhere'}"
        )

    await met(candidate, "well", body)


def says_that_it_does_not_poll(candidate: Candidate) -> None:
    """A receiver that is spoken to refuses ``once`` before anything starts, by ConfigError."""

    async def emit(batch: Batch) -> None:
        await trio.lowlevel.checkpoint()

    async def ask() -> None:
        await candidate.made().once(emit)

    try:
        trio.run(ask)
    except ConfigError:
        return
    raise Nonconformance(f"{candidate.name} neither polls nor refuses to; leave `once` of ebbtide.Receiver as it is")


def promises_of(candidate: Candidate) -> list[Callable[[Candidate], Any]]:
    """Return what can be tried: with a peer, all that is about waiting."""
    cls = candidate.cls
    polls = issubclass(cls, Receiver) and cls.once is not Receiver.once
    found: list[Callable[[Candidate], Any]] = [] if polls else [says_that_it_does_not_poll]
    if candidate.peer is not None and issubclass(cls, Receiver):
        found += [polls_once, counts_and_says_failures, can_be_cancelled_anywhere] if polls else []
        found += [runs_until_cancelled, goes_on_after_failures, gives_up_a_silent_peer]
        found += [leaves_when_asked] if cls.leave is not Receiver.leave else []
    return found


def _made(candidate: Candidate, options: Any) -> tuple[Any, Inbox]:
    receiver = candidate.made(options)
    return receiver, Inbox(candidate.name, receiver)


async def _guarded(candidate: Candidate, name: str, does: Callable[[Inbox], Awaitable[None]], inbox: Inbox) -> None:
    """Await ``run`` or ``once``; an exception out of it is a broken promise."""
    try:
        await does(inbox)
    except* (Nonconformance, NotApplicable) as group:
        raise _first(group) from None
    except* Exception as group:  # noqa: BLE001 - whatever it is, it is told
        error = _first(group)
        raise Nonconformance(
            f"{candidate.name}.{name} raises {type(error).__name__}: {error}; the agent would call it a bug: count what "
            f"fails in counts.failed_polls, and log it"
        ) from error


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def _bounded(candidate: Candidate, name: str, does: Callable[[Inbox], Awaitable[None]], inbox: Inbox) -> None:
    with trio.move_on_after(PATIENCE) as scope:
        await _guarded(candidate, name, does, inbox)
    demand(
        not scope.cancelled_caught,
        f"{candidate.name}.{name} has not returned after {PATIENCE:g} s; set a deadline around it",
    )


def _check_late(candidate: Candidate, seconds: float, name: str) -> None:
    demand(seconds <= PROMPT, f"{candidate.name}.{name} ends {seconds:.1f} s after it was cancelled; let no `finally` wait longer than {PROMPT:g} s")  # fmt: skip


def _check_books(candidate: Candidate, receiver: Receiver[Any], name: str) -> None:
    """What was counted and not emitted the agent books as lost; the contrary it cannot mend."""
    off = receiver.counts.imbalance()
    demand(
        off >= 0,
        f"{candidate.name}.{name} emits {-off} samples more than it counts; count them before they are emitted",
    )


@contextmanager
def _heard(log: logging.Logger) -> Iterator[list[str]]:
    """Collect what is logged as a warning or worse."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


class _Knife(trio.abc.Instrument):
    """Cancels its scope at the n-th step of a task and of all those below it."""

    def __init__(self, task: trio.lowlevel.Task, steps: int):
        self.scope = trio.CancelScope()
        self.fell = 0.0
        self._task = task
        self._left = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio before each step of any task."""
        if self.fell or not self._below(task):
            return
        self._left -= 1
        if self._left == 0:
            self.fell = trio.current_time()
            self.scope.cancel()

    def _below(self, task: trio.lowlevel.Task | None) -> bool:
        while task is not None and task is not self._task:
            nursery = task.parent_nursery
            task = None if nursery is None else nursery.parent_task
        return task is not None


__all__ = ["Inbox", "Mood", "promises_of"]
