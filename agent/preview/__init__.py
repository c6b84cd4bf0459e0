"""`ebbtide preview` and `ebbtide record`: one poll, looked at or saved; nothing is sent.

Strategy. The components are those of ``once`` (no state, no admin port); the outboxes are never started, so that no
exporter is asked to send, and exporters connect when they send. What components log is part of what is to be seen: it
is gathered while the poll lasts, and told behind it.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import trio

from agent.config import Config
from agent.folded import FoldedLog
from agent.plugin import ConfigError, Emit, ReceiveError, Receiver
from agent.preview.collect import DEFAULT_PAIRS, Collector
from agent.preview.layout import style_of
from agent.preview.show import show
from agent.recording import Recording, RecordingError, load, place, save
from agent.wiring import Wiring, wire

_T = TypeVar("_T")

logger = logging.getLogger("ebbtide.preview")

WELL, FAILED, USAGE = 0, 1, 2

MAX_PAGE = 512 << 20
"""Bytes of a saved page, inflated, where the receiver has no ``max_body`` of its own."""
CLOSE_SECONDS = 1.0
"""How long a component may take to let go of its connections."""
MAX_MESSAGES = 100
"""Warnings that are told; one more says how many were not."""


class UsageError(Exception):
    """The command line does not say which receiver, or names one that is not there."""


@dataclass(frozen=True, slots=True)
class PreviewOptions:
    """What ``ebbtide preview`` is told: ``page`` instead of a poll, ``receiver`` None for all, ``pairs`` a processor."""

    page: Path | None = None
    receiver: str | None = None
    pairs: int = DEFAULT_PAIRS
    as_json: bool = False


def preview(config: Config, options: PreviewOptions) -> int:
    """Poll once (or read the saved page), print what the pipelines make of it, and return the exit status."""
    receiver = options.receiver
    with gathered() as messages:
        try:
            if options.page is not None or receiver is not None:
                receiver = chosen(config, receiver)
            recording = None if options.page is None else opened(config, receiver or "", options.page)
            collector = _run(_collect, config, receiver, recording)
        except (UsageError, RecordingError) as error:
            return _refused("preview", error)
    if collector is None:
        return _interrupted()
    page = None if options.page is None else str(options.page)
    warnings = [f"warning: {warning}" for warning in config.warnings]
    document = collector.document([*warnings, *messages()], page, options.pairs)
    if options.as_json:
        print(json.dumps(document, indent=2))
    elif collector.samples or not document["failed"]:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that knows no "…" is no reason to fail
        print(show(document, style_of(sys.stdout)), end="")
        sys.stdout.flush()
    for message in document["messages"]:
        print(message, file=sys.stderr)
    return FAILED if document["failed"] else WELL


def record(config: Config, page: Path, receiver: str | None = None, *, force: bool = False) -> int:
    """Poll one receiver once and save what it was answered to ``page`` and a file beside it; return the exit status."""
    with gathered() as messages:
        try:
            name = chosen(config, receiver)
            place(page, force=force)  # before the poll, which would be for nothing
            recording = _run(_record, config, name)
            if recording is None:
                return _interrupted()
            files = save(replace(recording, type=config.receivers[name].type), page, force=force)
        except (UsageError, ReceiveError, RecordingError) as error:
            return _refused("record", error)
        finally:
            for message in messages():
                print(message, file=sys.stderr)
    print(
        f"recorded {len(recording.body)} bytes of {recording.where} in {files[0]}; what was asked beside, in {files[1]}"
    )
    return WELL


def chosen(config: Config, receiver: str | None) -> str:
    """Return the id of the receiver that is meant. Raises UsageError."""
    used = list(dict.fromkeys(id for pipeline in config.pipelines.values() for id in pipeline.receivers))
    if receiver is None and len(used) == 1:
        return used[0]
    if receiver not in used:
        why = "there are several receivers" if receiver is None else f"no pipeline has a receiver {receiver!r}"
        raise UsageError(f"cannot tell which receiver is meant: {why}; add --receiver with one of: {', '.join(used)}")
    return receiver


def opened(config: Config, receiver: str, page: Path) -> Recording:
    """Read a saved page for one receiver. Raises RecordingError."""
    declared = config.receivers[receiver]
    bound = getattr(declared.settings, "max_body", None)
    recording, warning = load(page, bound if isinstance(bound, int) else MAX_PAGE)
    if warning:
        logger.warning("%s", warning)
    if recording.type not in ("", declared.type):
        raise RecordingError(
            f"cannot read {page} with receivers.{receiver}: it was recorded by a receiver of type {recording.type}, and "
            f"this one is of type {declared.type}; choose another with --receiver"
        )
    return recording


@contextmanager
def gathered() -> Iterator[Callable[[], list[str]]]:
    """Gather what components warn of, instead of logging it; the function given tells it, each sentence once."""
    handler = _Gatherer()
    log = logging.getLogger("ebbtide")
    before = log.propagate, log.level
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.WARNING)
    try:
        yield handler.told
    finally:
        log.removeHandler(handler)
        log.propagate, level = before
        log.setLevel(level)


class _Gatherer(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, None] = {}
        self._left = 0

    def emit(self, record: logging.LogRecord) -> None:
        sentence = logging.Formatter("%(message)s").format(record)  # with its traceback, where it has one
        if record.levelno < logging.ERROR:
            sentence = f"warning: {sentence}"
        if sentence not in self._said and len(self._said) >= MAX_MESSAGES:
            self._left += 1
            return
        self._said[sentence] = None

    def told(self) -> list[str]:
        return [*self._said, *([f"warning: and {self._left} warnings more"] if self._left else [])]


def _run(work: Callable[..., Awaitable[_T]], *args: Any) -> _T | None:
    """Run ``work`` in a loop of its own; None where the operator had enough."""
    done: _T | None = None
    try:
        done = trio.run(work, *args)
    except* KeyboardInterrupt:  # alone, or in the groups of the nurseries that it came through
        logger.debug("interrupted")
    return done


def _interrupted() -> int:
    print("interrupted before the poll was over; there is nothing to show", file=sys.stderr)
    return FAILED


async def _collect(config: Config, receiver: str | None, recording: Recording | None) -> Collector:
    wiring = wire(config, once=True)
    collector = Collector(config, wiring, FoldedLog(logger), receiver)
    try:
        if receiver is not None and recording is not None:
            made = wiring.receivers[receiver]
            await _poll(made, lambda emit: made.replay(recording, emit), collector.emit(receiver))
            if not made.counts.samples and not made.counts.failed_polls:
                raise RecordingError(f"cannot preview {recording.where}: there are no samples in it")
        else:
            async with trio.open_nursery() as polls:
                for name, made in wiring.receivers.items():
                    if receiver in (None, name):
                        polls.start_soon(_poll, made, made.once, collector.emit(name))
        collector.flush(time.time_ns())
        for name in collector.silent:
            logger.warning("receivers.%s: there are no samples; look at what it asks for", name)
    finally:
        await _close(wiring)
    return collector


async def _poll(receiver: Receiver[Any], poll: Callable[[Emit], Awaitable[None]], emit: Emit) -> None:
    """Let one receiver poll, or read the page; a bug of it is a failed poll."""
    counts, lost = receiver.counts, True
    try:
        await poll(emit)
        lost = False
    except ReceiveError as error:
        logger.error("%s", error)
    except ConfigError:
        raise
    except Exception:
        logger.exception("receiver %s failed: a bug of this receiver", receiver.context.id)
    if lost:
        counts.failed_polls = max(counts.failed_polls, 1)
        counts.polls = max(counts.polls, counts.failed_polls)


async def _record(config: Config, receiver: str) -> Recording:
    wiring = wire(config, once=True)
    try:
        return await wiring.receivers[receiver].record()
    finally:
        await _close(wiring)


async def _close(wiring: Wiring) -> None:
    for component in (*wiring.receivers.values(), *wiring.exporters.values()):
        close = getattr(component, "aclose", None)
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            if close is not None:
                await close()


def _refused(command: str, error: Exception) -> int:
    print(error if not isinstance(error, UsageError) else f"ebbtide {command}: {error}", file=sys.stderr)
    return USAGE if isinstance(error, UsageError) else FAILED
