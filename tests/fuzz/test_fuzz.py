"""A short run of the fuzzer; `make fuzz` is a long one. And: the fuzzer finds what it is there to find."""

from __future__ import annotations

import itertools

import pytest

from tests.fuzz.__main__ import every_target
from tests.fuzz.run import Target, fuzz, inputs, tried

_SECONDS, _INPUTS = 5.0, 120
_SEEDS = (b"a 1\n", b"b 2\n")


@pytest.mark.parametrize("target", every_target(), ids=lambda target: target.name)
def test_damaged_inputs(target: Target) -> None:
    count, findings = fuzz(target, seed=1, seconds=_SECONDS, most=_INPUTS)
    assert count > len(target.seeds)
    assert not findings, "\n".join(map(str, findings))


@pytest.mark.parametrize("target", every_target(), ids=lambda target: target.name)
def test_seeds_are_good(target: Target) -> None:
    for seed in target.seeds:
        target.parse(seed)


def test_what_is_not_declared_is_found() -> None:
    def fails(data: bytes) -> None:
        raise KeyError("key") if data.startswith(b"b") else ValueError

    target = Target("fails", fails, _SEEDS, (ValueError,))
    _, findings = fuzz(target, seed=1, seconds=5, most=100)
    assert [finding.what for finding in findings] == ["raises KeyError: 'key'"]


def test_memory_and_time_are_found() -> None:
    grows = Target("grows", lambda data: bytearray(80 << 20), _SEEDS, ())
    found = tried(grows, b"", weighed=True)
    assert found is not None
    assert found.what == "takes 80 MiB"
    slow = Target("slow", lambda data: sum(range(10**8)), _SEEDS, ())
    found = tried(slow, b"", weighed=False)
    assert found is not None
    assert found.what.startswith("takes ")


def test_a_seed_gives_the_same_inputs_again() -> None:
    target = Target("none", len, _SEEDS, ())
    first, again, other = ([*itertools.islice(inputs(target, seed), 50)] for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) > 40
