"""Targets from files, read again when they change; what cannot be read keeps what it said."""

from __future__ import annotations

import json
import logging
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import trio
from pydantic import ValidationError

from ebbtide import ConfigError, FoldedLog, ReceiveError
from receivers import discovery_file
from receivers.discovery import Groups
from receivers.discovery_file import FileDiscovery, FileDiscoverySettings

GROUPS = [{"targets": ["a:1", "b:1"], "labels": {"zone": "east"}}, {"targets": ["c:1"]}]
YAML = "- targets: [a:1, 'b:1']\n  labels: {zone: east}\n- targets: ['c:1']\n"


def discovery(*files: str, **more: Any) -> FileDiscovery:
    settings = FileDiscoverySettings.model_validate({"files": list(files), **more})
    return FileDiscovery(settings, FoldedLog(logging.getLogger("ebbtide.test")), "mesh")


def found(groups: Groups) -> dict[str, dict[str, str]]:
    return {target["__address__"]: {**group.labels, **target} for group in groups.values() for target in group.targets}


@pytest.mark.parametrize(("name", "text"), [("t.json", json.dumps(GROUPS)), ("t.yml", YAML), ("t.yaml", YAML)])
async def test_both_forms(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    targets = found(await discovery(str(tmp_path / "*.*".replace("*.*", name))).once())
    assert sorted(targets) == ["a:1", "b:1", "c:1"]
    assert targets["a:1"] == {"__address__": "a:1", "zone": "east", "__meta_filepath": str(file)}
    assert "zone" not in targets["c:1"]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("t.json", "[", "it is not JSON"),
        ("t.json", "[" * 100_000, "it is not JSON"),
        ("t.yml", "a: [", "it is not YAML"),
        ("t.json", "{}", "it is no list of groups"),
        ("t.json", '[{"target": []}]', "group 1 is no table of `targets` and `labels`"),
        ("t.json", '[{"targets": []}, {"targets": [1]}]', "the targets of group 2 are no list of texts"),
        ("t.json", '[{"targets": [], "labels": {"a": 1}}]', "the labels of group 1 are no table of texts"),
    ],
)
async def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReceiveError, match=why):
        await discovery(str(tmp_path / name)).once()


async def test_an_empty_file_and_a_missing_one_are_no_targets(tmp_path: Path) -> None:
    (tmp_path / "t.yml").write_text("")
    assert found(await discovery(str(tmp_path / "t.yml"), str(tmp_path / "absent.json")).once()) == {}


async def test_a_file_that_becomes_readable_is_read(
    tmp_path: Path, autojump_clock: object, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[str]] = []
    file = tmp_path / "1.json"
    file.write_text(json.dumps(GROUPS))
    monkeypatch.setattr(discovery_file, "MOST_BYTES", 1)
    nursery.start_soon(discovery(str(file)).run, lambda groups: told.append(sorted(found(groups))))
    await trio.sleep(7)
    assert told == [[], []]  # tried again, though the file has not changed
    monkeypatch.undo()
    await trio.sleep(20)
    assert [groups for groups, _ in groupby(told)] == [[], ["a:1", "b:1", "c:1"]]
    nursery.cancel_scope.cancel()


async def test_changes_are_seen_and_a_bad_file_keeps_what_it_said(
    tmp_path: Path, autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbtide.test")
    told: list[list[str]] = []
    one, other = tmp_path / "1.json", tmp_path / "2.json"
    one.write_text(json.dumps(GROUPS))
    nursery.start_soon(discovery(str(tmp_path / "*.json")).run, lambda groups: told.append(sorted(found(groups))))
    await trio.sleep(20)
    other.write_text('[{"targets": ["d:1"]}]')
    await trio.sleep(20)
    one.write_text("half a fi")
    await trio.sleep(20)
    other.unlink()
    await trio.sleep(20)
    one.write_text('[{"targets": ["e:1"]}]')
    await trio.sleep(20)
    assert [groups for groups, _ in groupby(told)] == [
        ["a:1", "b:1", "c:1"],
        ["a:1", "b:1", "c:1", "d:1"],
        ["a:1", "b:1", "c:1"],
        ["e:1"],
    ]
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith(f"receivers.mesh: cannot read the targets in {one}: it is not JSON")
    (again,) = said[1:]
    assert again.startswith(f"receivers.mesh: the targets in {one} are read again after ")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("files", [[], ["a.txt"], ["*/a.json"], ["a"]])
def test_what_is_no_name_of_files(files: list[str]) -> None:
    with pytest.raises(ValidationError):
        FileDiscoverySettings.model_validate({"files": files})


def test_without_the_library_for_yaml_the_command_to_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    discovery("a.json")
    with pytest.raises(ConfigError, match=r"pip install 'ebbtide\[yaml\]'"):
        discovery("a.yml")
