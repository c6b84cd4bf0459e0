"""The three kinds of plugin, from the weakest to the most able. Take the weakest that fits.

A plugin is a class named by an entry point. Its ``Settings`` (a pydantic model, one field with help per option) is
what an operator may write; the frame validates it and makes the plugin with ``cls(settings, context)``. Everything
between the two sockets is synchronous: only receivers and exporters do IO.
"""

from __future__ import annotations

import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import trio

from agent.batch import Batch, Floats, Ints, Row
from agent.collisions import Collisions
from agent.identity import Owner
from agent.ledger import ExporterCounts, ProcessorCounts, ReceiverCounts
from agent.planning import Plan, Planner
from agent.recording import Recording
from agent.series import Series, SeriesTable
from agent.settings import Settings

Emit = Callable[[Batch], Awaitable[None]]


class ConfigError(Exception):
    """Raised by a plugin's constructor: the options cannot work together. Said before anything starts; exit status 78."""

    def __init__(self, message: str, option: str = ""):
        super().__init__(message)
        self.option = option  # the option's name inside the component's table, for the line number


class ReceiveError(Exception):
    """That poll is lost: ``up`` is 0, it is counted, and logged once with a count of its repeats."""


class Retry(Exception):
    """Raised by ``Exporter.send``: not now. ``after`` is the wait in seconds that the destination asked for, if any."""

    def __init__(self, after: float | None = None, reason: str = ""):
        super().__init__(reason or "the destination asks to try again")
        self.after = after


class Rejected(Exception):
    """Raised by ``Exporter.send``: never again with the same data.

    ``points`` None: the whole request was refused (dropped as ``rejected``). A number: the destination took the
    request but refused so many of its points (partial success).
    """

    def __init__(self, points: int | None = None, reason: str = ""):
        super().__init__(reason or "the destination refused the data")
        self.points = points


class TooLarge(Exception):
    """Raised by ``Exporter.send``: the destination would take less at once. The outbox halves the cut and sends again."""


class Partly(Exception):
    """Raised by ``Exporter.send``: the destination took a part of the request, for good.

    ``rest`` is unsealed and comes next, at once or, where ``retry`` says why, after a back-off; None: nothing is left.
    ``refused`` counts the samples that will never be taken, by reason, and ``refused_points`` their points. All that is
    neither left nor refused was taken.
    """

    def __init__(
        self,
        rest: Payload | None,
        *,
        refused: Mapping[str, int] | None = None,
        refused_points: int = 0,
        retry: Retry | None = None,
    ):
        super().__init__(str(retry) if retry else "the destination took a part of the request")
        self.rest = rest
        self.refused = dict(refused or {})
        self.refused_points = refused_points
        self.retry = retry


class ClosedOutput(Exception):
    """Raised by ``Exporter.send``: nobody reads any more (a closed pipe). The agent ends, quietly and well."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Encoded points on their way out. ``key`` names the resource (b"" for several), ``samples`` and ``points`` count."""

    key: bytes
    body: bytes
    points: int
    samples: int


class Keeper(Protocol):
    """Where a receiver keeps what it must know again after a restart (``agent.checkpoint``)."""

    def load(self) -> bytes | None:
        """Return the note that was written last; None where there is none. Raises OSError where it cannot be read."""

    def save(self, note: bytes) -> None:
        """Let this note be written once all that was emitted before is delivered. Raises ValueError for one too long."""


def _no_counts() -> Any:
    return None


@dataclass(slots=True)
class Context:
    """What the frame hands to a plugin: its id, its counts (of its kind), a log, the wall clock in ns.

    ``checkpoint`` is there for a receiver where something is kept on disk; it may come and go with a reload.
    """

    id: str
    counts: Any = field(default_factory=_no_counts)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("ebbtide"))
    now: Callable[[], int] = time.time_ns
    once: bool = False
    checkpoint: Keeper | None = None


S = TypeVar("S", bound=Settings)


class Component(Generic[S]):
    """What all plugins share. A plugin without options keeps the empty ``Settings`` given here."""

    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: S | None = None, context: Context | None = None):
        self.settings: S = settings if settings is not None else self.Settings()  # type: ignore[assignment]
        self.context = context or Context(id=type(self).__name__.lower())

    def inherit(self, old: Self) -> None:
        """Take over what ``old`` remembers, which has stopped: a reload gave this component of the same type other options.

        The ledger's counts, and what an outbox holds, stay whatever is done here.
        """


