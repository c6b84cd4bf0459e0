"""The formulas: counts never fall but at a reset, parts add up, lives begin and end when they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.demo.traffic import ALWAYS, ONE, Life, Process, Stream, Traffic


def simple(life: Life | None = None, process: Process | None = None, **stream: float) -> Traffic:
    traffic = Traffic()
    traffic.process(process or Process())
    traffic.life(life or Life(0))
    traffic.stream(Stream(0, **{"rate": 3.0, **stream}))
    return traffic


def driver(traffic: Traffic, name: str, times: list[float]) -> list[float]:
    return traffic.at(np.array([times])).drivers[traffic.resolve((name, 0))].tolist()


def alive(traffic: Traffic, times: list[float]) -> list[bool]:
    return traffic.at(np.array([times])).alive[0].tolist()


@given(
    rate=st.floats(0.001, 500), swing=st.floats(0, 1), every=st.integers(1, 5000), part=st.floats(0, 1),
    share=st.floats(0, 1), start=st.floats(0, 1e9), step=st.floats(0.1, 1000),
)  # fmt: skip
def test_counts_grow_and_parts_add_up(
    rate: float, swing: float, every: int, part: float, share: float, start: float, step: float
) -> None:
    traffic = simple(rate=rate, swing=swing, bad_every=every, bad_length=int(every * part), bad_share=share)
    times = [start + step * number for number in range(60)]
    total, good, bad = (np.array(driver(traffic, name, times)) for name in ("total", "good", "bad"))
    for counts in (total, good, bad):
        assert (np.diff(counts) >= 0).all()
        assert (counts >= 0).all()
        assert (counts == np.floor(counts)).all()
    assert (good + bad == total).all()


def test_the_average_rate_is_the_rate() -> None:
    first, last = driver(simple(rate=10.0), "total", [9000.0, 99000.0])
    assert (last - first) / 90000 == pytest.approx(10.0, rel=0.02)


def test_a_restart_begins_again_after_being_away() -> None:
    traffic = simple(process=Process(period=100.0, phase=0.0, down=10.0))
    times = [95.0, 99.0, 101.0, 109.0, 111.0, 150.0]
    assert driver(traffic, "up", times) == [1, 1, 0, 0, 1, 1]
    assert alive(traffic, times) == [True, True, False, False, True, True]
    assert driver(traffic, "start", times) == [10, 10, 110, 110, 110, 110]
    total = driver(traffic, "total", times)
    assert total[1] > total[4]
    assert total[5] > total[4]


@pytest.mark.parametrize(
    ("retain", "expected"),
    [(50.0, [True, True, True, False, True]), (None, [True, True, True, True, True])],
)
def test_idle_series_expire_where_they_are_retained_for_a_while(retain: float | None, expected: list[bool]) -> None:
    traffic = simple(Life(0, period=1000.0, active=100.0, phase=0.0, retain=retain), Process(phase=-1000.0))
    times = [10_050.0, 10_099.0, 10_149.0, 10_151.0, 11_001.0]
    assert alive(traffic, times) == expected


def test_what_expired_comes_back_from_zero_and_what_stays_goes_on() -> None:
    times = [10_099.0, 11_010.0]
    window = {"period": 1000.0, "active": 100.0, "phase": 0.0}
    expiring = driver(simple(Life(0, **window, retain=50.0), Process(phase=-1000.0)), "total", times)
    staying = driver(simple(Life(0, **window), Process(phase=-1000.0)), "total", times)
    assert expiring[1] < expiring[0]
    assert staying[1] > staying[0]


def test_nothing_is_there_before_the_first_work_of_a_process() -> None:
    life = Life(0, period=1000.0, active=100.0, phase=0.0)
    traffic = simple(life, Process(period=ALWAYS, phase=10_500.0))
    assert alive(traffic, [10_600.0, 11_001.0]) == [False, True]


def test_one_is_always_one() -> None:
    traffic = simple()
    assert traffic.resolve(ONE) == ONE
    assert traffic.at(np.array([[1.0, 2.0]])).drivers[ONE].tolist() == [1.0, 1.0]
