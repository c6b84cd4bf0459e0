"""A page of delimited protobuf (``io.prometheus.client.MetricFamily``), read carefully.

Strategy. The body is a row of messages, each behind its length. Lengths are believed as far as the body goes; protobuf's
own parser (C) judges the bytes inside. A classic histogram or summary becomes the rows that the text formats write for
it, a native one a row of its own (``native_page``). A histogram that is both is taken as the native one alone, and a
family without metrics says nothing: as in Prometheus, whose rules for names hold too. A unit may be any word.

Source: prometheus/prometheus, model/textparse/protobufparse.go (3.x); client_model, metrics.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from math import inf, isfinite, isnan
from sys import intern
from typing import Any, NamedTuple, TypeVar

from ebbtide import Exemplar, NativeHistogram
from receivers.exposition import BadPage, Kind, Metadata, OnBadLine, Page
from receivers.native_page import BadHistogram, is_native, native_of
from receivers.openmetrics_lines import MAX_EXEMPLAR
from receivers.protobuf_messages import message_class
from receivers.text import BadLine, Sample, flatten

_KINDS: tuple[Kind, ...] = ("counter", "gauge", "summary", "unknown", "histogram", "gaugehistogram")  # by MetricType
_HISTOGRAMS = ("histogram", "gaugehistogram")
_MAX_VARINT = 10  # bytes
_BOUNDS = 10_000  # bounds and quantiles whose text is remembered

Labels = tuple[str, ...]
Shape = tuple[str, tuple[float, ...]]
"""What tells a metric's rows apart: the label and its numbers, for a classic histogram or a summary."""
SIMPLE: Shape = ("", ())
_T = TypeVar("_T")


class BadMessage(BadPage):
    """A message of the page cannot be read: its number (from 1, in ``line_number``), and the reason."""

    def __init__(self, number: int, reason: str):
        super().__init__(number, reason, b"")
        self.args = (f"cannot read message {number} of the page: {reason}",)

    def said_of(self, page: str) -> str:
        """Say it of a page that has a name."""
        return f"cannot read message {self.line_number} of {page}: {self.reason}"


class BadFamily(ValueError):
    """What is wrong within one message, as a clause."""


class Family(NamedTuple):
    """What a MetricFamily says of itself."""

    name: str
    metadata: Metadata


@dataclass(slots=True)
class Values:
    """The numbers of a metric, row by row: ``shape`` says of which rows. ``time`` in ms, ``start`` in ns, 0 = unknown."""

    shape: Shape
    values: list[float]
    time: int | None
    start: int
    exemplars: dict[int, tuple[Exemplar, ...]]  # by row
    native: NativeHistogram | None = None


def parse_page(body: bytes, *, on_bad_line: OnBadLine = "refuse") -> Page:
    """Read a whole page. Raises BadMessage; with "skip" a family that cannot be read is left out and listed instead.

    A body whose messages do not end where it ends was cut short, and is refused in any case.
    """
    from google.protobuf.message import DecodeError

    page = Page()
    for number, message in enumerate(messages_of(body), 1):
        read = Page()
        try:
            _read_family(read, message_class("MetricFamily").FromString(message))
        except (BadFamily, BadLine, BadHistogram, DecodeError) as bad:
            if on_bad_line == "refuse":
                raise BadMessage(number, reason_of(bad)) from None
            page.skip(number, reason_of(bad))
        else:
            _append(page, read)
    return page


def reason_of(bad: Exception) -> str:
    """Say what is wrong with a message, by the exception that reading it raised."""
    if isinstance(bad, BadLine):
        return bad.reason
    return str(bad) if isinstance(bad, BadFamily | BadHistogram) else "it is no MetricFamily in protobuf's encoding"


