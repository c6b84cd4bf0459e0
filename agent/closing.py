"""The end of a run: what the ledger says of it, to the operator, to a file, and as the exit status."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

from agent.drafts import NotWritten, write_all
from agent.ledger import ExporterCounts, Ledger

logger = logging.getLogger("ebbtide.ledger")

FAILURES = ("overflow", "expired", "rejected", "too_large", "shutdown")
"""Reasons of an exporter that make ``once`` fail."""


def status(ledger: Ledger, *, once: bool) -> int:
    """The exit status: for a run, 1 where the deadline cost points; for ``once``, 1 where anything was lost."""
    exporters = ledger.exporters.values()
    if not once:
        return int(any(counts.dropped["shutdown"] for counts in exporters))
    failed = any(counts.failed_polls for counts in ledger.receivers.values())
    return int(failed or any(map(_lost, exporters)) or any(dropped["bug"] for dropped in _dropped(ledger).values()))


def _lost(counts: ExporterCounts) -> bool:
    return bool(counts.held() or counts.rejected_points or any(counts.dropped[reason] for reason in FAILURES))


def _dropped(ledger: Ledger) -> dict[str, Counter[str]]:
    """What was dropped, by the path of the component."""
    dropped = {f"receivers.{name}": counts.dropped for name, counts in ledger.receivers.items()}
    for name, pipeline in ledger.pipelines.items():
        dropped |= {f"pipelines.{name}.{stage}": counts.dropped for stage, counts in pipeline.processors.items()}
    return dropped | {f"exporters.{name}": counts.dropped for name, counts in ledger.exporters.items()}


def report(ledger: Ledger, path: Path | None) -> bool:
    """Log the end of a run and write the ledger to ``path``; False where it cannot be written."""
    for name, counts in ledger.exporters.items():
        if counts.dropped["shutdown"]:
            logger.error("exporter %s: cannot send %d samples before the end, so they are lost; see why its destination is slow, "
                         "or raise `agent.shutdown_timeout`", name, counts.dropped["shutdown"])  # fmt: skip
    logger.info("%s", summary(ledger))
    for imbalance in ledger.imbalances():
        logger.error("the ledger does not balance: %s; this is a bug", imbalance)
    return path is None or write(ledger, path)


def summary(ledger: Ledger) -> str:
    """The run in one line."""
    polls = sum(counts.polls for counts in ledger.receivers.values())
    failed = sum(counts.failed_polls for counts in ledger.receivers.values())
    samples = sum(counts.samples for counts in ledger.receivers.values())
    parts = [f"received {samples} samples in {polls} polls" + (f" ({failed} failed)" if failed else "")]
    for name, counts in ledger.exporters.items():
        parts.append(f"{name} sent {counts.sent} samples as {counts.points_sent} points, {counts.held()} held")
    for name, reasons in _dropped(ledger).items():
        lost = ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items()) if number)
        parts += [f"{name} dropped {lost}"] if lost else []
    return "; ".join(parts)


def write(ledger: Ledger, path: Path) -> bool:
    """Write the ledger as JSON, whole or not at all; False, and said why, where it cannot be."""
    try:
        write_all({path: json.dumps(ledger.as_dict(), indent=2).encode() + b"\n"})
    except NotWritten as error:
        logger.error("cannot write the ledger to %s: %s; choose another --ledger", path, error.why)
        return False
    return True