class Receiver(Component[S], ABC):
    """Where batches come from. ``waits``: its source can wait, so a full queue is let hold it up whatever is set."""

    waits: ClassVar[bool] = False

    @property
    def counts(self) -> ReceiverCounts:
        """The receiver's line of the ledger; ``out`` is the pipeline's to count."""
        if self.context.counts is None:
            self.context.counts = ReceiverCounts()
        return self.context.counts  # type: ignore[no-any-return]

    async def open(self, before: Receiver[Any] | None = None) -> None:
        """Take what must be had before anything starts, such as a port; of the receiver ``before``, which a reload replaces.

        Raises ReceiveError: then the agent does not start, or the reload changes nothing. ``run`` may come without it.
        """

    def close(self) -> None:
        """Let go of what ``open`` took: it was in vain, and ``run`` will not come."""

    @abstractmethod
    async def run(self, emit: Emit) -> None:
        """Receive until cancelled. ``await emit(batch)`` returns once every outbox has taken custody of the batch."""

    async def once(self, emit: Emit) -> None:
        """Poll exactly once. Receivers that are spoken to, rather than ask, cannot and say so before anything starts."""
        raise ConfigError(f"cannot run {self.context.id} once: it does not poll")

    def leave(self) -> bool:
        """Asked when a reload replaces or removes the receiver: return from ``run`` once what is under way is emitted.

        Returns whether it will; one that will not, or takes too long, is cancelled.
        """
        return False

    async def record(self) -> Recording:
        """Poll once, and return what was answered instead of emitting it. Raises ReceiveError where the poll is lost."""
        raise ConfigError(f"cannot record a page of {self.context.id}: receivers of its type save none")

    async def replay(self, recording: Recording, emit: Emit) -> None:
        """Read a saved poll as if it had just come; opens no connection. Raises ReceiveError where it cannot be read."""
        raise ConfigError(f"cannot read a saved page with {self.context.id}: receivers of its type take none")

    @property
    def polls(self) -> bool:
        """Whether ``once`` can be asked of this receiver."""
        return type(self).once is not Receiver.once


class Processor(Component[S], ABC):
    """What a batch passes through: synchronous, and pure towards its input."""

    @property
    def counts(self) -> ProcessorCounts:
        """The processor's line of the ledger. The frame counts rows in and out; say here why rows were dropped."""
        if self.context.counts is None:
            self.context.counts = ProcessorCounts()
        return self.context.counts  # type: ignore[no-any-return]

    @abstractmethod
    def process(self, batch: Batch) -> Batch | None:
        """Return what is to go on, or None for nothing. Rows that vanish uncounted are counted as ``filtered``."""

    def flush(self, now: int) -> Batch | None:
        """Return what was held back, at the wall time ``now`` in ns. Only for processors that work over time."""
        return None


class SeriesProcessor(Processor[S]):
    """Looks at identity only. What it answers is remembered per series and per table: a steady form costs nothing.

    The answer may depend on the series and the settings alone, on nothing that changes.
    """

    drop_reason: ClassVar[str] = "filtered"

    @abstractmethod
    def map_series(self, series: Series) -> Series | None:
        """Return the series under its new identity, or None to drop it."""

    def blame(self, one: Series, other: Series) -> str:
        """Name the part of the settings that makes two series equal, such as a rule, for the warning; "" for the whole."""
        return ""

    @property
    def owner(self) -> Owner:
        """The key of what is remembered: equal for equal settings, so that a reload loses nothing."""
        owner: Owner | None = self.__dict__.get("_owner")
        if owner is None:
            cls = type(self)
            owner = self.__dict__["_owner"] = Owner.of(
                cls.__module__, cls.__qualname__, self.settings.model_dump_json()
            )
        return owner

    def process(self, batch: Batch) -> Batch | None:
        """Apply ``map_series`` to every row; of rows that become one identity, in batches that came together, the first stays."""
        plan = batch.table.derive(self.owner, self._plan)
        if batch.together is not None:
            plan = self._collisions.first(batch.together, batch.table, plan, self._warn_of_collisions)
        for reason, rows in plan.dropped:
            self.counts.dropped[reason] += rows
        if plan.rows is not None:
            return batch.take(plan.rows, plan.table) if len(plan.rows) else None
        return batch if plan.table is None else batch.but(table=plan.table)

    def _plan(self, table: SeriesTable) -> Plan:
        return Planner(self.owner, self.map_series, self.drop_reason, self._warn_of_collisions).make(table)

    @property
    def _collisions(self) -> Collisions:
        collisions: Collisions | None = self.__dict__.get("_known_collisions")
        if collisions is None:
            collisions = self.__dict__["_known_collisions"] = Collisions()
        return collisions

    def _warn_of_collisions(self, rows: int, one: Series, other: Series, both: Series) -> None:
        """Warn once for each part of the settings that can be blamed; later ones are only counted."""
        blamed = self.blame(one, other)
        known: set[str] = self.__dict__.setdefault("_blamed", set())
        if blamed not in known:
            known.add(blamed)
            self.context.log.warning(
                "processor %s%s makes %d series equal to others (first: %s and %s both become %s); the first of each is kept",
                self.context.id, f" ({blamed})" if blamed else "", rows, one, other, both,
            )  # fmt: skip


