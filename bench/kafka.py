"""What the way to Kafka costs, beside the way by OTLP/HTTP: CPU of the agent alone, bytes on the wire, throughput.

Strategy. A real broker and an HTTP sink run as processes of their own. The exporters run in a fresh process that has made
no pages itself, one after the other on the very same batches, round by round, so that a noisy machine is noisy for all.
Batches go through an outbox as in life: encoded, framed, joined, sealed, sent, acknowledged. CPU is user and system time
of the whole process, librdkafka's threads included. Three loads are made of the same pages: all of a page as one resource,
in batches as the receiver makes them, and in a single batch; and as the processor "resource" makes it, a resource for each
proxy, some of them in a batch.
"""

from __future__ import annotations

import gzip
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from agent.heap import prepare, settle
from agent.ledger import ExporterCounts
from agent.outbox import Outbox
from agent.settings import OutboxSettings
from bench.memory import alone, resident
from bench.pages import PER_ROUTE, ROUTES_PER_TARGET, START_MS, Mesh
from bench.startup import Peer
from ebbtide import Batch, Exporter, ReceiverCounts
from processors.resource import Resource
from receivers.scrape import Scrape
from receivers.types import TypeBook
from tests.real.kafka import Kafka as Broker
from tests.real.kafka import find_kafka

PROXIES = 200
POLLS = 8  # different pages, sent over and over
ROUNDS = 26
WARM = 4  # rounds that are not counted: tables are new, connections are made
PARTITIONS = 4
COMPRESSIONS = ("none", "lz4", "snappy", "zstd", "gzip")
ONE, WHOLE, MANY = "one resource", "one resource, one batch", f"{PROXIES} resources"
SMALL = 10  # samples of a small bundle
BUNDLES = 200
PAUSE = 0.02  # seconds between small bundles
QUEUE = 64 << 20  # bytes to catch up on
IDLE_SECONDS = 20.0
_MIB = 2**20
_METADATA = {"response_latency_ms": [{"type": "histogram", "help": "", "unit": ""}]}

Made = Callable[[], Exporter[Any]]


# -- loads -------------------------------------------------------------------------------------------------------------


def _polls(bodies: Iterable[bytes]) -> Iterator[list[Batch]]:
    """Yield the batches of each page, as the receiver makes them."""
    types = TypeBook()
    types.learn(_METADATA)
    scrape = Scrape(ReceiverCounts(), types)
    for number, body in enumerate(bodies, 1):
        reader = scrape.read()
        reader.feed(gzip.decompress(body))
        page = scrape.finish(reader)
        scrape.unknown_targets()
        yield list(scrape.take(page, (START_MS + 5000 * number) * 10**6))


def _by_resource(polls: Iterable[list[Batch]]) -> list[list[Batch]]:
    processor = Resource()
    return [[done for batch in poll if (done := processor.process(batch))] for poll in polls]


def _as_one(polls: Iterable[list[Batch]]) -> list[list[Batch]]:
    """Join each poll to one batch; all over one table, as of a page that keeps its series."""
    joined = [Batch.concat(poll) for poll in polls]
    return [[batch.but(table=joined[0].table)] for batch in joined]


# -- exporters, in a process of their own ------------------------------------------------------------------------------


def _kafka(address: str, topic: str, **options: Any) -> Exporter[Any]:
    from exporters.kafka import Kafka  # here, as what importing its library takes is measured
    from exporters.kafka_options import KafkaSettings

    return Kafka(KafkaSettings(brokers=[address], topic=topic, **options))


def _otlp(url: str, **options: Any) -> Exporter[Any]:
    from exporters.otlp import Otlp, OtlpSettings

    return Otlp(OtlpSettings(endpoint=url, **options), environ={})


def _topic(load: str, compression: str) -> str:
    return f"{load.replace(',', '').replace(' ', '-')}.{compression}"


