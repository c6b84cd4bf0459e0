"""Slots, and the rules under which series are the same."""

from __future__ import annotations

from ebbtide import Labels, ReceiverCounts
from receivers.page_store import PageRules, PageStore
from receivers.page_types import PageTypes


def test_slots_are_given_and_taken_back() -> None:
    store = PageStore(ReceiverCounts(), PageTypes(), PageRules())
    keys = [(f"m{n}", Labels.of(()), ()) for n in range(3000)]
    slots = [store.allocate(key) for key in keys]
    assert len(set(slots)) == 3000
    assert [store.keys[slot] for slot in slots] == keys
    store.columns.stale[slots[:2]] = store.columns.report[slots[:2]] = True
    store.release(slots[:2])
    assert {store.allocate(keys[0]), store.allocate(keys[1])} == set(slots[:2])
    assert not store.columns.stale.any()
    assert not store.columns.report.any()


def test_rules_that_change_no_series() -> None:
    rules = PageRules()
    assert rules.same_series(PageRules(track_starts=False, skip_bad_lines=True, honor_timestamps=False))
    assert not rules.same_series(PageRules(honor_labels=True))
    assert not rules.same_series(PageRules(reports=False))
