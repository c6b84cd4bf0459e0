"""What a processor promises: it is pure towards its input, its books balance, and what it remembers changes nothing.

Strategy. Every law is tried on every odd batch. Rows are compared as plain tuples in which a NaN equals itself and the
value of an ended stream, which has no meaning, is left out. ``looks_at_each_row_alone`` is the law behind all remembering:
what the vectorised, remembered path returns must be what a new instance returns for each row by itself, in any order and
company.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from agent.batch import Batch
from agent.plugin import Processor, RowProcessor, SeriesProcessor, ValueProcessor
from agent.series import Series, SeriesTable
from agent.testing.batches import TIME, batches, mesh
from agent.testing.candidate import Candidate, Nonconformance, check_form, demand

_Row = tuple[Series, float | str, int, int, bool, object]
_Law = Callable[[Candidate], None]


def takes_every_batch(candidate: Candidate) -> None:
    """No batch that may come makes it fail, and what it returns is a batch that the next one can take."""
    for name, batch in batches().items():
        _passed(candidate, candidate.made(), name, batch)


def leaves_its_input_alone(candidate: Candidate) -> None:
    """The batch belongs to other pipelines, too: none of its columns, and nothing of its table, is changed."""
    for name, batch in batches().items():
        kept = _copied(batch)
        _passed(candidate, candidate.made(), name, batch)
        for column in ("values", "times", "starts", "stale"):
            before, after = getattr(kept, column), getattr(batch, column)
            same = before is after is None or (before is not None and before.tobytes() == after.tobytes())
            demand(
                same, f"{candidate.name} changes the {column} of the batch {name!r} that it is given; copy them first"
            )
        demand(kept.table.series == batch.table.series, f"{candidate.name} changes the table of the batch {name!r}")
        demand(kept.extras == batch.extras, f"{candidate.name} changes the extras of the batch {name!r}")


def keeps_the_books(candidate: Candidate) -> None:
    """What it counts as dropped, merged and added explains the rows that went; the rest are booked as ``filtered``."""
    processor = candidate.made()
    counts = processor.counts
    for name, batch in batches().items():
        before = counts.dropped.total() + counts.merged - counts.added
        result = _passed(candidate, processor, name, batch)
        explained = counts.dropped.total() + counts.merged - counts.added - before
        gone = len(batch) - (0 if result is None else len(result))
        demand(
            explained <= gone or explained == 0,
            f"{candidate.name} counts {explained} rows of the batch {name!r} as gone, and {gone} are; count each row in "
            f"counts.dropped or counts.merged when it goes, and in counts.added when it is made",
        )
        least = min([counts.merged, counts.added, *counts.dropped.values()])
        demand(least >= 0, f"{candidate.name} has a count below zero, {least}; counts only grow")


def is_deterministic(candidate: Candidate) -> None:
    """The same batches give the same rows, in every instance of equal settings."""
    for name, batch in batches().items():
        # One after the other has gone, or the second would be told what the first has worked out.
        rows = [_rows(_passed(candidate, candidate.made(), name, batch)) for _ in range(2)]
        demand(rows[0] == rows[1], f"two instances of {candidate.name} make different rows of the batch {name!r}")


def looks_at_each_row_alone(candidate: Candidate) -> None:
    """A row becomes the same in any company and order; of rows that become one identity, the first may stand for all."""
    for name, batch in batches().items():
        _compare_with_single_rows(candidate, name, batch)


def _compare_with_single_rows(candidate: Candidate, name: str, batch: Batch) -> None:
    """No instance lives on beyond this call, or the next rows alone would be told what it has worked out."""
    alone = [_rows(_passed(candidate, candidate.made(), name, _alone(batch, row))) for row in range(len(batch))]
    processor = candidate.made()
    order = np.random.default_rng(len(batch)).permutation(len(batch))
    for how, rows in (("whole", np.arange(len(batch))), ("in another order", order), ("in part", order[::3])):
        found = _rows(_passed(candidate, processor, name, batch.take(rows)))
        expected = [row for index in rows.tolist() for row in alone[index]]
        demand(
            found in (expected, _first_of_each(expected)),
            f"{candidate.name} makes other rows of the batch {name!r} ({how}) than of its rows one by one: "
            f"{_difference(found, expected)}; its answer may depend on the row and the settings alone",
        )


def remembers_a_steady_form(candidate: Candidate) -> None:
    """The same table in gives the identical table out, so that whatever is remembered on it downstream stays."""
    for name, batch in batches().items():
        processor = candidate.made()
        first = _passed(candidate, processor, name, batch)
        again = _passed(candidate, processor, name, batch.but(values=np.ones(len(batch))))
        if first is not None and len(first):
            same = again is not None and again.table is first.table
            demand(
                same,
                f"{candidate.name} makes a new table of the same one (batch {name!r}); use table.derive(owner, make)",
            )


def forgets_nothing_at_a_reload(candidate: Candidate) -> None:
    """An instance of equal settings finds what another has worked out: the key is the settings, not the instance."""
    batch, (one, other) = mesh(), (candidate.made(), candidate.made())
    first, again = _passed(candidate, one, "mesh", batch), _passed(candidate, other, "mesh", batch)
    if first is not None and again is not None:
        same = first.table is again.table
        demand(same, f"a second {candidate.name} of equal settings works everything out anew; do not replace `owner`")


def keeps_extras_with_their_rows(candidate: Candidate) -> None:
    """A native histogram goes where its row goes."""
    batch = batches()["native histograms"]
    result = _passed(candidate, candidate.made(), "native histograms", batch)
    if result is not None and len(result) == len(batch):
        lost = len(batch.extras or ()) - len(result.extras or ())
        demand(
            not lost,
            f"{candidate.name} loses the extras of {lost} rows that it keeps; use Batch.take and Batch.but",
        )


def flushes_what_it_held(candidate: Candidate) -> None:
    """``flush`` returns what was held back, once, and nothing where nothing was."""
    processor = candidate.made()
    first = processor.flush(TIME)
    demand(first is None or not len(first), f"{candidate.name} flushes rows before it was given any")
    for name, batch in batches().items():
        _passed(candidate, processor, name, batch)
    later = TIME + 3_600 * 10**9
    held = processor.flush(later)
    if held is not None:
        check_form(held, f"what {candidate.name}.flush returns")
    again = processor.flush(later)
    demand(again is None or not len(again), f"{candidate.name} flushes the same rows twice; forget what was returned")


def promises_of(candidate: Candidate) -> list[_Law]:
    """Return the laws that hold for this processor, by its base class."""
    cls = candidate.cls
    laws: list[_Law] = [takes_every_batch, leaves_its_input_alone, keeps_the_books, is_deterministic]
    easy = issubclass(cls, SeriesProcessor | ValueProcessor | RowProcessor)
    if easy if candidate.row_by_row is None else candidate.row_by_row:
        laws.append(looks_at_each_row_alone)
    if issubclass(cls, SeriesProcessor | ValueProcessor):
        laws.append(remembers_a_steady_form)
    if issubclass(cls, SeriesProcessor):
        laws.append(forgets_nothing_at_a_reload)
    laws.append(keeps_extras_with_their_rows)
    if issubclass(cls, Processor) and cls.flush is not Processor.flush:
        laws.append(flushes_what_it_held)
    return laws


def _passed(candidate: Candidate, processor: Any, name: str, batch: Batch) -> Batch | None:
    try:
        result: Batch | None = processor.process(batch)
    except Exception as error:
        raise Nonconformance(
            f"{candidate.name} fails on the batch {name!r} ({type(error).__name__}: {error}); it would be lost as `bug`"
        ) from error
    if result is not None:
        check_form(result, f"what {candidate.name} makes of the batch {name!r}")
    return result


def _copied(batch: Batch) -> Batch:
    """The same rows in columns of their own."""
    stale = None if batch.stale is None else batch.stale.copy()
    return Batch(
        batch.table, batch.values.copy(), batch.times.copy(), batch.starts.copy(), stale, dict(batch.extras or {})
    )


def _alone(batch: Batch, row: int) -> Batch:
    """One row under a table that knows of no other, as ``take`` would make it know."""
    return batch.take([row], SeriesTable([batch.table.series[row]]))


def _rows(batch: Batch | None) -> list[_Row]:
    """Comparable rows, with the extra that each carries."""
    extras = (batch.extras if batch is not None else None) or {}
    return [
        (row.series, _comparable(row.value, row.stale), row.time, row.start, row.stale, extras.get(number))
        for number, row in enumerate(batch.rows() if batch is not None else ())
    ]


def _comparable(value: float, stale: bool) -> float | str:
    if stale:
        return "ended"
    if math.isnan(value):
        return "NaN"
    return "-0.0" if value == 0 and math.copysign(1, value) < 0 else value


def _first_of_each(rows: list[_Row]) -> list[_Row]:
    first: dict[Series, _Row] = {}
    for row in rows:
        first.setdefault(row[0], row)
    return list(first.values())


def _difference(found: list[_Row], expected: list[_Row]) -> str:
    """The first row that differs, cut to what one can read."""
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return f"row {number} is {_short(one)} instead of {_short(other)}"
    return f"there are {len(found)} instead of {len(expected)}"


def _short(row: _Row) -> str:
    return f"{repr(row[0])[:80]} {row[1]} at {row[2]} since {row[3]}"
