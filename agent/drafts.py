"""Writing files so that nobody ever finds half of one: drafts beside them, put in place once all are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


class NotWritten(Exception):
    """A file cannot be written; ``path`` is which, ``why`` in words."""

    def __init__(self, path: Path, why: str):
        super().__init__(path, why)
        self.path = path
        self.why = why


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write all files or none. Raises NotWritten."""
    drafts: dict[Path, Path] = {}
    where = next(iter(files))
    try:
        for number, where in enumerate(files):
            drafts[where] = where.with_name(f".ebbtide.{os.getpid()}.{number}.tmp")
        for where, draft in drafts.items():
            draft.write_bytes(files[where])
        for where, draft in drafts.items():
            draft.replace(where)
    except (OSError, ValueError) as error:
        raise NotWritten(where, getattr(error, "strerror", None) or "its name is not a path") from None
    finally:
        for draft in drafts.values():
            with suppress(OSError, ValueError):  # mostly it is gone, and where it could not be written it never was
                draft.unlink()
