"""How many files the process may have open."""

from __future__ import annotations

import resource

_OTHERS = 512  # that it may have open beside those that are asked for


def allow_files(connections: int) -> None:
    """Let the process open as many files as so many connections need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHERS
    if soft != resource.RLIM_INFINITY and wanted > soft:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
