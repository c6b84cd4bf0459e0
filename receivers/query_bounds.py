"""Where the buckets of a native histogram belong, by their boundaries: which schema, which indexes. Sans-IO.

Strategy. Boundaries of exponential buckets are powers of one base, so a bucket's width gives the schema and its upper
boundary the index; the innermost bucket of each side may be cut off by the zero bucket. What cannot be exponential has
custom boundaries. Of those an answer shows the ones around its observations, and between two of them nothing was observed:
so the ones that have shown so far place every count where it belongs. A bucket across a boundary that has shown before says
that the boundaries have changed, which is a reset, in Prometheus too. Where few buckets could be either, the series is what
it was.

Source: prometheus/prometheus, util/jsonutil (MarshalHistogram), model/histogram (getBound, allFloatBucketIterator,
DetectReset).
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from ebbtide import CUSTOM_BUCKETS, MAX_BUCKETS, NativeHistogram, index_limits

# Of a bucket's boundaries; closed are the zero bucket and the first custom one.
_OPEN_LEFT, _OPEN_RIGHT, _OPEN, _CLOSED = 0, 1, 2, 3
_LEAST_SCHEMA, _LARGEST_SCHEMA = -4, 8
_LARGEST = math.nextafter(math.inf, 0)  # boundary of the bucket that counts infinities
_EXACT = 1e-6  # of an index: so little may boundaries, rounded to doubles, be off
_NONE = -1  # no bucket


class Known(NamedTuple):
    """What a series was before: its schema, or all custom boundaries that have shown; None: that it was not, or nothing."""

    schema: int | None = None
    bounds: tuple[float, ...] | None = None


class Bucket(NamedTuple):
    """What was observed above ``low`` (or at it) and up to ``high``, and its place among all buckets."""

    low: float
    high: float
    place: int


Side = tuple[tuple[int, int], ...]
"""Index and place of the buckets of one side."""


@dataclass(frozen=True, slots=True)
class Form:
    """Where the counts of all histograms that show the same boundaries belong.

    ``zero``: the place of the zero bucket. ``renewed``: custom boundaries that are others than before, so all began anew.
    """

    schema: int
    positive: Side = ()
    negative: Side = ()
    zero: int = _NONE
    threshold: float = 0.0
    bounds: tuple[float, ...] = ()
    renewed: bool = False

    def filled(self, count: float, sum: float, counts: Sequence[float]) -> NativeHistogram:
        """Return the histogram of these counts, in the order in which they came. Raises ValueError for one below 0."""
        return NativeHistogram.of(
            count=count,
            sum=sum,
            schema=self.schema,
            zero_threshold=self.threshold,
            zero_count=0.0 if self.zero == _NONE else counts[self.zero],
            positive={index: counts[place] for index, place in self.positive},
            negative={index: counts[place] for index, place in self.negative},
            custom_bounds=self.bounds,
        )


class NotExponential(ValueError):
    """The boundaries are not those of one exponential schema."""


def form_of(shape: bytes, known: Known) -> Form:
    """Return the form of buckets with these boundaries: rule, lower and upper one of each as doubles, ``known`` from before.

    Raises ValueError where they are those of no histogram.
    """
    numbers = iter(array("d", shape))
    buckets = [*zip(numbers, numbers, numbers, strict=True)]
    if known.bounds is not None:
        with suppress(ValueError):
            custom = _custom(buckets, known.bounds)
            if not custom.renewed:
                return custom
    try:
        return _exponential(buckets, known.schema)
    except NotExponential:
        return _custom(buckets, known.bounds or ())


Raw = list[tuple[float, float, float]]
"""Rule, lower and upper boundary of each bucket."""


# -- exponential ---------------------------------------------------------------------------------------------------


def _exponential(buckets: Raw, known: int | None) -> Form:
    """Raises NotExponential. ``known``: the schema that the series had before."""
    zeros, *sides = _dealt(buckets)
    if len(zeros) > 1:
        raise NotExponential
    _, threshold, zero = zeros[0] if zeros else Bucket(0.0, 0.0, _NONE)
    schema = _schema_of(sides, known, threshold)
    positive, negative = (_indexed(side, schema, known, threshold) for side in sides)
    return Form(schema, positive, negative, zero, threshold)


def _dealt(buckets: Raw) -> tuple[list[Bucket], list[Bucket], list[Bucket]]:
    """Return zero buckets, and both sides from 0 outwards, positive and negative; the latter mirrored."""
    zeros: list[Bucket] = []
    positive: list[Bucket] = []
    negative: list[Bucket] = []
    for place, (rule, low, high) in enumerate(buckets):
        if rule == _CLOSED and low == -high and math.isfinite(high):
            zeros.append(Bucket(low, high, place))
        elif rule == _OPEN_LEFT and 0 < low < high:
            positive.append(Bucket(low, high, place))
        elif rule == _OPEN_RIGHT and low < high < 0:
            negative.append(Bucket(-high, -low, place))
        else:
            raise NotExponential
    return zeros, sorted(positive), sorted(negative)


def _schema_of(sides: Iterable[list[Bucket]], known: int | None, threshold: float) -> int:
    """Return the schema of all buckets: told by those that the zero bucket cannot have cut off, else by what is left."""
    finite = [[bucket for bucket in side if bucket.high < math.inf] for side in sides]
    outer = {_schema(bucket) for side in finite for bucket in side[1:]}
    if len(outer) > 1:
        raise NotExponential
    if outer:
        return outer.pop()
    inner = [side[0] for side in finite if side]
    if not inner:
        return known or 0
    with suppress(NotExponential):
        schemas = {_schema(bucket) for bucket in inner}
        if len(schemas) == 1:
            return schemas.pop()
    known_first: list[int] = [*(() if known is None else (known,)), *range(_LARGEST_SCHEMA, _LEAST_SCHEMA - 1, -1)]
    for schema in known_first:
        if all(_fits(bucket, schema, known, threshold) for bucket in inner):
            return schema
    raise NotExponential


def _schema(bucket: Bucket) -> int:
    """Return the schema of a whole bucket by its width."""
    width = math.log2(bucket.high) - math.log2(bucket.low)
    schema = round(-math.log2(width)) if width > 0 else _LARGEST_SCHEMA + 1
    if not _LEAST_SCHEMA <= schema <= _LARGEST_SCHEMA or _index(bucket.high, schema) - _index(bucket.low, schema) != 1:
        raise NotExponential
    return schema


def _fits(bucket: Bucket, schema: int, known: int | None, threshold: float) -> bool:
    """Tell whether an innermost bucket is one of this schema, whole or cut off."""
    try:
        index = _index(bucket.high, schema)
    except NotExponential:
        return False
    off = _exact_index(bucket.low, schema) - (index - 1)
    whole = abs(off) <= _tolerance(schema)
    return whole or (0 < off < 1 and (bucket.low == threshold or known is not None))


def _indexed(side: list[Bucket], schema: int, known: int | None, threshold: float) -> Side:
    """Return the indexes of a side's buckets."""
    found: dict[int, int] = {}
    for number, bucket in enumerate(side):
        if bucket.high == math.inf:
            if bucket.low != _LARGEST:
                raise NotExponential
            index = index_limits(schema)[1] + 1
        else:
            index = _index(bucket.high, schema)
            if number == 0 and not _fits(bucket, schema, known, threshold):
                raise NotExponential
        if index in found:
            raise NotExponential
        found[index] = bucket.place
    return (*found.items(),)


