"""Servers for the tests of this folder.

A test that needs a server which cannot be had is skipped with the reason; with EBBTIDE_REAL=1 it fails instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.kafka import Kafka, find_kafka
from tests.real.processes import Demo
from tests.real.prometheus import REQUIRED, find_prometheus


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Debian's Prometheus or Apache Kafka as ``real``."""
    for item in items:
        if {"prometheus_program", "kafka_jars"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    """Debian's Prometheus."""
    return _required(find_prometheus())


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """The folder that holds Apache Kafka."""
    return _required(find_kafka())


def _required(found: Path | str) -> Path:
    """Return what was found; skip where it cannot be had and need not be."""
    if isinstance(found, Path):
        return found
    if REQUIRED:
        pytest.fail(f"{found} (required because EBBTIDE_REAL=1)")
    pytest.skip(found)


@pytest.fixture(scope="session")
def kafka_of_all(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The broker that all tests share; some stop it."""
    with Kafka(kafka_jars, tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def kafka(kafka_of_all: Kafka) -> Kafka:
    """A broker that runs, with its usual settings."""
    return kafka_of_all.start()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo's mesh, as a process of its own."""
    with Demo(tmp_path_factory.mktemp("demo")) as running:
        yield running
        running.stop()
