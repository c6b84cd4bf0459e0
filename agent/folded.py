"""Failures that repeat are one log line with a count, not a thousand lines.

Strategy. A caller names a failure by a key, one of a handful of words, and says a sentence about it. A new sentence of a
key is logged at once; the same one again after a minute, then two, four and so on, at most hourly, each time with the
count of what was not logged. Sentences are the same where they differ only in numbers given as arguments. One that
varies in its text (a line of a page, say) is held by a budget: so many new sentences of a key in so much time, the rest
is counted. Memory is bounded by the number of keys and of sentences per key.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_REMINDER, LAST_REMINDER = 60.0, 3600.0
"""Seconds until the same sentence is logged again: the first time, and at most; twice as long each time."""
MOST_SENTENCES = 5
"""So many new sentences of one key are logged within ``SENTENCES_SECONDS``; all others are counted."""
SENTENCES_SECONDS = 300.0
MOST_KEYS = 64
"""Keys beyond so many share one, so that a key that is data after all cannot defeat the folding."""

_SHARED = "(others)"

Sentence = tuple[object, ...]


@dataclass(slots=True)
class _Said:
    again: float  # when it may be logged again
    wait: float  # how long it waited for that


@dataclass(slots=True)
class _Failure:
    """What is known of one key. ``failures`` since it was last well, ``unsaid`` since its last line."""

    sentences: dict[Sentence, _Said] = field(default_factory=dict)
    begun: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_SENTENCES))  # when new sentences were logged
    failures: int = 0
    unsaid: int = 0

    def may_say(self, sentence: Sentence, now: float) -> bool:
        """Tell whether the sentence is to be logged now, and remember that it was."""
        said = self.sentences.get(sentence)
        if said is not None:
            if now < said.again:
                return False
            said.wait = min(2 * said.wait, LAST_REMINDER)
            said.again = now + said.wait
            return True
        if len(self.begun) == MOST_SENTENCES:
            if now - self.begun[0] < SENTENCES_SECONDS:
                return False
            self.sentences.pop(next(iter(self.sentences), ()), None)
        self.begun.append(now)
        self.sentences[sentence] = _Said(now + FIRST_REMINDER, FIRST_REMINDER)
        return True


class FoldedLog:
    """Logs failures of a log by key: see the strategy above.

    ``clock`` gives seconds, of any epoch. ``component``, such as "receivers.linkerd", stands in JSON lines where the
    logger's name does not tell. Not for several threads at once.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic, component: str = ""):
        self._log = log
        self._clock = clock
        self._extra = {"component": component} if component else None
        self._failures: dict[str, _Failure] = {}

    def __call__(
        self, level: int, key: str, message: str, *args: object, bug: bool | BaseException | None = False
    ) -> None:
        """Log ``message % args``; ``bug`` adds the traceback of this exception, or of the one that is being handled."""
        if not self._log.isEnabledFor(level):
            return
        failure = self._of(key)
        failure.failures += 1
        sentence = (message, *(str(arg) for arg in args if not isinstance(arg, int | float)), *_place(bug))
        if not failure.may_say(sentence, self._clock()):
            failure.unsaid += 1
            return
        if failure.unsaid:
            message, args = f"{message} (%d more before, not logged)", (*args, failure.unsaid)
            failure.unsaid = 0
        self._log.log(level, message, *args, exc_info=bug or None, extra=self._extra)

    def recovered(self, key: str, message: str, *args: object) -> None:
        """The failure is over: log ``message``, whose last argument is the count of failures; nothing if there was none.

        Nothing is logged, and the count goes on, where none of the failures was: one that comes and goes is held by the
        same budget as others.
        """
        failure = self._failures.get(key)
        if failure is not None and failure.sentences:
            self._log.info(message, *args, failure.failures, extra=self._extra)
            self.forget(key)

    def forget(self, key: str) -> int:
        """The failure is over: the next one is logged at once. Returns the repeats that were not logged."""
        failure = self._failures.get(key)
        if failure is None:
            return 0
        unsaid, failure.unsaid, failure.failures = failure.unsaid, 0, 0
        failure.sentences.clear()
        return unsaid

    def _of(self, key: str) -> _Failure:
        failure = self._failures.get(key)
        if failure is None:
            if len(self._failures) >= MOST_KEYS:
                key = _SHARED
            failure = self._failures.setdefault(key, _Failure())
        return failure


def _place(bug: bool | BaseException | None) -> tuple[object, ...]:
    """What tells one bug from another: the exception's type, and where it was raised."""
    if bug is True:
        bug = sys.exception()
    if not isinstance(bug, BaseException):
        return ()
    while isinstance(bug, BaseExceptionGroup):
        bug = bug.exceptions[0]
    trace = bug.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (type(bug).__qualname__, *(() if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)))
