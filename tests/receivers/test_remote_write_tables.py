"""Tables of what first came together, and parts of them."""

from __future__ import annotations

import numpy as np
import pytest

from ebbtide import Batch, Extra, Family, Series
from receivers import remote_write_tables
from receivers.memory import Columns
from receivers.remote_write_gather import Rows
from receivers.remote_write_tables import KEPT_PARTS, RequestTables


@pytest.fixture
def tables() -> RequestTables:
    columns = Columns()
    series = [Series.of(f"s{columns.allocate()}", {}, Family("s")) for _ in range(40)]
    return RequestTables(columns, [*series])


def batches(tables: RequestTables, slots: list[int], extras: dict[int, Extra] | None = None) -> list[Batch]:
    numbers = np.array(slots)
    rows = Rows(numbers.astype(np.int32), numbers * 1.0, numbers.astype(np.int64), numbers.astype(np.int64) * 0)
    return list(tables.batches(rows, np.zeros(len(slots), np.bool_), extras or {}))


def shown(found: list[Batch]) -> list[list[str]]:
    for batch in found:
        assert [series.name for series in batch.table] == [f"s{round(value)}" for value in batch.values]
    return [[series.name for series in batch.table] for batch in found]


def test_rows_are_gathered_by_table_in_the_tables_order(tables: RequestTables) -> None:
    tables.hold([[3], [1], [2]])
    tables.hold([[7, 8]])
    whole = batches(tables, [8, 1, 2, 3, 7])
    assert shown(whole) == [["s3", "s1", "s2"], ["s7", "s8"]]
    assert [batch.table for batch in batches(tables, [7, 3, 8, 2, 1])] == [batch.table for batch in whole]
    assert batches(tables, []) == []


def test_a_part_that_comes_again_is_the_same_table(tables: RequestTables) -> None:
    tables.hold([[slot] for slot in range(20)])
    (first,) = batches(tables, [5, 3])
    assert shown([first]) == [["s3", "s5"]]
    assert batches(tables, [3, 5])[0].table is first.table
    for slot in range(KEPT_PARTS):
        batches(tables, [slot])
    assert batches(tables, [3, 5])[0].table is not first.table


def test_groups_stay_together(tables: RequestTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_write_tables, "ROWS", 5)
    tables.hold([[0, 1, 2], [3, 4, 5], [6], [7, 8, 9]])
    assert [len(names) for names in shown(batches(tables, list(range(10))))] == [3, 4, 3]


def test_what_is_withdrawn_is_in_no_table(tables: RequestTables) -> None:
    tables.hold([[slot] for slot in range(10)])
    before = batches(tables, list(range(1, 10)))[0].table
    tables.withdraw([0])
    assert batches(tables, list(range(1, 10)))[0].table is before
    tables.withdraw([1, 2, 3])
    (left,) = batches(tables, list(range(4, 10)))
    assert left.table.origin is None
    tables.withdraw(list(range(4, 10)))
    tables.hold([[0, 5]])
    assert shown(batches(tables, [5, 0])) == [["s0", "s5"]]


def test_extras_find_their_rows(tables: RequestTables) -> None:
    tables.hold([[2], [1], [0]])
    extra = Extra()
    (batch,) = batches(tables, [0, 1, 2], {1: extra})
    assert batch.extras == {1: extra}
    assert batches(tables, [0, 2], {1: extra})[0].extras is None
