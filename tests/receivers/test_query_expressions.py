"""Expressions become series of their own."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from ebbtide import ReceiveError, ReceiverCounts
from receivers.matrix import Answer, AnswerReader
from receivers.query_expressions import Evaluation, Expression
from tests.receivers.sent_points import sent

NOW = 100 * 1000  # ms


class Polls:
    """One expression, polled again and again."""

    def __init__(self, kind: str = "gauge") -> None:
        self.counts = ReceiverCounts()
        expression = Expression.model_validate({"name": "success_rate", "query": "x", "type": kind})
        self.evaluation = Evaluation(expression, self.counts)

    def poll(self, result: Any, kind: str = "vector") -> list[tuple[str, float, float, bool]]:
        """Labels, value, seconds, stale of all points."""
        reader = AnswerReader(self.evaluation.metrics)
        reader.feed(json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode())
        return self.take(reader.finish())

    def take(self, answer: Answer) -> list[tuple[str, float, float, bool]]:
        batches = list(self.evaluation.take(answer, NOW))
        self.counts.out += sum(map(len, batches))
        assert self.counts.imbalance() == 0
        return [(str(row.series), row.value, row.time / 1e9, row.stale) for batch in batches for row in batch.rows()]


def one(pod: str, value: str = "1", time: float = 1.5) -> dict[str, Any]:
    return {"metric": {"__name__": "dropped", "pod": pod}, "value": [time, value]}


def test_a_vector_is_a_point_of_each_series_under_the_name_that_was_given() -> None:
    polls = Polls("counter")
    assert polls.poll([one("a"), one("b", "2")]) == [
        ('success_rate{pod="a"}', 1.0, 1.5, False),
        ('success_rate{pod="b"}', 2.0, 1.5, False),
    ]
    (batch,) = polls.evaluation.take(Answer(result_type="vector"), NOW)
    for series in batch.table:
        assert (series.family.kind, series.family.typed_by) == ("counter", "operator")


def test_a_series_that_is_missing_ends_and_may_come_again() -> None:
    polls = Polls()
    polls.poll([one("a"), one("b")])
    (ended,) = [point for point in polls.poll([one("a", time=2.5)]) if point[3]]
    assert (ended[0], ended[2]) == ('success_rate{pod="b"}', 100.0)
    assert polls.poll([one("a", time=3.5), one("c", time=3.5)])[1][0] == 'success_rate{pod="c"}'
    assert len(polls.evaluation._labels) == 2
    assert polls.counts.added["stale"] == 1


def test_a_matrix_is_taken_oldest_first_and_nothing_twice() -> None:
    polls = Polls()
    matrix = [{"metric": {"pod": "a"}, "values": [[1, "1"], [2, "2"]]}, {"metric": {"pod": "b"}, "values": [[2, "5"]]}]
    points = polls.poll(matrix, "matrix")
    assert [(value, time) for _, value, time, _ in points] == [(1, 1), (5, 2), (2, 2)]
    matrix[0]["values"] = [[2, "2"], [3, "3"]]
    assert [(value, time) for _, value, time, _ in polls.poll(matrix, "matrix")] == [(3, 3)]
    assert polls.counts.dropped["repeated"] == 2


def test_a_scalar_is_one_series_without_labels() -> None:
    polls = Polls()
    assert polls.poll([1.5, "7"], "scalar") == [("success_rate{}", 7.0, 1.5, False)]
    assert polls.poll([2.5, "NaN"], "scalar")[0][2] == 2.5


@pytest.mark.parametrize(
    ("result", "kind", "words"),
    [
        ([1.5, "x"], "string", "a string is no number"),
        ([1.5, "x"], "scalar", "a string is no number"),
        ([], "streams", "'streams' is no series"),
    ],
)
def test_what_is_no_numbers(result: Any, kind: str, words: str) -> None:
    with pytest.raises(ReceiveError, match=words):
        Polls().poll(result, kind)


def native(*buckets: tuple[int, float, float, float], time: float = 1.5, pod: str = "a") -> dict[str, Any]:
    shown = [[rule, str(low), str(high), str(n)] for rule, low, high, n in buckets]
    tree = {"count": str(sum(bucket[3] for bucket in buckets)), "sum": "7", "buckets": shown}
    return {"metric": {"__name__": "dropped", "pod": pod}, "histogram": [time, tree]}


def points(polls: Polls, *result: Any) -> list[tuple[str, str, float, int]]:
    """What arrives of an answer at an OTLP destination: kind, pod, seconds, count; -1 for an end."""
    reader = AnswerReader(polls.evaluation.metrics)
    reader.feed(json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode())
    return sent(polls.evaluation.take(reader.finish(), NOW), polls.counts)


def test_a_histogram_is_a_histogram_whatever_the_type_says() -> None:
    polls = Polls()
    assert points(polls, native((0, 1, 2, 3)), native((0, 1, 2, 3), (0, 2, 5, 1), pod="b"), one("c")) == [
        ("exponential_histogram", "a", 1.5, 3), ("gauge", "c", 1.5, 0), ("histogram", "b", 1.5, 4),
    ]  # fmt: skip
    assert points(polls, native((0, 1, 2, 4), time=2.5)) == [
        ("exponential_histogram", "a", 2.5, 4), ("gauge", "c", 100, -1), ("histogram", "b", 100, -1),
    ]  # fmt: skip
    assert polls.counts.dropped.total() == 0


def test_a_series_that_changes_its_kind_ends_as_one_and_begins_as_the_other() -> None:
    polls = Polls()
    assert points(polls, one("a")) == [("gauge", "a", 1.5, 0)]
    assert points(polls, native((0, 1, 2, 4), time=2.5)) == [
        ("exponential_histogram", "a", 2.5, 4),
        ("gauge", "a", 100, -1),
    ]
    assert points(polls, native((0, 1, 10, 5), time=3.5)) == [
        ("exponential_histogram", "a", 100, -1), ("histogram", "a", 3.5, 5),
    ]  # fmt: skip
    assert points(polls, one("a", time=4.5)) == [("gauge", "a", 4.5, 0), ("histogram", "a", 100, -1)]


def test_a_matrix_of_histograms_is_taken_oldest_first_and_nothing_twice() -> None:
    polls = Polls()
    element = native((0, 1, 2, 4))
    tree = element.pop("histogram")[1]
    for times, new in (([1, 2], [1, 2]), ([2, 3], [3])):
        reader = AnswerReader(polls.evaluation.metrics)
        result = [{**element, "histograms": [[time, tree] for time in times]}]
        reader.feed(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode())
        found = sent(polls.evaluation.take(reader.finish(), NOW), polls.counts)
        assert found == [("exponential_histogram", "a", time, 4) for time in new]
    assert polls.counts.dropped["repeated"] == 1


def test_rates_of_histograms_have_no_form_in_otlp() -> None:
    polls = Polls()
    assert points(polls, native((0, 1, 2, 0)), one("b")) == [
        ("exponential_histogram", "a", 1.5, 0),
        ("gauge", "b", 1.5, 0),
    ]
    assert not polls.evaluation.fractional
    rate = native((0, 1, 2, 0.5), time=2.5)
    assert points(polls, native((0, 1, 2, 2), time=2.5, pod="c"), rate, one("b", time=2.5)) == [
        ("exponential_histogram", "a", 100, -1), ("gauge", "b", 2.5, 0),
    ]  # fmt: skip
    assert polls.evaluation.fractional
    assert points(polls, native((0, 1, 2, 2), time=3.5, pod="c"), one("b", time=3.5)) == [("gauge", "b", 3.5, 0)]
    assert polls.counts.dropped["unsupported"] == 3


def test_a_time_that_none_is() -> None:
    polls = Polls()
    for time in (math.inf, math.nan):
        with pytest.raises(ReceiveError, match="a string is no number"):
            polls.take(Answer(result_type="scalar", scalar=(time, "1")))
    assert polls.poll([1e30, "1"], "scalar")[0][1] == 1.0


@pytest.mark.parametrize(
    "given", [{"name": "", "query": "x"}, {"name": "x"}, {"name": "x", "query": "y", "type": "histogram"}]
)
def test_what_is_no_expression(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Expression.model_validate(given)
