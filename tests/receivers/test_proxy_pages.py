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


@pytest.mark.parametrize("format", ["text", "openmetrics", "protobuf"])
def test_an_answer_without_a_body_is_a_good_page(format: str) -> None:
    (read,) = Pages().read([answered(b"", format=format)], PageRules())
    assert (read.reading.good, read.failure) == (True, "")
    (strict,) = Pages().read([answered(b"", format=format)], PageRules(strict_openmetrics=True))
    assert strict.reading.good == (format != "openmetrics")


GOOD = b"# TYPE a counter\na_total 5\n# EOF\n"


@pytest.mark.parametrize(
    ("body", "offence"),
    [
        (GOOD, ""),
        (b"# TYPE a counter\na 5\n# EOF\n", "the name 'a' belongs to a family before"),  # it is a_total
        (b"a 1\n# TYPE a gauge\n# EOF\n", "cannot read line 2 of here, '# TYPE a gauge': the TYPE of a family stands"),
        (b"# TYPE a counter\na_total -5\n# EOF\n", "a value that is counted is negative"),
        (b"# TYPE a gauge\na 1\nb 1\na{c=\"d\"} 1\n# EOF\n", "belongs to a family before"),
        (b'# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\n# EOF\na 1\n', "something stands behind"),
        (b'# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\na 1\n# EOF\n', "the counts of its buckets fall"),
        (b"a 1\n", "does not end with `# EOF`"),
    ],
)  # fmt: skip
def test_openmetrics_may_be_read_strictly(body: bytes, offence: str) -> None:
    lenient = Pages().read([answered(body, format="openmetrics")], PageRules())[0]
    assert lenient.reading.good is body.endswith(b"# EOF\n")
    for skips in (False, True):
        rules = PageRules(strict_openmetrics=True, skip_bad_lines=skips)
        page, text = Pages().read([answered(body, format="openmetrics"), answered(b"x 1\n")], rules)
        assert (page.reading.good, bool(page.failure)) == (not offence, bool(offence))
        assert offence in page.failure
        assert text.reading.good


def test_a_strict_page_that_is_refused_disturbs_no_later_one() -> None:
    source, rules = PageSource(STORE, {"job": "strict"}), PageRules(strict_openmetrics=True)
    found = []
    for body in (GOOD, GOOD.replace(b"5", b"-5"), GOOD.replace(b"5", b"6"), GOOD.replace(b"5", b"7")):
        reading = Pages().read([Answered(source, "here", 1, 0.1, body, "openmetrics")], rules)[0].reading
        found.append((reading.good, reading.steady, reading.values.tolist()))
    assert found == [(True, False, [5]), (False, False, []), (True, True, [6]), (True, True, [7])]


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
