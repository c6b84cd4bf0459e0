"""Objects of a cluster kept up to date: a list, then a watch from its resource version, for ever.

Strategy. ``keep`` makes of each object what is to be remembered, which bounds the memory. A list is taken as a whole: it
replaces what is known only when its last page has come, so that one that fails takes nothing away. A watch that ends is
begun again where it ended; bookmarks move that place while nothing happens. Where the server no longer knows the place
(410, as a status or as an event) all is listed anew. What fails is tried again with growing, jittered pauses.
Source: client-go, tools/cache/reflector.go.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Generic, TypeVar

import trio

from agent.http import deadline
from agent.http_fault import Fault
from agent.kubernetes.api import Api, ApiFault, ApiResource, Object, event_fault

WATCH_SECONDS = 240.0  # shortest watch that is asked for; the longest is half as long again
WATCH_GRACE = 15.0  # seconds after which one that the server did not end in time is given up
FIRST_PAUSE, LAST_PAUSE = 0.5, 30.0  # seconds
LONGEST_PAUSE = 120.0  # seconds that a server may ask for
HURRIED = 1.0  # seconds: a watch that ends sooner, with nothing, is followed by a pause
GONE = 410
_GONE_FOR_US = (400, 401, 403, 404, GONE)  # after these a watch is of no use; the list tells what is wrong

T = TypeVar("T")


class Watch(Generic[T]):
    """What is known of the objects of one resource that match ``params`` (labelSelector, fieldSelector).

    ``objects``: by "namespace/name", or the name alone, what ``keep`` returned; those of which it returned None are left
    out. ``failed`` is told each failure, ``changed`` is called after each change, ``well`` when a list or a watch goes well.
    """

    def __init__(
        self,
        api: Api,
        resource: ApiResource,
        keep: Callable[[Object], T | None],
        params: Mapping[str, str] | None = None,
        chance: random.Random | None = None,
    ):
        self.resource = resource
        self.objects: dict[str, T] = {}
        self.tried = trio.Event()  # the first list has come, or failed
        self._api = api
        self._keep = keep
        self._params = {name: value for name, value in (params or {}).items() if value}
        self._chance = chance or random.Random()
        self._version = ""

    async def refresh(self) -> bool:
        """Take all objects as they are now; return whether any is another. Raises Fault with nothing changed."""
        found: dict[str, T] = {}

        def take(item: Object) -> None:
            key, kept = _key(item), self._keep(item)
            if key and kept is not None:
                before = self.objects.get(key)
                found[key] = before if before is not None and before == kept else kept

        try:
            version = await self._api.list_all(self.resource, self._params, take)
        except ApiFault as fault:
            if not _is_gone(fault):
                raise
            found.clear()
            version = await self._api.list_all(self.resource, self._params, take, page=0)
        different = self.objects != found
        self.objects, self._version = found, version
        return different

    async def run(
        self,
        changed: Callable[[], None],
        failed: Callable[[Fault], None] = lambda fault: None,
        well: Callable[[], None] = lambda: None,
    ) -> None:
        """Keep the objects up to date until cancelled."""
        pause = FIRST_PAUSE
        while True:
            began = trio.current_time()
            asked = 0.0
            try:
                if not self._version and (await self.refresh() or not self.tried.is_set()):
                    changed()
                self.tried.set()
                if await self._follow(changed, well) or trio.current_time() - began >= HURRIED:
                    pause = FIRST_PAUSE
                    continue
            except Fault as fault:
                known = bool(self._version)
                asked = self._consider(fault, failed)
                self.tried.set()
                if trio.current_time() - began >= LAST_PAUSE:
                    pause = FIRST_PAUSE
                if known and _is_gone(fault) and pause == FIRST_PAUSE:
                    pause *= 2  # all is well but for our place: begin anew at once, though not time and again
                    continue
            await trio.sleep(max(min(asked, LONGEST_PAUSE), pause * self._chance.uniform(0.5, 1.0)))
            pause = min(2 * pause, LAST_PAUSE)

    def _consider(self, fault: Fault, failed: Callable[[Fault], None]) -> float:
        """Forget the place where it is of no use any more; return for how long the server asks to wait."""
        status = fault.status if isinstance(fault, ApiFault) else 0
        if not (_is_gone(fault) and self._version):  # that the server forgets old versions is no failure
            failed(fault)
        if status in _GONE_FOR_US:
            self._version = ""
        return fault.after if isinstance(fault, ApiFault) else 0.0

    async def _follow(self, changed: Callable[[], None], well: Callable[[], None]) -> bool:
        """Watch once, to the end; return whether anything was said."""
        seconds = WATCH_SECONDS * self._chance.uniform(1.0, 1.5)
        params = {
            **self._params,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(seconds)),
        }
        said = False
        where = self._api.server + self.resource.path
        with deadline(seconds + WATCH_GRACE, where):
            async with aclosing(self._api.watch(self.resource, params)) as events:
                async for together in events:
                    if not together:  # the server has agreed to it
                        well()
                        continue
                    said = True
                    if [event for event in together if self._apply(event)]:
                        changed()
        return said

    def _apply(self, event: Object) -> bool:
        """Apply one event; return whether anything changed. Raises Fault for one of type ERROR, or of no known type."""
        kind, item = event.get("type"), event.get("object")
        if kind == "ERROR":
            raise event_fault(event, self.resource)
        metadata = item.get("metadata") if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(metadata, dict):
            raise Fault("protocol", f"cannot read an event of {self.resource}: it has no object; it is asked for anew")
        version = metadata.get("resourceVersion")
        key = _key(item)
        before = self.objects.get(key)
        if kind in ("ADDED", "MODIFIED"):
            kept = self._keep(item)
            if key and kept is not None:
                self.objects[key] = kept
            else:
                self.objects.pop(key, None)
        elif kind == "DELETED":
            self.objects.pop(key, None)
        elif kind != "BOOKMARK":
            raise Fault(
                "protocol", f"cannot read an event of {self.resource}: its type is not known; it is asked for anew"
            )
        if isinstance(version, str) and version:
            self._version = version
        return before != self.objects.get(key)


def _is_gone(fault: Fault) -> bool:
    return isinstance(fault, ApiFault) and fault.status == GONE


def _key(item: Object) -> str:
    """``"namespace/name"``, or the name alone; "" for an object without one."""
    metadata = item.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    namespace, name = metadata.get("namespace"), metadata.get("name")
    if not isinstance(name, str):
        return ""
    return f"{namespace}/{name}" if isinstance(namespace, str) and namespace else name
