"""Every promise that a plugin makes, tried by the kit that ebbtide's own plugins run."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from ebbtide_example.loadavg import LoadAverage
from ebbtide_example.no_gauge import NoGauge
from ebbtide_example.round import Round
from ebbtide_example.statsd import Statsd

from agent.testing import Mood, conformance


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /proc/loadavg in each mood, in the folder in which the tests run."""
    (tmp_path / "well").write_text("0.52 0.58 0.59 1/467 12345\n")
    (tmp_path / "failing").write_text("what?\n")
    monkeypatch.chdir(tmp_path)


async def machine(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any] | None:
    """Name the file of this mood; a file cannot be silent."""
    return None if mood == "silent" else {"path": mood, "interval": "50ms"}


async def statsd(nursery: trio.Nursery, mood: Mood) -> Mapping[str, Any] | None:
    """A socket that takes datagrams, or an address that the system refuses. UDP has no answers to wait for."""
    if mood == "silent":
        return None
    if mood == "failing":
        return {"address": "255.255.255.255:8125"}
    listener = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await listener.bind(("127.0.0.1", 0))

    async def listen() -> None:
        with listener:
            while True:
                await listener.recv(65536)

    nursery.start_soon(listen)
    return {"address": f"127.0.0.1:{listener.getsockname()[1]}"}


test_no_gauge = conformance(NoGauge)
test_round = conformance(Round)
test_round_some = conformance(Round, {"digits": 0, "names": ["g", "up"]})
test_loadavg = conformance(LoadAverage, peer=machine)
test_statsd = conformance(Statsd, peer=statsd, read=bytes.splitlines)
