"""Targets from files, as Prometheus' ``file_sd_configs`` has them: JSON or YAML, read again when they change.

Strategy. What a file says is remembered by its state on disk (time, size, inode); a look around costs a stat per file. A file
that cannot be read keeps what it said before, and is tried again; one that is gone takes its targets along.

Source: prometheus/prometheus, discovery/file/file.go.
"""

from __future__ import annotations

import glob
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import trio
from pydantic import field_validator

from ebbtide import ConfigError, FoldedLog, PositiveDuration, ReceiveError, Settings, file_stamp, option, reason
from receivers.discovery import Groups, TargetGroup

LOOK_SECONDS = 5.0
"""How often it is looked whether a file has changed."""
MOST_BYTES = 64 << 20
"""Largest file that is read."""
_SUFFIXES = (".json", ".yml", ".yaml")


class FileDiscoverySettings(Settings):
    """Targets from files."""

    kind: Literal["file"] = option("file", "Where targets come from.")
    files: list[str] = option(
        ...,
        "Files in the form of Prometheus' file_sd, JSON or YAML; * in the last part.",
        examples=[["targets/*.json"]],
    )
    refresh: PositiveDuration = option("5m", "How often they are read anew, changed or not.")

    @field_validator("files")
    @classmethod
    def _known_forms(cls, files: list[str]) -> list[str]:
        if not files:
            raise ValueError('no file; write at least one, such as "targets/*.json"')
        for file in files:
            if not file.endswith(_SUFFIXES):
                raise ValueError(f"{file!r} does not end in .json, .yml or .yaml; write one such as targets/*.json")
            if "*" in str(Path(file).parent):
                raise ValueError(
                    f"{file!r} has * before its last part; write one such as targets/*.json for each folder"
                )
        return files


class _Bad(Exception):
    """A file cannot be read, and why."""


class FileDiscovery:
    """Follows files."""

    def __init__(self, settings: FileDiscoverySettings, log: FoldedLog, name: str):
        self._settings = settings
        self._log = log
        self._name = name
        self._known: dict[str, tuple[object, list[TargetGroup]]] = {}
        if any(not file.endswith(".json") for file in settings.files):
            _need_yaml()

    async def run(self, update: Callable[[Groups], None]) -> None:
        """Tell of all groups, and of them anew when a file has changed."""
        due = -math.inf
        while True:
            if trio.current_time() >= due or self._changed():
                failed = self._read()
                for file, why in failed.items():
                    self._log(logging.WARNING, f"file {file}", "receivers.%s: cannot read the targets in %s: %s; what it said before holds",
                              self._name, file, why)  # fmt: skip
                for file in self._known.keys() - failed.keys():
                    self._log.recovered(
                        f"file {file}",
                        "receivers.%s: the targets in %s are read again after %d failures",
                        self._name,
                        file,
                    )
                due = trio.current_time() + self._settings.refresh
                update(self._groups())
            await trio.sleep(min(LOOK_SECONDS, self._settings.refresh))

    async def once(self) -> Groups:
        """Read all files. Raises ReceiveError where one cannot be read."""
        await trio.lowlevel.checkpoint()
        for file, why in self._read().items():
            raise ReceiveError(f"cannot read the targets in {file}: {why}; correct it")
        return self._groups()

    def _groups(self) -> Groups:
        return {group.source: group for _, groups in self._known.values() for group in groups}

    def _files(self) -> list[str]:
        return sorted({file for pattern in self._settings.files for file in glob.glob(pattern)})

    def _changed(self) -> bool:
        return {file: _stamp(file) for file in self._files()} != {
            file: stamp for file, (stamp, _) in self._known.items()
        }

    def _read(self) -> dict[str, str]:
        """Read what has changed; return the files that cannot be read, and why not."""
        failed, files = {}, self._files()
        for file in files:
            stamp = _stamp(file)
            before, groups = self._known.get(file, (None, []))
            if stamp != before or before is None:
                try:
                    groups = _groups_of(file)
                except _Bad as error:
                    failed[file], stamp = str(error), None  # to be tried again, changed or not: it may become readable
            self._known[file] = stamp, groups
        for file in self._known.keys() - set(files):
            del self._known[file]
        return failed


def _stamp(file: str) -> object:
    try:
        return file_stamp(file)
    except OSError:
        return None


def _groups_of(file: str) -> list[TargetGroup]:
    """Read a file. Raises _Bad."""
    try:
        with open(file, "rb") as opened:
            text = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise _Bad(reason(error)) from None
    if len(text) > MOST_BYTES:
        raise _Bad(f"it is larger than {MOST_BYTES} bytes")
    tree = _json(text) if file.endswith(".json") else _yaml(text)
    if tree is None:
        tree = []
    if not isinstance(tree, list):
        raise _Bad("it is no list of groups")
    return [_group(file, number, group) for number, group in enumerate(tree)]


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"it is not JSON: {error}") from None


def _yaml(text: bytes) -> Any:
    import yaml  # an extra

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _Bad(f"it is not YAML: {' '.join(str(error).split())}") from None


def _need_yaml() -> None:
    try:
        import yaml  # noqa: F401
    except ImportError:
        raise ConfigError(
            "cannot read YAML: no library for it is installed; run: pip install 'ebbtide[yaml]', or write JSON",
            "discovery",
        ) from None


def _group(file: str, number: int, group: Any) -> TargetGroup:
    where = f"group {number + 1}"
    if not isinstance(group, dict) or not set(group) <= {"targets", "labels"}:
        raise _Bad(f"{where} is no table of `targets` and `labels`")
    targets, labels = group.get("targets") or [], group.get("labels") or {}
    if not _texts(targets):
        raise _Bad(f"the targets of {where} are no list of texts")
    if not isinstance(labels, dict) or not _texts([*labels, *labels.values()]):
        raise _Bad(f"the labels of {where} are no table of texts")
    found: tuple[Mapping[str, str], ...] = tuple({"__address__": target} for target in targets)
    return TargetGroup(f"{file}:{number}", {**labels, "__meta_filepath": file}, found)


def _texts(given: Any) -> bool:
    return (
        isinstance(given, Iterable) and not isinstance(given, str | dict) and all(isinstance(one, str) for one in given)
    )
