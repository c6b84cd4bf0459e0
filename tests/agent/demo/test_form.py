"""Rows and their formulas."""

import numpy as np
import pytest

from agent.demo.families import LATENCY_MS, PROXY_FAMILIES, DemoFamily
from agent.demo.form import Form, histogram_bounds, histogram_samples
from agent.demo.traffic import Life, Process, Stream


def test_legacy_histograms_have_26_buckets_then_count_then_sum() -> None:
    samples = histogram_samples(PROXY_FAMILIES["response_latency_ms"])
    assert len(samples) == 28
    assert samples[:6] == tuple(("_bucket", bound) for bound in ("1", "2", "3", "4", "5", "10"))
    assert samples[-4:] == (("_bucket", "50000"), ("_bucket", "+Inf"), ("_count", ""), ("_sum", ""))


def test_registry_histograms_have_sum_and_count_first_and_points_in_their_bounds() -> None:
    samples = histogram_samples(PROXY_FAMILIES["outbound_http_route_request_duration_seconds"])
    assert samples == (("_sum", ""), ("_count", ""), *(("_bucket", b) for b in ("0.05", "0.5", "1.0", "10.0", "+Inf")))


@pytest.mark.parametrize("family", [f for f in PROXY_FAMILIES.values() if f.kind == "histogram"], ids=lambda f: f.name)
def test_every_histogram_has_rising_bounds(family: DemoFamily) -> None:
    bounds = list(histogram_bounds(family))
    assert bounds == sorted(set(bounds))
    assert len(LATENCY_MS) == 25


def one_histogram(name: str) -> np.ndarray:
    form = Form()
    process = form.traffic.process(Process(phase=0.0))
    life = form.traffic.life(Life(process))
    stream = form.traffic.stream(Stream(life, 5.0))
    form.begin_page(process)
    form.histogram(PROXY_FAMILIES[name], (), stream.total, 0.7, median=20.0, life=life)
    formulas = form.freeze()
    return formulas.values(formulas.at(np.arange(1000.0, 5000.0, 70.0)[None, :]))


def test_a_histogram_is_one_at_every_moment() -> None:
    values = one_histogram("response_latency_ms")
    buckets, count, total = values[:26], values[26], values[27]
    assert (np.diff(buckets, axis=0) >= 0).all()
    assert (np.diff(values, axis=1) >= 0).all()
    assert (buckets[-1] == count).all()
    assert (total >= count).all()
    assert (values == np.floor(values)).all()


def test_blocks_of_a_page_stand_in_the_order_of_its_families() -> None:
    form = Form()
    process = form.traffic.process(Process())
    life = form.traffic.life(Life(process))
    form.begin_page(process)
    names = ["tcp_open_total", "request_total", "tcp_open_total"]
    for name in names:
        form.single(PROXY_FAMILIES[name], (), 0, life=life)
    form.end_page(PROXY_FAMILIES)
    assert [block.family.name for block in form.blocks] == ["request_total", "tcp_open_total", "tcp_open_total"]
    assert [block.first for block in form.blocks] == [1, 0, 2]


def test_a_block_waits_for_its_gate() -> None:
    form = Form()
    process = form.traffic.process(Process(phase=0.0))
    life = form.traffic.life(Life(process))
    stream = form.traffic.stream(Stream(life, 0.1, swing=0.0))
    form.begin_page(process)
    form.single(PROXY_FAMILIES["request_total"], (), stream.total, life=life, gate=stream.total)
    formulas = form.freeze()
    assert formulas.present(formulas.at(np.array([[5.0, 9.0, 11.0]]))).tolist() == [[False, False, True]]
