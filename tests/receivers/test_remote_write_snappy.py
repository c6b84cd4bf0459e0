"""Inflating snappy within bounds."""

from __future__ import annotations

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.remote_write_snappy import TooLarge, inflate, most_compressed
from receivers.remote_write_wire import Malformed


def deflate(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


@given(st.binary(max_size=2000))
def test_what_was_compressed_comes_back_within_the_bound(body: bytes) -> None:
    assert inflate(deflate(body), len(body)) == body
    assert len(deflate(body)) <= most_compressed(len(body))


def test_the_size_is_refused_before_anything_is_inflated() -> None:
    bomb = b"\xff\xff\xff\xff\x0f"  # says 4 GiB, and has nothing
    with pytest.raises(TooLarge, match="inflates to 4294967295 bytes, 1000 are allowed"):
        inflate(bomb, 1000)


@pytest.mark.parametrize("body", [b"", b"\xff" * 6, deflate(b"abc" * 99)[:9], b"\x05\x00a", b"\x1f\x8b\x08gzip"])
def test_what_is_no_block_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        inflate(body, 1 << 20)
