"""Each promise of receivers is broken by one that deserves it, and by no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import trio

from agent.batch import Batch
from agent.plugin import Emit, Receiver
from agent.series import Series, SeriesTable
from agent.settings import Settings, option
from agent.testing import Mood, conformance, promises_of, shortcomings
from agent.testing.candidate import Candidate
from agent.testing.receivers import CHECKPOINTS

TABLE = SeriesTable([Series.of("x")])


class MoodSettings(Settings):
    """Options."""

    mood: str = option("well", "How its source feels.")


async def source(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any]:
    """No server: the options say what would be met there."""
    return {"mood": mood}


class Good(Receiver[MoodSettings]):
    """Reads a number from its own options."""

    Settings = MoodSettings
    leaving = False

    async def once(self, emit: Emit) -> None:
        self.counts.polls += 1
        try:
            await self.read()
        except OSError as error:
            self.counts.failed_polls += 1
            self.context.log.warning("receivers.%s: cannot read: %s", self.context.id, error)
            return
        self.counts.samples += 1
        await emit(Batch(TABLE, np.ones(1), np.ones(1, np.int64)))

    async def read(self) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        if self.settings.mood == "failing":
            raise OSError("gone")
        if self.settings.mood == "silent":
            await trio.sleep_forever()

    async def run(self, emit: Emit) -> None:
        while not self.leaving:
            await self.once(emit)
            await trio.sleep(0.01)

    def leave(self) -> bool:
        self.leaving = True
        return True


class Listens(Receiver[MoodSettings]):
    """Is spoken to."""

    Settings = MoodSettings

    async def run(self, emit: Emit) -> None:
        await Good(self.settings, self.context).run(emit)


test_good = conformance(Good, peer=source)
test_listens = conformance(Listens, peer=source)


class Quiet(Good):
    """Says nothing of failures."""

    async def once(self, emit: Emit) -> None:
        self.counts.polls += 1
        try:
            await self.read()
        except OSError:
            self.counts.failed_polls += 1


class Raises(Good):
    """Lets exceptions out."""

    async def once(self, emit: Emit) -> None:
        await self.read()


class Makes(Good):
    """Emits what it does not count."""

    async def once(self, emit: Emit) -> None:
        self.counts.polls += 1
        await emit(Batch(TABLE, np.ones(1), np.ones(1, np.int64)))
        await trio.lowlevel.checkpoint()
        self.counts.samples += 1


class Swallows(Good):
    """Counts what it neither emits nor drops."""

    async def once(self, emit: Emit) -> None:
        await super().once(emit)
        self.counts.samples += 2


class Ends(Good):
    """Runs once only."""

    async def run(self, emit: Emit) -> None:
        await self.once(emit)


class Lingers(Good):
    """Takes its time to end."""

    async def run(self, emit: Emit) -> None:
        try:
            await super().run(emit)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)


class Stays(Good):
    """Says that it leaves, and stays."""

    def leave(self) -> bool:
        return True


class Wrong(Good):
    """Emits no batch."""

    async def once(self, emit: Emit) -> None:
        self.counts.polls += 1
        await emit([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("broken", "promise", "said"),
    [
        (Quiet, "polls_once", "emits nothing though its peer is well"),
        (Quiet, "counts_and_says_failures", "does not say why its poll failed"),
        (Raises, "counts_and_says_failures", "raises OSError: gone"),
        (Raises, "goes_on_after_failures", "raises OSError: gone"),
        (Makes, "can_be_cancelled_anywhere", "emits 1 samples more than it counts"),
        (Swallows, "polls_once", "leaves 2 samples unexplained"),
        (Ends, "goes_on_after_failures", "returns after a failure"),
        (Lingers, "runs_until_cancelled", "s after it was cancelled"),
        (Lingers, "gives_up_a_silent_peer", "s after it was cancelled"),
        (Stays, "leaves_when_asked", "promises that run returns"),
        (Swallows, "leaves_when_asked", "samples unexplained"),
        (Wrong, "polls_once", "is of type list"),
    ],
)
def test_a_broken_promise_is_told(broken: Any, promise: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.testing.receivers.PROMPT", 0.1)
    monkeypatch.setattr("agent.testing.receivers.PATIENCE", 0.3)
    told = {
        name: sentence for name, _, sentence in (line.partition(": ") for line in shortcomings(broken, peer=source))
    }
    assert said in told[promise]


def test_what_can_be_tried_follows_the_peer() -> None:
    def names(cls: Any, peer: Any) -> set[str]:
        return {promise.name for promise in promises_of(Candidate(cls, peer=peer))}

    assert "polls_once" not in names(Good, None) | names(Listens, source)
    assert "says_that_it_does_not_poll" in names(Listens, None) - names(Good, source)
    assert names(Good, None) < names(Good, source)
    assert CHECKPOINTS > 10
