"""Boundaries of buckets give back schema and indexes, or the custom boundaries: see also test_query_native.py."""

from __future__ import annotations

import math
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import CUSTOM_BUCKETS, MAX_BUCKETS, upper_bound
from receivers.query_bounds import Form, Known, form_of

INF, LARGEST = math.inf, math.nextafter(math.inf, 0)
Raw = tuple[int, float, float]


def shape(*buckets: Raw) -> bytes:
    return array("d", [number for bucket in buckets for number in bucket]).tobytes()


def told(*buckets: Raw, schema: int | None = None, bounds: tuple[float, ...] | None = None) -> Form:
    return form_of(shape(*buckets), Known(schema, bounds))


@given(st.integers(-4, 8), st.integers(-50, 50), st.integers(0, 30), st.booleans())
def test_every_bucket_of_every_schema(schema: int, first: int, more: int, negative: bool) -> None:
    edges = [upper_bound(index, schema) for index in range(first - 1, first + more + 1)]
    buckets = [(1, -high, -low) if negative else (0, low, high) for low, high in pairwise(edges)]
    form = told(*buckets)
    side = form.negative if negative else form.positive
    assert (form.schema, side) == (schema, tuple((first + place, place) for place in range(more + 1)))
    assert (form.zero, form.bounds, form.renewed) == (-1, (), False)


@pytest.mark.parametrize(
    ("buckets", "known", "schema", "indexes"),
    [
        (((0, 1.3, 2), (0, 2, 4)), None, None, ()),  # cut off, and no zero bucket says so: custom
        (((3, -1.3, 1.3), (0, 1.3, 2), (0, 2, 4)), None, 0, (1, 2)),
        (((0, 1.3, 2), (0, 2, 4)), 0, 0, (1, 2)),
        (((0, 1.3, 2),), 0, 0, (1,)),
        (((3, -1.5, 1.5), (0, 1.5, 2)), None, 1, (2,)),  # the finest that it can be
        (((3, -1.5, 1.5), (0, 1.5, 2)), 0, 0, (1,)),
        (((0, math.sqrt(2), 2),), 0, 1, (2,)),  # whole, so finer than before
        (((0, LARGEST, INF),), None, 0, (1025,)),
        (((0, LARGEST, INF),), -4, -4, (65,)),
        (((0, 2.0**1008, LARGEST), (0, LARGEST, INF)), None, -4, (64, 65)),
        ((), 5, 5, ()),
    ],
)
def test_the_innermost_and_the_last(
    buckets: tuple[Raw, ...], known: int | None, schema: int | None, indexes: tuple[int, ...]
) -> None:
    form = told(*buckets, schema=known)
    assert form.schema == (CUSTOM_BUCKETS if schema is None else schema)
    if schema is not None:
        assert tuple(index for index, _ in form.positive) == indexes


@pytest.mark.parametrize(
    ("buckets", "known", "bounds", "indexes", "renewed"),
    [
        (((0, 1, 3), (0, 3, 9)), None, (1, 3, 9), (1, 2), False),
        (((0, 1, 3),), (1, 3, 9), (1, 3, 9), (1,), False),
        (((0, 9, INF),), (1, 3), (1, 3, 9), (3,), False),
        (((0, 1, 9),), (1, 3, 9), (1, 9), (1,), True),
        (((0, 2, 9),), (1, 3, 9), (2, 9), (1,), True),
        (((0, 2, 3),), (1, 3, 9), (1, 2, 3, 9), (2,), False),
        (((0, 1, 2), (0, 2, 4)), (1, 2, 4), (1, 2, 4), (1, 2), False),  # could be exponential, and was not
        ((), (1, 3), (1, 3), (), False),
        (((3, -INF, INF),), (), (), (0,), False),
    ],
)
def test_custom_boundaries(
    buckets: tuple[Raw, ...],
    known: tuple[float, ...] | None,
    bounds: tuple[float, ...],
    indexes: tuple[int, ...],
    renewed: bool,
) -> None:
    form = told(*buckets, bounds=known)
    assert (form.schema, form.bounds, form.renewed) == (CUSTOM_BUCKETS, bounds, renewed)
    assert tuple(index for index, _ in form.positive) == indexes


def test_a_zero_bucket_or_a_negative_one_is_exponential_whatever_was_before() -> None:
    assert told((3, -1, 1), bounds=(1, 3)).schema == 0
    assert told((1, -2, -1), (3, -1, 1), bounds=(1, 3)).negative == ((1, 0),)


def test_boundaries_are_bounded() -> None:
    known = tuple(map(float, range(MAX_BUCKETS)))
    assert told((0, 10_000, 10_003), bounds=known).bounds == (10_000, 10_003)


@pytest.mark.parametrize(
    "buckets",
    [
        ((0, 1, 3), (0, 1, 3)), ((0, 2, 3), (0, 1, 2)), ((0, 1, 3), (0, 2, 4)), ((3, -0.1, 0.2),), ((2, 1, 2),), ((7, 1, 2), (2, 2, 3)),
        ((0, 2, 1),), ((0, 1, 1),), ((0, math.nan, 1),), ((0, 1, math.nan),), ((3, -1, 1), (3, -2, 2)), ((3, -1, 1), (0, 2, 3)),
    ],
)  # fmt: skip
def test_what_is_no_histogram(buckets: tuple[Raw, ...]) -> None:
    with pytest.raises(ValueError):
        told(*buckets)


def test_counts_are_filled_in_as_they_came() -> None:
    native = told((1, -2, -1), (3, -1, 1), (0, 1, 2), (0, 4, 8)).filled(10, 1.5, [1, 2, 3, 4])
    assert (native.count, native.sum, native.zero_threshold, native.zero_count) == (10, 1.5, 1, 2)
    assert (native.negative.counts, native.positive.offset, native.positive.counts) == ((1,), 1, (3, 0, 4))
    with pytest.raises(ValueError, match="below 0"):
        told((0, 1, 2)).filled(1, 1, [-1])
