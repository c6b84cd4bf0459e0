"""A poll that was saved: the page as it came, and beside it what else was asked of the server.

Strategy. Two files. PAGE is the body, inflated (or gzip where its name ends in ``.gz``), so that what curl saved is a
recording too. ``PAGE.json`` holds the rest, and the digest of the page that it belongs to: a page that was exchanged
since is read without it, and that is said. Reading is bounded before it begins; writing leaves whole files or none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.drafts import NotWritten, write_all

SUFFIX = ".json"  # of the file beside the page
VERSION = 1  # of that file's form
MAX_BESIDE = 256 << 20  # bytes of that file
_FIELDS = {"type": (str,), "time": (int,), "seconds": (int, float), "sha256": (str,), "answers": (dict,)}
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


class RecordingError(Exception):
    """A page that cannot be saved, or read back: one sentence."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One poll's answers. ``body`` inflated; ``answers`` by question, None to what was not answered.

    ``time`` ns of the wall clock at which it came, 0 = unknown; ``seconds`` it took; ``type`` of the receiver that
    recorded it, "" = none did; ``where`` names it in sentences.
    """

    body: bytes
    answers: Mapping[str, str | None] = field(default_factory=dict)
    time: int = 0
    seconds: float = 0.0
    type: str = ""
    where: str = "the saved page"


def load(path: Path, max_bytes: int) -> tuple[Recording, str]:
    """Read a saved page of at most ``max_bytes`` (inflated); return it, and what is to be said of it, if anything.

    Raises RecordingError for what is no file, too large, or not the gzip that it begins like.
    """
    body = _body(path, max_bytes)
    beside = Path(f"{path}{SUFFIX}")
    if not os.path.isfile(beside):
        return Recording(body, where=str(path)), ""
    told = _beside(beside)
    if told is None:
        return Recording(body, where=str(path)), f"{beside} is not of ebbtide record; the page is read without it"
    if told.pop("sha256") != _digest(body):
        return Recording(body, where=str(path)), f"{beside} belongs to another page; this one is read without it"
    return Recording(body, where=str(path), **told), ""


def save(recording: Recording, path: Path, *, force: bool = False) -> list[Path]:
    """Write a recording: both files or none; return their paths. Raises RecordingError, also where one exists."""
    import gzip
    import json

    page = gzip.compress(recording.body, 6, mtime=0) if path.name.endswith(".gz") else recording.body
    beside = {
        "ebbtide": {"recording": VERSION},
        "type": recording.type,
        "time": recording.time,
        "seconds": recording.seconds,
        "sha256": _digest(recording.body),
        "answers": dict(recording.answers),
    }
    text = json.dumps(beside, indent=1).encode() + b"\n"  # all ASCII: also what was not UTF-8 comes back as it was
    place(path, force=force)
    try:
        write_all({Path(f"{path}{SUFFIX}"): text, path: page})
    except NotWritten as error:
        raise RecordingError(f"cannot write {error.path}: {error.why}; choose another place") from None
    return [path, Path(f"{path}{SUFFIX}")]


def place(path: Path, *, force: bool = False) -> None:
    """Look whether a recording may be written to ``path``; raises RecordingError where one is there, or no folder."""
    if not path.name:
        raise RecordingError(f"cannot write {path}: it names no file; name one")
    for file in (path, Path(f"{path}{SUFFIX}")):
        if os.path.isdir(file) or not os.path.isdir(path.parent):
            why = "it is a directory" if os.path.isdir(file) else "its folder is not there"
            raise RecordingError(f"cannot write {file}: {why}; choose another place")
        if os.path.lexists(file) and not force:
            raise RecordingError(f"cannot write {file}: it exists; choose another name, or add --force")


def _body(path: Path, max_bytes: int) -> bytes:
    """Read the page; gzip is known by how it begins, whatever the name says."""
    from agent.http_fault import Fault
    from agent.inflate import Inflater
    from agent.settings import show_size

    try:
        with path.open("rb") as file:
            head = file.read(len(_GZIP))
            inflater = Inflater("gzip" if head == _GZIP else "", max_bytes, str(path))
            pieces = [piece for data in _read(file, head) for piece in inflater.feed(data)]
            inflater.finish()
    except Fault as fault:
        if fault.kind == "too_large":
            why = f"it is larger than {show_size(max_bytes)}; raise `max_body` of its receiver"
        else:
            why = "it begins like gzip and does not end like it: it was cut short, or is something else; save it again"
        raise RecordingError(f"cannot read the page {path}: {why}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its name is not a path"
        raise RecordingError(f"cannot read the page {path}: {why}; check the path and who may read it") from None
    return b"".join(pieces)


def _read(file: Any, head: bytes) -> Iterator[bytes]:
    data = head
    while data:
        yield data
        data = file.read(_CHUNK)


def _beside(path: Path) -> dict[str, Any] | None:
    """Return what the file beside a page tells, None where it is not ours."""
    import json

    try:
        if path.stat().st_size > MAX_BESIDE:
            return None
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.get("ebbtide") != {"recording": VERSION}:
        return None
    if any(type(told.get(name)) not in kinds for name, kinds in _FIELDS.items()):
        return None
    if any(not isinstance(answer, str | None) for answer in told["answers"].values()) or not 0 <= told["time"] < 2**63:
        return None
    return {name: told[name] for name in _FIELDS}


def _digest(body: bytes) -> str:
    import hashlib

    return hashlib.sha256(body).hexdigest()
