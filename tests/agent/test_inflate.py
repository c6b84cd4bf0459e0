"""Inflating, however the bytes arrive."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import inflate
from agent.http_fault import Fault
from agent.inflate import CHUNK, Inflater

LIMIT = 1 << 24


def pack(data: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.compress(data, mtime=0)
    packed = zlib.compress(data) if coding == "deflate" else data
    return packed[2:-4] if coding == "raw" else packed


def inflated(wire: bytes, coding: str, step: int, limit: int = LIMIT) -> bytes:
    inflater = Inflater(coding, limit, "there")
    pieces = [piece for at in range(0, len(wire), step) for piece in inflater.feed(wire[at : at + step])]
    inflater.finish()
    assert all(0 < len(piece) <= CHUNK for piece in pieces)
    return b"".join(pieces)


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        monkeypatch.setattr(inflate, "fast_zlib", zlib)


@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=4), step=st.integers(1, 64))
def test_members_in_pieces_of_any_size(parts: list[bytes], step: int):
    wire = b"".join(pack(part, "gzip") for part in parts)
    assert inflated(wire, "gzip", step) == b"".join(parts)


@given(data=st.binary(max_size=300), step=st.integers(1, 64), coding=st.sampled_from(["deflate", "identity", ""]))
def test_other_codings_in_pieces_of_any_size(data: bytes, step: int, coding: str):
    assert inflated(pack(data, coding), coding, step) == data


@given(data=st.binary(min_size=1, max_size=300), step=st.integers(1, 64), cut=st.integers(1, 30))
def test_every_truncation_is_a_fault(data: bytes, step: int, cut: int):
    wire = pack(data, "gzip")
    with pytest.raises(Fault) as caught:
        inflated(wire[:-cut], "gzip", step)
    assert caught.value.kind == "short"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
def test_large_bodies_leave_in_bounded_pieces(coding: str):
    data = bytes(3 * CHUNK + 7)
    assert inflated(pack(data, coding), coding, 1 << 16) == data
    assert inflated(pack(data, coding), coding, 1 << 30) == data


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_exact(coding: str, over: int):
    wire = pack(bytes(5000 + over), coding)
    if not over:
        assert len(inflated(wire, coding, 100, 5000)) == 5000
        return
    with pytest.raises(Fault) as caught:
        inflated(wire, coding, 100, 5000)
    assert caught.value.kind == "too_large"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("where", [3, 12, -6, -2])
def test_damage_is_a_fault(where: int):
    wire = bytearray(pack(b"some text " * 20, "gzip"))
    wire[where] ^= 0xFF
    with pytest.raises(Fault) as caught:
        inflated(bytes(wire), "gzip", 7)
    assert caught.value.kind in ("encoding", "short")
