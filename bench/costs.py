"""What a sample costs, stage by stage, from the gzipped answer to the gzipped OTLP request: ns of CPU, medians.

Each poll runs through all stages in turn, so that caches are as warm or cold as in life; what is quoted is the median
poll of each stage. ``first`` is the first page of a fresh process part, all of whose series were never seen before.
"""

from __future__ import annotations

import gzip
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.heap import prepare, settle
from agent.inflate import Inflater
from bench.pages import START_MS, Mesh
from ebbtide import Batch, ReceiverCounts
from exporters.otlp_seal import codec
from exporters.otlp_template import encode
from processors.resource import Resource
from receivers.scrape import Scrape
from receivers.types import TypeBook

STAGES = ("inflate", "skeleton", "memory", "resource", "template", "gzip")
_WIRE = 64 << 10  # bytes that come off the wire at once
_POLLS = {300: 300, 2000: 100, 60000: 12}
_METADATA = {"response_latency_ms": [{"type": "histogram", "help": "", "unit": ""}]}
_HEAD = """\
- `inflate` gunzip of the answer · `skeleton` lines matched, numbers read · `memory` repeats, torn histograms, start times,
  staleness, tables · `resource` the processor of that name · `template` OTLP bytes · `gzip` of the request.

"""


@dataclass
class Costs:
    """ns per sample and stage of each poll."""

    samples: int
    names: tuple[str, ...] = STAGES
    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the CPU time of the block to this poll's stage."""
        began = time.process_time_ns()
        yield
        self.stages[name][-1] += (time.process_time_ns() - began) / self.samples

    def begin(self) -> None:
        """Begin a poll."""
        for name in self.names:
            self.stages[name].append(0.0)

    def medians(self, skip: int = 0) -> dict[str, float]:
        """Median ns per sample of each stage, and of their sum."""
        found = {name: statistics.median(self.stages[name][skip:]) for name in self.names}
        polls = zip(*(self.stages[name][skip:] for name in self.names), strict=True)
        return {**found, "whole": statistics.median(map(sum, polls))}


class WayOut:
    """From a receiver's batches to the body of an OTLP/HTTP request: the stages that every way in has behind it."""

    def __init__(self) -> None:
        self._resource = Resource()
        self._compress = codec("gzip").compress

    def ship(self, batches: Iterable[Batch], costs: Costs) -> None:
        """Run the batches of one poll through."""
        with costs.stage("resource"):
            processed = [batch for one in batches if (batch := self._resource.process(one))]
        with costs.stage("template"):
            bodies = [encode(batch).body for batch in processed]
        with costs.stage("gzip"):
            self._compress(b"".join(bodies))


class Chain:
    """Federate to OTLP/HTTP gzip, without the sockets."""

    def __init__(self) -> None:
        types = TypeBook()
        types.learn(_METADATA)
        self.scrape = Scrape(ReceiverCounts(), types)
        self.out = WayOut()

    def poll(self, body: bytes, now: int, costs: Costs) -> None:
        """Run one gzipped answer through."""
        costs.begin()
        reader = self.scrape.read()
        inflater = Inflater("gzip", 1 << 40, "bench")
        for at in range(0, len(body), _WIRE):
            pieces = inflater.feed(body[at : at + _WIRE])
            while True:
                with costs.stage("inflate"):
                    piece = next(pieces, None)
                if piece is None:
                    break
                with costs.stage("skeleton"):
                    reader.feed(piece)
        with costs.stage("skeleton"):
            page = self.scrape.finish(reader)
        with costs.stage("memory"):
            self.scrape.unknown_targets()
            batches = list(self.scrape.take(page, now))
        self.out.ship(batches, costs)


def measure(samples: int, churn: float) -> tuple[dict[str, float], dict[str, float]]:
    """Return the medians of steady (or churning) polls, and the costs of the first."""
    mesh, chain = Mesh(samples, churn), Chain()
    first, later = Costs(mesh.samples), Costs(mesh.samples)
    for poll in range(_POLLS[samples]):
        body = gzip.compress(mesh.page(), 1)
        chain.poll(body, (START_MS + 5000 * (poll + 1)) * 10**6, later if poll else first)
        if not poll:
            settle()
    return later.medians(skip=2), first.medians()


def main() -> str:
    """Measure everything; returns the table as Markdown."""
    prepare()
    head = _HEAD + "| samples a page | series | " + " | ".join((*STAGES, "whole chain")) + " |"
    lines = [head, "|" + " --- |" * (len(STAGES) + 3)]
    for samples in _POLLS:
        rows = []
        for churn, name in ((0.0, "steady"), (0.01, "1 % new a poll")):
            later, first = measure(samples, churn)
            rows.append((name, later))
        rows.append(("never seen before", first))
        for name, costs in rows:
            cells = " | ".join(f"{costs[stage]:,.0f}" for stage in (*STAGES, "whole"))
            lines.append(f"| {samples:,} | {name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
