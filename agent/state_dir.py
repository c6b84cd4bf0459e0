"""The state directory: made if need be, and held by one process at a time.

The lock is an ``flock`` on the file ``lock`` in it, which the kernel lets go of when the process ends, however it ends.
The file stays: removing it would let a third process lock another file of the same name. Processes started by this one
do not inherit the lock. On NFS it holds between machines only where the server's lock service runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Self

LOCK = "lock"
"""The file in the directory that is locked; it holds the process' number."""

_CURES = {
    errno.ENOENT: "make the directory above it, or correct the path",
    errno.ENOTDIR: "a part of it is a file; name a directory",
    errno.EEXIST: "it is a file; name a directory",
    errno.EISDIR: f"remove the directory `{LOCK}` in it",
    errno.ELOOP: f"`{LOCK}` in it must be a file of its own, not a link; remove that",
    errno.EACCES: "let the user that runs ebbtide write to it",
    errno.EPERM: "let the user that runs ebbtide write to it",
    errno.EROFS: "mount it writable, or choose another state_dir",
    errno.ENOSPC: "make room on its file system",
    errno.EDQUOT: "make room in the user's quota",
    errno.ENOLCK: "its file system has no lock service; choose a state_dir on a local disk",
    errno.EOPNOTSUPP: "its file system has no locks; choose a state_dir on a local disk",
}


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
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise _refusal(path, error) from error
        try:
            _lock(lock)
        except BlockingIOError:
            holder = _holder(lock)
            os.close(lock)
            raise StateDirError(
                f"cannot use state_dir {path}: another ebbtide (pid {holder}) holds it; "
                "stop it or choose another state_dir"
            ) from None
        except OSError as error:
            os.close(lock)
            raise _refusal(path, error) from error
        return cls(path, lock)

    def close(self) -> None:
        """Let others have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _lock(file: int) -> None:
    """Lock the file and write who did. Raises BlockingIOError where another process has it."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.pwrite(file, f"{os.getpid()}\n".ljust(12).encode(), 0)  # first, for it is read without the lock
    os.ftruncate(file, 12)


def _holder(file: int) -> str:
    """The process number in the file, as far as it is one."""
    text = os.pread(file, 12, 0).decode("ascii", "replace").strip()
    return text if text.isdecimal() else "unknown"


def _refusal(path: Path, error: OSError | ValueError) -> StateDirError:
    number = error.errno if isinstance(error, OSError) else None
    why = (error.strerror if isinstance(error, OSError) else None) or "its name is not a path"
    cure = _CURES.get(number or 0, "it must be a directory that the user who runs ebbtide may write to")
    return StateDirError(f"cannot use state_dir {path}: {why}; {cure}")
