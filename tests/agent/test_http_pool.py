"""Connections that are kept: through a way of our own, and closed only when nobody uses them."""

from __future__ import annotations

import httpcore
import httpx
import pytest

from agent.http_pool import Body, Pool


class Dead(httpcore.AsyncNetworkBackend):
    """A way that leads nowhere."""

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        raise LookupError(f"{host}:{port}")


async def test_what_the_way_raises_leaves_as_it_is():
    pool = Pool.through(Dead(), httpx.Timeout(None), httpx.Limits())
    async with pool:
        for _ in range(2):
            with pytest.raises(LookupError, match="localhost:80"):
                await pool.http.get("http://localhost/")
    await pool.retire()
    assert pool.http.is_closed


async def test_it_is_closed_when_the_last_user_has_left():
    pool = Pool(httpx.AsyncClient(trust_env=False))
    async with pool:
        async with pool:
            await pool.retire()
        assert not pool.http.is_closed
    assert pool.http.is_closed


async def test_a_body_can_be_read_twice():
    body = Body(b"x")
    assert [[piece async for piece in body] for _ in range(2)] == [[b"x"], [b"x"]]
