"""How many files the process may have open, and what follows for connections that are kept."""

from __future__ import annotations

import math
import resource

FILES_FOR_OTHERS = 128
"""So many of the files that the process may open are not for kept connections, or half of them where that is less."""
_OTHERS = 512  # that are asked for beside those of connections


def allow_files(connections: int) -> None:
    """Let the process open as many files as so many connections need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHERS
    if soft != resource.RLIM_INFINITY and wanted > soft:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def most_kept() -> float:
    """Return how many connections may be kept, as long as the limit is what it is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else max(soft - FILES_FOR_OTHERS, soft // 2)
