"""What a receiver must know again after a restart: written to disk once what it stands for has been delivered.

Strategy. A receiver saves a note after it has emitted. What it emitted so far is then in the custody of outboxes, mostly in
memory, where a crash would lose it; so the note is kept back until no outbox holds any of it any more. Notes become due in
the order in which they were saved, and only the newest that is due is written. What was abandoned at a shutdown makes its
notes never due: the next start reads it again. What was given up while running (too old, refused) does not: it is counted.

A reload may take outboxes away from a receiver. What they still hold they drain, but no note waits for them any more: a next
start sends nothing there, so it need not read for them again. A receiver that goes leaves its notes behind until they are
due; if it comes again in the same process, it goes on behind all that it emitted.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

import trio

from agent.drafts import NotWritten, write_all
from agent.folded import FoldedLog
from agent.outbox import Outbox

logger = logging.getLogger("ebbtide.checkpoint")

Marks = tuple[tuple[Outbox, int], ...]

FOLDER = "checkpoints"
MOST_BYTES = 1 << 20
"""A note may be so long, and a file is read no further."""
EVERY_SECONDS = 1.0
"""How often it is looked whether a note is due."""
MOST_NOTES = 64
"""Notes that wait for their turn; of more, some of the newer ones are passed over, which makes the steps coarser."""


class Checkpoint:
    """One receiver's note. ``mark`` tells what is in custody by now; it is set when the receiver is connected."""

    def __init__(self, folder: Path, name: str):
        self.path = folder / FOLDER / f"{quote(name, safe='')}.note"
        self.mark: Callable[[], Marks] = tuple
        self._notes: deque[tuple[bytes, Marks]] = deque()
        self._last: bytes | None = None  # that was saved

    def load(self) -> bytes | None:
        """Return the last note that this process saved, or that a former one wrote; None where there is none.

        Raises OSError where it cannot be read.
        """
        if self._last is not None:
            return self._last
        try:
            with self.path.open("rb") as file:
                return file.read(MOST_BYTES)
        except FileNotFoundError:
            return None

    def save(self, note: bytes) -> None:
        """Let this note be written once all that was emitted before is delivered. Raises ValueError for one too long."""
        if len(note) > MOST_BYTES:
            raise ValueError(f"cannot save a note of {len(note)} bytes: at most {MOST_BYTES} are kept")
        if len(self._notes) >= MOST_NOTES:
            del self._notes[-1]
        self._last = note
        self._notes.append((note, self.mark()))

    def wait_only_for(self, outboxes: Collection[Outbox]) -> None:
        """A reload has left these: notes wait for no other any more, see the strategy above."""
        self._notes = deque(
            (note, tuple((outbox, batch) for outbox, batch in marks if outbox in outboxes))
            for note, marks in self._notes
        )

    def due(self) -> bytes | None:
        """Take the newest note that may be written; None where there is no other than before."""
        found = None
        while self._notes and all(outbox.settled(batch) for outbox, batch in self._notes[0][1]):
            found = self._notes.popleft()[0]
        return found


def due_notes(checkpoints: Iterable[Checkpoint]) -> dict[Path, bytes]:
    """Take the notes that may be written, by their files."""
    return {one.path: note for one in checkpoints if (note := one.due()) is not None}


def write_notes(notes: Mapping[Path, bytes]) -> dict[Path, str]:
    """Write notes, each whole or not at all; return why not, by file. Blocks."""
    failed = {}
    for path, note in notes.items():
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_all({path: note})
        except OSError as error:
            failed[path] = error.strerror or str(error)
        except NotWritten as error:
            failed[path] = error.why
    return failed


class Writer:
    """Writes what is due, and logs what cannot be written; the next note tries again."""

    def __init__(self) -> None:
        self._log = FoldedLog(logger)

    def note(self, notes: Mapping[Path, bytes], failed: Mapping[Path, str]) -> None:
        """Log what became of notes."""
        for path in notes:
            if path in failed:
                self._log(logging.ERROR, str(path), "cannot write the checkpoint %s: %s; after a restart more is read again "
                          "than need be; make room, or let the user that runs ebbtide write there", path, failed[path])  # fmt: skip
            else:
                self._log.recovered(str(path), "checkpoint %s is written again after %d failures", path)

    async def run(self, checkpoints: Callable[[], Iterable[Checkpoint]]) -> None:
        """Write what is due, every ``EVERY_SECONDS``, until cancelled."""
        while True:
            await trio.sleep(EVERY_SECONDS)
            notes = due_notes(checkpoints())
            if notes:
                with trio.CancelScope(shield=True):  # a note that was taken is written
                    self.note(notes, await trio.to_thread.run_sync(write_notes, notes))

    def last(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Write what is due at the end. Blocks."""
        notes = due_notes(checkpoints)
        self.note(notes, write_notes(notes))
