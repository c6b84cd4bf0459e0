"""The programs that these tests run against. Where one was not built, its tests are skipped, loudly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.real.conftest import demo, prometheus_program  # noqa: F401

PEERS = Path(os.environ.get("PEERS") or Path(__file__).resolve().parents[2] / ".cache" / "peers")


def _program(name: str, script: str) -> Path:
    program = PEERS / name
    if not program.is_file():
        pytest.skip(f"no {program}: build it by tests/peers/{script} (it needs Go), or run `make test-peers`")
    return program


@pytest.fixture(scope="session")
def collector_program() -> Path:
    """The OpenTelemetry Collector of collector.yaml."""
    return _program("otelcol", "build_collector.sh")


@pytest.fixture(scope="session")
def prometheus3_program() -> Path:
    """A Prometheus 3 that takes OTLP."""
    return _program("prometheus3", "build_prometheus3.sh")
