"""A candidate is made of options as the file gives them, and says what it lacks."""

from __future__ import annotations

import numpy as np
import pytest

from agent.batch import Batch
from agent.plugin import ConfigError, Processor
from agent.series import Series, SeriesTable
from agent.settings import Duration, Settings, option
from agent.testing.candidate import Candidate, Nonconformance, check_form


class WaitSettings(Settings):
    """Options."""

    wait: Duration = option(..., "How long.")


class Wait(Processor[WaitSettings]):
    """Passes everything on."""

    Settings = WaitSettings

    def __init__(self, settings=None, context=None):  # type: ignore[no-untyped-def]
        super().__init__(settings, context)
        if self.settings.wait > 60:
            raise ConfigError("cannot wait so long", "wait")

    def process(self, batch: Batch) -> Batch | None:
        return batch


def test_options_are_those_of_the_file() -> None:
    made = Candidate(Wait, {"wait": "2s"}).made()
    assert (made.settings.wait, made.context.id, Candidate(Wait, {"wait": "2s"}).made({"wait": "3s"}).settings.wait) == (2, "wait", 3)  # fmt: skip


def test_what_is_missing_is_named() -> None:
    with pytest.raises(Nonconformance, match=r"do not accept.*see wait.*must be set"):
        Candidate(Wait).made()


def test_a_constructor_that_refuses_is_told_apart() -> None:
    with pytest.raises(Nonconformance, match=r"ConfigError: cannot wait so long"):
        Candidate(Wait, {"wait": "2m"}).made()


def batch() -> Batch:
    return Batch(SeriesTable([Series.of("x")]), np.zeros(1), np.zeros(1, np.int64))


def test_a_good_batch_passes() -> None:
    check_form(batch(), "it")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("values", np.zeros(1, np.float32), "values of it is of float32; make it a numpy array of float64"),
        ("values", [0.0], "is of list"),
        ("times", np.zeros(1), "times of it is of float64"),
        ("starts", np.zeros(2, np.int64), "starts of it has 2 items for 1 rows"),
        ("stale", np.zeros(1, np.int8), "stale of it is of int8"),
        ("extras", {4: object()}, "extra for row 4, of 1 rows"),
    ],
)
def test_a_bad_column_is_named(column: str, value: object, said: str) -> None:
    bad = batch()
    setattr(bad, column, value)
    with pytest.raises(Nonconformance, match=said):
        check_form(bad, "it")


def test_what_is_no_batch_is_named() -> None:
    with pytest.raises(Nonconformance, match="it is of type list"):
        check_form([], "it")
