"""Which targets there are: what discoveries give, made into URLs and labels by Prometheus' rules, and dealt out to shards.

Strategy. A discovery gives groups of raw targets: labels, of which ``__address__``, ``__scheme__``, ``__metrics_path__`` and
``__param_*`` say how to reach it. ``Population`` turns one into a ``ScrapeTarget``, or into a reason why not; it is the same for
whatever found it. A ``TargetSet`` keeps the last word of each discovery, and tells of the whole at each change;
groups that stay the same objects are not looked at again.

Source: prometheus/prometheus, scrape/target.go (PopulateLabels, URL) and scrape/manager.go. One thing differs: where an
address has no port, ``instance`` has the one that is dialled.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import trio

from ebbtide import FoldedLog, Relabelling, safe_url
from receivers.discovery import Discovery, Groups, TargetGroup

ADDRESS, SCHEME, PATH, PARAMETER = "__address__", "__scheme__", "__metrics_path__", "__param_"
_RESERVED = "__"
_PORTS = {"http": 80, "https": 443}
_ADDRESS = re.compile(r"(?:\[[^\[\]/\s]+\]|[^\[\]/:\s]+)(?::([0-9]{1,5}))?")
_ORDINAL = re.compile(r".*-([0-9]{1,9})")
_SHARD = re.compile(r"([0-9]{1,9}|ordinal)/([1-9][0-9]{0,8})")
MOST_REASONS = 3
"""So many targets that cannot be scraped, or told apart, are named at a time; the others are counted."""


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One target. ``labels`` flat and sorted, as they are put on its series; ``found`` its raw labels, for enrichment.

    Raw labels that change (a pod gets ready, is annotated) do not make it another target.
    """

    url: str
    labels: tuple[tuple[str, str], ...]
    found: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def instance(self) -> str:
        """The label that names it."""
        return dict(self.labels).get("instance", "")


class BadTarget(ValueError):
    """A target that cannot be scraped, and why."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of all targets that this agent scrapes: those whose hash modulo ``of`` is ``index``."""

    index: int = 0
    of: int = 1

    @classmethod
    def parse(cls, text: str, hostname: str) -> Shard:
        """``"2/5"``, or ``"ordinal/5"``: the number at the end of the host's name, as a StatefulSet gives it.

        Counting from 0 or from 1 comes to the same: 5/5 is 0/5. Raises ValueError for what is neither, and for 6/5.
        """
        match = _SHARD.fullmatch(text)
        if match is None:
            raise ValueError('not a shard; write one such as "2/5", or "ordinal/5" in a StatefulSet')
        if match[1] != "ordinal":
            if int(match[1]) > int(match[2]):
                raise ValueError(
                    f"there is no shard {match[1]} of {match[2]}; count from 0 or from 1, or make more of them"
                )
            return cls(int(match[1]) % int(match[2]), int(match[2]))
        ordinal = _ORDINAL.fullmatch(hostname)
        if ordinal is None:
            raise ValueError(f'the host\'s name {hostname!r} ends in no number; write a shard such as "2/5"')
        return cls(int(ordinal[1]) % int(match[2]), int(match[2]))

    def has(self, address: str) -> bool:
        """Tell whether a target is of this shard; by the same hash as the relabel action ``hashmod`` on ``__address__``."""
        return int.from_bytes(hashlib.md5(address.encode(), usedforsecurity=False).digest()[8:]) % self.of == self.index


WHOLE = Shard()


class Population:
    """Turns raw targets into targets to scrape.

    ``defaults`` are labels of those that have none of the name (``job``, ``__metrics_path__``, ...), ``labels`` beat the
    target's own, ``rules`` come last.
    """

    def __init__(
        self,
        defaults: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        rules: Relabelling | None = None,
        shard: Shard = WHOLE,
    ):
        self._defaults = {SCHEME: "http", PATH: "/metrics", **defaults}
        self._labels = dict(labels or {})
        self._rules = rules or Relabelling([])
        self._shard = shard

    def __call__(self, found: Mapping[str, str]) -> ScrapeTarget | None:
        """Return the target; None where the rules drop it, or it is another shard's. Raises BadTarget."""
        given = {name: value for name, value in found.items() if value}
        labels = self._rules({**self._defaults, **given, **self._labels})
        if labels is None:
            return None
        address, scheme = labels.get(ADDRESS, ""), labels.get(SCHEME, "")
        instance = _with_port(address, scheme)
        if not self._shard.has(address):
            return None
        shown = {name: value for name, value in labels.items() if value and not name.startswith(_RESERVED)}
        for name, value in shown.items():
            _check_text(name, value)
        shown.setdefault("instance", instance)
        return ScrapeTarget(_url(labels), tuple(sorted(shown.items())), tuple(sorted(found.items())))


def _check_text(name: str, value: str) -> None:
    try:
        f"{name}{value}".encode()
    except UnicodeEncodeError:
        raise BadTarget(f"its label {name!r} is not valid text") from None


def _with_port(address: str, scheme: str) -> str:
    """Return the address with the port that is dialled. Raises BadTarget."""
    if not address:
        raise BadTarget("it has no __address__")
    if scheme not in _PORTS:
        raise BadTarget(f"its __scheme__ {scheme!r} is neither http nor https")
    match = _ADDRESS.fullmatch(address)
    if match is None or (match[1] is not None and not 0 < int(match[1]) < 65536):
        raise BadTarget(f"its __address__ {address!r} is not host:port")
    return address if match[1] is not None else f"{address}:{_PORTS[scheme]}"


def _url(labels: Mapping[str, str]) -> str:
    parameters = [
        (name.removeprefix(PARAMETER), value) for name, value in sorted(labels.items()) if name.startswith(PARAMETER)
    ]
    path = quote(labels.get(PATH, ""), safe="/%:@!$&'()*+,;=-._~")
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"{labels[SCHEME]}://{labels[ADDRESS]}{path if path.startswith('/') else '/' + path}{query}"


