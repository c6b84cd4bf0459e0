"""A plugin meets its peer: both in one nursery, the plugin's exceptions as they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from agent.testing.candidate import Candidate, Mood, NotApplicable

PATIENCE = 10.0
"""Seconds within which what is asked of a plugin must be done, where its peer does what it should."""
PROMPT = 2.0
"""Seconds within which a plugin must end once it is cancelled."""


async def met(candidate: Candidate, mood: Mood, body: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
    """Start the peer, hand its options to ``body``, stop the peer. Raises NotApplicable where it cannot be so minded."""
    assert candidate.peer is not None
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            options = await candidate.peer(nursery, mood)
            if options is None:
                raise NotApplicable(f"the peer cannot be {mood}")
            await body(options)
        except ExceptionGroup as group:
            failure = _only(group)
        except Exception as error:  # noqa: BLE001 - carried out of the nursery, which would wrap it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _only(group: ExceptionGroup[Any]) -> Exception:
    """The exception that a nursery has wrapped, where it is the only one."""
    if len(group.exceptions) > 1:
        return group
    inner = group.exceptions[0]
    return _only(inner) if isinstance(inner, ExceptionGroup) else inner
