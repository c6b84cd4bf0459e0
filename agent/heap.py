"""What the heap is told: at the start, and after a form has changed."""

from __future__ import annotations

import ctypes
import gc

_COLLECT = 100_000, 20, 100  # of gc.set_threshold: allocations are many and hardly ever cyclic

# mallopt(3): a body inflated a megabyte at a time, and columns of as much, are allocated and freed at every poll. At its
# own bounds the allocator gives that memory back each time, and pays for it in page faults: 1 us a sample and more.
_M_TRIM_THRESHOLD, _TRIM_BYTES = -1, 32 << 20
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 4 << 20


def prepare() -> None:
    """Let the collector look at the heap less often, and C's allocator keep what the next poll will need again."""
    gc.set_threshold(*_COLLECT)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)


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
