"""Relabelling of series, by Prometheus' rules (its ``metric_relabel_configs``).

Strategy. Dozens of series share their labels and differ only in name and ``le``. So the first rules, as many as do not
touch those, are applied to the shared labels, once for all who share them; only the others are applied to each series,
and where there are none a new series costs one look-up. As in Prometheus, labels that begin with ``__`` stay.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ebbtide import (
    OWN_LABELS,
    SERIES_NAME,
    Context,
    Draft,
    Family,
    Labels,
    Relabelling,
    RelabelRule,
    Series,
    SeriesProcessor,
    Settings,
    Target,
    flatten,
    join_own,
    option,
    pairs,
    split_own,
)

# What series that share their labels differ in.
_OWN = (SERIES_NAME, *OWN_LABELS)

# Renamed families that are remembered, so that series share them.
_FAMILIES = 1024


class RelabelSettings(Settings):
    """Options of the processor "relabel"."""

    rules: list[RelabelRule] = option(
        [],
        "Prometheus' relabel rules, applied in this order to each series.",
        examples=[[{"action": "labeldrop", "regex": "pod_template_hash"}]],
    )


class _Begun(NamedTuple):
    """Shared labels after the first ``rules``: interned, and, where other rules follow, as a draft and as they are."""

    given: dict[str, str]
    written: dict[str, str]
    rules: int
    labels: dict[str, str]
    base: Labels


class _Left:
    """A target. Labels remember by it what is left of the target in them, for as long as the target lives."""

    __slots__ = ("__weakref__", "_target")

    def __init__(self, target: Target):
        self._target = target

    def of(self, base: Labels) -> Target:
        """Return the target with those of its labels alone that the rules left, so that equal labels are equal series."""
        left = set(pairs(base.flat))
        mine = list(pairs(self._target.flat))
        kept = {name: value for name, value in mine if (name, value) in left}
        return self._target if len(kept) == len(mine) else Target.of(kept, dict(pairs(self._target.attributes)))


class Relabel(SeriesProcessor[RelabelSettings]):
    """Rewrites names and labels, or drops series, by Prometheus' relabel rules.

    A series that a rule drops, or that is left without a name, is counted as `relabel`. Of series that become equal the
    first stays; the others are counted as `collision`.
    """

    Settings = RelabelSettings
    drop_reason = "relabel"

    def __init__(self, settings: RelabelSettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        self._relabelling = Relabelling(self.settings.rules)
        self._shared = self._relabelling.untouched(_OWN)
        self._renamed = lru_cache(_FAMILIES)(Family.renamed)

    def map_series(self, series: Series) -> Series | None:
        """Apply the rules to one series."""
        begun = series.base.derive(self.owner, self._begin)
        if begun is None:
            return None
        if begun.rules == len(self.settings.rules):
            return series if begun.base is series.base else self._series(series, series.name, begun.base, series.own)
        draft = Draft(begun.given | _own_labels(series), begun.written.copy())
        if not self._relabelling.apply(draft, begun.rules):
            return None
        labels = draft.labels()
        name = labels.pop(SERIES_NAME, "")
        return self._series(series, name, *_parted(name, labels, begun)) if name else None

    def blame(self, one: Series, other: Series) -> str:
        """Name the first rule after which the two have the same labels."""
        drafts = [Draft(series.labels | _own_labels(series)) for series in (one, other)]
        if drafts[0].labels() == drafts[1].labels():
            return ""
        for number, rule in enumerate(self.settings.rules):
            if not all(self._relabelling.apply(draft, number, number + 1) for draft in drafts):
                return ""
            if drafts[0].labels() == drafts[1].labels():
                return f"rules[{number}], {rule.action}"
        return ""

    def _begin(self, base: Labels) -> _Begun | None:
        """Apply the first rules to labels that series share; None where these drop them all."""
        labels = dict(pairs(base.flat))
        draft = Draft(labels.copy())
        if not self._relabelling.apply(draft, end=self._shared):
            return None
        done = self._shared
        if any(draft.get(name) != labels.get(name, "") for name in _OWN):  # they do write what series differ in
            draft, done = Draft(labels), 0
        left = draft.labels()
        base = Labels.of(flatten(left))
        if done == len(self.settings.rules):
            return _Begun({}, {}, done, {}, base)
        return _Begun(draft.given, draft.written, done, left, base)

    def _series(self, old: Series, name: str, base: Labels, own: tuple[str, ...]) -> Series:
        """Return the series under its new name and labels; a new name takes the family along."""
        family = old.family if name == old.name else self._renamed(old.family, old.name, name)
        target = old.target
        if target is not None:
            left = target.derive(self.owner, _Left)
            target = base.derive(left, left.of)
        return Series.parts_of(name, base, own, family, old.resource, old.scope, target)


def _parted(name: str, labels: dict[str, str], begun: _Begun) -> tuple[Labels, tuple[str, ...]]:
    """Return the labels to share and the series' own; mostly the former are those that were shared at the beginning."""
    bounds = [(label, labels.pop(label)) for label in OWN_LABELS if label in labels]
    base = begun.base if labels == begun.labels else Labels.of(flatten(labels))
    if not bounds:
        return base, ()
    flat = base.flat
    for bound in bounds:
        flat = join_own(flat, bound)
    rest, own = split_own(name, flat)
    return Labels.of(rest), own


def _own_labels(series: Series) -> dict[str, str]:
    return {SERIES_NAME: series.name, **dict(pairs(series.own))}
