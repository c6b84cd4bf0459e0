"""The small HTTP server: right answers, kept connections, limits, and no client or handler that ends it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

import agent.httpserver as httpserver
from agent.httpserver import Request, Response, serve_http

HEAD = "Host: x\r\n\r\n"


async def echo(request: Request) -> Response:
    if request.path == "/bug":
        raise ValueError("a bug")
    if request.path == "/bad-answer":
        return Response(headers=(("X", "line\nbreak"),))
    if request.path == "/nothing":
        return Response(204, content_type="")
    text = f"{request.method} {request.path} {request.query} {request.parameters()} {len(request.body)}"
    return Response(200, text.encode(), headers=(("X-Echo", "yes"),))


@pytest.fixture
async def port(nursery: trio.Nursery) -> int:
    return await nursery.start(serve_http, echo, "127.0.0.1", 0)


async def say(port: int, *texts: str | bytes) -> bytes:
    """Send texts one after the other, end the sending side, and return all that comes back."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        for text in texts:
            await stream.send_all(text.encode() if isinstance(text, str) else text)
        await stream.send_eof()
        return b"".join([part async for part in stream])


async def test_a_request_is_taken_apart(port: int) -> None:
    answer = await say(port, f"GET /a%20b?x=1&match[]=%7Bj%3D%22a%22%7D&empty= HTTP/1.1\r\n{HEAD}")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"X-Echo: yes" in head
    assert body.startswith(b"GET /a b [('x', '1'), ('match[]', '{j=\"a\"}'), ('empty', '')]")


async def test_a_form_comes_before_the_query(port: int) -> None:
    body = "q=a+b&z=%C3%A9"
    answer = await say(
        port,
        f"POST /f?q=2 HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n{HEAD}{body}",
    )
    assert "[('q', 'a b'), ('z', 'é'), ('q', '2')] 14".encode() in answer


async def test_connections_are_kept_and_requests_may_be_sent_ahead(port: int) -> None:
    answer = await say(port, f"GET /1 HTTP/1.1\r\n{HEAD}GET /2 HTTP/1.1\r\n{HEAD}", f"GET /3 HTTP/1.1\r\n{HEAD}")
    assert [answer.count(f"GET /{number} ".encode()) for number in (1, 2, 3)] == [1, 1, 1]
    assert answer.count(b"HTTP/1.1 200") == 3


async def test_head_has_the_length_and_no_body(port: int) -> None:
    answer = await say(port, f"HEAD / HTTP/1.1\r\n{HEAD}GET / HTTP/1.1\r\n{HEAD}")
    first, second = answer.split(b"HTTP/1.1 200")[1:]
    assert b"Content-Length: 14" in first
    assert first.endswith(b"\r\n\r\n")
    assert second.endswith(b"GET / [] [] 0")


async def test_chunks_and_continue(port: int) -> None:
    answer = await say(
        port,
        f"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n{HEAD}",
        "3\r\nabc\r\n0\r\n\r\n",
    )
    assert answer.endswith(b"POST / [] [] 3")


async def test_an_answer_without_a_body(port: int) -> None:
    answer = await say(port, f"GET /nothing HTTP/1.1\r\n{HEAD}")
    assert answer.startswith(b"HTTP/1.1 204")
    assert b"content-length" not in answer.lower()


async def test_a_bug_in_the_handler_is_500_and_a_traceback_and_no_more(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await say(port, f"GET /bug HTTP/1.1\r\n{HEAD}GET /next HTTP/1.1\r\n{HEAD}")
    assert answer.count(b"HTTP/1.1 500") == 1
    assert b"GET /next" in answer
    assert "ValueError: a bug" in caplog.text


async def test_an_answer_that_http_does_not_allow_costs_its_connection_only(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert await say(port, f"GET /bad-answer HTTP/1.1\r\n{HEAD}") == b""
    assert "cannot send an answer" in caplog.text
    assert b"HTTP/1.1 200" in await say(port, f"GET / HTTP/1.1\r\n{HEAD}")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (f"GET //[ HTTP/1.1\r\n{HEAD}", 400),
        ("GET / HTTP/1.1\r\nX: " + "y" * 3 * httpserver.MAX_HEAD_BYTES + "\r\n" + HEAD, 431),
        (f"POST / HTTP/1.1\r\nContent-Length: {httpserver.MAX_BODY_BYTES + 1}\r\n{HEAD}" + "z" * (httpserver.MAX_BODY_BYTES + 1), 413),
        ("\x16\x03\x01 a TLS hello", 400),
    ],
    ids=["nonsense", "no host", "bad target", "long head", "long body", "tls"],
)  # fmt: skip
async def test_what_is_refused_is_told_why(port: int, text: str, status: int) -> None:
    answer = await say(port, text)
    assert answer.startswith(f"HTTP/1.1 {status}".encode())
    assert b"cannot serve this request: " in answer
    assert b"Connection: close" in answer


