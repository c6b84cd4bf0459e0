"""List and watch: what is known follows what happened, through everything that an API server may do."""

from __future__ import annotations

import random
import tempfile
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.http_fault import Fault
from agent.kubernetes import watching
from agent.kubernetes.api import Api, ApiFault, ApiResource
from agent.kubernetes.watching import LAST_PAUSE, WATCH_SECONDS, Watch
from tests.clusters import pod, running

PODS = ApiResource("pods")


def item(name: str, version: int, value: str = "") -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "resourceVersion": str(version)}, "value": value}


def event(kind: str, name: str, version: int, value: str = "") -> dict[str, Any]:
    return {"type": kind, "object": item(name, version, value)}


class Script:
    """An API server in a few lines: each list and each watch is the next of the script; then it is silent."""

    server = "https://c"

    def __init__(self, *steps: Any) -> None:
        self.steps = deque(steps)
        self.asked: list[str] = []

    async def list_all(self, resource: ApiResource, params: Any, take: Any, page: int = 250) -> str:
        self.asked.append("list" if page else "list whole")
        step = await self._next()
        for one in step[1]:
            take(one)
        return step[0]

    async def watch(self, resource: ApiResource, params: Any) -> AsyncGenerator[list[Any], None]:
        self.asked.append(f"watch {params['resourceVersion']}")
        assert params["allowWatchBookmarks"] == "true"
        assert WATCH_SECONDS <= int(params["timeoutSeconds"]) <= 1.5 * WATCH_SECONDS
        step = await self._next()
        yield []
        for together in step:
            yield together

    async def _next(self) -> Any:
        if not self.steps:
            await trio.sleep_forever()
        step = self.steps.popleft()
        if isinstance(step, Exception):
            raise step
        return step


class Followed:
    """A watch that runs on a script."""

    def __init__(self, *steps: Any) -> None:
        self.script = Script(*steps)
        self.watch: Watch[str] = Watch(
            self.script,
            PODS,
            lambda one: one.get("value"),
            {"labelSelector": "a", "fieldSelector": ""},
            random.Random(1),
        )
        self.changes: list[dict[str, str]] = []
        self.faults: list[str] = []
        self.times: list[float] = []
        self.well = 0

    async def run(self, seconds: float = 1000) -> None:
        def failed(fault: Fault) -> None:
            self.faults.append(str(fault))
            self.times.append(trio.current_time())

        def well() -> None:
            self.well += 1

        with trio.move_on_after(seconds):
            await self.watch.run(lambda: self.changes.append(dict(self.watch.objects)), failed, well)


async def test_events_are_applied(autojump_clock):
    followed = Followed(
        ("5", [item("a", 4, "1"), item("b", 5, "2"), {"metadata": 3}, {}]),
        [
            [event("ADDED", "c", 6, "3"), event("DELETED", "a", 7)],
            [event("MODIFIED", "b", 8, "4"), {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}}],
        ],
    )
    await followed.run(100)
    assert followed.changes == [{"n/a": "1", "n/b": "2"}, {"n/b": "2", "n/c": "3"}, {"n/b": "4", "n/c": "3"}]
    assert followed.script.asked == ["list", "watch 5", "watch 20"]
    assert followed.faults == []


async def test_what_changes_nothing_is_not_told(autojump_clock):
    followed = Followed(("5", [item("a", 4, "1")]), [[event("MODIFIED", "a", 6, "1")], [event("ADDED", "b", 7, None)]])
    await followed.run(100)
    assert followed.changes == [{"n/a": "1"}]


GONE = ApiFault(410, "cannot: gone")


async def test_all_is_well_once_the_server_has_agreed(autojump_clock):
    refused = Fault("refused", "cannot reach it")
    followed = Followed(("5", []), refused, refused, [])
    await followed.run(100)
    assert (len(followed.faults), followed.well) == (2, 1)


async def test_gone_as_a_status_begins_anew_without_a_word(autojump_clock):
    followed = Followed(("5", [item("a", 4, "1")]), GONE, ("9", [item("b", 9, "2")]))
    await followed.run(100)
    assert followed.script.asked == ["list", "watch 5", "list", "watch 9"]
    assert followed.changes == [{"n/a": "1"}, {"n/b": "2"}]
    assert followed.faults == []


async def test_gone_as_an_event(autojump_clock):
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
    followed = Followed(("5", []), [[event("ADDED", "a", 6, "1"), error]], ("9", [item("a", 4, "1")]))
    await followed.run(100)
    assert followed.script.asked == ["list", "watch 5", "list", "watch 9"]
    assert followed.faults == []
    assert followed.watch.objects == {"n/a": "1"}