async def _deliver(exporter: Exporter[Any], batches: list[Batch]) -> None:
    """Send batches, as if they were new, and return when all of them are acknowledged."""
    counts = ExporterCounts()
    outbox = Outbox(exporter, OutboxSettings(), counts)
    for batch in batches:
        outbox.put(batch.but())
    outbox.close()
    await outbox.run()
    if counts.sent != sum(map(len, batches)):
        raise SystemExit(f"cannot measure: not all was sent ({counts.as_dict()}); see what the exporter said above")


@dataclass
class Lane:
    """One exporter, and what its rounds took: CPU and seconds of whole deliveries, and CPU of ``encode`` alone."""

    name: str
    exporter: Exporter[Any]
    cpu: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    encoding: list[float] = field(default_factory=list)

    async def round(self, batches: list[Batch]) -> None:
        """Deliver the batches of a poll, then encode them once more for themselves."""
        cpu, clock = time.process_time(), time.perf_counter()
        await _deliver(self.exporter, batches)
        self.seconds.append(time.perf_counter() - clock)
        self.cpu.append(time.process_time() - cpu)
        fresh = [batch.but() for batch in batches]
        cpu = time.process_time()
        for batch in fresh:
            list(self.exporter.encode(batch))
        self.encoding.append(time.process_time() - cpu)

    def sealed(self, batches: list[Batch]) -> int:
        """Bytes of the batches as one request."""
        bodies = [payload.body for batch in batches for payload in self.exporter.encode(batch)]
        return len(self.exporter.seal(self.exporter.join(bodies)))


@dataclass(frozen=True)
class Took:
    """Medians of a lane, of a poll each: CPU beside that of another lane in the same round; seconds of CPU, of the clock,
    of CPU of encoding alone; and the bytes of its request."""

    ratio: float
    cpu: float
    seconds: float
    encoding: float
    size: int

    @classmethod
    def of(cls, lane: Lane, base: Lane, batches: list[Batch]) -> Took:
        """Sum up a lane."""
        ratios = [own / other for own, other in zip(lane.cpu[WARM:], base.cpu[WARM:], strict=True)]
        ratio, cpu, seconds = (statistics.median(one) for one in (ratios, lane.cpu[WARM:], lane.seconds[WARM:]))
        return cls(ratio, cpu, seconds, statistics.median(lane.encoding[WARM:]), lane.sealed(batches))


def _rounds(bodies: list[bytes], address: str, url: str, results: Any) -> None:
    """All loads through all exporters, in turn."""
    prepare()

    async def measure(load: str, polls: list[list[Batch]]) -> dict[str, Took]:
        lanes = [Lane(f"OTLP/HTTP, {one}", _otlp(url, compression=one)) for one in ("gzip", "none")]
        lanes += [Lane(f"Kafka, {one}", _kafka(address, _topic(load, one), compression=one)) for one in COMPRESSIONS]
        async with AsyncExitStack() as stack:
            for lane in lanes:
                await stack.enter_async_context(lane.exporter)
            for number in range(ROUNDS):
                for lane in lanes:
                    await lane.round(polls[number % POLLS])
                if not number:
                    settle()
            return {lane.name: Took.of(lane, lanes[0], polls[0]) for lane in lanes}

    pages = list(_polls(bodies))
    loads = {ONE: pages, WHOLE: _as_one(pages), MANY: _by_resource(pages)}
    results.put({load: trio.run(measure, load, polls) for load, polls in loads.items()})


def _latencies(bodies: list[bytes], address: str, url: str, results: Any) -> None:
    """Seconds from ``put`` to the acknowledgement of a small bundle: median and 95th percentile, by exporter."""
    prepare()
    small = [_by_resource(_polls(bodies[:1]))[0][0].take(range(SMALL))]

    async def measure(made: Made) -> tuple[float, float]:
        seconds = []
        async with made() as exporter:
            for _ in range(BUNDLES):
                began = time.perf_counter()
                await _deliver(exporter, small)
                seconds.append(time.perf_counter() - began)
                await trio.sleep(PAUSE)
        centiles = statistics.quantiles(seconds[WARM:], n=20)
        return centiles[9], centiles[18]

    lanes: dict[str, Made] = {
        "OTLP/HTTP": partial(_otlp, url),
        "Kafka": partial(_kafka, address, "latency"),
        "Kafka with `linger.ms` 0": partial(_kafka, address, "latency", properties={"linger.ms": 0}),
    }
    results.put({name: trio.run(measure, made) for name, made in lanes.items()})


