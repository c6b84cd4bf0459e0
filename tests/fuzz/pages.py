"""Pages in each format: the careful parsers, and the fast road held against them."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from exporters.protobuf import length_delimited, varint
from receivers import exposition, openmetrics, protobuf_page
from receivers.dialects import OPENMETRICS, TEXT, Dialect
from receivers.exposition import BadPage
from receivers.negotiation import BadContentType, Format, format_of
from receivers.numbers import NO_TIME
from receivers.protobuf_memory import MessageMemory, MessagePage
from receivers.protobuf_messages import message_class
from receivers.skeleton import Page, Skeleton
from receivers.text import Sample
from tests.fuzz.run import Target
from tests.receivers.page_harness import Targets

_TEXT = (
    b'# HELP a_total How many "times"\\n\n# TYPE a_total counter\na_total{b="1",c="\\"x\\\\"} 5 1795362155542\n'
    b'a_total{b="2"} 5.5\n# TYPE h histogram\nh_bucket{le="1.0"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n',
    b'{"q.r","s t"="u"} NaN\nlong 0.013300656000000001\nother 1.5e+06 -5\n# EOF\n',
    b'a_created 1.5e9\n# TYPE a counter\n# TYPE s summary\ns{quantile="0.5"} 1\ns_count 1\ntarget_info{v="1"} 1\na_total 1\nb+1\nb5 1\nc.5\n',
)
_OPENMETRICS = (
    b"# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds How long\n"
    b'a_seconds_total{x="1"} 3.0 # {trace_id="9",y="z"} 0.5 1520430000.123\na_seconds_created{x="1"} 1520430000.5\n'
    b'# TYPE h histogram\nh_bucket{le="1.0"} 1 # {} 1\nh_bucket{le="+Inf"} 2\nh_count 2\nh_sum 3.5\n# EOF\n',
    b'# TYPE s summary\ns{quantile="0.5"} NaN\ns_count 1\ns_sum 1\na 1 1520430000.123\n{"q.r","s t"="u"} 1e+06\n# EOF',
    b'# TYPE "q.r" counter\n{"q.r_total",a="b"} 1 # {"t u"="1"} 2\n{"q.r_created",a="b"} 1520430000\n{"q.r_created"} 1\n# EOF\n',
    b'# TYPE i info\ni_info{a="b"} 1\n# TYPE g gaugehistogram\ng_bucket{le="+Inf"} 1\ng_gcount 1\ng_gsum 1\n# EOF\n',
)


def _protobuf() -> bytes:
    family = message_class("MetricFamily")(name=b"h", help=b"helps", type=4)
    native, classic = family.metric.add().histogram, family.metric.add(timestamp_ms=5).histogram
    native.sample_count, native.schema, native.zero_threshold = 3, 2, 0.1
    native.positive_span.add(offset=1, length=2)
    native.positive_delta.extend([1, 1])
    native.exemplars.add(value=2.0).timestamp.seconds = 1520430000
    classic.sample_count = 2
    classic.bucket.add(cumulative_count=1, upper_bound=0.5).exemplar.label.add(name=b"t", value=b"1")
    classic.created_timestamp.seconds = 1520430000
    simple = b"".join(
        length_delimited(1, name)
        + b"\x18"
        + bytes([kind])
        + length_delimited(4, label + length_delimited(place, value))
        for name, kind, place in ((b"c", 0, 3), (b"g", 1, 2), (b"u", 3, 5))
        for label in (length_delimited(1, length_delimited(1, b"n") + length_delimited(2, b"v")),)
        for value in (b"\x09" + struct.pack("<d", 1.5),)
    )
    summary = message_class("MetricFamily")(name=b"s", type=2)
    summary.metric.add().summary.quantile.add(quantile=0.5, value=1.0)
    messages = (family.SerializeToString(), simple, summary.SerializeToString())
    return b"".join(varint(len(message)) + message for message in messages)


class _FastRoad:
    """Reads a good page, the damaged one, and the good one again; compares with the careful parser."""

    def __init__(self, dialect: Dialect, careful: Callable[[bytes], exposition.Page], good: bytes):
        self._dialect, self._careful, self._good = dialect, careful, good

    def __call__(self, data: bytes) -> None:
        names: list[tuple[str, tuple[str, ...]]] = []

        def learn(sample: Sample) -> int:
            names.append((sample.name, sample.labels))
            return len(names) - 1

        skeleton = Skeleton(learn, dialect=self._dialect)
        whole = data if self._dialect is OPENMETRICS or data.endswith(b"\n") else data + b"\n"
        for body in (self._good, whole, self._good):
            reader = skeleton.read()
            try:
                for start in range(0, len(body), 4096):
                    reader.feed(body[start : start + 4096])
                page = reader.finish()
            except BadPage:
                reader.abandon()
                self._must_refuse(body)
                continue
            expected = self._careful(body)  # raises BadPage where it refuses what was read
            assert _rows(page, names) == _careful_rows(expected), "the fast road reads another page"

    def _must_refuse(self, body: bytes) -> None:
        try:
            self._careful(body)
        except BadPage:
            return
        raise AssertionError("the fast road refuses what the careful parser reads")


def _remembering(data: bytes) -> None:
    """Read a good page of protobuf, the damaged one, and the good one again, as the careful parser reads each."""
    memory = MessageMemory(lambda sample, empty: 0)
    for body in (_protobuf(), data, _protobuf()):
        try:
            found: MessagePage | None = memory.read(body)
        except BadPage:
            found = None
        try:
            expected: exposition.Page | None = protobuf_page.parse_page(body)
        except BadPage:
            expected = None
        assert (found is None) == (expected is None), "one of the two roads refuses the page"
        if found is not None and expected is not None:
            assert list(map(_shown, found.values.tolist())) == [_shown(s.value) for s in expected.samples]
            more = found.exemplars.keys(), found.natives.keys(), found.created, found.metadata
            assert more == (expected.exemplars.keys(), expected.natives.keys(), expected.created, expected.metadata)


def _polls(format: Format, good: bytes) -> Callable[[bytes], None]:
    """Let a target answer with a good page, the damaged one, and the good one again: the ledger balances, and no bug."""

    def poll(data: bytes) -> None:
        for skip in (False, True):
            targets = Targets(skip_bad_lines=skip)
            for at, body in enumerate((good, data, good)):
                targets.take(body, at=10 * at, format=format)
                assert not any("a bug of this receiver" in failure for failure in targets.failures), targets.failures
            assert targets.failures == [""]

    return poll


def _rows(page: Page, names: list[tuple[str, tuple[str, ...]]]) -> list[object]:
    rows = zip(page.slots.tolist(), page.values.tolist(), page.times.tolist(), strict=True)
    return [
        (*names[slot], _shown(value), None if time == NO_TIME else time, repr(page.exemplars.get(row, ())))
        for row, (slot, value, time) in enumerate(rows)
    ]


def _careful_rows(page: exposition.Page) -> list[object]:
    return [
        (s.name, s.labels, _shown(s.value), s.timestamp_ms, repr(page.exemplars.get(row, ())))
        for row, s in enumerate(page.samples)
    ]


def _shown(value: float) -> float | str:
    return "NaN" if math.isnan(value) else value


def _skip(parse: Callable[..., object]) -> Callable[[bytes], object]:
    return lambda data: parse(data, on_bad_line="skip")


def _content_type(data: bytes) -> object:
    return format_of(data.decode("latin-1"))


def targets() -> list[Target]:
    """Every parser of pages."""
    protobuf = (_protobuf(),)
    careful_text = _FastRoad(TEXT, exposition.parse_page, _TEXT[0])
    careful_openmetrics = _FastRoad(OPENMETRICS, openmetrics.parse_page, _OPENMETRICS[0])
    return [
        Target("text", exposition.parse_page, _TEXT, (BadPage,)),
        Target("text, skipping", _skip(exposition.parse_page), _TEXT, ()),
        Target("text, fast", careful_text, _TEXT, ()),
        Target("openmetrics", openmetrics.parse_page, _OPENMETRICS, (BadPage,)),
        Target("openmetrics, skipping", _skip(openmetrics.parse_page), _OPENMETRICS, (BadPage,)),
        Target("openmetrics, strict", lambda data: openmetrics.parse_page(data, strict=True), _OPENMETRICS, (BadPage,)),
        Target("openmetrics, fast", careful_openmetrics, _OPENMETRICS, ()),
        Target("protobuf", protobuf_page.parse_page, protobuf, (BadPage,)),
        Target("protobuf, remembering", _remembering, protobuf, ()),
        Target("protobuf, skipping", _skip(protobuf_page.parse_page), protobuf, (BadPage,)),
        Target("polls of text", _polls("text", _TEXT[0]), _TEXT, ()),
        Target("polls of openmetrics", _polls("openmetrics", _OPENMETRICS[0]), _OPENMETRICS, ()),
        Target("polls of protobuf", _polls("protobuf", protobuf[0]), protobuf, ()),
        Target("content type", _content_type, (b'text/plain; version="0.0.4"; charset=utf-8',), (BadContentType,)),
    ]
