"""Files are written whole, and all or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.drafts import NotWritten, write_all


def test_all_are_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    write_all({tmp_path / "a": b"new", tmp_path / "b": b"\0"})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a": b"new", "b": b"\0"}


@pytest.mark.parametrize(
    ("name", "why"),
    [("no/folder", "No such file or directory"), ("folder", "Is a directory"), ("x\0", "its name is not a path")],
)
def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotWritten) as refused:
        write_all({tmp_path / name: b"x"})
    assert (refused.value.path, refused.value.why) == (tmp_path / name, why)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_path_without_a_name(tmp_path: Path) -> None:
    with pytest.raises(NotWritten, match="its name is not a path"):
        write_all({Path("/"): b"x"})
