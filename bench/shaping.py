"""What processors that look at identity cost: ns of CPU per sample of a steady batch, and per series never seen before.

The batches are those of a federated page of 20,000 samples. The rules are such as people write: six that look at labels
which many series share, three that look at none (a constant, a drop, a hash), and one that renames a metric, where asked.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from agent.heap import prepare, settle
from bench.pages import START_MS, Mesh
from ebbtide import Arrival, Batch, Processor, ReceiverCounts, RelabelRule
from processors.filter import Filter, FilterSettings
from processors.relabel import Relabel, RelabelSettings
from receivers.scrape import Scrape
from receivers.types import TypeBook

_SAMPLES = 20_000
_STEADY = 200  # passes over the batches
_FIRST = 5  # meshes never seen before

_HEAD = """\
Over the batches of a federated page of 20,000 samples.

"""

_ON_LABELS = [
    RelabelRule(action="labeldrop", regex="pod_template_hash|dst_pod_template_hash|control_plane_ns"),
    RelabelRule(source_labels=["namespace", "deployment"], separator="/", target_label="workload"),
    RelabelRule(
        source_labels=["authority"], regex=r"([^.]+)\.([^.]+)\.svc\..*", target_label="dst", replacement="$1.$2"
    ),
    RelabelRule(action="labelmap", regex="dst_(.+)", replacement="to_$1"),
    RelabelRule(action="drop", source_labels=["target_port"], regex="4191|4190"),
    RelabelRule(action="keep", source_labels=["namespace"], regex="shop|linkerd.*"),
    RelabelRule(action="lowercase", source_labels=["tls"], target_label="tls"),
    RelabelRule(action="hashmod", source_labels=["instance"], modulus=8, target_label="shard"),
    RelabelRule(target_label="cluster", replacement="north"),
    RelabelRule(source_labels=["direction"], regex="(in|out)bound", target_label="side", replacement="${1}"),
]
_ON_NAMES = [
    *_ON_LABELS[:9],
    RelabelRule(source_labels=["__name__"], regex="response_(.*)", target_label="__name__", replacement="answer_$1"),
]
_SELECTORS = [
    '{__name__=~"stack_.*|tokio_rt_.*"}',
    '{target_port="4191"}',
    'up{job!~"linkerd-.*"}',
    '{dst_namespace="x"}',
]

Make = Callable[[], Processor[Any]]

_CHAINS: dict[str, Make] = {
    "ten relabel rules on labels": lambda: Relabel(RelabelSettings(rules=_ON_LABELS)),
    "ten relabel rules, one on names": lambda: Relabel(RelabelSettings(rules=_ON_NAMES)),
    "filter of four selectors": lambda: Filter(FilterSettings(drop=_SELECTORS)),
}


def _batches() -> tuple[list[Batch], int]:
    """Return the batches of a page whose series nothing has seen before, and their rows."""
    scrape = Scrape(ReceiverCounts(), TypeBook())
    reader = scrape.read()
    reader.feed(Mesh(_SAMPLES).page())
    page = scrape.finish(reader)
    scrape.unknown_targets()
    batches = list(scrape.take(page, (START_MS + 5000) * 10**6))
    return batches, sum(map(len, batches))


def _pass(processor: Processor[Any], batches: list[Batch]) -> int:
    arrival = Arrival()
    for batch in batches:
        batch.together = arrival
    began = time.process_time_ns()
    for batch in batches:
        processor.process(batch)
    return time.process_time_ns() - began


def _measured(make: Make) -> tuple[float, float]:
    """Return the ns per series of the first pass, and per sample of the median of later ones."""
    processor = make()
    batches, rows = _batches()
    settle()
    first = _pass(processor, batches) / rows
    return first, statistics.median(_pass(processor, batches) / rows for _ in range(_STEADY))


def main() -> str:
    """Measure; returns the table as Markdown."""
    prepare()
    lines = [_HEAD + "| processor | steady, ns per sample | never seen before, ns per series |", "| --- | --- | --- |"]
    for name, make in _CHAINS.items():
        first, steady = map(statistics.median, zip(*(_measured(make) for _ in range(_FIRST)), strict=True))
        lines.append(f"| {name} | {steady:,.1f} | {first:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