@dataclass(frozen=True)
class Queue:
    """A full queue sent, and idling then: seconds, of the clock and of CPU; resident sets in bytes."""

    size: int
    samples: int
    resources: int
    seconds: float
    cpu: float
    before: int  # before the exporter was made
    connected: int
    full: int
    peak: int
    after: int
    idle: float


def _catch_up(bodies: list[bytes], made: Made, results: Any) -> None:
    """Fill a queue, send all of it, idle."""
    prepare()
    polls = _by_resource(_polls(bodies))
    settle()
    before = resident()

    async def measure() -> Queue:
        async with made() as exporter:
            await _deliver(exporter, polls[0][:1])
            connected = resident()
            counts = ExporterCounts()
            outbox = Outbox(exporter, OutboxSettings(), counts)
            fit = QUEUE // sum(len(payload.body) for batch in polls[0] for payload in exporter.encode(batch))
            for number in range(fit):
                for batch in polls[number % POLLS]:
                    outbox.put(batch.but())
            outbox.close()
            size, full = outbox.bytes, resident()
            _forget_peak()
            cpu, clock = time.process_time(), time.perf_counter()
            await outbox.run()
            seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
            peak = _peak()
            settle()
            after, began = resident(), time.process_time()
            await trio.sleep(IDLE_SECONDS)
            idle = (time.process_time() - began) / IDLE_SECONDS
            return Queue(size, counts.sent, fit * PROXIES, seconds, cpu, before, connected, full, peak, after, idle)

    results.put(trio.run(measure))


def _forget_peak() -> None:
    """Let the peak of the resident set begin anew (proc(5), ``clear_refs``)."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


# -- the other side ----------------------------------------------------------------------------------------------------


def _serve(urls: Any, done: Any) -> None:
    """Take OTLP requests until told to end."""
    with Peer() as peer:
        threading.Thread(target=peer.serve_forever, daemon=True).start()
        urls.put(peer.url)
        done.wait()
        peer.shutdown()


@contextmanager
def _sink() -> Iterator[str]:
    """A destination of OTLP/HTTP that is a process of its own: its URL."""
    context = multiprocessing.get_context("spawn")
    urls, done = context.Queue(), context.Event()
    process = context.Process(target=_serve, args=(urls, done), daemon=True)
    process.start()
    try:
        yield urls.get(timeout=30)
    finally:
        done.set()
        process.join()


@contextmanager
def _broker(jars: Path, topics: Iterable[str]) -> Iterator[tuple[Broker, Callable[[str], int]]]:
    """A broker with these topics, and what tells the bytes of a topic: its batches, as the producer compressed them."""
    with tempfile.TemporaryDirectory() as name, Broker(jars, Path(name)) as broker:
        for topic in topics:
            broker.create_topic(topic, PARTITIONS)
        yield broker, lambda topic: sum(log.stat().st_size for log in Path(name).glob(f"data/{topic}-*/*.log"))


# -- the tables --------------------------------------------------------------------------------------------------------

_HEAD = """\
| load | exporter | ns of CPU a sample | of it encoding | beside OTLP | us of CPU a resource | resources/s | samples/s | bytes a sample |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""

