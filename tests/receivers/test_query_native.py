"""Histograms come back as they were written, as far as an answer shows it."""

from __future__ import annotations

import json
import math
import os
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from ebbtide import STALE_NAN, Batch, Family, NativeHistogram, Series, SeriesTable, upper_bound
from exporters.otlp import Otlp, OtlpSettings
from receivers.query_bounds import Form, Known, form_of
from receivers.query_native import CUSTOM_END, Histograms, written_of

VECTORS = Path(os.environ.get("EBBTIDE_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))
INF, LARGEST = math.inf, math.nextafter(math.inf, 0)


def read(tree: Any, book: Histograms | None = None, slot: int = 7) -> NativeHistogram | None:
    reading = (book or Histograms()).read(slot, written_of(tree))
    return None if reading is None else reading.native


def tree_of(*buckets: tuple[int, float, float, float], count: float | None = None, sum: float = 1.5) -> dict[str, Any]:
    """A histogram as Prometheus writes it, empty buckets left out."""
    shown = [[rule, f"{low!r}", f"{high!r}", f"{n:g}"] for rule, low, high, n in buckets if n]
    total = math.fsum(bucket[3] for bucket in buckets) if count is None else count
    tree: dict[str, Any] = {"count": f"{total:g}", "sum": f"{sum!r}", "buckets": shown}
    return json.loads(json.dumps(tree if shown else {key: tree[key] for key in ("count", "sum")}))  # type: ignore[no-any-return]


def exponential(native: NativeHistogram) -> dict[str, Any]:
    """The same of an exponential one; what lies beyond the zero threshold is cut off (allFloatBucketIterator)."""
    buckets: list[tuple[int, float, float, float]] = []
    threshold = native.zero_threshold
    sides = native.negative, native.positive
    negative, positive = ([*enumerate(side.counts, side.offset)] for side in sides)
    for index, n in reversed(negative):
        high, low = (upper_bound(one, native.schema) for one in (index - 1, index))
        buckets.append((1, -low, -max(high, threshold), n))
    buckets.append((3, -threshold, threshold, native.zero_count))
    for index, n in positive:
        low, high = (upper_bound(one, native.schema) for one in (index - 1, index))
        buckets.append((0, max(low, threshold), high, n))
    return tree_of(*buckets, count=native.count, sum=native.sum)


@st.composite
def histograms(draw: st.DrawFn) -> NativeHistogram:
    schema = draw(st.integers(-4, 8))
    widest = 900 << schema if schema > 0 else 900 >> -schema
    base = draw(st.integers(-widest, widest))
    near = st.dictionaries(st.integers(0, 20).map(lambda more: base + more), st.integers(1, 1000), max_size=8)
    positive, negative, zeros = draw(near), draw(near), draw(st.integers(0, 5))
    least, most = min([base, *positive, *negative]), max([base, *positive, *negative])
    if (least - 1) * 2.0**-schema <= -1000 or most * 2.0**-schema >= 1000:
        positive, negative = {}, {}
    cut = draw(st.sampled_from([0.0, 0.3, 0.5, 0.9]))  # of the innermost bucket
    inner = min([*positive, *negative], default=0)
    threshold = 2.0 ** ((inner - 1 + cut) * 2.0**-schema) if zeros else 0.0
    return NativeHistogram.of(
        count=zeros + sum(positive.values()) + sum(negative.values()), sum=draw(st.floats(-1e9, 1e9)),
        schema=schema if positive or negative else 0, zero_threshold=threshold, zero_count=zeros,
        positive=positive, negative=negative,
    )  # fmt: skip


def cells(native: NativeHistogram) -> dict[float, float]:
    """Counts by the boundary that is farther from 0."""
    found = {0.0: native.zero_count}
    for sign, side in ((1, native.positive), (-1, native.negative)):
        found |= {sign * upper_bound(i, native.schema): n for i, n in enumerate(side.counts, side.offset) if n}
    return found


@given(histograms(), st.booleans())
def test_what_was_written_comes_back(native: NativeHistogram, known: bool) -> None:
    book = Histograms()
    if known:
        book.read(7, written_of(exponential(native)))
    found = read(exponential(native), book)
    assert found is not None
    assert [*cells(found)] == pytest.approx([*cells(native)], rel=1e-9)
    assert [*cells(found).values()] == [*cells(native).values()]
    assert (found.count, found.sum, found.zero_threshold) == (native.count, native.sum, native.zero_threshold)
    buckets = len(native.positive.counts) + len(native.negative.counts)
    outer = max(len(side.counts) - side.counts.count(0) for side in (native.positive, native.negative))
    if outer > 1 or native.zero_count == 0 or not buckets:  # else one that is cut off may be taken for a narrower one
        assert found == native


def test_prometheus_own_case() -> None:
    file = VECTORS / "prometheus_api" / "json_codec.json"
    if not file.is_file():
        pytest.skip(f"no test vectors at {file}: set EBBTIDE_VECTORS")
    cases = [case for case in json.loads(file.read_text(encoding="utf-8"))["cases"] if '"buckets"' in case["json"]]
    (tree,) = {json.dumps(one["histograms"][0][1]) for one in json.loads(cases[0]["json"])["data"]["result"]}
    native = read(json.loads(tree))
    assert native is not None
    assert (native.count, native.sum, native.schema, native.zero_count, native.zero_threshold) == (10, 20, 2, 12, 0.001)
    assert (native.positive.offset, native.positive.counts) == (3, (1, 2, 0, 2, 1, 1))
    assert (native.negative.offset, native.negative.counts) == (2, (2, 1))


def test_infinities_are_counted_above_all_doubles() -> None:
    native = read(tree_of((1, -INF, -LARGEST, 3), (0, 1, 2, 1), (0, LARGEST, INF, 2)))
    assert native is not None
    assert (native.schema, native.positive.offset, len(native.positive.counts)) == (0, 1, 1025)
    assert (native.negative.offset, native.negative.counts) == (1025, (3,))
    alone = read(tree_of((0, LARGEST, INF, 2)))
    assert alone is not None
    assert (alone.schema, alone.positive.offset) == (0, 1025)


def test_an_empty_one_is_what_its_series_was() -> None:
    book = Histograms()
    empty = read(tree_of(), book)
    assert empty is not None
    assert (empty.schema, empty.count, empty.positive.counts) == (0, 0, ())
    read(tree_of((0, 1, 2**0.125, 2)), book)
    empty = read(tree_of(), book)
    assert empty is not None
    assert empty.schema == 3
    read(tree_of((0, 1, 10, 2)), book)
    empty = read(tree_of(), book)
    assert empty is not None
    assert (empty.custom_bounds, empty.positive.counts) == ((1, 10), ())


BOUNDS = st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=12, unique=True).map(sorted)


@given(BOUNDS.flatmap(lambda bounds: st.tuples(st.just(bounds), st.lists(
    st.lists(st.integers(0, 3), min_size=len(bounds) + 1, max_size=len(bounds) + 1), min_size=1, max_size=5))))  # fmt: skip
def test_custom_boundaries_place_every_count(given: tuple[list[float], list[list[int]]]) -> None:
    bounds, steps = given
    edges, book, counts = [-INF, *bounds, INF], Histograms(), [0] * (len(bounds) + 1)
    for step in steps:
        counts = [count + more for count, more in zip(counts, step, strict=True)]
        buckets = [(0 if at else 3, edges[at], edges[at + 1], float(n)) for at, n in enumerate(counts)]
        reading = book.read(7, written_of(tree_of(*buckets)))
        assert reading is not None
        native = reading.native
        assert not reading.renewed
        if not native.is_custom:  # boundaries that happen to be exponential, so far
            continue
        assert set(native.custom_bounds) <= set(bounds)
        placed = [0.0] * (len(native.custom_bounds) + 1)
        for index, n in enumerate(native.positive.counts, native.positive.offset):
            placed[index] = n
        truth = dict(zip([*bounds, INF], accumulate(counts), strict=True))
        for bound, below in zip([*native.custom_bounds, INF], accumulate(placed), strict=True):
            assert below == truth[bound]


@pytest.mark.parametrize(
    ("buckets", "bounds", "counts"),
    [
        ([(0, 0.1, 0.25, 1)], (0.1, 0.25), (1, (1,))),
        ([(3, -INF, 0.1, 2), (0, 5, INF, 1)], (0.1, 5), (0, (2, 0, 1))),
        ([(3, -INF, INF, 2)], (), (0, (2,))),
        ([(0, 1, 2, 1), (0, 2, 5, 1)], (1, 2, 5), (1, (1, 1))),
        ([(0, -1, 0, 1), (0, 0, 1, 1)], (-1, 0, 1), (1, (1, 1))),
        ([(1, -1, -0.3, 1)], (-1, -0.3), (1, (1,))),  # as versions wrote it that did not tell the kinds apart
        ([(0, 1, 2, 1), (0, 4, 1e300, 1), (0, 1e300, INF, 4)], (1, 2, 4, 1e300), (1, (1, 0, 1, 4))),
    ],
)
def test_what_is_custom(buckets: Any, bounds: Any, counts: Any) -> None:
    native = read(tree_of(*buckets))
    assert native is not None
    assert native.is_custom
    assert native.custom_bounds == bounds
    assert (native.positive.offset, native.positive.counts) == counts


def test_other_boundaries_begin_anew_and_are_all_that_is_known() -> None:
    book = Histograms()
    book.read(7, written_of(tree_of((0, 1, 3, 1), (0, 3, 9, 1))))
    same = book.read(7, written_of(tree_of((0, 9, 27, 1))))
    assert same is not None
    assert (same.native.custom_bounds, same.renewed) == ((1, 3, 9, 27), False)
    other = book.read(7, written_of(tree_of((0, 1, 10, 5))))
    assert other is not None
    assert (other.native.custom_bounds, other.renewed) == ((1, 10), True)


def test_a_series_may_turn_from_one_kind_to_the_other() -> None:
    book = Histograms()
    trees = [tree_of((0, 1, 2, 1)), tree_of((0, 1, 2, 1), (0, 2, 5, 1)), tree_of((0, 1, 2, 1)), tree_of((3, -1, 1, 2))]
    kinds = [native.is_custom for tree in trees if (native := read(tree, book)) is not None]
    assert kinds == [False, True, True, False]
    book.forget(7)
    assert read(trees[2], book) == read(trees[2])


def test_a_cut_off_bucket_that_is_alone_is_of_the_schema_that_is_known() -> None:
    book = Histograms()
    assert read(tree_of((0, 1.3, 2, 1)), book) == read(tree_of((0, 1.3, 2, 1)))  # custom, without a zero bucket
    book.forget(7)
    read(tree_of((0, 1, 2, 1), (0, 2, 4, 1)), book)
    native = read(tree_of((0, 1.3, 2, 1)), book)
    assert native is not None
    assert (native.schema, native.positive.offset, native.positive.counts) == (0, 1, (1,))
    cut = read(tree_of((3, -1.3, 1.3, 4), (0, 1.3, 2, 1)))
    assert cut is not None
    assert (cut.is_custom, cut.zero_threshold) == (False, 1.3)


def test_what_has_shown_fractions_is_a_rate_from_then_on() -> None:
    book = Histograms()
    rate, whole = tree_of((0, 1, 2, 0.5)), tree_of((0, 1, 2, 3))
    assert read(whole, book) is not None
    assert read(rate, book) is None
    assert read(whole, book) is None
    assert read(whole, book, 8) is not None
    assert book.fractional == {7}
    book.forget(7)
    assert read(whole, book) is not None
    assert read(tree_of((0, 1, 3, 0.25)), book) is None
    assert book.fractional == {7}


@pytest.mark.parametrize(
    "buckets",
    [
        [[0, "1", "2", "1"], [0, "1", "2", "1"]],  # one twice
        [[0, "2", "3", "1"], [0, "1", "2", "1"]],
        [[0, "1", "3", "1"], [0, "2", "4", "1"]],
        [[3, "-0.1", "0.2", "1"]],
        [[3, "-1", "1", "1"], [0, "2", "3", "1"], [0, "3", "9", "1"]],
        [[2, "1", "2", "1"]],
        [[0, "2", "1", "1"]],
        [[0, "1", "1", "1"]],
        [[0, "NaN", "1", "1"]],
        [[0, "1", "2", "-1"]],
        [[0, "1", "3", "-1"]],
        [[0, "1", "2", "NaN"]],
        [[0, "1", "2"]],
        [["x", "1", "2", "1"]],
        [[3, "-1", "1", "1"], [3, "-2", "2", "1"]],
        [[0, "1", "2"], [1, 0, "2", "3", "1"]],
        7,
        "abcd",
    ],
)
def test_what_cannot_be_whole(buckets: Any) -> None:
    book = Histograms()
    assert read({"count": "1", "sum": "1", "buckets": buckets}, book) is None
    assert book.fractional == set()


TREES = st.recursive(
    st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=4), st.sampled_from(["1", "2", "Inf", "NaN", "1e-320", "-0"])),
    lambda inner: st.lists(inner, max_size=4), max_leaves=12,
)  # fmt: skip
NUMBERS = st.sampled_from(["0", "1", "2", "3", "-1", "-2", "1e-320", "1.7976931348623157e308", "+Inf", "-Inf", "NaN"])
BUCKETS = st.lists(st.tuples(st.integers(0, 3), NUMBERS, NUMBERS, NUMBERS), max_size=4)


