"""Samples read at once, by the forms they come in."""

from __future__ import annotations

import numpy as np
import pytest

from receivers.remote_write_samples import ALL_THREE, FORMS, TIME_ALONE, TIME_AND_START, VALUE_AND_TIME, read_samples
from tests.receivers.remote_write_messages import Request

T = 1_763_900_000_123


def sample(value: float, time: int, start: int) -> bytes:
    return bytes(Request().timeseries.add().samples.add(value=value, timestamp=time, start_timestamp=start).SerializeToString())  # fmt: skip


@pytest.mark.parametrize(
    ("value", "start", "form"),
    [(1.5, 0, VALUE_AND_TIME), (0.0, 0, TIME_ALONE), (-2.5, T - 5, ALL_THREE), (0.0, T - 5, TIME_AND_START)],
)
def test_each_form_is_read_where_it_ends(value: float, start: int, form: int) -> None:
    text = sample(value, T, start)
    assert len(text) == form
    words = np.frombuffer(b"\xaa" * 30 + text + b"\xbb" + text, np.uint8)
    values, times, starts, right = read_samples(words, np.array([30 + form, 31 + 2 * form]), form)
    assert right.all()
    assert (values.tolist(), times.tolist(), starts.tolist()) == ([value] * 2, [T] * 2, [start] * 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("time", [5, 2**42 + 5, -1])
def test_a_time_of_other_than_six_bytes_is_told(form: int, time: int) -> None:
    text = sample(1.0, time, time)
    words = np.frombuffer(b"\xaa" * 60 + text, np.uint8)
    assert not read_samples(words, np.array([len(words)]), form)[3].any()
