"""What a sample of Prometheus' remote write costs, from the compressed body to the gzipped OTLP request: ns of CPU, medians.

Strategy. The bodies are those of a Prometheus' queue: targets are scraped one after the other over the interval, their
samples stand in the order of their pages with ``up`` and ``scrape_*`` behind them, series are dealt to the shards in turn,
and each shard's stream is cut after so many samples, wherever that is. So histograms lie across requests, and with several
shards always. Time is the bench's own: a request comes when it is full, the receiver looks at the clock every second.

A series that was never seen before costs at its first sample, and once more when its histogram is decided, which takes
``patience`` and so the next scrape. What is quoted is all until then, less what the second scrape costs anyhow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import cramjam

from agent.heap import prepare, settle
from bench.costs import Costs, WayOut
from bench.pages import START_MS, Mesh
from ebbtide import ReceiverCounts, split_own
from exporters.protobuf import length_delimited, varint
from receivers.exposition import parse_page
from receivers.remote_write import TICK_SECONDS
from receivers.remote_write_memory import Written
from receivers.remote_write_options import RemoteWriteSettings
from receivers.remote_write_snappy import inflate
from receivers.text import Sample
from receivers.types import TypeBook

STAGES = ("inflate", "parse", "memory", "resource", "template", "gzip")
SERIES = 20_000
INTERVAL_MS = 10_000
SCRAPES = 14  # of each target
_STEADY = 4  # scrapes, after which nothing is new any more
_CASES = ((2_000, 1), (2_000, 4), (10_000, 1))  # samples a request (2,000 is Prometheus' own default), shards
_OF_SCRAPES = ("scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added")  # fmt: skip
_KINDS = {"request_total": 1, "response_total": 1, "response_latency_ms": 3, "tcp_open_connections": 2}  # MetricType
_HELP = "What a proxy says of this metric, in a sentence of some length."
_HEAD = """\
- Requests of so many samples, from so many shards of one Prometheus; 20,000 series in all · `inflate` snappy · `parse`
  series recognised, numbers read, new ones named · `memory` targets, types, repeats, histograms joined, start times, tables.

"""

Sent = tuple[int, int, int]  # series, value, ms


def _stem(name: str) -> str:
    return next((name.removesuffix(end) for end in ("_bucket", "_sum", "_count") if name.endswith(end)), name)


def _by_target(samples: list[Sample]) -> list[list[Sample]]:
    """Sort the samples of a federated page by target, and there as a page has them: each histogram together."""
    targets: dict[str, dict[object, list[Sample]]] = {}
    for one in samples:
        rest, _ = split_own(one.name, one.labels)
        instance = one.labels[one.labels.index("instance") + 1]
        targets.setdefault(instance, {}).setdefault((_stem(one.name), rest), []).append(one)
    return [list(chain(*wholes.values())) for wholes in targets.values()]


@dataclass(frozen=True, slots=True)
class Series:
    """One series as it is written: sorted labels, its family's name and type, and how much it grows by each scrape."""

    labels: tuple[tuple[str, str], ...]
    family: str
    kind: int
    first: int
    growth: int

    @classmethod
    def of(cls, name: str, flat: tuple[str, ...], first: int) -> Series:
        """Make one of a sample's name and flat labels."""
        labels = (("__name__", name), *zip(flat[::2], flat[1::2], strict=True))
        kind = _KINDS.get(_stem(name), 0)
        return cls(tuple(sorted(labels)), _stem(name), kind, first, 7 if kind else 0)


class Prometheus:
    """What the shards of a Prometheus' queue send of a mesh: requests, each with the moment at which it is full."""

    def __init__(self, series: int, per_request: int, shards: int):
        self.per_request = per_request
        self._shards = shards
        self.series: list[Series] = []
        self._targets: list[range] = []
        for samples in _by_target(parse_page(Mesh(series).page()).samples):
            begin = len(self.series)
            self.series += [Series.of(one.name, one.labels, int(one.value)) for one in samples]
            self.series += [Series.of(name, samples[-1].labels, 1) for name in _OF_SCRAPES]
            self._targets.append(range(begin, len(self.series)))

    def requests(self, scrapes: int) -> Iterator[tuple[int, list[Sent]]]:
        """Walk the requests of so many scrapes of each target: ms, and what they hold."""
        queues: list[list[Sent]] = [[] for _ in range(self._shards)]
        for scrape in range(scrapes):
            for number, target in enumerate(self._targets):
                now = START_MS + INTERVAL_MS * scrape + INTERVAL_MS * number // len(self._targets)
                for index in target:
                    queue = queues[index % self._shards]
                    one = self.series[index]
                    queue.append((index, one.first + one.growth * scrape, now))
                    if len(queue) == self.per_request:
                        yield now, queue.copy()
                        queue.clear()


