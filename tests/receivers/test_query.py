"""The receiver `query` against a server that keeps samples and answers range selectors as Prometheus does."""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable
from email.utils import formatdate
from itertools import repeat
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from agent.scripted import Connection, Request, answer, serve, then_hang
from ebbtide import Batch, Context, ReceiveError, ReceiverCounts
from receivers.query import LINKERD, Query, QuerySettings
from receivers.query_cursor import write_note
from tests.receivers.sent_points import data_of

S = 1000  # ms
NOW = 1_800_000_000 * S
JSON = {"Content-Type": "application/json"}
Labels = tuple[tuple[str, str], ...]
Seen = list[tuple[str, float, int]]  # series, value, ms


class Prometheus:
    """Samples by series; one becomes visible some time after its own. ``closed``: ranges are closed on both ends."""

    def __init__(self, closed: bool = True):
        self.closed = closed
        self.now = NOW
        self.most = 10**9
        self.samples: dict[Labels, list[tuple[int, float, int]]] = defaultdict(list)
        self.asked: list[tuple[str, int, int]] = []  # selector, begin, end in ms
        self.fails: Callable[[str], bytes | None] = lambda query: None
        self.clock: Callable[[], int] | None = None
        self.breaks_after = 0  # bytes of an answer; 0: never
        self.on_time: Callable[[float], None] = lambda time: None

    def scrape(self, at: int, value: float, pod: str = "web-0", name: str = "request_total", late: int = 0) -> None:
        labels = (("__name__", name), ("instance", f"{pod}:4191"), ("job", "linkerd-proxy"), ("pod", pod))
        self.samples[labels].append((at, value, at + late))

    async def answer(self, connection: Connection, request: Request) -> None:
        parts = urlsplit(request.target)
        if parts.path != "/api/v1/query":
            await self.say(connection, answer(404, b"not found"))
            return
        given = parse_qs(request.body.decode() or parts.query)
        (query,), (time,) = given["query"], given["time"]
        self.on_time(float(time))
        await self.say(connection, self.fails(query) or self.evaluate(query, round(float(time) * 1000)))

    async def say(self, connection: Connection, whole: bytes) -> None:
        """Answer, with the time by this server's clock if it has one."""
        if self.clock is not None:
            date = formatdate(self.clock() // S, usegmt=True).encode()
            whole = whole.replace(b"\r\n", b"\r\nDate: " + date + b"\r\n", 1)
        if self.breaks_after:
            await connection.send_all(whole[: self.breaks_after])
            await connection.aclose()
        else:
            await connection.send_all(whole)

    def evaluate(self, query: str, end: int) -> bytes:
        match = re.fullmatch(r'\{pod=~"(.*)"\}\[([0-9]+)ms\]', query)
        if match is None:
            return answer(400, b'{"status":"error","errorType":"bad_data","error":"parse error"}', JSON)
        begin = end - int(match[2])
        self.asked.append((match[1], begin, end))
        result, count = [], 0
        for labels, samples in sorted(self.samples.items()):
            values = [
                [at / 1000, f"{value:g}"]
                for at, value, visible in samples
                if (begin <= at if self.closed else begin < at) and at <= end and visible <= self.now
            ]
            if values and re.fullmatch(match[1], dict(labels)["pod"]):
                result.append({"metric": dict(labels), "values": values})
                count += len(values)
        if count > self.most:
            return answer(422, b'{"status":"error","errorType":"execution","error":"too many samples"}', JSON)
        tree = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        return answer(200, json.dumps(tree, separators=(",", ":")).encode(), JSON)


class Notes:
    """A checkpoint in memory."""

    def __init__(self, note: bytes | None = None) -> None:
        self.note = note

    def load(self) -> bytes | None:
        return self.note

    def save(self, note: bytes) -> None:
        self.note = note


class Polled:
    """A receiver, and all that it emitted."""

    def __init__(self, server: Prometheus, url: str, notes: Notes | None = None, **options: Any):
        given = {"url": url, "match": ['{pod=~".+"}'], "scrape_metrics": False, "delay": "15s", **options}
        self.batches: list[Batch] = []
        self.server = server
        self.counts = ReceiverCounts()
        context = Context("linkerd", self.counts, now=lambda: server.now * 10**6, checkpoint=notes)
        self.receiver = Query(QuerySettings.model_validate({"interval": "30s", **given}), context)

    async def emit(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        self.counts.out += len(batch)
        self.batches.append(batch)

    async def poll(self, at: int | None = None) -> Seen:
        """Poll at this time; return what was emitted, in order."""
        self.server.now = self.server.now if at is None else at
        before = len(self.batches)
        await self.receiver.poll(self.emit)
        assert self.counts.imbalance() == 0
        return [
            (f"{row.series.name} {row.series.label('pod')}", row.value, row.time // 10**6)
            for batch in self.batches[before:]
            for row in batch.rows()
        ]


@pytest.fixture(params=["closed", "half-open"])
def prometheus(request: pytest.FixtureRequest) -> Prometheus:
    return Prometheus(request.param == "closed")


@pytest.fixture
async def url(prometheus: Prometheus, nursery: trio.Nursery) -> str:
    return (await serve(nursery, repeat(prometheus.answer))).url


def every(server: Prometheus, seconds: int, begin: int, end: int, **more: Any) -> list[tuple[int, float]]:
    """Scrape a counter that grows by one each time."""
    made = [(at, float(n)) for n, at in enumerate(range(begin, end, seconds * S), 1)]
    for at, value in made:
        server.scrape(at, value, **more)
    return made


async def test_every_raw_sample_arrives_once_however_slow_the_polls(prometheus: Prometheus, url: str) -> None:
    made = every(prometheus, 10, NOW - 40 * S, NOW + 400 * S)
    polled = Polled(prometheus, url)
    seen = [one for at in (0, 30, 60, 61, 200, 330) for one in await polled.poll(NOW + at * S)]
    expected = [(value, at) for at, value in made if NOW - 45 * S < at <= NOW + 315 * S]
    assert [(value, at) for _, value, at in seen] == expected
    assert polled.counts.samples == len(expected)
    assert polled.counts.dropped.total() == 0
    assert polled.counts.polls == 6
    assert polled.counts.read_until == (NOW + 315 * S) / 1000
    await polled.receiver.aclose()


async def test_a_sample_at_a_windows_edge_arrives_once(prometheus: Prometheus, url: str) -> None:
    for at in (-45, -15, 15, 45):
        prometheus.scrape(NOW + at * S, float(at))
    polled = Polled(prometheus, url)
    seen = [value for at in (0, 30, 60) for _, value, _ in await polled.poll(NOW + at * S)]
    assert seen == [-15, 15, 45]
    await polled.receiver.aclose()


async def test_a_late_sample_is_taken_once(prometheus: Prometheus, url: str) -> None:
    prometheus.scrape(NOW - 17 * S, 1.0, pod="a")
    prometheus.scrape(NOW - 17 * S, 1.0, pod="b", late=20 * S)  # visible after the window that it belongs to was read
    polled = Polled(prometheus, url)
    seen = [await polled.poll(NOW + at * S) for at in (0, 30, 60)]
    assert seen == [[("request_total a", 1.0, NOW - 17 * S)], [("request_total b", 1.0, NOW - 17 * S)], []]
    assert polled.counts.dropped.total() == 0
    await polled.receiver.aclose()


async def test_a_series_that_two_selectors_give_is_taken_once(prometheus: Prometheus, url: str) -> None:
    made = every(prometheus, 10, NOW - 40 * S, NOW)
    polled = Polled(prometheus, url, match=['{pod=~".+"}', '{pod=~"web-.*"}'])
    assert [at for _, _, at in await polled.poll()] == [at for at, _ in made if at <= NOW - 15 * S]
    assert polled.counts.samples == len(polled.batches) == 3
    await polled.receiver.aclose()


async def test_without_a_checkpoint_nothing_older_than_an_interval_is_read(prometheus: Prometheus, url: str) -> None:
    every(prometheus, 10, NOW - 3600 * S, NOW)
    polled = Polled(prometheus, url)
    assert {at > NOW - 45 * S for _, _, at in await polled.poll()} == {True}
    assert polled.counts.backfilled == 0
    await polled.receiver.aclose()


async def test_the_hole_since_a_checkpoint_is_read_oldest_first_and_nothing_twice(
    prometheus: Prometheus, url: str, autojump_clock: object
) -> None:
    made = every(prometheus, 10, NOW - 3600 * S, NOW)
    notes = Notes()
    polled = Polled(prometheus, url, notes)
    first = await polled.poll(NOW - 3000 * S)
    await polled.receiver.aclose()
    again = Polled(prometheus, url, notes, chunk="5m")
    second = await again.poll(NOW)
    times = [at for _, _, at in first + second]
    assert times == [at for at, _ in made if NOW - 3045 * S < at <= NOW - 15 * S]
    assert all(end - begin <= 300 * S + 5001 for _, begin, end in prometheus.asked)
    assert again.counts.backfilled == len([at for at in times if NOW - 3015 * S < at <= NOW - 15 * S]) - len(
        [at for _, _, at in second if at > NOW - 15 * S - 300 * S and at > prometheus.asked[-1][1] + 5001]
    )
    await again.receiver.aclose()


@pytest.mark.parametrize(("backfill", "oldest"), [("10m", 600), ("0s", 45), ("6h", 3000)])
async def test_backfill_bounds_how_far_back_is_read(
    prometheus: Prometheus, url: str, backfill: str, oldest: int, autojump_clock: object
) -> None:
    every(prometheus, 10, NOW - 3600 * S, NOW)
    notes = Notes(write_note(NOW - 3000 * S, url))
    polled = Polled(prometheus, url, notes, backfill=backfill)
    seen = await polled.poll()
    assert min(at for _, _, at in seen) == NOW - oldest * S + (10 if oldest != 45 else 5) * S
    await polled.receiver.aclose()


async def test_a_note_of_another_source_is_said_and_not_used(
    prometheus: Prometheus, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes(write_note(NOW - 3000 * S, "http://other"))
    polled = Polled(prometheus, url, notes)
    await polled.poll()
    assert prometheus.asked == [(".+", NOW - 45 * S - 1, NOW - 15 * S)]
    assert "cannot go on where the last run stopped: it is of another url; beginning anew" in caplog.text
    await polled.receiver.aclose()


async def test_a_server_that_has_enough_is_asked_for_less(
    prometheus: Prometheus, url: str, autojump_clock: object
) -> None:
    made = every(prometheus, 1, NOW - 2000 * S, NOW)
    prometheus.most = 50
    notes = Notes(write_note(NOW - 1000 * S, url))
    polled = Polled(prometheus, url, notes)
    seen = await polled.poll()
    assert [at for _, _, at in seen] == [at for at, _ in made if NOW - 1000 * S < at <= NOW - 15 * S]
    assert polled.counts.failed_polls == 0
    await polled.receiver.aclose()


async def test_an_answer_that_breaks_off_counts_for_nothing(prometheus: Prometheus, url: str) -> None:
    made = every(prometheus, 10, NOW - 40 * S, NOW + 100 * S)
    other = every(prometheus, 10, NOW - 38 * S, NOW + 100 * S, pod="db-0")
    polled = Polled(prometheus, url)
    whole = prometheus.evaluate(f'{{pod=~".+"}}[{31 * S}ms]', NOW - 15 * S)
    prometheus.asked.clear()
    for length in (len(whole) - 2, len(whole) - 40, len(whole) // 2):
        prometheus.breaks_after = length
        with pytest.raises(ReceiveError, match="cannot"):
            await polled.poll(NOW)
    prometheus.breaks_after = 0
    seen = [one for at in (10, 40) for one in await polled.poll(NOW + at * S)]
    times = [at for at, _ in made + other if NOW - 45 * S < at <= NOW + 25 * S]
    assert sorted(at for _, _, at in seen) == sorted(times)
    assert (polled.counts.samples, polled.counts.failed_polls) == (len(times), 3)
    await polled.receiver.aclose()


async def test_an_expression_is_asked_at_the_servers_time(prometheus: Prometheus, url: str) -> None:
    prometheus.clock = lambda: prometheus.now - 400 * S
    asked: list[float] = []
    prometheus.on_time = asked.append
    vector = {"status": "success", "data": {"resultType": "vector", "result": []}}
    prometheus.fails = lambda query: answer(200, json.dumps(vector).encode(), JSON) if query == "good" else None
    polled = Polled(prometheus, url, match=[], queries=[{"name": "rate", "query": "good"}])
    await polled.poll()
    await polled.poll()
    assert asked == [NOW / S, NOW / S - 399]  # the first answer has told
    await polled.receiver.aclose()


async def test_rates_of_histograms_are_told_with_a_cure(
    prometheus: Prometheus, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    rate = {"count": "0.5", "sum": "1", "buckets": [[0, "1", "2", "0.5"]]}
    vector = {
        "status": "success",
        "data": {"resultType": "vector", "result": [{"metric": {}, "histogram": [NOW / S, rate]}]},
    }
    prometheus.fails = lambda query: answer(200, json.dumps(vector).encode(), JSON)
    polled = Polled(prometheus, url, match=[], queries=[{"name": "rate", "query": "rate(h[1m])"}])
    assert await polled.poll() == []
    assert polled.counts.dropped["unsupported"] == 1
    assert "cannot pass on the histograms of query rate: their counts are no whole numbers" in caplog.text
    await polled.receiver.aclose()


async def test_selectors_of_one_window_share_what_can_be_held(
    prometheus: Prometheus, url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.setattr("receivers.query_server.MOST_SAMPLES", 20)
    made = every(prometheus, 1, NOW - 100 * S, NOW)
    other = every(prometheus, 1, NOW - 100 * S, NOW, pod="db-0")
    polled = Polled(prometheus, url, match=['{pod=~"web-.*"}', '{pod=~"db-.*"}'])
    seen = await polled.poll()
    assert sorted(at for _, _, at in seen) == sorted(at for at, _ in made + other if NOW - 45 * S < at <= NOW - 15 * S)
    assert max(end - begin for _, begin, end in prometheus.asked[-3:]) < 12 * S
    await polled.receiver.aclose()


async def test_a_poll_fails_with_the_servers_own_words_and_the_next_one_reads_what_it_missed(
    prometheus: Prometheus, url: str
) -> None:
    made = every(prometheus, 10, NOW - 40 * S, NOW + 100 * S)
    polled = Polled(prometheus, url)
    prometheus.fails = lambda query: answer(
        500, b'{"status":"error","errorType":"internal","error":"disk on fire"}', JSON
    )
    with pytest.raises(ReceiveError, match="the server answered 500, 'disk on fire'"):
        await polled.poll(NOW)
    assert (polled.counts.polls, polled.counts.failed_polls) == (1, 1)
    prometheus.fails = lambda query: None
    seen = await polled.poll(NOW + 60 * S)
    assert [at for _, _, at in seen] == [at for at, _ in made if NOW - 45 * S < at <= NOW + 45 * S]
    await polled.receiver.aclose()


async def test_even_the_shortest_window_may_be_too_much(
    prometheus: Prometheus, url: str, autojump_clock: object
) -> None:
    prometheus.most = 0
    prometheus.scrape(NOW - 20 * S, 1.0)
    polled = Polled(prometheus, url)
    with pytest.raises(ReceiveError, match="too many samples"):
        await polled.poll()
    await polled.receiver.aclose()


async def test_an_expression_and_raw_samples_do_not_disturb_each_other(
    prometheus: Prometheus, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    prometheus.scrape(NOW - 20 * S, 1.0)
    vector = {"status": "success", "warnings": ["beware"], "data": {"resultType": "vector", "result": [{"metric": {"pod": "x"}, "value": [NOW / 1000, "0.5"]}]}}  # fmt: skip
    prometheus.fails = lambda query: answer(200, json.dumps(vector).encode(), JSON) if query == "good" else None
    polled = Polled(prometheus, url, queries=[{"name": "bad", "query": "nonsense"}, {"name": "rate", "query": "good"}])
    with pytest.raises(ReceiveError, match=r"bad: cannot query .*'parse error'; correct"):
        await polled.poll()
    assert [str(row.series) for batch in polled.batches for row in batch.rows()][1:] == ['rate{pod="x"}']
    assert len(polled.batches) == 2
    assert polled.counts.failed_polls == 1
    assert "receivers.linkerd: the server warns: beware" in caplog.text
    await polled.receiver.aclose()


async def test_what_is_taken_by_default(prometheus: Prometheus) -> None:
    assert QuerySettings(url="http://h").selectors == list(LINKERD)
    assert QuerySettings.model_validate({"url": "http://h", "queries": [{"name": "a", "query": "b"}]}).selectors == []


async def test_a_reload_goes_on_where_the_former_one_stopped(prometheus: Prometheus, url: str) -> None:
    made = every(prometheus, 10, NOW - 40 * S, NOW + 100 * S)
    old = Polled(prometheus, url)
    first = await old.poll(NOW)
    new = Polled(prometheus, url, interval="20s")
    new.receiver.inherit(old.receiver)
    second = await new.poll(NOW + 60 * S)
    assert [at for _, _, at in first + second] == [at for at, _ in made if NOW - 45 * S < at <= NOW + 45 * S]
    starts = {row.start for batch in new.batches for row in batch.rows()}
    assert starts == {0} or len(starts) == 1
    for polled in (old, new):
        await polled.receiver.aclose()


async def test_one_that_is_asked_to_leave_stops_between_two_windows(
    prometheus: Prometheus, url: str, autojump_clock: object
) -> None:
    every(prometheus, 10, NOW - 3600 * S, NOW)
    notes = Notes(write_note(NOW - 3000 * S, url))
    polled = Polled(prometheus, url, notes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(polled.poll)
        while not polled.batches:
            await trio.lowlevel.checkpoint()
        assert polled.receiver.leave()
    assert len(prometheus.asked) < 4
    await polled.receiver.aclose()


async def test_the_polls_own_series(prometheus: Prometheus, url: str) -> None:
    prometheus.scrape(NOW - 20 * S, 1.0)
    polled = Polled(prometheus, url, scrape_metrics=True)
    seen = {series.split()[0]: value for series, value, _ in await polled.poll()}
    assert seen["up"] == 1.0
    assert seen["scrape_samples_scraped"] == 1.0
    assert polled.counts.added["scrape"] == 5
    await polled.receiver.aclose()


NATIVE = {"count": "3", "sum": "2.5", "buckets": [[3, "-0.001", "0.001", "1"], [0, "1", "2", "2"]]}


async def test_native_histograms_are_passed_on_whole(prometheus: Prometheus, url: str) -> None:
    def matrix(query: str) -> bytes:
        end = prometheus.now - 15 * S
        points = [
            [(end - 20 * S) / 1000, NATIVE],
            [(end - 10 * S) / 1000, {**NATIVE, "count": "5", "buckets": [[0, "1", "2", "5"]]}],
        ]
        odd = {"count": "1", "sum": "1", "buckets": [[0, "0.1", "0.25", "1"]]}
        metric = {"__name__": "request_seconds", "job": "linkerd-proxy", "instance": "10.0.0.1:4191", "pod": "web-0"}
        result = [
            {"metric": metric, "histograms": points},
            {"metric": {**metric, "pod": "db-0"}, "histograms": [[(end - 10 * S) / 1000, odd]]},
            {"metric": {**metric, "pod": "db-1"}, "histograms": [[(end - 10 * S) / 1000, {"count": "one"}]]},
            {"metric": {**metric, "__name__": "request_total"}, "values": [[(end - 10 * S) / 1000, "7"]]},
        ]
        tree = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        return answer(200, json.dumps(tree, separators=(",", ":")).encode(), JSON)

    prometheus.fails = matrix
    polled = Polled(prometheus, url)
    for later in (0, 30, 60):
        await polled.poll(NOW + later * S)
    rows = [row for batch in polled.batches for row in batch.rows() if row.extra is not None]
    natives = [row.extra.native for row in rows if row.extra is not None and row.extra.native is not None]
    assert [(data_of(row), row.value) for row in rows] == [
        ("exponential_histogram", 3), ("exponential_histogram", 5), ("histogram", 1),
    ] * 3  # fmt: skip
    assert {(row.series.name, row.series.family.kind, row.start) for row in rows if row.value == 5} == {
        ("request_seconds", "histogram", (NOW + at * S) * 10**6) for at in (-35, -35 + 30 - 20, 5)
    }  # fmt: skip
    first, _, custom = natives[:3]
    assert (first.schema, first.zero_count, first.positive.offset, first.positive.counts) == (0, 1, 1, (2,))
    assert (custom.custom_bounds, custom.positive.counts) == ((0.1, 0.25), (1,))
    assert +polled.counts.dropped == {"unsupported": 3}
    assert polled.counts.samples == 15
    await polled.receiver.aclose()


async def test_a_clock_that_goes_on_while_a_poll_reads_does_not_keep_it(
    prometheus: Prometheus, url: str, autojump_clock: object
) -> None:
    every(prometheus, 10, NOW - 100 * S, NOW + 100 * S)
    polled = Polled(prometheus, url)
    polled.receiver.context.now = lambda: NOW * 10**6 + round(trio.current_time() * 10**9)
    fails = prometheus.fails

    def takes_its_time(query: str) -> bytes | None:
        prometheus.now += 100
        polled.receiver.context.now = lambda: prometheus.now * 10**6
        return fails(query)

    prometheus.fails = takes_its_time
    await polled.receiver.poll(polled.emit)
    assert len(prometheus.asked) == 1
    await polled.receiver.aclose()


async def test_a_long_hole_is_read_in_several_polls_which_do_all_that_polls_do(
    prometheus: Prometheus, url: str, autojump_clock: object
) -> None:
    made = every(prometheus, 10, NOW - 4000 * S, NOW)
    vector = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "1"]}]}}

    def slow(query: str) -> bytes | None:
        return answer(200, json.dumps(vector).encode(), JSON) if query == "good" else None

    prometheus.fails = slow
    notes = Notes(write_note(NOW - 3000 * S, url))
    polled = Polled(prometheus, url, notes, chunk="1m", queries=[{"name": "rate", "query": "good"}])
    emit = polled.emit

    async def slow_emit(batch: Batch) -> None:
        await trio.sleep(2)
        await emit(batch)

    polled.emit = slow_emit  # type: ignore[method-assign]
    seen, polls = [], 0
    while polled.counts.read_until < NOW / 1000 - 15:
        part = await polled.poll()
        assert polls or "rate " in {name for name, _, _ in part}
        seen += part
        polls += 1
    assert polls > 3
    raw = [at for name, _, at in seen if name != "rate "]
    assert raw == [at for at, _ in made if NOW - 3000 * S < at <= NOW - 15 * S]
    assert polled.counts.backfilled == len([at for at in raw if at <= NOW - 45 * S])
    await polled.receiver.aclose()


async def test_a_clock_ahead_of_the_servers_passes_over_nothing(
    prometheus: Prometheus, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = every(prometheus, 10, NOW - 200 * S, NOW + 100 * S)
    prometheus.clock = lambda: prometheus.now - 120 * S
    polled = Polled(prometheus, url)
    seen = [at for later in (0, 30, 60) for _, _, at in await polled.poll(NOW + later * S)]
    first, last = NOW - 164 * S, NOW - 75 * S
    assert [at for at in seen if at <= last] == [at for at, _ in made if first <= at <= last]
    assert "the clock here is 119 s ahead of the server's" in caplog.text
    await polled.receiver.aclose()


async def test_a_note_of_a_time_to_come_is_not_believed(
    prometheus: Prometheus, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    polled = Polled(prometheus, url, Notes(write_note(NOW + 1, url)))
    await polled.poll()
    assert prometheus.asked == [(".+", NOW - 45 * S - 1, NOW - 15 * S)]
    assert "by the clock that is yet to come" in caplog.text
    await polled.receiver.aclose()


async def test_a_note_younger_than_what_is_complete_waits_for_its_time(prometheus: Prometheus, url: str) -> None:
    every(prometheus, 10, NOW - 100 * S, NOW)
    polled = Polled(prometheus, url, Notes(write_note(NOW - 5 * S, url)))
    assert await polled.poll() == []
    assert prometheus.asked == []
    await polled.receiver.aclose()


async def test_a_limit_of_samples_makes_the_questions_smaller(
    prometheus: Prometheus, url: str, autojump_clock: object
) -> None:
    made = every(prometheus, 1, NOW - 100 * S, NOW)
    polled = Polled(prometheus, url, sample_limit=12)
    assert [at for _, _, at in await polled.poll()] == [at for at, _ in made if NOW - 45 * S < at <= NOW - 15 * S]
    await polled.receiver.aclose()


async def test_other_selectors_go_on_where_the_former_ones_stopped(prometheus: Prometheus, url: str) -> None:
    made = every(prometheus, 10, NOW - 100 * S, NOW + 100 * S)
    other = every(prometheus, 10, NOW - 99 * S, NOW + 100 * S, pod="db-0")
    old = Polled(prometheus, url, match=['{pod=~"web-0"}'])
    await old.poll()
    new = Polled(prometheus, url)
    new.receiver.inherit(old.receiver)
    seen = {at for _, _, at in await new.poll(NOW + 30 * S)}
    assert seen == {at for at, _ in made + other if NOW - 15 * S < at <= NOW + 15 * S} | {
        at
        for at, _ in other
        if NOW - 20 * S < at <= NOW - 15 * S  # late, as far as can be seen
    }
    for polled in (old, new):
        await polled.receiver.aclose()


async def test_a_window_is_handed_on_whole_or_not_at_all(
    prometheus: Prometheus, url: str, autojump_clock: object
) -> None:
    every(prometheus, 10, NOW - 3600 * S, NOW)
    notes = Notes(write_note(NOW - 3000 * S, url))
    polled = Polled(prometheus, url, notes)

    async def cancels(batch: Batch) -> None:
        await polled.emit(batch)
        scope.cancel()

    with trio.CancelScope() as scope:
        await polled.receiver.poll(cancels)
    assert scope.cancelled_caught
    assert notes.note == write_note(NOW - 2700 * S, url)
    assert polled.counts.out == polled.counts.samples == 30
    await polled.receiver.aclose()


async def test_a_server_that_says_nothing_fails_the_poll_at_once(nursery: trio.Nursery, autojump_clock: object) -> None:
    server = await serve(nursery, repeat(then_hang()))
    polled = Polled(Prometheus(), server.url)
    began = trio.current_time()
    with pytest.raises(ReceiveError, match="it took more than 10s"):
        await polled.poll()
    assert trio.current_time() - began < 21
    await polled.receiver.aclose()


def test_its_source_can_wait() -> None:
    assert Query.waits


def test_what_cannot_be_asked() -> None:
    logging.getLogger("ebbtide").debug("settings alone")
    for wrong in ({"match": [""]}, {"url": "ftp://h"}, {"queries": [{"name": "x"}]}, {"chunk": "0s"}):
        with pytest.raises(ValueError):
            QuerySettings.model_validate({"url": "http://h", **wrong})
