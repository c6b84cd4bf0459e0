"""One set of families in each of the formats: the same series, kinds and values, whichever was negotiated."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide import Row
from exporters.protobuf import varint
from receivers.negotiation import Format
from receivers.protobuf_messages import message_class
from receivers.protobuf_page import bound_text
from tests.receivers.page_harness import TARGET, Targets, scraped

KINDS = ("counter", "gauge", "histogram", "summary", "unknown")
NUMBERS = {"counter": 0, "gauge": 1, "summary": 2, "unknown": 3, "histogram": 4}  # in protobuf
NAMES = ("pod", "job", "instance", "zone", "exported_pod", "exported_exported_zone", "le", "quantile", "ünder")
VALUES = ("", "a", 'say "x"', "back\\slash\\n", "two\nlines", "naïve", "1", "1.0")
BOUNDS = (-2.5, 0.0, 1e-7, 0.005, 1.0, 2.0, 10.0, 1000.0, 1e6, 123456789.0, 1e21, math.inf)
QUANTILES = (0.0, 0.5, 0.99, 1.0)

Labels = dict[str, str]
Spelling = Callable[[float], str]


@dataclass
class Metric:
    """``parts``: bound or quantile -> number, of what has such; ``value``: the count of those, of others the value."""

    labels: Labels
    value: float
    sum: float = 0.0
    parts: dict[float, float] = field(default_factory=dict)


@dataclass
class Family:
    name: str
    kind: str
    metrics: list[Metric]


def families(rng: random.Random) -> list[Family]:
    kinds = rng.sample(KINDS, rng.randint(1, len(KINDS)))
    return [Family(f"f{n}", kind, [*_metrics(rng, kind)]) for n, kind in enumerate(kinds)]


def _metrics(rng: random.Random, kind: str) -> Iterator[Metric]:
    own = {"histogram": "le", "summary": "quantile"}.get(kind)
    names = [name for name in NAMES if name != own]
    seen = set()
    for _ in range(rng.randint(1, 4)):
        labels = {name: rng.choice(VALUES) for name in rng.sample(names, rng.randint(0, 4))}
        key = frozenset((name, value) for name, value in labels.items() if value)
        if key in seen:
            continue
        seen.add(key)
        metric = Metric(labels, float(rng.randrange(10**6)), rng.choice((0.0, 12.5, 1e300)))
        if kind == "histogram":
            bounds = sorted({*rng.sample(BOUNDS, 4), math.inf})
            counts = sorted(rng.randrange(1000) for _ in bounds)
            metric.parts, metric.value = dict(zip(bounds, map(float, counts), strict=True)), float(counts[-1])
        elif kind == "summary":
            metric.parts = {quantile: rng.random() for quantile in rng.sample(QUANTILES, 2)}
        elif kind != "counter":
            metric.value = rng.choice((math.nan, math.inf, -1.5, 0.0, 1e-300, metric.value))
        yield metric


# -- the formats -----------------------------------------------------------------------------------------------------


def short(number: float) -> str:
    """As clients write a bound in text 0.0.4."""
    return bound_text(number).removesuffix(".0")


def lines(families: list[Family], spelling: Spelling, *, stems: bool, unknown: str) -> str:
    """``stems``: a counter's family is called x, and its sample x_total."""
    text = ""
    for family in families:
        sample = family.name + "_total" if family.kind == "counter" else family.name
        text += f"# TYPE {family.name if stems else sample} {unknown if family.kind == 'unknown' else family.kind}\n"
        for metric in family.metrics:
            rows = [(sample, metric.labels, metric.value)]
            if metric.parts:
                own, suffix = ("le", "_bucket") if family.kind == "histogram" else ("quantile", "")
                rows = [(sample + suffix, {**metric.labels, own: spelling(n)}, v) for n, v in metric.parts.items()]
                rows += [(sample + "_sum", metric.labels, metric.sum), (sample + "_count", metric.labels, metric.value)]
            text += "".join(f"{name}{braces(labels)} {value}\n" for name, labels, value in rows)
    return text


