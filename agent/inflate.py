"""Bounded inflating of HTTP bodies: gzip of one or more members, deflate in both its readings, identity.

Strategy. Input is fed as it arrives and leaves in pieces of at most ``CHUNK`` bytes, so that a bomb (a thousandfold)
costs no memory; the inflated size is checked before each piece is handed out. At the end ``finish`` tells whether the
compressed stream was complete: only then was the body. Sans-IO.

RFC 9110 §8.4 names the codings; "deflate" should be zlib (RFC 1950) but raw streams (RFC 1951) are met.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from agent.http_fault import Fault, shorten
from agent.settings import show_size

fast_zlib: Any
try:
    from isal import isal_zlib as fast_zlib
except ImportError:  # no wheel for this machine: the same interface, four times slower
    fast_zlib = zlib

CHUNK = 1 << 20  # bytes of the largest piece handed out
WIRE_OVERHEAD = (
    1 << 20
)  # compressed bytes allowed beyond the inflated limit, so that empty members cannot go on for ever

_GZIP, _ZLIB, _RAW = 31, 15, -15  # wbits
_MAGIC = b"\x1f\x8b"  # RFC 1952; isal waits for ten bytes before it looks
_ERRORS = (zlib.error, fast_zlib.error)


class Inflater:
    """Inflates one body. ``coding`` is the Content-Encoding, ``max_bytes`` the limit of the inflated size."""

    def __init__(self, coding: str, max_bytes: int, where: str):
        self._coding = coding.strip().lower()
        self._max_bytes = max_bytes
        self._where = where
        self._wire = 0
        self._size = 0
        self._head = b""  # the first bytes of a deflate stream, until they tell which kind it is
        self._stream: Any = None
        self._members = 0
        if self._coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise Fault(
                "encoding",
                f"cannot inflate the body from {where}: Content-Encoding {shorten(coding)!r} is not known; "
                "only gzip and deflate were asked for",
            )

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` inflates to, in pieces; exhaust it before the next call."""
        self._wire += len(data)
        if self._coding in ("", "identity"):
            yield from self._cut(data)
            return
        if self._wire > self._max_bytes + WIRE_OVERHEAD:
            raise self._too_large()
        try:
            yield from self._deflated(data) if self._coding == "deflate" else self._gzipped(data)
        except _ERRORS as error:
            raise self._broken(shorten(str(error))) from error

    def finish(self) -> None:
        """Check that the compressed stream was complete; raise Fault "short" otherwise."""
        if self._coding in ("", "identity"):
            return
        if self._stream is not None or not self._members:
            raise Fault(
                "short",
                f"cannot inflate the body from {self._where}: the {self._coding} stream ended early after "
                f"{self._wire} bytes; the server or a proxy between broke off",
            )

    def _cut(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), CHUNK):
            yield self._counted(data[start : start + CHUNK])

    def _gzipped(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream is None:
                if self._members:
                    data = data.lstrip(b"\0")  # padding after a member, as gzip(1) allows
                    if not data:
                        return
                if not _MAGIC.startswith(data[:2]):
                    raise self._broken("it does not begin like gzip")
                self._stream = fast_zlib.decompressobj(_GZIP)
            yield from self._pieces(data)
            if not self._stream.eof:
                return
            data = self._stream.unused_data
            self._end_member()

    def _deflated(self, data: bytes) -> Iterator[bytes]:
        if self._members:
            raise self._broken("there are bytes after its end")
        if self._stream is None:
            self._head += data
            if len(self._head) < 2:
                return
            data, self._head = self._head, b""
            is_zlib = data[0] & 0x0F == 8 and (data[0] * 256 + data[1]) % 31 == 0
            self._stream = fast_zlib.decompressobj(_ZLIB if is_zlib else _RAW)
        yield from self._pieces(data)
        if self._stream.eof:
            rest = self._stream.unused_data
            self._end_member()
            if rest:
                raise self._broken("there are bytes after its end")

    def _end_member(self) -> None:
        self._stream = None
        self._members += 1

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Inflate ``data`` by the current stream, at most ``CHUNK`` bytes at a time."""
        stream = self._stream
        while True:
            piece = stream.decompress(data, CHUNK)
            if piece:
                yield self._counted(piece)
            data = stream.unconsumed_tail
            if stream.eof or (not data and len(piece) < CHUNK):
                return

    def _counted(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise self._too_large()
        return piece

    def _too_large(self) -> Fault:
        return Fault(
            "too_large",
            f"cannot take the body from {self._where}: it is larger than {show_size(self._max_bytes)} inflated; "
            "ask for less, or raise the limit",
        )

    def _broken(self, why: str) -> Fault:
        return Fault(
            "encoding",
            f"cannot inflate the body from {self._where}: it is not {self._coding} ({why}); see the server's log",
        )