async def test_a_list_that_outlives_its_pages_is_taken_whole(autojump_clock):
    followed = Followed(GONE, ("5", [item("a", 4, "1")]))
    await followed.run(10)
    assert followed.script.asked == ["list", "list whole", "watch 5"]


async def test_a_failed_list_takes_nothing_away(autojump_clock):
    followed = Followed(
        ("5", [item("a", 4, "1")]),
        GONE,
        Fault("reset", "cannot: broke"),
        ApiFault(403, "cannot: no"),
        ("7", [item("a", 4, "1")]),
    )
    await followed.run(100)
    assert followed.faults == ["cannot: broke", "cannot: no"]
    assert followed.changes == [{"n/a": "1"}]
    assert followed.script.asked == ["list", "watch 5", "list", "list", "list", "watch 7"]


async def test_a_broken_watch_goes_on_where_it_was(autojump_clock):
    followed = Followed(("5", []), Fault("reset", "cannot: broke"), [[event("ADDED", "a", 6, "1")]], [], [])
    await followed.run(100)
    assert followed.script.asked == ["list", "watch 5", "watch 5", "watch 6", "watch 6", "watch 6"]


@pytest.mark.parametrize(
    "bad", [{}, {"type": "ADDED"}, {"type": "NEW", "object": item("a", 1)}, {"type": "ADDED", "object": {}}]
)
async def test_events_that_are_none(autojump_clock, bad):
    followed = Followed(("5", [item("a", 4, "1")]), [[bad]], [])
    await followed.run(100)
    assert len(followed.faults) == 1
    assert followed.faults[0].startswith("cannot read an event of pods: ")
    assert followed.watch.objects == {"n/a": "1"}


async def test_pauses_grow_and_are_jittered(autojump_clock):
    followed = Followed(*[Fault("refused", "cannot")] * 10)
    await followed.run()
    waits = [later - earlier for earlier, later in zip(followed.times, followed.times[1:], strict=False)]
    bounds = [min(0.5 * 2**n, LAST_PAUSE) for n in range(len(waits))]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert len(set(waits)) == len(waits)
    assert followed.watch.tried.is_set()
    assert followed.changes == []


async def test_watches_that_end_at_once_do_not_go_in_a_circle(autojump_clock):
    followed = Followed(("5", []), *[[]] * 10)
    await followed.run(200)
    assert len(followed.script.asked) == 12
    assert trio.current_time() > 10


async def test_a_server_may_ask_for_patience(autojump_clock):
    followed = Followed(
        ApiFault(429, "cannot: slow", 60.0), ApiFault(503, "cannot: slow", 1e9), Fault("reset", "cannot")
    )
    await followed.run()
    assert followed.times[1] - followed.times[0] == pytest.approx(60.0)
    assert followed.times[2] - followed.times[1] == pytest.approx(120.0)


async def test_a_watch_that_never_ends_is_given_up(autojump_clock):
    class Silent(Script):
        async def watch(self, resource: Any, params: Any) -> AsyncGenerator[list[Any], None]:
            self.asked.append("watch")
            await trio.sleep_forever()
            yield []

    followed = Followed()
    followed.watch._api = followed.script = Silent(("5", []))
    await followed.run(2 * WATCH_SECONDS)
    assert followed.script.asked == ["list", "watch", "watch"]
    assert "it took more than" in followed.faults[0]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "delete", "forget"])), max_size=20),
    st.booleans(),
)
def test_whatever_happens_the_same_is_known(steps, by_event):
    """The objects of a real exchange follow those of the cluster."""

    async def follow(folder: Path) -> None:
        async with trio.open_nursery() as nursery:
            server = await running(nursery, folder, [pod("a")], gone_by_event=by_event)
            api = Api(server.kubeconfig)
            watch: Watch[str] = Watch(api, PODS, lambda one: one["metadata"]["resourceVersion"])
            told = trio.Event()

            def changed() -> None:
                nonlocal told
                told.set()
                told = trio.Event()

            nursery.start_soon(watch.run, changed)
            await watch.tried.wait()
            for name, step in steps:
                known = ("pods", "shop", name) in server.cluster.items
                if step == "put":
                    server.cluster.put(pod(name))
                elif step == "delete" and known:
                    server.cluster.delete(pod(name))
                elif step == "forget":
                    server.cluster.forget()
            with trio.fail_after(5):
                while watch.objects != {
                    f"shop/{key[2]}": one["metadata"]["resourceVersion"] for key, one in server.cluster.items.items()
                }:
                    await told.wait()
            assert server.api.complaints == []
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await api.aclose()

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "FIRST_PAUSE", 0.001)
        trio.run(follow, Path(folder))
