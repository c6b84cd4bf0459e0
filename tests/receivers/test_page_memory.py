"""Pages of targets, one after the other: what goes out, what ends, when streams begin."""

from __future__ import annotations

import random
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide import Row
from receivers.exposition import BadPage, family_of, parse_page
from receivers.page_source import PageSource
from receivers.proxy_pages import Answered
from tests.receivers.page_harness import SECOND, T0, TARGET, Targets, reports, scraped, values

COUNTER = "# TYPE request_total counter\n"


def histogram(count: int, name: str = "latency_ms") -> str:
    lines = [f"# TYPE {name} histogram\n"]
    lines += [f'{name}_bucket{{le="{le}"}} {count}\n' for le in ("1", "10", "+Inf")]
    return "".join([*lines, f"{name}_sum 9\n{name}_count {count}\n"])


# -- a poll ----------------------------------------------------------------------------------------------------------


def test_samples_carry_the_poll_s_time_the_target_s_labels_and_the_page_s_type() -> None:
    rows = Targets().take(COUNTER + 'request_total{direction="inbound"} 7\n')
    (row,) = scraped(rows)
    assert (row.value, row.time, row.series.family.kind) == (7.0, T0, "counter")
    assert row.series.labels == {**TARGET, "direction": "inbound"}
    assert row.series.target is not None
    assert row.series.target.names == {"job", "instance"}
    assert reports(rows) == {
        "up": 1,
        "scrape_duration_seconds": 0.5,
        "scrape_samples_scraped": 1,
        "scrape_samples_post_metric_relabeling": 1,
        "scrape_series_added": 1,
    }


def test_reports_can_be_left_out() -> None:
    targets = Targets(reports=False)
    assert values(rows := targets.take("a 1\n")) == {"a": 1}
    assert len(rows) == 1
    assert targets.take(None, at=10)[0].stale


def test_a_page_without_samples_is_a_good_page() -> None:
    targets = Targets()
    targets.take("a 1\n")
    rows = targets.take(b"", at=10)
    assert values(rows) == {"a": "ended"}
    assert reports(rows)["up"] == 1


def test_a_last_line_may_lack_its_end() -> None:
    assert values(Targets().take("a 1\nb 2")) == {"a": 1, "b": 2}


def test_of_series_that_stand_twice_the_first_counts() -> None:
    targets = Targets()
    for at in (0, 10):
        assert values(targets.take('a{x="1",y="2"} 1\na{y="2",x="1"} 2\na{x="1",y="2"} 3\n', at=at)) == {
            "a{x=1,y=2}": 1
        }
    assert targets.counts.dropped["duplicate"] == 4
    assert targets.counts.samples == 6


def test_a_page_s_own_up_does_not_take_the_receiver_s_place() -> None:
    targets = Targets()
    rows = targets.take("up 0\na 1\n")
    assert reports(rows)["up"] == 1
    assert values(rows) == {"a": 1}
    assert targets.counts.dropped["duplicate"] == 1


def test_own_timestamps_are_believed_or_not() -> None:
    page = "a 1 1795362005000\nb 2\n"
    for honor, time in ((True, 1_795_362_005 * SECOND), (False, T0)):
        rows = scraped(Targets(honor_timestamps=honor).take(page))
        assert {row.series.name: row.time for row in rows} == {"a": time, "b": T0}


def test_what_was_delivered_is_not_delivered_again() -> None:
    targets = Targets()
    page = histogram(3).replace(" 3\n", " 3 1795361999000\n").replace(" 9\n", " 9 1795361999000\n")
    assert len(scraped(targets.take(page))) == 5
    assert scraped(targets.take(page, at=10)) == []
    assert targets.counts.dropped["repeated"] == 5


def test_series_with_timestamps_of_their_own_are_not_ended() -> None:
    targets = Targets()
    targets.take("a 1 1795361999000\nb 2\n")
    assert values(targets.take(None, at=10)) == {"b": "ended"}
    assert values(targets.take("c 1\n", at=20)) == {"c": 1}


# -- ends and starts -------------------------------------------------------------------------------------------------


def test_a_series_that_is_missing_ends_at_once_and_once() -> None:
    targets = Targets()
    targets.take("a 1\nb 2\n")
    rows = targets.take("a 1\n", at=10)
    assert values(rows) == {"a": 1, "b": "ended"}
    assert [row.time for row in rows if row.stale] == [T0 + 10 * SECOND]
    assert values(targets.take("a 1\n", at=20)) == {"a": 1}
    assert targets.counts.added["stale"] == 1


