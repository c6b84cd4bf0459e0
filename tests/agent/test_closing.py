"""The end of a run: status, summary, file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from agent import closing
from agent.ledger import ExporterCounts, Ledger, PipelineCounts, ProcessorCounts, ReceiverCounts


def ledger(**exporter: int) -> Ledger:
    """A ledger that balances or not; the exporter drops by the reasons given."""
    counts = ExporterCounts(received=5, sent=5, points_sent=2, dropped=Counter(exporter))
    return Ledger(
        {"r": ReceiverCounts(polls=2, samples=5, out=5)},
        {"m": PipelineCounts(5, 5, {"p": ProcessorCounts(5, 5)})},
        {"e": counts},
    )


@pytest.mark.parametrize(
    ("reason", "once", "run"),
    [
        ("overflow", 1, 0), ("expired", 1, 0), ("rejected", 1, 0), ("too_large", 1, 0), ("shutdown", 1, 1), ("bug", 1, 0),
        ("incomplete", 0, 0), ("closed", 0, 0),
    ],
)  # fmt: skip
def test_which_drops_of_an_exporter_are_failures(reason: str, once: int, run: int) -> None:
    assert closing.status(ledger(**{reason: 1}), once=True) == once
    assert closing.status(ledger(**{reason: 1}), once=False) == run


def test_other_failures_of_once() -> None:
    assert closing.status(ledger(), once=True) == 0
    for change in (
        lambda book: setattr(book.receivers["r"], "failed_polls", 1),
        lambda book: setattr(book.exporters["e"], "rejected_points", 1),
        lambda book: book.exporters["e"].holders.append(lambda: 1),
        lambda book: book.receivers["r"].dropped.update(bug=1),
        lambda book: book.pipelines["m"].processors["p"].dropped.update(bug=1),
    ):
        book = ledger()
        change(book)
        assert (closing.status(book, once=True), closing.status(book, once=False)) == (1, 0)


def test_what_is_dropped_on_purpose_is_no_failure() -> None:
    book = ledger()
    book.receivers["r"].dropped.update(repeated=5, torn=2, duplicate=1)
    book.pipelines["m"].processors["p"].dropped.update(filtered=5, collision=1)
    assert closing.status(book, once=True) == 0


def test_what_the_deadline_cost_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    assert closing.report(ledger(shutdown=3), None)
    (record,) = (one for one in caplog.records if one.levelname == "ERROR" and "balance" not in one.message)
    assert record.message.startswith("exporter e: cannot send 3 samples before the end, so they are lost; ")
    caplog.clear()
    closing.report(ledger(expired=3), None)
    assert "before the end" not in caplog.text


def test_asking_changes_nothing() -> None:
    book = ledger()
    before = book.as_dict()
    closing.status(book, once=True)
    closing.summary(book)
    assert book.as_dict() == before


def test_the_summary_is_one_line_with_what_matters() -> None:
    book = ledger(expired=3)
    book.receivers["r"].failed_polls = 1
    book.pipelines["m"].processors["p"].dropped.update(filtered=5, collision=1)
    assert closing.summary(book) == (
        "received 5 samples in 2 polls (1 failed); e sent 5 samples as 2 points, 0 held; "
        "pipelines.m.p dropped collision 1, filtered 5; exporters.e dropped expired 3"
    )


def test_the_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.json"
    assert closing.write(ledger(), path)
    assert json.loads(path.read_text()) == ledger().as_dict()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert not closing.write(ledger(expired=1), path)
    assert json.loads(path.read_text()) == ledger().as_dict()
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.json"]
    assert "No space left" in caplog.text
