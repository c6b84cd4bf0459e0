"""Waiting for something to become true, and addresses: what everything here needs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 45.0  # s: how long a condition may take on a busy machine


def until(condition: Callable[[], T], what: str, seconds: float = PATIENCE, pause: float = 0.05) -> T:
    """Return what ``condition`` returns as soon as it is true; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)
    return result


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
