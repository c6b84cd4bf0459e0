import math
from typing import Any

import pytest

from agent.preview.difference import Part, attribute, difference, number, parts


def row(**changes: Any) -> dict[str, Any]:
    """A row as the document has it."""
    scope = {"name": "", "version": "", "schema_url": "", "attributes": {}}
    return {
        "name": "request_total", "type": "counter", "unit": "", "labels": {"a": "1", "b": "2"}, "resource": {},
        "scope": scope, "value": "5", **changes,
    }  # fmt: skip


def test_parts_are_all_that_is_said() -> None:
    scope = {"name": "s", "version": "1", "schema_url": "", "attributes": {"deep": True}}
    told = list(parts(row(unit="By", resource={"port": 80, "up": True}, scope=scope, value=None)))
    assert told == [
        Part("name", "__name__", "request_total"), Part("type", "type", "counter"), Part("unit", "unit", "By"),
        Part("label", "a", "1"), Part("label", "b", "2"), Part("resource", "port", "80"), Part("resource", "up", "true"),
        Part("scope", "name", "s"), Part("scope", "version", "1"), Part("scope", "deep", "true"),
        Part("value", "value", "ended"),
    ]  # fmt: skip


def test_equal_rows_differ_in_nothing() -> None:
    found = difference(row(), row())
    assert (found.lost, found.gained) == ((), ())
    assert found.kept == tuple(parts(row()))


def test_what_is_on_both_sides_has_changed() -> None:
    before, after = (
        row(labels={"a": "1", "b": "2", "c": "3"}),
        row(name="requests", labels={"a": "9", "b": "2", "d": "4"}),
    )
    found = difference(before, after)
    assert found.lost == (Part("name", "__name__", "request_total"), Part("label", "a", "1"), Part("label", "c", "3"))
    assert found.gained == (Part("name", "__name__", "requests"), Part("label", "a", "9"), Part("label", "d", "4"))
    assert found.changed == {("name", "__name__"), ("label", "a")}


def test_a_label_is_no_attribute_of_the_resource() -> None:
    found = difference(row(labels={"pod": "x"}), row(labels={}, resource={"pod": "x"}))
    assert (found.lost, found.gained) == ((Part("label", "pod", "x"),), (Part("resource", "pod", "x"),))
    assert found.changed == frozenset()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (1e300, "1e+300"),
        (-0.5, "-0.5"),
    ],
)
def test_numbers_are_written_as_in_prometheus(value: float, text: str) -> None:
    assert number(value) == attribute(value) == text


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (False, "false"), (3, "3"), ("x", "x")])
def test_attributes(value: str | bool | int, text: str) -> None:
    assert attribute(value) == text
