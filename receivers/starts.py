"""When each cumulative stream began: tracked, because nothing that Prometheus hands out says so.

The rule (OpenTelemetry metrics data model, "Resets and gaps", and what Linkerd's proxies do to it): a stream begins at
first sight, at that point's own time; a value that falls is a reset, and the new stream begins at the previous point's
time, or at its own where the receiver says so (``own_time``: pages, as the OpenTelemetry Collector does it); a series
that was missing from a complete answer and comes back expired in its proxy meanwhile, and begins at the returning point's
own time, even where its value did not fall. Only where its whole target was down meanwhile, and the value did not fall,
did it merely go unseen, and the old start stays.
"""

from __future__ import annotations

import numpy as np

from ebbtide import Floats, Ints
from receivers.memory import EXPIRED, PRESENT, TARGET_WAS_DOWN, Columns, Slots


def track(columns: Columns, slots: Slots, values: Floats, times: Ints, *, own_time: bool = False) -> None:
    """Begin, continue or restart the streams of ``slots``, which are about to send these points (times in ns).

    For a histogram or summary the count speaks for the whole. ``own_time``: what begins with a value that fell begins at
    that point's time, else at the time of the point before. To be called before ``columns.sent`` is moved on.
    """
    start, away = columns.start[slots], columns.away[slots]
    fell = values < columns.value[slots]
    returned = (away == EXPIRED) | ((away == TARGET_WAS_DOWN) & fell)
    start = np.where(fell, times if own_time else columns.sent[slots], start)
    # A clock that was far ahead has left a start behind that lies in the future: no stream begins after its point.
    start = np.where(returned | (columns.start[slots] == 0) | (start > times), times, start)
    columns.start[slots] = start
    columns.value[slots] = values
    columns.away[slots] = PRESENT
