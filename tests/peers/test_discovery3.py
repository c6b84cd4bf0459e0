"""Discovery in Kubernetes against a Prometheus 3 with linkerd-viz' own configuration, which follows the same API server.

So the API server of the demo is judged as well, by the client that Kubernetes' own programs use.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.cluster import ClusterThread
from tests.real.discovering import Sides, at_the_start, both, through_changes
from tests.real.pods import ODD, pod_of
from tests.real.viz import followed

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="only on Linux all of 127.0.0.0/8 can be listened at"),
]


DIGIT = pod_of(ODD, "digit", {"1st": "x"})  # a Prometheus 2 refuses its page


def configure(cluster: ClusterThread, folder: Path) -> dict[str, Any]:
    return followed(cluster.running.kubeconfig)


@pytest.fixture
def sides(prometheus3_program: Path, tmp_path: Path) -> Iterator[Sides]:
    with both(prometheus3_program, tmp_path, configure, [DIGIT]) as sides:
        yield sides


def test_the_same_series_at_the_start(sides: Sides) -> None:
    at_the_start(sides)


def test_the_same_series_through_changes(sides: Sides) -> None:
    through_changes(sides)
