from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from ebbtide import Client, Recording
from receivers.metadata import Enquiry
from receivers.replay import PIECE, Noting, Remembering, Tee, feed_all
from receivers.skeleton import Skeleton

BODIES = {"/api/v1/metadata": b'{"a": "\xff\xc3\xa4"}', "/gone": None}


class Pretended:
    """A reader that keeps what it is fed."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.pieces.append(data)


def asking() -> tuple[Client, str, float, logging.Logger, str]:
    return Client(), "http://127.0.0.1:9", 1.0, logging.getLogger("ebbtide.test"), "r"


async def test_what_was_noted_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answered(self: Enquiry, path: str, params: Iterable[tuple[str, str]]) -> bytes | None:
        assert list(params) == ([] if path == "/gone" else [("metric", "a b&c"), ("metric", "d")])
        return BODIES[path]

    noting, remembering = Noting(*asking()), Remembering(*asking())
    noting.answers = {}
    asked = [("metric", "a b&c"), ("metric", "d")]
    with monkeypatch.context() as patched:
        patched.setattr(Enquiry, "_get", answered)
        assert await noting._get("/api/v1/metadata", iter(asked)) == BODIES["/api/v1/metadata"]
        assert await noting._get("/gone", ()) is None
    assert noting.answers == {"/api/v1/metadata?metric=a+b%26c&metric=d": '{"a": "\udcffä"}', "/gone": None}
    remembering.answers = noting.answers
    assert await remembering._get("/api/v1/metadata", iter(asked)) == BODIES["/api/v1/metadata"]
    assert await remembering._get("/gone", ()) is None
    assert await remembering._get("/api/v1/metadata", [("metric", "other")]) is None


def test_a_tee_keeps_what_it_passes_on() -> None:
    reader = Pretended()
    tee = Tee(reader)
    for piece in (b"a 1", b"", b"\nb"):
        tee.feed(piece)
    assert (tee.body(), reader.pieces) == (b"a 1\nb", [b"a 1", b"", b"\nb"])


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1])
async def test_a_saved_page_is_fed_in_pieces(size: int) -> None:
    reader, body = Pretended(), bytes(size)
    await feed_all(reader, Recording(body))
    assert b"".join(reader.pieces) == body
    assert all(0 < len(piece) <= PIECE for piece in reader.pieces)


async def test_a_reader_of_pages_is_fed_like_any_other() -> None:
    reader = Skeleton(lambda sample: 0).read()
    await feed_all(reader, Recording(b"a 1\n"))
    assert reader.finish().values.tolist() == [1.0]
