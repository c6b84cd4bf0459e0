"""What a page costs in each format that a target may answer in: ns of CPU per sample, medians.

The pages hold the same series (``bench/pages.py``: 31 samples a route), as a target writes them, without timestamps. In
OpenMetrics counts are ``12.0``, sums have a fraction, and one bucket of each histogram carries an exemplar, new at each page.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from bench.pages import BOUNDS, Mesh
from exporters.protobuf import varint
from receivers import protobuf_page
from receivers.dialects import OPENMETRICS, TEXT, Dialect
from receivers.exposition import parse_page as parse_text
from receivers.openmetrics import parse_page as parse_openmetrics
from receivers.protobuf_memory import MessageMemory
from receivers.protobuf_messages import message_class
from receivers.skeleton import Skeleton

_SAMPLES = 2000
_PAGES = 60
_HEAD = """\
Only reading them, 2,000 samples a page: "remembered" as the receiver does it, "carefully" what is unlike all that came
before, line by line or field by field.

"""


class Pages(Mesh):
    """The pages of one target."""

    def text(self) -> bytes:
        """Return the next page in text 0.0.4."""
        return "".join(self._target_lines("", str, exemplars=False)).encode()

    def hybrid(self) -> bytes:
        """Return the next page as Linkerd's proxies have it: comments of OpenMetrics, numbers of text 0.0.4."""
        return ("".join(self._target_lines("_total", str, exemplars=False)) + "# EOF\n").encode()

    def openmetrics(self) -> bytes:
        """Return the next page in OpenMetrics, with exemplars."""
        return self._openmetrics(exemplars=True)

    def plain_openmetrics(self) -> bytes:
        """Return the next page in OpenMetrics, without exemplars."""
        return self._openmetrics(exemplars=False)

    def protobuf(self) -> bytes:
        """Return the next page in delimited protobuf."""
        family = message_class("MetricFamily")
        requests, latency, connections = (
            family(name=b"request_total", type=0),
            family(name=b"latency_ms", type=4),
            family(name=b"connections", type=1),
        )
        for labels, count in self._rows():
            pairs = [pair.split('="') for pair in labels.removesuffix('"').split('",')]
            metrics = [one.metric.add() for one in (requests, latency, connections)]
            for metric in metrics:
                for name, value in pairs:
                    metric.label.add(name=name.encode(), value=value.encode())
            metrics[0].counter.value = count
            metrics[2].gauge.value = count % 97
            histogram = metrics[1].histogram
            histogram.sample_count, histogram.sample_sum = count, count * 0.37
            for index, bound in enumerate(BOUNDS):
                histogram.bucket.add(cumulative_count=count * (index + 1) // 26, upper_bound=bound)
        messages = (one.SerializeToString() for one in (requests, latency, connections))
        return b"".join(varint(len(message)) + message for message in messages)

    def _openmetrics(self, *, exemplars: bool) -> bytes:
        lines = self._target_lines("_total", lambda count: f"{count}.0", exemplars=exemplars)
        return ("".join(lines) + "# EOF\n").encode()

    def _rows(self) -> list[tuple[str, int]]:
        self.move()
        return list(zip(self.labels(), self.counts, strict=True))

    def _target_lines(self, total: str, written: Callable[[int], str], *, exemplars: bool) -> Iterator[str]:
        rows = self._rows()
        yield f"# TYPE request{'' if total else '_total'} counter\n"
        yield from (f"request_total{{{labels}}} {written(count)}\n" for labels, count in rows)
        yield "# TYPE latency_ms histogram\n"
        if total:
            yield "# UNIT latency_ms ms\n"
        for labels, count in rows:
            tail = f' # {{trace_id="{count * 7919:032x}"}} 0.67 1520879607.789' if exemplars else ""
            for index, bound in enumerate(BOUNDS):
                below = written(count * (index + 1) // 26)
                yield f'latency_ms_bucket{{{labels},le="{bound}"}} {below}{tail if index == 9 else ""}\n'
            yield f'latency_ms_bucket{{{labels},le="+Inf"}} {written(count)}\n'
            yield f"latency_ms_sum{{{labels}}} {count * 0.37:.2f}\nlatency_ms_count{{{labels}}} {written(count)}\n"
        yield "# TYPE connections gauge\n"
        yield from (f"connections{{{labels}}} {written(count % 97)}\n" for labels, count in rows)


def _fast(dialect: Dialect) -> Callable[[bytes], int]:
    """Read pages one after the other by the fast road; returns samples."""
    skeleton = Skeleton(lambda sample: 0, dialect=dialect)

    def read(body: bytes) -> int:
        reader = skeleton.read()
        reader.feed(body)
        return len(reader.finish().slots)

    return read


def _messages() -> Callable[[bytes], int]:
    """Read protobuf pages one after the other with what was remembered of the last; returns samples."""
    memory = MessageMemory(lambda sample, empty: 0)
    return lambda body: len(memory.read(body).slots)


def _cost(read: Callable[[bytes], int], page: Callable[[], bytes]) -> tuple[float, float]:
    """Return ns per sample of the first page, and the median of later ones."""
    costs = []
    for _ in range(_PAGES):
        body = page()
        began = time.process_time_ns()
        samples = read(body)
        costs.append((time.process_time_ns() - began) / samples)
    return costs[0], statistics.median(costs[1:])


def main() -> str:
    """Measure all formats; returns the table as Markdown."""
    pages = Pages(_SAMPLES)
    ways: tuple[tuple[str, Callable[[bytes], int], Callable[[], bytes]], ...] = (
        ("text, remembered", _fast(TEXT), pages.text),
        ("the proxies' hybrid, remembered", _fast(TEXT), pages.hybrid),
        ("OpenMetrics, remembered", _fast(OPENMETRICS), pages.plain_openmetrics),
        ("OpenMetrics with exemplars, remembered", _fast(OPENMETRICS), pages.openmetrics),
        ("protobuf, remembered", _messages(), pages.protobuf),
        ("text, carefully", lambda body: len(parse_text(body).samples), pages.text),
        ("OpenMetrics with exemplars, carefully", lambda body: len(parse_openmetrics(body).samples), pages.openmetrics),
        ("protobuf, carefully", lambda body: len(protobuf_page.parse_page(body).samples), pages.protobuf),
    )
    lines = [_HEAD + "| page | never seen before | steady |", "| --- | --- | --- |"]
    for name, read, page in ways:
        first, later = _cost(read, page)
        lines.append(f"| {name} | {first:,.0f} | {later:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
