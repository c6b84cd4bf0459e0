"""Inflating snappy's block format, with the inflated size known and bounded before anything is inflated. Sans-IO.

Source: google/snappy, format_description.txt: a block begins with its inflated length.
"""

from __future__ import annotations

import cramjam

from receivers.remote_write_wire import Malformed, read_varint

_LENGTH_BYTES = 5  # of the inflated length, a 32-bit varint


class TooLarge(Exception):
    """The inflated body would be larger than allowed."""


def most_compressed(max_body: int) -> int:
    """Return how many bytes a block may take that inflates to ``max_body`` (``MaxCompressedLength`` of snappy)."""
    return 32 + max_body + max_body // 6


def inflate(body: bytes, max_body: int) -> bytes:
    """Return the inflated body. Raises TooLarge, or Malformed for what is no block of snappy."""
    length, _ = read_varint(body, 0, min(len(body), _LENGTH_BYTES))
    if length > max_body:
        raise TooLarge(f"the body inflates to {length} bytes, {max_body} are allowed")
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise Malformed(f"the body is no block of snappy: {str(error).removeprefix('snappy: ')}") from None