class FormV1:
    """Bodies of version 1.0, as Prometheus writes them: all labels with each sample."""

    version = 1

    def __init__(self, series: list[Series]):
        self._labels = [
            b"".join(length_delimited(1, length_delimited(1, name.encode()) + length_delimited(2, value.encode()))
                     for name, value in one.labels)
            for one in series
        ]  # fmt: skip

    def body(self, sent: list[Sent]) -> bytes:
        """Write one request."""
        return b"".join(length_delimited(1, self._labels[index] + _sample(value, ms)) for index, value, ms in sent)


class FormV2:
    """Bodies of version 2.0: labels refer to symbols; type and help stand with each series (``metadata-wal-records``)."""

    version = 2

    def __init__(self, series: list[Series]):
        self._series = series

    def body(self, sent: list[Sent]) -> bytes:
        """Write one request."""
        symbols = {"": 0}
        out = []
        for index, value, ms in sent:
            one = self._series[index]
            refs = [symbols.setdefault(text, len(symbols)) for label in one.labels for text in label]
            metadata = b"\x08" + varint(one.kind) if one.kind else b""
            if one.kind:
                metadata += b"\x18" + varint(symbols.setdefault(_HELP + one.family, len(symbols)))
            labels = length_delimited(1, b"".join(map(varint, refs)))
            out.append(length_delimited(5, labels + _sample(value, ms) + length_delimited(5, metadata)))
        return b"".join((*(length_delimited(4, text.encode()) for text in symbols), *out))


def _sample(value: int, ms: int) -> bytes:
    number = b"\x09" + struct.pack("<d", value) if value else b""
    return length_delimited(2, number + b"\x10" + varint(ms))


class Chain:
    """Remote write to OTLP/HTTP gzip, without the sockets."""

    def __init__(self, version: int) -> None:
        options = RemoteWriteSettings()
        self._version, self._max_body = version, options.max_body
        self.written = Written(ReceiverCounts(), TypeBook(), patience=round(options.patience * 10**9))
        self.out = WayOut()
        self._looked = 0  # when the receiver last looked at the clock, ns

    def poll(self, body: bytes, now: int, costs: Costs) -> None:
        """Run one compressed request through, that comes at ``now`` (ns), and the looks at the clock since the last."""
        costs.begin()
        with costs.stage("memory"):
            ready = []
            while self._looked and self._looked + TICK_SECONDS * 10**9 <= now:
                self._looked += round(TICK_SECONDS * 10**9)
                ready += self.written.tick(self._looked)
            self._looked = self._looked or now
        with costs.stage("inflate"):
            data = inflate(body, self._max_body)
        with costs.stage("parse"):
            decoded = self.written.read(self._version, data)
        with costs.stage("memory"):
            batches = list(self.written.booked(ready + self.written.take(decoded, now)))
        self.out.ship(batches, costs)


Form = FormV1 | FormV2


def measure(form: type[Form], per_request: int, shards: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the medians of steady requests, and the costs of a series that was never seen before."""
    source = Prometheus(SERIES, per_request, shards)
    bodies, chain = form(source.series), Chain(form.version)
    costs, first, before = Costs(per_request, STAGES), 0, 0
    for number, (ms, sent) in enumerate(source.requests(SCRAPES)):
        if ms < START_MS + 2 * INTERVAL_MS:
            first = number + 1
        if ms < START_MS + _STEADY * INTERVAL_MS:
            before = number + 1
        chain.poll(bytes(cramjam.snappy.compress_raw(bodies.body(sent))), ms * 10**6, costs)
        if number + 1 == first:
            settle()
    steady = costs.medians(skip=before)
    of_series = per_request / len(source.series)
    new = {name: sum(costs.stages[name][:first]) * of_series - steady[name] for name in STAGES}
    return steady, {**new, "whole": sum(new.values())}


def main() -> str:
    """Measure everything; returns the table as Markdown."""
    prepare()
    head = _HEAD + "| version | samples a request | shards | series | " + " | ".join((*STAGES, "whole chain")) + " |"
    lines = [head, "|" + " --- |" * (len(STAGES) + 5)]
    for form in (FormV1, FormV2):
        for per_request, shards in _CASES:
            for name, costs in zip(("steady", "never seen before"), measure(form, per_request, shards), strict=True):
                cells = " | ".join(f"{costs[stage]:,.0f}" for stage in (*STAGES, "whole"))
                lines.append(f"| {form.version}.0 | {per_request:,} | {shards} | {name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
