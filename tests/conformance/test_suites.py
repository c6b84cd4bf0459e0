"""Every case of every suite holds, but for those that are listed with a reason."""

from pathlib import Path

import pytest

from tests.conformance.deviations import DEVIATIONS
from tests.conformance.suites import SUITES, outcome


@pytest.mark.parametrize("name", SUITES)
def test_cases_hold_or_are_listed(name: str, vectors: Path) -> None:
    found = outcome(name, vectors)
    assert found.cases > 0
    assert not found.surprises(name)


def test_only_suites_have_deviations() -> None:
    assert DEVIATIONS.keys() <= SUITES.keys()
