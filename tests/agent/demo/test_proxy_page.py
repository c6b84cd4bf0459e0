"""Rows that occur in many places."""

import numpy as np

from agent.demo.form import Form
from agent.demo.proxy_page import ProxyPage, add_balancer, add_responses, add_tcp, target
from agent.demo.shop import make_pods
from agent.demo.traffic import Life, Process


def new_page() -> ProxyPage:
    form = Form()
    process = form.traffic.process(Process(phase=0.0))
    life = form.traffic.life(Life(process))
    form.begin_page(process)
    return ProxyPage(form, make_pods(1)[0], process, life, life, life)


def values(page: ProxyPage, at: float) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    formulas = page.form.freeze()
    numbers = formulas.values(formulas.at(np.array([[at]])))[:, 0]
    return {(block.family.name, block.labels): float(numbers[block.first]) for block in page.form.blocks}


def test_a_target_is_three_labels() -> None:
    assert target("10.0.0.1", 80) == (("target_addr", "10.0.0.1:80"), ("target_ip", "10.0.0.1"), ("target_port", "80"))


def test_open_is_closed_and_still_open() -> None:
    page = new_page()
    add_tcp(page, (), page.stream(2.0).total, page.used, opened=0.3, read=10.0, written=20.0, stay=4)
    found = values(page, 3000.0)
    opened, still, closed = (found[name, labels] for name, labels in (
        ("tcp_open_total", ()), ("tcp_open_connections", ()), ("tcp_close_total", (("errno", ""),))))  # fmt: skip
    assert still == 4
    assert opened == closed + still


def test_http_failures_have_their_own_latencies_and_grpc_failures_do_not() -> None:
    for grpc, codes in ((False, {"200", "503"}), (True, {"200"})):
        page = new_page()
        add_responses(page, (), page.stream(2.0, bad=(10, 5, 1.0)), page.used, latency_ms=5.0, grpc=grpc)
        found = {dict(block.labels)["status_code"] for block in page.form.blocks if block.family.kind == "histogram"}
        assert found == codes


def test_a_balancer_shows_its_endpoints() -> None:
    page = new_page()
    add_balancer(page, "outbound_http", (), page.stream(1.0).total, endpoints=3, life=page.always, timeout=3.0)
    found = values(page, 100.0)
    assert found["outbound_http_balancer_endpoints", (("endpoint_state", "ready"),)] == 3
    assert found["outbound_http_balancer_queue_gate_open_time_seconds", ()] == 0.25
