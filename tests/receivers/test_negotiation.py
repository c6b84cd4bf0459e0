"""Content types, and what is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.negotiation import TEXT_FIRST, BadContentType, accept_header, format_of


@pytest.mark.parametrize(
    ("content_type", "found"),
    [
        ("text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8", "text"),
        ('TEXT/Plain ; Version="0.0.4" ; ', "text"),
        (" application/openmetrics-text;version=1.0.0", "openmetrics"),
        ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", "protobuf"),
    ],
)
def test_format_of(content_type: str, found: str) -> None:
    assert format_of(content_type) == found


@pytest.mark.parametrize("content_type", [None, "", " ", "text/html", "text/plain; a", "text/plain; a=b; A=c"])
def test_no_format(content_type: str | None) -> None:
    with pytest.raises(BadContentType, match=r"^cannot choose a parser"):
        format_of(content_type)
    assert format_of(content_type, "text") == "text"


@given(st.text())
def test_any_content_type_has_a_format_or_is_refused(text: str) -> None:
    try:
        found = format_of(text)
    except BadContentType:
        found = None
    assert found in ("text", "openmetrics", "protobuf", None)
    assert format_of(text, "text") == (found or "text")


def test_protobuf_is_asked_for_first_because_it_alone_has_native_histograms() -> None:
    header = accept_header()
    assert header.startswith("application/vnd.google.protobuf;")
    assert header.endswith(",*/*;q=0.1")
    qualities = [float(part.rpartition("q=")[2]) for part in header.split(",")]
    assert qualities == sorted(qualities, reverse=True)


def test_what_is_not_asked_for_is_not_named() -> None:
    assert accept_header(TEXT_FIRST[-1:]) == "text/plain;version=0.0.4;q=0.6,*/*;q=0.5"
    assert "escaping=values" in accept_header(TEXT_FIRST, "values")
