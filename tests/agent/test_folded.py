"""Repeated failures become a count, however their sentences vary."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.folded import FIRST_REMINDER, LAST_REMINDER, MOST_KEYS, MOST_SENTENCES, SENTENCES_SECONDS, FoldedLog

LOGGER = logging.getLogger("ebbtide.test")


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ebbtide.test")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> FoldedLog:
    return FoldedLog(LOGGER, clock)


def test_numbers_do_not_make_another_sentence(log: FoldedLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        log(logging.WARNING, "a", "cannot do %d", number)
    log(logging.ERROR, "b", "another")
    clock.now += FIRST_REMINDER
    log(logging.WARNING, "a", "cannot do %d", 5)
    assert caplog.messages == ["cannot do 0", "another", "cannot do 5 (4 more before, not logged)"]


def test_reminders_become_rare(log: FoldedLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """At first after a minute, then twice as long each time, at most an hour: 24 hours of a failure every second."""
    began, said = clock.now, []
    for _ in range(24 * 3600):
        before = len(caplog.records)
        log(logging.WARNING, "poll", "cannot read it")
        if len(caplog.records) > before:
            said.append(clock.now - began)
        clock.now += 1
    assert said[:8] == [0, 60, 180, 420, 900, 1860, 3780, 7380]
    assert {b - a for a, b in pairwise(said[7:])} == {LAST_REMINDER}
    assert caplog.messages[2] == "cannot read it (119 more before, not logged)"


def test_another_sentence_is_said_at_once_and_each_only_once(log: FoldedLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        log(logging.WARNING, "poll", "%s: %s", "x", OSError("refused"))
        log(logging.WARNING, "poll", "%s: %s", "x", OSError("reset"))
    assert caplog.messages == ["x: refused", "x: reset"]


def test_a_sentence_that_varies_is_held_by_a_budget(
    log: FoldedLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        log(logging.WARNING, "poll", f"cannot read line {number}")
    assert caplog.messages == [f"cannot read line {n}" for n in range(MOST_SENTENCES)]
    clock.now += SENTENCES_SECONDS
    log(logging.WARNING, "poll", "cannot read line 1000")
    assert caplog.messages[-1] == f"cannot read line 1000 ({1000 - MOST_SENTENCES} more before, not logged)"


def test_recovery_is_said_with_the_count_and_the_next_failure_at_once(
    log: FoldedLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.recovered("poll", "well after %d")
    for sentence in ("cannot a", "cannot a", "cannot b"):
        log(logging.WARNING, "poll", "%s", sentence)
    log.recovered("poll", "%s well after %d", "x")
    log.recovered("poll", "%s well after %d", "x")
    log(logging.WARNING, "poll", "%s", "cannot b")
    assert caplog.messages == ["cannot a", "cannot b (1 more before, not logged)", "x well after 3", "cannot b"]


def test_what_comes_and_goes_is_held_by_the_same_budget(
    log: FoldedLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        log(logging.WARNING, "poll", "cannot read it")
        log.recovered("poll", "well after %d")
        clock.now += 0.1
    assert caplog.messages == ["cannot read it", "well after 1"] * MOST_SENTENCES
    clock.now += SENTENCES_SECONDS
    log(logging.WARNING, "poll", "cannot read it")
    log.recovered("poll", "well after %d")
    assert caplog.messages[-2:] == [
        f"cannot read it ({1000 - MOST_SENTENCES} more before, not logged)",
        f"well after {1001 - MOST_SENTENCES}",
    ]


def test_what_is_forgotten_is_logged_at_once(log: FoldedLog, caplog: pytest.LogCaptureFixture) -> None:
    log(logging.WARNING, "a", "one")
    log(logging.WARNING, "a", "one")
    assert log.forget("a") == 1
    assert log.forget("a") == 0
    assert log.forget("never seen") == 0
    log(logging.WARNING, "a", "one")
    assert caplog.messages == ["one", "one"]


def test_a_level_that_is_not_logged_uses_up_nothing(log: FoldedLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(100):
        log(logging.DEBUG, "a", f"{number}")
    log(logging.WARNING, "a", "one")
    assert caplog.messages == ["one"]


def _raise(error: Exception) -> None:
    raise error


def test_bugs_are_logged_with_their_traceback_and_told_apart(log: FoldedLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        for error in (ZeroDivisionError("planted"), KeyError("other")):
            try:
                _raise(error)
            except (ZeroDivisionError, KeyError):
                log(logging.ERROR, "bug", "a bug", bug=True)
    assert caplog.messages == ["a bug", "a bug"]
    assert "Traceback" in caplog.text
    assert "ZeroDivisionError: planted" in caplog.text
    assert "KeyError: 'other'" in caplog.text


def test_a_bug_may_be_named(log: FoldedLog, caplog: pytest.LogCaptureFixture) -> None:
    """For ``except*``, which hands over a group."""
    try:
        try:
            _raise(ZeroDivisionError("planted"))
        except* ZeroDivisionError as group:
            log(logging.ERROR, "bug", "a bug", bug=group)
            log(logging.ERROR, "bug", "a bug", bug=group.exceptions[0])
    finally:
        assert caplog.messages == ["a bug"]
        assert "ZeroDivisionError: planted" in caplog.text


def test_the_component_stands_in_the_record(caplog: pytest.LogCaptureFixture) -> None:
    log = FoldedLog(LOGGER, Clock(), "exporters.backend")
    log(logging.WARNING, "a", "one")
    log.recovered("a", "well after %d")
    assert [record.component for record in caplog.records] == ["exporters.backend"] * 2  # type: ignore[attr-defined]


def test_keys_that_are_data_do_not_defeat_it(log: FoldedLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(10_000):
        log(logging.WARNING, f"key {number}", f"cannot {number}")
    assert len(caplog.records) == MOST_KEYS + MOST_SENTENCES
    assert len(log._failures) <= MOST_KEYS + 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fail", "fail", "fail", "well"]), st.text(max_size=2), st.floats(0, 100, allow_nan=False)
        ),
        max_size=60,
    )
)
def test_every_failure_is_logged_or_counted_and_lines_are_bounded(steps: list[tuple[str, str, float]]) -> None:
    clock, lines = Clock(), []
    logger = logging.Logger("ebbtide.property")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((clock.now, record.getMessage()))  # type: ignore[method-assign]
    logger.addHandler(handler)
    log = FoldedLog(logger, clock)
    failures = 0
    for what, sentence, wait in steps:
        if what == "fail":
            failures += 1
            log(logging.WARNING, "k", "cannot %s", sentence)
        else:
            failures = 0 if any(said for said in log._failures.values() if said.sentences) else failures
            log.recovered("k", "well after %d")
        clock.now += wait
    known = log._failures.get("k")
    assert (known.failures if known else 0) == failures
    assert known is None or len(known.sentences) <= MOST_SENTENCES
    for at, _ in lines:  # new sentences, a reminder of each sentence known, a recovery each
        within = [line for then, line in lines if at <= then < at + FIRST_REMINDER]
        assert len(within) <= 4 * MOST_SENTENCES
