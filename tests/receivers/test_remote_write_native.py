"""Native histograms of both versions, compared with what protobuf's own classes were given."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from ebbtide import STALE_NAN, Buckets
from receivers.remote_write_native import BadHistogram, read_histogram
from receivers.remote_write_wire import Malformed
from tests.receivers.remote_write_messages import HistogramV1, HistogramV2

T = 1_763_900_000_000


def message(cls: Any = HistogramV2, **more: Any) -> Any:
    histogram = cls(
        count_int=12, sum=18.5, schema=1, zero_threshold=0.001, zero_count_int=2, timestamp=T,
        positive_deltas=[1, 1, -1, 0], negative_deltas=[2, 3 - 1],
    )  # fmt: skip
    for offset, length in ((0, 2), (1, 2)):
        histogram.positive_spans.add(offset=offset, length=length)
    histogram.negative_spans.add(offset=-3, length=2)
    for name, value in more.items():
        field = getattr(histogram, name)
        if isinstance(value, list):
            del field[:]
            for one in value:
                if isinstance(one, tuple):
                    field.add(offset=one[0], length=one[1])
                else:
                    field.append(one)
        else:
            setattr(histogram, name, value)
    return histogram


def read(histogram: Any) -> Any:
    data = b"xx" + histogram.SerializeToString()
    return read_histogram(data, 2, len(data))


RIGHT = {"count_int": 13}  # 1+2+1+1 positive, 2+4 negative, 2 at zero


@pytest.mark.parametrize("cls", [HistogramV1, HistogramV2])
def test_deltas_and_spans_become_counts(cls: Any) -> None:
    point = read(message(cls, **RIGHT))
    native = point.native
    assert (point.time, point.start) == (T, 0)
    assert (native.count, native.sum, native.schema) == (13.0, 18.5, 1)
    assert (native.zero_threshold, native.zero_count, native.is_gauge) == (0.001, 2.0, False)
    assert native.positive == Buckets(0, (1.0, 2.0, 0.0, 1.0, 1.0))
    assert native.negative == Buckets(-3, (2.0, 4.0))


def test_floats_a_start_and_a_gauge() -> None:
    histogram = message(
        count_float=7.5, zero_count_float=0.5, positive_deltas=[], positive_counts=[1.0, 2.0, 3.0, 0.5],
        negative_deltas=[], negative_spans=[], reset_hint=3, start_timestamp=T - 9,
    )  # fmt: skip
    point = read(histogram)
    assert (point.start, point.native.count, point.native.zero_count, point.native.is_gauge) == (T - 9, 7.5, 0.5, True)
    assert point.native.positive.counts == (1.0, 2.0, 0.0, 3.0, 0.5)


def test_custom_bounds() -> None:
    histogram = message(
        schema=-53, count_int=3, zero_count_int=0, zero_threshold=0.0, negative_deltas=[], negative_spans=[],
        positive_spans=[(1, 2)], positive_deltas=[1, 1], custom_values=[0.1, 1.0],
    )  # fmt: skip
    native = read(histogram).native
    assert (native.custom_bounds, native.positive) == ((0.1, 1.0), Buckets(1, (1.0, 2.0)))


def test_a_stale_histogram_ends_its_series() -> None:
    assert read(message(sum=STALE_NAN)).native is None


def test_observations_of_nan_are_in_no_bucket() -> None:
    assert math.isnan(read(message(sum=math.nan, count_int=14)).native.sum)


@pytest.mark.parametrize(
    "more",
    [
        {"count_int": 12},
        {**RIGHT, "schema": 53},
        {**RIGHT, "schema": -5},
        {**RIGHT, "positive_spans": [(0, 2), (-1, 2)]},
        {**RIGHT, "positive_spans": [(0, 2), (1, 3)]},
        {**RIGHT, "positive_deltas": [1, 1, -3, 0]},
        {**RIGHT, "custom_values": [1.0]},
        {"count_float": -1.0},
        {"count_float": math.nan},
        {**RIGHT, "positive_spans": [(0, 2**32 - 1)]},
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(BadHistogram):
        read(message(**more))


def test_a_gap_of_gigabytes_costs_nothing() -> None:
    native = read(message(**RIGHT, positive_spans=[(0, 2), (2**30, 2)])).native
    assert len(native.positive.counts) <= 4096


def test_bytes_that_are_none_are_malformed() -> None:
    with pytest.raises(Malformed):
        read_histogram(b"\x19" + struct.pack("<f", 1.0), 0, 5)