_NOTES = f"""\
Apache Kafka, one broker, {PARTITIONS} partitions, and an OTLP sink on the same machine; medians of {ROUNDS - WARM} pages of {{samples:,}} samples, all
exporters in turn on the same batches, from the batch to the acknowledgement.

- CPU is the agent's, librdkafka's threads included; of it encoding: filling the template, for Kafka framing records.
- `beside OTLP` is the median of what it costs beside OTLP/HTTP with gzip for the same page.
- Bytes are those of batches in the topic, or of OTLP's request.
- "{ONE}": in batches as the receiver makes them; "{WHOLE}": larger than `batch.max_bytes`, so that OTLP must cut it;
  "{MANY}": one for each proxy, {{each:,.0f}} samples in a record."""


def _row(load: str, name: str, samples: int, took: Took, size: float) -> str:
    resources = PROXIES if load == MANY else 1
    cells = (
        load,
        name,
        f"{took.cpu / samples * 1e9:,.0f}",
        f"{took.encoding / samples * 1e9:,.0f}",
        f"{took.ratio:.2f}",
        f"{took.cpu / resources * 1e6:,.0f}",
        f"{resources / took.seconds:,.0f}",
        f"{samples / took.seconds:,.0f}",
        f"{size / samples:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _table(found: dict[str, dict[str, Took]], samples: int, log_bytes: Callable[[str], int]) -> str:
    lines = [_HEAD]
    for load, lanes in found.items():
        for name, took in lanes.items():
            way, _, compression = name.partition(", ")
            size = log_bytes(_topic(load, compression)) / ROUNDS if way == "Kafka" else took.size
            lines.append(_row(load, name, samples, took, size))
    return "\n".join(lines)


def _on_latency(found: dict[str, tuple[float, float]]) -> str:
    said = "; ".join(f"{name} {middle * 1000:.1f} ms, {most * 1000:.1f} ms" for name, (middle, most) in found.items())
    return f"- A bundle of {SMALL} samples, from the batch to the acknowledgement (median, 95th percentile): {said}."


def _on_queue(name: str, one: Queue) -> str:
    return (
        f"- {name} catches up on a queue of {one.size / _MIB:.0f} MiB ({one.samples:,} samples of {one.resources:,} resources) "
        f"in {one.seconds:.2f} s, {one.cpu:.2f} s of CPU: {one.samples / one.seconds / 1e6:.1f} million samples/s, "
        f"{one.resources / one.seconds:,.0f} resources/s. Resident set: {(one.connected - one.before) / _MIB:.1f} MiB "
        f"more once it is connected, {(one.peak - one.full) / _MIB:.1f} MiB more than the full queue at the peak, "
        f"{(one.after - one.before) / _MIB:.1f} MiB more when all is sent. Idle: {one.idle * 1e3:.2f} ms of CPU a second."
    )


def main() -> str:
    """Measure; returns Markdown. Where no broker can be had, that is all it says."""
    jars = find_kafka()
    if isinstance(jars, str):
        print(f"\nNOT MEASURED: the way to Kafka: {jars}\n", file=sys.stderr)
        return f"Not measured: {jars}."
    mesh = Mesh(PROXIES * ROUTES_PER_TARGET * PER_ROUTE)
    bodies = [gzip.compress(mesh.page(), 1) for _ in range(POLLS)]
    topics = [_topic(load, one) for load in (ONE, WHOLE, MANY) for one in COMPRESSIONS]
    with _broker(jars, [*topics, "latency", "queue"]) as (broker, log_bytes), _sink() as url:
        address = broker.address()
        table = _table(alone(_rounds, bodies, address, url), mesh.samples, log_bytes)
        latency = _on_latency(alone(_latencies, bodies, address, url))
        ways: dict[str, Made] = {"OTLP/HTTP": partial(_otlp, url), "Kafka": partial(_kafka, address, "queue")}
        queues = [_on_queue(name, alone(_catch_up, bodies, made)) for name, made in ways.items()]
    return "\n".join(
        (_NOTES.format(samples=mesh.samples, each=mesh.samples / PROXIES), "", table, "", latency, *queues)
    )


if __name__ == "__main__":
    print(main())
