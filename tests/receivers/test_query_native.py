"""Boundaries of buckets give back schema and indexes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import NativeHistogram
from receivers.query_native import native_of

VECTORS = Path(os.environ.get("EBBTIDE_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))


def written(native: NativeHistogram) -> dict[str, Any]:
    """A histogram as Prometheus writes it: boundaries rounded to doubles, empty buckets left out."""

    def bound(index: int) -> float:
        return float(2.0 ** (index * 2.0**-native.schema))

    buckets: list[list[Any]] = []
    for index, n in reversed([*enumerate(native.negative.counts, native.negative.offset)]):
        buckets.append([1, f"{-bound(index)!r}", f"{-bound(index - 1)!r}", f"{n:g}"])
    buckets.append([3, f"{-native.zero_threshold!r}", f"{native.zero_threshold!r}", f"{native.zero_count:g}"])
    for index, n in enumerate(native.positive.counts, native.positive.offset):
        buckets.append([0, f"{bound(index - 1)!r}", f"{bound(index)!r}", f"{n:g}"])
    kept = [bucket for bucket in buckets if bucket[3] != "0"]
    return json.loads(json.dumps({"count": f"{native.count:g}", "sum": f"{native.sum!r}", "buckets": kept}))


@st.composite
def histograms(draw: st.DrawFn) -> NativeHistogram:
    schema = draw(st.integers(-4, 8))
    widest = 900 if schema <= 0 else 900 << schema
    base = draw(st.integers(-widest if schema > 0 else -(900 >> -schema), widest if schema > 0 else 900 >> -schema))
    near = st.dictionaries(st.integers(0, 20).map(lambda more: base + more), st.integers(1, 1000), max_size=8)
    positive, negative, zeros = draw(near), draw(near), draw(st.integers(0, 5))
    least, most = min([base, *positive, *negative]), max([base, *positive, *negative])
    if (least - 1) * 2.0**-schema <= -1000 or most * 2.0**-schema >= 1000:
        positive, negative = {}, {}
    return NativeHistogram.of(
        count=zeros + sum(positive.values()) + sum(negative.values()), sum=draw(st.floats(-1e9, 1e9)),
        schema=schema if positive or negative else 0, zero_threshold=0.001 if zeros else 0.0, zero_count=zeros,
        positive=positive, negative=negative,
    )  # fmt: skip


@given(histograms())
def test_what_was_written_comes_back(native: NativeHistogram) -> None:
    assert native_of(written(native)) == native


def test_prometheus_own_case() -> None:
    file = VECTORS / "prometheus_api" / "json_codec.json"
    if not file.is_file():
        pytest.skip(f"no test vectors at {file}: set EBBTIDE_VECTORS")
    cases = [case for case in json.loads(file.read_text(encoding="utf-8"))["cases"] if '"buckets"' in case["json"]]
    (tree,) = {json.dumps(one["histograms"][0][1]) for one in json.loads(cases[0]["json"])["data"]["result"]}
    native = native_of(json.loads(tree))
    assert native is not None
    assert (native.count, native.sum, native.schema, native.zero_count, native.zero_threshold) == (10, 20, 2, 12, 0.001)
    assert (native.positive.offset, native.positive.counts) == (3, (1, 2, 0, 2, 1, 1))
    assert (native.negative.offset, native.negative.counts) == (2, (2, 1))


@pytest.mark.parametrize(
    "buckets",
    [
        [[0, "0.1", "0.25", "1"]],  # custom boundaries
        [[0, "1", "2", "1"], [0, "2", "8", "1"]],  # two schemas
        [[0, "1", "2", "1"], [0, "1", "2", "1"]],  # one twice
        [[3, "-Inf", "0.1", "1"]],
        [[0, "-1", "1", "1"]],
        [[0, "0", "1", "1"]],
        [[0, "1", "+Inf", "1"]],
        [[2, "1", "2", "1"]],
        [[0, "2", "1", "1"]],
        [[0, "1", "1", "1"]],
        [[0, "1", "2", "0.5"]],  # a float histogram
        [[0, "1", "2", "-1"]],
        [[0, "1", "2"]],
        [["x", "1", "2", "1"]],
        [[3, "-1", "1", "1"], [3, "-2", "2", "1"]],
        7,
    ],
)
def test_what_cannot_be_whole(buckets: Any) -> None:
    assert native_of({"count": "1", "sum": "1", "buckets": buckets}) is None


TREES = st.recursive(
    st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=4), st.sampled_from(["1", "2", "Inf", "NaN", "1e-320", "-0"])),
    lambda inner: st.lists(inner, max_size=4), max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["count", "sum", "buckets"]), TREES))
def test_nonsense_is_none_or_a_histogram(tree: dict[str, Any]) -> None:
    native = native_of(tree)
    assert native is None or native.has_otlp_form


def test_one_without_observations() -> None:
    native = native_of({"count": "0", "sum": "0"})
    assert native is not None
    assert (native.count, native.positive.counts) == (0, ())


@pytest.mark.parametrize("tree", [{}, {"count": "x", "sum": "1"}, {"count": "1"}, {"count": None, "sum": "1"}])
def test_what_is_none(tree: dict[str, Any]) -> None:
    assert native_of(tree) is None
