"""Failures that repeat are one log line with a count, not a thousand lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

FOLD_SECONDS = 60.0
"""The same failure is logged at most this often; what happened in between is counted."""


@dataclass(slots=True)
class _Seen:
    logged: float
    repeats: int = 0


class FoldedLog:
    """Logs the first failure of a key at once, and later ones at most every ``FOLD_SECONDS`` with their count.

    Keys are a handful of words chosen by the caller, never data. ``clock`` gives seconds, of any epoch.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic):
        self._log = log
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def __call__(self, level: int, key: str, message: str, *args: object, bug: bool = False) -> None:
        """Log ``message % args``; ``bug`` adds the traceback of the exception that is being handled."""
        now = self._clock()
        seen = self._seen.get(key)
        if seen is not None and now - seen.logged < FOLD_SECONDS:
            seen.repeats += 1
            return
        self._seen[key] = _Seen(now)
        if seen is not None and seen.repeats:
            message, args = f"{message} (and %d times more before, not logged)", (*args, seen.repeats)
        self._log.log(level, message, *args, exc_info=bug)

    def forget(self, key: str) -> int:
        """The failure is over: the next one is logged at once. Returns the repeats that were not logged."""
        seen = self._seen.pop(key, None)
        return 0 if seen is None else seen.repeats
