"""Programs that judge what is in deploy/: found on PATH, or the test is skipped; required where EBBTIDE_REAL=1."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.real.prometheus import REQUIRED

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def missing(reason: str) -> None:
    """Skip with this reason; fail where nothing may be skipped."""
    if REQUIRED:
        pytest.fail(f"{reason} (required because EBBTIDE_REAL=1)")
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """The path of a program that Debian's ``package`` brings."""
    found = shutil.which(name)
    if found is None:
        missing(f"no `{name}` on PATH: install Debian's package {package}")
    return found or ""


def output(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit status."""
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
