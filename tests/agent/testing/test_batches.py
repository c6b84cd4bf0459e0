"""The odd batches are as odd as their names say."""

from __future__ import annotations

import numpy as np

from agent.testing.batches import TIME, batches, mesh


def test_they_are_the_same_at_every_call() -> None:
    one, other = batches(), batches()
    assert list(one) == list(other)
    for name, batch in one.items():
        assert batch.table.series == other[name].table.series
        assert batch.values.tobytes() == other[name].values.tobytes()
        assert batch.times.tobytes() == other[name].times.tobytes()


def test_they_are_small_and_hold_what_breaks_things() -> None:
    found = batches()
    assert all(len(batch) <= 200 for batch in found.values())
    assert len(found["empty"]) == 0
    assert len({series.family.kind for series in found["every kind"].table}) == 8
    numbers = found["numbers"].values
    assert np.isnan(numbers).any()
    assert np.isinf(numbers).any()
    ends = found["ends"]
    assert ends.stale is not None
    assert 0 < ends.stale.sum() < len(ends)
    assert np.isnan(ends.values[~ends.stale]).any()
    assert (found["starts and times"].starts > found["starts and times"].times).any()
    assert max(len(value) for series in found["words"].table for value in series.labels.values()) > 65_000
    assert found["native histograms"].extras
    twice = found["one series twice"].table.series
    assert len(set(twice)) < len(twice)


def test_the_mesh_moves_in_time() -> None:
    assert mesh().times.tolist() == [TIME] * len(mesh())
    assert mesh(TIME + 1).times.tolist() == [TIME + 1] * len(mesh())
    assert {series.family.kind for series in mesh().table} == {"counter", "gauge", "histogram"}
