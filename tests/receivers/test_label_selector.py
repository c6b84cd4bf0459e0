"""Label selectors as an API server reads them."""

from __future__ import annotations

import pytest

from receivers.label_selector import is_selector


@pytest.mark.parametrize(
    "text",
    [
        "", "app", "!app", "! app", "app=web", "app==web", "app != web", "app=", " app = web , tier=back",
        "app.kubernetes.io/part-of=shop", "linkerd.io/control-plane-ns", "tier in (front,back)", "tier notin ( front , )",
        "tier in(front),app=web,!x", "x>5", "x < 5", "foo in (bar,baz)", "in in (in)", "A_b.c-d=E_f.g-h", "a" * 63 + "=x",
    ],
)  # fmt: skip
def test_what_is_a_selector(text: str) -> None:
    assert is_selector(text)


@pytest.mark.parametrize(
    "text",
    [
        " ", ",", "app=web,", ",app", "app=web tier=back", "a=b=c", "=web", "app===web", "metadata.status-", "-a=b", "a=-b",
        "tier in front", "tier in (front", "tier in front)", "tier in (a b)", "(a)", "x>y", "x>", "!a=b", "!", "a/b/c=d", "/a=b",
        "a" * 64 + "=x", "x=" + "a" * 64, "app=wéb", "app=\N{ARABIC-INDIC DIGIT ONE}", "{app=web}", 'app="web"', "app~=web",
    ],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    assert not is_selector(text)
