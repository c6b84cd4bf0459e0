"""The proxies themselves: every target's ``/metrics`` page, its types, its labels, its own clock.

Strategy. Targets are polled in groups (``proxy_groups``), each target by a task of its own with its own deadline, so
that none waits for another. What has come of a group when its last page is in, or ``GRACE`` after the first moment, is
taken in one pass; who comes later is taken alone. Reading and memory are sans-IO (``proxy_pages``, ``page_memory``).
"""

from __future__ import annotations

import json
import logging
import math
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Self, cast

import trio

from ebbtide import (
    ConfigError,
    Context,
    Emit,
    FoldedLog,
    ReceiveError,
    Receiver,
    Recording,
    allow_files,
    settle,
    span,
)
from receivers.kubernetes_pods import resource_attributes
from receivers.negotiation import Format
from receivers.page_memory import PageMemory
from receivers.page_source import PageSource
from receivers.page_store import PageStore
from receivers.page_types import PageTypes
from receivers.polling import Schedule
from receivers.proxy_groups import Group, Groups
from receivers.proxy_options import JOB, ProxySettings
from receivers.proxy_pages import Answered, Pages, Read, portions, take
from receivers.proxy_target import GONE, Asking, Clients, PolledTarget
from receivers.tables import Tables
from receivers.target_set import ScrapeTarget, TargetSet

GRACE = 0.25
"""Seconds that a group waits for its last pages; at most a quarter of the interval."""
LEAST_GAP = 0.25
"""Part of the interval that lies at least between two polls of a target: of a new one, which is polled at once, the first
poll at its place in the interval is left out where that comes sooner."""
_MANY = 1000  # newcomers of a pass, after which the heap is settled
_NS = 10**9
_FORMAT, _LABELS = "format", "labels"  # what is saved beside a page


TargetKey = tuple[str, tuple[tuple[str, str], ...]]  # URL, labels


class _Round:
    """One moment of a group: what has come of it, until it is closed."""

    def __init__(self, polls: int):
        self.answers: list[Answered] = []
        self.complete = trio.Event()
        self.taken = trio.Event()
        self.closed = False
        self._left = polls
        if not polls:
            self.complete.set()

    def add(self, answer: Answered) -> None:
        self.answers.append(answer)
        self._left -= 1
        if not self._left:
            self.complete.set()


