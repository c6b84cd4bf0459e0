"""Signals that come while the agent starts: they wait until somebody is there who obeys them.

Strategy. Starting takes a second on a busy machine, and until then a SIGHUP would kill the process, a SIGTERM end it with
the wrong status, or be lost where it is process 1 of a container. So they are held at the very beginning, and let in by
who has made himself ready for them. SIGINT is Python's own business: it raises KeyboardInterrupt.
"""

from __future__ import annotations

import signal

HELD = (signal.SIGTERM, signal.SIGHUP)


def hold() -> None:
    """Let the signals wait. To be called before any thread is started, since threads go on as they were made."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def let_in() -> None:
    """Let them through, those first that have been waiting."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
