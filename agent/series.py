"""Series and tables of series: the rows of the form whose numbers move."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.identity import (
    AGENT_SCOPE,
    EMPTY_RESOURCE,
    Derivable,
    Family,
    Labels,
    Resource,
    Scope,
    Target,
    flatten,
    join_own,
    pairs,
    split_own,
)


class Series(Derivable):
    """One time series' identity, interned: two equal series are the same object.

    ``name`` is the sample's name (``x_bucket``, not ``x``). Its labels are ``base``, which it shares with others, and
    ``own``: the pair ``le`` or ``quantile``, where it has one, so that the parts of a histogram share all the rest.
    ``target`` is whom it was scraped from, where that is known.
    """

    __slots__ = ("base", "family", "name", "own", "resource", "scope", "target")

    _known: ClassVar[dict[int, _Known]] = {}  # by hash alone: a key of its own would cost as much as the series
    _clashing: ClassVar[weakref.WeakValueDictionary[Hashable, Series]] = weakref.WeakValueDictionary()

    name: str
    base: Labels
    own: tuple[str, ...]
    family: Family
    resource: Resource
    scope: Scope
    target: Target | None

    @classmethod
    def of(
        cls,
        name: str,
        labels: Mapping[str, str] | None = None,
        family: Family | None = None,
        resource: Resource = EMPTY_RESOURCE,
        scope: Scope = AGENT_SCOPE,
        target: Target | None = None,
    ) -> Series:
        """Intern a series. Labels with an empty value are absent labels, as in Prometheus."""
        return cls.flat_of(name, flatten(labels or {}), family or Family(name), resource, scope, target)

    @classmethod
    def flat_of(
        cls,
        name: str,
        flat: tuple[str, ...],
        family: Family,
        resource: Resource = EMPTY_RESOURCE,
        scope: Scope = AGENT_SCOPE,
        target: Target | None = None,
    ) -> Series:
        """Intern a series whose labels are flat, sorted and without empty values already."""
        rest, own = split_own(name, flat)
        return cls.parts_of(name, Labels.of(rest), own, family, resource, scope, target)

    @classmethod
    def parts_of(
        cls,
        name: str,
        base: Labels,
        own: tuple[str, ...],
        family: Family,
        resource: Resource = EMPTY_RESOURCE,
        scope: Scope = AGENT_SCOPE,
        target: Target | None = None,
    ) -> Series:
        """Intern a series by the labels that it shares and its own ``le`` or ``quantile``."""
        key = (name, base, own, family.identity, resource, scope, target)
        number = hash(key)
        known = cls._known.get(number)
        series = None if known is None else known()
        if series is not None:
            if series._is(key):
                return series
            return cls._make(key, family, cls._clashing, key)
        if cls._clashing and (clashing := cls._clashing.get(key)) is not None:
            return clashing
        return cls._make(key, family, None, number)

    @classmethod
    def _make(
        cls, key: _SeriesKey, family: Family, clashing: weakref.WeakValueDictionary[Hashable, Series] | None, at: Any
    ) -> Series:
        if clashing is not None and (series := clashing.get(at)) is not None:
            return series
        series = cls()
        series.name, series.base, series.own, _, series.resource, series.scope, series.target = key
        series.family = family
        series._derived = ()
        if clashing is not None:
            clashing[at] = series
        else:
            known = _Known(series, _forget)
            known.number = at
            cls._known[at] = known
        return series

    def _is(self, key: _SeriesKey) -> bool:
        mine = (self.name, self.base, self.own, self.family.identity, self.resource, self.scope, self.target)
        return mine == key

    @property
    def flat(self) -> tuple[str, ...]:
        """All labels, flat and sorted; made at each call where the series has one of its own."""
        return join_own(self.base.flat, self.own)

    @property
    def labels(self) -> dict[str, str]:
        """The labels as a new dict: convenient, and made at each call."""
        return dict(pairs(self.flat))

    def label(self, name: str, default: str = "") -> str:
        """Return one label's value without building a dict."""
        flat = self.own if self.own and self.own[0] == name else self.base.flat
        for index in range(0, len(flat), 2):
            if flat[index] == name:
                return flat[index + 1]
        return default

    def but(
        self,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        family: Family | None = None,
        resource: Resource | None = None,
        scope: Scope | None = None,
    ) -> Series:
        """Return the series that differs from this one in what is given; a new name takes the family along."""
        if family is None:
            family = self.family if name is None or name == self.name else self.family.renamed(self.name, name)
        return Series.flat_of(
            self.name if name is None else name,
            self.flat if labels is None else flatten(labels),
            family,
            resource or self.resource,
            scope or self.scope,
            self.target,
        )

    def __repr__(self) -> str:
        inside = ",".join(f'{k}="{v}"' for k, v in self.labels.items())
        return f"{self.name}{{{inside}}}"


_SeriesKey = tuple[str, Labels, tuple[str, ...], tuple[str, str, str], Resource, Scope, Target | None]


class _Known(weakref.ref[Series]):
    """A weak reference that knows where it is kept."""

    __slots__ = ("number",)

    number: int


def _forget(known: Any, registry: dict[int, _Known] = Series._known) -> None:  # at exit the class may be gone already
    number = known.number
    if registry.get(number) is known:
        del registry[number]


class SeriesTable(Derivable):
    """An ordered, immutable set of rows, one series each.

    ``origin`` is the table that this one was taken from and the rows that were taken, so that what follows from it can
    be made by taking, too. It is never itself taken from another.
    """

    __slots__ = ("_series", "origin")

    origin: tuple[SeriesTable, npt.NDArray[np.intp]] | None

    def __init__(self, series: Iterable[Series]):
        self._series: tuple[Series, ...] | None = tuple(series)
        self.origin = None
        self._derived = ()

    @property
    def series(self) -> tuple[Series, ...]:
        """The rows. Those of a table that was taken are looked up when they are asked for, which mostly nobody does."""
        if self._series is None and self.origin is not None:
            table, rows = self.origin
            self._series = tuple(map(table.series.__getitem__, rows.tolist()))
        return self._series or ()

    def __len__(self) -> int:
        return len(self.origin[1] if self._series is None and self.origin is not None else self._series or ())

    def __iter__(self) -> Iterator[Series]:
        return iter(self.series)

    def take(self, rows: npt.NDArray[np.intp] | Sequence[int]) -> SeriesTable:
        """Return a new table of these rows, in this order."""
        index = np.asarray(rows, np.intp)
        taken = SeriesTable(())
        taken._series = None
        table, within = self.origin or (self, np.arange(len(self)))
        taken.origin = table, within[index]
        return taken
