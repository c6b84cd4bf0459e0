"""What systemd is told: ready, stopping, alive. Source: sd_notify(3), sd_watchdog_enabled(3)."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

import trio

logger = logging.getLogger("ebbtide.notify")


def notify(state: str, env: Mapping[str, str] = os.environ) -> None:
    """Send ``state`` (``"READY=1"``) to the service manager, where there is one."""
    address = env.get("NOTIFY_SOCKET")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address  # an abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.setblocking(False)
            datagrams.connect(name)
            datagrams.send(state.encode())
    except OSError as error:
        logger.warning("cannot tell the service manager %s: %s", state, error)


def reloading(env: Mapping[str, str] = os.environ) -> None:
    """Say that a reload begins; ``READY=1`` says that it is over. Source: systemd.service(5), Type=notify-reload."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", env)


def watchdog_interval(env: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between signs of life, half of what is allowed; None where nobody watches this process."""
    allowed, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID")
    if not (allowed.isdecimal() and int(allowed)) or pid not in (None, "", str(os.getpid())):
        return None
    return int(allowed) / 2e6


async def keep_watchdog(env: Mapping[str, str] = os.environ) -> None:
    """Give signs of life until cancelled; returns at once where nobody watches."""
    interval = watchdog_interval(env)
    while interval is not None:
        notify("WATCHDOG=1", env)
        await trio.sleep(interval)
