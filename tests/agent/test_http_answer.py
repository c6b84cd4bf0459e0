"""Answers in pieces of any size give the same; what breaks the framing is refused."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.http_answer import MAX_HEAD, AnswerReader

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, *cuts: int, closed: bool = False) -> tuple[AnswerReader, bytes]:
    reader, body, at = AnswerReader(), b"", 0
    for cut in (*sorted(cuts), len(data)):
        body += reader.feed(data[at:cut])
        at = cut
    if closed:
        reader.end()
    return reader, body


@pytest.mark.parametrize(
    ("data", "status", "body", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", True),
        (b"HTTP/1.1 200\nContent-Length: 3\n\nabc", 200, b"abc", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", 200, b"", False),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length:0\r\n\r\n", 403, b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", 200, b"a", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", 200, b"a", False),
        (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 200, b"abcde", True),
        (CHUNKED + b"A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", 200, b"0123456789", True),
        (CHUNKED + b"0\r\n\r\nmore", 200, b"", False),
    ],
)
def test_whole_answers(data: bytes, status: int, body: bytes, keeps: bool) -> None:
    for cuts in ((), range(1, len(data))):
        reader, read_body = read(data, *cuts)
        assert (reader.status, read_body, reader.complete, reader.keeps) == (status, body, True, keeps)


def test_header_names_are_in_lower_case_and_repeated_ones_joined() -> None:
    reader, _ = read(b"HTTP/1.1 200 OK\r\nX-A:  b \r\nx-a: c\r\nContent-Length: 0\r\n\r\n")
    assert reader.headers == {"x-a": "b, c", "content-length": "0"}


def test_an_answer_may_end_with_its_connection() -> None:
    reader, body = read(b"HTTP/1.1 200 OK\r\n\r\nabc", closed=True)
    assert (body, reader.complete, reader.keeps) == (b"abc", True, False)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "disconnected without sending"),
        (b"HTTP/1.1 200 OK\r\n", "disconnected without sending"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na", "without sending complete message body"),
        (CHUNKED + b"5\r\nabc", "incomplete chunked read"),
        (b"SSH-2.0\r\n", "illegal request line"),
        (b"HTTP/1.1 abc\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "illegal header line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "conflicting Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unknown Transfer-Encoding"),
        (CHUNKED + b"x\r\n", "illegal chunk header"),
        (CHUNKED + b"1\r\nab\r\n", "illegal chunk end"),
        (CHUNKED + b"1" * (MAX_HEAD + 1), "illegal chunk header"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * MAX_HEAD, "longer than"),
    ],
)
def test_what_is_no_answer(data: bytes, words: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match=words):
        read(data, closed=True)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.lists(st.integers(0, 400), max_size=6))
def test_chunks_may_be_cut_anywhere(pieces: list[bytes], cuts: list[int]) -> None:
    data = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    reader, body = read(data, *(min(cut, len(data)) for cut in cuts))
    assert (body, reader.complete, reader.keeps) == (b"".join(pieces), True, True)
