"""The pieces of a request that was cut, as payloads whose counts add up to those of the whole. Sans-IO."""

from __future__ import annotations

from collections.abc import Sequence

from ebbtide import Payload

Piece = tuple[bytes, int, int]  # body, points, samples


def payloads(whole: Payload, pieces: Sequence[Piece]) -> list[Payload]:
    """Return the pieces as payloads: their points and samples add up to the whole's.

    Where they differ from what is counted in the message (a histogram scraped without its +Inf bucket, say), the
    difference is spread over the pieces in proportion.
    """
    points = shares([piece[1] for piece in pieces], whole.points)
    samples = shares([piece[2] for piece in pieces], whole.samples)
    return [Payload(whole.key, body, p, s) for (body, _, _), p, s in zip(pieces, points, samples, strict=True)]


def shares(weights: list[int], total: int) -> list[int]:
    """Deal out ``total`` by weight, in whole numbers that add up; the weights themselves where they do."""
    whole = sum(weights) or 1
    dealt_out, reached, dealt = [], 0, 0
    for weight in weights:
        reached += weight
        share = total * reached // whole - dealt
        dealt += share
        dealt_out.append(share)
    return dealt_out
