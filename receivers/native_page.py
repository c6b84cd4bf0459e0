"""Native histograms as protobuf pages carry them.

Strategy. Spans say where buckets stand, deltas (or counts, for float histograms) what they hold; ``ebbtide.sparse`` puts
them together, and ``NativeHistogram.of`` keeps them within bounds, because a few bytes can claim billions of buckets. What
Prometheus would refuse to store is refused here.

Source: prometheus/prometheus, model/textparse/protobufparse.go, model/histogram/histogram.go (Validate).
"""

from __future__ import annotations

from itertools import accumulate
from math import isfinite, isnan
from typing import Any

from ebbtide import NativeHistogram, sparse


class BadHistogram(ValueError):
    """A native histogram contradicts itself."""


def is_native(histogram: Any) -> bool:
    """Tell whether a Histogram message is a native one (Prometheus' isNativeHistogram)."""
    return bool(
        histogram.positive_span or histogram.negative_span or histogram.zero_threshold > 0 or histogram.zero_count > 0
    )


def native_of(histogram: Any, *, is_gauge: bool) -> NativeHistogram:
    """Turn a Histogram message into a native histogram. Raises BadHistogram."""
    is_float = histogram.sample_count_float > 0 or histogram.zero_count_float > 0
    if not (isfinite(histogram.zero_threshold) and histogram.zero_threshold >= 0):
        raise BadHistogram("the zero threshold of a native histogram is negative or no number")
    positive, negative = (_counts(histogram, sign, is_float=is_float) for sign in ("positive", "negative"))
    if not is_float:
        _check_count(histogram, sum(positive) + sum(negative) + histogram.zero_count)
    try:
        return NativeHistogram.of(
            count=histogram.sample_count_float if is_float else float(histogram.sample_count),
            sum=histogram.sample_sum,
            schema=histogram.schema,
            zero_threshold=histogram.zero_threshold,
            zero_count=histogram.zero_count_float if is_float else float(histogram.zero_count),
            positive=sparse(_spans(histogram.positive_span), positive),
            negative=sparse(_spans(histogram.negative_span), negative),
            is_gauge=is_gauge,
        )
    except ValueError as error:
        raise BadHistogram(f"a native histogram is wrong: {str(error).partition('histogram')[2].strip(': ')}") from None


def _spans(spans: Any) -> list[tuple[int, int]]:
    return [(span.offset, span.length) for span in spans]


def _counts(histogram: Any, sign: str, *, is_float: bool) -> list[float]:
    if is_float:
        return list(getattr(histogram, f"{sign}_count"))
    return list(accumulate(getattr(histogram, f"{sign}_delta")))


def _check_count(histogram: Any, within: float) -> None:
    """Whole counts must add up; where the sum is NaN, observations that were NaN are in no bucket."""
    if within != histogram.sample_count and not (isnan(histogram.sample_sum) and within < histogram.sample_count):
        raise BadHistogram("the count of a native histogram is not that of its buckets")
