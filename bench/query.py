"""What a raw sample of the query API costs, from the gzipped JSON to the gzipped OTLP request: ns of CPU, medians.

Each answer is a window of three scrapes, as a poll every 30 s of a Prometheus that scrapes every 10 s gets, or of one.
The same mesh as a page would cost its share of ``bench/costs.py``; here every line's labels stand in the answer once.
"""

from __future__ import annotations

import gzip
import json
import time

from agent.heap import prepare, settle
from agent.inflate import Inflater
from bench.costs import Costs, WayOut
from bench.pages import START_MS, Mesh
from ebbtide import ReceiverCounts
from receivers.exposition import parse_page
from receivers.matrix import AnswerReader, Metrics
from receivers.query_cursor import Window
from receivers.types import TypeBook
from receivers.window import WindowScrape

STAGES = ("inflate", "json", "window", "resource", "template", "gzip")
_WIRE = 64 << 10  # bytes that come off the wire at once
_STEP = 10_000  # ms between scrapes
_POLLS = 12
_CASES = ((2_000, 3), (20_000, 1), (20_000, 3), (60_000, 3))
_HEAD = """\
- One answer is a window of so many scrapes; `json` the elements cut, labels recognised, numbers read · `window` what is new,
  who was away, rounds, repeats, start times, tables. `json.loads` alone is the standard library's reader, with no use made of
  the tree.

"""
_METADATA = {"response_latency_ms": [{"type": "histogram", "help": "", "unit": ""}]}


class Answers:
    """What the API answers to a range selector: ``scrapes`` samples of each series, later at each poll."""

    def __init__(self, samples: int, scrapes: int):
        mesh = Mesh(samples)
        page = parse_page(mesh.page())
        self._metrics = [
            json.dumps({"__name__": one.name, **dict(zip(one.labels[::2], one.labels[1::2], strict=True))}, separators=(",", ":"))
            for one in page.samples
        ]  # fmt: skip
        self._values = [int(one.value) for one in page.samples]
        self._scrapes = scrapes
        self.samples = scrapes * len(self._metrics)
        self.end = START_MS

    def next(self) -> tuple[bytes, Window]:
        """Return the next answer, and its window."""
        begin, self.end = self.end, self.end + self._scrapes * _STEP
        times = range(begin + _STEP, self.end + 1, _STEP)
        elements = []
        for index, metric in enumerate(self._metrics):
            pairs = []
            for moment in times:
                self._values[index] += 7
                pairs.append(f'[{moment / 1000:.12g},"{self._values[index]}"]')
            elements.append(f'{{"metric":{metric},"values":[{",".join(pairs)}]}}')
        head = '{"status":"success","data":{"resultType":"matrix","result":['
        return (head + ",".join(elements) + "]}}").encode(), Window(begin - 5_000, begin, self.end)


class Chain:
    """Query to OTLP/HTTP gzip, without the sockets."""

    def __init__(self) -> None:
        types = TypeBook()
        types.learn(_METADATA)
        self.scrape = WindowScrape(ReceiverCounts(), types)
        self.metrics = Metrics(self.scrape.learn)
        self.out = WayOut()

    def poll(self, body: bytes, window: Window, costs: Costs) -> None:
        """Run one gzipped answer through."""
        costs.begin()
        reader, inflater = AnswerReader(self.metrics), Inflater("gzip", 1 << 40, "bench")
        for at in range(0, len(body), _WIRE):
            with costs.stage("inflate"):
                pieces = list(inflater.feed(body[at : at + _WIRE]))
            with costs.stage("json"):
                for piece in pieces:
                    reader.feed(piece)
        with costs.stage("json"):
            answer = reader.finish()
        with costs.stage("window"):
            self.scrape.unknown_targets()
            batches = list(self.scrape.take_window(answer.slots, answer.values, answer.times * 10**6, window))
        self.out.ship(batches, costs)


def measure(samples: int, scrapes: int) -> tuple[dict[str, float], dict[str, float], float]:
    """Return the medians of steady polls, the costs of the first, and ns per sample of json.loads."""
    answers, chain = Answers(samples, scrapes), Chain()
    first, later = Costs(answers.samples, STAGES), Costs(answers.samples, STAGES)
    plain = 0.0
    for poll in range(_POLLS):
        body, window = answers.next()
        chain.poll(gzip.compress(body, 1), window, later if poll else first)
        if not poll:
            settle()
            began = time.process_time_ns()
            json.loads(body)
            plain = (time.process_time_ns() - began) / answers.samples
    return later.medians(skip=1), first.medians(), plain


def main() -> str:
    """Measure everything; returns the table as Markdown."""
    prepare()
    head = _HEAD + "| series | scrapes a window | " + " | ".join((*STAGES, "whole chain")) + " | `json.loads` alone |"
    lines = [head, "|" + " --- |" * (len(STAGES) + 4)]
    for samples, scrapes in _CASES:
        later, first, plain = measure(samples, scrapes)
        for name, costs in ((f"{scrapes}", later), (f"{scrapes}, never seen before", first)):
            cells = " | ".join(f"{costs[stage]:,.0f}" for stage in (*STAGES, "whole"))
            lines.append(f"| {samples:,} | {name} | {cells} | {plain:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
