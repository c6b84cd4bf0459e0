"""Repeated failures become a count."""

from __future__ import annotations

import logging

import pytest

from agent.folded import FOLD_SECONDS, FoldedLog


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_repeats_are_counted_and_told_later(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = FoldedLog(logging.getLogger("ebbtide.test"), clock)
    for number in range(5):
        log(logging.WARNING, "a", "cannot do %d", number)
    log(logging.ERROR, "b", "another")
    clock.now += FOLD_SECONDS
    log(logging.WARNING, "a", "cannot do %d", 5)
    clock.now += FOLD_SECONDS
    log(logging.WARNING, "a", "cannot do %d", 6)
    assert [record.getMessage() for record in caplog.records] == [
        "cannot do 0",
        "another",
        "cannot do 5 (and 4 times more before, not logged)",
        "cannot do 6",
    ]


def test_what_is_forgotten_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    log = FoldedLog(logging.getLogger("ebbtide.test"), Clock())
    log(logging.WARNING, "a", "one")
    log(logging.WARNING, "a", "two")
    assert log.forget("a") == 1
    assert log.forget("a") == 0
    log(logging.WARNING, "a", "three")
    assert [record.getMessage() for record in caplog.records] == ["one", "three"]


def test_a_bug_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    log = FoldedLog(logging.getLogger("ebbtide.test"))
    try:
        raise ZeroDivisionError("planted")
    except ZeroDivisionError:
        log(logging.ERROR, "bug", "a bug", bug=True)
    assert "Traceback" in caplog.text
    assert "planted" in caplog.text
