"""Compression: what is sealed unseals, and others can read it."""

from __future__ import annotations

import gzip
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import ConfigError
from exporters.otlp_seal import codec


@given(st.binary(max_size=5000))
def test_gzip(body: bytes):
    used = codec("gzip")
    sealed = used.compress(body)
    assert gzip.decompress(sealed) == body
    assert used.decompress(sealed) == body
    assert used.size(sealed) == len(body)
    assert used.encoding == "gzip"


def test_none():
    used = codec("none")
    assert (used.compress(b"x"), used.decompress(b"x"), used.size(b"xx"), used.encoding) == (b"x", b"x", 2, "")


def test_zstd():
    try:
        used = codec("zstd")
    except ConfigError:
        pytest.skip("no zstd library is installed: pip install 'ebbtide[zstd]'")
    sealed = used.compress(b"x" * 1000)
    assert (len(sealed) < 100, used.decompress(sealed), used.size(sealed)) == (True, b"x" * 1000, 1000)


def test_a_missing_library_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch):
    for name in ("compression", "compression.zstd", "backports", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'ebbtide\[zstd\]'") as caught:
        codec("zstd")
    assert caught.value.option == "compression"
