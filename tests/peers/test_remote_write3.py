"""A Prometheus 3 writes by remote write 2.0, from one shard and from three, through restarts of both: nothing lost or twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.processes import Demo
from tests.real.remote_writing import V2, Outcome, check, check_history, check_streams, write_for_a_while

pytestmark = pytest.mark.timeout(300)

FLAGS = ("--enable-feature=metadata-wal-records,exemplar-storage,st-storage,xor2-encoding",)


@pytest.fixture(scope="module", params=[1, 3], ids=["one shard", "three shards"])
def outcome(
    demo: Demo, prometheus3_program: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Outcome:
    folder = tmp_path_factory.mktemp("writing")
    return write_for_a_while(prometheus3_program, demo, folder, message=V2, flags=FLAGS, shards=request.param)


def test_every_sample_that_was_taken_arrives_once_with_its_value(outcome: Outcome) -> None:
    check(outcome)


def test_all_that_prometheus_kept_was_taken(outcome: Outcome) -> None:
    check_history(outcome)


def test_streams_are_in_order_and_have_starts(outcome: Outcome) -> None:
    check_streams(outcome)
