"""The state directory: made if need be, and held by one process at a time.

The lock is an ``flock`` on the file ``lock`` in it, which the kernel lets go of when the process ends, however it ends.
On NFS it holds between machines only where the server's lock service runs.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

LOCK = "lock"
"""The file in the directory that is locked; it holds the process' number."""


class StateDirError(Exception):
    """The directory cannot be used; the text says why and what to try."""


class StateDir:
    """A directory that this process alone may use, until ``close``."""

    def __init__(self, path: Path, lock: int):
        self.path = path
        self._lock = lock

    @classmethod
    def take(cls, path: Path) -> Self:
        """Make the directory (mode 0700, parents must be there) and lock it. Raises StateDirError."""
        lock = None
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            assert lock is not None
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise StateDirError(
                f"cannot use state_dir {path}: another ebbtide (pid {holder}) holds it; stop it or choose another state_dir"
            ) from None
        except OSError as error:
            if lock is not None:
                os.close(lock)
            raise StateDirError(
                f"cannot use state_dir {path}: {error.strerror}; it must be a directory that this user may write to, "
                "in one that is there"
            ) from error
        return cls(path, lock)

    def close(self) -> None:
        """Let others have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
