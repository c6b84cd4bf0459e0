"""What batches are at an OTLP destination, in few words."""

from __future__ import annotations

from collections.abc import Iterable

from ebbtide import Batch, ReceiverCounts, Row


def data_of(row: Row) -> str:
    """In which of OTLP's kinds of data a row is a point."""
    kind = row.series.family.kind
    if kind != "histogram":
        return {"counter": "sum", "unknown": "gauge"}.get(kind, kind)
    native = None if row.extra is None else row.extra.native
    return "histogram" if native is not None and native.is_custom else "exponential_histogram"


def sent(batches: Iterable[Batch], counts: ReceiverCounts) -> list[tuple[str, str, float, int]]:
    """Kind, pod, seconds, count (0 of a number, -1 of an end) of all points, sorted; the ledger must balance."""
    found = []
    for batch in batches:
        counts.out += len(batch)
        for row in batch.rows():
            native = None if row.extra is None or row.stale else row.extra.native
            number = -1 if row.stale else 0 if native is None else int(native.count)
            found.append((data_of(row), row.series.label("pod"), row.time / 1e9, number))
    assert counts.imbalance() == 0
    return sorted(found)
