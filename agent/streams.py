"""The standard streams of the process: what may be wrong with them from the start, and at the end.

Strategy. Whoever starts the agent may have closed any of the three. Then the next file or socket that is opened gets the
number, and what is written to standard output lands in it. So the numbers are taken, by what can only be read: a write
fails as if the stream were closed, which it is.
"""

from __future__ import annotations

import errno
import os
import sys

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def prepare() -> None:
    """Let no file take the place of a standard stream, and no letter fail for the locale's sake."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # gets the lowest number that is free: this one
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")


def flush() -> None:
    """Write what standard output still holds; raises OSError where that cannot be done."""
    if sys.stdout is not None:
        sys.stdout.flush()


def give_up() -> None:
    """Leave what standard output still holds, or the interpreter would fail over it on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def no_room(error: OSError) -> bool:
    """Tell whether a write failed because the disk is full, or the file as large as it may be."""
    return error.errno in _NO_ROOM
