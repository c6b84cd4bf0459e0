"""The page is in step with the rules and the tests, and says what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.compliance.rules import GRPC, HTTP, PROTOCOLS, RULES, rule
from tests.compliance.table import ROOT, Gatherer, missing, page


def test_the_page_is_in_step() -> None:
    """Collected in a process of its own, so that it does not matter which tests run here."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.compliance", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_rule_without_a_test_is_seen() -> None:
    found = {(name, protocol): {"a::b"} for name in RULES for protocol in PROTOCOLS}
    assert list(missing(found)) == []
    del found["9.1", GRPC]
    assert list(missing(found)) == [f"rule 9.1 ({RULES['9.1'].says}) has no test by grpc"]
    assert "| **missing** |" in page(found)


def test_every_number_of_the_check_list_and_every_variable_is_there() -> None:
    assert {name.partition(".")[0] for name in RULES} >= {str(number) for number in range(1, 21)}
    variables = [name for name in RULES if name.startswith("OTEL_EXPORTER_OTLP_")]
    assert len(variables) == len(set(variables)) == 18
    assert all(
        not set(HTTP) & set(RULES[name].apart) or "gRPC alone" in RULES[name].apart[HTTP[0]] for name in variables
    )


def test_a_mark_must_name_a_rule() -> None:
    with pytest.raises(AssertionError, match=r"99\.9"):
        rule("99.9")


def test_marks_that_do_not_fit_are_mistakes(request: pytest.FixtureRequest) -> None:
    gatherer = Gatherer()
    gatherer._note(request.node, "9.1", ())
    gatherer._note(request.node, "1", ("http/json",))
    assert [mistake.partition(": ")[2] for mistake in gatherer.mistakes] == [
        "the mark of rule 9.1 says no protocol, nor does a parameter",
        "rule 1 does not apply to http/json",
    ]
