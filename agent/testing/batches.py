"""Batches that have broken plugins before: small, fixed, each with a name that says what is odd about it.

They need no library to make them up, and are the same at every run, so that a failure can be told by its name.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agent.batch import STALE_NAN, Batch, Row
from agent.identity import AttributeValue, Family, Kind, Resource, Scope, Target, flatten
from agent.native import CUSTOM_BUCKETS, Exemplar, Extra, NativeHistogram
from agent.series import Series

TIME = 1_763_879_000_123_000_000
"""Wall time of most points, in ns."""
START = TIME - 3_600 * 10**9

_SECOND = 10**9
_KINDS: tuple[Kind, ...] = (
    "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown",
)  # fmt: skip
_LONG = 1 << 16  # characters of the longest label value
_LARGEST_TIME = 2**63 - 1


def batches() -> dict[str, Batch]:
    """Return all of them by name. None is larger than 200 rows; together they are quick to pass through anything."""
    return {
        "empty": Batch.of([]),
        "one row": Batch.of([_row("up", 1.0)]),
        "mesh": mesh(),
        "every kind": Batch.of(_row("x", 1.0, Family("x", kind)) for kind in _KINDS),
        "numbers": _numbers(),
        "ends": _ends(),
        "starts and times": _times(),
        "words": _words(),
        "parts without a whole": _parts(),
        "resources and scopes": _resources(),
        "one series twice": Batch.of([_row("up", 1.0), _row("up", 2.0, None, TIME + _SECOND), _row("down", 3.0)]),
        "native histograms": _native(),
    }


def mesh(time: int = TIME) -> Batch:
    """Return what a poll of a small mesh looks like: counters, gauges and latency histograms of six pods."""
    requests = Family("request_total", "counter", "", "Requests.")
    latency = Family("response_latency_ms", "histogram", "ms", "Latency of answers.")
    rows = []
    for number, name in enumerate(("web", "cart", "orders", "payment", "stock", "mail")):
        labels = {"job": "linkerd-proxy", "instance": f"10.0.0.{number}:4191", "namespace": "shop", "pod": f"{name}-0"}
        target = Target.of({**labels, "deployment": name})
        labels = {**labels, "deployment": name, "direction": "inbound", "tls": "true"}
        counts = {"1": 1.0, "5": 4.0, "10": 4.0, "100": 11.0, "+Inf": 12.0}
        points = [("request_total", labels, requests, 12.0), ("process_open_fds", labels, Family("process_open_fds", "gauge"), 31.0)]  # fmt: skip
        points += [("response_latency_ms_bucket", {**labels, "le": le}, latency, n) for le, n in counts.items()]
        points += [(f"response_latency_ms_{part}", labels, latency, n) for part, n in (("sum", 310.5), ("count", 12.0))]
        rows += [Row(Series.of(n, ls, family, target=target), v, time, START, False) for n, ls, family, v in points]
    return Batch.of(rows)


def _row(
    name: str, value: float, family: Family | None = None, time: int = TIME, start: int = 0, stale: bool = False,
    /, **labels: str,
) -> Row:  # fmt: skip
    return Row(Series.of(name, labels, family or Family(name, "gauge")), value, time, start, stale)


def _end(name: str, family: Family, /, **labels: str) -> Row:
    return _row(name, STALE_NAN, family, TIME, 0, True, **labels)


def _numbers() -> Batch:
    """What a double can hold: NaN, the infinities, both zeros, the least and the largest, and 2^53 + 2."""
    numbers = (np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -1.7976931348623157e308, 2.0**53 + 2, 1e21, 0.1)
    counter = Family("c", "counter")
    rows = [_row("g", value, n=str(number)) for number, value in enumerate(numbers)]
    return Batch.of(rows + [_row("c", value, counter, n=str(number)) for number, value in enumerate(numbers)])


def _ends() -> Batch:
    """Streams that end beside streams that go on, of every shape; and a NaN that is not an end."""
    h = Family("h", "histogram")
    rows = [_end("gone_counter", Family("gone_counter", "counter")), _end("gone_gauge", Family("gone_gauge", "gauge"))]
    rows += [_end("h_bucket", h, le=le) for le in ("1", "+Inf")] + [_end("h_sum", h), _end("h_count", h)]
    return Batch.of([*rows, _row("here", 1.0), _row("no_number", np.nan)])


def _times() -> Batch:
    """Starts that are unknown, that are the point's own time, that follow it; times at both ends of what there is."""
    counter = Family("c", "counter")
    pairs = ((TIME, 0), (TIME, TIME), (TIME, TIME + _SECOND), (0, 0), (1, 1), (_LARGEST_TIME, START), (TIME + 1, START))
    return Batch.of(
        _row("c", 1.0, counter, time, start, False, n=str(number)) for number, (time, start) in enumerate(pairs)
    )