class ValueProcessor(Processor[S]):
    """Looks at numbers, vectorised: ``wants`` chooses the rows once per form, ``map_values`` works on their columns."""

    @abstractmethod
    def wants(self, series: Series) -> bool:
        """Tell whether the values of this series are to be mapped."""

    @abstractmethod
    def map_values(self, values: Floats, times: Ints) -> Floats:
        """Return the new values of the wanted rows (same length)."""

    def process(self, batch: Batch) -> Batch | None:
        """Replace the values of the wanted rows; rows that end a stream, and native histograms, are left alone."""
        rows = batch.table.derive(self, self._wanted)
        if batch.stale is not None:
            rows = rows[~batch.stale[rows]]
        if batch.extras is not None:
            rows = rows[~np.isin(rows, batch.native_rows)]
        if not len(rows):
            return batch
        values = batch.values.copy()
        values[rows] = self.map_values(batch.values[rows], batch.times[rows])
        return batch.but(values=values)

    def _wanted(self, table: SeriesTable) -> npt.NDArray[np.intp]:
        return np.array([row for row, series in enumerate(table) if self.wants(series)], np.intp)


class RowProcessor(Processor[S]):
    """Anything, one row at a time: the easy one, and a hundred times dearer than the others.

    A row's extra goes where it goes, also where ``map_row`` makes a row without; one that is to lose it gets ``Extra()``.
    """

    @abstractmethod
    def map_row(self, row: Row) -> Row | None:
        """Return the row as it is to go on, or None to drop it."""

    def process(self, batch: Batch) -> Batch | None:
        """Apply ``map_row`` to every row."""
        rows = [mapped.keeping(row.extra) for row in batch.rows() if (mapped := self.map_row(row)) is not None]
        return Batch.of(rows) if rows else None


class Exporter(Component[S], trio.abc.AsyncResource):
    """Where batches go. ``encode`` makes payloads, an outbox joins and seals them, ``send`` sends one request.

    After a reload with other options, what the former exporter of the same type encoded is sealed and sent by the new one.
    """

    @property
    def counts(self) -> ExporterCounts:
        """The exporter's line of the ledger; the outbox counts all but what ``encode`` itself drops."""
        if self.context.counts is None:
            self.context.counts = ExporterCounts()
        return self.context.counts  # type: ignore[no-any-return]

    max_payload: int = sys.maxsize
    """Bytes of the largest payload that the outbox need not ``cut``, told before each ``encode``, which may make use of it."""

    @abstractmethod
    def encode(self, batch: Batch) -> Iterable[Payload]:
        """Return the batch as payloads. Samples it cannot encode it counts in ``counts.dropped`` by reason."""

    @property
    def max_request(self) -> int:
        """Bytes of the largest request before compression, a bound over ``batch.max_bytes``; none unless overridden."""
        return sys.maxsize

    def join(self, bodies: list[bytes]) -> bytes:
        """Make one body of several, in order. Right as it is for protobuf requests, which concatenate."""
        return b"".join(bodies)

    def seal(self, body: bytes) -> bytes:
        """Return the body in the form in which it will be sent and held: compressed, once."""
        return body

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut an unsealed payload into pieces of at most ``max_bytes``, in order, samples and points adding up.

        What cannot be cut further comes back as one piece, larger than asked for; the outbox drops it as ``too_large``.
        """
        return [payload]

    def unseal(self, body: bytes) -> bytes:
        """Undo ``seal``, so that a request that proved too large can be cut."""
        return body

    @abstractmethod
    async def send(self, payload: Payload) -> None:
        """Send one sealed payload as one request.

        Raises ``Retry``, ``Rejected`` or ``TooLarge`` where it is not taken, ``Partly`` where some of it is.
        """

    async def aclose(self) -> None:
        """Let go of connections."""
