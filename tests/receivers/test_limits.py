"""Prometheus' limits of one scrape."""

import pytest

from receivers.limits import Limits, TooMuch
from receivers.text import parse_sample

LINE = b'metric_name{label="value",other="x"} 1'


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(labels=2), "metric_name has 3 labels, label_limit is 2"),
        (Limits(label_name_length=4), "metric_name has one of 5 characters, label_name_length_limit is 4"),
        (Limits(label_value_length=4), "metric_name has one of 5 characters, label_value_length_limit is 4"),
    ],
)
def test_what_exceeds_a_limit_is_named(limits: Limits, said: str) -> None:
    assert limits.apply
    with pytest.raises(TooMuch) as caught:
        limits.check(parse_sample(LINE))
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(labels=3), Limits(label_name_length=5), Limits(label_value_length=5)]
)
def test_what_stays_below_passes(limits: Limits) -> None:
    limits.check(parse_sample(LINE))


def test_a_limit_of_samples_is_none_of_single_series() -> None:
    assert not Limits(samples=1).apply


def test_a_series_without_labels_passes() -> None:
    Limits(labels=1, label_name_length=1, label_value_length=1).check(parse_sample(b"a 1"))
