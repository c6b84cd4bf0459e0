"""Which targets are polled together, and when: in groups, so that what comes in at one moment is taken in one pass.

Strategy. A pass over twenty pages costs little more than over one, so targets are polled in groups; groups are spread
evenly over the interval, from a place that a hash gives, so that several agents do not poll in step. There are as many
groups as can be afforded (``PER_SECOND``) and no more than targets: few targets are all polled apart from each other. A
target stays in its group while it lives; a group that has grown too large is cut in two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from receivers.page_memory import PageMemory
from receivers.page_source import PageSource
from receivers.proxy_target import PolledTarget
from receivers.tables import ROWS, Tables

PER_SECOND = 4
"""So many groups may be polled within a second: what is paid by the group stays some percent of a core."""
MOST_ROWS = 4 * ROWS
"""A group of several targets that has more series than this is cut in two."""
SMALL_TABLES = 3
"""So many small tables of a group are let be before they are merged: each costs as much as a large one to fill."""
_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, lie evenly spread however many there are


class Group:
    """Targets that are polled together. ``phase``: where in the interval, from 0 to 1."""

    def __init__(self, memory: PageMemory, phase: float):
        self.phase = phase
        self.targets: list[PolledTarget] = []
        self.tables = Tables(memory.store.columns, memory.store.series, SMALL_TABLES)

    @property
    def rows(self) -> int:
        """How many series it has."""
        return sum(len(target.source.slots) for target in self.targets)


class Groups:
    """The groups of one receiver. ``seed`` tells where the first one lies in the interval of ``seconds``."""

    def __init__(self, memory: PageMemory, seconds: float, seed: str):
        self._memory = memory
        self._seconds = seconds
        self._first = place_of(seed)
        self._made = 0
        self._groups: list[Group] = []
        self._of: dict[PageSource, Group] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter(list(self._groups))

    def group_of(self, source: PageSource) -> Group | None:
        """Return the group of a target; None once it is gone."""
        return self._of.get(source)

    def add(self, targets: Iterable[PolledTarget]) -> list[Group]:
        """Deal out new targets; return the groups that are new. Their series are yet to be moved there."""
        new = sorted(targets, key=lambda target: place_of(target.url + str(target.source.labels)))
        wanted = min(len(self._of) + len(new), max(1, round(PER_SECOND * self._seconds)))
        made = [self._make() for _ in range(wanted - len(self._groups))]
        for target in new:
            group = min(self._groups, key=lambda group: len(group.targets))
            self._enter(target, group)
        return made

    def remove(self, target: PolledTarget) -> Group | None:
        """Take a target out; return the group that it was in, which is gone if it was the last there."""
        group = self._of.pop(target.source, None)
        if group is not None:
            group.targets.remove(target)
            if not group.targets:
                self._groups.remove(group)
        return group

    def cut(self, group: Group) -> Group | None:
        """Cut a group in two where it is too large; return the new one."""
        if len(group.targets) < 2 or group.rows <= MOST_ROWS:
            return None
        new = self._make()
        for target in group.targets[1::2]:
            group.targets.remove(target)
            self._enter(target, new)
            self._memory.move(target.source, group.tables, new.tables)
        return new

    def _enter(self, target: PolledTarget, group: Group) -> None:
        group.targets.append(target)
        self._of[target.source] = group

    def _make(self) -> Group:
        group = Group(self._memory, (self._first + self._made * _GOLDEN) % 1)
        self._made += 1
        self._groups.append(group)
        return group


def place_of(words: str) -> float:
    """Return the place from 0 to 1 that a hash gives these words; the same in every process."""
    digest = hashlib.md5(words.encode(errors="surrogateescape"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:6]) / 2**48
