"""Filtering of series by Prometheus' selectors.

Strategy. Dozens of series share their labels and differ only in name and ``le``. What selectors say of shared labels is
found out once for all who share them; only the conditions that are left open are tried on each series.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from ebbtide import (
    OWN_LABELS,
    SERIES_NAME,
    Context,
    Labels,
    Matcher,
    Selector,
    SelectorError,
    Series,
    SeriesProcessor,
    Settings,
    option,
    pairs,
    parse_selector,
)

# What series that share their labels differ in.
_OWN = (SERIES_NAME, *OWN_LABELS)

_Open = tuple[tuple[Matcher, ...], ...]
"""Of each selector that shared labels do not refute: the conditions that they leave open."""


def _selector(text: str) -> str:
    try:
        parse_selector(text)
    except SelectorError as error:
        raise ValueError(f"not a selector: {error}; write one such as '{{job=\"linkerd-proxy\"}}'") from None
    return text


Selectors = list[Annotated[str, AfterValidator(_selector)]]


class FilterSettings(Settings):
    """Options of the processor "filter"."""

    keep: Selectors = option(
        [],
        "Prometheus selectors: only series that one of them selects stay. Empty: all stay.",
        examples=[['{job="linkerd-proxy"}']],
    )
    drop: Selectors = option(
        [],
        "Prometheus selectors: series that one of them selects are dropped, even where `keep` selects them.",
        examples=[['{__name__=~"stack_.*|tokio_rt_.*"}', '{target_port="4191"}']],
    )


class _Asked(NamedTuple):
    keep: _Open
    drop: _Open


class Filter(SeriesProcessor[FilterSettings]):
    """Keeps or drops series by Prometheus' selectors.

    A series stays where any selector of `keep` selects it (if there are any) and none of `drop` does. A part of a
    histogram is a series of its own: to drop a histogram, drop `x_bucket`, `x_sum` and `x_count`.
    """

    Settings = FilterSettings

    def __init__(self, settings: FilterSettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        self._keep = [parse_selector(text) for text in self.settings.keep]
        self._drop = [parse_selector(text) for text in self.settings.drop]

    def map_series(self, series: Series) -> Series | None:
        """Return the series if it stays."""
        keep, drop = series.base.derive(self.owner, self._ask)
        stays = (not self._keep or _any(keep, series)) and not _any(drop, series)
        return series if stays else None

    def _ask(self, base: Labels) -> _Asked:
        labels = dict(pairs(base.flat))
        return _Asked(_left_open(self._keep, labels), _left_open(self._drop, labels))


def _left_open(selectors: list[Selector], labels: dict[str, str]) -> _Open:
    left = []
    for selector in selectors:
        shared = [matcher for matcher in selector.matchers if matcher.label not in _OWN]
        if all(matcher(labels.get(matcher.label, "")) for matcher in shared):
            left.append(tuple(matcher for matcher in selector.matchers if matcher.label in _OWN))
    return tuple(left)


def _any(left: _Open, series: Series) -> bool:
    return any(all(matcher(_value(series, matcher.label)) for matcher in matchers) for matchers in left)


def _value(series: Series, label: str) -> str:
    return series.name if label == SERIES_NAME else series.label(label)
