"""Prometheus' query API as a lossless tap: every raw sample since the last poll, with its own timestamp.

Strategy. A range selector in an instant query returns stored samples untouched; so each poll asks for all of them since the
last one, however slowly it polls. How far the source has been read is one cursor (``query_cursor``), which moves only when the
pipelines have taken custody, and is noted on disk when the backends have. A hole since then, an outage's or a restart's, is
read like any other stretch of time: strictly oldest first, in chunks, before anything younger. What comes is taken by
``window`` with the code that takes /federate. A poll works for an interval at most, so that a long hole keeps neither the
expressions nor the poll's own series waiting, and rests as long as it worked, so that others can use the server meanwhile.

Ranges are closed on both ends in Prometheus 2, half-open in 3. Here a window is asked for with a millisecond more at its
beginning, and what lies at or before it is left out on this side, so both come to the same. A clock of ours that is ahead
of the server's would ask for what is not there yet, and pass over it: so the later end of time is by the server's clock.
"""

from __future__ import annotations

import logging
from typing import ClassVar, Self

import numpy as np
import trio
from pydantic import model_validator

from ebbtide import (
    Client,
    Context,
    Duration,
    Emit,
    FoldedLog,
    OptionError,
    PositiveDuration,
    ReceiveError,
    ServerUrl,
    option,
    safe_url,
    settle,
)
from receivers.health import Health
from receivers.limits import TooMuch
from receivers.match import QuerySelector, ranged
from receivers.matrix import Answer, Metrics
from receivers.metadata import Enquiry
from receivers.polling import PollingReceiver, ServerSettings, labels_of
from receivers.query_cursor import Cursor, Window, read_note, write_note
from receivers.query_expressions import Evaluation, Expression
from receivers.query_server import QueryServer, TooHeavy, TooSlow
from receivers.types import TypeBook
from receivers.window import WindowScrape

STALE_AFTER = 300 * 10**9
"""ns: a series that is missing for so long has ended (Prometheus' own look-back)."""
WORK_SHARE = 0.7
"""Of the interval: so long a poll begins to read further windows."""
_NOTICEABLE = 5_000  # ms: a clock so far ahead is worth a warning
LINKERD = ('{job="linkerd-proxy"}', '{job="linkerd-controller"}')
_MANY = 1000  # newcomers of a poll, after which the heap is settled
_MS = 10**6  # ns


class QuerySettings(ServerSettings):
    """Options of the `query` receiver."""

    url: ServerUrl = option(..., "Base URL of the Prometheus server; `/api/v1/query` is appended.")
    interval: PositiveDuration = option(
        "30s", "How often to poll. The first poll is immediate, later ones are aligned to it."
    )
    timeout: PositiveDuration = option("10s", "Deadline of each question to the server.")
    match: list[QuerySelector] | None = option(
        None,
        "Selectors whose raw samples are taken, all of them. Default: the two of Linkerd's documentation, or none where there "
        "are `queries`.",
        examples=[['{job="linkerd-proxy"}']],
    )
    queries: list[Expression] = option([], "Expressions to evaluate at each poll, as series of their own.")
    delay: Duration = option("15s", "How far behind the clock to read, so that what is read is complete.")
    backfill: Duration = option("6h", 'How much of the time since the last run is read at most; "0s": nothing.')
    chunk: PositiveDuration = option("5m", "Longest stretch of time of one question.")

    @model_validator(mode="after")
    def _has_something_to_read(self) -> Self:
        if not (self.selectors or self.queries):
            raise OptionError("nothing to read; name selectors here, or expressions in `queries`", "match")
        return self

    @property
    def selectors(self) -> list[str]:
        """What is taken raw."""
        if self.match is not None:
            return self.match
        return [] if self.queries else list(LINKERD)


