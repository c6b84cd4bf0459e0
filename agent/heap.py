"""What the heap is told: at the start, and after a form has changed."""

from __future__ import annotations

import ctypes
import gc

_COLLECT = 100_000, 20, 100  # of gc.set_threshold: allocations are many and hardly ever cyclic


def prepare() -> None:
    """Let the collector look at the heap less often: while a first page is read, it grows with every look."""
    gc.set_threshold(*_COLLECT)


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
