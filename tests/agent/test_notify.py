"""What systemd hears, over a socket of the kind that it uses."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from agent.notify import keep_watchdog, notify, reloading, watchdog_interval


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def test_states_arrive(manager: socket.socket) -> None:
    notify("READY=1", {"NOTIFY_SOCKET": manager.getsockname()})
    assert manager.recv(100) == b"READY=1"


def test_a_reload_is_told_with_its_time(manager: socket.socket) -> None:
    reloading({"NOTIFY_SOCKET": manager.getsockname()})
    state, _, when = manager.recv(100).decode().partition("\n")
    assert state == "RELOADING=1"
    assert 0 < int(when.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_an_abstract_socket_is_meant_by_an_at_sign() -> None:
    name = f"ebbtide-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        notify("STOPPING=1", {"NOTIFY_SOCKET": f"@{name}"})
        assert listener.recv(100) == b"STOPPING=1"


def test_without_a_manager_nothing_happens(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    notify("READY=1", {})
    assert caplog.records == []
    notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert "cannot tell the service manager" in caplog.text


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_told_twice_as_often_as_it_asks(env: dict[str, str], seconds: float | None) -> None:
    assert watchdog_interval(env) == seconds


async def test_signs_of_life_go_on_until_cancelled(autojump_clock: object, manager: socket.socket) -> None:
    with trio.move_on_after(31):
        await keep_watchdog({"WATCHDOG_USEC": "30000000", "NOTIFY_SOCKET": manager.getsockname()})
    assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        manager.recv(100)
    await keep_watchdog({})
