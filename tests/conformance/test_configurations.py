"""No configuration of Prometheus' is passed over without a reason, and none is translated that is not there."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.configurations import BAD, GOOD, untold
from tests.conformance.vectors import load


def test_every_case_is_translated_or_has_a_reason(vectors: Path) -> None:
    assert [name for name, why in untold(vectors) if not why] == []


def test_only_cases_are_translated(vectors: Path) -> None:
    cases = load(vectors / "prometheus_config" / "config.json")
    assert BAD.keys() <= {case["file"] for case in cases["bad"]}
    assert GOOD.keys() <= {case["file"] for case in cases["good"]}
