"""Siblings: whoever is told by another series' labels is told as if all of them had been read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receivers.remote_write_labels import About, series_of
from receivers.remote_write_samples import Decoded
from receivers.remote_write_siblings import ByteSiblings, NumberSiblings
from receivers.remote_write_v1 import ReaderV1
from receivers.remote_write_v2 import ReaderV2
from tests.receivers.remote_write_messages import Request, Symbols, WriteRequest
from tests.receivers.test_remote_write_v1 import Book, T

Labels = list[tuple[str, str]]

LE = "\n\x02le\x12"  # how the label begins in bytes
VALUES = [
    "5",
    "",
    "le",
    "quantile",
    "__name__",
    LE,
    f"{LE}\x015",
    f"\n\x07{LE}\x015",
    f"\n\x08{LE}\x0255\n\x07{LE}\x015",
    "é" * 70,
]
labels = st.tuples(st.sampled_from(["a", "b", "le", "quantile", "__name__", ""]), st.sampled_from(VALUES))
names = st.sampled_from(["x", "x_bucket", "y_bucket", "x_count", "x_sum", "é_bucket", "", "n" * 130])


@st.composite
def families(draw: st.DrawFn) -> list[Labels]:
    """Series of few label sets, some labels cut or put in; in any order, the name mostly first."""
    found = []
    for shared in draw(st.lists(st.lists(labels, max_size=4), min_size=1, max_size=3)):
        for name in draw(st.lists(names, min_size=1, max_size=6)):
            series = list(shared)
            if draw(st.booleans()):
                series.insert(draw(st.integers(0, len(series))), draw(labels))
            series.insert(draw(st.sampled_from([0, 0, 0, len(series)])), ("__name__", name))
            found.append(series)
    return found


def v1(*serieses: Labels) -> bytes:
    request = WriteRequest()
    for number, series in enumerate(serieses):
        one = request.timeseries.add()
        for name, value in series:
            one.labels.add(name=name, value=value)
        one.samples.add(value=number % 3, timestamp=T)
    return bytes(request.SerializeToString())


def v2(*serieses: Labels) -> bytes:
    request = Request()
    symbols = Symbols(request)
    for number, series in enumerate(serieses):
        one = request.timeseries.add()
        for text in (text for label in series for text in label):
            one.labels_refs.append(symbols.ref(text))
        one.samples.add(value=number % 3, timestamp=T)
        one.metadata.type = 3
    return bytes(request.SerializeToString())


def series_in(book: Book, *requests: Decoded) -> tuple[Counter[Any], int]:
    """Which series have how many samples, and how many were refused."""
    known = {slot: key for key, slot in book.slots.items()}
    return Counter(known[slot] for one in requests for slot in one.slots.tolist()), sum(one.refused for one in requests)


@pytest.mark.parametrize(("make", "request_of"), [(ReaderV1, v1), (ReaderV2, v2)], ids=["1.0", "2.0"])
@settings(max_examples=80, deadline=None)
@given(serieses=families())
def test_together_they_are_told_as_each_by_itself(make: Any, request_of: Any, serieses: list[Labels]) -> None:
    together, alone = Book(), Book()
    found = make(together.learn).read(request_of(*serieses))
    each = [make(alone.learn).read(request_of(series)) for series in serieses]
    assert series_in(together, found) == series_in(alone, *each)


IN_LE, IN_Z = "\n\x07\n\x02le\x12\x015", "\n\x07\n\x01z\x12\x0277"  # two labels of equal length, as 1.0 writes them
TRAPS: list[list[Labels]] = [
    # Cut out of the value of a, what reads like a label leaves what was read before: a="p", z="77" are other labels, though.
    [[("__name__", "x_count"), ("a", f"p{IN_Z}")], [("__name__", "x_bucket"), ("a", f"p{IN_LE}"), ("z", "77")]],
    [[("__name__", "y"), ("le", "2")], [("__name__", "x_bucket"), ("le", "1"), ("le", "2")]],
    [[("__name__", "y"), ("le", "2")], [("__name__", "y_bucket"), ("le", "2")], [("__name__", "y_count"), ("le", "2")]],
    [[("__name__", "x_sum"), ("quantile", "1")], [("__name__", "x"), ("quantile", "1")]],
]


@pytest.mark.parametrize(("make", "request_of"), [(ReaderV1, v1), (ReaderV2, v2)], ids=["1.0", "2.0"])
@pytest.mark.parametrize("serieses", TRAPS, ids=range(len(TRAPS)))
def test_nobody_is_taken_for_a_sibling(make: Any, request_of: Any, serieses: list[Labels]) -> None:
    together, alone = Book(), Book()
    found = make(together.learn).read(request_of(*serieses))
    assert series_in(together, found) == series_in(
        alone, *(make(alone.learn).read(request_of(one)) for one in serieses)
    )


def test_a_label_that_is_written_in_another_order_is_read() -> None:
    backwards = b"\x0a\x07\x12\x015\x0a\x02le"  # the value, then the name
    data = b""
    for name in (b"y", b"x_bucket"):
        series = written((b"__name__", name)) + backwards + b"\x12\x10\x09" + bytes(8) + b"\x10" + b"\x80" * 5 + b"\x01"
        data += bytes((0x0A, len(series))) + series
    book = Book()
    ReaderV1(book.learn).read(data)  # where `learn` asserts what is a series' own
    assert list(book.slots) == [("y", ("le", "5"), False), ("x_bucket", ("le", "5"), False)]


def test_a_label_without_a_value_is_none() -> None:
    request = Request.FromString(
        v2([("__name__", "x_count"), ("a", "1")], [("__name__", "x_bucket"), ("a", "1"), ("le", "1")])
    )
    del request.timeseries[1].labels_refs[-1]
    decoded = ReaderV2(Book().learn).read(request.SerializeToString())
    assert (len(decoded.slots), decoded.refused) == (1, 1)


def written(*pairs: tuple[bytes, bytes]) -> bytes:
    """Labels as 1.0 writes them."""
    texts = (bytes((0x0A, len(name))) + name + bytes((0x12, len(value))) + value for name, value in pairs)
    return b"".join(bytes((0x0A, len(text))) + text for text in texts)


FIRST = ((b"__name__", b"x_bucket"), (b"app", b"a"), (b"le", b"1"), (b"zone", b"z"))


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        (FIRST, ("x_bucket", ("app", "a", "zone", "z"), ("le", "1"))),
        (((b"__name__", b"x_bucket"), (b"app", b"a"), (b"le", b"+Inf"), (b"zone", b"z")), ("x_bucket", ("app", "a", "zone", "z"), ("le", "+Inf"))),
        (((b"__name__", b"y_count"), (b"app", b"a"), (b"zone", b"z")), ("y_count", ("app", "a", "zone", "z"), ())),
        (((b"__name__", b"y"), (b"app", b"a"), (b"quantile", b"0.5"), (b"zone", b"z")), ("y", ("app", "a", "zone", "z"), ("quantile", "0.5"))),
        (((b"__name__", b"y"), (b"app", b"a"), (b"le", b"1"), (b"zone", b"z")), None),  # `le` is shared there
        (((b"__name__", b"x_bucket"), (b"app", b"a"), (b"le", b""), (b"zone", b"z")), None),
        (((b"__name__", b"x_bucket"), (b"app", b"a"), (b"le", b"\xff"), (b"zone", b"z")), None),
        (((b"__name__", b"\xff"), (b"app", b"a"), (b"zone", b"z")), None),
        (((b"__name__", b""), (b"app", b"a"), (b"zone", b"z")), None),
        (((b"app", b"a"), (b"zone", b"z")), None),
        (((b"__name__", b"y"), (b"app", b"b"), (b"zone", b"z")), None),
    ],
    ids=str,
)  # fmt: skip
def test_a_sibling_is_one_that_is_written_the_same_way(pairs: Any, found: Any) -> None:
    data, siblings = written(*FIRST), ByteSiblings()
    begins = [len(written(*FIRST[:count])) for count in range(len(FIRST) + 1)]
    assert siblings.find(data, 0, len(data)) is None
    siblings.keep(data, begins, *series_of(FIRST))
    other = written(*pairs)
    assert siblings.find(b"?" + other + b"?", 1, 1 + len(other)) == found

    symbols: list[bytes] = []

    def number(symbol: bytes) -> bytes:
        if symbol not in symbols:
            symbols.append(symbol)
        return symbols.index(symbol).to_bytes(4, "little")

    def key(labels: Any) -> bytes:
        return b"".join(number(text) for label in labels for text in label)

    by_number = NumberSiblings(number, lambda text: symbols[int.from_bytes(text, "little")])
    assert by_number.find(key(FIRST)) is None
    by_number.keep(key(FIRST), *series_of(FIRST))
    assert by_number.find(key(pairs)) == found
    assert by_number.find(key(pairs)[:-4]) is None


def test_what_siblings_share_is_one_object() -> None:
    told: list[Any] = []
    learn = lambda name, rest, own, native, about: told.append((rest, own)) or 0  # noqa: E731
    series = [[("__name__", name), ("app", "a"), ("le", le)] for name in ("x_bucket", "y_bucket") for le in ("1", "2")]
    for reader, request in ((ReaderV1(learn), v1(*series)), (ReaderV2(learn), v2(*series))):
        told.clear()
        reader.read(request)
        assert len({id(rest) for rest, _ in told}) == 1
        assert len({id(own) for _, own in told}) == 2


def test_what_is_said_of_a_sibling_is_its_own() -> None:
    request = Request()
    symbols = Symbols(request)
    for kind, help in ((1, "First."), (2, "Second."), (1, "First.")):
        symbols.add({"__name__": f"x{len(request.timeseries)}", "app": "a"}, (1.0, T), type=kind, help=help)
    told: list[About] = []
    ReaderV2(lambda name, rest, own, native, about: told.append(about) or 0).read(request.SerializeToString())
    assert told == [About("counter", "", "First."), About("gauge", "", "Second."), About("counter", "", "First.")]
