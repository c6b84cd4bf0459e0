"""Native histograms: sparse to dense, merged where they are too wide, refused as Prometheus refuses them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.native import (
    CUSTOM_BUCKETS,
    MAX_BUCKETS,
    Buckets,
    NativeHistogram,
    coarser,
    index_limits,
    sparse,
    upper_bound,
)


def test_spans_place_counts() -> None:
    assert sparse([(-162, 1), (23, 4)], [1.0, 3.0, 1.0, 1.0, 3.0]) == {-162: 1, -138: 3, -137: 1, -136: 1, -135: 3}
    assert sparse([(2, 0), (1, 2), (0, 1)], [1.0, 2.0, 3.0]) == {3: 1, 4: 2, 5: 3}
    assert sparse([], []) == {}


@pytest.mark.parametrize(
    ("spans", "counts"),
    [([(0, 2)], [1.0]), ([(0, 1)], [1.0, 2.0]), ([], [1.0]), ([(0, 2**32)], [1.0]), ([(0, 1), (-1, 1)], [1.0, 2.0])],
)
def test_spans_that_do_not_fit_are_refused(spans: list[tuple[int, int]], counts: list[float]) -> None:
    with pytest.raises(ValueError, match=r"cannot take a native histogram: .*span"):
        sparse(spans, counts)


def test_sparse_becomes_dense() -> None:
    made = NativeHistogram.of(count=4.0, sum=1.5, schema=3, positive={4: 1.0, 1: 2.0}, negative={-7: 1.0})
    assert made.positive == Buckets(1, (2.0, 0.0, 0.0, 1.0))
    assert made.negative == Buckets(-7, (1.0,))
    assert (made.schema, made.zero_count, made.custom_bounds, made.is_gauge) == (3, 0.0, (), False)


@pytest.mark.parametrize(
    ("schema", "indexes"),
    [
        (-4, (-67, 64)), (-1, (-537, 512)), (0, (-1074, 1024)), (8, (-1074 * 256, 1024 * 256)),
    ],
)  # fmt: skip
def test_indexes_are_those_of_doubles(schema: int, indexes: tuple[int, int]) -> None:
    assert index_limits(schema) == indexes
    least, largest = indexes
    assert upper_bound(least, schema) >= 5e-324
    assert upper_bound(largest, schema) == math.nextafter(math.inf, 0)
    assert upper_bound(largest + 1, schema) == math.inf


SCHEMAS = st.integers(-4, 52)
SIDES = st.dictionaries(st.integers(-(2**40), 2**40), st.integers(0, 100).map(float), max_size=8)


@given(SCHEMAS, SIDES, SIDES, st.integers(150, 5000))
def test_however_wide_it_fits_and_nothing_is_lost(
    schema: int, positive: dict[int, float], negative: dict[int, float], most: int
) -> None:
    made = NativeHistogram.of(count=1.0, sum=0.0, schema=schema, positive=positive, negative=negative, max_buckets=most)
    assert made.schema <= min(schema, 8)
    for side, given_side in ((made.positive, positive), (made.negative, negative)):
        assert len(side.counts) <= most
        assert sum(side.counts) == sum(given_side.values())


@given(SCHEMAS, st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
def test_a_merged_bucket_holds_what_it_held(schema: int, one: float, other: float) -> None:
    def index(value: float, schema: int) -> int:
        return math.ceil(math.log2(value) * 2.0**schema)

    made = NativeHistogram.of(
        count=2.0, sum=0.0, schema=schema, positive={index(one, schema): 1.0, index(other, schema): 1.0}
    )
    assert sum(made.positive.counts) in (1.0, 2.0)  # one entry where both fall into one bucket
    for value in (one, other):
        place = index(value, made.schema) - made.positive.offset
        near = made.positive.counts[max(place - 1, 0) : place + 2]  # log2 rounds at the bounds
        assert any(near)


def test_coarser_is_prometheus_target_index() -> None:
    assert [coarser(index, 1) for index in range(-4, 5)] == [-2, -1, -1, 0, 0, 1, 1, 2, 2]
    assert [coarser(index, 2) for index in (-3, 0, 1, 4, 5)] == [0, 0, 1, 1, 2]


def test_a_few_bytes_do_not_become_gigabytes() -> None:
    made = NativeHistogram.of(count=2.0, sum=0.0, schema=8, positive={-(2**31): 1.0, 2**31 - 1: 1.0})
    assert len(made.positive.counts) <= MAX_BUCKETS
    assert sum(made.positive.counts) == 2
    assert made.schema == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema": -5}, "schema -5"),
        ({"schema": 53}, "schema 53"),
        ({"positive": {1: -1.0}}, "a count below 0"),
        ({"negative": {1: math.nan}}, "a count below 0"),
        ({"custom_bounds": (1.0,)}, "custom bounds beside"),
        ({"schema": CUSTOM_BUCKETS, "custom_bounds": (1.0, 1.0)}, "not finite and rising"),
        ({"schema": CUSTOM_BUCKETS, "custom_bounds": (1.0, math.inf)}, "not finite and rising"),
        ({"schema": CUSTOM_BUCKETS, "custom_bounds": (1.0,), "zero_count": 1.0}, "negative or zero buckets"),
        ({"schema": CUSTOM_BUCKETS, "custom_bounds": (1.0,), "positive": {2: 1.0}}, "more buckets than custom bounds"),
        ({"schema": CUSTOM_BUCKETS, "custom_bounds": (1.0,), "positive": {-1: 1.0}}, "more buckets than custom bounds"),
    ],
)
def test_what_prometheus_refuses_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=rf"cannot take a native histogram.*{why}"):
        NativeHistogram.of(**{"count": 1.0, "sum": 1.0, "schema": 0, **change})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, True),
        ({"sum": math.nan}, True),
        ({"schema": 20}, True),
        ({"schema": CUSTOM_BUCKETS, "custom_bounds": (1.0,)}, True),
        ({"is_gauge": True}, False),
        ({"count": 0.5}, False),
        ({"count": math.nan}, False),
        ({"count": math.inf}, False),
        ({"count": 2.0**64}, False),
        ({"zero_count": -1.0}, False),
        ({"positive": {1: 0.5}}, False),
        ({"positive": {1: 2.0**63}}, True),
        ({"positive": {1: 2.0**63}, "negative": {1: 2.0**63}}, False),
    ],
)
def test_what_otlp_can_say(change: dict[str, Any], says: bool) -> None:
    assert NativeHistogram.of(**{"count": 1.0, "sum": 1.0, "schema": 0, **change}).has_otlp_form is says


def test_an_unknown_schema_has_no_otlp_form() -> None:
    assert not NativeHistogram(1.0, 1.0, -5, 0.0, 0.0, Buckets(), Buckets()).has_otlp_form


def test_standard_is_of_at_most_schema_8() -> None:
    fine = NativeHistogram(3.0, 1.0, 10, 0.0, 0.0, Buckets(1, (1.0, 2.0)), Buckets(5, (4.0,)))
    assert fine.standard() == NativeHistogram.of(
        count=3.0, sum=1.0, schema=10, positive={1: 1.0, 2: 2.0}, negative={5: 4.0}
    )
    assert (fine.standard().schema, fine.standard().positive, fine.standard().negative) == (
        8, Buckets(1, (3.0,)), Buckets(2, (4.0,)),
    )  # fmt: skip
    coarse = fine.standard()
    assert coarse.standard() is coarse
