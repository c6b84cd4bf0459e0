"""Asking a Prometheus server what it knows beside the samples: types, and the targets' own labels."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

import trio

from ebbtide import Client, Fault, FoldedLog, deadline, safe_url
from receivers.exposition import BadPage, parse_page
from receivers.scrape import Scrape
from receivers.targets import UP, TargetKey
from receivers.types import strip_type_labels

_FRESH = 60.0  # s: metadata younger than this is not asked for again
_AGAIN = 600.0  # s: after a refusal
_MAX_BODY = 64 << 20
_MAX_JOBS = 16  # asked for by name; beyond, all targets are asked for
_MAX_CONFLICTS = 16  # families asked for by name; beyond, all metadata of all targets


class Enquiry:
    """Asks for metadata and targets when newcomers need them. What it cannot get costs a warning, never the poll."""

    def __init__(self, client: Client, base: str, timeout: float, log: logging.Logger, name: str):
        self._client = client
        self._base = base
        self._timeout = timeout
        self._log = FoldedLog(log, trio.current_time, f"receivers.{name}")
        self._name = name
        self._next = -1.0

    async def about(self, scrape: Scrape) -> None:
        """Ask for what the newcomers of an answer need beside their samples: types, and the labels of their targets."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.types, scrape)
            unknown = scrape.unknown_targets()
            if unknown:
                nursery.start_soon(self.targets, scrape, unknown)

    async def types(self, scrape: Scrape) -> None:
        """Let the scrape's types learn the server's metadata, if it is not fresh."""
        if trio.current_time() < self._next:
            return
        self._next = trio.current_time() + _AGAIN
        data = await self._json("/api/v1/metadata", ())
        if not isinstance(data, dict):
            return
        self._next = trio.current_time() + _FRESH
        disputed = sorted(scrape.types.learn(data))
        names: list[str | None] = [*disputed] if len(disputed) <= _MAX_CONFLICTS else [None]
        for name in names:
            entries = await self._json("/api/v1/targets/metadata", [("metric", name)] if name else ())
            if not isinstance(entries, list):
                return  # the server does not tell, or is slow to: the others would cost a timeout each
            scrape.types.learn_targets(entries, name or "")

    async def targets(self, scrape: Scrape, unknown: Iterable[TargetKey]) -> None:
        """Ask for the ``up`` of targets whose own labels the answer did not show."""
        jobs = sorted({job for job, _ in unknown})
        quoted = (job.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for job in jobs)
        match = [f'up{{job="{job}"}}' for job in quoted] if len(jobs) <= _MAX_JOBS else ["up"]
        body = await self._get("/federate", [("match[]", one) for one in match])
        if body is None:
            return
        try:
            page = parse_page(body)
        except BadPage as error:
            self._warn("/federate", str(error))
            return
        self._answered("/federate")
        for sample in page.samples:
            if sample.name == UP:
                scrape.targets.learn(strip_type_labels(sample.labels))

    async def _json(self, path: str, params: Iterable[tuple[str, str]]) -> Any:
        body = await self._get(path, params)
        if body is None:
            return None
        where = safe_url(self._base + path)
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            self._warn(path, f"cannot read the answer of {where}: it is not JSON")
            return None
        if not isinstance(answer, dict) or answer.get("status") != "success":
            self._warn(path, f"cannot read the answer of {where}: it is not a successful one of Prometheus' API")
            return None
        self._answered(path)
        return answer.get("data")

    async def _get(self, path: str, params: Iterable[tuple[str, str]]) -> bytes | None:
        try:
            with deadline(self._timeout, self._base + path):
                async with self._client.get(self._base + path, params) as response:
                    if response.status == 200:
                        return await response.read(_MAX_BODY)
                    self._warn(path, f"cannot read {response.url}: the server answered {response.status}")
        except Fault as fault:
            self._warn(path, str(fault))
        return None

    def _warn(self, path: str, sentence: str) -> None:
        self._log(logging.WARNING, path, "receivers.%s: %s; %s", self._name, sentence, _WITHOUT.get(path, ""))

    def _answered(self, path: str) -> None:
        self._log.recovered(path, "receivers.%s: %s is answered again, after %d times in vain", self._name, path)


_WITHOUT = {
    "/api/v1/metadata": "types come from the built-in table and the names' suffixes instead",
    "/api/v1/targets/metadata": "disputed types come from the built-in table and the names' suffixes instead",
    "/federate": "which labels are the targets' own is taken from the built-in list instead",
}
