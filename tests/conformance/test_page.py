"""docs/conformance.md says what the suites say."""

from pathlib import Path

import pytest

from tests.conformance.page import ELSEWHERE, PAGE, ROOT, page


def test_the_page_is_in_step(vectors: Path) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(vectors), (
        "docs/conformance.md is out of step; run: make conformance"
    )


@pytest.mark.parametrize("folder", ELSEWHERE)
def test_other_vectors_are_held_where_the_page_says(folder: str) -> None:
    for test in ELSEWHERE[folder]:
        assert folder.rpartition("/")[2] in (ROOT / test).read_text(encoding="utf-8")
