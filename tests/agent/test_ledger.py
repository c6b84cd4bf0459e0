"""The ledger: its JSON, and when it balances."""

from __future__ import annotations

from collections import Counter

import pytest

from agent.ledger import ExporterCounts, Ledger, PipelineCounts, ProcessorCounts, ReceiverCounts


def balanced() -> Ledger:
    """The example of the contract."""
    receiver = ReceiverCounts(polls=1, samples=6412, out=6405)
    receiver.added["scrape"] += 5
    receiver.dropped["repeated"] += 12
    quiet = ProcessorCounts(6405, 6105, dropped=Counter(filtered=300))
    exporter = ExporterCounts(received=6105, sent=6105, points_sent=612, requests=1)
    return Ledger(
        {"linkerd": receiver}, {"metrics": PipelineCounts(6405, 6105, {"quiet": quiet})}, {"backend": exporter}
    )


def test_the_json_has_the_names_that_others_rely_on() -> None:
    assert balanced().as_dict() == {
        "receivers": {
            "linkerd": {
                "polls": 1, "failed_polls": 0, "samples": 6412, "added": {"scrape": 5, "stale": 0},
                "dropped": {"repeated": 12, "torn": 0}, "out": 6405,
            }
        },
        "pipelines": {
            "metrics": {
                "in": 6405,
                "processors": {
                    "quiet": {"in": 6405, "out": 6105, "added": 0, "merged": 0, "dropped": {"filtered": 300}}
                },
                "out": 6105,
            }
        },
        "exporters": {
            "backend": {
                "in": 6105, "restored": 0, "sent": 6105, "held": 0, "dropped": {}, "points_sent": 612,
                "rejected_points": 0, "retries": 0, "requests": 1,
            }
        },
    }  # fmt: skip


def test_a_ledger_that_balances_says_nothing() -> None:
    assert balanced().imbalances() == []
    assert Ledger().imbalances() == []


def test_held_is_asked_of_the_outbox() -> None:
    counts = ExporterCounts(received=5, sent=2, dropped=Counter(expired=1))
    assert counts.imbalance() == 2
    counts.holders.append(lambda: 2)
    assert counts.imbalance() == 0
    assert counts.as_dict()["held"] == 2


def test_restored_rows_came_from_somewhere() -> None:
    assert ExporterCounts(restored=3, sent=3).imbalance() == 0


@pytest.mark.parametrize(
    ("path", "attribute", "by", "sentence"),
    [
        ("receivers.linkerd", "samples", 2, "receivers.linkerd is off by 2 samples"),
        ("receivers.linkerd", "out", 2, "receivers.linkerd is off by -2 samples"),
        ("pipelines.metrics", "received", 1, "pipelines.metrics is off by 1 samples"),
        ("pipelines.metrics", "out", 1, "pipelines.metrics is off by 1 samples"),
        ("exporters.backend", "sent", 7, "exporters.backend is off by -7 samples"),
    ],
)
def test_what_is_off_is_said(path: str, attribute: str, by: int, sentence: str) -> None:
    ledger = balanced()
    kind, name = path.split(".")
    counts = getattr(ledger, kind)[name]
    setattr(counts, attribute, getattr(counts, attribute) + by)
    assert ledger.imbalances() == [sentence]


@pytest.mark.parametrize("attribute", ["received", "out", "added", "merged"])
def test_a_processor_that_is_off_shows_in_its_pipeline(attribute: str) -> None:
    ledger = balanced()
    counts = ledger.pipelines["metrics"].processors["quiet"]
    setattr(counts, attribute, getattr(counts, attribute) + 1)
    (sentence,) = ledger.imbalances()
    assert sentence.startswith("pipelines.metrics is off by")


def test_errors_in_opposite_directions_do_not_hide_each_other() -> None:
    counts = PipelineCounts(10, 10, {"a": ProcessorCounts(10, 9), "b": ProcessorCounts(9, 10)})
    assert counts.imbalance() == 2


def test_counts_of_two_components_are_not_shared() -> None:
    one, two = ReceiverCounts(), ReceiverCounts()
    one.dropped["torn"] += 1
    one.added["stale"] += 1
    assert (two.dropped["torn"], two.added["stale"]) == (0, 0)
    assert ProcessorCounts().dropped is not ProcessorCounts().dropped
    assert ExporterCounts().dropped is not ExporterCounts().dropped


# -- a chain that a reload changes --------------------------------------------------------------------------------------


def passed(counts: ProcessorCounts, rows: int) -> None:
    counts.received += rows
    counts.out += rows


def test_edges_are_compared_from_where_the_chain_became_what_it_is() -> None:
    first, second, last = ProcessorCounts(), ProcessorCounts(), ProcessorCounts()
    pipeline = PipelineCounts()
    pipeline.chain({"first": first}, {"resource": last})
    pipeline.received += 5
    passed(first, 5)
    passed(last, 5)
    pipeline.out += 5
    pipeline.chain({"second": second}, {"resource": last})
    pipeline.received += 2
    passed(second, 2)
    passed(last, 2)
    pipeline.out += 2
    assert list(pipeline.as_dict()["processors"]) == ["second", "first"]  # the one that rests comes last
    assert pipeline.imbalance() == 0
    pipeline.show("resource", last)
    assert list(pipeline.as_dict()["processors"]) == ["second", "resource", "first"]
    assert pipeline.imbalance() == 0
    passed(second, 1)
    assert pipeline.imbalance() > 0


def test_what_was_shown_stays_shown() -> None:
    last, pipeline = ProcessorCounts(), PipelineCounts()
    pipeline.chain({}, {"resource": last})
    pipeline.show("resource", last)
    pipeline.chain({"new": ProcessorCounts()}, {"resource": last})
    assert list(pipeline.processors) == ["new", "resource"]


def test_what_is_held_is_held_by_all_outboxes_of_an_id() -> None:
    counts = ExporterCounts(received=5, sent=2, holders=[lambda: 1, lambda: 2])
    assert (counts.as_dict()["held"], counts.imbalance()) == (3, 0)
