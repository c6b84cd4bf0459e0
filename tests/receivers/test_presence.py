"""Who was away: more than two of its own steps, while its target was heard of."""

from __future__ import annotations

import numpy as np
import pytest

from receivers.memory import EXPIRED, PRESENT, TARGET_WAS_DOWN
from receivers.presence import Presence, SteppingColumns
from receivers.window import ranked

S = 10**9
NOW = 1_800_000_000 * S


class Source:
    """Series by number, all of one target but the last, which is of another; number 0 is the first one's ``up``."""

    def __init__(self) -> None:
        self.columns = SteppingColumns()
        slots = [self.columns.allocate() for _ in range(4)]
        self.columns.target[slots] = [0, 0, 0, 1]
        self.presence = Presence()

    def note(self, *samples: tuple[int, int, float]) -> list[tuple[int, int, int]]:
        """Take (slot, second, value); return slot, second and reason of those that were away before."""
        rows = sorted(samples)
        slots = np.array([slot for slot, _, _ in rows], np.int32)
        times = np.array([NOW + second * S for _, second, _ in rows], np.int64)
        downs = (slots == 0) & (np.array([value for *_, value in rows]) == 0)
        ranks = ranked(self.columns.target[slots], times)
        away = self.presence.note(self.columns, slots, times, ranks, downs).tolist()
        return [(slot, second, why) for (slot, second, _), why in zip(rows, away, strict=True) if why != PRESENT]


def of(slot: int, *seconds: int, value: float = 1.0) -> list[tuple[int, int, float]]:
    return [(slot, second, value) for second in seconds]


WINDOWS = pytest.mark.parametrize("edges", [(100,), (10, 20, 30, 40, 50, 60, 100), (35, 100)])


def noted(samples: list[tuple[int, int, float]], edges: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """The same samples in any windows."""
    source, begin, found = Source(), -1, []
    for end in edges:
        found += source.note(*[one for one in samples if begin < one[1] <= end])
        begin = end
    return found


@WINDOWS
def test_one_that_its_target_went_on_without(edges: tuple[int, ...]) -> None:
    assert noted([*of(1, *range(0, 70, 10)), *of(2, 0, 10, 40, 50)], edges) == [(2, 40, EXPIRED)]


@WINDOWS
def test_one_whose_target_was_down(edges: tuple[int, ...]) -> None:
    ups = [*of(0, 0, 10, 40, 50), *of(0, 20, 30, value=0)]
    assert noted([*ups, *of(2, 0, 10, 40, 50)], edges) == [(2, 40, TARGET_WAS_DOWN)]


@WINDOWS
def test_one_that_nobody_scraped(edges: tuple[int, ...]) -> None:
    assert noted([*of(1, 0, 10, 50), *of(2, 0, 10, 50), *of(3, *range(0, 70, 10))], edges) == []


@WINDOWS
def test_one_missed_scrape_is_nothing(edges: tuple[int, ...]) -> None:
    assert noted([*of(1, *range(0, 70, 10)), *of(2, 0, 10, 30, 40)], edges) == []


@WINDOWS
def test_another_pace_beside_it_is_nothing(edges: tuple[int, ...]) -> None:
    assert noted([*of(1, *range(0, 70, 5)), *of(2, 0, 30, 60)], edges) == []


def test_a_slot_given_back_knows_no_step() -> None:
    source = Source()
    source.note(*of(1, *range(0, 30, 10)), *of(2, 0, 10))
    source.columns.free([2])
    assert source.columns.step[:3].tolist() == [0, 10 * S, 0]


def test_nothing_is_nothing() -> None:
    assert Source().note() == []
