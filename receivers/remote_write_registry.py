"""Who the series are that are written to us: their slots, types, targets, wholes and tables. Sans-IO.

Strategy. Identity is worked out once, when a series is placed. A newcomer is placed at once where its target is decided:
``up`` of the same job and instance has told the target's labels, or the series names no target. Else it waits for that
``up``, which comes last of a scrape, and what comes of it waits along.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ebbtide import (
    STALE_NAN,
    Batch,
    Family,
    Ints,
    Labels,
    Series,
    flatten,
    join_own,
    pairs,
    part_of,
    split_own,
)
from receivers.memory import FOLDED, POINTS, UNSUPPORTED, Slots
from receivers.remote_write_gather import Gather, Index, Rows, WrittenColumns
from receivers.remote_write_labels import About
from receivers.remote_write_tables import RequestTables
from receivers.targets import UP, TargetBook, TargetKey, target_key
from receivers.types import TypeBook, strip_type_labels, ucum

_MS = 10**6  # ns

FORGET_ENDED, FORGET_SILENT = 600 * 10**9, 3600 * 10**9
"""ns after which a series is forgotten: one that has ended, and one of which no request has held anything."""
FORGET_EVERY = 60 * 10**9
"""ns between two looks for series to forget."""

_CUMULATIVE = frozenset(("counter", "histogram", "summary"))
_COMPOUND = frozenset(("histogram", "summary"))
_CREATED = "_created"
_INFO_LINES = ("target_info", "otel_scope_info")

Key = tuple[str, Labels, tuple[str, ...], bool]  # name, labels, own label: as they came; whether native
Whole = tuple[str, Labels, tuple[str, str, str]]  # name, labels, family's identity
Groups = dict[tuple[int, bool], dict[int, list[int]]]  # target and whether wholes -> head or slot -> slots


@dataclass(slots=True)
class _Awaited:
    """A target whose ``up`` is awaited, since when (ns of our clock), its series, and what came of them."""

    since: int
    slots: list[int] = field(default_factory=list)
    pieces: list[Rows] = field(default_factory=list)


class Registry:
    """The series of one receiver."""

    def __init__(self, types: TypeBook):
        self.types = types
        self.targets = TargetBook()
        self.columns = WrittenColumns()
        self.gather = Gather(self.columns)
        self.created: dict[int, int] = {}  # slot of x_created -> the slot whose stream it dates
        self._slot_of: dict[Key, int] = {}
        self._keys: list[Key | None] = []  # by slot, as is `_series`
        self._series: list[Series | None] = []
        self.tables = RequestTables(self.columns, self._series)
        self._newcomers: list[int] = []
        self.twins = False  # whether two slots may stand for one series, told apart by labels that say its type
        self._about: dict[int, About] = {}  # of newcomers
        self._told: dict[str, list[dict[str, Any]]] = {}  # what requests said of families, not yet learned
        self._wholes: dict[Whole, int] = {}
        self._awaited: dict[TargetKey, _Awaited] = {}
        self._awaits: dict[int, TargetKey] = {}  # by slot
        self._native_families: dict[tuple[str, str], Family] = {}
        self._forgot = 0

    def learn(self, name: str, flat: tuple[str, ...], native: bool, about: About, /) -> int:
        """Number a series; a new one waits for ``greet``."""
        rest, own = (flat, ()) if native else split_own(name, flat)
        key = (name, Labels.of(rest), own, native)
        slot = self._slot_of.get(key)
        if slot is None:
            slot = self._slot_of[key] = self._allocate()
            self._keys[slot] = key
            self._newcomers.append(slot)
        if any(about):
            self._about[slot] = about
            stem = _family_name(name, about.type)
            entry = {"type": about.type or "unknown", "help": about.help, "unit": about.unit}
            if entry not in self._told.setdefault(stem, []):
                self._told[stem].append(entry)
        return slot

    def _allocate(self) -> int:
        slot = self.columns.allocate()
        if slot >= len(self._keys):
            self._keys += [None] * (self.columns.size - len(self._keys))
            self._series += [None] * (self.columns.size - len(self._series))
        return slot

    def _key(self, slot: int) -> Key:
        return cast(Key, self._keys[slot])  # of a slot in use

    def learn_types(self, metadata: Mapping[str, list[dict[str, Any]]]) -> None:
        """Take in what a request says of families, apart and beside its series."""
        told, self._told = {**self._told, **metadata}, {}
        if told:
            self.types.learn(told)

    def abandon(self) -> None:
        """Forget the newcomers: their request is not taken. What their ``up`` says of targets is remembered."""
        self._learn_targets()
        newcomers, self._newcomers, self._told = self._newcomers, [], {}
        self._release(newcomers)

    def _learn_targets(self) -> None:
        for slot in self._newcomers:
            name, base, _, _ = self._key(slot)
            if name == UP:
                self.targets.learn(base.flat)

    def greet(self, now: int) -> None:
        """Place the newcomers whose target is decided by now, or never will be; let the others wait for its ``up``."""
        self._learn_targets()
        slots, self._newcomers = self._newcomers, []
        keys = {slot: target_key(self._key(slot)[1].flat) for slot in slots}
        undecided = self.targets.undecided(set(keys.values()))
        for slot in slots:
            if keys[slot] in undecided:
                self._awaited.setdefault(keys[slot], _Awaited(now)).slots.append(slot)
                self._awaits[slot] = keys[slot]
        self._place([slot for slot in slots if keys[slot] not in undecided])

    def arrivals(self, before: int | None = None) -> Iterator[Rows]:
        """Place the series of targets that have been decided, or waited since ``before``; walk what came of them."""
        undecided = self.targets.undecided(self._awaited)
        for key, awaited in list(self._awaited.items()):
            if key in undecided and (before is None or awaited.since > before):
                continue
            del self._awaited[key]
            for slot in awaited.slots:
                self._awaits.pop(slot, None)
            self._place(awaited.slots)
            if awaited.pieces:
                yield Rows.joined(awaited.pieces)

    def hold_awaited(self, rows: Rows) -> Rows:
        """Put the rows of series that wait aside; return the others."""
        if not self._awaits:
            return rows
        waits = ~self.columns.used[rows.slots]
        if not waits.any():
            return rows
        by_target: dict[TargetKey, list[int]] = defaultdict(list)
        for row in np.flatnonzero(waits).tolist():
            by_target[self._awaits[int(rows.slots[row])]].append(row)
        for key, held in by_target.items():
            self._awaited[key].pieces.append(rows.at(np.array(held, np.intp)))
        return rows.at(~waits)

    # -- identity ------------------------------------------------------------------------------------------------

    def _place(self, slots: list[int]) -> None:
        """Give series their identity, and put them into tables with those of the same target."""
        if not slots:
            return
        families = iter(self.types.decide(self._head(slot) for slot in slots if not self._key(slot)[3]))
        groups: Groups = defaultdict(dict)
        older: set[int] = set()
        for slot in slots:
            name, base, own, native = self._key(slot)
            family = self._native_family(slot, name) if native else next(families)
            number = self.targets.number(target_key(base.flat))
            shared = Labels.of(strip_type_labels(base.flat))
            self.twins = self.twins or shared is not base
            series = Series.parts_of(name, shared, own, family, target=self.targets.at(number))
            self._series[slot] = series
            self._enter(slot, family, number)
            whole = self._join(slot, series, older)
            groups[number, whole is not None].setdefault(slot if whole is None else whole, []).append(slot)
            self._mark_folded(slot)
            self._about.pop(slot, None)
        self._reunite(groups, older.difference(slots))
        for of_target in groups.values():
            self.tables.hold(points for group in of_target.values() if (points := self._with_points(group)))

    def _head(self, slot: int) -> tuple[str, tuple[str, ...]]:
        """Return what a type is decided by: the name, and the labels with what the request said of the series."""
        name, base, own, _ = self._key(slot)
        flat = join_own(base.flat, own)
        about = self._about.get(slot)
        if about is None or not about.type:
            return name, flat
        said = {"__type__": about.type, "__unit__": about.unit}
        return name, flatten({**said, **dict(pairs(flat))})

    def _native_family(self, slot: int, name: str) -> Family:
        about = self._about.get(slot, About())
        key = name, ucum(about.unit)
        return self._native_families.setdefault(key, Family(name, "histogram", key[1], about.help, "page"))

    def _enter(self, slot: int, family: Family, target: int) -> None:
        columns = self.columns
        columns.used[slot] = True
        columns.cumulative[slot] = family.kind in _CUMULATIVE
        columns.fate[slot] = UNSUPPORTED if family.kind == "gaugehistogram" else POINTS
        columns.target[slot] = target
        columns.head[slot] = slot

    def _join(self, slot: int, series: Series, older: set[int]) -> int | None:
        """Let a series be part of its whole, if it is one's; return the whole's slot. ``older`` parts are noted."""
        part = part_of(series) if series.family.kind in _COMPOUND else None
        if part is None:
            return None
        whole = part.name, part.base, series.family.identity
        head = self._wholes.get(whole)
        if head is None:
            head = self._wholes[whole] = self._allocate()
            self.columns.whole[head] = self.columns.cumulative[head] = True
        else:
            older.update(self.gather.parts(head))
        self.gather.join(head, slot, part)
        return head

    def _reunite(self, groups: Groups, older: set[int]) -> None:
        """Take older parts of the same wholes out of their tables, so that a whole never lies in two."""
        if not older:
            return
        self.tables.withdraw(sorted(older))
        by_head = {
            head: group for (_, whole), of_target in groups.items() if whole for head, group in of_target.items()
        }
        for slot in sorted(older):
            by_head[int(self.columns.head[slot])].append(slot)

    def _with_points(self, slots: list[int]) -> list[int]:
        return [slot for slot in slots if self.columns.fate[slot] == POINTS]

    def _mark_folded(self, slot: int) -> None:
        """``x_created`` of a known x dates x's stream and is no series of its own; nor are the info lines about OTel."""
        name, base, own, native = self._key(slot)
        if native or own:
            return
        if name in _INFO_LINES:
            self.columns.fate[slot] = FOLDED
        elif name.endswith(_CREATED) and (dated := self._dated_by(name.removesuffix(_CREATED), base)) is not None:
            self.columns.fate[slot] = FOLDED
            self.created[slot] = dated

    def _dated_by(self, name: str, base: Labels) -> int | None:
        for candidate in (name + "_total", name, name + "_count"):
            slot = self._slot_of.get((candidate, base, (), False))
            series = None if slot is None else self._series[slot]
            if slot is not None and series is not None and series.family.kind in _CUMULATIVE:
                return slot
        return None

    def revise(self, now: int) -> list[Batch]:
        """Where types became known since: end the streams of unknown type, and let their series be born anew."""
        revised = self.types.revise()
        if not revised:
            return []
        unknown = {family.identity for family in revised}
        slots = [slot for slot, one in enumerate(self._series) if one and one.family.identity in unknown]
        self._leave_wholes(slots)
        index = np.array(slots, np.intp)
        ended = self._ends(index[self.columns.alive[index]], now)
        self.columns.alive[index] = False
        self.columns.start[index] = 0
        self.tables.withdraw(slots)
        self._place(slots)
        return ended

    def starts_of(self, slots: Index | Slots) -> Ints:
        """Return the starts of these series' streams, 0 for those that have none."""
        columns = self.columns
        return np.where(columns.cumulative[slots], columns.start[columns.head[slots]], 0)

    def forget(self, now: int) -> set[int]:
        """Forget series that have ended, or of which nothing came for long; return their slots."""
        if now - self._forgot < FORGET_EVERY:
            return set()
        self._forgot = now
        columns = self.columns
        age = now - columns.touched
        over = columns.used & ((age > FORGET_SILENT) | (~columns.alive & (age > FORGET_ENDED)))
        over &= ~((columns.opened[columns.head] > 0) & (columns.filled == columns.opened[columns.head]))
        gone = np.flatnonzero(over).tolist()
        if gone:
            self._leave_wholes(gone)
            self.tables.withdraw(gone)
            self.created = {one: dated for one, dated in self.created.items() if one not in gone and dated not in gone}
            self._release(gone)
        return set(gone)

    @property
    def newcomers(self) -> list[int]:
        """The slots of the series that the last request has taught, until they are greeted."""
        return self._newcomers

    @property
    def awaiting(self) -> int:
        """Samples that wait for the ``up`` of their target."""
        return sum(len(rows) for awaited in self._awaited.values() for rows in awaited.pieces)

    def _ends(self, slots: Index, now: int) -> list[Batch]:
        """One stale point for each of these slots, whose streams end with it."""
        if not len(slots):
            return []
        times = np.maximum(now, self.columns.sent[slots] + _MS)
        rows = Rows(slots.astype(np.int32), np.full(len(slots), STALE_NAN), times, self.starts_of(slots))
        return list(self.tables.batches(rows, np.ones(len(slots), np.bool_), {}))

    def _leave_wholes(self, slots: list[int]) -> None:
        """Take series out of their wholes; one that is left without parts is forgotten."""
        by_head: dict[int, set[int]] = defaultdict(set)
        for slot in slots:
            head = int(self.columns.head[slot])
            if self.columns.whole[head]:
                by_head[head].add(slot)
        empty = {head for head, parts in by_head.items() if self.gather.leave(head, parts)}
        self._wholes = {whole: head for whole, head in self._wholes.items() if head not in empty}
        if empty:
            self.columns.free(sorted(empty))

    def _release(self, slots: list[int]) -> None:
        for slot in slots:
            del self._slot_of[self._key(slot)]
            self._keys[slot] = self._series[slot] = None
            self._about.pop(slot, None)
        if slots:
            self.columns.free(slots)


def _family_name(name: str, type: str) -> str:
    """Return the name of the family that a sample of this type belongs to."""
    endings = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}.get(type, ())
    return next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)
