"""Spans of what the agent does: its polls and its sends. They cost nothing until somebody wants them.

Strategy. While tracing is off, ``span`` returns one object that does nothing, and nothing of OpenTelemetry is imported.
While it is on, a span is a plain record that knows its ids, its times and its error; when it ends it goes to the
``Recorder``, which keeps it until whoever ships spans has been loaded, and then passes it on. So the data path never
waits for a library, and the first poll is seen although the library is loaded after it.

Names. An attribute ``samples`` is sent as ``ebbtide.samples``; one with a dot, such as ``http.response.status_code``, is
sent as it is: those are OpenTelemetry's own. ``error.type`` and the status follow its "Recording errors".
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Literal

import trio

Kind = Literal["internal", "client", "producer"]
Attribute = str | int | float | bool

MOST_PENDING = 1024
"""Spans that are kept until they can be shipped; of more, the newest."""
PREFIX = "ebbtide."


class NoSpan:
    """What ``span`` gives while tracing is off."""

    __slots__ = ()

    def __enter__(self) -> NoSpan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None, trace: object = None
    ) -> None:
        return None

    @property
    def recorded(self) -> bool:
        """Whether anybody will see it."""
        return False

    def set(self, **attributes: Attribute) -> None:
        """Do nothing."""

    def fail(self, kind: str, words: str) -> None:
        """Do nothing."""


class Span(NoSpan):
    """One piece of work. Times in ns of the wall clock; ``error`` is the type and the words of what ended it, if any."""

    __slots__ = ("_ticks", "_token", "attributes", "began", "ended", "error", "kind", "name", "parent", "recorder", "span_id", "trace_id")  # fmt: skip

    def __init__(self, recorder: Recorder, name: str, kind: Kind, attributes: dict[str, Attribute]):
        self.recorder = recorder
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.parent = _current.get()
        self.trace_id: int = self.parent.trace_id if self.parent else random.getrandbits(128) or 1
        self.span_id = random.getrandbits(64) or 1
        self.error: tuple[str, str] | None = None
        self.began = self.ended = 0
        self._ticks = 0
        self._token: Token[Span | None] | None = None

    def __enter__(self) -> Span:
        self._token = _current.set(self)
        self._ticks = time.perf_counter_ns()
        self.began = time.time_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None, trace: object = None
    ) -> None:
        self.ended = self.began + time.perf_counter_ns() - self._ticks  # a clock that is set makes no span negative
        if self._token is not None:
            _current.reset(self._token)
        if error is not None and not _is_cancelled(error):
            self.error = (type(error).__qualname__, str(error))
        self.recorder.ended(self)

    @property
    def recorded(self) -> bool:
        """Whether anybody will see it."""
        return True

    def set(self, **attributes: Attribute) -> None:
        """Add attributes."""
        self.attributes.update(attributes)

    def fail(self, kind: str, words: str) -> None:
        """Mark it as failed where no exception passes; ``kind`` becomes ``error.type``."""
        self.error = kind, words

    def named_attributes(self) -> dict[str, Attribute]:
        """Return the attributes under the names by which they are sent."""
        named = {name if "." in name else PREFIX + name: value for name, value in self.attributes.items()}
        return {**named, "error.type": self.error[0]} if self.error else named


class Recorder:
    """Where spans go when they end: kept at first, then passed on to whoever ships them."""

    def __init__(self) -> None:
        self._pending: deque[Span] = deque(maxlen=MOST_PENDING)
        self._ship: Callable[[Span], None] | None = None
        self.sampled: Callable[[Span], bool] = lambda _: False

    def ended(self, span: Span) -> None:
        """Take a span that has ended."""
        if self._ship is None:
            self._pending.append(span)
        else:
            self._ship(span)

    def pass_on(self, ship: Callable[[Span], None], sampled: Callable[[Span], bool]) -> None:
        """Pass on what was kept, and from now on each span as it ends. Neither function may raise or wait."""
        self._ship, self.sampled = ship, sampled
        while self._pending:
            ship(self._pending.popleft())


_current: ContextVar[Span | None] = ContextVar("ebbtide_span", default=None)
_OFF = NoSpan()
_recorder: Recorder | None = None


def span(name: str, kind: Kind = "internal", **attributes: Attribute) -> NoSpan:
    """Return a context manager around one piece of work: ``with span("poll", receiver="linkerd") as polled:``.

    An exception that passes marks it as failed; a cancellation does not. ``polled.set(samples=5)`` adds attributes.
    """
    return _OFF if _recorder is None else Span(_recorder, name, kind, attributes)


def traceparent() -> str | None:
    """Return W3C's ``traceparent`` of the span that this task is in; None where there is none, or nobody ships it yet."""
    current = _current.get()
    if current is None or current.recorder is not _recorder:
        return None
    return f"00-{current.trace_id:032x}-{current.span_id:016x}-{current.recorder.sampled(current):02x}"


def switch_on() -> Recorder:
    """Record spans from now on."""
    global _recorder
    _recorder = Recorder()
    return _recorder


def switch_off(recorder: Recorder) -> None:
    """Record no more, if it is still this recorder that does."""
    global _recorder
    if _recorder is recorder:
        _recorder = None


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_cancelled, error.exceptions))
    return isinstance(error, trio.Cancelled)
