"""Servers for the tests of this folder.

A test that needs a server which cannot be had is skipped with the reason; with EBBTIDE_REAL=1 it fails instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.processes import Demo
from tests.real.prometheus import REQUIRED, find_prometheus


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Debian's Prometheus as ``real``."""
    for item in items:
        if "prometheus_program" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    """Debian's Prometheus."""
    found = find_prometheus()
    if isinstance(found, Path):
        return found
    if REQUIRED:
        pytest.fail(f"{found} (required because EBBTIDE_REAL=1)")
    pytest.skip(found)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo's mesh, as a process of its own."""
    with Demo(tmp_path_factory.mktemp("demo")) as running:
        yield running
        running.stop()
