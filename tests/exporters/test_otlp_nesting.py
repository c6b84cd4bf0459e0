"""Leaving points out: what is left is what would have been written without them, wherever lengths shrink."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from ebbtide import Family, Resource, Scope, Series
from exporters.otlp_nesting import DATA, METRIC, RESOURCE, SCOPE, Edits, Nesting
from exporters.otlp_points import group
from exporters.otlp_writer import Form, write

COUNTER, GAUGE = Family("c", "counter"), Family("g", "gauge")
SCOPES = [Scope.of("a"), Scope.of("b", schema_url="u")]


def rows(size: int) -> list[Series]:
    """Two resources of two scopes of two metrics of three points; ``size`` decides how long the numbers of lengths are."""
    return [
        Series.of(family.name, {"n": str(n), "x": "x" * size}, family, Resource.of({"r": name}), scope)
        for name in ("web", "api")
        for scope in SCOPES
        for family in (COUNTER, GAUGE)
        for n in range(3)
    ]


def written(series: list[Series]) -> Form:
    return write(group(series), len(series))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([1, 20, 90, 5000, 20_000]), st.sets(st.integers(0, 23)))
def test_what_is_left_is_what_would_have_been_written(size: int, chosen: set[int]) -> None:
    series = rows(size)
    whole, alone = written(series), written([one for n, one in enumerate(series) if n not in chosen])
    gone = np.zeros(len(series), np.bool_)
    gone[list(chosen)] = True
    edits = whole.nesting.without(gone, whole.starts, whole.ends)
    assert edits.apply(whole.body) == alone.body
    assert edits.moved(whole.starts[~gone]).tolist() == alone.starts.tolist()
    assert edits.moved(whole.ends[~gone]).tolist() == alone.ends.tolist()
    left = [
        one for one in whole.segments if edits.moved(np.array([one.end]))[0] > edits.moved(np.array([one.start]))[0]
    ]
    assert [one.resource for one in left] == [one.resource for one in alone.segments]


def test_what_ends_as_a_whole_is_left_out_at_once() -> None:
    form = written(rows(1))
    gone = np.zeros(24, np.bool_)
    gone[:12] = True
    edits = form.nesting.without(gone, form.starts, form.ends)
    segment = form.segments[0]
    assert [column.tolist() for column in edits] == [[segment.start], [segment.end], [0]]
    assert (
        ExportMetricsServiceRequest.FromString(edits.apply(form.body)).resource_metrics[0].resource.attributes[0].key
        == "r"
    )


def test_nothing_goes() -> None:
    form = written(rows(1))
    edits = form.nesting.without(np.zeros(24, np.bool_), form.starts, form.ends)
    assert edits.apply(form.body) == form.body
    assert edits.moved(form.starts).tolist() == form.starts.tolist()


def test_places_move_by_what_stands_before_them() -> None:
    edits = Edits(np.array([2, 8]), np.array([4, 9]), np.array([0, 300]))
    assert edits.apply(b"0123456789") == b"014567\xac\x029"
    assert edits.moved(np.array([0, 2, 4, 7, 9, 10])).tolist() == [0, 2, 2, 5, 8, 9]


@pytest.mark.parametrize(
    ("left", "body"), [([True, False], b"\x0a\x08\x12\x06\x12\x04\x2a\x02aa"), ([False, False], b"")]
)
def test_messages_are_told_of_as_they_are_written(left: list[bool], body: bytes) -> None:
    nesting = Nesting(2)
    whole = b"\x0a\x0a\x12\x08\x12\x06\x2a\x04aabb"
    for level, at in ((RESOURCE, 0), (SCOPE, 2), (METRIC, 4), (DATA, 6)):
        nesting.note(level, at, at + 2, len(whole) - at - 2, 0)
    edits = nesting.without(~np.array(left), np.array([8, 10]), np.array([10, 12]))
    assert edits.apply(whole) == body
