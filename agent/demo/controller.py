"""The simulated control plane: what its Go processes show at their admin ports (text 0.0.4)."""

from __future__ import annotations

from dataclasses import dataclass

from agent.demo.families import DemoFamily
from agent.demo.form import Form
from agent.demo.traffic import ONE, Life, Process, Stream


@dataclass(frozen=True, slots=True)
class Component:
    """One container of the control plane or of viz; Linkerd's Prometheus gives its series no namespace and no pod."""

    name: str
    instance: str
    goroutines: float
    cache: str = ""
    grpc: tuple[str, ...] = ()


COMPONENTS = (
    Component("identity", "10.42.9.2:9990", 24, grpc=("io.linkerd.proxy.identity.Identity/Certify",)),
    Component("destination", "10.42.9.3:9996", 310, "endpoints",
              ("io.linkerd.proxy.destination.Destination/Get", "io.linkerd.proxy.destination.Destination/GetProfile")),
    Component("sp-validator", "10.42.9.3:9997", 22),
    Component("policy", "10.42.9.3:9990", 0),
    Component("proxy-injector", "10.42.9.4:9995", 38, "pod"),
    Component("metrics-api", "10.42.9.5:9995", 41, "pod", ("linkerd2.viz.Api/StatSummary",)),
    Component("tap", "10.42.9.6:9998", 36, "pod"),
    Component("tap-injector", "10.42.9.7:9995", 21),
    Component("web", "10.42.9.8:9994", 26),
    Component("prometheus", "10.42.9.9:9090", 64),
)  # fmt: skip

_TABLE = """
go_gc_duration_seconds|summary|A summary of the pause duration of garbage collection cycles.
go_goroutines|gauge|Number of goroutines that currently exist.
go_info|gauge|Information about the Go environment.
go_memstats_alloc_bytes|gauge|Number of bytes allocated and still in use.
go_memstats_alloc_bytes_total|counter|Total number of bytes allocated, even if freed.
go_memstats_heap_inuse_bytes|gauge|Number of heap bytes that are in use.
go_memstats_last_gc_time_seconds|gauge|Number of seconds since 1970 of last garbage collection.
go_threads|gauge|Number of OS threads created.
grpc_server_handled_total|counter|Total number of RPCs completed on the server, regardless of success or failure.
grpc_server_started_total|counter|Total number of RPCs started on the server.
issuer_cert_ttl_seconds|gauge|The remaining seconds until the issuer certificate expires.
endpoints_cache_size|gauge|Number of items in the client-go endpoints cache
pod_cache_size|gauge|Number of items in the client-go pod cache
process_cpu_seconds_total|counter|Total user and system CPU time spent in seconds.
process_max_fds|gauge|Maximum number of open file descriptors.
process_open_fds|gauge|Number of open file descriptors.
process_resident_memory_bytes|gauge|Resident memory size in bytes.
process_start_time_seconds|gauge|Start time of the process since unix epoch in seconds.
prometheus_target_interval_length_seconds|summary|Actual intervals between scrapes.
prometheus_tsdb_head_series|gauge|Total number of series in the head block.
prometheus_tsdb_head_samples_appended_total|counter|Total number of appended samples.
"""

CONTROLLER_FAMILIES = {
    name: DemoFamily(name, kind, help_text, legacy=True)  # type: ignore[arg-type]
    for name, kind, help_text in (line.split("|") for line in _TABLE.strip().split("\n"))
}


def add_controller(form: Form, component: Component, process: Process) -> None:
    """Add the page of one component."""
    index = form.traffic.process(process)
    form.begin_page(index)
    life = form.traffic.life(Life(index))
    uptime, wave = ("uptime", index), ("wave", index)

    def add(
        name: str, *numbers: float, labels: tuple[tuple[str, str], ...] = (), driver: object = ONE, whole: bool = True
    ) -> None:
        form.single(CONTROLLER_FAMILIES[name], labels, driver, *numbers, life=life, whole=whole)  # type: ignore[arg-type]

    def summarise(name: str, share: float, median: float) -> None:
        form.summary(CONTROLLER_FAMILIES[name], (), uptime, share, median=median, life=life)

    if component.goroutines:
        summarise("go_gc_duration_seconds", 1 / 97, 8.4e-5)
        add("go_goroutines", 6.0, component.goroutines, driver=wave)
        add("go_info", labels=(("version", "go1.25.5"),))
        add("go_memstats_alloc_bytes", 9e6, 1.4e7, driver=wave)
        add("go_memstats_alloc_bytes_total", 81234.0, driver=uptime)
        add("go_memstats_heap_inuse_bytes", 8e6, 1.9e7, driver=wave)
        add("go_memstats_last_gc_time_seconds", 1.0, -41.5, driver=("clock", index), whole=False)
        add("go_threads", 12.0)
    for method in component.grpc:
        service, _, name = method.partition("/")
        calls = form.traffic.stream(Stream(life, 0.15, bad_every=500, bad_length=20, bad_share=0.5))
        labels = (("grpc_method", name), ("grpc_service", service), ("grpc_type", "unary"))
        add("grpc_server_started_total", labels=labels, driver=calls.total)
        for code, driver in (("OK", calls.good), ("Unavailable", calls.bad)):
            add("grpc_server_handled_total", labels=(("grpc_code", code), *labels), driver=driver)
    if component.name == "identity":
        add("issuer_cert_ttl_seconds", -1.0, 3.1e7, driver=uptime, whole=False)
    if component.cache:
        add(f"{component.cache}_cache_size", 2.0, 14.0, driver=wave)
    if component.name == "prometheus":
        summarise("prometheus_target_interval_length_seconds", 1.2, 10.0)
        add("prometheus_tsdb_head_series", 300.0, 21000.0, driver=wave)
        add("prometheus_tsdb_head_samples_appended_total", 2100.0, driver=uptime)
    add("process_cpu_seconds_total", 0.0061, driver=uptime, whole=False)
    add("process_max_fds", 1048576.0)
    add("process_open_fds", 4.0, 13.0, driver=wave)
    add("process_resident_memory_bytes", 1.1e7, 4.2e7, driver=wave)
    add("process_start_time_seconds", driver=("start", index), whole=False)
    form.end_page(CONTROLLER_FAMILIES)