async def test_a_body_that_ends_early_ends_the_connection_not_the_server(port: int) -> None:
    answer = await say(port, f"POST / HTTP/1.1\r\nContent-Length: 10\r\n{HEAD}abc")
    assert b"HTTP/1.1 200" not in answer
    assert b"HTTP/1.1 200" in await say(port, f"GET / HTTP/1.1\r\n{HEAD}")


async def test_clients_beyond_the_limit_are_told_so(nursery: trio.Nursery) -> None:
    port = await nursery.start(
        lambda task_status: serve_http(echo, "127.0.0.1", 0, max_connections=1, task_status=task_status)
    )
    first = await trio.open_tcp_stream("127.0.0.1", port)
    await first.send_all(f"GET / HTTP/1.1\r\n{HEAD}".encode())
    assert (await first.receive_some()).startswith(b"HTTP/1.1 200")
    assert (await say(port, f"GET / HTTP/1.1\r\n{HEAD}")).startswith(b"HTTP/1.1 503")
    await first.aclose()
    with trio.fail_after(5):
        while not (await say(port, f"GET / HTTP/1.1\r\n{HEAD}")).startswith(b"HTTP/1.1 200"):
            await trio.lowlevel.checkpoint()


async def test_a_silent_client_is_let_go(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(httpserver, "IDLE_TIMEOUT", 0.02)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET / HT")
        with trio.fail_after(5):
            assert await stream.receive_some() == b""


async def test_a_body_that_drips_is_408(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(httpserver, "BODY_TIMEOUT", 0.02)
    monkeypatch.setattr(httpserver, "LINGER_TIMEOUT", 0.02)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"POST / HTTP/1.1\r\nContent-Length: 10\r\n{HEAD}ab".encode())
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 408")


async def test_a_port_that_is_taken_is_an_oserror(port: int) -> None:
    with pytest.raises(OSError, match="in use"):
        await serve_http(echo, "127.0.0.1", port)


# -- gates and limits of one server -------------------------------------------------------------------------------------


async def serve_gated(nursery: trio.Nursery, gate: httpserver.Gate, **limits: float) -> int:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(task_status: trio.TaskStatus[object]) -> None:
        await httpserver.serve_listeners(
            echo, listeners, limits=httpserver.Limits(**limits), gate=gate, task_status=task_status
        )

    await nursery.start(serve)
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def test_a_gate_refuses_before_the_body_is_read_and_is_left_after_the_answer(nursery: trio.Nursery) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def gate(request: Request) -> AsyncIterator[Response | None]:
        seen.append(f"in {request.path} {len(request.body)}")
        yield Response(503, b"later\n", headers=(("Retry-After", "5"),)) if request.path == "/no" else None
        seen.append(f"out {request.path}")

    port = await serve_gated(nursery, gate)
    answer = await say(port, f"POST /yes HTTP/1.1\r\nContent-Length: 2\r\n{HEAD}ok")
    assert answer.startswith(b"HTTP/1.1 200")
    answer = await say(port, f"POST /no HTTP/1.1\r\nContent-Length: 999999\r\n{HEAD}")
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 5" in answer
    assert b"Connection: close" in answer
    assert seen == ["in /yes 0", "out /yes", "in /no 0"]


async def test_a_server_has_limits_of_its_own(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpserver, "LINGER_TIMEOUT", 0.02)
    port = await serve_gated(nursery, httpserver._open_gate, body=5, body_timeout=0.02)
    assert (await say(port, f"POST / HTTP/1.1\r\nContent-Length: 5\r\n{HEAD}12345")).startswith(b"HTTP/1.1 200")
    assert (await say(port, f"POST / HTTP/1.1\r\nContent-Length: 6\r\n{HEAD}123456")).startswith(b"HTTP/1.1 413")
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"POST / HTTP/1.1\r\nContent-Length: 5\r\n{HEAD}ab".encode())
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 408")


def test_what_trio_repeats_ten_times_a_second_is_folded(caplog: pytest.LogCaptureFixture) -> None:
    trios = logging.getLogger("trio.serve_listeners")
    for _ in range(30):
        trios.error("accept returned %s (%s); retrying in %s seconds", "EMFILE", "Too many open files", 0.1)
    assert [record.message for record in caplog.records] == [
        "cannot accept connections: Too many open files; raise the limit of open files (ulimit -n, LimitNOFILE)"
    ]
