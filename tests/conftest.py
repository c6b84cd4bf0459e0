"""What all tests share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of test vectors from other projects: ``EBBTIDE_VECTORS``, else beside the repository.

    Skips where it is absent; fails there when EBBTIDE_REAL=1 or CI is set, because then it is required.
    """
    folder = Path(os.environ.get("EBBTIDE_VECTORS") or _ROOT.parent / "shared" / "vectors")
    if folder.is_dir():
        return folder
    reason = f"no test vectors in {folder}: set EBBTIDE_VECTORS to the folder that holds them"
    if os.environ.get("EBBTIDE_REAL") == "1" or os.environ.get("CI"):
        pytest.fail(f"{reason} (required when EBBTIDE_REAL=1 or CI is set)")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands set up logging for the whole process; the next test must not notice."""
    root, own = logging.getLogger(), logging.getLogger("ebbtide")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler in handlers or not is_own(handler)]
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    logging.captureWarnings(False)


def is_own(handler: logging.Handler) -> bool:
    return type(handler).__module__ == "agent.log"
