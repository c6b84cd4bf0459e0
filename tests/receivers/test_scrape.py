"""What becomes of samples from one complete answer to the next: told in Prometheus' own notation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide import Batch, ReceiverCounts
from receivers.exposition import BadPage
from receivers.limits import Limits, TooMuch
from receivers.scrape import Scrape
from receivers.types import TypeBook

S = 10**9
T0 = 1_795_362_000 * S  # wall time of the first poll, ns
TARGET = 'instance="10.0.0.1:4191",job="linkerd-proxy"'


class Agent:
    """A scrape fed with pages; points are written ``name{labels} value time start`` with times in s since T0."""

    def __init__(self, *, stale_after: float = 60, limits: Limits | None = None, track: bool = True):
        self.counts = ReceiverCounts()
        self.scrape = Scrape(
            self.counts, TypeBook(), stale_after=round(stale_after * S), limits=limits or Limits(), track_starts=track
        )
        self.batches: list[Batch] = []

    def poll(self, at: float, page: str) -> list[str]:
        """Feed a page whose lines end in ``@seconds`` instead of a timestamp; return the points that went out."""
        lines = [line.strip() for line in page.splitlines() if line.strip()]
        body = "".join(
            f"{head} {round(T0 / 10**6 + float(time) * 1000)}\n" for head, time in (line.split("@") for line in lines)
        )
        reader = self.scrape.read()
        try:
            reader.feed(body.encode())
            page_ = self.scrape.finish(reader)
        except Exception:
            self.scrape.abandon(reader)
            raise
        self.scrape.unknown_targets()
        self.batches = list(self.scrape.take(page_, T0 + round(at * S)))
        self.counts.out += sum(map(len, self.batches))
        assert self.counts.imbalance() == 0
        return sorted(text for batch in self.batches for text in map(shown, batch.rows()))

    def dropped(self) -> dict[str, int]:
        return {reason: n for reason, n in self.counts.dropped.items() if n}


def shown(row: object) -> str:
    labels = {k: v for k, v in row.series.labels.items() if k not in ("job", "instance")}  # type: ignore[attr-defined]
    inside = ",".join(f"{k}={v}" for k, v in labels.items())
    value = "end" if row.stale else f"{row.value:g}"  # type: ignore[attr-defined]
    start = f" from {(row.start - T0) / S:g}" if row.start else ""  # type: ignore[attr-defined]
    return f"{row.series.name}{{{inside}}} {value} at {(row.time - T0) / S:g}{start}"  # type: ignore[attr-defined]


def histogram(
    name: str, count: int, at: float, labels: str = TARGET, bounds: tuple[str, ...] = ("1", "10", "+Inf")
) -> str:
    lines = [f'{name}_bucket{{{labels},le="{le}"}} {count if le == "+Inf" else count // 2}@{at}' for le in bounds]
    return "\n".join([*lines, f"{name}_count{{{labels}}} {count}@{at}", f"{name}_sum{{{labels}}} {7 * count}@{at}"])


def up(value: int, at: float, labels: str = TARGET) -> str:
    return f"up{{{labels}}} {value}@{at}"


def test_a_counter_starts_at_first_sight_and_keeps_its_start() -> None:
    agent = Agent()
    assert agent.poll(1, f"a_total{{{TARGET}}} 5@0.5") == ["a_total{} 5 at 0.5 from 0.5"]
    assert agent.poll(11, f"a_total{{{TARGET}}} 5@10.5") == ["a_total{} 5 at 10.5 from 0.5"]
    assert agent.poll(21, f"a_total{{{TARGET}}} 9@20.5") == ["a_total{} 9 at 20.5 from 0.5"]


def test_a_fall_begins_a_stream_at_the_previous_point() -> None:
    agent = Agent()
    agent.poll(0, f"a_total{{{TARGET}}} 5@0")
    assert agent.poll(10, f"a_total{{{TARGET}}} 3@10") == ["a_total{} 3 at 10 from 0"]
    assert agent.poll(20, f"a_total{{{TARGET}}} 4@20") == ["a_total{} 4 at 20 from 0"]
    assert agent.poll(30, f"a_total{{{TARGET}}} 1@30") == ["a_total{} 1 at 30 from 20"]


def test_gauges_have_no_start() -> None:
    agent = Agent()
    assert agent.poll(0, f"tcp_open_connections{{{TARGET}}} 5@0") == ["tcp_open_connections{} 5 at 0"]
    assert agent.poll(10, f"tcp_open_connections{{{TARGET}}} 3@10") == ["tcp_open_connections{} 3 at 10"]


def test_start_times_can_be_left_out() -> None:
    agent = Agent(track=False)
    assert agent.poll(0, f"a_total{{{TARGET}}} 5@0") == ["a_total{} 5 at 0"]


@pytest.mark.parametrize(("back", "start"), [(5, 30), (9, 30), (2, 30)])
def test_a_series_that_expired_begins_anew_even_without_a_fall(back: int, start: float) -> None:
    agent = Agent()
    agent.poll(0, f"a_total{{{TARGET}}} 5@0\n{up(1, 0)}")
    agent.poll(10, f"a_total{{{TARGET}}} 5@10\n{up(1, 10)}")
    agent.poll(20, up(1, 20))
    points = agent.poll(30, f"a_total{{{TARGET}}} {back}@30\n{up(1, 30)}")
    assert f"a_total{{}} {back} at 30 from {start:g}" in points


@pytest.mark.parametrize("missing", [up(0, 20), "", 'other{job="x",instance="y"} 1@20'])
def test_a_target_that_was_down_keeps_its_starts_unless_values_fell(missing: str) -> None:
    for back, start in [(5, 0), (9, 0), (2, 30)]:
        agent = Agent()
        agent.poll(0, f"a_total{{{TARGET}}} 5@0\n{up(1, 0)}")
        agent.poll(10, f"a_total{{{TARGET}}} 5@10\n{up(1, 10)}")
        agent.poll(20, missing)
        points = agent.poll(30, f"a_total{{{TARGET}}} {back}@30\n{up(1, 30)}")
        assert f"a_total{{}} {back} at 30 from {start:g}" in points


def test_the_count_speaks_for_a_histogram() -> None:
    agent = Agent()
    assert all(point.endswith("from 0") for point in agent.poll(0, histogram("h", 10, 0)))
    assert all(point.endswith("at 10 from 0") for point in agent.poll(10, histogram("h", 12, 10)))
    assert all(point.endswith("at 20 from 10") for point in agent.poll(20, histogram("h", 1, 20)))


def test_what_was_delivered_is_repeated_and_not_sent_again() -> None:
    agent = Agent()
    page = f"a_total{{{TARGET}}} 5@0\n{histogram('h', 10, 0)}"
    assert len(agent.poll(0, page)) == 6
    assert agent.poll(10, page) == []
    assert agent.dropped() == {"repeated": 6}
    assert len(agent.poll(20, f"a_total{{{TARGET}}} 6@19\n{histogram('h', 10, 0)}")) == 1


def test_a_clock_that_was_ahead_does_not_silence_what_follows() -> None:
    agent = Agent()
    day = 86400
    assert len(agent.poll(0, f"a_total{{{TARGET}}} 5@{day}")) == 1
    assert len(agent.poll(10, f"a_total{{{TARGET}}} 6@10")) == 1
    assert agent.poll(20, f"a_total{{{TARGET}}} 6@10") == []


def test_a_torn_histogram_is_dropped_whole_and_comes_when_it_is_whole() -> None:
    agent = Agent()
    agent.poll(0, histogram("h", 10, 0))
    old, new = histogram("h", 10, 0).splitlines(), histogram("h", 20, 10).splitlines()
    assert agent.poll(10, "\n".join(new[:2] + old[2:])) == []
    assert agent.dropped() == {"torn": 5}
    assert len(agent.poll(11, "\n".join(new))) == 5


def test_other_histograms_are_not_torn_by_one() -> None:
    agent = Agent()
    other = TARGET.replace("10.0.0.1", "10.0.0.2")
    torn = histogram("h", 1, 0).splitlines()
    torn[0] = torn[0].replace("@0", "@5")
    assert len(agent.poll(0, "\n".join(torn) + "\n" + histogram("h", 3, 9, other))) == 5


def test_the_first_of_a_series_that_stands_twice_counts() -> None:
    agent = Agent()
    for at in (0, 10):
        assert agent.poll(at, f'a_total{{{TARGET}}} 5@{at}\na_total{{{TARGET},x=""}} 6@{at}') == [
            f"a_total{{}} 5 at {at} from 0"
        ]
    assert agent.dropped() == {"duplicate": 2}


def test_a_constant_value_with_a_moving_timestamp_never_ends() -> None:
    agent = Agent(stale_after=20)
    for at in range(0, 200, 10):
        assert agent.poll(at, f"a_total{{{TARGET}}} 5@{at}") == [f"a_total{{}} 5 at {at} from 0"]


@pytest.mark.parametrize("present", [True, False])
def test_a_timestamp_that_stands_still_or_a_series_that_is_missing_ends_once(present: bool) -> None:
    agent = Agent(stale_after=30)
    other = f"b_total{{{TARGET}}}"
    agent.poll(0, f"a_total{{{TARGET}}} 5@0\n{other} 1@0")
    ends = []
    for at in range(10, 100, 10):
        page = f"{other} 1@{at}" + (f"\na_total{{{TARGET}}} 5@0" if present else "")
        ends += [point for point in agent.poll(at, page) if "end" in point]
    assert ends == ["a_total{} end at 40 from 0"]
    assert agent.counts.added["stale"] == 1
    assert "a_total{} 6 at 100 from 100" in agent.poll(100, f"{other} 1@100\na_total{{{TARGET}}} 6@100")


def test_failed_polls_end_nothing() -> None:
    agent = Agent(stale_after=30)
    agent.poll(0, f"a_total{{{TARGET}}} 5@0\nb_total{{{TARGET}}} 1@0")
    for _ in range(10):
        reader = agent.scrape.read()
        reader.feed(b"c_total 1\nhalf a li")
        with pytest.raises(BadPage, match="cut short"):
            agent.scrape.finish(reader)
        agent.scrape.abandon(reader)
    assert "end" not in str(agent.poll(1000, f"b_total{{{TARGET}}} 1@1000"))
    assert "a_total{} end at 1030 from 0" in agent.poll(1030, f"b_total{{{TARGET}}} 1@1030")


def test_a_histogram_ends_as_a_whole() -> None:
    agent = Agent(stale_after=20)
    agent.poll(0, histogram("h", 10, 0) + f"\nb{{{TARGET}}} 1@0")
    agent.poll(10, f"b{{{TARGET}}} 1@10")
    ends = agent.poll(30, f"b{{{TARGET}}} 1@30")
    assert sum("end" in point for point in ends) == 5


def test_a_bucket_that_goes_alone_ends_nothing() -> None:
    agent = Agent(stale_after=20)
    agent.poll(0, histogram("h", 10, 0))
    for at in range(10, 80, 10):
        points = agent.poll(at, histogram("h", 10, at, bounds=("1", "+Inf")))
        assert len(points) == 4
        assert "end" not in str(points)


def test_created_dates_the_stream_and_is_no_series() -> None:
    agent = Agent()
    began = T0 / S - 100
    page = f"a_total{{{TARGET}}} 5@0\na_created{{{TARGET}}} {began}@0\n{histogram('h', 4, 0)}\nh_created{{{TARGET}}} {began}@0"
    points = agent.poll(0, page + f"\nlonely_created{{{TARGET}}} 1@0")
    assert all(point.endswith("from -100") for point in points if "lonely" not in point)
    assert agent.dropped() == {"folded": 2}


def test_types_that_become_known_end_the_unknown_stream() -> None:
    agent = Agent()
    assert agent.poll(0, f"odd{{{TARGET}}} 5@0") == ["odd{} 5 at 0"]
    agent.scrape.types.learn({"odd": [{"type": "counter", "help": "", "unit": ""}]})
    assert agent.poll(10, f"odd{{{TARGET}}} 6@10") == ["odd{} 6 at 10 from 10", "odd{} end at 10"]
    assert agent.poll(20, f"odd{{{TARGET}}} 7@20") == ["odd{} 7 at 20 from 10"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(samples=1), "sample_limit is 1"),
        (Limits(labels=3), "label_limit is 3"),
        (Limits(label_name_length=8), "label_name_length_limit is 8"),
        (Limits(label_value_length=5), "label_value_length_limit is 5"),
    ],
)
def test_limits_refuse_the_whole_answer(limits: Limits, said: str) -> None:
    agent = Agent(limits=limits)
    with pytest.raises(TooMuch, match=said):
        agent.poll(0, f'a_total{{{TARGET},longer_than_eight="d"}} 1@0\nb 1@0')
    assert agent.counts.samples == 0
    assert agent.poll(10, "b 1@10") == ["b{} 1 at 10"]


def test_the_table_of_a_steady_form_is_the_same_object() -> None:
    agent = Agent()
    lines = [f'm_total{{{TARGET},n="{n}"}} 1' for n in range(50)]
    agent.poll(0, "\n".join(f"{line}@0" for line in lines))
    table = agent.batches[0].table
    random.Random(1).shuffle(lines)
    agent.poll(10, "\n".join(f"{line}@10" for line in lines))
    assert [batch.table for batch in agent.batches] == [table]
    agent.poll(20, "\n".join(f"{line}@20" for line in [*lines, f'm_total{{{TARGET},n="new"}} 1']))
    assert agent.batches[0].table is table
    assert len(agent.batches) == 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_every_sample_goes_out_once_or_is_accounted_for(seed: int) -> None:
    rng = random.Random(seed)
    agent, sent = Agent(stale_after=35), set()
    alive: dict[str, tuple[float, int]] = {}
    for poll in range(25):
        now = poll * 10.0
        for number in range(30):
            head = f'm_total{{{TARGET},n="{number}"}}'
            if rng.random() < 0.15:
                alive.pop(head, None)
            elif rng.random() < 0.7:
                alive[head] = (now, rng.randrange(100))
        parts = histogram("h", poll, now).splitlines()
        if rng.random() < 0.2:
            parts.pop(rng.randrange(len(parts)))
        lines = [f"{head} {value}@{at}" for head, (at, value) in alive.items()] + parts
        rng.shuffle(lines)
        for point in agent.poll(now, "\n".join(lines)):
            if " end " not in point:
                identity = point.split(" from")[0]
                assert identity not in sent
                sent.add(identity)
    assert not math.isnan(agent.counts.out)


# -- a reload -----------------------------------------------------------------------------------------------------------


def test_a_type_given_by_the_operator_later_ends_the_old_stream_and_begins_a_new_one() -> None:
    agent = Agent()
    agent.poll(0, f"a{{{TARGET}}} 1@0\nb{{{TARGET}}} 1@0")
    agent.scrape.types.obey({"a": "counter"})
    assert agent.poll(10, f"a{{{TARGET}}} 2@10\nb{{{TARGET}}} 2@10") == [
        "a{} 2 at 10 from 10",
        "a{} end at 10",
        "b{} 2 at 10",
    ]
    assert agent.poll(20, f"a{{{TARGET}}} 2@10\nb{{{TARGET}}} 3@20") == ["b{} 3 at 20"]  # what was sent is remembered


def test_what_one_answer_gives_came_together() -> None:
    agent = Agent()
    agent.poll(0, f"a{{{TARGET}}} 1 @0")
    one = [batch.together for batch in agent.batches]
    agent.poll(10, f"a{{{TARGET}}} 1 @10\nb{{{TARGET}}} 1 @10")
    other = [batch.together for batch in agent.batches]
    assert len(other) == 2
    assert None not in one + other
    assert len(set(map(id, other))) == 1
    assert one[0] is not other[0]
