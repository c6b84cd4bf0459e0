"""Numbers out of the clock: every counter and gauge of the mesh at any moment, past or present, without storing any.

Strategy. Nothing is counted. A *driver* is a number that follows from the time by a formula (requests so far, failures
so far, uptime); a row of a page is a driver times a factor plus an offset, rounded down where the row holds a count.
All formulas of the mesh are evaluated at once with numpy, for as many moments as are asked for, so hours of history
cost nothing until somebody reads them, and the same seed gives the same numbers at the same time.

Counts never fall but where a real one would: a *process* restarts, and a series that was idle for longer than the
proxy retains it comes back from zero. Both are periodic in time. Requests split into good and bad by another formula
of their number, so the parts always add up to the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

ALWAYS = 1e12
"""A period, in seconds, longer than anything that is ever asked for."""
ONE = 0
"""The driver that is always 1."""

_PER_PROCESS = ("uptime", "start", "clock", "wave", "up")
_PER_STREAM = ("total", "good", "bad")


@dataclass(frozen=True, slots=True)
class Process:
    """One process: it restarts every ``period`` seconds (at ``phase``) and is then unreachable for ``down`` seconds."""

    period: float = ALWAYS
    phase: float = 0.0
    down: float = 0.0
    wave: float = 1800.0


@dataclass(frozen=True, slots=True)
class Life:
    """When a group of series is there: from the first activity of its process, or of its window, as long as retained.

    Activity lasts ``active`` seconds out of every ``period``, from ``phase`` on. Where ``retain`` is given, the series
    vanish that many seconds after it ended, and begin again from zero; else they stay until the process restarts.
    """

    process: int
    period: float = ALWAYS
    active: float = ALWAYS
    phase: float = 0.0
    retain: float | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests (or connections) of one life: ``rate`` a second on average, swinging, some of them failing.

    ``bad_share`` of the last ``bad_length`` of every ``bad_every`` requests fail.
    """

    life: int
    rate: float
    swing: float = 0.4
    wave: float = 900.0
    bad_every: int = 1000
    bad_length: int = 0
    bad_share: float = 0.0


@dataclass(slots=True)
class Moments:
    """The mesh at some moments: ``drivers`` (drivers, moments) and which lives are there, ``alive`` (lives, moments)."""

    drivers: Floats
    alive: Bools


@dataclass(slots=True)
class Traffic:
    """All processes, lives and streams, added one by one, evaluated all at once."""

    processes: list[Process] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    _columns: _Columns | None = None

    def process(self, process: Process) -> int:
        """Add a process; return its index."""
        self.processes.append(process)
        return len(self.processes) - 1

    def life(self, life: Life) -> int:
        """Add a life; return its index."""
        self.lives.append(life)
        return len(self.lives) - 1

    def stream(self, stream: Stream) -> StreamDrivers:
        """Add a stream; return where its numbers will be."""
        self.streams.append(stream)
        return StreamDrivers(len(self.streams) - 1)

    def resolve(self, driver: Driver) -> int:
        """Return the row of ``Moments.drivers`` that holds a driver, once all are added."""
        if isinstance(driver, int):
            return driver
        block, index = driver
        if block in _PER_PROCESS:
            return 1 + _PER_PROCESS.index(block) * len(self.processes) + index
        first = 1 + len(_PER_PROCESS) * len(self.processes)
        return first + _PER_STREAM.index(block) * len(self.streams) + index

    def at(self, times: Floats) -> Moments:
        """Evaluate at ``times`` (processes, moments): each process has its own, in seconds since the epoch."""
        if self._columns is None:
            self._columns = _Columns(self)
        return self._columns.at(times)


Driver = int | tuple[str, int]
"""``ONE``, or the name of a number and whose it is: ("uptime", process) or ("total", stream)."""


@dataclass(frozen=True, slots=True)
class StreamDrivers:
    """The three numbers of a stream."""

    index: int

    @property
    def total(self) -> Driver:
        """All requests so far."""
        return ("total", self.index)

    @property
    def good(self) -> Driver:
        """Those that went well."""
        return ("good", self.index)

    @property
    def bad(self) -> Driver:
        """Those that failed."""
        return ("bad", self.index)


def _column(items: list[float]) -> Floats:
    return np.array(items, np.float64)[:, None]


class _Columns:
    """The formulas, as columns."""

    def __init__(self, traffic: Traffic) -> None:
        processes, lives, streams = traffic.processes, traffic.lives, traffic.streams
        self.process_period = _column([p.period for p in processes])
        self.process_phase = _column([p.phase for p in processes])
        self.down = _column([p.down for p in processes])
        self.process_wave = _column([p.wave for p in processes])
        self.process_of = np.array([life.process for life in lives], np.intp)
        self.period = _column([life.period for life in lives])
        self.active = _column([life.active for life in lives])
        self.phase = _column([life.phase for life in lives])
        self.retain = _column([ALWAYS if life.retain is None else life.retain for life in lives])
        self.expires = np.array([life.retain is not None for life in lives], np.bool_)[:, None]
        self.life_of = np.array([stream.life for stream in streams], np.intp)
        self.rate = _column([stream.rate for stream in streams])
        self.swing = _column([stream.swing for stream in streams])
        self.wave = _column([stream.wave for stream in streams])
        self.bad_every = _column([stream.bad_every for stream in streams])
        self.bad_length = _column([stream.bad_length for stream in streams])
        self.bad_share = _column([stream.bad_share for stream in streams])

    def at(self, times: Floats) -> Moments:
        start = np.floor((times - self.process_phase) / self.process_period) * self.process_period + self.process_phase
        up = times - start >= self.down
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * times / self.process_wave + self.process_phase)
        now, born = times[self.process_of], (start + self.down)[self.process_of]
        window = np.floor((now - self.phase) / self.period) * self.period + self.phase
        epoch = np.where(self.expires, np.maximum(window, born), born)
        lately = (born <= window + self.active) & (now - window <= self.active + self.retain)
        alive = np.where(self.expires, lately, self._worked(now) > self._worked(born))
        total = np.floor(self._requests(now) - self._requests(epoch))
        bad = self._bad(total)
        one = np.ones((1, times.shape[1]))
        uptime = np.maximum(times - start - self.down, 0.0)
        drivers = np.concatenate([one, uptime, start + self.down, times, wave, up, total, total - bad, bad])
        return Moments(drivers, alive & up[self.process_of])

    def _worked(self, times: Floats) -> Floats:
        since = times - self.phase
        windows = np.floor(since / self.period)
        return windows * self.active + np.minimum(since - windows * self.period, self.active)

    def _requests(self, times: Floats) -> Floats:
        worked = self._worked(times)[self.life_of]
        omega = 2 * np.pi / self.wave
        requests: Floats = self.rate * (worked + self.swing / omega * (1 - np.cos(omega * worked)))
        return requests

    def _bad(self, total: Floats) -> Floats:
        rounds = np.floor(total / self.bad_every)
        late = np.maximum(total - rounds * self.bad_every - (self.bad_every - self.bad_length), 0.0)
        bad: Floats = rounds * np.floor(self.bad_length * self.bad_share) + np.floor(late * self.bad_share)
        return bad
