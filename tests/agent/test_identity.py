"""What identity is made of: interning, and what is remembered on it."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity import EMPTY_RESOURCE, Labels, Owner, Resource, Scope, Target, flatten, join_own, pairs, split_own
from agent.series import Series, SeriesTable

# -- interning ---------------------------------------------------------------------------------------------------


def test_resources_distinguish_types_of_equal_values() -> None:
    resources = [Resource.of({"a": value}) for value in (1, 1.0, True, "1")]
    assert len(set(map(id, resources))) == 4
    assert [type(resource.get("a")) for resource in resources] == [int, float, bool, str]


def test_resources_are_sorted_and_interned() -> None:
    assert Resource.of({"b": 1, "a": 2}) is Resource.of([("a", 2), ("b", 1)])
    assert Resource.of({"b": 1, "a": 2}).attributes == (("a", 2), ("b", 1))
    assert Resource.of() is EMPTY_RESOURCE
    assert EMPTY_RESOURCE.get("a", "none") == "none"


def test_scopes_and_targets_are_interned() -> None:
    assert Scope.of("a", "1", attributes={"x": "y", "b": 1}) is Scope.of("a", "1", attributes={"b": 1, "x": "y"})
    assert Scope.of("a", "1") is not Scope.of("a", "2")
    assert Scope.of("a") is not Scope.of("a", schema_url="http://x")
    assert Target.of({"job": "j", "instance": "i"}) is Target.of({"instance": "i", "job": "j"})
    assert Target.of({"job": "j"}).names == {"job"}
    known = Target.of({"job": "j"}, {"k8s.node.name": "n", "k8s.pod.uid": ""})
    assert known.attributes == ("k8s.node.name", "n")
    assert known is Target.of({"job": "j"}, {"k8s.node.name": "n"})
    assert known is not Target.of({"job": "j"})


def test_labels_are_interned_and_forgotten() -> None:
    flat = ("a", "1", "b", "only here")
    labels = Labels.of(flat)
    assert Labels.of(("a", "1", "b", "only " + "here")) is labels
    reference = weakref.ref(labels)
    del labels
    gc.collect()
    assert reference() is None


@given(
    st.sampled_from(["x", "x_bucket", "x_count", "x_sum"]),
    st.dictionaries(st.sampled_from(["a", "le", "quantile", "z"]), st.sampled_from(["1", "le", "quantile"])),
)
def test_what_is_split_is_joined(name: str, labels: dict[str, str]) -> None:
    flat = flatten(labels)
    base, own = split_own(name, flat)
    assert join_own(base, own) == flat
    assert own == () or own[0] == ("le" if name == "x_bucket" else "quantile")
    assert name != "x_bucket" or "le" not in base[::2]


# -- derive ------------------------------------------------------------------------------------------------------


class Thing:
    """Something that can own what is derived."""


def subjects() -> list[Series | SeriesTable | Resource | Scope | Target]:
    return [Series.of("m"), SeriesTable([]), Resource.of({"d": 1}), Scope.of("d"), Target.of({"d": "1"})]


@pytest.mark.parametrize("position", range(5))
def test_what_is_derived_is_computed_once_per_owner(position: int) -> None:
    subject = subjects()[position]
    calls: list[object] = []

    def make(of: object) -> list[object]:
        calls.append(of)
        return [len(calls)]

    one, two = Thing(), Thing()
    first = subject.derive(one, make)
    assert subject.derive(one, make) is first
    assert subject.derive(two, make) is not first
    assert subject.derive(one, make) is first
    assert calls == [subject, subject]


def test_none_is_remembered_too() -> None:
    owner, calls = Thing(), []
    series = Series.of("m")
    for _ in range(3):
        assert series.derive(owner, lambda of: calls.append(of)) is None  # type: ignore[func-returns-value]
    assert len(calls) == 1


def test_a_failure_is_not_remembered() -> None:
    owner, series = Thing(), Series.of("m")
    with pytest.raises(ZeroDivisionError):
        series.derive(owner, lambda of: 1 // 0)
    assert series.derive(owner, lambda of: 7) == 7


def test_make_may_derive_in_turn() -> None:
    outer, inner, table = Thing(), Thing(), SeriesTable([])
    assert table.derive(outer, lambda of: of.derive(inner, lambda _: 1) + 1) == 2
    assert table.derive(inner, lambda _: 5) == 1
    assert table.derive(outer, lambda _: 5) == 2


def test_what_a_dead_owner_derived_is_dropped_at_the_next_derive() -> None:
    series, dead, alive = Series.of("m"), Thing(), Thing()
    value = Thing()
    gone = weakref.ref(value)
    series.derive(dead, lambda of, value=value: value)  # type: ignore[misc]
    del dead, value
    gc.collect()
    series.derive(alive, lambda of: 1)
    gc.collect()
    assert gone() is None
    assert series.derive(alive, lambda of: 2) == 1


def test_owners_are_told_apart_by_identity_though_they_are_equal() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    one, two, series = Equal(), Equal(), Series.of("m")
    assert series.derive(one, lambda of: "one") == "one"
    assert series.derive(two, lambda of: "two") == "two"
    assert series.derive(one, lambda of: "again") == "one"


def test_nothing_is_kept_alive_by_an_owner() -> None:
    owner, table = Thing(), SeriesTable([Series.of("m")])
    end = weakref.ref(table)
    table.derive(owner, lambda of: [1])
    del table
    gc.collect()
    assert end() is None


def test_owners_of_equal_words_are_one_while_somebody_holds_them() -> None:
    one = Owner.of("filter", "{}")
    assert Owner.of("filter", "{}") is one
    assert Owner.of("filter", "{1}") is not one
    series = Series.of("m")
    series.derive(one, lambda of: "kept")
    again = Owner.of("filter", "{}")
    del one
    assert series.derive(again, lambda of: "lost") == "kept"


def test_flat_labels_pair_by_pair() -> None:
    assert list(pairs(("a", "1", "b", "2"))) == [("a", "1"), ("b", "2")]
    assert list(pairs(())) == []
