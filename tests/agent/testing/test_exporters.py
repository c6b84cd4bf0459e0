"""Each law of exporters is broken by one that deserves it, and by no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import trio

from agent.batch import Batch
from agent.plugin import Exporter, Payload, Retry
from agent.settings import Settings, option
from agent.testing import Mood, conformance, shortcomings


class MoodSettings(Settings):
    """Options."""

    mood: str = option("well", "How its destination feels.")


async def destination(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any]:
    return {"mood": mood}


class Lines(Exporter[MoodSettings]):
    """One line a row; drops rows that end."""

    Settings = MoodSettings

    def encode(self, batch: Batch) -> Iterable[Payload]:
        rows = [row for row in batch.rows() if not row.stale]
        self.counts.dropped["ended"] += len(batch) - len(rows)
        if rows:
            yield self.payload(
                [f"{row.series!r} {row.value} {row.time}".encode("utf-8", "replace").hex() for row in rows]
            )

    def payload(self, lines: list[str]) -> Payload:
        return Payload(b"", "".join(line + "\n" for line in lines).encode(), len(lines), len(lines))

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        pieces: list[list[str]] = []
        size = max_bytes + 1
        for line in payload.body.decode().splitlines():
            size += len(line) + 1
            if size > max_bytes:
                pieces.append([])
                size = len(line) + 1
            pieces[-1].append(line)
        return [self.payload(piece) for piece in pieces]

    def seal(self, body: bytes) -> bytes:
        return b"!" + body

    def unseal(self, body: bytes) -> bytes:
        return body[1:]

    async def send(self, payload: Payload) -> None:
        await trio.lowlevel.checkpoint()
        if self.settings.mood == "failing":
            raise Retry(None, "the destination is away; try again")
        if self.settings.mood == "silent":
            await trio.sleep_forever()


def read(body: bytes) -> list[str]:
    return body.decode().splitlines()


test_lines = conformance(Lines, peer=destination, read=read)
test_lines_unread = conformance(Lines, peer=destination)


class Miscounts(Lines):
    """Counts a sample less."""

    def payload(self, lines: list[str]) -> Payload:
        made = super().payload(lines)
        return replace(made, points=made.points - 1, samples=made.samples - 1)


class Mispoints(Lines):
    """Counts a point less."""

    def payload(self, lines: list[str]) -> Payload:
        made = super().payload(lines)
        return replace(made, points=made.points - 1)


class Raises(Lines):
    """Fails at NaN."""

    def encode(self, batch: Batch) -> Iterable[Payload]:
        if batch.values.sum() != batch.values.sum():
            raise ValueError("NaN")
        return super().encode(batch)


class Moody(Lines):
    """Encodes each batch otherwise."""

    calls = 0

    def payload(self, lines: list[str]) -> Payload:
        self.calls += 1
        return super().payload([f"{line} {self.calls}" for line in lines])


class Reverses(Lines):
    """Joins backwards."""

    def join(self, bodies: list[bytes]) -> bytes:
        return b"".join(reversed(bodies))


class OneWay(Lines):
    """Does not undo what it did."""

    def unseal(self, body: bytes) -> bytes:
        return body


class Chokes(Lines):
    """Cannot read its own words."""

    def unseal(self, body: bytes) -> bytes:
        raise ValueError("what is this?")


class Clumsy(Lines):
    """Loses what it cuts off."""

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        return super().cut(payload, max_bytes)[:1]


class Coarse(Lines):
    """Cuts in halves only."""

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        lines = read(payload.body)
        half = len(lines) // 2
        return [self.payload(part) for part in (lines[:half], lines[half:])] if half else [payload]


class Shuffles(Lines):
    """Cuts, and mixes the pieces."""

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        return super().cut(payload, max_bytes)[::-1]


class Refuses(Lines):
    """Is never content."""

    async def send(self, payload: Payload) -> None:
        raise Retry(None, "no")


class Careless(Lines):
    """Believes that all went well."""

    async def send(self, payload: Payload) -> None:
        await trio.lowlevel.checkpoint()


class Foreign(Lines):
    """Raises what the agent does not know."""

    async def send(self, payload: Payload) -> None:
        raise ConnectionError("reset")


class Shielded(Lines):
    """Cannot be cancelled."""

    async def send(self, payload: Payload) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.6)


class Once(Lines):
    """Can be closed once."""

    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


@pytest.mark.parametrize(
    ("broken", "promise", "said"),
    [
        (Miscounts, "accounts_for_every_sample", "the rest would be booked as `bug`"),
        (Mispoints, "accounts_for_every_sample", "counts 0 points where there are 1"),
        (Raises, "accounts_for_every_sample", "raises ValueError: NaN"),
        (Moody, "encodes_the_same_again", "otherwise when it has seen it before"),
        (Reverses, "joins_in_order", "loses, doubles or reorders points"),
        (OneWay, "unseals_what_it_sealed", "is not the body of the batch"),
        (Chokes, "unseals_what_it_sealed", "fails on what seal made (what is this?)"),
        (Clumsy, "cuts_without_loss", "samples of"),
        (Coarse, "cuts_without_loss", "that can be cut into 2"),
        (Shuffles, "cuts_without_loss", "loses, doubles or reorders points"),
        (Refuses, "sends_to_a_peer_that_is_well", "though its peer is well"),
        (Careless, "answers_a_failure_by_name", "returns though its peer fails"),
        (Foreign, "answers_a_failure_by_name", "raises ConnectionError: reset; the agent would call it a bug"),
        (Shielded, "gives_up_a_silent_peer", "after it was cancelled"),
        (Once, "closes_twice", "raises RuntimeError: closed already"),
    ],
)
def test_a_broken_law_is_told(broken: Any, promise: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.testing.exporters.PROMPT", 0.2)
    lines = shortcomings(broken, peer=destination, read=read)
    told = {name: sentence for name, _, sentence in (line.partition(": ") for line in lines)}
    assert said in told[promise]


class Honest(Lines):
    """Says that it cannot go back."""

    def unseal(self, body: bytes) -> bytes:
        raise ValueError("cannot read back what was printed")


def test_one_that_says_that_it_cannot_unseal_may() -> None:
    assert shortcomings(Honest) == []
