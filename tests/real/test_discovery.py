"""Discovery in Kubernetes against a real Prometheus with linkerd-viz' own rules: the same pods, the same series.

Debian's Prometheus has no discovery in Kubernetes, so that here the test tells it of the pods. In
tests/peers/test_discovery3.py a Prometheus 3 follows the API server itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.cluster import ClusterThread
from tests.real.discovering import Sides, at_the_start, both, through_changes
from tests.real.viz import told

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="only on Linux all of 127.0.0.0/8 can be listened at"),
]


def configure(cluster: ClusterThread, folder: Path) -> dict[str, Any]:
    return told(cluster.pods(), folder)


@pytest.fixture
def sides(prometheus_program: Path, tmp_path: Path) -> Iterator[Sides]:
    with both(prometheus_program, tmp_path, configure) as sides:
        yield sides


def test_the_same_series_at_the_start(sides: Sides) -> None:
    at_the_start(sides)


def test_the_same_series_through_changes(sides: Sides) -> None:
    through_changes(sides)
