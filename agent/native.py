"""What is rare on a row and has no column: a native histogram, and exemplars.

Shapes follow Prometheus' own (``prometheus/model/histogram``, ``model/exemplar``), but that bucket counts are absolute and
dense: between two spans a zero stands for each bucket without observations. Receivers therefore make histograms with
``NativeHistogram.of``, which merges neighbouring buckets where two of them lie so far apart that all between them would
not fit: a few bytes on a page must not become gigabytes here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

CUSTOM_BUCKETS = -53
"""Schema of histograms with bounds of their own (NHCB): ``custom_bounds`` are the upper bounds, +Inf left out."""
MIN_SCHEMA, MAX_SCHEMA = -4, 8
"""The exponential schemas that Prometheus stores and OTLP takes; finer ones are merged down to the finest of these."""
FINEST_SCHEMA = 52
"""The finest schema that Prometheus knows of (``ExponentialSchemaMaxReserved``)."""
MAX_BUCKETS = 4096
"""Buckets of one side at most, the empty ones between others among them; more are merged."""

_COUNTS = 2**64  # what OTLP counts with
_LEAST_EXPONENT, _LARGEST_EXPONENT = -1074, 1024  # of what a double can hold: 2**-1074 is above 0, 2**1024 is infinite


@dataclass(frozen=True, slots=True)
class Buckets:
    """Counts of observations in neighbouring buckets.

    ``offset`` is Prometheus' index of the first: with a base of ``2**2**-schema`` the bucket of index i holds what is above
    ``base**(i-1)`` and at most ``base**i``. For custom bounds it is the place of the first bucket among them.
    """

    offset: int = 0
    counts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class NativeHistogram:
    """A histogram in one point: the value of its row is ``count``, its series has the name of the family.

    ``sum`` may be NaN. ``zero_count`` observations lie within ``zero_threshold`` of 0. Counts are whole numbers or, in
    float histograms (results of queries), any: they are floats here.
    """

    count: float
    sum: float
    schema: int
    zero_threshold: float
    zero_count: float
    positive: Buckets
    negative: Buckets
    custom_bounds: tuple[float, ...] = ()
    is_gauge: bool = False

    @classmethod
    def of(
        cls,
        *,
        count: float,
        sum: float,
        schema: int,
        zero_threshold: float = 0.0,
        zero_count: float = 0.0,
        positive: Mapping[int, float] | None = None,
        negative: Mapping[int, float] | None = None,
        custom_bounds: Sequence[float] = (),
        is_gauge: bool = False,
        max_buckets: int = MAX_BUCKETS,
    ) -> NativeHistogram:
        """Make a histogram of sparse buckets: absolute counts by Prometheus' index, see ``sparse``.

        Schemas above 8 are merged down to 8, as Prometheus does, and any to a coarser one until no side has more than
        ``max_buckets``. Raises ValueError for what Prometheus refuses, too: an unknown schema, counts below 0, custom
        bounds that do not rise or are fewer than the buckets (``Histogram.Validate``).
        """
        positive, negative = positive or {}, negative or {}
        if not all(number >= 0 for number in (*positive.values(), *negative.values())):  # NaN is not
            raise ValueError("cannot take a native histogram: one of its buckets has a count below 0")
        if schema == CUSTOM_BUCKETS:
            _check_custom(custom_bounds, positive, negative, zero_threshold, zero_count)
        else:
            if not MIN_SCHEMA <= schema <= FINEST_SCHEMA:
                raise ValueError(f"cannot take a native histogram of schema {schema}: it is unknown")
            if custom_bounds:
                raise ValueError("cannot take a native histogram: it has custom bounds beside an exponential schema")
            schema, positive, negative = _merged(schema, positive, negative, max_buckets)
        sides = _dense(positive), _dense(negative)
        return cls(count, sum, schema, zero_threshold, zero_count, *sides, tuple(custom_bounds), is_gauge)

    @property
    def is_custom(self) -> bool:
        """Whether it has bounds of its own instead of exponential ones."""
        return self.schema == CUSTOM_BUCKETS

    def standard(self) -> NativeHistogram:
        """Return it in a schema of at most 8, the finest that is stored or sent: itself, nearly always."""
        if self.schema <= MAX_SCHEMA:
            return self
        return NativeHistogram.of(
            count=self.count,
            sum=self.sum,
            schema=self.schema,
            zero_threshold=self.zero_threshold,
            zero_count=self.zero_count,
            positive=dict(enumerate(self.positive.counts, self.positive.offset)),
            negative=dict(enumerate(self.negative.counts, self.negative.offset)),
            is_gauge=self.is_gauge,
        )

    @property
    def has_otlp_form(self) -> bool:
        """Whether OTLP can say it: gauges, float histograms and unknown schemas MUST be dropped.

        Source: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility", Native Histograms. Of which
        flavour one is, is told by its counts: a float histogram whose counts are all whole numbers loses nothing.
        """
        known = self.is_custom or MIN_SCHEMA <= self.schema <= FINEST_SCHEMA
        placed = [*map(float, (self.zero_count, *self.positive.counts, *self.negative.counts))]
        counts = [float(self.count), *placed]
        whole = all(map(float.is_integer, counts)) and min(counts) >= 0
        fits = whole and max(int(self.count), sum(map(int, placed))) < _COUNTS
        return known and not self.is_gauge and fits


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation as an example. ``labels`` flat as a series' are, name after value; ``time`` in ns, 0 = unknown."""

    labels: tuple[str, ...]
    value: float
    time: int


