"""What the heap is told: at the start, and after a form has changed."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD = -1  # mallopt(3); setting it also keeps the bounds from growing with what was once allocated
_TRIM_BYTES = 128 << 10
_COLLECT = 100_000, 20, 100  # of gc.set_threshold: allocations are many and hardly ever cyclic


def prepare() -> None:
    """Set the collector and C's allocator up for many long-lived objects and large short-lived columns.

    At the defaults the collector walks a growing heap again and again while a first page is read, and C's allocator keeps the
    columns of a poll as freed memory.
    """
    gc.set_threshold(*_COLLECT)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def settle() -> None:
    """Take what exists out of the collector's sight, and give freed memory back to the system.

    After a page of new series there are a million small, immutable objects that are there to stay, which the collector
    need not walk at every turn (69 ms at 200,000 series), and about as much garbage that C's allocator would keep.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
