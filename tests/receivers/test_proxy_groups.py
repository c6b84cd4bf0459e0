"""Who is polled together, and when."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ebbtide import Client, ReceiverCounts
from receivers.page_memory import PageMemory
from receivers.page_source import PageSource
from receivers.page_store import PageRules, PageStore
from receivers.page_types import PageTypes
from receivers.proxy_groups import MOST_ROWS, Groups, place_of
from receivers.proxy_target import PolledTarget


class House:
    def __init__(self, seconds: float = 10.0):
        self.memory = PageMemory(PageStore(ReceiverCounts(), PageTypes(), PageRules()))
        self.groups = Groups(self.memory, seconds, "host/proxies")
        self.client = Client()

    def add(self, count: int, first: int = 0) -> list[PolledTarget]:
        targets = [
            PolledTarget(PageSource(self.memory.store, {"instance": f"t{n}"}), f"http://t{n}", self.client)
            for n in range(first, first + count)
        ]
        self.groups.add(targets)
        return targets

    def sizes(self) -> list[int]:
        return sorted(len(group.targets) for group in self.groups)


@pytest.mark.parametrize(
    ("targets", "seconds", "sizes"),
    [(1, 10, [1]), (30, 10, [1] * 30), (200, 1, [50] * 4), (1000, 10, [25] * 40), (3, 0.05, [3])],
)
def test_as_many_groups_as_can_be_afforded(targets: int, seconds: float, sizes: list[int]) -> None:
    house = House(seconds)
    house.add(targets)
    assert house.sizes() == sizes


def test_groups_are_spread_evenly_whatever_their_number() -> None:
    for count in (2, 7, 50):
        house = House()
        house.add(count)
        phases = sorted(group.phase for group in house.groups)
        assert all(0 <= phase < 1 for phase in phases)
        assert max(b - a for a, b in pairwise([*phases, phases[0] + 1])) < 2.7 / count


def test_targets_stay_where_they_are_while_others_come_and_go() -> None:
    house = House()
    old = house.add(150)
    groups = {target: house.groups.group_of(target.source) for target in old}
    house.add(100, first=150)
    for target in old[:50]:
        assert house.groups.remove(target) is groups[target]
        assert house.groups.group_of(target.source) is None
    assert all(house.groups.group_of(target.source) is groups[target] for target in old[50:])
    assert sum(house.sizes()) == 200
    for target in old[50:]:
        house.groups.remove(target)
    assert all(group.targets for group in house.groups)


def test_a_group_that_is_too_large_is_cut() -> None:
    house = House(0.1)
    house.add(4)
    (group,) = house.groups
    assert house.groups.cut(group) is None
    for target in group.targets:
        target.source.slots = target.source.slots.repeat(0)
        target.source.slots.resize(MOST_ROWS // 2, refcheck=False)
    new = house.groups.cut(group)
    assert new is not None
    assert house.sizes() == [2, 2]
    assert all(house.groups.group_of(target.source) is new for target in new.targets)


def test_the_hash_is_the_same_everywhere() -> None:
    assert place_of("a") == pytest.approx(0.04982696)
    assert 0 <= place_of("\udc80") < 1