@dataclass(frozen=True, slots=True)
class Extra:
    """What hangs on one row of a batch."""

    native: NativeHistogram | None = None
    exemplars: tuple[Exemplar, ...] = ()


def sparse(spans: Iterable[tuple[int, int]], counts: Sequence[float]) -> dict[int, float]:
    """Return {index: count} of spans (offset, length) and the absolute counts that they place.

    The first offset is the index of the first bucket, each further one the gap to the span before. Raises ValueError
    where spans and counts do not fit together (``checkHistogramSpans``).
    """
    placed: dict[int, float] = {}
    index = used = 0
    for number, (offset, length) in enumerate(spans):
        if length < 0 or (number and offset < 0):
            raise ValueError("cannot take a native histogram: a span begins before the end of the span before it")
        index += offset
        if used + length > len(counts):
            break
        placed.update(zip(range(index, index + length), counts[used : used + length], strict=True))
        index += length
        used += length
    else:
        if used == len(counts):
            return placed
    raise ValueError(f"cannot take a native histogram: its spans do not place just {len(counts)} buckets")


def index_limits(schema: int) -> tuple[int, int]:
    """Return the least and the largest index of a bucket that can hold a finite number other than 0.

    The one above the largest is Prometheus' overflow bucket: what is counted there is infinite.
    """
    if schema >= 0:
        return (_LEAST_EXPONENT << schema), _LARGEST_EXPONENT << schema
    return (_LEAST_EXPONENT - 1 >> -schema) + 1, _LARGEST_EXPONENT >> -schema


def upper_bound(index: int, schema: int) -> float:
    """Return the inclusive upper bound of an exponential bucket: ``2**(index * 2**-schema)``, infinite above doubles."""
    try:
        return float(2.0 ** math.ldexp(index, -schema))
    except OverflowError:  # Prometheus takes the largest double as the bound of the last bucket before the overflow
        return math.nextafter(math.inf, 0) if index == index_limits(schema)[1] else math.inf


def coarser(index: int, steps: int) -> int:
    """Return the index of the bucket that holds this one, so many schemas down (``targetIdx`` in Prometheus)."""
    return (index - 1 >> steps) + 1


def _check_custom(
    bounds: Sequence[float],
    positive: Mapping[int, float],
    negative: Mapping[int, float],
    zero_threshold: float,
    zero_count: float,
) -> None:
    if not all(map(math.isfinite, bounds)) or not all(one < next_ for one, next_ in pairwise(bounds)):
        raise ValueError("cannot take a native histogram: its custom bounds are not finite and rising")
    if negative or zero_threshold or zero_count:
        raise ValueError(
            "cannot take a native histogram: it has custom bounds and, beside them, negative or zero buckets"
        )
    if positive and not (min(positive) >= 0 and max(positive) <= len(bounds)):
        raise ValueError("cannot take a native histogram: it has more buckets than custom bounds")


def _merged(
    schema: int, positive: Mapping[int, float], negative: Mapping[int, float], most: int
) -> tuple[int, Mapping[int, float], Mapping[int, float]]:
    """Merge to a schema of at most 8, and on until both sides fit; what no double can be is counted at the edge."""
    least, largest = index_limits(schema)
    sides = [_clamped(side, least, largest + 1) for side in (positive, negative)]
    steps = max(schema - MAX_SCHEMA, 0)
    while schema - steps > MIN_SCHEMA and any(_width(side, steps) > most for side in sides):
        steps += 1
    if steps:
        sides = [_summed((coarser(index, steps), count) for index, count in side.items()) for side in sides]
    return schema - steps, sides[0], sides[1]


def _clamped(side: Mapping[int, float], least: int, most: int) -> Mapping[int, float]:
    if not side or (min(side) >= least and max(side) <= most):
        return side
    return _summed((min(max(index, least), most), count) for index, count in side.items())


def _width(side: Mapping[int, float], steps: int) -> int:
    return coarser(max(side), steps) - coarser(min(side), steps) + 1 if side else 0


def _summed(counted: Iterable[tuple[int, float]]) -> dict[int, float]:
    total: dict[int, float] = {}
    for index, count in counted:
        total[index] = total.get(index, 0.0) + count
    return total


def _dense(side: Mapping[int, float]) -> Buckets:
    if not side:
        return Buckets()
    first, last = min(side), max(side)
    if last - first + 1 == len(side) and list(side) == list(range(first, last + 1)):  # none is empty, all in order
        return Buckets(first, tuple(map(float, side.values())))
    return Buckets(first, tuple(float(side.get(index, 0.0)) for index in range(first, last + 1)))
