"""What stands around the flow of data: the admin port and the state directory, and how a reload moves them.

A move is prepared first, which opens what is new beside what is old and can fail; it is made or taken back at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from agent.httpserver import Handler, serve_http
from agent.settings import AgentSettings, parse_address
from agent.state_dir import StateDir, StateDirError

logger = logging.getLogger("ebbtide.run")


class CannotOpen(Exception):
    """A port or a directory cannot be had; the text says which, why, and what to try."""


@dataclass(slots=True)
class Move:
    """What was opened for new settings, and what closes with the old ones."""

    make: Callable[[], None]
    take_back: Callable[[], None]


class House:
    """Serves ``admin`` in tasks of ``nursery``, and holds the state directory."""

    def __init__(self, nursery: trio.Nursery, admin: Handler):
        self._nursery = nursery
        self._admin = admin
        self._settings = AgentSettings(admin="")
        self._port: trio.CancelScope | None = None
        self._state_dir: StateDir | None = None

    async def prepare(self, settings: AgentSettings) -> Move:
        """Open what these settings ask for and the present ones did not. Raises CannotOpen with nothing changed."""
        state_dir = (
            self._take(settings.state_dir) if settings.state_dir != self._settings.state_dir else self._state_dir
        )
        try:
            port = await self._open(settings.admin) if settings.admin != self._settings.admin else self._port
        except BaseException:
            _close_dir(state_dir, but=self._state_dir)
            raise

        def make() -> None:
            _close_port(self._port, but=port)
            _close_dir(self._state_dir, but=state_dir)
            self._settings, self._port, self._state_dir = settings, port, state_dir

        def take_back() -> None:
            _close_port(port, but=self._port)
            _close_dir(state_dir, but=self._state_dir)

        return Move(make, take_back)

    def close(self) -> None:
        """Let go of the state directory; the port ends with the nursery."""
        _close_dir(self._state_dir)
        self._state_dir = None

    def _take(self, path: str | None) -> StateDir | None:
        if path is None:
            return None
        try:
            return StateDir.take(Path(path))
        except StateDirError as error:
            raise CannotOpen(str(error)) from error

    async def _open(self, admin: str) -> trio.CancelScope | None:
        address = parse_address(admin)
        if address is None:
            return None
        host, scope = address[0], trio.CancelScope()
        try:
            port = await self._nursery.start(self._serve, address, scope)
        except OSError as error:
            why = error.strerror or error
            raise CannotOpen(
                f'cannot open the admin port {admin}: {why}; set agent.admin to a free address, or to "" to do without'
            ) from error
        logger.info("admin port open at http://%s:%d", f"[{host}]" if ":" in host else host, port)
        return scope

    async def _serve(
        self,
        address: tuple[str, int],
        scope: trio.CancelScope,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with scope:
            await serve_http(self._admin, *address, task_status=task_status)


def _close_port(port: trio.CancelScope | None, but: trio.CancelScope | None = None) -> None:
    if port is not None and port is not but:
        port.cancel()


def _close_dir(state_dir: StateDir | None, but: StateDir | None = None) -> None:
    if state_dir is not None and state_dir is not but:
        state_dir.close()
