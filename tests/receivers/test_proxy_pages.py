"""Pages of several formats at once; how much is read in one go."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ebbtide import ReceiverCounts
from receivers.page_source import PageSource
from receivers.page_store import PageRules, PageStore
from receivers.page_types import PageTypes
from receivers.protobuf_messages import message_class
from receivers.proxy_pages import PIECE, Answered, Pages, portions
from receivers.text import Sample

STORE = PageStore(ReceiverCounts(), PageTypes(), PageRules())


def answered(body: bytes, **more: str) -> Answered:
    return Answered(PageSource(STORE, {"job": "x"}), "here", 1, 0.1, body, **more)  # type: ignore[arg-type]


def test_each_is_read_in_its_own_format_and_they_stay_in_order() -> None:
    answers = [
        answered(b"a 1\n"),
        answered(b"a 2\n# EOF\n", format="openmetrics"),
        answered(b"", failure="cannot reach it"),
        answered(b"a 3\nb 4\n"),
        answered(b"a 2\n", format="openmetrics"),
        answered(b"\x01", format="protobuf"),
    ]
    reads = Pages().read(answers, PageRules())
    assert [read.reading.source for read in reads] == [answer.source for answer in answers]
    assert [read.reading.values.tolist() for read in reads] == [[1], [2], [], [3, 4], [], []]
    assert [read.reading.good for read in reads] == [True, True, False, True, False, False]
    assert reads[2].failure == "cannot reach it"
    assert reads[4].failure.startswith("cannot read line 1 of here")
    assert "does not end with `# EOF`" in reads[4].failure
    assert reads[5].failure.startswith("cannot read")


def test_a_target_that_changes_its_format_is_expected_anew() -> None:
    family = message_class("MetricFamily")(name=b"a", type=1)
    family.metric.add().gauge.value = 1
    message = bytes([family.ByteSize()]) + family.SerializeToString()
    source = PageSource(STORE, {"job": "changing"})
    pages = [(message, "protobuf"), (message, "protobuf"), (b"a 1\n", "text"), (b"", "text"), (message, "protobuf")]
    steady, slots = [], []
    for body, format in pages:
        answer = Answered(source, "here", 1, 0.1, body, format)  # type: ignore[arg-type]
        reading = Pages().read([answer], PageRules())[0].reading
        steady.append(reading.steady)
        slots.append(reading.slots.tolist())
    assert steady == [False, True, False, False, False]
    assert slots[0] == slots[1] == slots[2] == slots[4]


def test_what_is_read_in_one_go_is_bounded() -> None:
    bodies = [b"x" * (PIECE // 2 + 1), b"", b"y" * (PIECE // 2), b"z" * (2 * PIECE), b""]
    cut = list(portions([answered(body) for body in bodies]))
    assert [[len(answer.body) for answer in portion] for portion in cut] == [
        [PIECE // 2 + 1, 0], [PIECE // 2], [2 * PIECE], [0]]  # fmt: skip
    assert list(portions([])) == []


def test_a_bug_on_one_page_is_the_failure_of_that_page(monkeypatch: pytest.MonkeyPatch) -> None:
    real = PageSource.learn

    def learn(source: PageSource, sample: Sample, empty: Iterable[str] = ()) -> int:
        slot = real(source, sample, empty)
        if sample.name == "cursed":
            raise RuntimeError("a bug")
        return slot

    monkeypatch.setattr(PageSource, "learn", learn)
    family = message_class("MetricFamily")(name=b"cursed", type=1)
    family.metric.add().gauge.value = 1
    message = bytes([family.ByteSize()]) + family.SerializeToString()
    answers = [answered(b"a 1\nb 2\n"), answered(b"a 1\ncursed 2\n"), answered(message, format="protobuf")]
    for _ in range(2):
        reads = Pages().read(answers, PageRules())
        assert [read.reading.good for read in reads] == [True, False, False]
        assert [str(read.bug) for read in reads] == ["None", "a bug", "a bug"]
        assert reads[1].failure.startswith("cannot take the page of here: a bug of this receiver")
        assert reads[0].reading.values.tolist() == [1, 2]
        assert [len(answer.source.scraped()) for answer in answers] == [2, 0, 0]
    monkeypatch.undo()
    reads = Pages().read(answers, PageRules())
    assert [read.reading.good for read in reads] == [True, True, True]
