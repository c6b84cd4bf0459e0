"""Labels as they come: sorted, empty ones left out, and what cannot be refused."""

from __future__ import annotations

import pytest

from receivers.remote_write_labels import BadLabels, series_of


def test_labels_are_sorted_and_empty_ones_left_out() -> None:
    found = series_of([(b"job", b"j"), (b"__name__", b"up"), (b"a", "é".encode()), (b"empty", b"")])
    assert found == ("up", ("a", "é", "job", "j"))


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([], "has no name"),
        ([(b"job", b"j")], "has no name"),
        ([(b"__name__", b"")], "has no name"),
        ([(b"__name__", b"x"), (b"a", b"1"), (b"a", b"2")], "the label 'a' twice"),
        ([(b"__name__", b"x"), (b"__name__", b"y")], "twice"),
        ([(b"__name__", b"x"), (b"", b"1")], "a label without a name"),
        ([(b"__name__", b"x"), (b"a", b"\xff")], "not UTF-8"),
    ],
)
def test_what_cannot_be_is_refused(labels: list[tuple[bytes, bytes]], why: str) -> None:
    with pytest.raises(BadLabels, match=why):
        series_of(labels)