def messages_of(body: bytes) -> Iterator[bytes]:
    """Walk the messages of a body, each behind its length as a varint. Raises BadMessage where one is cut short."""
    at, number = 0, 1
    while at < len(body):
        length, start = read_varint(body, at)
        if start < 0:
            raise BadMessage(number, "its length is cut short, or no varint")
        if length > len(body) - start:
            raise BadMessage(number, f"it is {length} bytes long, but {len(body) - start} are left: it was cut short")
        yield body[start : start + length]
        at, number = start + length, number + 1


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a varint: (the number, where it ends), the end -1 where there is none."""
    number = 0
    for place, byte in enumerate(data[at : at + _MAX_VARINT]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    return 0, -1


@lru_cache(_BOUNDS)
def bound_text(bound: float) -> str:
    """Write a bound or quantile as OpenMetrics does: Go's shortest digits, and always a point or an exponent."""
    if not isfinite(bound):
        return "NaN" if isnan(bound) else "+Inf" if bound == inf else "-Inf"
    if not bound:
        return "0.0"
    sign, digits, exponent = Decimal(repr(bound)).as_tuple()
    plain = "".join(map(str, digits)).rstrip("0")
    power = int(exponent) + len(digits) - 1
    if -4 <= power < 6:
        text = format(Decimal(repr(bound)), "f")
        return text if "." in text else text + ".0"
    fraction = f".{plain[1:]}" if len(plain) > 1 else ""
    return f"{'-' if sign else ''}{plain[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"


def family_of(family: Any) -> Family:
    """Read what a MetricFamily says of itself. Raises BadFamily."""
    name, help_text, unit = _text(family.name, "name"), _text(family.help, "help"), _text(family.unit, "unit")
    if not name:
        raise BadFamily("the family has no name")
    if not 0 <= family.type < len(_KINDS):
        raise BadFamily(f"the type {family.type} of {name[:80]!r} is unknown")
    return Family(name, Metadata(_KINDS[family.type], help_text, unit))


def labels_of(metric: Any) -> Labels:
    """Return the labels of a Metric, flat. Raises BadFamily, BadLine."""
    return flatten(*_pairs(metric.label), b"")


def empty_labels_of(metric: Any) -> tuple[str, ...]:
    """Return the names of the labels of a Metric that have no value, which ``labels_of`` leaves out."""
    return tuple([label.name.decode() for label in metric.label if not label.value])


def values_of(kind: Kind, metric: Any) -> Values:
    """Read the numbers of a Metric, whose labels do not matter. Raises BadFamily, BadLine or BadHistogram."""
    time = metric.timestamp_ms or None
    if kind in _HISTOGRAMS:
        histogram = metric.histogram
        start = _nanoseconds(histogram.created_timestamp)
        if is_native(histogram):
            native = native_of(histogram, is_gauge=kind == "gaugehistogram")
            exemplars = _native_exemplars(histogram)
            return Values(SIMPLE, [native.count], time, start, {0: exemplars} if exemplars else {}, native)
        return _classic(histogram, time, start)
    if kind == "summary":
        summary = metric.summary
        values = [float(summary.sample_count), summary.sample_sum, *(one.value for one in summary.quantile)]
        shape = "quantile", tuple(one.quantile for one in summary.quantile)
        return Values(shape, values, time, _nanoseconds(summary.created_timestamp), {})
    if kind == "counter":
        exemplars = _exemplars_of(metric.counter)
        start = _nanoseconds(metric.counter.created_timestamp)
        return Values(SIMPLE, [metric.counter.value], time, start, {0: exemplars} if exemplars else {})
    return Values(SIMPLE, [(metric.gauge if kind == "gauge" else metric.untyped).value], time, 0, {})


def identities(name: str, labels: Labels, shape: Shape) -> Iterator[tuple[str, Labels]]:
    """Walk the names and labels of a metric's rows, in the order of its values. Raises BadFamily."""
    own, bounds = shape
    if not own:
        yield name, labels
        return
    names = labels[::2]
    if own in names:
        raise BadFamily(f"a metric has a label {own} of its own")
    at = 2 * sum(other < own for other in names)
    before, behind = (*labels[:at], own), labels[at:]
    yield intern(name + "_count"), labels
    yield intern(name + "_sum"), labels
    row_name = intern(name + "_bucket") if own == "le" else name
    for bound in bounds:
        yield row_name, (*before, bound_text(bound), *behind)