class Query(PollingReceiver[QuerySettings]):
    """Reads raw samples, and evaluates expressions, by Prometheus' query API."""

    Settings: ClassVar[type[QuerySettings]] = QuerySettings
    waits: ClassVar[bool] = True

    def __init__(self, settings: QuerySettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        options = self.settings
        self._client: Client = options.client()
        self._server = QueryServer(
            self._client,
            options.url,
            options.timeout,
            options.max_body,
            sample_limit=options.sample_limit,
            now=self.context.now,
        )
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
        self._born = 0  # series that this poll saw first

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
        former = {one.expression: one for one in old._evaluations}
        self._evaluations = [former.get(one.expression, one) for one in self._evaluations]
        self._server.ahead = old._server.ahead
        if old._cursor is not None:
            self._cursor = old._cursor
            self._cursor.limit(self._chunk)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def poll(self, emit: Emit) -> None:
        """Read all up to now less `delay`, and evaluate the expressions; what fails does not keep the other from it."""
        began, samples = trio.current_time(), self.counts.samples
        self.counts.polls += 1
        self._born = 0
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
        """Read window after window, the oldest first, until all is read, the poll's time is over, or we are to leave.

        What an outage left is read up to an interval ago, as a hole; from there on as ever.
        """
        if not self._metrics:
            return
        if self._cursor is None:
            await self._greet()
        until, began, answered = self._until, trio.current_time(), False
        cursor = self._cursor = self._cursor or self._begin(until)
        edge = until - self._interval
        if cursor.end + self._interval >= edge:
            edge = cursor.end  # no more than a late poll
        while not self._left.is_set() and (window := cursor.next(edge) or cursor.next(until)) is not None:
            filling, started = window.end <= edge, trio.current_time()
            try:
                await self._read_on(emit, cursor, window, until, filling=filling)
                answered = True
            except TooHeavy as error:
                dead = isinstance(error, TooSlow) and not answered  # not one question of this poll was
                if not cursor.shrink(window) or dead or self._must_end(began):
                    raise
                self.context.log.debug("receivers.%s: %s; trying half of it", self.context.id, error)
                filling = True
            if self._must_end(began):
                return
            if filling:
                await self._rest(trio.current_time() - started)

    def _must_end(self, began: float) -> bool:
        """Whether a poll that began then is to read no further: somebody waits for it to end, or its time is over."""
        late = trio.current_time() - began >= WORK_SHARE * self.settings.interval
        return self._left.is_set() or (late and not self.context.once)

    async def _read_on(self, emit: Emit, cursor: Cursor, window: Window, until: int, *, filling: bool) -> None:
        """Read one window, and move the cursor."""
        samples = self.counts.samples
        held = await self._read(emit, window, live=window.end == until)
        cursor.advance(window, held)
        self._note(cursor)
        if filling:
            self.counts.backfilled += self.counts.samples - samples

    @property
    def _interval(self) -> int:
        return round(self.settings.interval * 1000)  # ms

    @property
    def _chunk(self) -> int:
        return round(self.settings.chunk * 1000)  # ms

    @property
    def _until(self) -> int:
        """Up to when samples are complete, in ms."""
        if self._server.ahead > _NOTICEABLE:
            self._log(
                logging.WARNING, "clock", "receivers.%s: the clock here is %.0f s ahead of the server's: what is read ends by "
                "the server's; set both by NTP", self.context.id, self._server.ahead / 1000,
            )  # fmt: skip
        return self.context.now() // _MS - self._server.ahead - round(self.settings.delay * 1000)

    async def _greet(self) -> None:
        version = await self._server.greet()
        if version:
            self.context.log.debug("receivers.%s: the server is Prometheus %s", self.context.id, version)

    def _begin(self, until: int) -> Cursor:
        """Begin where the last run stopped, as far back as `backfill` allows; else an interval ago."""
        end, kept = until - self._interval, self._kept()
        now = self.context.now() // _MS
        if kept is not None and kept > now:
            self.context.log.warning(
                "receivers.%s: cannot go on where the last run stopped: by the clock that is yet to come; beginning anew",
                self.context.id,
            )  # fmt: skip
        elif kept is not None and self.settings.backfill:
            oldest = now - round(self.settings.backfill * 1000)
            end = max(kept, oldest)
            if kept < oldest:
                self.context.log.warning(
                    "receivers.%s: the last run read up to %.0f s ago, `backfill` goes back %.0f s: what lies between is not read; raise it",
                    self.context.id, (now - kept) / 1000, self.settings.backfill,
                )  # fmt: skip
        self.counts.read_until = end / 1000
        return Cursor(end, self._chunk)

    def _kept(self) -> int | None:
        """Return where the last run stopped, in ms; None where nothing is known of it."""
        checkpoint = self.context.checkpoint
        try:
            note = checkpoint.load() if checkpoint is not None else None
            return None if note is None else read_note(note, safe_url(self.settings.url))
        except (OSError, ValueError) as error:
            self.context.log.warning(
                "receivers.%s: cannot go on where the last run stopped: %s; beginning anew", self.context.id, error
            )
            return None

    def _note(self, cursor: Cursor) -> None:
        self.counts.read_until = cursor.end / 1000
        if self.context.checkpoint is not None:
            self.context.checkpoint.save(write_note(cursor.end, safe_url(self.settings.url)))

    async def _rest(self, seconds: float) -> None:
        """Leave the server to others for as long as it worked for us."""
        with trio.move_on_after(seconds):
            await self._left.wait()

    async def _read(self, emit: Emit, window: Window, *, live: bool) -> int:
        """Read one window and hand it on; return how many samples came. Until all of it has come nothing of it counts.

        Handing on is not interrupted: half a window would be read again, and be delivered twice.
        """
        try:
            answers: list[Answer] = []
            for selector in self._metrics:
                answers.append(await self._ask(selector, window, sum(answer.weight for answer in answers)))
            born = self._scrape.newcomers
            if born:
                await self._enquiry.about(self._scrape)
        except BaseException as error:
            self._scrape.forget_newcomers()
            for metrics in self._metrics.values():
                metrics.forget()
            if isinstance(error, TooMuch):
                raise ReceiveError(f"cannot take the answer of {safe_url(self.settings.url)}: {error}") from error
            raise
        self._born += born
        slots = np.concatenate([answer.slots for answer in answers])
        values = np.concatenate([answer.values for answer in answers])
        times = np.concatenate([answer.times for answer in answers]) * _MS
        natives = [native for answer in answers for native in answer.natives]
        del answers
        with trio.CancelScope(shield=True):
            for batch in self._scrape.take_window(slots, values, times, window, natives, live=live):
                await emit(batch)
        if born > _MANY:
            settle()
        return len(slots) + len(natives)

    async def _ask(self, selector: str, window: Window, beside: int) -> Answer:
        """Ask for the window's samples of one selector, and a millisecond more: see the strategy above."""
        length = window.end - window.seen_from + 1
        answer = await self._server.ask(ranged(selector, length), window.end, self._metrics[selector], beside=beside)
        if answer.result_type != "matrix":
            raise ReceiveError(
                f"cannot use what {safe_url(self.settings.url)} answers to {selector!r}: a {answer.result_type[:40]!r} is no "
                "list of raw samples; write plain selectors in `match`"
            )
        self._tell(answer.notes)
        return answer

    # -- expressions --------------------------------------------------------------------------------------------------

    async def _evaluate(self, emit: Emit) -> None:
        """Evaluate every expression; one that fails does not keep the others from it."""
        failures = []
        for evaluation in self._evaluations:
            now = self.context.now() // _MS - self._server.ahead
            try:
                answer = await self._server.ask(evaluation.expression.query, now, evaluation.metrics)
                self._tell(answer.notes)
                batches = evaluation.take(answer, now)
            except BaseException as error:
                evaluation.forget_newcomers()
                if not isinstance(error, ReceiveError):
                    raise
                failures.append(f"{evaluation.expression.name}: {error}")
                continue
            with trio.CancelScope(shield=True):
                for batch in batches:
                    await emit(batch)
            self._tell_of_fractions(evaluation)
        if failures:
            raise ReceiveError("; ".join(failures))

    def _tell_of_fractions(self, evaluation: Evaluation) -> None:
        if evaluation.fractional:
            self._log(
                logging.WARNING, "fractions", "receivers.%s: cannot pass on the histograms of query %s: their counts are no "
                "whole numbers, and OTLP has no form for those; ask for histogram_quantile, histogram_count or histogram_sum "
                "of them", self.context.id, evaluation.expression.name,
            )  # fmt: skip

    def _tell(self, notes: list[str]) -> None:
        """Log the server's warnings, each new one once."""
        for note in notes:
            self._log(logging.WARNING, "notes", "receivers.%s: the server warns: %s", self.context.id, note[:300])

    async def _report(self, emit: Emit, *, up: bool, seconds: float, samples: int) -> None:
        if self.settings.scrape_metrics:
            batch = self._health.batch(
                self.context.now(), up=up, seconds=seconds, samples=samples, left=samples, added=self._born
            )
            self.counts.added["scrape"] += len(batch)
            await emit(batch)
