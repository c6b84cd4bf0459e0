"""Whom the series were scraped from, and whether those targets were up.

Prometheus puts a target's labels on every series of it; ``up`` of the same job and instance carries those and no
others, and so tells them from the labels that the target wrote itself. What was decided for a target stays: a change
of mind would end all its streams and begin them anew under another identity.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ebbtide import Bools, Ints, Target, pairs
from receivers.memory import Columns, Slots

TargetKey = tuple[str, str]  # job, instance

UP = "up"


def target_key(flat: tuple[str, ...]) -> TargetKey:
    """Return job and instance of flat labels, "" where there is none."""
    return _label(flat, "job"), _label(flat, "instance")


def _label(flat: tuple[str, ...], name: str) -> str:
    try:
        index = flat.index(name)
    except ValueError:
        return ""
    if index % 2:  # a value that reads like the name
        return dict(pairs(flat)).get(name, "")
    return flat[index + 1]


class TargetBook:
    """The targets of one receiver."""

    def __init__(self) -> None:
        self._numbers: dict[TargetKey, int] = {}
        self._targets: list[Target | None] = []
        self._decided: set[TargetKey] = set()
        self._up_slot: Ints = np.empty(0, np.int64)  # the slot of the target's `up`, -1 where the answers have none
        self._down_poll: Ints = np.empty(0, np.int64)  # the last complete answer in which it was down

    def learn(self, flat: tuple[str, ...]) -> None:
        """Learn a target from the labels of its ``up``."""
        key = target_key(flat)
        if key not in self._decided:
            known = {name: value for name, value in pairs(flat) if not name.startswith("__")}  # __type__ is about `up`
            self._targets[self.number(key)] = Target.of(known)

    def undecided(self, keys: Iterable[TargetKey]) -> set[TargetKey]:
        """Return those targets of which no ``up`` has been seen yet, and which have both job and instance."""
        return {key for key in keys if key not in self._decided and all(key)}

    def number(self, key: TargetKey) -> int:
        """Return the target's number; what is known of its labels by then, be it nothing, is decided with it."""
        self._decided.add(key)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._targets)
            self._targets.append(None)
            self._up_slot = np.append(self._up_slot, -1)
            self._down_poll = np.append(self._down_poll, 0)
        return number

    def target(self, key: TargetKey) -> Target | None:
        """Return the target's labels; from now on that is decided, be it that they are not known."""
        return self.at(self.number(key))

    def at(self, number: int) -> Target | None:
        """Return the labels of the target of this number, None where they are not known."""
        return self._targets[number]

    def watch(self, key: TargetKey, slot: int) -> None:
        """Take this slot for the target's ``up``."""
        self._up_slot[self.number(key)] = slot

    def are_up(self, slots: Slots, targets: Slots) -> Bools:
        """Tell which slots are the ``up`` of their target."""
        return np.asarray(self._up_slot[targets] == slots)

    def forget(self, slot: int) -> None:
        """The slot is free: it is no target's ``up`` any more."""
        self._up_slot[self._up_slot == slot] = -1

    def was_down_since(self, targets: Slots, polls: Ints) -> Bools:
        """Tell which targets were down in an answer later than number ``polls``."""
        return np.asarray(self._down_poll[targets] > polls)

    def note_down(self, columns: Columns, slots: Slots, ups: Bools, poll: int) -> None:
        """Note which targets are down in this answer: nothing of theirs in it, or their ``up`` missing or 0.

        ``slots`` of the answer; ``ups``: by slot, whether the answer has a value other than 0 for it.
        """
        down = np.ones(len(self._targets), np.bool_)
        down[columns.target[slots]] = False
        watched = self._up_slot >= 0
        down[watched] = ~ups[self._up_slot[watched]]
        self._down_poll[down] = poll