def test_a_failed_poll_ends_all_series_and_says_so_until_it_is_over() -> None:
    targets = Targets()
    targets.take("a 1\nb 2\n")
    rows = targets.take(None, at=10)
    assert values(rows) == {"a": "ended", "b": "ended"}
    assert reports(rows) == dict.fromkeys(reports(rows), 0) | {"scrape_duration_seconds": 0.5}
    assert values(targets.take(None, at=20)) == {}
    rows = targets.take("a 1\nb 2\n", at=30)
    assert values(rows) == {"a": 1, "b": 2}
    assert reports(rows)["scrape_series_added"] == 0


def starts(rows: list[Row]) -> dict[str, int]:
    return {row.series.name: (row.start - T0) // SECOND for row in scraped(rows)}


def test_a_counter_begins_at_first_sight_and_again_where_it_falls() -> None:
    targets = Targets()
    polls = [(0, 5, 0), (10, 7, 0), (20, 3, 20), (30, 4, 20)]
    for at, value, start in polls:
        assert starts(targets.take(f"{COUNTER}request_total {value}\n", at=at)) == {"request_total": start}


def test_a_series_that_expired_begins_anew_when_it_returns_even_with_a_higher_value() -> None:
    targets = Targets()
    targets.take(COUNTER + "request_total 5\nother 1\n")
    targets.take("other 1\n", at=10)
    assert starts(targets.take(COUNTER + "request_total 9\nother 1\n", at=20))["request_total"] == 20


@pytest.mark.parametrize(("value", "start"), [(5, 0), (4, 20)])
def test_a_target_that_was_away_goes_on_unless_its_values_fell(value: int, start: int) -> None:
    targets = Targets()
    targets.take(COUNTER + "request_total 5\n")
    targets.take(None, at=10)
    assert starts(targets.take(f"{COUNTER}request_total {value}\n", at=20))["request_total"] == start


def test_a_histogram_begins_with_its_count() -> None:
    targets = Targets()
    targets.take(histogram(5))
    assert set(starts(targets.take(histogram(7), at=10)).values()) == {0}
    assert set(starts(targets.take(histogram(2), at=20)).values()) == {20}


def test_starts_can_be_left_unset() -> None:
    targets = Targets(track_starts=False)
    assert [row.start for row in targets.take(COUNTER + "request_total 5\n")] == [0] * 6


def test_created_dates_its_stream_and_is_no_series() -> None:
    targets = Targets()
    page = COUNTER + '# TYPE request_created gauge\nrequest_total 5\nrequest_created 1.795e9\ntarget_info{a="b"} 1\n'
    for at in (0, 10):
        rows = scraped(targets.take(page, at=at))
        assert [(row.series.name, row.start) for row in rows] == [("request_total", 1_795_000_000 * SECOND)]
    assert targets.counts.dropped["folded"] == 4


def test_a_type_that_changes_ends_the_series_and_begins_another() -> None:
    targets = Targets()
    targets.take("a 1\n")
    rows = scraped(targets.take("# TYPE a counter\na 2\n", at=10))
    assert [(row.series.family.kind, row.stale) for row in rows] == [("unknown", True), ("counter", False)]
    assert [row.series.family.kind for row in scraped(targets.take("a 3\n", at=20))] == ["counter"]  # it stays


def test_a_removed_target_ends_with_all_that_it_has() -> None:
    targets = Targets(TARGET, {**TARGET, "instance": "other:1"})
    targets.take("a 1\n", "a 1\n")
    rows = targets.remove(0, at=10)
    assert len(rows) == 6
    assert all(row.stale and row.series.labels["instance"] == TARGET["instance"] for row in rows)
    assert targets.take("a 2\n", at=20)[0].series.labels["instance"] == "other:1"
    assert targets.store.columns.used.sum() == 6


# -- many targets ----------------------------------------------------------------------------------------------------


def test_targets_that_are_taken_together_give_one_batch_and_the_same_table_again() -> None:
    targets = Targets(*({**TARGET, "instance": f"web-{n}"} for n in range(20)))
    tables = set()
    for at in range(3):
        targets.take(*(COUNTER + f"request_total {at + n}\n" for n in range(20)), at=at)
        assert targets.batches == 1
        tables.add(id(next(iter(targets.tables._held.values())).table))
    assert len(tables) == 1


def test_a_bad_page_disturbs_no_other() -> None:
    targets = Targets(TARGET, {**TARGET, "instance": "bad"})
    targets.take("a 1\n", "a 1\n")
    rows = targets.take("a 2\n", "a{ 2\n", at=10)
    assert sorted((row.series.labels["instance"], row.stale, row.value) for row in scraped(rows))[0][:2] == (
        TARGET["instance"], False)  # fmt: skip
    assert targets.failures[0] == ""
    assert targets.failures[1].startswith("cannot read line 1 of target 1, 'a{ 2'")
    assert values(targets.take("a 3\n", at=20)) == {"a": 3}


def test_limits_refuse_the_page_and_leave_nothing_behind() -> None:
    from receivers.limits import Limits

    targets = Targets(limits=Limits(samples=2, labels=4))
    for page, why in (("a 1\nb 1\nc 1\n", "sample_limit is 2"), ('a{x="1",y="2"} 1\n', "label_limit is 4")):
        assert values(targets.take(page)) == {}
        assert why in targets.failures[0]
    assert targets.store.columns.used.sum() == 5
    assert targets.counts.samples == 0


def test_bad_lines_are_skipped_and_counted() -> None:
    targets = Targets(skip_bad_lines=True)
    for at in range(3):
        assert values(targets.take("a 1\nb{ 2\nc 3\nd x\n", at=at)) == {"a": 1, "c": 3}
    assert targets.counts.dropped["bad_line"] == 6


@st.composite
def sequences(draw: st.DrawFn) -> list[list[str | None]]:
    """Polls of two targets: shuffled pages of some series, or no answer."""
    names = [f'm{n}{{x="{n}"}}' for n in range(6)]
    page = st.lists(st.sampled_from(names), unique=True).map(
        lambda lines: "".join(f"{line} {random.Random(line).randrange(99)}\n" for line in lines)
    )
    return draw(st.lists(st.lists(st.none() | page, min_size=2, max_size=2), max_size=6))


@given(sequences())
@settings(max_examples=60, deadline=None)
def test_whatever_came_before_a_page_gives_what_it_gives_alone(polls: list[list[str | None]]) -> None:
    targets = Targets(TARGET, {**TARGET, "instance": "other"})
    alive: list[set[str]] = [set(), set()]
    for at, pages in enumerate(polls):
        rows = scraped(targets.take(*pages, at=at))
        for number, (page, source) in enumerate(zip(pages, targets.sources, strict=True)):
            mine = [row for row in rows if row.series.target is source.target]
            fresh = {str(row.series) for row in scraped(Targets(source.labels).take(page))}
            assert {str(row.series) for row in mine if not row.stale} == fresh
            assert {str(row.series) for row in mine if row.stale} == alive[number] - fresh
            alive[number] = fresh


# -- real pages ------------------------------------------------------------------------------------------------------


def recorded(vectors: Path, archive: str) -> Iterator[bytes]:
    with tarfile.open(vectors / "linkerd_proxy_recorded" / f"{archive}.tar.xz") as tar:
        for name in sorted(name for name in tar.getnames() if name.endswith(".prom")):
            file = tar.extractfile(name)
            assert file is not None
            yield file.read()


@pytest.mark.parametrize("archive", ["startup_A", "steady_A", "idle_expiry_A"])
def test_a_recorded_sequence_gives_what_a_fresh_parse_of_each_page_gives(vectors: Path, archive: str) -> None:
    targets, before = Targets(), dict[str, Row]()
    for at, body in enumerate(recorded(vectors, archive)):
        rows = scraped(targets.take(body, at=at))
        page = parse_page(body)
        wanted: dict[tuple[str, tuple[str, ...]], float] = {}
        for sample in page.samples:
            wanted.setdefault((sample.name, sample.labels), sample.value)
        got = {
            (row.series.name, tuple(t for p in row.series.labels.items() if p[0] not in TARGET for t in p)): row.value
            for row in rows if not row.stale
        }  # fmt: skip
        assert got == wanted
        assert all(row.time == T0 + at * SECOND for row in rows)
        living = {str(row.series): row for row in rows if not row.stale}
        assert {str(row.series) for row in rows if row.stale} == before.keys() - living.keys()
        for name, row in living.items():
            _check_start(row, before.get(name))
            family = family_of(row.series.name, page.metadata)
            assert family is not None
            assert row.series.family.kind == family[1].kind
        before = living
    assert targets.counts.dropped.total() == 0


def _check_start(row: Row, before: Row | None) -> None:
    if row.series.family.kind != "counter":
        return
    if before is None:
        assert row.start == row.time
    elif row.value < before.value:
        assert row.start == before.time
    else:
        assert row.start == before.start


def test_pages_with_raw_label_values_are_refused_or_their_good_lines_kept(vectors: Path) -> None:
    refusing, skipping = Targets(), Targets(skip_bad_lines=True)
    seen = Counter[str]()
    for at, body in enumerate(recorded(vectors, "odd_A")):
        refusing.take(body, at=at)
        rows = [row for row in scraped(skipping.take(body, at=at)) if not row.stale]
        kept = parse_page(body, on_bad_line="skip")
        if kept.bad_count:
            with pytest.raises(BadPage) as caught:
                parse_page(body)
            assert f"line {caught.value.line_number} of target 0" in refusing.failures[0]
        else:
            assert refusing.failures == [""]
        seen["refused" if kept.bad_count else "good"] += 1
        assert len(rows) == len(kept.samples)
        assert sum(row.value for row in rows) == pytest.approx(sum(sample.value for sample in kept.samples))
        seen["bad"] += kept.bad_count
    assert seen["refused"]
    assert seen["good"]
    assert skipping.counts.dropped["bad_line"] == seen["bad"]


# -- bugs, and what comes together -----------------------------------------------------------------------------------


def others(number: int) -> dict[str, str]:
    return {**TARGET, "instance": f"10.0.0.{number}:4191"}


def test_after_a_bug_nothing_counts_and_each_target_can_be_taken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = Targets(others(1), others(2))
    page = COUNTER + "request_total 7\n" + histogram(3)
    targets.take(page, page)
    real, bad = PageSource.place, targets.sources[0]

    def place(source: PageSource) -> tuple[list[int], list[int]]:
        placed = real(source)
        if source is bad:
            raise RuntimeError("a bug")
        return placed

    monkeypatch.setattr(PageSource, "place", place)
    rows = targets.take(page + "new 1\n", page + "new 1\n", at=10)
    assert [read.split(":")[0] for read in targets.failures] == ["cannot take the page of target 0", ""]
    by_target = {n: [row for row in rows if row.series.label("instance") == others(n)["instance"]] for n in (1, 2)}
    assert sum(row.stale for row in by_target[1]) == 6
    assert reports(by_target[1])["up"] == 0
    assert reports(by_target[2])["up"] == 1
    assert {row.series.name for row in scraped(by_target[2])} >= {"new", "request_total"}
    assert not any(row.stale for row in by_target[2])
    monkeypatch.undo()
    rows = targets.take(page + "new 1\n", page + "new 1\n", at=20)
    assert targets.failures == ["", ""]
    assert len(scraped(rows)) == 14
    assert not any(row.stale for row in rows)


def test_batches_of_a_pass_came_together_unless_targets_may_have_series_in_common() -> None:
    def together(targets: Targets) -> list[object]:
        page = [COUNTER + "request_total 7\n", "a 1\n"]
        targets.take("b 1\n", "b 1\n")
        answers = [
            Answered(source, "x", T0 + SECOND, 0.1, body.encode())
            for source, body in zip(targets.sources, page, strict=True)
        ]
        reads = targets.pages.read(answers, targets.store.rules)
        batches = [one.batch for one in targets.memory.take(targets.tables, [read.reading for read in reads])]
        assert len(batches) > 1
        return [batch.together for batch in batches]

    (shared,) = set(together(Targets(others(1), others(2))))
    assert shared is not None
    assert set(together(Targets(others(1), others(1)))) == {None}
    assert set(together(Targets(others(1), {"job": "x"}))) == {None}
    assert set(together(Targets(others(1), others(2), honor_labels=True))) == {None}


@pytest.mark.parametrize("created", ["+Inf", "1e30", "NaN", "-1"])
def test_a_start_that_no_clock_can_tell_is_none(created: str) -> None:
    page = f"{COUNTER}request_total 7\n# TYPE request_created gauge\nrequest_created {created}\n"
    (row,) = (row for row in Targets().take(page) if row.series.name == "request_total")
    assert row.start == T0