def braces(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = (f"{_name(name)}={_quoted(value)}" for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _name(name: str) -> str:
    return name if name.isascii() else f'"{name}"'


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") + '"'


def text(families: list[Family]) -> str:
    return lines(families, short, stems=False, unknown="untyped")


def hybrid(families: list[Family]) -> str:
    """As the proxies write it: one half in one spelling, one in the other."""
    half = len(families) // 2
    first = lines(families[:half], short, stems=False, unknown="untyped")
    return first + lines(families[half:], bound_text, stems=True, unknown="unknown") + "# EOF\n"


def openmetrics(families: list[Family]) -> str:
    return lines(families, bound_text, stems=True, unknown="unknown") + "# EOF\n"


def protobuf(families: list[Family]) -> bytes:
    return b"".join(varint(len(one)) + one for one in map(_message, families))


def _message(family: Family) -> bytes:
    name = family.name + "_total" if family.kind == "counter" else family.name
    message = message_class("MetricFamily")(name=name.encode(), type=NUMBERS[family.kind])
    for metric in family.metrics:
        made = message.metric.add()
        for label, value in metric.labels.items():
            made.label.add(name=label.encode(), value=value.encode())
        if family.kind == "histogram":
            made.histogram.sample_count, made.histogram.sample_sum = int(metric.value), metric.sum
            for bound, count in metric.parts.items():
                made.histogram.bucket.add(upper_bound=bound, cumulative_count=int(count))
        elif family.kind == "summary":
            made.summary.sample_count, made.summary.sample_sum = int(metric.value), metric.sum
            for quantile, number in metric.parts.items():
                made.summary.quantile.add(quantile=quantile, value=number)
        else:
            getattr(made, "untyped" if family.kind == "unknown" else family.kind).value = metric.value
    return message.SerializeToString()  # type: ignore[no-any-return]


FORMATS: tuple[tuple[Callable[[list[Family]], str | bytes], Format], ...] = (
    (text, "text"),
    (hybrid, "text"),
    (openmetrics, "openmetrics"),
    (protobuf, "protobuf"),
)


# -- what comes of them ----------------------------------------------------------------------------------------------


def streams(rows: list[Row]) -> dict[object, str]:
    """Values by identity; numbers in labels are compared as numbers, NaN equals itself."""
    found: dict[object, str] = {
        (row.series.name, row.series.family.identity, _labels(row)): repr(row.value) for row in scraped(rows)
    }
    assert len(found) == len(scraped(rows))
    return found


def _labels(row: Row) -> frozenset[tuple[str, object]]:
    compound = row.series.family.kind in ("histogram", "summary") or row.series.name.endswith("_bucket")
    numbers = {"le", "quantile", "exported_le", "exported_quantile"} if compound else set()
    return frozenset((name, _number(text) if name in numbers else text) for name, text in row.series.labels.items())


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def target(rng: random.Random) -> Mapping[str, str]:
    names = rng.sample(("pod", "zone", "exported_zone", "le", "ünder"), rng.randint(0, 4))
    return {**TARGET, **{name: f"of the target: {name}" for name in names}}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_the_format_makes_no_difference(seed: int, honor: bool) -> None:
    rng = random.Random(seed)
    whole, labels = families(rng), target(rng)
    found = []
    for render, format in FORMATS:
        targets = Targets(labels, honor_labels=honor)
        found.append(streams(targets.take(render(whole), format=format)))
        assert targets.failures == [""]
        assert targets.counts.dropped.total() == targets.counts.dropped["duplicate"]
    assert found[0]
    assert found[1:] == [found[0]] * 3


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_a_format_that_changes_ends_nothing(seed: int) -> None:
    rng = random.Random(seed)
    whole, targets = families(rng), Targets()
    known: set[int] = set()
    for at, (render, format) in enumerate(rng.sample(FORMATS, 4)):
        rows = scraped(targets.take(render(whole), at=at, format=format))
        assert not any(row.stale for row in rows)
        assert {id(row.series) for row in rows} == (known or {id(row.series) for row in rows})
        known = {id(row.series) for row in rows}


@pytest.mark.parametrize(
    ("number", "written"),
    [(1.0, "1.0"), (0.0, "0.0"), (-0.0, "0.0"), (-1.0, "-1.0"), (2.5, "2.5"), (1e5, "100000.0"), (1e6, "1e+06"), (1e21, "1e+21"),
     (123456789.0, "1.23456789e+08"), (1e-4, "0.0001"), (1e-5, "1e-05"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN")],
)  # fmt: skip
def test_bounds_are_written_as_prometheus_writes_them(number: float, written: str) -> None:
    """protobufparse.go, formatOpenMetricsFloat."""
    assert bound_text(number) == written
