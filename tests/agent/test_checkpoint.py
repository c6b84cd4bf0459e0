"""Notes on disk: kept back until what they stand for is delivered."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio

from agent.batch import Batch, Row
from agent.checkpoint import MOST_BYTES, MOST_NOTES, Checkpoint, Writer, due_notes, write_notes
from agent.ledger import ExporterCounts
from agent.outbox import Outbox
from agent.plugin import Context, Exporter, Payload, Rejected
from agent.series import Series
from agent.settings import OutboxSettings

ONE = Series.of("one")


class Gate(Exporter[Any]):
    """Takes a request for each time that it was opened."""

    def __init__(self) -> None:
        super().__init__(None, Context("gate"))
        self.opened = trio.Semaphore(0)
        self.refuses = False

    def encode(self, batch: Batch) -> list[Payload]:
        return [Payload(b"", b"x", 1, 1)] * len(batch)

    async def send(self, payload: Payload) -> None:
        await self.opened.acquire()
        if self.refuses:
            raise Rejected(None, "no")


def outbox(gate: Gate, **options: Any) -> Outbox:
    settings = OutboxSettings.model_validate({"batch": {"linger": "0s", "max_bytes": "1B"}, **options})
    return Outbox(gate, settings, ExporterCounts())


def batch(rows: int = 1) -> Batch:
    return Batch.of(Row(ONE, 1.0, number + 1, 0, False) for number in range(rows))


def noted(folder: Path, *boxes: Outbox) -> Checkpoint:
    made = Checkpoint(folder, "linkerd")
    made.mark = lambda: tuple((box, box.batches) for box in boxes)
    return made


async def test_a_note_is_due_when_every_outbox_has_delivered(
    tmp_path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    fast, slow = Gate(), Gate()
    boxes = [outbox(gate) for gate in (fast, slow)]
    checkpoint = noted(tmp_path, *boxes)
    for box in boxes:
        nursery.start_soon(box.run)
    for note in (b"1", b"2"):
        for box in boxes:
            box.put(batch(2))
        checkpoint.save(note)
    for _ in range(4):
        fast.opened.release()
    await trio.sleep(1)
    assert checkpoint.due() is None
    slow.opened.release()
    await trio.sleep(1)
    assert checkpoint.due() is None  # half of the first batch
    slow.opened.release()
    await trio.sleep(1)
    assert checkpoint.due() == b"1"
    assert checkpoint.due() is None
    slow.opened.release()
    slow.opened.release()
    await trio.sleep(1)
    assert checkpoint.due() == b"2"
    nursery.cancel_scope.cancel()


async def test_what_was_refused_or_dropped_for_want_of_room_is_given_up(
    tmp_path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    gate = Gate()
    gate.refuses = True
    box = outbox(gate, queue={"max_bytes": "2B"})
    checkpoint = noted(tmp_path, box)
    nursery.start_soon(box.run)
    for number in range(5):
        box.put(batch())
        checkpoint.save(b"%d" % number)
    gate.opened.release()
    await trio.sleep(1)
    assert checkpoint.due() == b"3"  # of five, three had no room, and one was refused
    nursery.cancel_scope.cancel()


async def test_what_a_stop_abandons_is_read_again(tmp_path: Path, autojump_clock: object) -> None:
    gate = Gate()
    box = outbox(gate)
    checkpoint = noted(tmp_path, box)
    box.put(batch())
    checkpoint.save(b"delivered")
    gate.opened.release()
    with trio.move_on_after(1):
        await box.run()
    box.put(batch())
    checkpoint.save(b"abandoned")
    box.abandon()
    assert checkpoint.due() == b"delivered"
    assert checkpoint.due() is None


async def test_offers_that_wait_for_room_are_not_delivered(
    tmp_path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    gate = Gate()
    box = outbox(gate, queue={"max_bytes": "1B", "on_full": "block"})
    checkpoint = noted(tmp_path, box)
    nursery.start_soon(box.run)
    nursery.start_soon(box.offer, batch(2))
    await trio.sleep(1)
    checkpoint.save(b"1")
    gate.opened.release()
    await trio.sleep(1)
    assert checkpoint.due() is None
    gate.opened.release()
    await trio.sleep(1)
    assert checkpoint.due() == b"1"
    nursery.cancel_scope.cancel()


async def test_a_note_does_not_wait_for_an_outbox_that_was_taken_away(tmp_path: Path, autojump_clock: object) -> None:
    alive, dead = Gate(), Gate()
    boxes = [outbox(alive), outbox(dead)]
    checkpoint = noted(tmp_path, *boxes)
    for note in (b"1", b"2"):
        for box in boxes:
            box.put(batch())
        checkpoint.save(note)
    alive.opened.release()
    with trio.move_on_after(1):
        await boxes[0].run()
    assert checkpoint.due() is None
    checkpoint.wait_only_for([boxes[0]])
    assert checkpoint.due() == b"1"
    assert checkpoint.due() is None


async def test_a_receiver_that_comes_again_goes_on_behind_what_it_emitted(tmp_path: Path) -> None:
    before = Checkpoint(tmp_path, "linkerd")
    before.save(b"written")
    assert write_notes(due_notes([before])) == {}
    box = outbox(Gate())
    before.mark = lambda: ((box, box.batches),)
    box.put(batch())
    before.save(b"in custody")
    assert before.due() is None
    assert (before.load(), Checkpoint(tmp_path, "linkerd").load()) == (b"in custody", b"written")


def test_without_outboxes_a_note_is_due_at_once(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "linkerd")
    checkpoint.save(b"1")
    assert checkpoint.due() == b"1"


def test_notes_are_bounded(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "linkerd")
    for number in range(3 * MOST_NOTES):
        checkpoint.save(b"%d" % number)
    assert len(checkpoint._notes) == MOST_NOTES
    assert checkpoint.due() == b"%d" % (3 * MOST_NOTES - 1)
    with pytest.raises(ValueError, match="cannot save a note"):
        checkpoint.save(bytes(MOST_BYTES + 1))


@pytest.mark.parametrize("name", ["linkerd", "a/b", "..", "ü %"])
def test_what_was_written_is_found_again_whatever_the_name(tmp_path: Path, name: str) -> None:
    checkpoint = Checkpoint(tmp_path, name)
    assert checkpoint.load() is None
    checkpoint.save(b"note")
    assert write_notes(due_notes([checkpoint])) == {}
    assert Checkpoint(tmp_path, name).load() == b"note"
    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "checkpoints"]


async def test_the_writer_writes_in_time_and_says_what_it_cannot(
    tmp_path: Path, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.checkpoint.EVERY_SECONDS", 0.01)
    (tmp_path / "file").touch()
    good, bad = Checkpoint(tmp_path, "good"), Checkpoint(tmp_path / "file", "bad")
    writer = Writer()
    nursery.start_soon(writer.run, lambda: [good, bad])
    for note in (b"1", b"2", b"3"):
        bad.save(note)
        good.save(note)
        with trio.fail_after(10):
            while Checkpoint(tmp_path, "good").load() != note:  # noqa: ASYNC110 - a file has no event
                await trio.sleep(0.01)
    nursery.cancel_scope.cancel()
    good.save(b"4")
    writer.last([good])
    assert Checkpoint(tmp_path, "good").load() == b"4"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith(f"cannot write the checkpoint {bad.path}: Not a directory; ")
