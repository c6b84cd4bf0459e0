"""Saving what a server was asked beside a page, and answering from what was saved: nothing is opened for that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol
from urllib.parse import urlencode

import trio

from ebbtide import Recording
from receivers.metadata import Enquiry

PIECE = 1 << 20  # bytes of a saved page that are read at once


class Feeds(Protocol):
    """What takes a page in pieces."""

    def feed(self, data: bytes) -> None:
        """Take the next piece."""


class Tee:
    """Keeps what it passes on to a reader."""

    def __init__(self, reader: Feeds):
        self._reader = reader
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Keep the piece, and pass it on."""
        self._pieces.append(data)
        self._reader.feed(data)

    def body(self) -> bytes:
        """Return all that was passed on."""
        return b"".join(self._pieces)


class Noting(Enquiry):
    """Asks the server, and notes its answers."""

    answers: dict[str, str | None]

    async def _get(self, path: str, params: Iterable[tuple[str, str]]) -> bytes | None:
        asked = list(params)
        body = await super()._get(path, asked)
        # What is not UTF-8 survives as surrogates, so that it is told apart when read back, too.
        self.answers[_question(path, asked)] = None if body is None else body.decode(errors="surrogateescape")
        return body


class Remembering(Enquiry):
    """Answers from what was noted. A question that was not asked then has no answer."""

    answers: Mapping[str, str | None]

    async def _get(self, path: str, params: Iterable[tuple[str, str]]) -> bytes | None:
        await trio.lowlevel.checkpoint()
        answer = self.answers.get(_question(path, params))
        return None if answer is None else answer.encode(errors="surrogateescape")


async def feed_all(reader: Feeds, recording: Recording) -> None:
    """Feed a saved page, with a checkpoint between its pieces."""
    for start in range(0, len(recording.body), PIECE):
        reader.feed(recording.body[start : start + PIECE])
        await trio.lowlevel.checkpoint()


def _question(path: str, params: Iterable[tuple[str, str]]) -> str:
    """Name a question by its path and query, as it stands in the file."""
    return f"{path}?{urlencode(list(params))}".removesuffix("?")
