"""The scripted server itself: it says what it is told, and remembers what it was asked."""

from __future__ import annotations

import trio

from agent.scripted import answer, serve


async def test_a_request_in_pieces_and_the_end_of_the_script(nursery):
    server = await serve(nursery, [answer(201, b"made", {"X-A": "1"})])
    port = int(server.url.rpartition(":")[2])
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        for piece in (b"POST /a HTTP/1.1\r\nContent-", b"Length: 4\r\n\r\nbo", b"dy"):
            await stream.send_all(piece)
        assert await stream.receive_some() == b"HTTP/1.1 201 X\r\nX-A: 1\r\nContent-Length: 4\r\n\r\nmade"
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 500 ")
    first, second = server.requests
    assert (first.method, first.target, first.body, first.connection) == ("POST", "/a", b"body", 0)
    assert (second.method, second.headers) == ("GET", {})
