"""What it means when a target gives no page."""

from __future__ import annotations

import pytest

from ebbtide import Answer
from receivers.proxy_target import Asking, refusal


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, b"", "kind: AuthorizationPolicy"),
        (403, b"Forbidden", "'Forbidden'; check bearer_token"),
        (401, b"", "check bearer_token"),
        (404, b"", "a proxy's metrics are on 4191"),
        (307, b"", "a redirect elsewhere"),
        (302, b"", "or in a circle; name in `targets` where the page is"),
        (304, b"", "check `targets` and `path`"),
        (503, b"not ready\n", "'not ready'; look into the target's own log"),
        (418, b"", "check `targets` and `path`"),
    ],
)
def test_each_status_has_its_cure(status: int, body: bytes, words: str) -> None:
    sentence = refusal(Answer(status, {}, body), "http://10.0.0.1:4191/metrics")
    assert sentence.startswith("cannot read http://10.0.0.1:4191/metrics: ")
    assert words in sentence


def test_a_denial_names_the_namespace_where_it_is_known() -> None:
    assert "kubectl apply -n shop -f -" in refusal(Answer(403, {}, b""), "x", "shop")


def test_what_a_target_says_is_bounded() -> None:
    assert len(refusal(Answer(500, {}, b"x" * 10**6), "x")) < 500


def test_all_formats_are_asked_for() -> None:
    accept = Asking(2.5, 1, "text").headers
    assert "openmetrics" in accept["accept"]
    assert "protobuf" in accept["accept"]
    assert accept["x-prometheus-scrape-timeout-seconds"] == "2.5"
