"""What discovery gives: target groups as Prometheus has them, each target a set of labels.

Source: prometheus/prometheus, discovery/targetgroup and discovery/manager.go. A target has ``__address__`` and may have
more labels, ``__meta_*`` among them; the labels of its group lie beneath its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

Groups = Mapping[str, "TargetGroup"]
"""All groups of one discovery, by source."""


@dataclass(frozen=True)
class TargetGroup:
    """Targets that came together. ``source`` names the group within its discovery; ``labels`` lie beneath each target's."""

    source: str
    labels: Mapping[str, str]
    targets: tuple[Mapping[str, str], ...]


class Discovery(Protocol):
    """Finds targets and keeps finding them.

    A discovery that fails keeps the last good list, and says so; it never answers with nothing because of a failure.
    """

    async def run(self, update: Callable[[Groups], None]) -> None:
        """Call ``update`` with all groups at each change, until cancelled."""

    async def once(self) -> Groups:
        """Return all groups as they are now. Raises ReceiveError where they cannot be had."""
        ...
