"""Prometheus' query API as a lossless tap: every raw sample since the last poll, with its own timestamp.

Strategy. A range selector in an instant query returns stored samples untouched; so each poll asks for all of them since the
last one, however slowly it polls. How far the source has been read is one cursor (``query_cursor``), which moves only when the
pipelines have taken custody, and is noted on disk when the backends have. A hole since then, an outage's or a restart's, is
read like any other stretch of time: strictly oldest first, in chunks, before anything younger. What comes is taken by
``window`` with the code that takes /federate.

Ranges are closed on both ends in Prometheus 2, half-open in 3. Here a window is asked for with a millisecond more at its
beginning, and what lies at or before it is left out on this side, so both come to the same.
"""

from __future__ import annotations

import logging
from typing import ClassVar, Self

import numpy as np
import trio
from pydantic import field_validator

from ebbtide import (
    Client,
    Context,
    Duration,
    Emit,
    Floats,
    FoldedLog,
    Ints,
    PositiveDuration,
    ReceiveError,
    ServerUrl,
    option,
    safe_url,
    settle,
)
from receivers.health import Health
from receivers.limits import TooMuch
from receivers.matrix import Answer, Metrics, Slots
from receivers.metadata import Enquiry
from receivers.polling import PollingReceiver, ServerSettings, labels_of
from receivers.query_cursor import Cursor, Window, read_note, write_note
from receivers.query_expressions import Evaluation, Expression
from receivers.query_server import QueryServer, TooHeavy
from receivers.types import TypeBook
from receivers.window import WindowScrape

STALE_AFTER = 300 * 10**9
"""ns: a series that is missing for so long has ended (Prometheus' own look-back)."""
MOST_SAMPLES = 4_000_000
"""Samples of one answer at most, some 100 MB; a window that has more is halved."""
LINKERD = ('{job="linkerd-proxy"}', '{job="linkerd-controller"}')
_MANY = 1000  # newcomers of a poll, after which the heap is settled
_MS = 10**6  # ns


class QuerySettings(ServerSettings):
    """Options of the `query` receiver."""

    url: ServerUrl = option(..., "Base URL of the Prometheus server; `/api/v1/query` is appended.")
    interval: PositiveDuration = option(
        "30s", "How often to poll. The first poll is immediate, later ones are aligned to it."
    )
    match: list[str] | None = option(
        None,
        "Selectors whose raw samples are taken, all of them. Default: the two of Linkerd's documentation, or none where there "
        "are `queries`.",
        examples=[['{job="linkerd-proxy"}']],
    )
    queries: list[Expression] = option([], "Expressions to evaluate at each poll, as series of their own.")
    delay: Duration = option("15s", "How far behind the clock to read, so that what is read is complete.")
    backfill: Duration = option("6h", 'How much of the time since the last run is read at most; "0s": nothing.')
    chunk: PositiveDuration = option("5m", "Longest stretch of time of one question.")

    @field_validator("match")
    @classmethod
    def _not_empty(cls, match: list[str] | None) -> list[str] | None:
        if match is not None and not all(match):
            raise ValueError("an empty selector; write one such as '{job=\"linkerd-proxy\"}'")
        return match

    @property
    def selectors(self) -> list[str]:
        """What is taken raw."""
        if self.match is not None:
            return self.match
        return [] if self.queries else list(LINKERD)


