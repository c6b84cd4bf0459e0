"""What is remembered of one target's pages: its labels, the lines of its page, which slot each of its series has.

Strategy. A line never seen before is learned once: the target's labels are put on it, and a slot of the receiver's
store is given to it. Its identity is worked out when its page has proved good, because the TYPE line may stand
anywhere on it. Series that go are forgotten with the page that lacks them, so that no more is remembered than stands on
a page; while the target does not answer, all stay.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import numpy as np

from ebbtide import OWN_LABELS, Family, Labels, Part, Series, Target, join_own, number_of, pairs, part_of, split_own
from receivers import health, openmetrics_lines
from receivers.dialects import TEXT, Dialect
from receivers.exposition import Metadata, apply_comment
from receivers.memory import FOLDED, POINTS, UNSUPPORTED, Slots
from receivers.page_labels import labelled, report_labels
from receivers.page_store import Key, PageRules, PageStore
from receivers.protobuf_memory import MessageMemory
from receivers.text import Sample, parse_comment
from receivers.together import JointSkeleton

_CUMULATIVE = frozenset(("counter", "histogram", "summary"))
_COUNTERS, _COMPOUND = frozenset(("counter",)), frozenset(("histogram", "summary"))
_CREATED = "_created"
_TARGET_INFO = "target_info"
_INFO = (_TARGET_INFO, "otel_scope_info")
_BOUNDS = 10_000  # bounds and quantiles whose plain form is remembered
_STALE_FAMILIES = 1000  # families that may be remembered beyond those of the last page
_EMPTY_LABEL = re.compile(rb'(?:([a-zA-Z_][a-zA-Z0-9_]*+)|"([^"\\]*+)")[ \t]*+=[ \t]*+""')

Whole = tuple[str, Labels, tuple[str, str, str]]  # name, labels, family's identity


class PageSource:
    """One target as its pages show it. ``labels`` are the target's own; ``beside`` is what is known of it besides."""

    def __init__(self, store: PageStore, labels: Mapping[str, str], beside: Mapping[str, str] | None = None):
        self.labels = dict(pair for pair in labels.items() if pair[1])
        self.target = Target.of(self.labels, beside)
        self._beside = dict(beside or {})
        self._info: tuple[str, ...] | None = None  # the labels of a target_info never seen before
        self.skeleton = JointSkeleton(self._learn_line, skip_bad_lines=store.rules.skip_bad_lines)
        self.slots: Slots = np.empty(0, np.int32)  # of all that stood on the last good page
        self.reports: Slots = np.empty(0, np.int32)  # of the five series of a poll
        self.created: dict[int, int] = {}  # slot of x_created -> the slot whose stream it dates
        self._undated: set[int] = set()  # slots of x_created of a known family x, where no x of its labels is there yet
        self.doubted = False  # whether all types are to be decided again
        self._store = store
        self._number = store.sources
        store.sources += 1
        self._slot_of: dict[Key, int] = {}  # by ``_plain`` keys
        self._born: list[int] = []  # slots that have no identity yet
        self._bases: dict[tuple[str, ...], Labels] = {}  # of the page being read
        self._wholes: dict[Whole, int] = {}  # a histogram or summary -> the slot that speaks for it
        self._comments: list[bytes] = []
        self._messages: MessageMemory | None = None  # where the last page was of protobuf
        self._families: dict[str, Metadata] = {}
        self._splits_first = not any(label in self.labels for label in OWN_LABELS)
        self._report()

    # -- lines ---------------------------------------------------------------------------------------------------

    @property
    def born(self) -> int:
        """How many series of the page being read were never seen before."""
        return len(self._born)

    @property
    def unplaced(self) -> bool:
        """Whether there are series whose identity is to be worked out."""
        return bool(self._born)

    def learn(self, sample: Sample, empty: Iterable[str] = ()) -> int:
        """Return the slot of a line's series. Raises TooMuch where it exceeds a limit."""
        key = self._key(sample, empty)
        limits = self._store.rules.limits
        if limits.apply:
            limits.check(sample._replace(labels=join_own(key[1].flat, key[2])))
        plain = _plain(key)
        slot = self._slot_of.get(plain)
        if slot is None:
            slot = self._slot_of[plain] = self._store.allocate(key)
            self._born.append(slot)
            if sample.name == _TARGET_INFO:
                self._info = sample.labels
        return self._store.duplicate if self._store.columns.report[slot] else slot

    def forget_page(self) -> None:
        """The page broke off or was refused: forget what only it has taught."""
        born, self._born, self._bases, self._info = self._born, [], {}, None
        self._unname(born)
        self._store.release(born)

    def scraped(self) -> Slots:
        """Return the slots of all that the target has ever shown and that is not forgotten, placed or not."""
        slots = np.fromiter(self._slot_of.values(), np.int32, len(self._slot_of))
        return slots[~self._store.columns.report[slots]]

    def start_over(self) -> None:
        """Forget all that the target has shown; the slots are in no table any more."""
        self.forget_lines()
        self._messages = None
        slots = self.scraped()
        self._unname(slots.tolist())
        self._store.release(slots.tolist())
        self._born, self._bases, self._wholes, self._families, self._info = [], {}, {}, {}, None
        self.slots, self.created, self._undated, self.doubted = slots[:0], {}, set(), False

    def lose_page(self) -> None:
        """Reading a page has failed by a bug: forget what it has taught, and expect no line of the one before."""
        self.forget_page()
        self.forget_lines()
        self._messages = None

    def obey(self, rules: PageRules) -> None:
        """Other rules are in force from now on, under which series have the same identity."""
        self.skeleton.skip_bad_lines = rules.skip_bad_lines
        self.doubted = True
        if rules.limits.apply:  # they are looked at when a line is learned
            self.forget_lines(self.skeleton.dialect)
            self._messages = None

    def expect(self, dialect: Dialect) -> JointSkeleton:
        """Return the lines that are expected of a page of this dialect: none, where the last one was of another."""
        self._messages = None
        if self.skeleton.dialect is not dialect:
            self.forget_lines(dialect)
        return self.skeleton

    def expect_messages(self) -> MessageMemory:
        """Return the series that are expected of a page of protobuf: none, where the last one was of another format."""
        if self._messages is None:
            self.forget_lines()
            self._messages = MessageMemory(self._learn_message)
        return self._messages

    def forget_lines(self, dialect: Dialect = TEXT) -> None:
        """The page came in another format: no line of those before is expected again."""
        self.skeleton = JointSkeleton(
            self._learn_line, skip_bad_lines=self._store.rules.skip_bad_lines, dialect=dialect
        )
        self._comments = []

    def _learn_line(self, sample: Sample) -> int:
        line = self.skeleton.learning
        if not self._store.rules.honor_labels or b'""' not in line:
            return self.learn(sample)
        return self.learn(sample, [(bare or quoted).decode() for bare, quoted in _EMPTY_LABEL.findall(line)])

    def _learn_message(self, sample: Sample, empty: tuple[str, ...]) -> int:
        return self.learn(sample, empty if self._store.rules.honor_labels else ())

    def _key(self, sample: Sample, empty: Iterable[str]) -> Key:
        name, flat = sample.name, sample.labels
        honor = self._store.rules.honor_labels
        if not self._splits_first or empty:
            labels = labelled(flat, self.labels, honor=honor, empty=list(empty))
            rest, own = split_own(name, labels)
            if own and not honor and own[0] in self.labels:  # the target's: that of the sample is exported_x now
                return name, Labels.of(labels), ()
            return name, Labels.of(rest), own
        rest, own = split_own(name, flat)
        base = self._bases.get(rest)
        if base is None:
            base = self._bases[rest] = Labels.of(labelled(rest, self.labels, honor=honor))
        return name, base, own

    # -- identity ------------------------------------------------------------------------------------------------

    def read_comments(self, comments: list[bytes]) -> None:
        """Take in what the comments of a good page say of its families."""
        if comments == self._comments:
            return
        self._comments = comments
        families: dict[str, Metadata] = {}
        parse = parse_comment if self.skeleton.dialect is TEXT else openmetrics_lines.parse_comment
        for line in comments:
            if line and line != openmetrics_lines.EOF:
                apply_comment(families, parse(line), line)
        self.read_families(families)

    def read_families(self, families: Mapping[str, Metadata]) -> None:
        """Take in what a good page says of its families; one that is missing keeps its type while its series stay."""
        known = self._families
        for name, metadata in families.items():
            before = known.get(name)
            if before is None or (before.kind, before.unit) != (metadata.kind, metadata.unit):
                self.doubted = True
        if len(known) > len(families) + _STALE_FAMILIES:
            known.clear()
        known.update(families)

    def note_info(self) -> None:
        """Take in what a good page says of its target by ``target_info``: attributes of the resource, not a series."""
        info, self._info = self._info, None
        if info is None:
            return
        told = {name: value for name, value in pairs(info) if name not in self.labels}
        target = Target.of(self.labels, {**self._beside, **told})
        self.doubted = self.doubted or target is not self.target
        self.target = target

    def revised(self) -> list[int]:
        """Return the slots of series whose type or target has changed; they are to be ended, and made anew after that."""
        if not self.doubted:
            return []
        self.doubted = False
        revised = [slot for slot in self.slots.tolist() if self._differs(slot)]
        for slot in revised:
            self._leave_whole(slot)
        self._born += revised
        return revised

    def _differs(self, slot: int) -> bool:
        series = self._store.series[slot]
        if series is None:
            return False
        if series.target is not self.target or series.family.identity != self._family(slot).identity:
            return True
        only_dates = series.name.endswith(_CREATED) and self._store.types.only_dates(series.name, self._families)
        return only_dates and self._store.columns.fate[slot] == POINTS

    def place(self) -> tuple[list[int], list[int]]:
        """Give the newcomers of a good page their identity.

        Returns the slots whose points go out, to be put into tables, and those older ones that are to be in one table
        with some of them.
        """
        born, self._born, self._bases = self._born, [], {}
        store = self._store
        wholes: dict[Whole, list[tuple[int, Part]]] = defaultdict(list)
        families: dict[tuple[str, bool, bool], Family] = {}  # by name, own label numeric or not, native or not
        may_be_folded: list[int] = []
        native = store.columns.native[born].tolist()
        for slot, is_native in zip(born, native, strict=True):
            name, base, own = self._key_of(slot)
            alike = name, bool(own) and number_of(own[1]) is not None, is_native
            family = families.get(alike)
            if family is None:
                family = families[alike] = self._family(slot)
            if not own and (name in _INFO or name.endswith(_CREATED)):
                may_be_folded.append(slot)
            series = store.series[slot] = Series.parts_of(name, base, own, family, target=self.target)
            if family.kind in _COMPOUND and (part := part_of(series)) is not None:
                wholes[part.name, part.base, family.identity].append((slot, part))
        fresh = [slot for slot in born if not store.columns.used[slot]]
        self._enter(born)
        older = {slot for whole, parts in wholes.items() for slot in self._join(whole, parts)}.difference(born)
        for slot in (*may_be_folded, *self._undated):
            self._fold(slot)
        self.slots = np.concatenate((self.slots, np.array(fresh, np.int32)))
        fate = store.columns.fate
        return [slot for slot in born if fate[slot] == POINTS], sorted(older)

    def forget(self, slots: Slots) -> None:
        """Forget series that are not on the page any more; their slots are free after that."""
        gone = set(slots.tolist())
        absent = np.zeros(self._store.columns.size, np.bool_)
        absent[slots] = True
        self.slots = self.slots[~absent[self.slots]]
        if self.created:
            self._undated |= {at for at, dated in self.created.items() if dated in gone}
            self.created = {at: dated for at, dated in self.created.items() if not {at, dated} & gone}
        self._undated -= gone
        heads = slots[self._store.columns.head[slots] == slots]  # who speaks for a whole is its own head
        for slot in heads.tolist():
            self._leave_whole(slot)
        self._unname(gone)
        self._store.release(gone)

    def everything(self) -> Slots:
        """Return all slots of this target."""
        return np.concatenate((self.slots, self.reports))

    def _family(self, slot: int) -> Family:
        name, _, own = self._key_of(slot)
        native = bool(self._store.columns.native[slot])
        return self._store.types.family(name, own, self._families, native=native)

    def _key_of(self, slot: int) -> Key:
        key = self._store.keys[slot]
        assert key is not None
        return key

    def _unname(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._slot_of.pop(_plain(self._key_of(slot)), None)

    def _enter(self, slots: list[int]) -> None:
        """Enter what follows from identity into the columns."""
        store = self._store
        kinds = [series.family.kind if (series := store.series[slot]) else "" for slot in slots]
        columns = store.columns
        columns.used[slots] = True
        columns.cumulative[slots] = [kind in _CUMULATIVE for kind in kinds]
        columns.fate[slots] = [UNSUPPORTED if kind == "gaugehistogram" else POINTS for kind in kinds]
        columns.target[slots] = self._number
        columns.head[slots] = slots

    def _join(self, whole: Whole, parts: list[tuple[int, Part]]) -> Iterator[int]:
        """Let one slot speak for a whole: its count, else its first part. Walk the slots that belonged to it before."""
        columns = self._store.columns
        known = self._wholes.get(whole)
        counts = [slot for slot, part in parts if part.role == "count"]
        older: list[int] = []
        if known is not None:
            older = self.slots[columns.head[self.slots] == known].tolist()
            if counts:  # the new speaker takes over what the whole remembers
                columns.start[counts[0]], columns.away[counts[0]] = columns.start[known], columns.away[known]
        speaker = counts[0] if counts else (parts[0][0] if known is None else known)
        columns.head[[slot for slot, _ in parts] + older] = speaker
        self._wholes[whole] = speaker
        yield from older

    def _leave_whole(self, slot: int) -> None:
        """A series goes: where it spoke for a whole, what is left of that has no speaker any more."""
        series = self._store.series[slot]
        if series is None or series.family.kind not in _COMPOUND or (part := part_of(series)) is None:
            return
        whole = part.name, part.base, series.family.identity
        if self._wholes.get(whole) == slot:
            del self._wholes[whole]
            columns = self._store.columns
            left = self.slots[columns.head[self.slots] == slot]
            columns.head[left] = left

    def _fold(self, slot: int) -> None:
        """``x_created`` of a known x dates x's stream and is no series of its own; nor are the info lines about OTel."""
        name, base, _ = self._key_of(slot)
        columns = self._store.columns
        if name in _INFO:
            columns.fate[slot] = FOLDED
        elif (dated := self._dated_by(name.removesuffix(_CREATED), base)) is not None:
            columns.fate[slot] = FOLDED
            columns.value[slot] = 0.0
            self.created[slot] = dated
            self._undated.discard(slot)
        elif self._store.types.only_dates(name, self._families):
            columns.fate[slot] = FOLDED
            self._undated.add(slot)

    def _dated_by(self, name: str, base: Labels) -> int | None:
        for candidate, kinds in ((name + "_total", _COUNTERS), (name, _COUNTERS), (name + "_count", _COMPOUND)):
            slot = self._slot_of.get((candidate, base, ()))
            series = None if slot is None else self._store.series[slot]
            if series is not None and series.family.kind in kinds:
                return slot
        return None

    def _report(self) -> None:
        """Name the five series of a poll."""
        store = self._store
        if not store.rules.reports:
            return
        base = Labels.of(report_labels(self.labels))
        keys: list[Key] = [(family.name, base, ()) for family in health.FAMILIES]
        slots = [store.allocate(key) for key in keys]
        self._slot_of.update(zip(keys, slots, strict=True))
        self.reports = np.array(slots, np.int32)
        store.columns.report[slots] = True
        self.place_reports()

    def place_reports(self) -> None:
        """Give the five series of a poll their identity."""
        slots = self.reports.tolist()
        for slot, family in zip(slots, health.FAMILIES if slots else (), strict=True):
            self._store.series[slot] = Series.parts_of(*self._key_of(slot), family, target=self.target)
        self._enter(slots)


def _plain(key: Key) -> Key:
    """Return the key under which a series is found again: ``le`` and ``quantile`` are numbers, 1 and 1.0 the same one.

    What is text 0.0.4 to one poll may be OpenMetrics or protobuf to the next, which spell them in their own ways.
    """
    name, base, own = key
    plain = _plain_own(own) if own else own
    return key if plain == own else (name, base, plain)


@lru_cache(_BOUNDS)
def _plain_own(own: tuple[str, ...]) -> tuple[str, ...]:
    number = number_of(own[1])
    return own if number is None else (own[0], repr(number + 0.0).removesuffix(".0"))  # -0 is 0
