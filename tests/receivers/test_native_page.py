"""Native histograms from spans and deltas: equal to what they say bucket by bucket, and bounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from agent.native import MAX_BUCKETS
from ebbtide import Buckets, NativeHistogram
from receivers.native_page import BadHistogram, is_native, native_of
from receivers.protobuf_messages import message_class


def message(positive: Sequence[tuple[int, int]] = (), deltas: Sequence[int] = (), **fields: Any) -> Any:
    """A Histogram message; the count follows from the buckets unless it is given."""
    made = message_class("Histogram")(positive_delta=deltas, **fields)
    for offset, length in positive:
        made.positive_span.add(offset=offset, length=length)
    if "sample_count" not in fields:
        running = [sum(deltas[: place + 1]) for place in range(len(deltas))]
        made.sample_count = max(0, sum(running) + made.zero_count)
    return made


def test_spans_and_deltas() -> None:
    made = message([(-2, 2), (1, 1)], [1, 2, -1], schema=3, zero_threshold=0.5, zero_count=4, sample_sum=9.5)
    made.negative_span.add(offset=0, length=1)
    made.negative_delta.append(5)
    made.sample_count += 5
    assert native_of(made, is_gauge=False) == NativeHistogram(
        15.0, 9.5, 3, 0.5, 4.0, Buckets(-2, (1.0, 3.0, 0.0, 2.0)), Buckets(0, (5.0,))
    )


def test_floats() -> None:
    made = message(sample_count_float=2.5, zero_count_float=0.5, positive_count=[1.5, 0.5], zero_threshold=1.0)
    made.positive_span.add(offset=3, length=2)
    found = native_of(made, is_gauge=True)
    assert (found.count, found.zero_count, found.positive, found.is_gauge) == (2.5, 0.5, Buckets(3, (1.5, 0.5)), True)


def test_one_without_observations() -> None:
    assert native_of(message([(7, 0)]), is_gauge=False).positive == Buckets()


@pytest.mark.parametrize(
    ("fields", "native"),
    [
        ({}, False),
        ({"sample_count": 3}, False),
        ({"zero_threshold": 0.1}, True),
        ({"zero_count": 1}, True),
        ({"positive": [(0, 0)]}, True),  # how an empty one says that it is native
    ],
)
def test_which_are_native(fields: dict[str, Any], native: bool) -> None:
    assert is_native(message(**fields)) is native


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (message([(0, 2)], [1]), "its spans do not place just 1 buckets"),
        (message([(0, 2**32 - 1)], [1]), "its spans do not place just 1 buckets"),
        (message([(0, 1), (-1, 1)], [1, 0]), "a span begins before the end"),
        (message([(0, 2)], [1, -2]), "a native histogram is wrong: one of its buckets has a count below 0"),
        (message([(0, 1)], [1], sample_count=2), "the count of a native histogram is not that of its buckets"),
        (message([(0, 1)], [2], sample_count=1, sample_sum=math.nan), "the count of a native histogram"),
        (message([(0, 1)], [1], schema=-5), "a native histogram is wrong: of schema -5: it is unknown"),
        (message([(0, 1)], [1], schema=53), "a native histogram is wrong: of schema 53: it is unknown"),
        (message([(0, 2)], [1, 0], schema=-53), "more buckets than custom bounds"),
        (message([(0, 1)], [1], zero_threshold=-1.0), "zero threshold"),
        (message([(0, 1)], [1], zero_threshold=math.nan), "zero threshold"),
    ],
)
def test_what_contradicts_itself(made: Any, reason: str) -> None:
    with pytest.raises(BadHistogram, match=reason):
        native_of(made, is_gauge=False)


def test_observations_of_nan_are_in_no_bucket() -> None:
    assert native_of(message([(0, 1)], [1], sample_count=2, sample_sum=math.nan), is_gauge=False).count == 2.0


def test_a_wide_histogram_is_made_coarser_and_a_few_bytes_claim_no_memory() -> None:
    found = native_of(message([(0, 1), (2**31 - 1, 1)], [1, 0]), is_gauge=False)
    assert sum(found.positive.counts) == 2
    assert len(found.positive.counts) <= MAX_BUCKETS
