"""The pieces of a request that was cut, as payloads whose counts add up to those of the whole. Sans-IO."""

from __future__ import annotations

from collections.abc import Sequence

from ebbtide import Payload

Piece = tuple[bytes, int, int]  # body, points, samples


def payloads(whole: Payload, pieces: Sequence[Piece]) -> list[Payload]:
    """Return the pieces as payloads: their points and samples add up to the whole's.

    Where they differ from what is counted in the message (a histogram scraped without its +Inf bucket, or a native one
    with bounds of its own, which was one sample), the difference is spread over the pieces in proportion. No piece has
    fewer samples than points, if the whole has not.
    """
    points = shares([piece[1] for piece in pieces], whole.points)
    least = points if whole.samples >= whole.points else [0] * len(points)
    weights = [max(piece[2] - one, 0) for piece, one in zip(pieces, least, strict=True)]
    more = shares(weights, whole.samples - sum(least))
    return [
        Payload(whole.key, piece[0], count, one + other)
        for piece, count, one, other in zip(pieces, points, least, more, strict=True)
    ]


def shares(weights: list[int], total: int) -> list[int]:
    """Deal out ``total`` by weight, or evenly where there is none, in whole numbers that add up; the weights where they do."""
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    dealt_out, reached, dealt = [], 0, 0
    for weight in weights:
        reached += weight
        share = total * reached // whole - dealt
        dealt += share
        dealt_out.append(share)
    return dealt_out
