"""What a function of series does to tables: the plan of a part is that of its rows, whichever way it was found."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.identity import Owner
from agent.planning import Plan, Planner
from agent.series import Series, SeriesTable


class Told:
    """A planner that makes lower case of names and drops those with x, and what it warned of."""

    def __init__(self) -> None:
        self.warnings: list[tuple[int, str, str, str]] = []
        self.asked: list[str] = []
        self.owner = Owner.of("told", id(self))

    def plan(self, table: SeriesTable) -> Plan:
        return table.derive(self.owner, Planner(self.owner, self.lower, "unwanted", self.warn).make)

    def lower(self, series: Series) -> Series | None:
        self.asked.append(series.name)
        return None if "x" in series.name else Series.of(series.name.lower())

    def warn(self, rows: int, one: Series, other: Series, both: Series) -> None:
        self.warnings.append((rows, one.name, other.name, both.name))


def table(names: list[str] | str) -> SeriesTable:
    return SeriesTable(Series.of(name) for name in names)


def names(plan: Plan) -> str:
    return "".join(series.name for series in plan.table or ())


def test_what_stays_as_it_is_stays_the_same_table() -> None:
    told, given_table = Told(), table("ab")
    plan = told.plan(given_table)
    assert plan.of(given_table) is given_table
    assert (plan.table, plan.rows, plan.dropped, plan.plain) == (None, None, (), True)
    assert told.plan(given_table.take([1])) is plan


def test_rows_that_only_go_leave_a_plain_plan() -> None:
    plan = Told().plan(table("axb"))
    assert (names(plan), plan.dropped, plan.plain, plan.collides) == ("ab", (("unwanted", 1),), True, False)
    assert plan.rows is not None
    assert plan.rows.tolist() == [0, 2]
    assert [plan.row(row) for row in (0, 1)] == [0, 2]


def test_other_names_are_another_table_and_all_rows() -> None:
    plan = Told().plan(table("aB"))
    assert (names(plan), plan.rows, plan.dropped, plan.plain) == ("ab", None, (), False)
    assert plan.row(1) == 1


def test_of_rows_that_become_equal_the_first_stays_and_two_are_named() -> None:
    told = Told()
    plan = told.plan(table("bAxaB"))
    assert (names(plan), plan.dropped, plan.plain, plan.collides) == (
        "ba", (("unwanted", 1), ("collision", 2)), False, True,
    )  # fmt: skip
    assert told.warnings == [(2, "A", "a", "a")]


def test_fewer_rows_of_a_plan_are_rows_of_the_same_batch() -> None:
    told, whole = Told(), table("bxAc")
    plan = told.plan(whole).but(whole, np.array([0, 2]))
    assert (names(plan), plan.dropped) == ("bc", (("unwanted", 1), ("collision", 1)))
    assert plan.rows is not None
    assert plan.rows.tolist() == [0, 3]
    assert plan.table is not None
    assert plan.table.origin is None  # the whole remembers it
    part = told.plan(whole.take([2, 3])).but(whole.take([2, 3]), np.array([1]))
    assert part.rows is not None
    assert part.rows.tolist() == [1]
    assert part.table is not None
    assert part.table.origin is not None
    assert part.table.origin[0] is told.plan(whole).table


def test_a_part_is_found_by_taking_where_no_rows_of_the_whole_become_equal() -> None:
    told, whole = Told(), table("Axb")
    told.plan(whole)
    asked = len(told.asked)
    part = told.plan(whole.take([2, 1]))
    assert part.table is not None
    assert part.table.origin is not None
    assert part.table.origin[0] is told.plan(whole).table
    assert len(told.asked) == asked


@given(st.lists(st.sampled_from(["a", "A", "b", "B", "c", "x", "y"]), unique=True, min_size=1), st.data())
def test_the_plan_of_a_part_is_that_of_its_rows(given_names: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(given_names) - 1), unique=True))
    one, other = table(given_names).take(rows), table([given_names[row] for row in rows])
    part, alone = Told().plan(one), Told().plan(other)
    series = part.of(one).series
    assert series == alone.of(other).series
    assert (part.rows is None) == (alone.rows is None)
    assert [part.row(row) for row in range(len(series))] == [alone.row(row) for row in range(len(series))]
    assert part.dropped == alone.dropped
