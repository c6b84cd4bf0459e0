"""Which targets there are: what discoveries give, made into URLs and labels by Prometheus' rules, and dealt out to shards.

Strategy. A discovery gives groups of raw targets: labels, of which ``__address__``, ``__scheme__``, ``__metrics_path__`` and
``__param_*`` say how to reach it. ``Population`` turns one into a ``ScrapeTarget``, or into a reason why not; it is the same for
whatever found it. A ``TargetSet`` keeps the last word of each discovery, and tells of the whole at each change;
groups that stay the same objects are not looked at again. That there is nothing to poll is said once all have answered.

Source: prometheus/prometheus, scrape/target.go (PopulateLabels, URL) and scrape/manager.go. One thing differs: where an
address has no port, ``instance`` has the one that is dialled.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import trio

from ebbtide import FoldedLog, Relabelling, is_address, safe_url, split_address
from receivers.discovery import Discovery, Groups, TargetGroup

ADDRESS, SCHEME, PATH, PARAMETER = "__address__", "__scheme__", "__metrics_path__", "__param_"
MORE = "__more_params__"
"""Parameters that ``__param_*`` has no place for, as a query: further values of a name, and empty ones."""
KUBECONFIG, CONTEXT = "__kubeconfig__", "__context__"
"""Which cluster a target of scheme ``kubernetes`` is in; what is missing or empty means the usual one."""
FORWARDED = "kubernetes"
"""The scheme of targets behind a port-forward; their ``__address__`` is what stands behind it in a ``kubernetes://`` URL."""
_RESERVED = "__"
_PORTS = {"http": 80, "https": 443}
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\]|[^\[\]/:\s?#@\\%\x00-\x1f]+)(?::([0-9]{1,5}))?")
_ORDINAL = re.compile(r".*-([0-9]{1,9})")
_SHARD = re.compile(r"([0-9]{1,9}|ordinal)/([1-9][0-9]{0,8})")
MOST_REASONS = 3
"""So many targets that cannot be scraped, or told apart, are named at a time; the others are counted."""


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One target. ``labels`` flat and sorted, as they are put on its series; ``found`` its raw labels, for enrichment.

    Raw labels that change (a pod gets ready, is annotated) do not make it another target. ``cluster``: kubeconfig and
    context, "" where nothing is said, for one that is reached by a port-forward.
    """

    url: str
    labels: tuple[tuple[str, str], ...]
    found: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    cluster: tuple[str, str] = field(default=("", ""), compare=False)

    @property
    def instance(self) -> str:
        """The label that names it."""
        return dict(self.labels).get("instance", "")


class BadTarget(ValueError):
    """A target that cannot be scraped, and why."""


class Passed(Enum):
    """Why a target that was found is not one to scrape, though nothing is wrong with it."""

    DROPPED = "dropped by `relabel`"
    ELSEWHERE = "of other shards"


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of all targets that this agent scrapes: those whose hash modulo ``of`` is ``index``."""

    index: int = 0
    of: int = 1

    @classmethod
    def parse(cls, text: str, hostname: str) -> Shard:
        """``"2/5"``, or ``"ordinal/5"``: the number at the end of the host's name, as a StatefulSet gives it.

        Counting from 0 or from 1 comes to the same: 5/5 is 0/5. Raises ValueError for what is neither, for 6/5, and for
        an ordinal of 5 or more: two replicas would poll the same targets, and each would not know.
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
        return cls._of_host(hostname.partition(".")[0], int(match[2]))

    @classmethod
    def _of_host(cls, name: str, of: int) -> Shard:
        ordinal = _ORDINAL.fullmatch(name)
        if ordinal is None:
            raise ValueError(f'the host\'s name {name!r} ends in no number; write a shard such as "2/5"')
        if int(ordinal[1]) >= of:
            raise ValueError(
                f"the host's name {name!r} has the ordinal {ordinal[1]}, and of {of} shards the last is {of - 1}; "
                "raise the number behind the slash, or run no more replicas than that, counted from 0"
            )
        return cls(int(ordinal[1]), of)

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

    def __call__(self, found: Mapping[str, str]) -> ScrapeTarget | Passed:
        """Return the target, or why it is not one to scrape. Raises BadTarget."""
        given = {name: value for name, value in found.items() if value}
        labels = self._rules({**self._defaults, **given, **self._labels})
        if labels is None:
            return Passed.DROPPED
        address, scheme = labels.get(ADDRESS, ""), labels.get(SCHEME, "")
        instance = _with_port(address, scheme)
        if not self._shard.has(address):
            return Passed.ELSEWHERE
        shown = {name: value for name, value in labels.items() if value and not name.startswith(_RESERVED)}
        for name, value in shown.items():
            _check_text(name, value)
        shown.setdefault("instance", instance)
        cluster = (labels.get(KUBECONFIG, ""), labels.get(CONTEXT, "")) if scheme == FORWARDED else ("", "")
        return ScrapeTarget(_url(labels), tuple(sorted(shown.items())), tuple(sorted(found.items())), cluster)


def _check_text(name: str, value: str) -> None:
    try:
        f"{name}{value}".encode()
    except UnicodeEncodeError:
        raise BadTarget(f"its label {name!r} is not valid text") from None


def _with_port(address: str, scheme: str) -> str:
    """Return the address with the port that is dialled. Raises BadTarget."""
    if not address:
        raise BadTarget("it has no __address__")
    if scheme == FORWARDED:
        return _forwarded_instance(address)
    if scheme not in _PORTS:
        raise BadTarget(f"its __scheme__ {scheme!r} is none of http, https and kubernetes")
    match = _ADDRESS.fullmatch(address)
    if match is None or (match[1] is not None and not 0 < int(match[1]) < 65536):
        raise BadTarget(f"its __address__ {_without_user(address)!r} is not host:port")
    return address if match[1] is not None else f"{address}:{_PORTS[scheme]}"


def _forwarded_instance(address: str) -> str:
    try:
        destination, rest = split_address(f"{FORWARDED}://{address}")
    except ValueError as error:
        raise BadTarget(f"its __address__ is {error}") from None
    if rest:
        raise BadTarget("its __address__ has a path; that belongs into __metrics_path__")
    return destination.instance


def _without_user(address: str) -> str:
    """Return what may be shown of an address: somebody may have written a password into it."""
    _, user, host = address.rpartition("@")
    return f"...@{host}" if user else address


def _url(labels: Mapping[str, str]) -> str:
    parameters = [(name.removeprefix(PARAMETER), value) for name, value in labels.items() if name.startswith(PARAMETER)]
    parameters += parse_qsl(labels.get(MORE, ""), keep_blank_values=True)
    parameters.sort(key=lambda parameter: parameter[0])
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
    if is_address(target):
        destination, rest = split_address(target)
        place, path, query = destination.url.partition("://")[2], *rest.partition("?")[::2]
        return {ADDRESS: place, SCHEME: FORWARDED, **_own_path(path), **parameters_of(query)}
    try:
        parts = urlsplit(target)
        _with_port(parts.netloc, parts.scheme)
    except ValueError:
        raise ValueError(f"{target!r} is no target; write host:port, or http://host:port/metrics") from None
    return {ADDRESS: parts.netloc, SCHEME: parts.scheme, **_own_path(parts.path), **parameters_of(parts.query)}


def _own_path(path: str) -> Mapping[str, str]:
    return {PATH: path} if path not in ("", "/") else {}


def parameters_of(query: str) -> Mapping[str, str]:
    """Return the parameters of a URL's query as raw labels: as in Prometheus, a label has the first value of its name."""
    labels: dict[str, str] = {}
    more = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if value and labels.setdefault(PARAMETER + name, value) is value:
            continue
        more.append((name, value))
    return {**labels, MORE: urlencode(more)} if more else labels


class _Made(NamedTuple):
    """A group, and what was made of it."""

    group: TargetGroup
    targets: list[ScrapeTarget]
    bad: list[str]
    passed: Counter[Passed]

    def same(self, other: _Made | None) -> bool:
        """Tell whether it comes to the same; most changes of a pod do."""
        return self is other or (other is not None and self[1:] == other[1:])


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
        self._answered: set[str] = set()  # discoveries that have
        self._last: tuple[tuple[ScrapeTarget, ...], bool] | None = None  # what was told, and whether it was complete
        self._made: dict[tuple[str, str], _Made] = {}  # by discovery and source
        self._all: tuple[ScrapeTarget, ...] = ()  # that were made
        self._twins: set[tuple[tuple[str, str], ...]] = set()  # labels that several targets have, and that are told

    @property
    def complete(self) -> bool:
        """Whether every discovery has answered, so that a target that is missing is gone."""
        return len(self._answered) == len(self._discoveries)

    def inherit(self, old: TargetSet) -> None:
        """Begin with what discoveries of the same names told ``old`` last."""
        self._groups.update((name, old._groups[name]) for name in self._discoveries.keys() & old._groups.keys())

    async def run(self, changed: Callable[[tuple[ScrapeTarget, ...]], None]) -> None:
        """Call ``changed`` with all targets, at once, at each change, and when they are complete, until cancelled."""
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

    def why_none(self) -> str:
        """Say why there is no target, as a clause."""
        found = sum(len(made.group.targets) for made in self._made.values())
        why = "no target was found"
        passed = sum((made.passed for made in self._made.values()), Counter[Passed]())
        shares = [f"{passed[reason]} {reason.value}" for reason in Passed if passed[reason]]
        if bad := sum(len(made.bad) for made in self._made.values()):
            shares.append(f"{bad} such as cannot be scraped")
        if found:
            why = f"of {found} targets that were found, {' and '.join(shares)}"
        return why

    async def _ask(self, name: str, discovery: Discovery) -> None:
        self._groups[name] = await discovery.once()

    async def _follow(
        self, name: str, discovery: Discovery, changed: Callable[[tuple[ScrapeTarget, ...]], None]
    ) -> None:
        def update(groups: Groups) -> None:
            self._groups[name] = groups
            self._answered.add(name)
            self._tell(changed)

        await discovery.run(update)

    def _tell(self, changed: Callable[[tuple[ScrapeTarget, ...]], None]) -> None:
        told = targets, complete = self._targets(), self.complete
        if told != self._last:
            self._last = told
            changed(targets)
        if targets:
            self._log.recovered("no targets", "receivers.%s: there are %d targets now; %d times there were none", self._name, len(targets))  # fmt: skip
        elif complete:
            self._log(logging.WARNING, "no targets", "receivers.%s: cannot poll anything: %s; see `targets`, `discovery`, `relabel` and `shard`",
                      self._name, self.why_none())  # fmt: skip

    def _targets(self) -> tuple[ScrapeTarget, ...]:
        """Every target once, in a fixed order; those that cannot be scraped are logged."""
        targets: dict[tuple[str, tuple[tuple[str, str], ...]], ScrapeTarget] = {}
        bad: list[str] = []
        before, self._made = self._made, {key: self._made_of(key, group) for key, group in self._all_groups()}
        if len(before) == len(self._made) and all(made.same(before.get(key)) for key, made in self._made.items()):
            return self._all
        for made in self._made.values():
            bad += made.bad
            for target in made.targets:
                targets.setdefault((target.url, target.labels), target)
        if bad:
            self._log(logging.WARNING, "targets", "receivers.%s: cannot scrape %d targets (%s); correct what gives them, or relabel them",
                      self._name, len(bad), "; ".join(sorted(bad)[:MOST_REASONS]))  # fmt: skip
        self._warn_of_twins(targets)
        self._all = tuple(targets[key] for key in sorted(targets))
        return self._all

    def _warn_of_twins(self, targets: Iterable[tuple[str, tuple[tuple[str, str], ...]]]) -> None:
        """Say once of which targets, given by URL and labels, the labels are the same: their series collide."""
        urls: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
        for url, labels in targets:
            urls[labels].append(url)
        twins = {
            labels: " and ".join(sorted(map(safe_url, found))[:2]) for labels, found in urls.items() if len(found) > 1
        }
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
        made = _Made(group, [], [], Counter())
        for found in group.targets:
            try:
                target = self._population({**group.labels, **found})
            except BadTarget as error:
                made.bad.append(f"{_without_user(found.get(ADDRESS, '')) or 'one without address'}: {error}")
                continue
            if isinstance(target, ScrapeTarget):
                made.targets.append(target)
            else:
                made.passed[target] += 1
        return made
