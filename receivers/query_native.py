"""Native histograms as the query API writes them: buckets by their boundaries, without a schema.

Strategy. The boundaries of an exponential bucket are powers of one base, so its width gives the schema and its upper boundary
the index. Buckets that are not of one schema (custom boundaries, of which the empty ones are left out) cannot be whole.

Source: prometheus/prometheus, util/jsonutil (MarshalHistogram), model/histogram (getBoundExponential, ZeroBucket).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ebbtide import NativeHistogram

_OPEN_LEFT, _OPEN_RIGHT, _OPEN, _CLOSED = range(4)  # of a bucket's boundaries; closed: the zero bucket
_LEAST_SCHEMA, _LARGEST_SCHEMA = -4, 8
_EXACT = 1e-6  # of an index: so little may boundaries, rounded to doubles, be off


def native_of(tree: Mapping[str, Any]) -> NativeHistogram | None:
    """Return a histogram of the answer; None for one that cannot be told whole, or that OTLP has no form for."""
    try:
        count, total = float(tree["count"]), float(tree["sum"])
        buckets = [(int(rule), float(low), float(high), float(n)) for rule, low, high, n in tree.get("buckets") or ()]
        zeros = [(high, n) for rule, low, high, n in buckets if rule == _CLOSED and low == -high]
        placed = [(_OPEN_LEFT, low, high, n) for rule, low, high, n in buckets if rule == _OPEN_LEFT and low > 0]
        mirrored = [(_OPEN_RIGHT, -high, -low, n) for rule, low, high, n in buckets if rule == _OPEN_RIGHT and high < 0]
        if len(zeros) > 1 or len(zeros) + len(placed) + len(mirrored) != len(buckets):
            return None
        schemas = {_schema(low, high) for _, low, high, _ in placed + mirrored} or {0}
        (schema,) = schemas
        sides = [{_index(high, schema): n for _, _, high, n in side} for side in (placed, mirrored)]
        if list(map(len, sides)) != [len(placed), len(mirrored)]:
            return None
        threshold, zero_count = zeros[0] if zeros else (0.0, 0.0)
        native = NativeHistogram.of(
            count=count, sum=total, schema=schema, zero_threshold=threshold, zero_count=zero_count,
            positive=sides[0], negative=sides[1],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return native if native.has_otlp_form else None


def _schema(low: float, high: float) -> int:
    """Return the schema of a bucket above 0 by its width. Raises ValueError where it is of none."""
    schema = round(-math.log2(math.log2(high) - math.log2(low)))
    if not _LEAST_SCHEMA <= schema <= _LARGEST_SCHEMA or _index(high, schema) - _index(low, schema) != 1:
        raise ValueError("not the boundaries of an exponential bucket")
    return schema


def _index(high: float, schema: int) -> int:
    """Return the index of the bucket that ends there. Raises ValueError where none does."""
    exact = math.ldexp(math.log2(high), schema)
    if abs(exact - round(exact)) > _EXACT * max(1.0, 2.0**schema):
        raise ValueError("not the boundary of an exponential bucket")
    return round(exact)
