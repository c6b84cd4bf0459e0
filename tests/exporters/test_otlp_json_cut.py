"""Cutting JSON says the same as cutting protobuf, in the bytes of JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.testing import reference_request
from agent.testing.batches import batches
from ebbtide import Batch
from exporters.otlp_json import to_json
from exporters.otlp_json_cut import cut_json
from exporters.otlp_template import encode
from exporters.wire import cut
from tests.exporters.test_otlp_template import any_batch


@pytest.fixture
def text(batch: Batch) -> bytes:
    return to_json(reference_request(batch).SerializeToString())


def points(tree: dict) -> list:
    return [
        (json.dumps(r.get("resource")), json.dumps(s.get("scope")), m["name"], json.dumps(p))
        for r in tree.get("resourceMetrics", ())
        for s in r["scopeMetrics"]
        for m in s["metrics"]
        for data in m.values()
        if isinstance(data, dict)
        for p in data["dataPoints"]
    ]


@pytest.mark.parametrize("max_bytes", [1, 500, 1000, 2000, 5000, 10**6])
def test_order_and_everything_around_the_points_is_kept(text: bytes, max_bytes: int) -> None:
    pieces = cut_json(text, max_bytes)
    assert [p for piece, _, _ in pieces for p in points(json.loads(piece))] == points(json.loads(text))
    for piece, number, _ in pieces:
        assert len(points(json.loads(piece))) == number
        assert len(piece) <= max_bytes or number == 1


@settings(max_examples=100, deadline=None)
@given(any_batch(), st.integers(1, 4000))
def test_the_pieces_say_what_the_whole_says(batch: Batch, max_bytes: int) -> None:
    body = encode(batch).body
    text = to_json(body)
    pieces = cut_json(text, max_bytes)
    assert [p for piece, _, _ in pieces for p in points(json.loads(piece))] == points(json.loads(text))
    assert all(len(piece) <= max_bytes or number == 1 for piece, number, _ in pieces)
    whole = [(number, samples) for _, number, samples in cut(body, 0) if number]
    assert [(number, samples) for _, number, samples in cut_json(text, 1)] == whole


@pytest.mark.parametrize("max_bytes", [1, 500, 1000, 2000])
def test_exponential_histograms_and_exemplars_are_cut_whole(max_bytes: int) -> None:
    text = to_json(reference_request(batches()["native histograms"]).SerializeToString())
    pieces = cut_json(text, max_bytes)
    assert [p for piece, _, _ in pieces for p in points(json.loads(piece))] == points(json.loads(text))
    assert b'"exponentialHistogram"' in text
    assert b'"exemplars"' in text


def test_what_fits_stays_whole_to_the_byte(text: bytes) -> None:
    ((whole, _, _),) = cut_json(text, len(text))
    assert whole == text
    assert len(cut_json(text, len(text) - 1)) > 1


def test_samples_are_counted_as_in_protobuf(text: bytes, batch: Batch) -> None:
    body = reference_request(batch).SerializeToString()
    alone = [(points, samples) for _, points, samples in cut(body, 1)]
    assert [(points, samples) for _, points, samples in cut_json(text, 1)] == alone


def test_a_point_without_buckets_counts_its_count_and_sum() -> None:
    tree = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "h", "histogram": {"dataPoints": [{"count": "1", "sum": 2.0}]}},
        {"name": "s", "summary": {"dataPoints": [{}]}},
    ]}]}]}  # fmt: skip
    assert [samples for _, _, samples in cut_json(json.dumps(tree).encode(), 1)] == [2, 2]


def test_names_that_read_like_json_do_not_mislead() -> None:
    name = '"dataPoints":[] "metrics":['
    tree = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": name, "gauge": {"dataPoints": [{"asDouble": 1.0}, {"asDouble": 2.0}]}, "description": name},
    ]}]}]}  # fmt: skip
    found = cut_json(json.dumps(tree, separators=(",", ":")).encode(), 1)
    assert [p[2:] for piece, _, _ in found for p in points(json.loads(piece))] == [
        (name, '{"asDouble": 1.0}'), (name, '{"asDouble": 2.0}'),
    ]  # fmt: skip


def test_an_empty_request_has_no_pieces() -> None:
    assert cut_json(b"{}", 10) == []
