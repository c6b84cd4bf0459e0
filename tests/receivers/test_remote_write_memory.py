"""From requests to points: what repeats, what is whole, when streams begin and end, and a ledger that always balances."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide import STALE_NAN, ReceiverCounts, Row
from receivers import remote_write_memory
from receivers.remote_write_memory import AHEAD, MOST_EXEMPLARS, TooMany, Written
from receivers.types import TypeBook
from tests.receivers.remote_write_messages import (
    Labels,
    Request,
    Symbols,
    WriteRequest,
    add_series,
    request_v1,
    request_v2,
)

NS, MS = 10**9, 10**6
T = 1_763_900_000_000  # ms
PATIENCE = 10
BOUNDS = ("1", "10", "+Inf")
Sample = tuple[Labels, float, int]


class Bench:
    """One memory with a clock in ms that stands until it is set."""

    def __init__(self, version: int = 1, **types: Any):
        self.version, self.now = version, T
        self.counts = ReceiverCounts()
        self.written = Written(self.counts, TypeBook(types), patience=PATIENCE * NS)

    def rows(self, ready: Iterable[Any]) -> list[Row]:
        """What goes on; the ledger balances whatever it is."""
        found = []
        for batch in self.written.booked(ready):
            self.counts.out += len(batch)
            found += list(batch.rows())
        assert self.counts.imbalance() == 0
        return found

    def take(self, *samples: Sample) -> list[Row]:
        return self.take_bytes((request_v1 if self.version == 1 else request_v2)(*samples))

    def take_bytes(self, body: bytes) -> list[Row]:
        return self.rows(self.written.take(self.written.read(self.version, body), self.now * MS))

    def later(self, seconds: float) -> list[Row]:
        self.now += round(seconds * 1000)
        return self.rows(self.written.tick(self.now * MS))

    def settle(self, *samples: Sample) -> list[Row]:
        """Take samples, and wait until nothing waits any more."""
        return self.take(*samples) + self.later(PATIENCE)


@pytest.fixture(params=[1, 2])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def labels(name: str, **more: str) -> Labels:
    return {"__name__": name, "direction": "inbound", **more}


def counter(value: float, ms: int) -> Sample:
    return labels("request_total"), value, ms


def histogram(total: float, ms: int, **more: str) -> list[Sample]:
    buckets = [(labels("response_latency_ms_bucket", le=bound, **more), total, ms) for bound in BOUNDS]
    rest = [(labels(f"response_latency_ms_{part}", **more), total, ms) for part in ("count", "sum")]
    return [*buckets, *rest]


def shown(rows: Iterable[Row]) -> Counter[Any]:
    return Counter((str(row.series), row.value, row.time // MS) for row in rows if not row.stale)


def wanted(samples: Iterable[Sample]) -> Counter[Any]:
    return Counter((_text(given), value, ms) for given, value, ms in samples)


def _text(given: Labels) -> str:
    rest = {name: value for name, value in sorted(given.items()) if name != "__name__"}
    return f"{given['__name__']}{{{','.join(f'{name}={value!r}' for name, value in rest.items())}}}".replace("'", '"')


# -- what repeats, what is late ---------------------------------------------------------------------------------------


def test_a_request_that_comes_again_is_repeated(bench: Bench) -> None:
    request = [counter(5.0, T), (labels("up"), 1.0, T)]
    assert shown(bench.take(*request)) == wanted(request)
    assert bench.take(*request) == []
    assert (bench.counts.samples, bench.counts.dropped["repeated"]) == (4, 2)


def test_batches_that_were_sent_at_once_came_together(bench: Bench) -> None:
    bench.take(counter(5.0, T))
    body = (request_v1 if bench.version == 1 else request_v2)(
        (labels("a"), 1.0, T + 1), counter(6.0, T + 1), (labels("b"), 1.0, T + 1)
    )
    batches = [one.batch for one in bench.written.take(bench.written.read(bench.version, body), bench.now * MS)]
    assert len(batches) == 2
    assert batches[0].together is batches[1].together is not None


def test_a_sample_that_is_older_than_the_last_is_repeated(bench: Bench) -> None:
    bench.take(counter(5.0, T))
    assert bench.take(counter(4.0, T - 1)) == []
    assert bench.counts.dropped["repeated"] == 1


def test_many_times_of_one_series_come_in_order(bench: Bench) -> None:
    times = [T + 3, T + 1, T + 2, T + 1]
    rows = bench.take(*(counter(float(ms), ms) for ms in times))
    assert [row.time // MS for row in rows] == [T + 1, T + 2, T + 3]
    assert bench.counts.dropped["repeated"] == 1


def test_a_sample_from_the_future_is_refused(bench: Bench) -> None:
    ahead = T + AHEAD // MS + 1
    decoded = bench.written.read(bench.version, (request_v1 if bench.version == 1 else request_v2)(counter(1.0, ahead)))
    assert bench.rows(bench.written.take(decoded, bench.now * MS)) == []
    assert decoded.refused == 1
    assert "ahead" in decoded.reasons[0]
    assert bench.counts.dropped["bad_line"] == 1
    assert len(bench.take(counter(1.0, T))) == 1


# -- wholes -----------------------------------------------------------------------------------------------------------


def test_the_first_point_of_a_histogram_waits_and_the_next_ones_do_not(bench: Bench) -> None:
    first = histogram(1.0, T)
    assert bench.take(*first) == []
    assert bench.written.held == 5
    assert bench.later(PATIENCE - 1) == []
    assert shown(bench.later(1)) == wanted(first)
    assert shown(bench.take(*histogram(2.0, T + 1))) == wanted(histogram(2.0, T + 1))
    assert bench.counts.dropped["torn"] == 0


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_histogram_that_is_cut_in_two_is_joined(bench: Bench, cut: int) -> None:
    bench.settle(*histogram(1.0, T))
    second = histogram(2.0, T + 1)
    assert bench.take(*second[:cut]) == []
    assert bench.written.held == cut
    rows = bench.take(*second[cut:])
    assert shown(rows) == wanted(second)
    assert {row.start for row in rows} == {T * MS}


def test_a_part_that_never_comes_tears_its_point_and_is_missed_no_more(bench: Bench) -> None:
    bench.settle(*histogram(1.0, T))
    without = [one for one in histogram(2.0, T + 1) if one[0].get("le") != "10"]
    assert bench.settle(*without) == []
    assert bench.counts.dropped["torn"] == 4
    without = [one for one in histogram(3.0, T + 2) if one[0].get("le") != "10"]
    assert shown(bench.take(*without)) == wanted(without)
    bench.take(*histogram(4.0, T + 3))
    assert shown(bench.take(*histogram(5.0, T + 4))) == wanted(histogram(5.0, T + 4))


def test_parts_of_other_shards_may_run_ahead(bench: Bench) -> None:
    bench.settle(*histogram(1.0, T))
    points = [histogram(float(n), T + n) for n in range(2, 6)]
    assert bench.take(*(part for point in points for part in point[:2])) == []
    rows = [row for point in points for row in bench.take(*point[2:])]
    assert shown(rows) == wanted(part for point in points for part in point)
    assert [row.time for row in rows] == sorted(row.time for row in rows)


def test_nothing_is_given_up_while_clients_were_sent_away(bench: Bench) -> None:
    bench.settle(*histogram(1.0, T))
    bench.take(*histogram(2.0, T + 1)[:2])
    bench.written.hindered = (bench.now + 5000) * MS
    assert bench.later(PATIENCE) == []
    assert bench.counts.dropped["torn"] == 0
    assert len(bench.take(*histogram(2.0, T + 1)[2:])) == 5


def test_what_a_former_run_took_a_part_of_is_not_taken_for_whole(bench: Bench) -> None:
    """Of the first point only some parts come; those of another whole, or of the next time, tell that it had more."""
    rest = [one for one in histogram(1.0, T, app="a") if one[0].get("le") != "10"]
    other = histogram(1.0, T, app="b")
    assert shown(bench.settle(*rest, *other)) == wanted(other)
    assert bench.counts.dropped["torn"] == 4
    after = histogram(2.0, T + 1, app="a")
    assert shown(bench.settle(*after)) == wanted(after)


def test_a_histogram_that_has_other_buckets_than_its_kin_is_believed_at_its_second_point(bench: Bench) -> None:
    def few(total: float, ms: int) -> list[Sample]:
        return [one for one in histogram(total, ms, app="a") if one[0].get("le") != "10"]

    bench.settle(*histogram(1.0, T, app="b"), *few(1.0, T))
    assert shown(bench.settle(*few(2.0, T + 1))) == wanted(few(2.0, T + 1))
    assert shown(bench.take(*few(3.0, T + 2))) == wanted(few(3.0, T + 2))
    assert bench.counts.dropped["torn"] == 4


def test_the_end_of_a_bucket_does_not_end_the_histogram(bench: Bench) -> None:
    bench.settle(*histogram(1.0, T))
    point = [(given, STALE_NAN if given.get("le") == "10" else value, ms) for given, value, ms in histogram(2.0, T + 1)]
    assert len(bench.take(*point)) == 4
    assert bench.counts.dropped["folded"] == 1
    without = [one for one in histogram(3.0, T + 2) if one[0].get("le") != "10"]
    assert shown(bench.take(*without)) == wanted(without)


def test_a_summary_is_joined_too(bench: Bench) -> None:
    def summary(value: float, ms: int) -> list[Sample]:
        quantiles = [(labels("gc_seconds", quantile=quantile), value, ms) for quantile in ("0.5", "1")]
        return [*quantiles, (labels("gc_seconds_sum"), value, ms), (labels("gc_seconds_count"), value, ms)]

    bench.settle(*summary(1.0, T))
    assert bench.take(*summary(2.0, T + 1)[:3]) == []
    assert shown(bench.take(*summary(2.0, T + 1)[3:])) == wanted(summary(2.0, T + 1))


shuffles = st.lists(st.integers(1, 40), min_size=3, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), shuffles, st.integers(0, 2**32))
def test_however_requests_are_cut_all_arrives_once_and_in_order(shards: int, sizes: list[int], seed: int) -> None:
    """Shards keep the order of each series; all else is chance: what requests hold, when they come, which come again."""
    rng = random.Random(seed)
    bench = Bench()
    bench.settle(*histogram(0.0, T, app="a"), *histogram(0.0, T, app="b"), counter(0.0, T))
    page = [s for n in range(1, 12) for s in (*histogram(float(n), T + n, app="a"), *histogram(float(n), T + n, app="b"), counter(float(n), T + n))]  # fmt: skip
    numbers: dict[str, int] = {}
    queues: list[list[Sample]] = [[] for _ in range(shards)]
    for sample in page:
        queues[numbers.setdefault(_text(sample[0]), len(numbers)) % shards].append(sample)
    rows: list[Row] = []
    while any(queues):
        queue = rng.choice([queue for queue in queues if queue])
        part = queue[: rng.choice(sizes)]
        rows += bench.take(*part)
        if rng.random() < 0.8:  # else its answer was lost, and it comes again
            del queue[: len(part)]
    assert shown(rows) == wanted(page)
    assert bench.counts.dropped["torn"] == 0
    last: dict[str, int] = {}
    for row in rows:
        assert row.time > last.get(str(row.series), 0)
        last[str(row.series)] = row.time


# -- beginnings and ends ----------------------------------------------------------------------------------------------


def test_a_stale_marker_ends_the_stream_and_the_next_sample_begins_another(bench: Bench) -> None:
    bench.take(counter(5.0, T))
    (end,) = bench.take(counter(STALE_NAN, T + 1))
    assert (end.stale, end.start, bench.counts.samples) == (True, T * MS, 2)
    (row,) = bench.take(counter(6.0, T + 2))
    assert (row.stale, row.start) == (False, row.time)


def test_a_histogram_ends_as_a_whole(bench: Bench) -> None:
    bench.settle(*histogram(1.0, T))
    rows = bench.take(*((given, STALE_NAN, T + 1) for given, _, _ in histogram(0.0, 0)))
    assert [row.stale for row in rows] == [True] * 5
    assert {row.start for row in bench.take(*histogram(9.0, T + 2))} == {(T + 2) * MS}


def test_a_value_that_falls_begins_a_stream_where_the_last_one_was_seen(bench: Bench) -> None:
    starts = [bench.take(counter(value, T + n))[0].start // MS - T for n, value in enumerate((5.0, 6.0, 1.0, 2.0))]
    assert starts == [0, 0, 1, 1]


def test_starts_that_are_sent_are_believed() -> None:
    bench = Bench(2)
    request = Request()
    symbols = Symbols(request)
    symbols.add(labels("request_total"), (5.0, T, T - 50))
    symbols.add(labels("late_total"), (5.0, T, T + 50))
    rows = bench.take_bytes(request.SerializeToString())
    assert {row.series.name: row.start // MS - T for row in rows} == {"request_total": -50, "late_total": 0}


def test_created_series_date_a_stream_and_are_folded(bench: Bench) -> None:
    bench.take(counter(1.0, T), (labels("request_created"), T / 1000 - 60, T))
    (row,) = bench.take(counter(2.0, T + 1), (labels("request_created"), T / 1000 - 60, T + 1))
    assert row.start // MS == T - 60_000
    assert bench.counts.dropped["folded"] == 2


# -- types and targets --------------------------------------------------------------------------------------------------


def test_types_that_come_later_end_the_stream_of_unknown_type() -> None:
    bench = Bench()
    (before,) = bench.take((labels("thing"), 1.0, T))
    assert before.series.family.kind == "unknown"
    request = WriteRequest()
    request.metadata.add(type=1, metric_family_name="thing", help="Things.", unit="seconds")
    (end,) = bench.take_bytes(request.SerializeToString())
    assert (end.stale, end.series) == (True, before.series)
    assert bench.counts.added["stale"] == 1
    (after,) = bench.take((labels("thing"), 2.0, T + 1))
    family = after.series.family
    assert (family.kind, family.typed_by, family.unit, family.help) == ("counter", "metadata", "s", "Things.")


def test_types_of_2_0_are_of_each_series() -> None:
    bench = Bench(2)
    request = Request()
    symbols = Symbols(request)
    symbols.add(labels("thing", job="a"), (1.0, T), type=1, help="Things.", unit="bytes")
    symbols.add(labels("thing", job="b"), (1.0, T), type=2)
    symbols.add(labels("other", job="c"), (1.0, T), type=1, help="Things.", unit="bytes")
    symbols.add(labels("free_gauge"), (1.0, T))
    kinds = {row.series.label("job"): row.series.family for row in bench.take_bytes(request.SerializeToString())}
    assert {job: family.kind for job, family in kinds.items()} == {
        "a": "counter", "b": "gauge", "c": "counter", "": "unknown"
    }  # fmt: skip
    assert (kinds["c"].unit, kinds["c"].help) == ("By", "Things.")


def test_the_operators_word_comes_first() -> None:
    bench = Bench(2, thing="gauge")
    request = Request()
    Symbols(request).add(labels("thing"), (1.0, T), type=1)
    (row,) = bench.take_bytes(request.SerializeToString())
    assert (row.series.family.kind, row.series.family.typed_by) == ("gauge", "operator")


TARGET = {"job": "linkerd-proxy", "instance": "10.0.0.1:4191"}


def test_a_new_target_waits_for_its_up_which_tells_its_labels(bench: Bench) -> None:
    scraped = labels("request_total", pod="web-0", target_addr="x", **TARGET)
    assert bench.take((scraped, 1.0, T)) == []
    assert bench.take((scraped, 2.0, T + 1)) == []
    assert bench.written.held == 2
    rows = bench.take(({"__name__": "up", "pod": "web-0", **TARGET}, 1.0, T))
    assert [row.value for row in rows if row.series.name == "request_total"] == [1.0, 2.0]
    assert {row.series.target.names if row.series.target else None for row in rows} == {frozenset({"job", "instance", "pod"})}  # fmt: skip
    assert len(bench.take((scraped, 3.0, T + 2))) == 1


def test_a_target_without_up_is_waited_for_once(bench: Bench) -> None:
    assert bench.take((labels("request_total", **TARGET), 1.0, T)) == []
    (row,) = bench.later(PATIENCE)
    assert row.series.target is None
    assert len(bench.take((labels("response_total", **TARGET), 1.0, T))) == 1


# -- what is rare -------------------------------------------------------------------------------------------------------


def native(request: Any, ms: int, count: int) -> Any:
    series = add_series(request, labels("latency_seconds"))
    series.histograms.add(count_int=count, zero_count_int=count, sum=1.0, timestamp=ms)
    return series


def test_native_histograms_are_points_of_their_own() -> None:
    bench = Bench()
    request = WriteRequest()
    native(request, T, 7)
    ready = bench.written.take(bench.written.read(1, request.SerializeToString()), T * MS)
    (batch,) = bench.written.booked(ready)
    (series,) = batch.table
    assert (series.name, series.family.kind, series.family.name) == ("latency_seconds", "histogram", "latency_seconds")
    assert batch.values.tolist() == [7.0]
    assert batch.extras is not None
    assert batch.extras[0].native.count == 7.0
    assert bench.counts.samples == 1


def test_a_native_histogram_ends_by_its_sum() -> None:
    bench = Bench()
    request = WriteRequest()
    native(request, T, 7)
    native(request, T + 1, 0).histograms[0].sum = STALE_NAN
    rows = bench.take_bytes(request.SerializeToString())
    assert [row.stale for row in rows] == [False, True]


def test_exemplars_go_with_the_next_sample_of_their_series() -> None:
    bench = Bench()
    request = WriteRequest()
    for number in range(MOST_EXEMPLARS + 2):
        add_series(request, labels("request_total")).exemplars.add(value=float(number), timestamp=T)
    assert bench.take_bytes(request.SerializeToString()) == []
    ready = bench.written.take(bench.written.read(1, request_v1(counter(1.0, T))), T * MS)
    (batch,) = bench.written.booked(ready)
    assert batch.extras is not None
    assert [one.value for one in batch.extras[0].exemplars] == [float(n) for n in range(2, MOST_EXEMPLARS + 2)]


# -- the end ------------------------------------------------------------------------------------------------------------


def seam(bench: Bench) -> Iterator[list[Sample]]:
    bench.settle(*histogram(1.0, T), counter(1.0, T))
    second = histogram(2.0, T + 1)
    bench.take(*second[:2])
    yield [*second[2:], counter(2.0, T + 1)]


def test_at_the_end_only_what_completes_something_is_taken(bench: Bench) -> None:
    (rest,) = seam(bench)
    body = (request_v1 if bench.version == 1 else request_v2)(*rest, (labels("new_total"), 1.0, T + 1))
    decoded = bench.written.read(bench.version, body)
    assert bench.written.opens(decoded)
    assert shown(bench.rows(bench.written.take_rest(decoded, bench.now * MS))) == wanted(histogram(2.0, T + 1))
    assert bench.written.held == 0
    assert len(bench.take(counter(2.0, T + 1), (labels("new_total"), 1.0, T + 1))) == 2


def test_a_request_that_opens_nothing_may_be_taken_at_the_end(bench: Bench) -> None:
    (rest,) = seam(bench)
    assert not bench.written.opens(bench.written.read(bench.version, (request_v1 if bench.version == 1 else request_v2)(*rest)))  # fmt: skip
    assert len(bench.take(*rest)) == 6


def test_what_waits_to_the_very_end_is_decided(bench: Bench) -> None:
    bench.take(*histogram(1.0, T), (labels("request_total", **TARGET), 1.0, T))
    assert len(bench.rows(bench.written.finish(bench.now * MS))) == 6
    bench.take(*histogram(2.0, T + 1)[:4])
    assert bench.rows(bench.written.finish(bench.now * MS)) == []
    assert bench.counts.dropped["torn"] == 4
    assert bench.written.held == 0


def test_series_that_are_silent_for_long_are_forgotten(bench: Bench) -> None:
    bench.settle(*histogram(1.0, T), counter(1.0, T))
    bench.take(counter(STALE_NAN, T + 1))
    assert len(bench.written.readers[bench.version].known) == 6
    bench.later(700)
    assert len(bench.written.readers[bench.version].known) == 5
    bench.later(3600)
    assert not bench.written.readers[bench.version].known
    bench.now += 1
    assert len(bench.settle(*histogram(1.0, bench.now), counter(1.0, bench.now))) == 6


def test_a_request_that_cannot_be_read_leaves_nothing(bench: Bench) -> None:
    body = (request_v1 if bench.version == 1 else request_v2)(counter(1.0, T), (labels("other_total"), 1.0, T))
    with pytest.raises(Exception, match="byte"):
        bench.written.read(bench.version, body[:-1])
    assert len(bench.take_bytes(body)) == 2


def test_of_two_values_of_one_moment_the_first_stays_whatever_their_form(bench: Bench) -> None:
    bench.take(counter(7.0, T))
    for number, values in enumerate(((0.0, 5.0), (5.0, 0.0)), 1):
        assert [row.value for row in bench.take(*(counter(value, T + number) for value in values))] == [values[0]]


def test_a_long_history_of_one_series_in_one_request_is_too_much(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_write_memory, "MOST_TIMES", 3)
    rows = bench.take(*(counter(1.0, T + n) for n in range(3)), *((labels("x", n=str(n)), 1.0, T) for n in range(9)))
    assert len(rows) == 12
    body = (request_v1 if bench.version == 1 else request_v2)(*(counter(1.0, T + 9 + n) for n in range(4)))
    with pytest.raises(TooMany, match="4 samples of one series, 3 are allowed"):
        bench.written.read(bench.version, body)
