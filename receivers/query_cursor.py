"""How far a source has been read, and which stretch of time comes next. Sans-IO.

Strategy. One cursor, in ms of Unix time: everything up to it has been handed on. Windows begin where the last one ended, so
they meet; their beginnings do not count to them, so nothing is read twice. What is late is found by looking back a little. A
window that proves too heavy for the server is halved, and each one that is not makes the next a little longer, up to a chunk:
so a server at its bounds refuses one question of some, not every other one. How much a window holds bounds the next, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

LEAST_STEP = 1_000
"""ms: a window is never made shorter."""
LOOK_BACK = 5_000
"""ms: a sample that becomes visible so much later than others of its time is still found."""
AIM = 500_000
"""Samples that a window should hold at most, where that can be had by making it shorter."""
_GROWTH = 8  # a window after one that was answered is longer by this part
_VERSION = 2


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
        self._chunk = self._step = max(chunk, LEAST_STEP)
        self._looks_back_to = end  # what was before has been read by somebody else, or by nobody

    def limit(self, chunk: int) -> None:
        """Make windows of at most ``chunk`` ms from now on."""
        self._chunk = max(chunk, LEAST_STEP)
        self._step = min(self._step, self._chunk)

    def next(self, until: int) -> Window | None:
        """Return the window that comes next, None where all up to ``until`` has been read."""
        if until <= self.end:
            return None
        seen_from = max(self.end - LOOK_BACK, self._looks_back_to)
        return Window(seen_from, self.end, min(self.end + self._step, until))

    def advance(self, window: Window, samples: int = 0) -> None:
        """The window has been handed on; it held so many samples."""
        self.end = window.end
        step = min(self._step + self._step // _GROWTH, self._chunk)
        if samples:
            step = min(step, (window.end - window.begin) * AIM // samples)
        self._step = max(step, LEAST_STEP)

    def shrink(self, window: Window) -> bool:
        """The window was too heavy: try one half as long; False where that makes no sense."""
        length = window.end - window.begin
        if length <= LEAST_STEP:
            return False
        self._step = max(length // 2, LEAST_STEP)
        return True


def write_note(end: int, url: str) -> bytes:
    """Return what is kept on disk."""
    return json.dumps({"version": _VERSION, "end": end, "url": url}).encode()


def read_note(note: bytes, url: str) -> int:
    """Return where the cursor stood, in ms. Raises ValueError for a note of another source, or that is none.

    Other selectors are no other source: what is younger than the note has been read by none.
    """
    try:
        tree: Any = json.loads(note)
        version, end, of = tree["version"], tree["end"], tree["url"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("it is damaged") from error
    if version != _VERSION or not isinstance(end, int) or isinstance(end, bool):
        raise ValueError("it is of another version")
    if of != url:
        raise ValueError("it is of another url")
    return end
