"""The limit on open files is raised as far as need be, and as it may be."""

from __future__ import annotations

import math
import resource

import pytest

from agent.files import allow_files, most_kept


@pytest.mark.parametrize(
    ("connections", "limits", "expected"),
    [
        (10, (1024, 4096), None),
        (2000, (1024, 4096), (2512, 4096)),
        (100_000, (1024, 4096), (4096, 4096)),
        (100_000, (1024, resource.RLIM_INFINITY), (100_512, resource.RLIM_INFINITY)),
        (100_000, (resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_it_is_raised_where_it_is_too_low(
    monkeypatch: pytest.MonkeyPatch, connections: int, limits: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    allow_files(connections)
    assert raised == ([] if expected is None else [expected])


@pytest.mark.parametrize(("limit", "kept"), [(64, 32), (256, 128), (1024, 896), (resource.RLIM_INFINITY, math.inf)])
def test_how_many_connections_are_kept(limit: int, kept: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    assert most_kept() == kept
