"""Expressions become series of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ebbtide import ReceiveError, ReceiverCounts
from receivers.matrix import Answer, AnswerReader
from receivers.query_expressions import Evaluation, Expression

NOW = 100 * 10**9


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
    assert polls.evaluation.take(Answer(result_type="vector"), NOW) is not None
    (series, _) = polls.evaluation._series
    assert (series.family.kind, series.family.typed_by) == ("counter", "operator")


def test_a_series_that_is_missing_ends_and_may_come_again() -> None:
    polls = Polls()
    polls.poll([one("a"), one("b")])
    (ended,) = [point for point in polls.poll([one("a", time=2.5)]) if point[3]]
    assert (ended[0], ended[2]) == ('success_rate{pod="b"}', 100.0)
    assert polls.poll([one("a", time=3.5), one("c", time=3.5)])[1][0] == 'success_rate{pod="c"}'
    assert len(polls.evaluation._series) == 2
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


def test_native_histograms_are_counted_as_unsupported() -> None:
    polls = Polls()
    native = {"count": "1", "sum": "1"}
    assert polls.poll([{"metric": {"pod": "a"}, "histogram": [1, native]}, one("b")]) == [
        ('success_rate{pod="b"}', 1.0, 1.5, False)
    ]
    assert polls.counts.dropped["unsupported"] == 1


@pytest.mark.parametrize(
    "given", [{"name": "", "query": "x"}, {"name": "x"}, {"name": "x", "query": "y", "type": "histogram"}]
)
def test_what_is_no_expression(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Expression.model_validate(given)
