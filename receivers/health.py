"""The five series that say how a poll went: ``up`` and ``scrape_*``, as Prometheus writes them for each target."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ebbtide import Batch, Family, Series, SeriesTable, Target

# Source: prometheus/prometheus, scrape/scrape.go, `report`.
_SERIES = (
    ("up", "", "1 if the target answered and the answer could be read, else 0."),
    ("scrape_duration_seconds", "s", "How long the poll took."),
    ("scrape_samples_scraped", "", "How many samples the answer held."),
    ("scrape_samples_post_metric_relabeling", "", "How many of them were left after the receiver's relabelling."),
    ("scrape_series_added", "", "How many series of the answer were new."),
)

FAMILIES = tuple(Family(name, "gauge", unit, help, "agent") for name, unit, help in _SERIES)


class Health:
    """The scrape series of one target; ``labels`` hold its job and instance."""

    def __init__(self, labels: Mapping[str, str]):
        target = Target.of(labels)
        self._table = SeriesTable(Series.of(family.name, labels, family, target=target) for family in FAMILIES)

    def batch(self, now: int, *, up: bool, seconds: float, samples: int = 0, left: int = 0, added: int = 0) -> Batch:
        """Return the five points at the wall time ``now`` (ns)."""
        values = np.array([float(up), seconds, samples, left, added], np.float64)
        return Batch(self._table, values, np.full(len(self._table), now, np.int64))
