"""Which of two labels of one name goes on a series."""

from __future__ import annotations

import pytest

from receivers.page_labels import labelled, report_labels

TARGET = {"job": "linkerd-proxy", "version": "v7"}


@pytest.mark.parametrize(
    ("scraped", "honor", "empty", "expected"),
    [
        ((), False, (), TARGET),
        (("a", "1"), False, (), {**TARGET, "a": "1"}),
        (("version", "2"), False, (), {**TARGET, "exported_version": "2"}),
        (("version", "2"), True, (), {**TARGET, "version": "2"}),
        ((), True, ("job",), {"version": "v7"}),
        (("exported_job", "x", "job", "y"), False, (), {**TARGET, "exported_job": "x", "exported_exported_job": "y"}),
    ],
)
def test_labels(scraped: tuple[str, ...], honor: bool, empty: tuple[str, ...], expected: dict[str, str]) -> None:
    flat = labelled(scraped, TARGET, honor=honor, empty=empty)
    assert flat == tuple(text for pair in sorted(expected.items()) for text in pair)


def test_shorter_names_are_renamed_first() -> None:
    target = {"foo": "3", "exported_foo": "4"}
    flat = labelled(("exported_foo", "2", "foo", "1"), target, honor=False)
    labels = dict(zip(flat[::2], flat[1::2], strict=True))
    assert labels == {**target, "exported_exported_foo": "1", "exported_exported_exported_foo": "2"}


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        (TARGET, {"job", "version"}),
        ({**TARGET, "exported_job": "x", "exported_other": "y"}, {"job", "version", "exported_other"}),
        (
            {"date": "1", "exported_date": "2", "exported_exported_date": "3"},
            {"date", "exported_date", "exported_exported_date"},
        ),
        ({"job": "1", "exported_job": "2", "exported_exported_job": "3"}, {"job"}),
    ],
)
def test_labels_of_reports(target: dict[str, str], kept: set[str]) -> None:
    flat = report_labels(target)
    assert flat == tuple(text for name in sorted(kept) for text in (name, target[name]))
