"""Counts of pieces that add up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ebbtide import Payload
from exporters.pieces import payloads, shares

WEIGHTS = st.lists(st.integers(0, 100), min_size=1, max_size=20)


@given(WEIGHTS, st.integers(0, 10**6))
def test_shares_add_up(weights: list[int], total: int) -> None:
    dealt = shares(weights, total)
    assert sum(dealt) == total
    assert all(share >= 0 for share in dealt)


@given(WEIGHTS)
def test_weights_that_add_up_are_the_shares(weights: list[int]) -> None:
    assert shares(weights, sum(weights)) == weights


def test_payloads_have_the_key_and_the_counts_of_the_whole() -> None:
    made = payloads(Payload(b"k", b"", 3, 30), [(b"a", 1, 10), (b"b", 2, 19)])
    assert made == [Payload(b"k", b"a", 1, 10), Payload(b"k", b"b", 2, 20)]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 50)), min_size=1, max_size=9), st.integers(0, 200))
def test_no_piece_has_fewer_samples_than_points(counts: list[tuple[int, int]], more: int) -> None:
    points = sum(count for count, _ in counts)
    pieces = [(b"x", count, count + others) for count, others in counts]
    made = payloads(Payload(b"", b"", points, points + more), pieces)
    assert all(0 <= one.points <= one.samples for one in made)
    assert (sum(one.points for one in made), sum(one.samples for one in made)) == (points, points + more)
