"""Raw samples of a window, dealt into rounds and taken oldest first."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import Batch, ReceiverCounts
from receivers.presence import NO_TWIN
from receivers.query_cursor import Window
from receivers.query_native import Written, written_of
from receivers.types import TypeBook
from receivers.window import WindowScrape, ranked, rounds
from tests.receivers.sent_points import data_of

S, MS = 10**9, 10**6
NOW = 1_800_000_000 * S
POD = {"job": "linkerd-proxy", "instance": "10.0.0.1:4191", "pod": "web-0"}


def scrape() -> WindowScrape:
    return WindowScrape(ReceiverCounts(), TypeBook({"request_total": "counter", "latency_ms": "histogram"}))


def taken(
    one: WindowScrape, samples: list[tuple[dict[str, str], float, float]], now: float, live: bool = True
) -> list[Batch]:
    """Take (labels, value, seconds after ``NOW``) of a window that ends ``now``."""
    slots = np.array([one.learn(labels) for labels, _, _ in samples], np.int32)
    values = np.array([value for _, value, _ in samples], np.float64)
    times = np.array([NOW + round(time * S) for _, _, time in samples], np.int64)
    begin, end = getattr(one, "end", (NOW - S) // MS), NOW // MS + round(now * 1000)
    batches = list(one.take_window(slots, values, times, Window(begin - 5000, begin, end), live=live))
    one.end = end  # type: ignore[attr-defined]
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
    dealt = [rows.tolist() for rows in rounds(ranked(targets, times))]
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


def starts(batches: list[Batch]) -> dict[str, float]:
    """The start of the last point by dst, in seconds."""
    return {row.series.label("dst"): (row.start - NOW) / S for batch in batches for row in batch.rows()}


OTHER = {"dst": "b"}


def test_a_series_that_was_away_while_its_target_was_scraped_began_anew() -> None:
    one = scrape()
    taken(one, [total(5, 0), total(5, 0, **OTHER), total(5, 10), total(5, 10, **OTHER)], 15)
    taken(one, [total(6, 20), total(6, 30)], 30)
    assert starts(taken(one, [total(7, 40), total(5, 40, **OTHER)], 45)) == {"": 0, "b": 40}


def test_a_series_that_was_away_within_a_window_began_anew() -> None:
    one = scrape()
    other = [total(5, at, **OTHER) for at in (0, 10, 50, 60)]
    assert starts(taken(one, [*[total(at, at) for at in range(0, 70, 10)], *other], 65)) == {"": 0, "b": 50}


def test_one_missed_scrape_is_no_absence() -> None:
    one = scrape()
    other = [total(5, at, **OTHER) for at in (0, 10, 30)]
    assert starts(taken(one, [*[total(at, at) for at in range(0, 40, 10)], *other], 35)) == {"": 0, "b": 0}


def test_windows_shorter_than_the_scrapes_are_no_absence() -> None:
    one, seen = scrape(), []
    for at in range(0, 120, 3):
        seen += taken(one, [total(at, at), total(at, at, **OTHER)] if at % 30 == 0 else [], at + 1)
    assert starts(seen) == {"": 0, "b": 0}


def test_what_nobody_scraped_was_not_away() -> None:
    """Prometheus was down: nothing of the target came meanwhile."""
    one = scrape()
    taken(one, [total(5, 0), total(5, 10)], 15)
    taken(one, [], 900, live=False)
    taken(one, [], 915)
    batches = taken(one, [total(7, 920), total(8, 930)], 935)
    assert (starts(batches), one.counts.added["stale"]) == ({"": 0}, 0)


def up(value: float, time: float) -> tuple[dict[str, str], float, float]:
    return {"__name__": "up", **POD}, value, time


@pytest.mark.parametrize("step", [5, 1000])
def test_a_target_that_was_down_took_its_series_along(step: int) -> None:
    one = scrape()
    samples = [up(not 20 <= at < 60, at) for at in range(0, 80, 10)]
    samples += [total(at, at) for at in (0, 10, 60, 70)]
    seen: list[Batch] = []
    for begin in range(0, 80, step):
        seen += taken(one, [one for one in samples if begin <= one[2] < begin + step], min(begin + step - 1, 79))
    assert {start for name, _, _, start in shown(seen) if name == "request_total"} == {0}


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


def test_what_lies_before_the_window_is_taken_once() -> None:
    one = scrape()
    taken(one, [total(1, 0), total(2, 10)], 11)
    batches = taken(one, [total(2, 10), total(3, 12), total(9, 9, **OTHER)], 15)
    assert [(value, time) for _, value, time, _ in shown(batches)] == [(9, 9), (3, 12)]
    assert taken(one, [total(3, 12), total(3, 12)], 20) == []


def test_what_only_a_broken_answer_showed_is_forgotten() -> None:
    one = scrape()
    one.learn(total(0, 0)[0])
    one.forget_newcomers()
    assert one.newcomers == 0
    assert shown(taken(one, [total(1, 5)], 10)) == [("request_total", 1, 5, 5)]


def test_what_is_quiet_for_long_ends_by_the_clock_of_the_source() -> None:
    one = scrape()
    taken(one, [total(1, 0), total(1, 0, **OTHER)], 10, live=False)
    for at in (200, 310, 320):
        batches = taken(one, [total(1, at)], at + 5, live=False)
        assert one.counts.added["stale"] == (at == 320)
    (ended,) = (batch for batch in batches if batch.stale is not None)
    assert ended.times.tolist() == [NOW + 310 * S]


def test_a_source_from_which_nothing_comes_any_more_ends() -> None:
    one = scrape()
    taken(one, [total(1, 0)], 10)
    taken(one, [], 30)
    (batch,) = taken(one, [], 400)
    assert batch.stale is not None
    assert batch.stale.all()


def test_a_slot_in_the_answer_is_never_given_to_another_series() -> None:
    one = scrape()
    taken(one, [total(1, 0), total(1, 0, **OTHER), total(2, 10)], 11)
    slot = one.learn(total(0, 0, **OTHER)[0])
    taken(one, [total(3, 400), total(1, 0, **OTHER)], 402)  # the other one only as it was
    taken(one, [total(4, 410), total(1, 0, **OTHER)], 415)
    assert one.counts.added["stale"] == 1
    assert one.learn(total(0, 0, **OTHER)[0]) == slot
    taken(one, [total(4, 420)], 425)
    assert one.newcomers == 0
    one.learn(total(0, 0, **OTHER)[0])
    assert one.newcomers == 1


Bucket = tuple[int, float, float, float]
ONE, THREE = (0, 1.0, 2.0, 1.0), (0, 1.0, 2.0, 3.0)


class Kinds:
    """A source whose series are numbers and native histograms by turns."""

    def __init__(self) -> None:
        self.scrape = scrape()
        self.end = NOW // MS

    def take(
        self, now: int, *samples: tuple[float, float | tuple[Bucket, ...] | None], live: bool = True, **labels: str
    ) -> list[Point]:
        """Take (seconds, number, buckets, or None for what cannot be read) of one series; what is sent, oldest first."""
        slot = self.scrape.learn({"__name__": "native_seconds", **POD, **labels})
        numbers = [(time, value) for time, value in samples if isinstance(value, float | int)]
        natives = [
            (slot, NOW // MS + round(time * 1000), None if value is None else written(value))
            for time, value in samples if not isinstance(value, float | int)
        ]  # fmt: skip
        times = np.array([NOW + round(time * S) for time, _ in numbers], np.int64)
        values = np.array([value for _, value in numbers], np.float64)
        begin, self.end = self.end, NOW // MS + now * 1000
        window = Window(begin - 5000, begin, self.end)
        batches = self.scrape.take_window(
            np.full(len(times), slot, np.int32), values, times, window, natives, live=live
        )
        found = []
        for batch in batches:
            self.scrape.counts.out += len(batch)
            for row in batch.rows():
                start = (row.start - NOW) / S if row.start else None
                found.append((data_of(row), (row.time - NOW) / S, start, None if row.stale else row.value))
        assert self.scrape.counts.imbalance() == 0
        return found


Point = tuple[str, float, float | None, float | None]
"""Kind of data, seconds, start, value or count; None for an end."""


def written(buckets: tuple[Bucket, ...]) -> Written | None:
    return written_of({"count": sum(bucket[3] for bucket in buckets), "sum": 1.5, "buckets": buckets})


EXPONENTIAL, CUSTOM, GAUGE = "exponential_histogram", "histogram", "gauge"


def test_numbers_that_become_histograms_end_and_the_histograms_begin() -> None:
    one = Kinds()
    assert one.take(15, (0, 4), (10, 5)) == [(GAUGE, 0, None, 4), (GAUGE, 10, None, 5)]
    assert one.take(35, (20, (ONE,)), (30, (THREE,))) == [
        (GAUGE, 20, None, None), (EXPONENTIAL, 20, 20, 1), (EXPONENTIAL, 30, 20, 3),
    ]  # fmt: skip
    assert one.take(55, (40, (THREE,)), (50, 6)) == [
        (EXPONENTIAL, 40, 20, 3), (EXPONENTIAL, 50, 20, None), (GAUGE, 50, None, 6),
    ]  # fmt: skip
    assert one.take(75, (60, (THREE,))) == [(GAUGE, 60, None, None), (EXPONENTIAL, 60, 60, 3)]
    assert one.scrape.counts.added["stale"] == 3
    assert one.scrape.counts.dropped.total() == 0


def test_a_change_and_back_within_one_window() -> None:
    one = Kinds()
    found = one.take(45, (0, (ONE,)), (10, 5), (20, (THREE,)), (30, (THREE,)))
    assert [(kind, time, value) for kind, time, _, value in found] == [
        (EXPONENTIAL, 0, 1), (EXPONENTIAL, 10, None), (GAUGE, 10, 5), (GAUGE, 20, None), (EXPONENTIAL, 20, 3), (EXPONENTIAL, 30, 3),
    ]  # fmt: skip
    assert [start for kind, _, start, value in found if kind == EXPONENTIAL and value == 3] == [20, 20]


def test_a_series_that_has_two_kinds_is_known_as_long_as_one_of_them_is() -> None:
    one = Kinds()
    one.take(15, (0, 4), (10, 5))
    slot = one.scrape.learn({"__name__": "native_seconds", **POD})
    for at in range(20, 700, 20):
        one.take(at + 5, (at, (THREE,)))
    twin = int(one.scrape.columns.twin[slot])
    assert one.scrape.learn({"__name__": "native_seconds", **POD}) == slot
    assert one.take(705, (695, 5)) == [(EXPONENTIAL, 695, 20, None), (GAUGE, 695, None, 5)]
    assert int(one.scrape.columns.twin[slot]) == twin
    for at in range(720, 1300, 20):
        one.take(at + 5, (at, 1))
    assert not one.scrape.columns.used[twin]  # of the histograms nothing came for long
    assert int(one.scrape.columns.twin[slot]) == NO_TWIN
    assert one.take(1320, (1310, (ONE,))) == [(GAUGE, 1310, None, None), (EXPONENTIAL, 1310, 1310, 1)]


def test_both_kinds_are_forgotten_together() -> None:
    one = Kinds()
    one.take(15, (0, 4), (10, (ONE,)))
    other = {"__name__": "other", **POD}
    for at in (200, 400, 800):
        slot = one.scrape.learn(other)
        window = Window(one.end, one.end, NOW // MS + at * 1000)
        one.end = window.end
        for batch in one.scrape.take_window(
            np.array([slot], np.int32), np.ones(1), np.array([NOW + at * S - S], np.int64), window
        ):
            one.scrape.counts.out += len(batch)
    assert one.scrape.counts.imbalance() == 0
    assert one.scrape.counts.added["stale"] == 2  # the number when the histogram came, and the histogram for good
    before = one.scrape.newcomers
    one.scrape.learn({"__name__": "native_seconds", **POD})
    assert (before, one.scrape.newcomers) == (0, 1)
    assert len(one.scrape._slot_of) == 2


def test_boundaries_that_prove_to_be_custom_and_others_later() -> None:
    one = Kinds()
    five, ten = (0, 2.0, 5.0, 2.0), (0, 1.0, 10.0, 9.0)
    assert one.take(15, (0, (ONE,))) == [(EXPONENTIAL, 0, 0, 1)]
    assert one.take(35, (20, (ONE, five)), (30, (THREE, five))) == [
        (EXPONENTIAL, 20, 0, None), (CUSTOM, 20, 20, 3), (CUSTOM, 30, 20, 5),
    ]  # fmt: skip
    assert one.take(45, (40, (ten,))) == [(CUSTOM, 40, 30, 9)]  # a reset, by its boundaries
    assert one.take(55, (50, ((0, 1.0, 10.0, 4.0),))) == [(CUSTOM, 50, 40, 4)]
    assert one.take(65, (60, ((3, -1.0, 1.0, 9.0),))) == [(CUSTOM, 60, 40, None), (EXPONENTIAL, 60, 60, 9)]
    one.take(75, (70, (ten,)))
    assert one.take(400, (395, 1)) == [(CUSTOM, 395, 70, None), (GAUGE, 395, None, 1)]


def test_what_cannot_be_passed_on_is_counted_once_and_ends_its_series() -> None:
    one = Kinds()
    assert one.take(15, (0, (ONE,)), (12, (THREE,))) == [(EXPONENTIAL, 0, 0, 1), (EXPONENTIAL, 12, 0, 3)]
    assert one.take(25, (12, (THREE,)), (22, None)) == [(EXPONENTIAL, 22, 0, None)]
    assert one.take(35, (22, None), (32, None)) == []
    assert +one.scrape.counts.dropped == {"unsupported": 2}
    assert one.take(45, (42, (THREE,))) == [(EXPONENTIAL, 42, 42, 3)]
    assert one.take(55, (52, ((0, 1.0, 2.0, 0.5),))) == [(EXPONENTIAL, 52, 42, None)]
    assert one.take(65, (62, (THREE,))) == []  # a rate, then: it merely happens to be whole
    assert +one.scrape.counts.dropped == {"unsupported": 4}


def test_a_series_without_a_name_is_no_metric() -> None:
    one = scrape()
    samples = [({**POD, "dst": str(number)}, 1.0, float(number)) for number in range(3)]
    assert [name for name, *_ in shown(taken(one, [*samples, total(1, 5)], 10))] == ["request_total"]
    assert one.counts.dropped["unsupported"] == 3


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 5)), max_size=30), st.integers(1, 4))
def test_whatever_the_kinds_each_sample_goes_out_once_and_the_ledger_balances(
    samples: list[tuple[int, int, int]], windows: int
) -> None:
    """(series, number or which histogram, count) every 10 s, dealt into windows."""
    one, out = Kinds(), []
    for window in range(windows):
        for place, (series, kind, count) in enumerate(samples):
            if place % windows == window:
                at = 10 * (len(samples) * window + place) + 1
                value = (count, ((0, 1.0, 2.0, count),), ((0, 1.0, 5.0, count),), None)[kind]
                out += one.take(at + 2, (at, value), pod=f"web-{series}")
    told = [point for point in out if point[3] is not None]
    kinds = [
        (GAUGE, EXPONENTIAL, CUSTOM)[kind]
        for w in range(windows)
        for p, (_, kind, _) in enumerate(samples)
        if p % windows == w and kind < 3
    ]
    assert sorted(kind for kind, *_ in told) == sorted(kinds) or any(kind == 2 for _, kind, _ in samples)
    assert len(told) == len(kinds)
    assert one.scrape.counts.dropped["unsupported"] == sum(kind == 3 for _, kind, _ in samples)


def test_an_empty_window_is_nothing() -> None:
    assert taken(scrape(), [], 10) == []