@given(
    st.lists(st.fixed_dictionaries({"count": TREES | NUMBERS, "sum": NUMBERS, "buckets": TREES | BUCKETS}), max_size=3)
)
def test_nonsense_is_none_or_a_histogram(trees: list[dict[str, Any]]) -> None:
    book = Histograms()
    for tree in trees:
        native = read(tree, book)
        assert native is None or native.has_otlp_form


@pytest.mark.parametrize(
    "tree", [{}, [], None, {"count": "x", "sum": "1"}, {"count": "1"}, {"count": None, "sum": "1"}]
)
def test_what_is_none(tree: Any) -> None:
    assert written_of(tree) is None
    assert read(tree) is None


def test_an_end_says_of_which_kind_it_is() -> None:
    series = Series.of("h", {}, Family("h", "histogram"))
    for extras, data in ((None, "exponential_histogram"), ({0: CUSTOM_END}, "histogram")):
        ended = Batch(
            SeriesTable([series]), np.array([STALE_NAN]), np.array([5]), stale=np.array([True]), extras=extras
        )
        (payload,) = Otlp(OtlpSettings.model_validate({"endpoint": "http://localhost:1"})).encode(ended)
        request = ExportMetricsServiceRequest.FromString(payload.body)
        (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
        assert metric.WhichOneof("data") == data
        (point,) = getattr(metric, data).data_points
        assert (point.time_unix_nano, point.flags) == (5, 1)


def test_what_boundaries_say_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def form(shape: bytes, known: Known) -> Form:
        made.append(shape)
        return form_of(shape, known)

    monkeypatch.setattr("receivers.query_native.form_of", form)
    monkeypatch.setattr("receivers.query_native.MOST_FORMS", 2)
    book = Histograms()
    for slot in range(3):
        for count in range(1, 4):
            native = read(tree_of((0, 1, 2, count)), book, slot)
            assert native is not None
            assert native.positive.counts == (count,)
    assert len(made) == 2  # of series that were nothing, and that were of this schema before
    read(tree_of((0, 2, 4, 1)), book, 9)
    assert len(book._forms) == 1