class Query(PollingReceiver[QuerySettings]):
    """Reads raw samples, and evaluates expressions, by Prometheus' query API."""

    Settings: ClassVar[type[QuerySettings]] = QuerySettings

    def __init__(self, settings: QuerySettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        options = self.settings
        self._client: Client = options.client()
        self._server = QueryServer(self._client, options.url, options.timeout, options.max_body, MOST_SAMPLES)
        self._scrape = WindowScrape(
            self.counts,
            TypeBook(options.types),
            stale_after=STALE_AFTER,
            track_starts=options.start_times == "track",
            limits=options.limits,
        )
        self._metrics = {selector: Metrics(self._scrape.learn) for selector in options.selectors}
        self._evaluations = [Evaluation(expression, self.counts) for expression in options.queries]
        self._health = Health(labels_of(self.context.id, options.url))
        self._enquiry = Enquiry(self._client, options.url, options.timeout, self.context.log, self.context.id)
        self._log = FoldedLog(self.context.log, component=f"receivers.{self.context.id}")
        self._cursor: Cursor | None = None

    def inherit(self, old: Self) -> None:
        """Go on where the former one stopped, with all that it remembers of its series, if the source is the same."""
        if old.settings.url != self.settings.url:
            return
        scrape, own = old._scrape, self._scrape
        scrape.track_starts, scrape.limits, scrape.counts = own.track_starts, own.limits, self.counts
        scrape.types.obey(self.settings.types)
        self._scrape = scrape
        self._metrics = {
            selector: old._metrics.get(selector) or Metrics(scrape.learn) for selector in self.settings.selectors
        }
        if old._cursor is not None and old.settings.selectors == self.settings.selectors:
            self._cursor = old._cursor
            self._cursor.chunk = round(self.settings.chunk * 1000)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def poll(self, emit: Emit) -> None:
        """Read all up to now less `delay`, and evaluate the expressions; what fails does not keep the other from it."""
        began, samples = trio.current_time(), self.counts.samples
        self.counts.polls += 1
        failures: list[ReceiveError] = []
        for part in (self._catch_up, self._evaluate):
            try:
                await part(emit)
            except ReceiveError as error:
                failures.append(error)
        self.counts.failed_polls += bool(failures)
        await self._report(
            emit, up=not failures, seconds=trio.current_time() - began, samples=self.counts.samples - samples
        )
        if failures:
            raise ReceiveError("; ".join(map(str, failures)))

    # -- raw samples ------------------------------------------------------------------------------------------------

    async def _catch_up(self, emit: Emit) -> None:
        """Read window after window, the oldest first, until all is read or somebody asks the receiver to leave."""
        if not self._metrics:
            return
        cursor = self._cursor = self._cursor or self._begin()
        while not self._left.is_set() and (window := cursor.next(self._until)) is not None:
            began, samples = trio.current_time(), self.counts.samples
            try:
                await self._read(emit, window)
            except TooHeavy as error:
                if not cursor.shrink(window):
                    raise
                self.context.log.debug("receivers.%s: %s; trying half of it", self.context.id, error)
                continue
            cursor.advance(window)
            self._note(cursor)
            if self._is_hole(window):
                self.counts.backfilled += self.counts.samples - samples
                await self._rest(trio.current_time() - began)

    @property
    def _until(self) -> int:
        """Up to when samples are complete, in ms."""
        return self.context.now() // _MS - round(self.settings.delay * 1000)

    def _begin(self) -> Cursor:
        """Begin where the last run stopped, as far back as `backfill` allows; else an interval ago."""
        until, interval = self._until, round(self.settings.interval * 1000)
        end = until - interval
        kept = self._kept()
        if kept is not None and self.settings.backfill:
            oldest = self.context.now() // _MS - round(self.settings.backfill * 1000)
            end = min(max(kept, oldest), until)
            if kept < oldest:
                self.context.log.warning(
                    "receivers.%s: the last run read up to %.0f s ago, `backfill` goes back %.0f s: what lies between is not read",
                    self.context.id, (until - kept) / 1000, self.settings.backfill,
                )  # fmt: skip
        return Cursor(end, round(self.settings.chunk * 1000))

    def _kept(self) -> int | None:
        """Return where the last run stopped, in ms; None where nothing is known of it."""
        checkpoint = self.context.checkpoint
        try:
            note = checkpoint.load() if checkpoint is not None else None
            return None if note is None else read_note(note, safe_url(self.settings.url), self.settings.selectors)
        except (OSError, ValueError) as error:
            self.context.log.warning(
                "receivers.%s: cannot go on where the last run stopped: %s; beginning anew", self.context.id, error
            )
            return None

    def _note(self, cursor: Cursor) -> None:
        self.counts.read_until = cursor.end / 1000
        if self.context.checkpoint is not None:
            note = write_note(cursor.end, safe_url(self.settings.url), self.settings.selectors)
            self.context.checkpoint.save(note)

    def _is_hole(self, window: Window) -> bool:
        """Whether the window is older than what a poll that keeps up reads."""
        return window.end < self._until - round(self.settings.interval * 1000)

    async def _rest(self, seconds: float) -> None:
        """Leave the server to others for as long as it worked for us."""
        with trio.move_on_after(seconds):
            await self._left.wait()

    async def _read(self, emit: Emit, window: Window) -> None:
        """Read one window and hand it on. Until all of it has come nothing of it counts."""
        try:
            answers = [await self._ask(selector, window) for selector in self._metrics]
            born = self._scrape.newcomers
            if born:
                await self._enquiry.about(self._scrape)
        except BaseException as error:
            self._scrape.forget_newcomers()
            self._metrics = {selector: Metrics(self._scrape.learn) for selector in self._metrics}
            if isinstance(error, TooMuch):
                raise ReceiveError(f"cannot take the answer of {safe_url(self.settings.url)}: {error}") from error
            raise
        slots, values, times = self._new_samples(answers, window)
        for batch in self._scrape.take_window(slots, values, times, window.end * _MS):
            await emit(batch)
        if born > _MANY:
            settle()

    async def _ask(self, selector: str, window: Window) -> Answer:
        """Ask for the window's samples of one selector, and a millisecond more: see the strategy above."""
        length = window.end - window.seen_from + 1
        answer = await self._server.ask(f"{selector}[{length}ms]", window.end, self._metrics[selector])
        where, samples, limit = safe_url(self.settings.url), len(answer.slots), self.settings.sample_limit
        if answer.result_type != "matrix":
            raise ReceiveError(
                f"cannot use what {where} answers to {selector!r}: a {answer.result_type[:40]!r} is no list of raw samples; "
                "write plain selectors in `match`"
            )
        if limit and samples > limit:
            raise ReceiveError(f"cannot take the answer of {where}: it has {samples} samples, sample_limit is {limit}")
        self._tell(answer.notes)
        return answer

    def _new_samples(self, answers: list[Answer], window: Window) -> tuple[Slots, Floats, Ints]:
        """Return the window's samples and what is late, each once though two selectors gave it (times in ns)."""
        slots, values = np.concatenate([a.slots for a in answers]), np.concatenate([a.values for a in answers])
        times = np.concatenate([a.times for a in answers])
        wanted = (times > window.seen_from) & (times <= window.end)
        late = wanted & (times <= window.begin)
        wanted[late] = ~self._scrape.delivered(slots[late], times[late] * _MS)
        rows = np.flatnonzero(wanted)
        rows = rows[np.lexsort((times[rows], slots[rows]))]
        if len(rows):
            slot, time = slots[rows], times[rows]
            rows = rows[np.append(True, (slot[1:] != slot[:-1]) | (time[1:] != time[:-1]))]
        natives = sum(window.begin < time <= window.end for a in answers for _, time, _ in a.natives)
        self.counts.samples += natives
        self.counts.dropped["unsupported"] += natives
        return slots[rows], values[rows], times[rows] * _MS

    # -- expressions --------------------------------------------------------------------------------------------------

    async def _evaluate(self, emit: Emit) -> None:
        """Evaluate every expression; one that fails does not keep the others from it."""
        failures = []
        for evaluation in self._evaluations:
            now = self.context.now()
            try:
                answer = await self._server.ask(evaluation.expression.query, now // _MS, evaluation.metrics)
                self._tell(answer.notes)
                batches = evaluation.take(answer, now)
            except ReceiveError as error:
                failures.append(f"{evaluation.expression.name}: {error}")
                continue
            for batch in batches:
                await emit(batch)
        if failures:
            raise ReceiveError("; ".join(failures))

    def _tell(self, notes: list[str]) -> None:
        """Log the server's warnings, each new one once."""
        for note in notes:
            self._log(logging.WARNING, "notes", "receivers.%s: the server warns: %s", self.context.id, note[:300])

    async def _report(self, emit: Emit, *, up: bool, seconds: float, samples: int) -> None:
        if self.settings.scrape_metrics:
            batch = self._health.batch(self.context.now(), up=up, seconds=seconds, samples=samples, left=samples)
            self.counts.added["scrape"] += len(batch)
            await emit(batch)
