"""The admin port and the state directory: had at once or not at all, moved by a reload or left where they are."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
import trio

from agent.house import CannotOpen, House
from agent.httpserver import Request, Response
from agent.settings import AgentSettings
from agent.state_dir import StateDir, StateDirError


async def admin(request: Request) -> Response:
    return Response(200, b"here\n")


def free() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def answers(address: str) -> bool:
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://{address}/")).text == "here\n"
    except httpx.TransportError:
        return False


def taken(path: Path) -> bool:
    try:
        StateDir.take(path).close()
    except StateDirError:
        return True
    return False


async def test_both_are_had_and_let_go(nursery: trio.Nursery, tmp_path: Path) -> None:
    house, address = House(nursery, admin), free()
    (await house.prepare(AgentSettings(admin=address, state_dir=str(tmp_path)))).make()
    assert await answers(address)
    assert taken(tmp_path)
    house.close()
    assert not taken(tmp_path)
    nursery.cancel_scope.cancel()


async def test_what_stays_is_not_touched_and_what_moves_moves(nursery: trio.Nursery, tmp_path: Path) -> None:
    house, first, second = House(nursery, admin), free(), free()
    one, two = tmp_path / "one", tmp_path / "two"
    (await house.prepare(AgentSettings(admin=first, state_dir=str(one)))).make()
    (await house.prepare(AgentSettings(admin=first, state_dir=str(two)))).make()
    assert (await answers(first), taken(one), taken(two)) == (True, False, True)
    (await house.prepare(AgentSettings(admin=second, state_dir=str(two)))).make()
    await trio.testing.wait_all_tasks_blocked()
    assert (await answers(first), await answers(second), taken(two)) == (False, True, True)
    (await house.prepare(AgentSettings(admin=""))).make()
    await trio.testing.wait_all_tasks_blocked()
    assert (await answers(second), taken(two)) == (False, False)
    nursery.cancel_scope.cancel()


async def test_a_move_can_be_taken_back(nursery: trio.Nursery, tmp_path: Path) -> None:
    house, first, second = House(nursery, admin), free(), free()
    (await house.prepare(AgentSettings(admin=first))).make()
    (await house.prepare(AgentSettings(admin=second, state_dir=str(tmp_path)))).take_back()
    await trio.testing.wait_all_tasks_blocked()
    assert (await answers(first), await answers(second), taken(tmp_path)) == (True, False, False)
    nursery.cancel_scope.cancel()


async def test_what_cannot_be_had_leaves_all_as_it_was(nursery: trio.Nursery, tmp_path: Path) -> None:
    house, first = House(nursery, admin), free()
    (await house.prepare(AgentSettings(admin=first))).make()
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(
            CannotOpen, match=f"cannot open the admin port {busy}: .*; set agent.admin to a free address"
        ):
            await house.prepare(AgentSettings(admin=busy, state_dir=str(tmp_path)))
    assert not taken(tmp_path)
    with pytest.raises(CannotOpen, match="cannot use state_dir"):
        await house.prepare(AgentSettings(admin=free(), state_dir=str(tmp_path / "not" / "there")))
    assert await answers(first)
    nursery.cancel_scope.cancel()
