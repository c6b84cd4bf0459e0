"""Target groups are values: an unchanged answer is told from a changed one by comparing."""

from __future__ import annotations

from receivers.discovery import TargetGroup


def test_groups_are_compared_by_what_they_hold() -> None:
    one = TargetGroup("a", {"zone": "1"}, ({"__address__": "x:1"},))
    assert one == TargetGroup("a", {"zone": "1"}, ({"__address__": "x:1"},))
    assert one != TargetGroup("a", {"zone": "1"}, ({"__address__": "y:1"},))
    assert one != TargetGroup("a", {"zone": "2"}, ({"__address__": "x:1"},))
