"""The kit itself: which promises hold for a plugin, each as one test.

Strategy. A promise is a function of a ``Candidate`` whose name reads as the test's id and whose docstring is the rule. It
raises ``Nonconformance`` with one sentence, or returns. pytest is only needed by ``conformance``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trio

from agent.plugin import Component, Exporter, Processor, Receiver
from agent.testing import components, exporters, processors, receivers
from agent.testing.candidate import Candidate, Nonconformance, NotApplicable, Peer, Read


@dataclass(frozen=True)
class Promise:
    """One promise of one plugin. ``rule`` says it in a sentence or two."""

    name: str
    rule: str
    candidate: Candidate
    law: Callable[[Candidate], Any]

    def check(self) -> None:
        """Raise Nonconformance where the promise is broken, NotApplicable where it means nothing for this plugin."""
        __tracebackhide__ = True
        if inspect.iscoroutinefunction(self.law):
            trio.run(self.law, self.candidate)
        else:
            self.law(self.candidate)


def promises_of(candidate: Candidate) -> list[Promise]:
    """Return all that this plugin promises by its kind, its base class, and what the kit was given to try it with."""
    kinds: tuple[tuple[type[Component[Any]], Callable[[Candidate], list[Callable[[Candidate], Any]]]], ...] = (
        (Receiver, receivers.promises_of),
        (Processor, processors.promises_of),
        (Exporter, exporters.promises_of),
    )
    of_kind = next((laws for base, laws in kinds if issubclass(candidate.cls, base)), None)
    if of_kind is None:
        raise TypeError(
            f"{candidate.name} is no plugin: it extends none of Receiver, Processor and Exporter of ebbtide"
        )
    return [
        Promise(law.__name__, inspect.cleandoc(law.__doc__ or ""), candidate, law)
        for law in (*components.PROMISES, *of_kind(candidate))
    ]


def shortcomings(cls: type[Component[Any]], options: Mapping[str, Any] | None = None, **more: Any) -> list[str]:
    """Try every promise and return one sentence for each that is broken: for those who do not use pytest."""
    found = []
    for promise in promises_of(Candidate(cls, options or {}, **more)):
        try:
            promise.check()
        except Nonconformance as broken:
            found.append(f"{promise.name}: {broken}")
        except NotApplicable:
            continue
    return found


def conformance(
    cls: type[Component[Any]],
    options: Mapping[str, Any] | None = None,
    *,
    peer: Peer | None = None,
    read: Read | None = None,
    row_by_row: bool | None = None,
) -> Callable[[Promise], None]:
    """Return a pytest test of every promise that this plugin makes: ``test_it = conformance(MyPlugin)``.

    ``options``: the options as they stand in the file; those that must be set at least. Give several tests for several
    sets. ``peer``: starts what a receiver reads from or an exporter sends to, see ``Peer``; without it nothing that
    waits is tried. ``read``: for an exporter, an unsealed body into its points, in order. ``row_by_row``: for a
    processor that extends ``Processor`` itself, whether it looks at each row alone; the easy bases do.
    """
    import pytest

    promises = promises_of(Candidate(cls, options or {}, peer, read, row_by_row))

    @pytest.mark.parametrize("promise", promises, ids=[promise.name for promise in promises])
    def test(promise: Promise) -> None:
        """The plugin keeps its promise."""
        __tracebackhide__ = True
        try:
            promise.check()
        except NotApplicable as why:
            pytest.skip(str(why))

    return test
