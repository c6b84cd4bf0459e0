"""Running parsers on damaged inputs, and watching time, memory and exceptions."""

from __future__ import annotations

import random
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from tests.fuzz.mutate import mutated

MOST_SECONDS = 1.0
"""CPU that one input may take."""
MOST_MEMORY = 64 << 20
"""Bytes beyond the input that Python's and numpy's objects may take."""
_HANG = 20.0  # s after which an input is given up
_WEIGHED = 16  # one of so many inputs is run again with memory watched: that is some times slower


@dataclass(frozen=True)
class Target:
    """A parser. ``declared`` are the exceptions that say that an input is bad; any other is a bug."""

    name: str
    parse: Callable[[bytes], object]
    seeds: Sequence[bytes]
    declared: tuple[type[Exception], ...]


@dataclass(frozen=True)
class Finding:
    """An input on which a target misbehaves, and how."""

    target: str
    what: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.target}: {self.what}, on {len(self.data)} bytes: {self.data[:300]!r}"


class Hangs(BaseException):
    """An input takes so long that it is given up. No parser catches it."""


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """Walk inputs without end: the seeds as they are, then damaged ones. The same for the same seed."""
    yield from target.seeds
    rng = random.Random(f"{target.name} {seed}")
    while True:
        yield mutated(rng, target.seeds)


def tried(target: Target, data: bytes, *, weighed: bool) -> Finding | None:
    """Run a parser on an input; return what is wrong with it."""
    if weighed:
        tracemalloc.start()
    began = time.process_time()
    try:
        with _deadline(_HANG):
            target.parse(data)
    except target.declared:
        pass
    except Hangs:
        return Finding(target.name, f"hangs for {_HANG} s", data)
    except Exception as error:  # noqa: BLE001 - whatever is not declared is what is looked for
        return Finding(target.name, f"raises {type(error).__name__}: {error}", data)
    finally:
        spent = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1] if weighed else 0
        if weighed:
            tracemalloc.stop()
    if not weighed and spent > MOST_SECONDS:
        return Finding(target.name, f"takes {spent:.1f} s", data)
    if peak > MOST_MEMORY + len(data):
        return Finding(target.name, f"takes {peak >> 20} MiB", data)
    return None


def fuzz(target: Target, seed: int, *, seconds: float, most: int) -> tuple[int, list[Finding]]:
    """Try inputs for so long, and at most so many; return how many there were, and one finding of each kind."""
    findings: dict[str, Finding] = {}
    ends, count = time.monotonic() + seconds, 0
    for data in inputs(target, seed):
        if count >= most or time.monotonic() > ends:
            break
        count += 1
        found = tried(target, data, weighed=False)
        if found is None and count % _WEIGHED == 0:
            found = tried(target, data, weighed=True)
        if found is not None:
            findings.setdefault(found.what[:40], found)
    return count, list(findings.values())


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> NoReturn:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    rest, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    began = time.monotonic()
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, max(rest - (time.monotonic() - began), 0.001) if rest else 0)
