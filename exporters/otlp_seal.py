"""Compressing a request once, in the form in which it is sent, and undoing it. Sans-IO."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ebbtide import ConfigError

fast_zlib: Any
try:
    from isal import isal_zlib as fast_zlib
except ImportError:  # no wheel for this machine: the same interface, four times slower
    fast_zlib = zlib

GZIP_LEVEL = 1  # isal: 1.7 GB/s, and as small as zlib's 1
ZSTD_LEVEL = 1  # 1.3 GB/s; 3 gains 2 %
_GZIP_WBITS = 31


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to compress: ``encoding`` is the Content-Encoding, "" for none; ``size`` tells what a sealed body unseals to."""

    encoding: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]
    size: Callable[[bytes], int]


def codec(name: str) -> Codec:
    """Return the codec "none", "gzip" or "zstd"; raise ConfigError where its library is missing."""
    if name == "gzip":
        return Codec("gzip", _gzip, _gunzip, gzip_size)
    if name == "zstd":
        return _zstd_codec(_zstd())
    return Codec("", bytes, bytes, len)


def _zstd_codec(zstd: Any) -> Codec:
    return Codec(
        "zstd",
        lambda body: bytes(zstd.compress(body, ZSTD_LEVEL)),
        lambda sealed: bytes(zstd.decompress(sealed)),
        lambda sealed: zstd.get_frame_info(sealed).decompressed_size or 0,
    )


def _gzip(body: bytes) -> bytes:
    stream = fast_zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
    return bytes(stream.compress(body) + stream.flush())


def _gunzip(body: bytes) -> bytes:
    return bytes(fast_zlib.decompress(body, _GZIP_WBITS))


def gzip_size(sealed: bytes) -> int:
    """Return the size of a gzip member of ours before compression, from its trailer (RFC 1952: ISIZE, modulo 2**32)."""
    return int(struct.unpack("<I", sealed[-4:])[0])


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,import-untyped,unused-ignore,no-redef]
        except ImportError:
            raise ConfigError(
                "cannot compress with zstd: no library for it is installed; run: pip install 'ebbtide[zstd]'",
                "compression",
            ) from None
    return zstd
