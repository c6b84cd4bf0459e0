"""What the parts of a simulated proxy's page have in common: how rows are added, and the rows that occur in many places."""

from __future__ import annotations

from dataclasses import dataclass

from agent.demo.families import PROXY_FAMILIES
from agent.demo.form import Form, Labels
from agent.demo.shop import Pod
from agent.demo.traffic import ONE, Driver, Stream, StreamDrivers


@dataclass(slots=True)
class ProxyPage:
    """What is known while the page of one pod is built."""

    form: Form
    pod: Pod
    process: int
    always: int
    """The life of what is there as long as the process."""
    used: int
    """The life of legacy series that the pod's own traffic feeds: they expire when it is idle."""
    worked: int
    """The life of registry series of that traffic: they do not expire."""

    def add(self, name: str, labels: Labels, driver: Driver = ONE, factor: float = 1.0, offset: float = 0.0, *,
            life: int | None = None, gate: Driver = ONE, whole: bool = True, decimal: bool = False,
            repeated: bool = False) -> None:  # fmt: skip
        """Add a row of the family ``name``; its life is that of the process unless told."""
        self.form.single(PROXY_FAMILIES[name], labels, driver, factor, offset, life=self.always if life is None else life,
                         gate=gate, whole=whole, decimal=decimal, repeated=repeated)  # fmt: skip

    def spread(self, name: str, labels: Labels, driver: Driver, share: float = 1.0, *, median: float,
               life: int | None = None, gate: Driver = ONE) -> None:  # fmt: skip
        """Add a histogram of the family ``name``."""
        self.form.histogram(PROXY_FAMILIES[name], labels, driver, share, median=median,
                            life=self.always if life is None else life, gate=gate)  # fmt: skip

    def stream(
        self, rate: float, *, life: int | None = None, bad: tuple[int, int, float] = (1000, 0, 0.0)
    ) -> StreamDrivers:
        """Add requests that come at ``rate`` a second; ``bad`` as in ``Service``."""
        wave = 600.0 + 37.0 * (len(self.form.traffic.streams) % 23)
        every, length, share = bad
        return self.form.traffic.stream(
            Stream(
                self.always if life is None else life,
                rate,
                wave=wave,
                bad_every=every,
                bad_length=length,
                bad_share=share,
            )
        )


def target(address: str, port: str | int) -> Labels:
    """The three labels that name where a connection goes."""
    return (("target_addr", f"{address}:{port}"), ("target_ip", address), ("target_port", str(port)))


def add_responses(page: ProxyPage, labels: Labels, stream: StreamDrivers, life: int, *, latency_ms: float,
                  grpc: bool = False) -> None:  # fmt: skip
    """Add response_total and response_latency_ms: a series is born with its first answer."""
    if grpc:  # HTTP tells 200 whatever gRPC says
        latencies = (("200", stream.total, 1.0),)
        answers = (("200", stream.good, "success", "0"), ("200", stream.bad, "failure", "14"))
    else:
        latencies = (("200", stream.good, 1.0), ("503", stream.bad, 2.5))  # type: ignore[assignment]
        answers = (("200", stream.good, "success", ""), ("503", stream.bad, "failure", ""))
    for code, driver, slower in latencies:
        coded = (*labels, ("status_code", code))
        page.spread("response_latency_ms", coded, driver, median=latency_ms * slower, life=life, gate=driver)
    for code, driver, grade, status in answers:
        graded = (("status_code", code), ("classification", grade), ("grpc_status", status), ("error", ""))
        page.add("response_total", (*labels, *graded), driver, life=life, gate=driver)


def add_tcp(page: ProxyPage, labels: Labels, driver: Driver, life: int, *, opened: float, read: float,
            written: float, stay: int = 1) -> None:  # fmt: skip
    """Add the five tcp_* rows of one peer: ``opened`` connections a request, ``stay`` of them still open."""
    page.add("tcp_open_total", labels, driver, opened, float(stay), life=life)
    page.add("tcp_open_connections", labels, ONE, float(stay), life=life)
    page.add("tcp_read_bytes_total", labels, driver, read, life=life)
    page.add("tcp_write_bytes_total", labels, driver, written, life=life)
    page.add("tcp_close_total", (*labels, ("errno", "")), driver, opened, life=life)


def add_detection(page: ProxyPage, prefix: str, labels: Labels, driver: Driver, share: float, *, life: int) -> None:
    """Add what protocol detection says: ``share`` connections a request, HTTP/1 all of them."""
    page.spread(f"{prefix}_tcp_detect_http_duration_seconds", labels, driver, share, median=0.0002, life=life)
    for result in ("read_timeout", "not_http", "http/1", "http/2", "error"):
        found = share if result == "http/1" else 0.0
        page.add(f"{prefix}_tcp_detect_http_results", (("result", result), *labels), driver, found, life=life)


def add_balancer(page: ProxyPage, prefix: str, labels: Labels, driver: Driver, *, endpoints: int, life: int,
                 timeout: float, queue_median: float = 0.0004) -> None:  # fmt: skip
    """Add what a balancer shows of itself; ``driver`` counts the requests that have passed its queue."""
    name = f"{prefix}_balancer"
    for state, number in (("pending", 0), ("ready", endpoints)):
        page.add(f"{name}_endpoints", (("endpoint_state", state), *labels), ONE, float(number), life=life)
    page.add(f"{name}_p2c_endpoints", labels, ONE, float(endpoints), life=life)
    for change, number in (("Reset", 1), ("Add", endpoints - 1), ("Remove", 0)):
        page.add(f"{name}_p2c_updates", (("op", change), *labels), ONE, float(max(number, 0)), life=life)
    page.add(f"{name}_queue_length", labels, ONE, 0.0, life=life)
    page.add(f"{name}_queue_requests", labels, driver, life=life)
    page.spread(f"{name}_queue_latency_seconds", labels, driver, median=queue_median, life=life)
    page.add(f"{name}_queue_gate_open", labels, ONE, 1.0, life=life)
    page.add(f"{name}_queue_gate_shut", labels, ONE, 0.0, life=life)
    opened = ("start", page.process)
    page.add(f"{name}_queue_gate_open_time_seconds", labels, opened, 1.0, 0.25, life=life, whole=False, decimal=True)
    page.add(f"{name}_queue_gate_shut_time_seconds", labels, ONE, 0.0, life=life, decimal=True)
    page.add(f"{name}_queue_gate_timeout_seconds", labels, ONE, timeout, life=life, decimal=True)
