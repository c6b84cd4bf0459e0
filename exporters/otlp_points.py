"""Which rows of a table make one OTLP point, and where that point belongs: resource, scope, metric, attributes.

Rules: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility". A counter is a monotonic cumulative Sum,
info and stateset a non-monotonic one, gauge and unknown a Gauge; ``x_bucket``, ``x_sum`` and ``x_count`` of one label set
are one Histogram x (without its count there is none), quantiles one Summary x. Other names are not changed. Native
histograms are whole points in ``Batch.extras``: their rows, which bear the family's own name, are in no point here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from ebbtide import Family, Owner, Resource, Scope, Series, number_of, pairs, part_of
from exporters.protobuf import key_value, length_delimited

DATA_OF_KIND = {
    "counter": "sum",
    "info": "sum",
    "stateset": "sum",
    "gauge": "gauge",
    "unknown": "gauge",
    "histogram": "histogram",
    "summary": "summary",
}
# in the point's message
_ATTRIBUTES_FIELD = {"gauge": 7, "sum": 7, "histogram": 9, "summary": 7, "exponential_histogram": 1}
COMPOUND = frozenset(("histogram", "summary"))
"""Data whose points are made of several rows."""

_LABELS = 4096  # so many encoded labels are remembered: most values stand on many series
_ATTRIBUTES = {number: Owner.of("otlp attributes", number) for number in set(_ATTRIBUTES_FIELD.values())}


@dataclass(slots=True)
class Point:
    """One point to be: its rows in the table by role, -1 where there is none, and its encoded attributes.

    ``row`` holds the value of a number, the count of a histogram or summary. ``parts``: bound or quantile -> row.
    ``spare``: rows that belong to the point and are not written: the +Inf bucket, a bound given twice.
    """

    attributes: bytes = b""
    row: int = -1
    sum_row: int = -1
    parts: dict[float, int] = field(default_factory=dict)
    spare: list[int] = field(default_factory=list)

    @property
    def rows(self) -> list[int]:
        """All rows that the point stands for."""
        return [self.row, *([self.sum_row] if self.sum_row >= 0 else ()), *self.parts.values(), *self.spare]


@dataclass(slots=True)
class Metric:
    """A metric to be; ``data`` is its oneof in metrics.proto: gauge, sum, histogram, exponential_histogram, summary."""

    name: str
    data: str
    family: Family
    points: list[Point] = field(default_factory=list)


Scopes = dict[Scope, list[Metric]]


def group(table: Iterable[Series]) -> dict[Resource, Scopes]:
    """Group the rows of a table; what lacks its count, or fits no kind, is in no point."""
    grouping = _Grouping()
    for row, series in enumerate(table):
        grouping.add(row, series)
    return grouping.finish()


def is_native(series: Series) -> bool:
    """Whether the series is one of native histograms: one histogram in each point, under the family's own name."""
    return series.family.kind == "histogram" and series.name == series.family.name


def attributes_of(series: Series, data: str) -> bytes:
    """Return the encoded attributes of a point of the series, in a metric of these data."""
    number = _ATTRIBUTES_FIELD[data]
    if series.own:  # an `le` on what is no histogram: nobody shares these
        return _encode(series.flat, number)
    return series.base.derive(_ATTRIBUTES[number], lambda base: _encode(base.flat, number))


class _Grouping:
    """What was found so far.

    Rows of a metric, and the bounds of a histogram, mostly come one after the other: ``_numbers`` is the last row that is
    a number, and the points of its metric; ``_bounds`` the last row with a bound or quantile, and its point.
    """

    def __init__(self) -> None:
        self._metrics: dict[tuple[object, ...], Metric] = {}
        self._places: list[tuple[Resource, Scope, Metric]] = []
        self._compound: dict[tuple[object, ...], Point] = {}
        self._numbers: tuple[Series, list[Point]] | None = None
        self._bounds: tuple[Series, Point] | None = None

    def add(self, row: int, series: Series) -> None:
        data = DATA_OF_KIND.get(series.family.kind)
        if data is None:
            return
        if data in COMPOUND:
            self._add_part(row, series, data)
            return
        if self._numbers is None or not _alike(series, self._numbers[0]):
            self._numbers = series, self._metric(series, series.name, data).points
        self._numbers[1].append(Point(attributes_of(series, data), row))

    def _add_part(self, row: int, series: Series, data: str) -> None:
        before = self._bounds
        if before is not None and series.own and series.base is before[0].base and _alike(series, before[0]):
            _add_bound(before[1], number_of(series.own[1]), row, data)
            return
        part = part_of(series)
        if part is None:
            return
        key = (part.name, part.base, series.family.identity, series.resource, series.scope)
        point = self._compound.get(key)
        if point is None:
            point = self._compound[key] = Point()
            self._metric(series, part.name, data).points.append(point)
        if part.role == "count":
            point.row = row
            point.attributes = attributes_of(series, data)
        elif part.role == "sum":
            point.sum_row = row
        else:
            self._bounds = series, point
            _add_bound(point, part.number, row, data)

    def _metric(self, series: Series, name: str, data: str) -> Metric:
        key = (name, series.family.identity, series.resource, series.scope)
        metric = self._metrics.get(key)
        if metric is None:
            metric = self._metrics[key] = Metric(name, data, series.family)
            self._places.append((series.resource, series.scope, metric))
        return metric

    def finish(self) -> dict[Resource, Scopes]:
        resources: dict[Resource, Scopes] = {}
        for resource, scope, metric in self._places:
            if metric.data in COMPOUND:
                metric.points = [point for point in metric.points if point.row >= 0]
            if metric.points:
                resources.setdefault(resource, {}).setdefault(scope, []).append(metric)
        return resources


def _alike(series: Series, other: Series) -> bool:
    """Whether two series are rows of the same metric, as far as their names go."""
    return (
        series.name == other.name
        and series.family is other.family
        and series.resource is other.resource
        and series.scope is other.scope
    )


def _add_bound(point: Point, number: float | None, row: int, data: str) -> None:
    """Let the row be that of a bound or quantile, unless it is given twice, or is the +Inf bucket; None is no number."""
    if number is None:
        return
    if number in point.parts or (data == "histogram" and number == math.inf):
        point.spare.append(row)
    else:
        point.parts[number] = row


def _encode(flat: tuple[str, ...], number: int) -> bytes:
    return b"".join([length_delimited(number, _label(*pair)) for pair in pairs(flat)])


@lru_cache(_LABELS)
def _label(name: str, value: str) -> bytes:
    return key_value(name, value)
