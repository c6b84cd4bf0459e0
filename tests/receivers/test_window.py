"""Raw samples of a window, dealt into rounds and taken oldest first."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import Batch, ReceiverCounts
from receivers.types import TypeBook
from receivers.window import WindowScrape, rounds

S = 10**9
NOW = 1_800_000_000 * S
POD = {"job": "linkerd-proxy", "instance": "10.0.0.1:4191", "pod": "web-0"}


def scrape() -> WindowScrape:
    return WindowScrape(ReceiverCounts(), TypeBook({"request_total": "counter", "latency_ms": "histogram"}))


def taken(one: WindowScrape, samples: list[tuple[dict[str, str], float, float]], now: float) -> list[Batch]:
    """Take (labels, value, seconds after ``NOW``) of a window that ends ``now``."""
    slots = np.array([one.learn(labels) for labels, _, _ in samples], np.int32)
    values = np.array([value for _, value, _ in samples], np.float64)
    times = np.array([NOW + round(time * S) for _, _, time in samples], np.int64)
    batches = list(one.take_window(slots, values, times, NOW + round(now * S)))
    assert one.counts.samples + one.counts.added.total() == sum(map(len, batches)) + one.counts.dropped.total() + out(
        one
    )
    one.out = out(one) + sum(map(len, batches))  # type: ignore[attr-defined]
    return batches


def out(one: WindowScrape) -> int:
    return getattr(one, "out", 0)


def shown(batches: list[Batch]) -> list[tuple[str, float, float, float]]:
    """Name and le, value, seconds, start."""
    return [
        (
            row.series.name + row.series.label("le"),
            row.value,
            (row.time - NOW) / S,
            (row.start - NOW) / S if row.start else 0,
        )
        for batch in batches
        for row in batch.rows()
    ]


def total(value: float, time: float, **labels: str) -> tuple[dict[str, str], float, float]:
    return {"__name__": "request_total", **POD, **labels}, value, time


def latency(count: float, time: float) -> list[tuple[dict[str, str], float, float]]:
    parts = [("_bucket", {"le": "1"}), ("_bucket", {"le": "+Inf"}), ("_count", {}), ("_sum", {})]
    return [({"__name__": "latency_ms" + part, **POD, **more}, count, time) for part, more in parts]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=40))
def test_rounds_rank_the_times_of_each_target(samples: list[tuple[int, int]]) -> None:
    targets = np.array([target for target, _ in samples], np.int32)
    times = np.array([time for _, time in samples], np.int64)
    dealt = [rows.tolist() for rows in rounds(targets, times)]
    assert sorted(row for rows in dealt for row in rows) == list(range(len(samples)))
    known: dict[int, list[int]] = defaultdict(list)
    for target, time in sorted(set(samples)):
        known[target].append(time)
    for number, rows in enumerate(dealt):
        assert rows == sorted(rows)
        assert all(known[samples[row][0]].index(samples[row][1]) == number for row in rows)


def test_samples_go_out_oldest_first_and_histograms_whole() -> None:
    one = scrape()
    window = [total(3, 20), total(2, 10), total(1, 0.5), *latency(2, 10), *latency(1, 0.5), *latency(4, 20)]
    batches = taken(one, window, 30)
    times = [time for _, _, time, _ in shown(batches)]
    assert times == sorted(times)
    assert [(value, time) for name, value, time, _ in shown(batches) if name == "request_total"] == [
        (1, 0.5),
        (2, 10),
        (3, 20),
    ]
    assert one.counts.dropped.total() == 0
    assert {start for *_, start in shown(batches)} == {0.5}  # all are cumulative, and began where they were first seen


def test_windows_continue_one_another_and_a_fall_is_a_reset() -> None:
    one = scrape()
    taken(one, [total(5, 0), total(6, 10)], 15)
    (first, second) = shown(taken(one, [total(2, 20), total(7, 30)], 35))
    assert (first[3], second[3]) == (10, 10)


def test_a_series_that_was_away_for_a_window_began_anew() -> None:
    one = scrape()
    other = {"dst": "b"}
    taken(one, [total(5, 0), total(5, 0, **other)], 15)
    taken(one, [total(6, 20)], 30)
    batches = taken(one, [total(7, 40), total(5, 40, **other)], 45)
    starts = {row.series.label("dst"): (row.start - NOW) / S for batch in batches for row in batch.rows()}
    assert starts == {"": 0, "b": 40}


def test_a_target_that_lacks_a_timestamp_of_another_lost_nothing() -> None:
    one = scrape()
    far = {"instance": "10.0.0.2:4191"}
    taken(one, [total(1, 0), total(2, 10), total(1, 3, **far)], 15)
    batches = taken(one, [total(3, 20), total(2, 13, **far), total(3, 23, **far), total(4, 30)], 35)
    starts = {(row.start - NOW) / S for batch in batches for row in batch.rows()}
    assert starts == {0, 3}


def test_recording_rules_beside_a_target_do_not_disturb_it() -> None:
    one = scrape()
    for window in range(3):
        at = 20 * window
        samples = [total(at, at), total(at + 1, at + 10), total(at, at + 4, rule="x"), total(at + 1, at + 14, rule="x")]
        batches = taken(one, samples, at + 15)
        assert {(row.start - NOW) / S for batch in batches for row in batch.rows()} == {0, 4}


def test_what_was_delivered_is_told_by_time() -> None:
    one = scrape()
    taken(one, [total(1, 0), total(2, 10)], 15)
    slots = np.array([one.learn(total(0, 0)[0])] * 3, np.int32)
    assert one.delivered(slots, np.array([NOW, NOW + 10 * S, NOW + 11 * S])).tolist() == [True, True, False]


def test_what_only_a_broken_answer_showed_is_forgotten() -> None:
    one = scrape()
    one.learn(total(0, 0)[0])
    one.forget_newcomers()
    assert one.newcomers == 0
    assert shown(taken(one, [total(1, 5)], 10)) == [("request_total", 1, 5, 5)]


def test_what_is_quiet_for_long_ends() -> None:
    one = scrape()
    taken(one, [total(1, 0)], 10)
    taken(one, [], 30)
    (batch,) = taken(one, [], 400)
    assert batch.stale is not None
    assert batch.stale.all()


def test_an_empty_window_is_nothing() -> None:
    assert taken(scrape(), [], 10) == []
