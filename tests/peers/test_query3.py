"""Raw samples from a Prometheus 3, whose ranges are open at their beginning: see tests/real/test_query.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.processes import Demo
from tests.real.querying import arrived, compared, tell

pytestmark = pytest.mark.timeout(400)


def test_every_sample_arrives_once(prometheus3_program: Path, demo: Demo, tmp_path: Path) -> None:
    story = tell(demo, prometheus3_program, tmp_path)
    assert story.statuses == [-9, 0, -9, 0]
    compared(arrived(story.points), story.true, story.end)