class Proxy(Receiver[ProxySettings]):
    """Polls the metrics pages of proxies, or of anything else that has one."""

    Settings: ClassVar[type[ProxySettings]] = ProxySettings

    def __init__(self, settings: ProxySettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        options, name = self.settings, self.context.id
        if not (options.targets or options.discovery):
            raise ConfigError("no targets; name some in `targets`, or let them be found by `discovery`", "targets")
        self._log = FoldedLog(self.context.log, trio.current_time, f"receivers.{name}")
        self._clients = Clients(options)
        self._target_set = options.target_set(self._log, name)
        self._asking = Asking(options.timeout, options.max_body, options.fallback_format)
        self._memory = PageMemory(PageStore(self.counts, PageTypes(options.types), options.rules))
        self._groups = Groups(self._memory, options.interval, f"{socket.gethostname()}/{name}")
        self._pages = Pages()
        self._targets: dict[TargetKey, PolledTarget] = {}
        self._inherited: dict[TargetKey, tuple[PageSource, Tables]] = {}
        self._failing: set[PageSource] = set()
        self._leftover: list[tuple[PageSource, Tables]] = []  # of a former receiver: to be ended
        self._left = trio.Event()
        self._news = trio.Event()  # of the target set
        self._wanted: tuple[ScrapeTarget, ...] | None = None  # None: not known yet
        self._nursery: trio.Nursery | None = None
        self._taking = trio.Lock()

    def inherit(self, old: Self) -> None:
        """Go on with all that the former one remembers of its targets, under this one's options."""
        store, rules = old._memory.store, self.settings.rules
        same = store.rules.same_series(rules)
        store.counts, store.rules = self.counts, rules
        store.types.obey(self.settings.types)
        self._target_set.inherit(old._target_set)
        self._memory = old._memory
        self._groups = Groups(self._memory, self.settings.interval, f"{socket.gethostname()}/{self.context.id}")
        for target, polled in old._targets.items():
            group = old._groups.group_of(polled.source)
            if group is None:
                continue
            if same:
                polled.source.obey(rules)
                self._inherited[target] = polled.source, group.tables
            else:
                self._leftover.append((polled.source, group.tables))

    def leave(self) -> bool:
        """Return from ``run`` once the polls that are under way are taken."""
        self._left.set()
        self._news.set()
        return True

    async def run(self, emit: Emit) -> None:
        """Poll every target at once, then each at its place in the interval, until asked to leave."""
        try:
            async with trio.open_nursery() as finding:
                finding.start_soon(self._target_set.run, self._note)
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self._resume(emit, nursery)
                    while not self._left.is_set():
                        await self._news.wait()
                        self._news = trio.Event()
                        await self._change(emit, nursery)
                finding.cancel_scope.cancel()
        finally:
            await self._close()

    async def once(self, emit: Emit) -> None:
        """Poll every target exactly once, all at once."""
        try:
            targets = await self._target_set.once()
            if not targets:
                self.context.log.warning(
                    "receivers.%s: cannot poll anything: %s; see `targets`, `discovery`, `relabel` and `shard`",
                    self.context.id,
                    self._target_set.why_none(),
                )
            allow_files(len(targets))
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for group in self._deal_out(targets):
                    nursery.start_soon(self._round, emit, group)
        finally:
            await self._close()

    async def record(self) -> Recording:
        """Poll one target, the first of all, and return its page as it came."""
        targets = await self._found(self._target_set)
        if len(targets) > 1:
            self.context.log.info(
                "receivers.%s: saves the page of the first of %d targets", self.context.id, len(targets)
            )
        target, now = targets[0], self.context.now()
        polled = PolledTarget(PageSource(self._memory.store, dict(target.labels)), target.url, self._clients.of(target))
        self.counts.polls += 1
        try:
            answer = await polled.poll(self._asking, now)
        finally:
            polled.close()
            await self._close()
        if answer.failure:
            self.counts.failed_polls += 1
            raise answer.bug or ReceiveError(answer.failure)
        beside = {_FORMAT: answer.format, _LABELS: json.dumps(dict(target.labels))}
        return Recording(answer.body, beside, now, answer.seconds, where=answer.where)

    async def replay(self, recording: Recording, emit: Emit) -> None:
        """Read a saved page as if it had come when it was saved."""
        source = PageSource(self._memory.store, await self._recorded_labels(recording))
        format = cast(Format, recording.answers.get(_FORMAT) or "text")
        when = recording.time or self.context.now()
        answer = Answered(source, recording.where, when, recording.seconds, recording.body, format)
        self.counts.polls += 1
        (read,) = self._pages.read([answer], self._memory.store.rules)
        if read.failure:
            self.counts.failed_polls += 1
        tables = Tables(self._memory.store.columns, self._memory.store.series)
        for portion in self._memory.take(tables, [read.reading]):
            await emit(portion.batch)
        if read.failure:
            raise read.bug or ReceiveError(read.failure)

    async def _recorded_labels(self, recording: Recording) -> Mapping[str, str]:
        """Return the labels of the target whose page was saved; where that does not tell, those of the first named one."""
        if saved := recording.answers.get(_LABELS):
            try:
                labels = json.loads(saved)
            except ValueError:
                labels = None
            if isinstance(labels, dict) and all(isinstance(label, str) for label in labels.values()):
                return labels
        targets = await self.settings.static_set(self._log, self.context.id).once()
        return dict(targets[0].labels) if targets else {"job": JOB, **self.settings.labels}

    async def _found(self, target_set: TargetSet) -> tuple[ScrapeTarget, ...]:
        targets = await target_set.once()
        if not targets:
            raise ReceiveError(
                f"cannot poll a target of receivers.{self.context.id}: {target_set.why_none()}; see `targets`, "
                "`discovery`, `relabel` and `shard`"
            )
        return targets

    def _resume(self, emit: Emit, nursery: trio.Nursery) -> None:
        """Go on with the targets that are known, where a bug has ended ``run`` before."""
        self._memory.clear()
        for target in self._targets.values():
            target.polling = False
        for group in self._groups:
            nursery.start_soon(self._keep_polling, emit, group)
        if self._wanted is not None:  # the bug may have broken off a change
            self._news.set()

    # -- targets -------------------------------------------------------------------------------------------------

    def _note(self, targets: tuple[ScrapeTarget, ...]) -> None:
        self._wanted = targets
        self.counts.targets = len(targets)
        self._news.set()

    async def _change(self, emit: Emit, nursery: trio.Nursery) -> None:
        """Begin with new targets, end those that are gone."""
        if self._left.is_set():
            return
        targets = self._wanted or ()
        allow_files(len(targets))
        await self._end(emit, set(map(_key, targets)))
        before = list(self._groups)
        for group in self._deal_out(target for target in targets if _key(target) not in self._targets):
            nursery.start_soon(self._keep_polling, emit, group)
        for group in before:
            nursery.start_soon(self._round, emit, group, True)

    def _deal_out(self, targets: Iterable[ScrapeTarget]) -> list[Group]:
        """Begin with targets; those that a former receiver knew keep what is remembered of them."""
        new: dict[PolledTarget, Tables | None] = {}
        for target in targets:
            source, tables = self._inherited.pop(_key(target), (None, None))
            source = source or PageSource(
                self._memory.store, dict(target.labels), resource_attributes(dict(target.found))
            )
            polled = self._targets[_key(target)] = PolledTarget(source, target.url, self._clients.of(target))
            new[polled] = tables
        groups = self._groups.add(new)
        for polled, tables in new.items():
            group = self._groups.group_of(polled.source)
            if group is not None:
                self._memory.move(polled.source, tables, group.tables)
        return groups

    async def _end(self, emit: Emit, wanted: set[TargetKey]) -> None:
        """End the targets that are not wanted any more."""
        ended, self._leftover = self._leftover, []
        for target in [target for target in self._targets if target not in wanted]:
            polled = self._targets.pop(target)
            polled.close()
            group = self._groups.remove(polled)
            if group is not None:
                ended.append((polled.source, group.tables))
        if self._target_set.complete:  # else a discovery may yet name them
            for target in [target for target in self._inherited if target not in wanted]:
                ended.append(self._inherited.pop(target))
        for source, tables in ended:
            self._failing.discard(source)
            async with self._taking:
                for portion in self._memory.remove(tables, [source], self.context.now()):
                    await emit(portion.batch)

    async def _close(self) -> None:
        for target in self._targets.values():
            target.close()
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await self._clients.aclose()

    # -- polls ---------------------------------------------------------------------------------------------------

    async def _keep_polling(self, emit: Emit, group: Group) -> None:
        """Poll a group at once, then at its place in the interval, until it has no targets any more."""
        interval = round(self.settings.interval * _NS)
        schedule, phase = Schedule(interval), round(group.phase * interval)
        while group.targets and not self._left.is_set():
            await self._round(emit, group)
            new = self._groups.cut(group)
            if new is not None and self._nursery is not None:
                self._nursery.start_soon(self._keep_polling, emit, new)
            with trio.move_on_after(schedule.wait(self.context.now() - phase) / _NS):
                await self._left.wait()

    async def _round(self, emit: Emit, group: Group, fresh: bool = False) -> None:
        """Poll all of a group, or its ``fresh`` targets; take what has come in time, and leave the rest to itself."""
        now = trio.current_time()
        before = -math.inf if fresh else now - LEAST_GAP * self.settings.interval
        targets = [target for target in group.targets if not target.polling and target.began <= before]
        if not targets or self._nursery is None:
            return
        moment = _Round(len(targets))
        for target in targets:
            target.polling, target.began = True, now
            self._nursery.start_soon(self._poll, emit, target, moment)
        with trio.move_on_after(min(GRACE, self.settings.interval / 4)):
            await moment.complete.wait()
        moment.closed = True
        try:
            await self._take(emit, group, moment.answers)
        finally:
            moment.taken.set()

    async def _poll(self, emit: Emit, target: PolledTarget, moment: _Round) -> None:
        self.counts.polls += 1
        with span("poll", receiver=self.context.id, target=target.where) as poll:
            try:
                answer = await target.poll(self._asking, self.context.now())
            finally:
                target.polling = False
            self.counts.poll_seconds += answer.seconds
            group = self._groups.group_of(answer.source)
            if group is None:
                target.close()
            if not moment.closed:
                moment.add(answer)
                if poll.recorded:
                    await moment.taken.wait()
            elif group is not None:
                await self._take(emit, group, [answer])
            poll.set(samples=answer.samples)
            if answer.failure and answer.failure != GONE:
                poll.fail(type(answer.bug or ReceiveError()).__qualname__, answer.failure)

    async def _take(self, emit: Emit, group: Group, answers: Sequence[Answered]) -> None:
        """Read what has come, and pass it on; a page is read and taken into memory without a break."""
        async with self._taking:
            for portion in portions(answers):
                here = [answer for answer in portion if self._groups.group_of(answer.source) is group]
                reads, taken = take(self._memory, group.tables, self._pages.read(here, self._memory.store.rules))
                for answer, read in zip(here, reads, strict=True):
                    answer.failure, answer.bug = read.failure, read.bug
                    answer.samples = 0 if read.failure else len(read.reading.slots)
                self._report(reads)
                for one in taken:
                    await emit(one.batch)
                if sum(read.reading.born for read in reads) > _MANY:
                    settle()

    def _report(self, reads: list[Read]) -> None:
        """Say which polls failed, and when all are well again."""
        name = self.context.id
        for read in reads:
            if read.failure:
                self.counts.failed_polls += 1
                self._failing.add(read.reading.source)
                level = logging.ERROR if read.bug else logging.WARNING
                self._log(level, "poll", "receivers.%s: %s", name, read.failure, bug=read.bug)
            else:
                self.counts.last_success = self.context.now() / _NS
                self._failing.discard(read.reading.source)
        if not self._failing:
            self._log.recovered("poll", "receivers.%s: all targets are well again after %d failed polls", name)


def _key(target: ScrapeTarget) -> TargetKey:
    return target.url, target.labels
