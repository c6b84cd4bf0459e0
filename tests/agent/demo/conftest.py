"""One small mesh for all tests of the demo, and a careful reader of its pages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from agent.demo.mesh import Mesh, MeshOptions
from agent.demo.storage import Storage

ORIGIN = 1_800_000_000.0


@dataclass
class ReadFamily:
    """One family of a page: its # lines, and its samples in order as (name, label pairs, number as text)."""

    meta: dict[str, str] = field(default_factory=dict)
    samples: list[tuple[str, tuple[tuple[str, str], ...], str]] = field(default_factory=list)


def _read(text: str) -> dict[str, ReadFamily]:
    families: dict[str, ReadFamily] = {}
    current = ReadFamily()
    for line in text.splitlines():
        if line == "# EOF":
            continue
        if line.startswith("# "):
            _, key, name, rest = line.split(" ", 3)
            current = families.setdefault(name, ReadFamily())
            assert key not in current.meta, line
            current.meta[key] = rest
        else:
            match = re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)", line)
            assert match, line
            pairs = re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"]*)"(?:,|$)', match[2] or "")
            assert ",".join(f'{key}="{value}"' for key, value in pairs) == (match[2] or ""), line
            current.samples.append((match[1], tuple(pairs), match[3]))
    return families


@pytest.fixture(scope="session")
def read_page():
    """Read a page into its families; fails on any line that is not well formed."""
    return _read


@pytest.fixture(scope="session")
def origin() -> float:
    return ORIGIN


@pytest.fixture(scope="session")
def mesh() -> Mesh:
    return Mesh(MeshOptions(proxies=13, routes=2, seed=1, origin=ORIGIN))


@pytest.fixture(scope="session")
def storage(mesh: Mesh) -> Storage:
    return Storage(mesh, ORIGIN, history=3600.0)