def static_group(targets: Iterable[str]) -> TargetGroup:
    """Return targets named one by one, as ``host:port`` or as URLs. Raises ValueError for what is neither."""
    return TargetGroup("static", {}, tuple(_static(target) for target in targets))


def _static(target: str) -> Mapping[str, str]:
    if "@" in target or "#" in target:
        raise ValueError("a target has no user and no fragment; write http://host:port/metrics, and basic_auth")
    if "://" not in target:
        try:
            _with_port(target, "http")
        except BadTarget:
            raise ValueError(f"{target!r} is no target; write host:port, or http://host:port/metrics") from None
        return {ADDRESS: target}
    try:
        parts = urlsplit(target)
        _with_port(parts.netloc, parts.scheme)
    except ValueError:
        raise ValueError(f"{target!r} is no target; write host:port, or http://host:port/metrics") from None
    parameters = {PARAMETER + name: value for name, value in parse_qsl(parts.query, keep_blank_values=True)}
    path = {PATH: parts.path} if parts.path not in ("", "/") else {}
    return {ADDRESS: parts.netloc, SCHEME: parts.scheme, **path, **parameters}


class _Made(NamedTuple):
    """A group, and what was made of it."""

    group: TargetGroup
    targets: list[ScrapeTarget]
    bad: list[str]


class TargetSet:
    """All targets of a receiver: those named one by one, and those that discoveries give, by their names."""

    def __init__(
        self,
        population: Population,
        static: TargetGroup,
        discoveries: Mapping[str, Discovery],
        log: FoldedLog,
        name: str,
    ):
        self._population = population
        self._discoveries = discoveries
        self._groups: dict[str, Groups] = {"": {static.source: static}}
        self._log = log
        self._name = name
        self._last: tuple[ScrapeTarget, ...] | None = None
        self._made: dict[tuple[str, str], _Made] = {}  # by discovery and source
        self._twins: set[tuple[tuple[str, str], ...]] = set()  # labels that several targets have, and that are told

    async def run(self, changed: Callable[[tuple[ScrapeTarget, ...]], None]) -> None:
        """Call ``changed`` with all targets, at once and at each change, until cancelled."""
        self._tell(changed)
        async with trio.open_nursery() as nursery:
            for name, discovery in self._discoveries.items():
                nursery.start_soon(self._follow, name, discovery, changed)
            await trio.sleep_forever()

    async def once(self) -> tuple[ScrapeTarget, ...]:
        """Ask every discovery once. Raises ReceiveError where one cannot answer."""
        async with trio.open_nursery() as nursery:
            for name, discovery in self._discoveries.items():
                nursery.start_soon(self._ask, name, discovery)
        return self._targets()

    async def _ask(self, name: str, discovery: Discovery) -> None:
        self._groups[name] = await discovery.once()

    async def _follow(
        self, name: str, discovery: Discovery, changed: Callable[[tuple[ScrapeTarget, ...]], None]
    ) -> None:
        def update(groups: Groups) -> None:
            self._groups[name] = groups
            self._tell(changed)

        await discovery.run(update)

    def _tell(self, changed: Callable[[tuple[ScrapeTarget, ...]], None]) -> None:
        targets = self._targets()
        if targets != self._last:
            self._last = targets
            changed(targets)

    def _targets(self) -> tuple[ScrapeTarget, ...]:
        """Every target once, in a fixed order; those that cannot be scraped are logged."""
        targets: dict[tuple[str, tuple[tuple[str, str], ...]], ScrapeTarget] = {}
        bad: list[str] = []
        self._made = {key: self._made_of(key, group) for key, group in self._all_groups()}
        for made in self._made.values():
            bad += made.bad
            for target in made.targets:
                targets.setdefault((target.url, target.labels), target)
        if bad:
            self._log(logging.WARNING, "targets", "receivers.%s: cannot scrape %d targets (%s); correct what gives them, or relabel them",
                      self._name, len(bad), "; ".join(sorted(bad)[:MOST_REASONS]))  # fmt: skip
        self._warn_of_twins(targets)
        return tuple(targets[key] for key in sorted(targets))

    def _warn_of_twins(self, targets: Iterable[tuple[str, tuple[tuple[str, str], ...]]]) -> None:
        """Say once of which targets, given by URL and labels, the labels are the same: their series collide."""
        urls: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
        for url, labels in targets:
            urls[labels].append(safe_url(url))
        twins = {labels: " and ".join(sorted(found)[:2]) for labels, found in urls.items() if len(found) > 1}
        new = [twins[labels] for labels in twins.keys() - self._twins]
        self._twins = set(twins)
        if new:
            self._log(logging.WARNING, "twins", "receivers.%s: %d times, targets have the same labels (%s), so that the series of one are lost; give them a label that tells them apart",
                      self._name, len(new), "; ".join(sorted(new)[:MOST_REASONS]))  # fmt: skip

    def _all_groups(self) -> Iterable[tuple[tuple[str, str], TargetGroup]]:
        for name in sorted(self._groups):
            for source, group in self._groups[name].items():
                yield (name, source), group

    def _made_of(self, key: tuple[str, str], group: TargetGroup) -> _Made:
        """Populate a group; one that is still the same object has the same targets as before."""
        made = self._made.get(key)
        if made is not None and made.group is group:
            return made
        made = _Made(group, [], [])
        for found in group.targets:
            try:
                target = self._population({**group.labels, **found})
            except BadTarget as error:
                made.bad.append(f"{found.get(ADDRESS) or 'one without address'}: {error}")
                continue
            if target is not None:
                made.targets.append(target)
        return made
