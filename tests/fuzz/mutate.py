"""Damaging inputs: small steps from something good, so that what is reached lies deep in a parser."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

MOST_BYTES = 64 << 10
"""Size of a mutated input at most: large enough for what is quadratic to take seconds."""

_STEPS = 6  # mutations of one input at most
_WORDS = (
    *(b"{", b"}", b'"', b"\\", b"\n", b" ", b"#", b",", b"=", b"[", b"]", b"\x00", b"\xff", b"\r\n", b"\xc3\xa9"),
    *(b"NaN", b"+Inf", b"-1", b"1e999", b"1e-400", b"0x1p-3", b"1_0", b"9" * 400, b"18446744073709551616", b"0.0"),
    *(b"# EOF\n", b"# TYPE a counter\n", b'le="+Inf"', b'{"a"}', b"_created", b"__name__", b" # {", b'"result":['),
    *(b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x80", b"\x0a\x00", b"\x7f", b"null", b'"\\ud800"'),
)

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds, damaged."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, _STEPS)):
        rng.choice(_MUTATIONS)(rng, data, seeds)
    return bytes(data[:MOST_BYTES])


def _span(rng: random.Random, data: bytes | bytearray) -> slice:
    start = rng.randint(0, len(data))
    return slice(start, min(len(data), start + rng.choice((1, 2, 4, 8, 32, 256))))


def _flip(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 10, 34, 127, 128, 255, rng.randrange(256)))


def _insert(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.choice(_WORDS)


def _replace(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    data[_span(rng, data)] = rng.choice(_WORDS)


def _delete(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    del data[_span(rng, data)]


def _cut(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    del data[rng.randint(0, len(data)) :]


def _splice(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    data[_span(rng, data)] = other[_span(rng, other)]


def _repeat(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Much of the same: what costs more than linear time or memory shows."""
    if rng.random() < 0.2:
        span = _span(rng, data)
        part = data[span] or b"a"
        data[span] = part * (rng.choice((10, 1000, MOST_BYTES)) // len(part) + 1)
        del data[MOST_BYTES:]


_MUTATIONS: tuple[Mutation, ...] = (_flip, _set, _insert, _replace, _delete, _cut, _splice, _repeat)