def _exact_index(bound: float, schema: int) -> float:
    return math.ldexp(math.log2(bound), schema)


def _tolerance(schema: int) -> float:
    return float(_EXACT * max(1.0, 2.0**schema))


def _index(high: float, schema: int) -> int:
    """Return the index of the bucket that ends there. Raises NotExponential where none does."""
    exact = _exact_index(high, schema)
    if abs(exact - round(exact)) > _tolerance(schema):
        raise NotExponential
    return round(exact)


# -- custom --------------------------------------------------------------------------------------------------------


def _custom(buckets: Raw, known: tuple[float, ...]) -> Form:
    """Raises ValueError for what is no histogram. ``known``: the boundaries that the series has shown before."""
    before = -math.inf
    for rule, low, high in buckets:
        zero = rule == _CLOSED and math.isfinite(low)
        if rule == _OPEN or zero or not before <= low < high:
            raise ValueError
        before = high
    shown = {bound for bucket in buckets for bound in bucket[1:] if math.isfinite(bound)}
    renewed = any(low < bound < high for _, low, high in buckets for bound in _from(known, low))
    bounds = sorted(shown if renewed or len(known) + len(shown) > MAX_BUCKETS else shown.union(known))
    positive = tuple((bisect_left(bounds, high), place) for place, (_, _, high) in enumerate(buckets))
    return Form(CUSTOM_BUCKETS, positive, bounds=tuple(bounds), renewed=renewed)


def _from(bounds: tuple[float, ...], low: float) -> tuple[float, ...]:
    """Return the first boundaries that are not below a bucket: one within it is among them."""
    at = bisect_left(bounds, low)
    return bounds[at : at + 2]
