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
    assert sum(dealt) == (total if sum(weights) else 0)
    assert all(share >= 0 for share in dealt)


@given(WEIGHTS)
def test_weights_that_add_up_are_the_shares(weights: list[int]) -> None:
    assert shares(weights, sum(weights)) == weights


def test_payloads_have_the_key_and_the_counts_of_the_whole() -> None:
    made = payloads(Payload(b"k", b"", 3, 30), [(b"a", 1, 10), (b"b", 2, 19)])
    assert made == [Payload(b"k", b"a", 1, 10), Payload(b"k", b"b", 2, 20)]
