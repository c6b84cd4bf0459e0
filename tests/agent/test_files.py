"""The limit on open files is raised as far as need be, and as it may be."""

from __future__ import annotations

import resource

import pytest

from agent.files import allow_files


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
