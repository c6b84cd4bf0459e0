"""The part that a series plays in a histogram or summary."""

from __future__ import annotations

import math

import pytest

from agent.identity import Family, Kind
from agent.parts import Part, part_of
from agent.series import Series


def part(name: str, kind: Kind, **labels: str) -> Part | None:
    return part_of(Series.of(name, labels, Family("x", kind)))


A = ("a", "b")


@pytest.mark.parametrize(
    ("name", "kind", "labels", "expected"),
    [
        ("x_bucket", "histogram", {"le": "5"}, ("x", (), "bucket", 5.0)),
        ("x_bucket", "histogram", {"a": "b", "le": "0.25", "z": "y"}, ("x", (*A, "z", "y"), "bucket", 0.25)),
        ("x_bucket", "histogram", {"a": "b", "le": "+Inf"}, ("x", A, "bucket", math.inf)),
        ("x_bucket", "histogram", {"le": "Inf"}, ("x", (), "bucket", math.inf)),
        ("x_bucket", "histogram", {"le": "-Inf"}, ("x", (), "bucket", -math.inf)),
        ("x_bucket", "histogram", {"le": "-0.5"}, ("x", (), "bucket", -0.5)),
        ("x_bucket", "histogram", {"le": "NaN"}, None),
        ("x_bucket", "histogram", {"le": "many"}, None),
        ("x_bucket", "histogram", {}, None),
        ("x_bucket", "histogram", {"quantile": "1"}, None),
        ("x_bucket", "histogram", {"a": "le"}, None),  # a value that reads like the name
        ("x", "histogram", {}, None),
        ("x", "histogram", {"le": "1"}, None),
        ("x", "histogram", {"quantile": "0.5"}, None),
        ("x_total", "histogram", {"le": "1"}, None),
        ("x_created", "histogram", {}, None),
        ("x_count_bucket", "histogram", {"le": "1"}, ("x_count", (), "bucket", 1.0)),
        ("x_sum_count", "histogram", {"a": "b"}, ("x_sum", A, "count", None)),
        ("x_count_sum", "histogram", {}, ("x_count", (), "sum", None)),
        ("x_bucket_bucket", "histogram", {"le": "1"}, ("x_bucket", (), "bucket", 1.0)),
        ("x_bucket_count", "histogram", {}, ("x_bucket", (), "count", None)),
        ("x", "summary", {"a": "b", "quantile": "0.99"}, ("x", A, "quantile", 0.99)),
        ("x", "summary", {"quantile": "NaN"}, None),
        ("x", "summary", {}, None),
        ("x_count", "summary", {"a": "b"}, ("x", A, "count", None)),
        ("x_sum", "summary", {}, ("x", (), "sum", None)),
        ("x_bucket", "summary", {"le": "1"}, None),
        ("x_bucket", "summary", {"quantile": "1"}, None),
        ("x_total", "summary", {"quantile": "0.5"}, ("x_total", (), "quantile", 0.5)),
    ],
)
def test_parts(name: str, kind: Kind, labels: dict[str, str], expected: tuple[object, ...] | None) -> None:
    found = part(name, kind, **labels)
    told = found and (found.name, found.base.flat, found.role, None if math.isnan(found.number) else found.number)
    assert told == expected


@pytest.mark.parametrize(
    "texts", [("1", "1.0", "1e0", "+1", "10e-1"), ("+Inf", "Inf", "inf", "+inf"), ("0", "-0", "0.0")]
)
def test_bounds_are_compared_as_numbers(texts: tuple[str, ...]) -> None:
    parts = {found for text in texts if (found := part("x_bucket", "histogram", le=text)) is not None}
    assert len(parts) == 1


def test_all_parts_of_a_whole_agree_on_its_name_and_labels() -> None:
    labels = {"direction": "inbound", "zone": "a"}
    found = [part("x_bucket", "histogram", le="1", **labels), part("x_sum", "histogram", **labels)]
    found += [part("x_count", "histogram", **labels)]
    assert {(one.name, one.base.flat) for one in found if one} == {("x", ("direction", "inbound", "zone", "a"))}
    assert [one.role for one in found if one] == ["bucket", "sum", "count"]


@pytest.mark.parametrize("text", ["1_0", " 1", "1 "])
def test_what_prometheus_takes_for_no_number_is_none(text: str) -> None:
    assert part("x_bucket", "histogram", le=text) is None


def test_a_native_histogram_is_no_part_whatever_its_name() -> None:
    for name in ("latency", "items_count", "items_sum", "items_bucket"):
        assert part_of(Series.of(name, {"le": "1"}, Family(name, "histogram"))) is None