def _words() -> Batch:
    """Names and labels of every sort: UTF-8, quotes, newlines, separators, dots, very long, very many, none."""
    texts = ("ü", "naïve café", "日本語", "🦀", '"', "\\", "\n", "\t", "\r\n", "{}", "a,b", "=", ";", "#", "|", ":", " ", "\x00", "\ufeff", "e\u0301")  # fmt: skip
    rows = [_row("words", 1.0, text=text) for text in texts]
    rows += [_row("names", 2.0, **{name: "x"}) for name in ("http.method", "größe", "a b", "__meta", "0", "le", "quantile", "name", "type")]  # fmt: skip
    rows += [_row(name, 3.0) for name in ("http.server.duration", "größe", "a:b:rate5m", "_", "x" * 1000)]
    many = {f"label_{number}": str(number) for number in range(100)}
    return Batch.of([*rows, _row("long", 4.0, text="y" * _LONG), _row("many", 5.0, **many), _row("none", 6.0)])


def _parts() -> Batch:
    """Histograms and summaries with parts missing, doubled, out of order, or with bounds that are no numbers."""
    h, s = Family("h", "histogram"), Family("s", "summary")
    rows = [_row("h_bucket", n, h, which="no count", le=le) for le, n in (("10", 2.0), ("1", 5.0))]
    rows += [_row("h_count", 5.0, h, which="count alone"), _row("h_sum", -1.5, h, which="sum alone")]
    rows += [_row("h_bucket", 1.0, h, which="odd bounds", le=le) for le in ("", "one", "NaN", "-Inf", "1", "1.0")]
    rows += [_row("h_count", 1.0, h, which="odd bounds"), _row("h", 9.0, h, which="no part")]
    rows += [_row("s", n, s, quantile=q) for q, n in (("0.99", 3.0), ("0.5", np.nan), ("half", 1.0), ("2", 1.0))]
    return Batch.of([*rows, _row("s_count", np.nan, s), _row("s_sum", np.inf, s)])


def _resources() -> Batch:
    """Series that have a resource and a scope already, with attributes of every type."""
    attributes: dict[str, AttributeValue] = {"service.name": "web", "yes": True, "one": 1, "half": 0.5, "größe": "ü"}
    resource = Resource.of(attributes)
    scope = Scope.of("library", "1.2", "https://opentelemetry.io/schemas/1.30.0", {"k": "v"})
    gauge = Family("g", "gauge", "By", "Help.")
    series = [Series.of("g", {"n": "1"}, gauge, r, c) for r in (resource, Resource.of()) for c in (scope, Scope.of())]
    return Batch.of(Row(one, 1.0, TIME, 0, False) for one in series)


def _native() -> Batch:
    """Native histograms of every sort and exemplars, beside rows that have neither."""
    family, gauge, counter = (
        Family("native", "histogram", "s"),
        Family("moving", "gaugehistogram"),
        Family("c", "counter"),
    )
    exemplars = (
        _example(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331"),
        _example(0, trace_id="x"),
    )
    of = NativeHistogram.of
    natives = [
        of(count=9.0, sum=18.4, schema=3, zero_threshold=1e-3, zero_count=2.0, positive={-3: 1.0, 4: 4.0}, negative={1: 2.0}),
        of(count=6.0, sum=np.nan, schema=CUSTOM_BUCKETS, positive={0: 1.0, 2: 5.0}, custom_bounds=(0.1, 1.0)),
        of(count=3.0, sum=np.inf, schema=8, positive={-274_944: 1.0, 262_145: 2.0}),
        of(count=0.75, sum=1.5, schema=0, positive={1: 0.75}),
        of(count=0.0, sum=0.0, schema=-4),
    ]  # fmt: skip
    rows = [_row("native", one.count, family, n=str(number)) for number, one in enumerate(natives)]
    rows = [replace(row, extra=Extra(one, exemplars)) for row, one in zip(rows, natives, strict=True)]
    moving = of(count=2.0, sum=3.0, schema=1, positive={1: 2.0}, is_gauge=True)
    rows += [replace(_row("moving", 2.0, gauge), extra=Extra(moving)), _end("native", family, n="gone")]
    rows += [_row("native", 1.0, family, n="nothing there"), _row("c", 5.0, counter, n="no exemplar")]
    rows += [replace(_row("c", 5.0, counter), extra=Extra(exemplars=exemplars))]
    classic = Family("h", "histogram")
    rows += [_row("h_bucket", n, classic, le=le) for le, n in (("1", 2.0), ("+Inf", 3.0))] + [
        _row("h_count", 3.0, classic)
    ]
    rows[-3:-1] = [replace(row, extra=Extra(exemplars=exemplars)) for row in rows[-3:-1]]
    return Batch.of(rows)


def _example(time: int = TIME, /, **labels: str) -> Exemplar:
    return Exemplar(flatten({**labels, "user": "ü"}), 0.3, time)
