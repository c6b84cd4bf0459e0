"""A peer is started, met and stopped, and what is raised comes out as it is."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agent.batch import Batch
from agent.plugin import Processor
from agent.testing.candidate import Candidate, Mood, Nonconformance, NotApplicable
from agent.testing.meeting import met


class Passes(Processor[Any]):
    """Passes everything on."""

    def process(self, batch: Batch) -> Batch | None:
        return batch


class Peer:
    """Remembers its end; knows two moods."""

    ended = False

    async def __call__(self, nursery: trio.Nursery, mood: Mood) -> dict[str, Any] | None:
        nursery.start_soon(self.live)
        return None if mood == "silent" else {"mood": mood}

    async def live(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.ended = True


async def test_the_body_gets_the_options_and_the_peer_ends() -> None:
    peer, seen = Peer(), []

    async def body(options: Any) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(options)

    await met(Candidate(Passes, peer=peer), "failing", body)
    assert (seen, peer.ended) == ([{"mood": "failing"}], True)


async def test_a_mood_that_cannot_be_is_skipped() -> None:
    async def body(options: Any) -> None:
        raise AssertionError

    with pytest.raises(NotApplicable, match="cannot be silent"):
        await met(Candidate(Passes, peer=Peer()), "silent", body)


@pytest.mark.parametrize("nested", [False, True])
async def test_what_is_raised_comes_out_unwrapped(nested: bool) -> None:
    async def fail() -> None:
        raise Nonconformance("broken")

    async def body(options: Any) -> None:
        if not nested:
            await fail()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    peer = Peer()
    with pytest.raises(Nonconformance, match="broken"):
        await met(Candidate(Passes, peer=peer), "well", body)
    assert peer.ended
