"""The plugin that is tested: its class, the options it is made with, and whom it speaks with."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import trio
from pydantic import ValidationError

from agent.batch import Batch
from agent.plugin import Component, Context
from agent.settings import Settings
from agent.testing.batches import TIME

Mood = Literal["well", "failing", "silent"]
Peer = Callable[[trio.Nursery, Mood], Awaitable[Mapping[str, Any] | None]]
"""Starts, in the nursery, what a receiver reads from or an exporter sends to, and returns the options that lead there.

"well": it does what it should · "failing": it answers, and not well · "silent": it takes the call and says nothing.
None: it cannot be in this mood, and what would be tried with it is skipped.
"""
Read = Callable[[bytes], Sequence[object]]


class Nonconformance(AssertionError):
    """A plugin breaks a promise: one sentence that says which, where, and what to do."""


class NotApplicable(Exception):
    """The promise means nothing for this plugin; the text says why."""


def demand(kept: object, sentence: str) -> None:
    """Raise Nonconformance with the sentence unless the promise is kept."""
    __tracebackhide__ = True
    if not kept:
        raise Nonconformance(sentence)


@dataclass(frozen=True)
class Candidate:
    """A plugin's class with all that is needed to try it. See ``conformance`` for what the fields mean."""

    cls: type[Component[Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    peer: Peer | None = None
    read: Read | None = None
    row_by_row: bool | None = None

    @property
    def name(self) -> str:
        """The class's name."""
        return self.cls.__name__

    def settings(self, more: Mapping[str, Any] | None = None) -> Settings:
        """Return its settings, of options as they stand in the file."""
        try:
            return self.cls.Settings.model_validate({**self.options, **(more or {})})
        except ValidationError as error:
            wrong = ", ".join(sorted({".".join(map(str, one["loc"])) or "the whole" for one in error.errors()}))
            raise Nonconformance(
                f"the Settings of {self.name} do not accept the options given to the kit (see {wrong}): give those that "
                f'must be set, as in conformance({self.name}, {{"url": "http://127.0.0.1:9"}})'
            ) from error

    def made(self, more: Mapping[str, Any] | None = None) -> Any:
        """Return a new instance with a context of its own, whose clock stands still."""
        context = Context(
            self.name.lower(), log=logging.getLogger(f"ebbtide.testing.{self.name}"), now=lambda: TIME + 10**9
        )
        settings = self.settings(more)
        try:
            return self.cls(settings, context)
        except Exception as error:
            raise Nonconformance(
                f"{self.name} cannot be made of the options given to the kit ({type(error).__name__}: {error}): give those "
                f"that it needs, and refuse by ConfigError what cannot be"
            ) from error


def check_form(batch: object, what: str) -> None:
    """Demand that what a plugin returned or emitted is a batch that every other plugin can take."""
    __tracebackhide__ = True
    demand(isinstance(batch, Batch), f"{what} is of type {type(batch).__name__}, not ebbtide.Batch")
    assert isinstance(batch, Batch)
    for name, wanted in (("values", "float64"), ("times", "int64"), ("starts", "int64"), ("stale", "bool")):
        column = getattr(batch, name)
        if column is None and name == "stale":
            continue
        found = getattr(column, "dtype", type(column).__name__)
        demand(found == wanted, f"the column {name} of {what} is of {found}; make it a numpy array of {wanted}")
        demand(len(column) == len(batch), f"the column {name} of {what} has {len(column)} items for {len(batch)} rows")
    for row in batch.extras or ():
        demand(
            0 <= row < len(batch), f"{what} has an extra for row {row}, of {len(batch)} rows; use Batch.take and but"
        )
