"""What a processor did is counted by row, and shown by one example of each way."""

from __future__ import annotations

import math
from typing import Any

from agent.batch import STALE_NAN, Batch, Floats, Ints, Row
from agent.identity import Family, Resource
from agent.ledger import ProcessorCounts
from agent.plugin import Processor, SeriesProcessor, ValueProcessor
from agent.preview import changes as changes_module
from agent.preview.changes import Changes, Pair, row_of
from agent.preview.trace import ADDED
from agent.series import Series


def rows(*labels: dict[str, str], name: str = "a") -> Batch:
    return Batch.of(Row(Series.of(name, one), float(index), 7, 0, False) for index, one in enumerate(labels))


def passed(processor: Processor[Any], batch: Batch) -> Changes:
    """Let a batch pass, as a stage of a pipeline does."""
    changes = Changes(processor, processor.counts)
    changes.note(batch, processor.process(batch))
    return changes


def told(pairs: list[Pair]) -> list[tuple[str, str, int]]:
    return [(pair.outcome, pair.reason, pair.rows) for pair in pairs]


class Without(SeriesProcessor[Any]):
    """Drops series with "drop", takes "pod" away, marks "web"."""

    def map_series(self, series: Series) -> Series | None:
        labels = series.labels
        if labels.pop("drop", ""):
            return None
        labels.pop("pod", "")
        if labels.get("app") == "web":
            labels["marked"] = "yes"
        return series.but(labels=labels)


class Absolute(ValueProcessor[Any]):
    """Without signs."""

    def wants(self, series: Series) -> bool:
        return True

    def map_values(self, values: Floats, times: Ints) -> Floats:
        return abs(values)


def test_each_way_is_counted_and_shown_once() -> None:
    pods = [{"app": "db", "pod": str(n), "le": str(n)} for n in range(3)]
    changes = passed(
        Without(),
        rows(*pods, {"app": "web", "le": "9"}, {"drop": "1", "x": "1"}, {"drop": "1", "x": "2"}, {"app": "db"}),
    )
    assert changes.changed == 4
    assert told(changes.pairs(9)) == [("changed", "", 3), ("dropped", "filtered", 2), ("changed", "", 1)]
    first = changes.pairs(1)[0]
    assert first.before is not None
    assert first.after is not None
    assert (first.before.series.labels, first.after.series.labels) == (pods[0], {"app": "db", "le": "0"})
    assert changes.pairs(0) == []


def test_reasons_are_told_apart() -> None:
    changes = passed(Without(), rows({"pod": "1"}, {"pod": "2"}, {"drop": "1"}))
    assert told(changes.pairs(9)) == [("changed", "", 1), ("dropped", "collision", 1), ("dropped", "filtered", 1)]
    dropped = next(pair for pair in changes.pairs(9) if pair.reason == "collision")
    assert dropped.before is not None
    assert dropped.before.series.labels == {"pod": "2"}
    assert dropped.after is None


def test_dropped_rows_are_told_apart_by_their_names() -> None:
    processor = Without()
    changes = Changes(processor, processor.counts)
    for name, count in (("a", 2), ("b", 1)):
        batch = rows(*({"drop": str(n + 1)} for n in range(count)), name=name)
        changes.note(batch, processor.process(batch))
    assert [(pair.before.series.name, pair.rows) for pair in changes.pairs(9) if pair.before] == [("a", 2), ("b", 1)]


def test_values_that_moved_are_changes_and_nan_is_nan() -> None:
    values = [-1.0, 1.0, math.nan, STALE_NAN, -0.0]
    batch = Batch.of(Row(Series.of("a", {"n": str(n)}), value, 0, 0, n == 3) for n, value in enumerate(values))
    changes = passed(Absolute(), batch)
    assert changes.changed == 2
    (pair,) = changes.pairs(9)
    assert (pair.rows, pair.before and pair.before.value, pair.after and pair.after.value) == (2, -1.0, 1.0)


def test_what_was_held_back_is_added() -> None:
    changes = Changes(Without(), ProcessorCounts())
    assert changes.note(None, rows({}, {"a": "1"})).tolist() == [ADDED, ADDED]
    assert told(changes.pairs(9)) == [("added", "", 2)]


def test_a_batch_that_is_gone_and_a_reason_nobody_gives() -> None:
    class Nothing(Processor[Any]):
        """Swallows all."""

        def process(self, batch: Batch) -> Batch | None:
            return None

    changes = passed(Nothing(), rows({}, {"a": "1"}))
    assert told(changes.pairs(9)) == [("dropped", "", 2)]
    assert changes.note(None, None).tolist() == []


def test_kind_resource_and_name_are_ways_of_their_own() -> None:
    class Each(SeriesProcessor[Any]):
        """Changes something else of each series."""

        def map_series(self, series: Series) -> Series | None:
            return {
                "name": lambda: series.but(name="other"),
                "kind": lambda: series.but(family=Family("a", "gauge")),
                "resource": lambda: series.but(resource=Resource.of({"x": 1})),
                "le": lambda: series.but(labels={"do": "le", "quantile": "1.0"}),
            }[series.label("do")]()

    changes = passed(Each(), rows({"do": "name"}, {"do": "kind"}, {"do": "resource"}, {"do": "le", "quantile": "1"}))
    assert told(changes.pairs(9)) == [("changed", "", 1)] * 4


def test_ways_are_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(changes_module, "MAX_WAYS", 2)
    processor = Without()
    changes = Changes(processor, processor.counts)
    for name in "abc":
        batch = rows({"drop": "1"}, name=name)
        changes.note(batch, processor.process(batch))
    assert len(changes.pairs(9)) == 2


def test_row_of() -> None:
    batch = Batch.of([Row(Series.of("a"), 1.0, 2, 1, False), Row(Series.of("b"), 0.0, 3, 0, True)])
    assert [row_of(batch, row) for row in (0, 1)] == list(batch.rows())
