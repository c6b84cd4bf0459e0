"""Targets that a Prometheus scrapes, by its own word: no access to Kubernetes is needed, and the labels are already those
that it puts on their series.

Source: prometheus/prometheus, web/api/v1/api.go (``/api/v1/targets``).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import trio
from pydantic import Field

from ebbtide import (
    Client,
    ClusterSettings,
    Fault,
    FoldedLog,
    PositiveDuration,
    ReceiveError,
    ServerUrl,
    deadline,
    option,
)
from receivers.discovery import Groups, TargetGroup
from receivers.target_set import ADDRESS, PATH, SCHEME, parameters_of

MOST_BYTES = 256 << 20
"""Largest answer that is read, inflated: about 100,000 targets."""


class PrometheusDiscoverySettings(ClusterSettings):
    """Targets that a Prometheus scrapes."""

    kind: Literal["prometheus"] = option("prometheus", "Where targets come from.")
    url: ServerUrl = option(..., "Base URL of the Prometheus server; `/api/v1/targets` is appended.")
    job: Annotated[str, Field(min_length=1)] = option("linkerd-proxy", "Job whose targets are taken.")
    refresh: PositiveDuration = option("30s", "How often to ask.")


class PrometheusDiscovery:
    """Asks ``/api/v1/targets`` again and again, by ``client``, which is closed at the end."""

    def __init__(
        self, settings: PrometheusDiscoverySettings, client: Client, timeout: float, log: FoldedLog, name: str
    ):
        self._settings = settings
        self._client = client
        self._timeout = timeout
        self._log = log
        self._name = name
        self._key = f"prometheus {settings.url}"  # of its failures

    async def run(self, update: Callable[[Groups], None]) -> None:
        """Tell of the targets at each answer; one that fails changes nothing."""
        due = trio.current_time()
        try:
            while True:
                await self._told(update)
                due = max(due + self._settings.refresh, trio.current_time())
                await trio.sleep_until(due)
        finally:
            await self._close()

    async def _told(self, update: Callable[[Groups], None]) -> None:
        try:
            update(await self._ask())
            self._log.recovered(self._key, "receivers.%s: targets are told again after %d failures", self._name)
        except ReceiveError as error:
            self._log(logging.WARNING, self._key, "receivers.%s: %s; the targets stay as they were", self._name, error)

    async def once(self) -> Groups:
        """Ask once. Raises ReceiveError."""
        try:
            return await self._ask()
        finally:
            await self._close()

    async def _close(self) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await self._client.aclose()

    async def _ask(self) -> Groups:
        url = self._settings.url.rstrip("/") + "/api/v1/targets"
        try:
            with deadline(self._timeout, url):
                async with self._client.get(url, [("state", "active")], {"accept": "application/json"}) as response:
                    body = b"".join([chunk async for chunk in response.chunks(MOST_BYTES)])
        except Fault as fault:
            raise ReceiveError(str(fault)) from fault
        if response.status != 200:
            raise ReceiveError(
                f"cannot read the targets at {response.url}: the server answered {response.status}; check `discovery`"
            )
        return {"targets": TargetGroup("targets", {}, tuple(_targets(body, self._settings.job, response.url)))}


def _targets(body: bytes, job: str, where: str) -> list[Mapping[str, str]]:
    try:
        active = json.loads(body)["data"]["activeTargets"]
        return [_target(one) for one in active if one["labels"].get("job") == job]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReceiveError(
            f"cannot read the targets at {where}: the answer is not that of Prometheus ({type(error).__name__}); check `discovery`"
        ) from None


def _target(one: Mapping[str, Any]) -> Mapping[str, str]:
    """A target as raw labels: the server's final ones, where it is reached, and what was discovered of it."""
    parts = urlsplit(one["scrapeUrl"])
    meta = {name: value for name, value in one["discoveredLabels"].items() if name.startswith("__meta_")}
    found = {
        **meta,
        **one["labels"],
        ADDRESS: parts.netloc,
        SCHEME: parts.scheme,
        PATH: parts.path or "/",
        **parameters_of(parts.query),
    }
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError("a label that is no text")
    return found
