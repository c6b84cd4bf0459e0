"""The page's word on types, and the operator's before it."""

from __future__ import annotations

import pytest

from ebbtide import Kind
from receivers.exposition import Metadata
from receivers.page_types import PageTypes

PAGE = {
    "request_total": Metadata("counter", "Requests."),
    "retries": Metadata("counter"),
    "latency": Metadata("histogram", "How long.", "seconds"),
    "size": Metadata("summary"),
    "told": Metadata("unknown", "Nothing known."),
}
LE, QUANTILE = ("le", "0.5"), ("quantile", "0.5")


@pytest.mark.parametrize(
    ("name", "own", "family", "kind"),
    [
        ("request_total", (), "request_total", "counter"),
        ("retries_total", (), "retries_total", "counter"),  # one name in all formats
        ("latency_bucket", LE, "latency", "histogram"),
        ("latency_sum", (), "latency", "histogram"),
        ("latency_bucket", (), "latency_bucket", "unknown"),
        ("latency_bucket", ("le", "x"), "latency_bucket", "unknown"),
        ("latency", (), "latency", "unknown"),
        ("size", QUANTILE, "size", "summary"),
        ("size", (), "size", "unknown"),
        ("told", (), "told", "unknown"),
        ("process_cpu_seconds_total", (), "process_cpu_seconds_total", "unknown"),  # nothing is guessed
    ],
)
def test_the_page_s_word(name: str, own: tuple[str, ...], family: str, kind: Kind) -> None:
    found = PageTypes().family(name, own, PAGE)
    assert (found.name, found.kind, found.typed_by) == (family, kind, "none" if kind == "unknown" else "page")


def test_unit_and_help_come_along() -> None:
    types = PageTypes({"told": "gauge"})
    assert types.family("latency_sum", (), PAGE).unit == "s"
    assert types.family("latency_sum", (), PAGE).help == "How long."
    assert types.family("told", (), PAGE).help == "Nothing known."


def test_a_native_histogram_has_its_family_s_name() -> None:
    assert PageTypes().family("latency", (), PAGE, native=True).kind == "histogram"


@pytest.mark.parametrize(
    ("name", "own", "kind"),
    [("request_total", (), "gauge"), ("mine_bucket", LE, "histogram"), ("mine_count", (), "histogram"),
     ("latency_sum", (), "unknown")],
)  # fmt: skip
def test_the_operator_s_word_comes_first(name: str, own: tuple[str, ...], kind: Kind) -> None:
    types = PageTypes({"request_total": "gauge", "mine_bucket": "histogram", "latency_sum": "unknown"})
    found = types.family(name, own, PAGE)
    assert (found.kind, found.typed_by) == (kind, "operator")


@pytest.mark.parametrize(
    ("name", "dates"),
    [("request_created", True), ("retries_created", True), ("latency_created", True), ("size_created", True),
     ("told_created", False), ("other_created", False), ("request_total_created", True), ("mine_created", True),
     ("latency_bucket_created", False), ("own_created", False), ("request_total", False), ("_created", False)],
)  # fmt: skip
def test_a_created_line_of_a_known_family_is_nobody_s_metric(name: str, dates: bool) -> None:
    page = PAGE | {"own": Metadata("counter"), "own_created": Metadata("gauge")}
    assert PageTypes({"mine": "counter"}).only_dates(name, page) is dates


def test_families_are_shared() -> None:
    types = PageTypes()
    assert types.family("latency_sum", (), PAGE) is types.family("latency_bucket", LE, dict(PAGE))