def _append(page: Page, read: Page) -> None:
    """Add what one family gave."""
    first = len(page.samples)
    page.samples += read.samples
    page.metadata.update(read.metadata)
    _move(read.natives, page.natives, first)
    _move(read.exemplars, page.exemplars, first)
    _move(read.created, page.created, first)


def _move(there: dict[int, _T], here: dict[int, _T], by: int) -> None:
    here.update((by + index, what) for index, what in there.items())


def _read_family(page: Page, message: Any) -> None:
    """Add all that a MetricFamily says."""
    if not message.metric:
        return
    name, metadata = family_of(message)
    for metric in message.metric:
        labels, values = labels_of(metric), values_of(metadata.kind, metric)
        first = len(page.samples)
        rows = zip(identities(name, labels, values.shape), values.values, strict=True)
        page.samples += [Sample(*identity, value, values.time, 0) for identity, value in rows]
        page.exemplars.update((first + row, found) for row, found in values.exemplars.items())
        if values.native is not None:
            page.natives[first] = values.native
        if values.start:
            page.created.update(dict.fromkeys(range(first, len(page.samples)), values.start))
    page.metadata[name] = metadata


def _classic(histogram: Any, time: int | None, start: int) -> Values:
    count = histogram.sample_count_float or float(histogram.sample_count)
    values, bounds, exemplars = [count, histogram.sample_sum], [], {}
    for bucket in histogram.bucket:
        if bucket.HasField("exemplar") and (found := _exemplars_of(bucket)):
            exemplars[len(values)] = found
        values.append(bucket.cumulative_count_float or float(bucket.cumulative_count))
        bounds.append(bound := bucket.upper_bound)
        if bound == inf:
            break
    else:
        values.append(count)
        bounds.append(inf)
    return Values(("le", tuple(bounds)), values, time, start, exemplars)


def _native_exemplars(histogram: Any) -> tuple[Exemplar, ...]:
    """A native histogram's own exemplars, else those of its classic buckets; without a timestamp they are left out."""
    carried = histogram.exemplars or [one.exemplar for one in histogram.bucket if one.HasField("exemplar")]
    found = (_exemplar(one) for one in carried if one.HasField("timestamp"))
    return tuple(one for one in found if one is not None)


def _exemplars_of(owner: Any) -> tuple[Exemplar, ...]:
    found = _exemplar(owner.exemplar) if owner.HasField("exemplar") else None
    return () if found is None else (found,)


def _exemplar(exemplar: Any) -> Exemplar | None:
    """Read an exemplar, None for one whose labels are longer than OpenMetrics allows."""
    labels = flatten(*_pairs(exemplar.label), b"")
    if sum(map(len, labels)) > MAX_EXEMPLAR:
        return None
    return Exemplar(labels, exemplar.value, _nanoseconds(exemplar.timestamp))


def _nanoseconds(timestamp: Any) -> int:
    """Read a time as ns since the epoch, 0 where it is none that a clock of ours can show."""
    time = int(timestamp.seconds) * 10**9 + int(timestamp.nanos)
    return time if 0 < time < 2**63 else 0


def _pairs(labels: Iterable[Any]) -> tuple[list[str], list[str]]:
    names, values = [], []
    for label in labels:
        names.append(_text(label.name, "label name"))
        values.append(_text(label.value, "label value"))
    if "" in names:
        raise BadFamily("a label has no name")
    return names, values


def _text(data: bytes, what: str) -> str:
    try:
        return intern(data.decode())
    except UnicodeDecodeError:
        raise BadFamily(f"a {what} is not valid UTF-8") from None
