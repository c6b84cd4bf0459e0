"""Each law of processors is broken by a plugin that deserves it, and by no other."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from agent.batch import Batch, Floats, Ints, Row
from agent.plugin import Processor, RowProcessor, SeriesProcessor, ValueProcessor
from agent.series import Series, SeriesTable
from agent.testing import conformance, promises_of, shortcomings
from agent.testing.candidate import Candidate


class NoGauge(SeriesProcessor[Any]):
    """Drops every gauge."""

    def map_series(self, series: Series) -> Series | None:
        return None if series.family.kind == "gauge" else series


class Doubles(ValueProcessor[Any]):
    """Doubles counters."""

    def wants(self, series: Series) -> bool:
        return series.family.kind == "counter"

    def map_values(self, values: Floats, times: Ints) -> Floats:
        with np.errstate(over="ignore"):
            return values * 2


class Positive(RowProcessor[Any]):
    """Drops what is below zero."""

    def map_row(self, row: Row) -> Row | None:
        return None if row.value < 0 else row


class Holds(Processor[Any]):
    """Holds batches back until it is flushed."""

    held: tuple[Batch, ...] = ()

    def process(self, batch: Batch) -> Batch | None:
        self.held = (*self.held, batch)
        self.counts.merged += len(batch)
        return None

    def flush(self, now: int) -> Batch | None:
        held, self.held = self.held, ()
        batch = Batch.concat(held) if held else None
        self.counts.added += 0 if batch is None else len(batch)
        return batch


test_no_gauge = conformance(NoGauge)
test_doubles = conformance(Doubles)
test_positive = conformance(Positive)
test_holds = conformance(Holds)


class Fails(SeriesProcessor[Any]):
    """Fails on what it did not expect."""

    def map_series(self, series: Series) -> Series | None:
        return series if series.labels["job"] else None


class Scribbles(Processor[Any]):
    """Writes into its input."""

    def process(self, batch: Batch) -> Batch | None:
        batch.values *= 2
        return batch


class Steals(Processor[Any]):
    """Takes the starts away."""

    def process(self, batch: Batch) -> Batch | None:
        batch.starts = np.zeros(len(batch), np.int64)
        return batch


class Lies(Processor[Any]):
    """Counts what it did not drop."""

    def process(self, batch: Batch) -> Batch | None:
        self.counts.dropped["whim"] += 1
        return batch


class Negative(Processor[Any]):
    """Counts downwards."""

    def process(self, batch: Batch) -> Batch | None:
        self.counts.merged -= 1
        self.counts.added -= 1
        return batch


class Narrow(Processor[Any]):
    """Makes columns of another type."""

    def process(self, batch: Batch) -> Batch | None:
        return batch.but(values=batch.values.astype(np.float32))


class Whimsical(SeriesProcessor[Any]):
    """Throws dice."""

    def map_series(self, series: Series) -> Series | None:
        return series if random.random() < 0.5 else None


class Counts(SeriesProcessor[Any]):
    """Numbers the series as they come."""

    seen = 0

    def map_series(self, series: Series) -> Series | None:
        self.seen += 1
        return series.but(labels={**series.labels, "number": str(self.seen)})


class Total(ValueProcessor[Any]):
    """Mixes rows."""

    def wants(self, series: Series) -> bool:
        return True

    def map_values(self, values: Floats, times: Ints) -> Floats:
        return np.arange(len(values), dtype=np.float64)


class Forgetful(NoGauge):
    """Works everything out anew."""

    def process(self, batch: Batch) -> Batch | None:
        rows = [row for row, series in enumerate(batch.table) if self.map_series(series) is not None]
        unique = list({batch.table.series[row]: row for row in reversed(rows)}.values())[::-1]
        unique.sort()
        return batch.take(unique) if unique else None


class Selfish(NoGauge):
    """Keeps what it remembers to itself."""

    @property
    def owner(self) -> Any:
        return self


class Loses(Processor[Any]):
    """Forgets extras."""

    def process(self, batch: Batch) -> Batch | None:
        return Batch(batch.table, batch.values, batch.times, batch.starts, batch.stale)


class Repeats(Holds):
    """Flushes the same again and again."""

    def flush(self, now: int) -> Batch | None:
        return Batch.concat(self.held) if self.held else None


class Invents(Holds):
    """Flushes what it never got."""

    def flush(self, now: int) -> Batch | None:
        return Batch(SeriesTable([Series.of("made_up")]), np.zeros(1), np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("broken", "promise", "said"),
    [
        (Fails, "takes_every_batch", "fails on the batch 'one row' (KeyError: 'job')"),
        (Scribbles, "leaves_its_input_alone", "changes the values of the batch 'one row'"),
        (Steals, "leaves_its_input_alone", "changes the starts of the batch"),
        (Lies, "keeps_the_books", "counts 1 rows of the batch 'empty' as gone, and 0 are"),
        (Negative, "keeps_the_books", "has a count below zero"),
        (Narrow, "takes_every_batch", "is of float32"),
        (Whimsical, "is_deterministic", "make different rows"),
        (Counts, "looks_at_each_row_alone", "its answer may depend on the row and the settings alone"),
        (Total, "looks_at_each_row_alone", "than of its rows one by one"),
        (Forgetful, "remembers_a_steady_form", "makes a new table of the same one"),
        (Selfish, "forgets_nothing_at_a_reload", "works everything out anew"),
        (Loses, "keeps_extras_with_their_rows", "loses the extras of 9 rows"),
        (Repeats, "flushes_what_it_held", "flushes the same rows twice"),
        (Invents, "flushes_what_it_held", "before it was given any"),
    ],
)
def test_a_broken_law_is_told(broken: type[Any], promise: str, said: str) -> None:
    told = {name: sentence for name, _, sentence in (line.partition(": ") for line in shortcomings(broken))}
    assert said in told[promise]


def laws(cls: type[Any], **more: Any) -> set[str]:
    return {promise.name for promise in promises_of(Candidate(cls, **more))}


def test_laws_follow_the_base_class() -> None:
    assert "looks_at_each_row_alone" in laws(NoGauge) & laws(Doubles) & laws(Positive) & laws(Loses, row_by_row=True)
    assert "looks_at_each_row_alone" not in laws(Loses) | laws(Doubles, row_by_row=False)
    assert "remembers_a_steady_form" not in laws(Positive) | laws(Loses)
    assert "flushes_what_it_held" in laws(Holds) - laws(Loses)
