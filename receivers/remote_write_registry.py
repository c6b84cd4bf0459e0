"""Who the series are that are written to us: their slots, types, targets, wholes and tables. Sans-IO.

Strategy. Identity is worked out once, when a series is placed. A newcomer is placed at once where its target is decided:
``up`` of the same job and instance has told the target's labels, or the series names no target. Else it waits for that
``up``, which comes last of a scrape, and what comes of it waits along.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np

from ebbtide import (
    STALE_NAN,
    Batch,
    Family,
    Ints,
    Labels,
    Part,
    Series,
    Target,
    flatten,
    join_own,
    number_of,
    pairs,
    part_of,
)
from receivers.memory import FOLDED, POINTS, UNSUPPORTED, Slots
from receivers.remote_write_gather import Gather, Index, Rows, WrittenColumns
from receivers.remote_write_labels import NOTHING, About, Flat
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
_MAY_BE_FOLDED = (_CREATED, *_INFO_LINES)

Key = tuple[str, Labels, Flat, bool]  # name, labels, own label: as they came; whether native
Whole = tuple[str, Labels, tuple[str, str, str]]  # name, labels, family's identity
Groups = dict[tuple[int, bool], dict[int, list[int]]]  # target and whether wholes -> head or slot -> slots


class _Whose(NamedTuple):
    """The number of a series' target and, where they are known, its labels; the series' labels but for its type's."""

    number: int
    target: Target | None
    labels: Labels


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
        self._said: dict[tuple[str, About], None] = {}  # what a request said of series of that name, not yet learned
        self._base: Labels | None = None  # of the series learned last
        self._wholes: dict[Whole, int] = {}
        self._awaited: dict[TargetKey, _Awaited] = {}
        self._awaits: dict[int, TargetKey] = {}  # by slot
        self._native_families: dict[tuple[str, str], Family] = {}
        self._forgot = 0

    def learn(self, name: str, rest: Flat, own: Flat, native: bool, about: About, /) -> int:
        """Number a series; a new one waits for ``greet``."""
        base = self._base
        if base is None or base.flat is not rest:  # siblings mostly come one after the other
            base = self._base = Labels.of(rest)
        key = (name, base, own, native)
        slot = self._slot_of.get(key)
        if slot is None:
            slot = self._slot_of[key] = self._allocate()
            self._keys[slot] = key
            self._newcomers.append(slot)
        if about != NOTHING:
            self._about[slot] = about
            self._said[name, about] = None
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
        told: dict[str, list[dict[str, Any]]] = {}
        for name, about in self._said:
            entries = told.setdefault(_family_name(name, about.type), [])
            entry = {"type": about.type or "unknown", "help": about.help, "unit": about.unit}
            if entry not in entries:
                entries.append(entry)
        self._said = {}
        if told or metadata:
            self.types.learn({**told, **metadata})

    def abandon(self) -> None:
        """Forget the newcomers: their request is not taken. What their ``up`` says of targets is remembered."""
        self._learn_targets()
        newcomers, self._newcomers, self._said = self._newcomers, [], {}
        self._base = None
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
        self._base = None
        whose = {base: target_key(base.flat) for base in dict.fromkeys(self._key(slot)[1] for slot in slots)}
        keys = [whose[self._key(slot)[1]] for slot in slots]
        undecided = self.targets.undecided(set(keys))
        for slot, key in zip(slots, keys, strict=True):
            if key in undecided:
                self._awaited.setdefault(key, _Awaited(now)).slots.append(slot)
                self._awaits[slot] = key
        self._place([slot for slot, key in zip(slots, keys, strict=True) if key not in undecided])

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
        keys = [self._key(slot) for slot in slots]
        families = self._families(slots, keys)
        whose = {base: self._whose(base) for base in dict.fromkeys(base for _, base, _, _ in keys)}
        self._enter(slots, families, [whose[base].number for _, base, _, _ in keys])
        wholes: dict[Whole, dict[int, Part]] = defaultdict(dict)
        for slot, (name, base, own, _), family in zip(slots, keys, families, strict=True):
            labels, target = whose[base].labels, whose[base].target
            series = self._series[slot] = Series.parts_of(name, labels, own, family, target=target)
            if family.kind in _COMPOUND and (part := part_of(series)) is not None:
                wholes[part.name, labels, family.identity][slot] = part
        older = {slot for whole, parts in wholes.items() for slot in self._join(whole, parts)}.difference(slots)
        for slot, (name, base, own, native) in zip(slots, keys, strict=True):
            if not (own or native) and name.endswith(_MAY_BE_FOLDED):
                self._mark_folded(slot, name, base)
            self._about.pop(slot, None)
        self._hold(slots, sorted(older))

    def _families(self, slots: list[int], keys: list[Key]) -> list[Family]:
        """Return each series' family; of those that differ by a number of their own alone only one is decided."""
        about = [self._about.get(slot, NOTHING) for slot in slots]
        asked = [
            (name, base, native, bool(own) and number_of(own[1]) is not None, said)
            for (name, base, own, native), said in zip(keys, about, strict=True)
        ]
        first: dict[Any, int] = {}
        for row, one in enumerate(asked):
            first.setdefault(one, row)
        classic = {one: _head(keys[row], about[row]) for one, row in first.items() if not one[2]}
        found = dict(zip(classic, self.types.decide(classic.values()), strict=True))
        found.update((one, self._native_family(one[0], one[4])) for one in first if one[2])
        return [found[one] for one in asked]

    def _whose(self, base: Labels) -> _Whose:
        number = self.targets.number(target_key(base.flat))
        labels = Labels.of(strip_type_labels(base.flat))
        self.twins = self.twins or labels is not base
        return _Whose(number, self.targets.at(number), labels)

    def _native_family(self, name: str, about: About) -> Family:
        key = name, ucum(about.unit)
        return self._native_families.setdefault(key, Family(name, "histogram", key[1], about.help, "page"))

    def _enter(self, slots: list[int], families: list[Family], targets: list[int]) -> None:
        """Enter what follows from identity into the columns."""
        columns, index = self.columns, np.array(slots, np.intp)
        columns.used[index] = True
        columns.cumulative[index] = [family.kind in _CUMULATIVE for family in families]
        columns.fate[index] = [UNSUPPORTED if family.kind == "gaugehistogram" else POINTS for family in families]
        columns.target[index] = targets
        columns.head[index] = index

    def _join(self, whole: Whole, parts: dict[int, Part]) -> set[int]:
        """Let series be parts of their whole; return those that it had before."""
        head = self._wholes.get(whole)
        older: set[int] = set()
        if head is None:
            head = self._wholes[whole] = self._allocate()
            self.columns.whole[head] = self.columns.cumulative[head] = True
        else:
            older.update(self.gather.parts(head))
        self.gather.join(head, parts)
        return older

    def _hold(self, slots: list[int], older: list[int]) -> None:
        """Put series into tables by target; older parts of the same wholes, too, so that a whole never lies in two."""
        if older:
            self.tables.withdraw(older)
        columns = self.columns
        index = np.array(slots + older, np.intp)
        heads, targets = columns.head[index], columns.target[index]
        groups: Groups = defaultdict(lambda: defaultdict(list))
        columns_of = (index, heads, targets, columns.whole[heads], columns.fate[index])
        for slot, head, target, whole, fate in zip(*(one.tolist() for one in columns_of), strict=True):
            if fate == POINTS:
                groups[target, whole][head].append(slot)
        for of_target in groups.values():
            self.tables.hold(of_target.values())

    def _mark_folded(self, slot: int, name: str, base: Labels) -> None:
        """``x_created`` of a known x dates x's stream and is no series of its own; nor are the info lines about OTel."""
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


def _head(key: Key, about: About) -> tuple[str, Flat]:
    """Return what a type is decided by: the name, and the labels with what the request said of the series."""
    name, base, own, _ = key
    flat = join_own(base.flat, own)
    if not about.type:
        return name, flat
    said = {"__type__": about.type, "__unit__": about.unit}
    return name, flatten({**said, **dict(pairs(flat))})


def _family_name(name: str, type: str) -> str:
    """Return the name of the family that a sample of this type belongs to."""
    endings = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}.get(type, ())
    return next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)
