"""Log lines on stderr: as text for eyes, or as JSON for machines. stdout belongs to the data."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

# What arrives from elsewhere must not steer the terminal; newlines and tabs are harmless once indented.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


class TextFormatter(logging.Formatter):
    """``2026-01-31 12:34:56 warning  message``, with the message's further lines and its traceback indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines of one record."""
        time = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S")
        text = "\n".join((record.getMessage(), *_traceback(self, record))).translate(_CONTROL)
        return f"{time} {record.levelname.lower():<8} " + text.replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``message`` and, where there is one, ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        traceback = _traceback(self, record)
        if traceback:
            line["traceback"] = "\n".join(traceback)
        return json.dumps(line, ensure_ascii=False)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return parts


def setup(level: str = "info", format: Literal["text", "json"] = "text") -> None:
    """Send all log lines to stderr, and nowhere else. May be called again after a reload.

    ``level`` is that of the loggers under "ebbtide"; libraries are heard from "warning" on, since some of them write
    headers, and so credentials, when asked for more.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, TextFormatter | JsonFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("ebbtide").setLevel(level.upper())
    logging.captureWarnings(True)
