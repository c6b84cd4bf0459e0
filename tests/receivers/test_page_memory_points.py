"""Lines that belong together, page after page: start times, parts that go, exemplars, lines that stand twice."""

from __future__ import annotations

import pytest

from receivers.negotiation import Format
from tests.receivers.page_harness import SECOND, T0, Targets, scraped, values

CREATED = 1_500_000_000
TYPE, TOTAL, DATES = "# TYPE a counter\n", "a_total 5\n", f"a_created {CREATED}\n"
HISTOGRAM = "# TYPE h histogram\n"
PARTS = {"0.1": "3", "1": "4", "+Inf": "5"}


def starts(targets: Targets, page: str, at: int) -> dict[str, int | str]:
    """When what lives began: a time that the page tells, in seconds, "seen" for one of the agent's own, 0 for none."""
    rows = [row for row in scraped(targets.take(page, at=at)) if not row.stale]
    return {row.series.name: "seen" if row.start >= T0 else row.start // SECOND for row in rows}


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([(TYPE + DATES + TOTAL, {"a_total": CREATED})], id="it stands first"),
        pytest.param([(TYPE + DATES, {})], id="it stands alone"),
        pytest.param([(TYPE + 'a_created{x="2"} 15\na_total{x="1"} 5\n', {"a_total": "seen"})], id="of other labels"),
        pytest.param([(TYPE + DATES, {}), (TYPE + DATES + TOTAL, {"a_total": CREATED})], id="it comes first"),
        pytest.param(
            [(TYPE + DATES + TOTAL, {"a_total": CREATED}), (TYPE + DATES, {}), (TYPE + TOTAL + DATES, {"a_total": CREATED})],
            id="what it dates goes and comes back",
        ),
        pytest.param(
            [(DATES, {"a_created": 0}), (TYPE + DATES, {}), (TYPE + DATES + TOTAL, {"a_total": CREATED})],
            id="the type comes later",
        ),
        pytest.param([("# TYPE a_created gauge\n" + DATES, {"a_created": 0})], id="it is a metric of its own"),
        pytest.param([(DATES + "b_created 15\n", {"a_created": 0, "b_created": 0})], id="nobody says of what"),
        pytest.param(
            [(HISTOGRAM + f'h_bucket{{le="+Inf"}} 5\nh_created {CREATED}\nh_count 5\n', {"h_bucket": CREATED, "h_count": CREATED})],
            id="of a histogram",
        ),
    ],
)  # fmt: skip
def test_a_created_line_of_a_known_family_dates_it_and_is_no_metric(
    pages: list[tuple[str, dict[str, int | str]]],
) -> None:
    targets = Targets()
    for at, (page, expected) in enumerate(pages):
        assert starts(targets, page, at) == expected


def test_a_start_that_the_page_tells_needs_no_tracking() -> None:
    targets, page = Targets(track_starts=False), "b_total 1\n# TYPE b_total counter\n"
    assert starts(targets, TYPE + TOTAL + DATES + page, at=0) == {"a_total": CREATED, "b_total": 0}
    assert starts(targets, TYPE + TOTAL + page, at=10) == {"a_total": CREATED, "b_total": 0}


def histogram(*bounds: str, more: str = "h_sum 9\nh_count 5\n") -> str:
    return HISTOGRAM + "".join(f'h_bucket{{le="{bound}"}} {PARTS[bound]}\n' for bound in bounds) + more


@pytest.mark.parametrize(
    ("page", "gone"),
    [
        (histogram("0.1", "+Inf"), 'h_bucket{le=1}'),
        (histogram(*PARTS, more="h_count 5\n"), "h_sum"),
    ],
)  # fmt: skip
def test_a_part_that_goes_ends_nothing_and_the_rest_goes_out(page: str, gone: str) -> None:
    targets = Targets()
    everything = values(targets.take(histogram(*PARTS)))
    left = {name: value for name, value in everything.items() if name != gone}
    assert values(targets.take(page, at=10)) == left
    assert values(targets.take(page, at=20)) == left
    assert values(targets.take(histogram(*PARTS), at=30)) == everything  # the part is born again
    assert targets.counts.added["stale"] == 0
    assert set(values(targets.take("b 1\n", at=40)).values()) == {"ended", 1.0}
    assert targets.counts.added["stale"] == len(everything)


@pytest.mark.parametrize(
    ("format", "stamp", "honor", "expected"),
    [
        ("openmetrics", "", True, T0),
        ("openmetrics", " 1520430000.5", True, 1_520_430_000_500_000_000),
        ("openmetrics", " 1520430000.5", False, T0),
    ],
)
def test_an_exemplar_without_a_time_was_taken_with_its_sample(
    format: Format, stamp: str, honor: bool, expected: int
) -> None:
    """As in Prometheus (scrape.go: ``if !e.HasTs { e.Ts = t }``)."""
    targets = Targets(honor_timestamps=honor)
    page = f'{TYPE}a_total 5{stamp} # {{t="1"}} 0.5\nb_total 5 # {{t="2"}} 0.5 15.25\n# EOF\n'
    first, second = (row.extra for row in scraped(targets.take(page, format=format)))
    assert first is not None
    assert second is not None
    assert [one.time for one in (*first.exemplars, *second.exemplars)] == [expected, 15_250_000_000]


def test_of_lines_that_stand_twice_the_first_counts_with_its_exemplar() -> None:
    page = f'{TYPE}a_total 5 # {{t="1"}} 0.5 1\na_total 6 # {{t="2"}} 0.5 1\n# EOF\n'
    (row,) = scraped(Targets().take(page, format="openmetrics"))
    assert row.extra is not None
    assert (row.value, [one.labels for one in row.extra.exemplars]) == (5.0, [("t", "1")])
