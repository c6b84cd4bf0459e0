"""Identity: interning, equality, and what is remembered on it."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity import EMPTY_RESOURCE, Family, Resource, Scope, Target, flatten
from agent.series import Series, SeriesTable

NAMES = st.sampled_from(["a", "b", "le", "pod", "x_y"])
LABELS = st.dictionaries(NAMES, st.text(max_size=3), max_size=4)


# -- interning ---------------------------------------------------------------------------------------------------


@given(LABELS, st.randoms())
def test_equal_means_identical(labels: dict[str, str], random: object) -> None:
    items = list(labels.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert Series.of("m", labels) is Series.of("m", dict(items))


@given(LABELS, LABELS)
def test_different_labels_are_different_series(left: dict[str, str], right: dict[str, str]) -> None:
    same = {k: v for k, v in left.items() if v} == {k: v for k, v in right.items() if v}
    assert (Series.of("m", left) is Series.of("m", right)) == same


@given(LABELS)
def test_labels_go_in_and_out_without_empty_values(labels: dict[str, str]) -> None:
    series = Series.of("m", labels)
    assert series.labels == {name: value for name, value in labels.items() if value}
    assert series.flat == flatten(labels)
    for name in ("a", "b", "le", "pod", "x_y", "other"):
        assert series.label(name, "") == labels.get(name, "")
    assert series.label("other", "none") == "none"


@pytest.mark.parametrize(
    "other",
    [
        Series.of("n", {"a": "1"}),
        Series.of("m", {"a": "2"}),
        Series.of("m", {"a": "1"}, Family("m", "counter")),
        Series.of("m", {"a": "1"}, Family("m", unit="s")),
        Series.of("m", {"a": "1"}, Family("other")),
        Series.of("m", {"a": "1"}, resource=Resource.of({"a": "1"})),
        Series.of("m", {"a": "1"}, scope=Scope.of("a")),
        Series.of("m", {"a": "1"}, target=Target.of({"job": "j"})),
    ],
)
def test_each_part_is_identity(other: Series) -> None:
    assert Series.of("m", {"a": "1"}) is not other


def test_help_and_the_rule_that_typed_a_family_are_not_identity() -> None:
    one = Series.of("m", {}, Family("m", "counter", help="one", typed_by="page"))
    assert Series.of("m", {}, Family("m", "counter", help="two", typed_by="suffix")) is one


def test_a_name_in_the_labels_cannot_be_taken_for_another_label() -> None:
    assert Series.of("m", {"a": "b", "c": "d"}) is not Series.of("m", {"a": "b\0c", "d": ""})
    assert flatten({"b": "1", "a": "2", "c": ""}) == ("a", "2", "b", "1")


def test_what_nobody_holds_is_forgotten() -> None:
    series = Series.of("held_by_nobody", {"a": "1"}, resource=Resource.of({"nobody": 1}), target=Target.of({"n": "1"}))
    ends = [weakref.ref(thing) for thing in (series, series.resource, series.target)]
    del series
    gc.collect()
    assert [end() for end in ends] == [None, None, None]


def test_a_series_holds_what_its_key_names_by_address() -> None:
    """Were a resource freed while its series lives, another one could be born at the same address."""
    series = Series.of("m", resource=Resource.of({"only": "here"}))
    gc.collect()
    assert Resource.of({"only": "here"}) is series.resource


# -- but ---------------------------------------------------------------------------------------------------------


def test_but_changes_what_is_given_and_no_more() -> None:
    family, resource, scope = Family("m", "counter"), Resource.of({"a": "1"}), Scope.of("s")
    series = Series.of("m", {"a": "1"}, family, resource, scope, Target.of({"job": "j"}))
    assert series.but() is series
    assert series.but(labels={"a": "1", "b": ""}) is series
    other = series.but(name="n", labels={"b": "2"}, resource=EMPTY_RESOURCE)
    assert (other.name, other.labels, other.resource) == ("n", {"b": "2"}, EMPTY_RESOURCE)
    assert (other.family.identity, other.scope, other.target) == (("n", "counter", ""), scope, series.target)
    assert series.but(labels={}).labels == {}
    assert series.but(scope=Scope.of("t")).scope.name == "t"
    assert series.but(family=Family("m", "gauge")).family.kind == "gauge"
    assert repr(other) == 'n{b="2"}'


# -- tables ------------------------------------------------------------------------------------------------------


def test_a_table_is_rows_in_order() -> None:
    a, b, c = (Series.of(name) for name in "abc")
    table = SeriesTable(iter([a, b, c]))
    assert len(table) == 3
    assert list(table) == [a, b, c]
    assert table.take([2, 0, 0]).series == (c, a, a)
    assert table.take([]).series == ()
    with pytest.raises(IndexError):
        table.take([3])


@pytest.mark.parametrize(
    ("family", "old", "new", "expected"),
    [
        (Family("m", "counter", "s"), "m", "n", ("n", "counter", "s")),
        (Family("h", "histogram", "ms"), "h_bucket", "g_bucket", ("g", "histogram", "ms")),
        (Family("h", "histogram"), "h_count", "g_count", ("g", "histogram", "")),
        (Family("h", "histogram"), "h_bucket", "g", ("g", "unknown", "")),
        (Family("s", "summary"), "s", "t", ("t", "summary", "")),
    ],
)
def test_a_new_name_takes_the_family_along(family: Family, old: str, new: str, expected: tuple[str, str, str]) -> None:
    assert Series.of(old, {}, family).but(name=new).family.identity == expected
    assert Series.of(old, {}, family).but(name=new) is Series.of(new, {}, Family(*expected))


def test_parts_of_a_histogram_share_their_labels() -> None:
    family = Family("h", "histogram")
    bucket = Series.of("h_bucket", {"a": "1", "le": "5", "z": "le"}, family)
    count = Series.of("h_count", {"a": "1", "z": "le"}, family)
    assert bucket.base is count.base
    assert (bucket.own, count.own) == (("le", "5"), ())
    assert bucket.flat == ("a", "1", "le", "5", "z", "le")
    assert (bucket.label("le"), bucket.label("z"), count.label("le")) == ("5", "le", "")
    assert Series.of("x", {"le": "1", "quantile": "2"}).own == ("quantile", "2")
    assert Series.of("x_bucket", {"le": "1", "quantile": "2"}).own == ("le", "1")
    assert Series.of("x_sum", {"le": "1", "quantile": "2"}).own == ()
    assert Series.of("x", {"le": "1", "quantile": "2"}).labels == {"le": "1", "quantile": "2"}


def test_series_of_equal_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.series.hash", lambda _: 7, raising=False)
    first, second, third = (Series.of(name) for name in ("clash_a", "clash_b", "clash_c"))
    assert len({id(first), id(second), id(third)}) == 3
    assert Series.of("clash_b") is second
    del first
    gc.collect()
    assert Series.of("clash_b") is second
    assert Series.of("clash_c") is third
