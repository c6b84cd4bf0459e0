"""Who series are: numbers that stay, and newcomers that a refused request leaves none of. More: test_remote_write_memory."""

from __future__ import annotations

from receivers.remote_write_labels import NOTHING, About
from receivers.remote_write_registry import FORGET_EVERY, FORGET_SILENT, Registry
from receivers.types import TypeBook

TARGET = ("instance", "i", "job", "j")


def registry() -> Registry:
    return Registry(TypeBook())


def test_equal_series_have_one_slot_and_native_ones_another() -> None:
    made = registry()
    slot = made.learn("x", ("a", "1"), (), False, NOTHING)
    assert made.learn("x", ("a", "1"), (), False, About("counter")) == slot
    assert made.learn("x", ("a", "1"), (), True, NOTHING) != slot
    assert made.learn("x", ("a", "2"), (), False, NOTHING) != slot
    assert len(made.newcomers) == 3


def test_abandoned_newcomers_leave_nothing_but_what_up_tells() -> None:
    made = registry()
    slot = made.learn("x", TARGET, (), False, NOTHING)
    made.learn("up", (*TARGET, "pod", "p"), (), False, NOTHING)
    made.abandon()
    assert made.newcomers == []
    made.greet(0)
    assert not made.columns.used.any()
    assert made.learn("y", TARGET, (), False, NOTHING) <= slot + 1
    made.greet(0)
    assert made.awaiting == 0
    assert made.columns.used.sum() == 1


def test_the_parts_of_a_whole_share_a_head_and_a_table_though_they_come_apart() -> None:
    made = registry()
    slots = []
    for name, own in (("x_bucket", ("le", "+Inf")), ("x_count", ()), ("x_sum", ())):
        slots.append(made.learn(name, (), own, False, About("histogram")))
        made.learn_types({})
        made.greet(0)
    assert len(set(made.columns.head[slots].tolist())) == 1
    assert len(set(made.columns.table[slots].tolist())) == 1
    assert made.columns.whole[made.columns.head[slots[0]]]


def test_series_are_forgotten_with_their_wholes() -> None:
    made = registry()
    slots = {made.learn("x_bucket", (), ("le", "+Inf"), False, NOTHING), made.learn("x_count", (), (), False, NOTHING)}
    made.greet(0)
    now = FORGET_SILENT + FORGET_EVERY
    assert made.forget(FORGET_EVERY - 1) == set()
    assert made.forget(now) == slots
    assert not made.columns.whole.any()
    made.learn("x_count", (), (), False, NOTHING)
    made.greet(now)
    assert made.columns.used.sum() == 1
