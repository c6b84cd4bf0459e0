"""How far a source has been read, and which stretch of time comes next. Sans-IO.

Strategy. One cursor, in ms of Unix time: everything up to it has been handed on. Windows begin where the last one ended, so
they meet; their beginnings do not count to them, so nothing is read twice. What is late is found by looking back a little. A
window that proves too heavy for the server is halved, and every one that is not makes the next twice as long, up to a chunk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEAST_STEP = 1_000
"""ms: a window is never made shorter."""
LOOK_BACK = 5_000
"""ms: a sample that becomes visible so much later than others of its time is still found."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Window:
    """Samples after ``begin`` up to ``end`` (ms); ``seen_from``: from here on to ``begin`` there may be late ones."""

    seen_from: int
    begin: int
    end: int


class Cursor:
    """Walks through time in windows of at most ``chunk`` ms."""

    def __init__(self, end: int, chunk: int):
        self.end = end
        self.chunk = max(chunk, LEAST_STEP)
        self._step = self.chunk
        self._looks_back_to = end  # what was before has been read by somebody else, or by nobody

    def next(self, until: int) -> Window | None:
        """Return the window that comes next, None where all up to ``until`` has been read."""
        if until <= self.end:
            return None
        seen_from = max(self.end - LOOK_BACK, self._looks_back_to)
        return Window(seen_from, self.end, min(self.end + self._step, until))

    def advance(self, window: Window) -> None:
        """The window has been handed on."""
        self.end = window.end
        self._step = min(2 * self._step, self.chunk)

    def shrink(self, window: Window) -> bool:
        """The window was too heavy: try one half as long; False where that makes no sense."""
        length = window.end - window.begin
        if length <= LEAST_STEP:
            return False
        self._step = max(length // 2, LEAST_STEP)
        return True


def write_note(end: int, url: str, match: Sequence[str]) -> bytes:
    """Return what is kept on disk."""
    return json.dumps({"version": _VERSION, "end": end, "url": url, "match": list(match)}).encode()


def read_note(note: bytes, url: str, match: Sequence[str]) -> int:
    """Return where the cursor stood. Raises ValueError for a note of another source, or that is none."""
    try:
        tree: Any = json.loads(note)
        version, end = tree["version"], tree["end"]
        same = tree["url"] == url and tree["match"] == list(match)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("it is damaged") from error
    if version != _VERSION or not isinstance(end, int) or isinstance(end, bool):
        raise ValueError("it is of another version")
    if not same:
        raise ValueError("it is of another url or match")
    return end
