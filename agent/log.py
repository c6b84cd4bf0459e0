"""Log lines on stderr: as text for eyes, or as JSON for machines. stdout belongs to the data.

Strategy. A log line must never cost the agent its life, nor its time. Lines are written to the descriptor itself, in
pieces that a pipe with room takes without waiting, and only when it says that it has room. Who does not read is waited
for once, ``PATIENCE`` long, and not again until he reads; a disk that is full or a pipe that is closed is the same.
What could not be written is counted (``losses``, in /metrics too) and said when lines get through again.

JSON is ASCII, so that it is valid whatever the locale; a lone surrogate, which no decoder must accept, is written out.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

PATIENCE = 1.0
"""Seconds for which a line waits for room, if those before it found some."""

_PIECE = 4096  # bytes: PIPE_BUF, which a pipe that is ready takes whole
_KINDS = ("receivers", "processors", "exporters", "pipelines")
_OWN = "ebbtide"

# What arrives from elsewhere must not steer the terminal; newlines and tabs are harmless once indented.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


@dataclass(slots=True)
class Losses:
    """Log lines that could not be written since the start."""

    lines: int = 0


losses = Losses()


class TextFormatter(logging.Formatter):
    """``2026-01-31 12:34:56 warning  message``, with the message's further lines and its traceback indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines of one record."""
        time = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S")
        text = "\n".join((_message(record), *_traceback(self, record))).translate(_CONTROL)
        return f"{time} {record.levelname.lower():<8} " + text.replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``message``; where known ``component``, ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname.lower(), "logger": record.name}
        component = _component(record)
        if component:
            line["component"] = component
        line["message"] = _message(record)
        traceback = _traceback(self, record)
        if traceback:
            line["traceback"] = "\n".join(traceback)
        return json.dumps({key: _encodable(value) for key, value in line.items()})


def _component(record: logging.LogRecord) -> str:
    """Return such as ``receivers.linkerd``: as the record says, or else its logger's name."""
    said = getattr(record, "component", "")
    if said:
        return str(said)
    own, _, name = record.name.partition(".")
    kind, _, id = name.partition(".")
    return name if own == _OWN and kind in _KINDS and id else ""


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - arguments of any kind; their line is not lost for it
        return f"{record.msg!s:.200} (cannot fill in its arguments, {record.pathname}:{record.lineno}: {error!r:.200})"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return parts


class StderrHandler(logging.Handler):
    """Writes to whatever ``sys.stderr`` is; never raises, never waits for long."""

    def __init__(self, formatter: logging.Formatter):
        super().__init__()
        self.setFormatter(formatter)
        self._stuck = False  # the last line found no room
        self._torn = False  # some of it was written nevertheless
        self._unsaid = 0  # lines lost since some got through

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, and before it how many could not be written."""
        try:
            line = self.format(record)
            if self._unsaid:
                line = self.format(_loss(self._unsaid)) + "\n" + line
            self._write(line + "\n")
        except Exception:  # noqa: BLE001 - closed, full, nobody reads; and to whom should it be said?
            self._unsaid += 1
            losses.lines += 1
        else:
            self._unsaid = 0

    def _write(self, text: str) -> None:
        stream = sys.stderr
        if stream is None:
            raise ValueError("no stderr")
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError, AttributeError):  # not a file: somebody captures it
            stream.write(text)
            stream.flush()
            return
        data = b"\n" * self._torn + text.encode(stream.encoding or "utf-8", "backslashreplace")
        deadline = time.monotonic() + (0.0 if self._stuck else PATIENCE)
        while data:
            self._stuck = not _has_room(descriptor, max(deadline - time.monotonic(), 0.0))
            if self._stuck:
                raise BlockingIOError("nobody reads stderr")
            self._torn = True
            data = data[os.write(descriptor, data[:_PIECE]) :]
        self._torn = False


def _has_room(descriptor: int, seconds: float) -> bool:
    """Wait until a piece can be written without waiting. An error counts as room: the write will say it."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(round(seconds * 1000)))


def _loss(lines: int) -> logging.LogRecord:
    return logging.LogRecord(
        "ebbtide.log", logging.WARNING, __file__, 0, "%d log lines could not be written before this", (lines,), None
    )


def setup(level: str = "info", format: Literal["text", "json"] = "text") -> None:
    """Send all log lines to stderr, and nowhere else. May be called again after a reload.

    ``level`` is that of the loggers under "ebbtide"; libraries are heard from "warning" on, since some of them write
    headers, and so credentials, when asked for more. Exceptions that nobody catches are log lines too.
    """
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, StderrHandler):
            root.removeHandler(old)
    root.addHandler(StderrHandler(JsonFormatter() if format == "json" else TextFormatter()))
    root.setLevel(logging.WARNING)
    logging.getLogger(_OWN).setLevel(level.upper())
    logging.captureWarnings(True)
    if sys.excepthook is sys.__excepthook__:  # a test runner or debugger has its own
        sys.excepthook = _uncaught
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread


# -- what nobody catches -------------------------------------------------------------------------------------------------

_logger = logging.getLogger(_OWN)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _logger.critical("ebbtide ends by a bug", exc_info=(kind, error, trace))


def _unraisable(what: Any) -> None:
    """An exception where none can be raised, such as in ``__del__``."""
    where = getattr(what.object, "__qualname__", type(what.object).__qualname__)
    info = None if what.exc_value is None else (what.exc_type, what.exc_value, what.exc_traceback)
    _logger.error("%s %s", what.err_msg or "an exception has no caller, in", where, exc_info=info)


def _uncaught_in_thread(what: Any) -> None:
    if what.exc_type is SystemExit:
        return
    name = what.thread.name if what.thread is not None else "(unknown)"
    error = what.exc_value if what.exc_value is not None else what.exc_type()
    _logger.error("the thread %s has ended by a bug", name, exc_info=(what.exc_type, error, what.exc_traceback))
