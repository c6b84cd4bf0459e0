"""Rows of several batches that become one identity: what goes is what would go in one batch, and nothing is held for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import Arrival, Batch
from agent.collisions import PLANS
from agent.plugin import Context, SeriesProcessor
from agent.series import Series, SeriesTable

NAMES = ("a", "A", "b", "B", "c", "C", "x")


class Lower(SeriesProcessor):  # type: ignore[type-arg]
    """Makes lower case of names, and drops x."""

    def map_series(self, series: Series) -> Series | None:
        return None if series.name == "x" else series.but(name=series.name.lower())


class Drops(SeriesProcessor):  # type: ignore[type-arg]
    """Changes nothing, and drops x."""

    def map_series(self, series: Series) -> Series | None:
        return None if series.name == "x" else series


def table(names: Iterable[str]) -> SeriesTable:
    return SeriesTable(Series.of(name) for name in names)


def batch(of: SeriesTable, arrival: Arrival | None, first: int = 0) -> Batch:
    numbers = np.arange(first, first + len(of), dtype=np.int64)
    return Batch(of, numbers.astype(np.float64), numbers, together=arrival)


def passed(processor: Lower | Drops, tables: Iterable[SeriesTable], arrival: Arrival | None = None) -> list[str]:
    """Pass tables that came together; return the names of each with the numbers of the rows, from 0 over all of them."""
    arrival, first, shown = arrival or Arrival(), 0, []
    for one in tables:
        result = processor.process(batch(one, arrival, first))
        first += len(one)
        rows = [] if result is None else list(result.rows())
        shown.append("".join(f"{row.series.name}{row.value:.0f}" for row in rows))
    return shown


# -- what goes -----------------------------------------------------------------------------------------------------


def test_of_batches_that_came_together_the_first_of_an_identity_stays(caplog: pytest.LogCaptureFixture) -> None:
    processor, tables = Lower(None, Context("lower")), [table("ab"), table("CA"), table("xBc")]
    for _ in range(3):
        assert passed(processor, tables) == ["a0b1", "c2", ""]
    assert processor.counts.dropped == {"collision": 9, "filtered": 3}
    (record,) = caplog.records
    assert record.getMessage() == (
        "processor lower makes 1 series equal to others (first: a{} and A{} both become a{}); the first of each is kept"
    )


def test_batches_of_which_nothing_is_known_are_looked_at_alone() -> None:
    processor = Lower()
    for one in (table("ab"), table("AB")):
        assert len(processor.process(batch(one, None)) or ()) == 2
    assert not processor.counts.dropped


def test_another_page_begins_anew() -> None:
    processor, one, other = Lower(), table("ab"), table("AB")
    assert [passed(processor, [one]), passed(processor, [other]), passed(processor, [one])] == [["a0b1"]] * 3
    assert not processor.counts.dropped


def test_pages_of_several_receivers_do_not_mix() -> None:
    processor, tables = Lower(), [table("ab"), table("AC"), table("Bc")]
    one, other = Arrival(), Arrival()
    assert passed(processor, tables[:1], one) == ["a0b1"]
    assert passed(processor, tables[1:2], other) == ["a0c1"]
    assert passed(processor, tables[2:], one) == ["c1"]
    assert passed(processor, tables[2:], other) == ["b0"]


def test_pipelines_do_not_mix() -> None:
    arrival, one, other = Arrival(), Lower(), Lower()
    assert passed(one, [table("a")], arrival) == passed(other, [table("A")], arrival) == ["a0"]


def test_a_series_that_is_renamed_late_meets_those_that_were_not() -> None:
    """The processor had renamed nothing when the first two passed."""
    processor = Lower()
    assert passed(processor, [table("ax"), table("b"), table("BcA"), table("C")]) == ["a0", "b2", "c4", ""]
    assert processor.counts.dropped == {"filtered": 1, "collision": 3}


def test_who_is_first_may_change_from_poll_to_poll() -> None:
    processor, one, other = Lower(), table("abc"), table("ABC")
    for _ in range(2):
        assert passed(processor, [one, other]) == ["a0b1c2", ""]
        assert passed(processor, [other, one]) == ["a0b1c2", ""]
        assert passed(processor, [one.take([1]), other]) == ["b0", "a1c3"]
        assert passed(processor, [one.take([2, 0]), other.take([0, 1])]) == ["c0a1", "b3"]


def test_parts_of_one_table_may_come_in_one_page() -> None:
    processor, whole = Lower(), table("aBbA")
    assert passed(processor, [whole.take([0, 1]), whole.take([2, 3])]) == ["a0b1", ""]


def test_what_is_left_of_a_steady_table_is_the_same_table() -> None:
    processor, tables = Lower(), [table("ab"), table("CA")]
    kept = []
    for _ in range(2):
        arrival = Arrival()
        kept.append([processor.process(batch(one, arrival)) for one in tables])
    (_, first), (_, second) = kept
    assert first is not None
    assert second is not None
    assert first.table is second.table


def test_a_processor_that_renames_nothing_claims_nothing() -> None:
    processor, tables = Drops(), [table("ax"), table("b")]
    passed(processor, tables)
    assert processor._collisions._of == {}


_POLL = st.lists(st.lists(st.sampled_from(NAMES), unique=True, max_size=4), max_size=4)


@given(st.lists(st.tuples(_POLL, st.booleans()), max_size=6))
@settings(max_examples=200)
def test_batches_that_came_together_are_as_one_batch(polls: list[tuple[list[list[str]], bool]]) -> None:
    """Tables stay, come in other orders, in parts, die and come again; of a page no series comes twice."""
    processor, known = Lower(), dict[tuple[str, ...], SeriesTable]()
    for poll, forget in polls:
        here, tables = set[str](), []
        for names in poll:
            whole = known.setdefault(tuple(names), table(names))
            rows = [row for row, name in enumerate(names) if name not in here]
            here.update(names)
            tables.append(whole if len(rows) == len(names) else whole.take(rows))
        together, alone = Lower(), Lower()
        expected = passed(alone, [SeriesTable([series for one in tables for series in one])])
        before = processor.counts.dropped.copy()
        assert "".join(passed(processor, tables)) == "".join(expected)
        assert processor.counts.dropped - before == +alone.counts.dropped
        assert "".join(passed(together, tables)) == "".join(expected)
        if forget:
            known.clear()


# -- what is held --------------------------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The collector finds what goes round in circles, but not what was frozen (``agent.heap``)."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_claims_end_with_their_tables() -> None:
    processor, tables = Lower(), [table("ab"), table("AC"), table("Bc")]
    passed(processor, tables)
    collisions = processor._collisions
    claimed = []
    for left in (3, 2, 1, 0):
        del tables[left:]
        passed(processor, [*tables, table("Z")])
        claimed.append("".join(sorted(series.name for series in collisions._of)))
    assert claimed == ["abcz", "abcz", "abz", "z"]


@pytest.mark.usefixtures("no_collector")
def test_numbers_are_used_again() -> None:
    processor = Lower()
    for number in range(5):
        assert passed(processor, [table([f"a{number}"]), table([f"A{number}"])]) == [f"a{number}0", ""]
    assert len(processor._collisions._claimants) == 1


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("processor", [Lower(), Drops()])
def test_pages_and_tables_are_not_held(processor: Lower | Drops) -> None:
    tables, arrival = [table("ab"), table("BA"), table("aA")], Arrival()
    passed(processor, [*tables, tables[0].take([1])], arrival)
    ends: list[Callable[[], object]] = [weakref.ref(arrival), *map(weakref.ref, tables)]
    del tables, arrival
    assert [end() for end in ends] == [None] * 4


@pytest.mark.usefixtures("no_collector")
def test_a_processor_that_is_gone_leaves_nothing_on_tables() -> None:
    processor, tables = Lower(), [table("ab"), table("BA")]
    passed(processor, tables)
    end = weakref.ref(processor._collisions)
    del processor
    assert end() is None


def test_so_many_plans_of_a_table_are_remembered() -> None:
    processor, one, other = Lower(), table("abc"), table("ABC")
    for row in range(PLANS + 1):
        rows = [row] if row < 3 else [0, 1]
        passed(processor, [one.take(rows), other])
    collisions = processor._collisions
    plan = other.derive(processor.owner, processor._plan)
    assert len(collisions._shared(plan.of(other)).plans) == PLANS
