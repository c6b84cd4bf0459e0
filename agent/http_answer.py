"""Answers of HTTP/1.1 as they come off the wire: status, headers, and the body without its framing. Sans-IO.

Strategy. Only what a GET needs, strictly: whoever does not speak HTTP, or breaks its framing, is refused by an exception
of the HTTP client's own, so that ``http_fault`` finds the same words for it. The head is bounded; the body is handed on
as it comes. Source: RFC 9112 (message syntax), RFC 9110 §6.4.1 (which answers have no body).
"""

from __future__ import annotations

import re

import httpx

MAX_HEAD = 64 << 10  # bytes of status line and headers, and of a chunk's own line or trailer

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n\0]*+)?+")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+([^\r\n\0]*?)[ \t]*+")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:;[^\r\n\0]*+)?+")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_WITHOUT_BODY = (204, 304)
_UNTIL_CLOSE = -1


class AnswerReader:
    """One answer to a GET. ``status`` is 0 until the head has come; header names are in lower case."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.keeps = False  # whether the connection may be used again once the answer is complete
        self._held = b""  # of a head, or of a chunk's own line, whose end has not come yet
        self._left = 0  # bytes of the body, or of its chunk, still to come
        self._chunked = False
        self._in_chunk = False  # within a chunk, or before the line end behind it
        self._trailing = False  # behind the last chunk

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what of it is body. Raises httpx.RemoteProtocolError."""
        if not self.status:
            data = self._head(self._held + data)
            if not self.status:
                return b""
        if self.complete:
            self.keeps = self.keeps and not data
            return b""
        if self._chunked:
            return self._chunks(data)
        return self._counted(data)

    def end(self) -> None:
        """The server closed the connection. Raises httpx.RemoteProtocolError where that cut the answer short."""
        self.keeps = False
        if self.complete:
            return
        if not self.status:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        if self._chunked:
            raise httpx.RemoteProtocolError(
                "peer closed connection without sending complete message body (incomplete chunked read)"
            )
        if self._left != _UNTIL_CLOSE:
            raise httpx.RemoteProtocolError(
                f"peer closed connection without sending complete message body (expected {self._left} more bytes)"
            )
        self.complete = True

    def _head(self, data: bytes) -> bytes:
        """Read the head, and those of interim answers before it; return what stands behind."""
        while True:
            if not b"HTTP/".startswith(data[:5]):
                raise httpx.RemoteProtocolError("illegal request line")  # as h11 says of what is no HTTP
            end = _HEAD_END.search(data)
            if (end.start() if end else len(data)) > MAX_HEAD:
                raise httpx.RemoteProtocolError(f"the head of the answer is longer than {MAX_HEAD} bytes")
            if end is None:
                self._held = data
                return b""
            status = self._fields(data[: end.start()])
            data = data[end.end() :]
            if status >= 200:
                self._held = b""
                self.status = status
                self._frame()
                return data

    def _fields(self, head: bytes) -> int:
        first, *lines = head.replace(b"\r\n", b"\n").split(b"\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            raise httpx.RemoteProtocolError(f"illegal status line: {first[:80]!r}")
        self.keeps = status[1] == b"1"
        headers: dict[str, str] = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise httpx.RemoteProtocolError(f"illegal header line: {line[:80]!r}")
            name, value = field[1].decode().lower(), field[2].decode("latin-1")
            if name == "content-length" and headers.get(name, value) != value:
                raise httpx.RemoteProtocolError("conflicting Content-Length headers")
            headers[name] = f"{headers[name]}, {value}" if name in headers and name != "content-length" else value
        self.headers = headers
        return int(status[2])

    def _frame(self) -> None:
        """Find out where the body ends."""
        headers = self.headers
        if "close" in headers.get("connection", "").lower():
            self.keeps = False
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if self.status in _WITHOUT_BODY:
            self.complete = True
        elif coding is not None:
            if coding.strip().lower() != "chunked":
                raise httpx.RemoteProtocolError(f"unknown Transfer-Encoding {coding[:40]!r}")
            self._chunked = True
        elif length is not None:
            if not _LENGTH.fullmatch(length.encode("latin-1")):
                raise httpx.RemoteProtocolError("bad Content-Length")
            self._left = int(length)
            self.complete = not self._left
        else:
            self._left, self.keeps = _UNTIL_CLOSE, False

    def _counted(self, data: bytes) -> bytes:
        if self._left == _UNTIL_CLOSE:
            return data
        if len(data) > self._left:
            data, self.keeps = data[: self._left], False
        self._left -= len(data)
        self.complete = not self._left
        return data

    def _chunks(self, data: bytes) -> bytes:
        """Take chunks apart; a chunk's own line, and the trailer, are held until their ends have come."""
        data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.complete:
            if self._left:
                pieces.append(data[at : at + self._left])
                at += len(pieces[-1])
                self._left -= len(pieces[-1])
                continue
            end = data.find(b"\n", at)
            if (end if end >= 0 else len(data)) - at > MAX_HEAD:
                raise httpx.RemoteProtocolError("illegal chunk header")
            if end < 0:
                self._held = data[at:]
                break
            self._chunk_line(data[at:end].removesuffix(b"\r"))
            at = end + 1
        if self.complete and at < len(data):
            self.keeps = False
        return b"".join(pieces)

    def _chunk_line(self, line: bytes) -> None:
        if self._in_chunk:
            self._in_chunk = False
            if line:
                raise httpx.RemoteProtocolError("illegal chunk end")
            return
        if self._trailing:
            self.complete = not line
            return
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise httpx.RemoteProtocolError(f"illegal chunk header: {line[:40]!r}")
        self._left = int(size[1], 16)
        self._in_chunk, self._trailing = bool(self._left), not self._left
