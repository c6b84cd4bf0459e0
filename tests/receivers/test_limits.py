"""Prometheus' limits of one scrape."""

import pytest

from receivers.limits import Limits, TooMuch
from receivers.text import parse_sample

LINE = b'metric_name{label="value",other="x"} 1'


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(labels=2), "metric_name has 3 labels, label_limit is 2"),
        (Limits(label_name_length=4), "metric_name has one of 8 bytes, label_name_length_limit is 4"),
        (Limits(label_value_length=10), "metric_name has one of 11 bytes, label_value_length_limit is 10"),
    ],
)
def test_what_exceeds_a_limit_is_named(limits: Limits, said: str) -> None:
    assert limits.apply
    with pytest.raises(TooMuch) as caught:
        limits.check(parse_sample(LINE))
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(labels=3), Limits(label_name_length=8), Limits(label_value_length=11)]
)
def test_what_stays_below_passes(limits: Limits) -> None:
    limits.check(parse_sample(LINE))


def test_a_limit_of_samples_is_none_of_single_series() -> None:
    assert not Limits(samples=1).apply


def test_a_series_without_labels_passes() -> None:
    Limits(labels=1, label_name_length=8, label_value_length=1).check(parse_sample(b"a 1"))


def test_lengths_are_those_of_utf_8() -> None:
    Limits(label_value_length=6).check(parse_sample('a{b="größ"} 1'.encode()))
    with pytest.raises(TooMuch, match="one of 7 bytes"):
        Limits(label_value_length=6).check(parse_sample('a{b="größe"} 1'.encode()))
