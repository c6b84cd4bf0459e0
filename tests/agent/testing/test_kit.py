"""The kit finds the promises of a plugin, says them, and makes a test of each."""

from __future__ import annotations

from typing import Any

import pytest

from agent.batch import Batch
from agent.plugin import Exporter, Processor, Receiver
from agent.testing import kit
from agent.testing.candidate import Candidate, Nonconformance, NotApplicable


class Passes(Processor[Any]):
    """Passes everything on."""

    def process(self, batch: Batch) -> Batch | None:
        return batch


class Scribbles(Passes):
    """Writes into its input."""

    def process(self, batch: Batch) -> Batch | None:
        batch.values[:] = 0
        return batch


def test_every_promise_has_its_rule_in_a_sentence() -> None:
    for base in (Receiver, Processor, Exporter):
        promises = kit.promises_of(Candidate(base, peer=lambda nursery, mood: None))  # type: ignore[arg-type,return-value,type-abstract]
        assert len(promises) > 8
        assert len({promise.name for promise in promises}) == len(promises)
        assert all(promise.rule.endswith(".") for promise in promises)


def test_what_is_no_plugin_is_refused() -> None:
    with pytest.raises(TypeError, match="dict is no plugin"):
        kit.promises_of(Candidate(dict))  # type: ignore[arg-type]


def test_a_test_is_made_of_each_promise() -> None:
    test = kit.conformance(Scribbles)
    (mark,) = test.pytestmark  # type: ignore[attr-defined]
    outcomes = {}
    for promise in mark.args[1]:
        try:
            outcomes[promise.name] = test(promise)
        except Nonconformance as broken:
            outcomes[promise.name] = str(broken)
    assert mark.kwargs["ids"] == list(outcomes)
    assert [name for name, outcome in outcomes.items() if outcome] == ["leaves_its_input_alone"]


def not_now(candidate: Candidate) -> None:
    """It depends."""
    raise NotApplicable("the peer cannot be silent")


def test_what_cannot_be_tried_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit.processors, "promises_of", lambda candidate: [not_now])
    assert kit.shortcomings(Passes) == []
    test = kit.conformance(Passes)
    promise = kit.Promise("not_now", "", Candidate(Passes), not_now)
    with pytest.raises(pytest.skip.Exception, match="the peer cannot be silent"):
        test(promise)
