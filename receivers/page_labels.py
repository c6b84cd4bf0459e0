"""A target's labels and those that the target wrote itself: which go on a series where they clash.

Source: prometheus/prometheus, scrape/scrape.go, ``mutateSampleLabels``, ``resolveConflictingExposedLabels`` and
``mutateReportSampleLabels``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ebbtide import flatten, pairs

EXPORTED = "exported_"  # before the name of a label that the target wrote and a target label displaced


def labelled(
    scraped: tuple[str, ...], target: Mapping[str, str], *, honor: bool, empty: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the labels of a series: flat, sorted, none empty.

    ``honor``: what the target wrote wins, also an ``empty`` label of that name, which then is no label at all. Else a
    label that it wrote under the name of a target label is renamed ``exported_x``, as often as it takes.
    """
    labels = dict(pairs(scraped))
    if honor:
        return flatten({**target, **dict.fromkeys(empty, ""), **labels})
    displaced = sorted((name for name in labels if name in target), key=len)
    merged = {**labels, **target}
    for name in displaced:
        renamed = EXPORTED + name
        while merged.get(renamed):
            renamed = EXPORTED + renamed
        merged[renamed] = labels[name]
    return flatten(merged)


def report_labels(target: Mapping[str, str]) -> tuple[str, ...]:
    """Return the labels of the series that tell of a poll itself: those of the target, flat and sorted.

    As in Prometheus a target's own label ``exported_x`` is lost where it also has an ``x`` that sorts behind it.
    """
    lost = {EXPORTED + name for name in target if name > EXPORTED + name}
    return flatten({name: value for name, value in target.items() if name not in lost})
