"""How error answers begin."""

from __future__ import annotations

import gzip
from contextlib import aclosing
from itertools import repeat

import pytest
import trio

from agent.scripted import Step, answer, serve, then_close
from ebbtide import Client
from receivers.excerpt import excerpt

CUT = b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\nas much as came"


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (answer(500, b"short"), "short"),
        (answer(500, b""), ""),
        (answer(500, b"x" * 1000), "x" * 100),
        (answer(500, b"\xff!"), "\N{REPLACEMENT CHARACTER}!"),
        (answer(500, gzip.compress(b"y" * 10**6, mtime=0), {"Content-Encoding": "gzip"}), "y" * 100),
        (then_close(CUT), "as much as came"),
    ],
)
async def test_as_much_as_is_wanted_of_what_came(step: Step, text: str) -> None:
    async with trio.open_nursery() as nursery:
        server = await serve(nursery, repeat(step))
        async with aclosing(Client()) as client, client.get(server.url) as response:
            assert await excerpt(response, 100) == text
        nursery.cancel_scope.cancel()
