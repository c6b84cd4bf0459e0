"""A page and what stands beside it: written whole or not at all, read back as it was, refused with one sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.recording import SUFFIX, Recording, RecordingError, load, place, save

BODY = b"up 1\n"
WHOLE = Recording(
    BODY, {"/api/v1/metadata": '{"a": 1}', "/api/v1/targets/metadata?metric=x": None}, 17, 0.25, "federate"
)
LIMIT = 1000


def read(path: Path, limit: int = LIMIT) -> tuple[Recording, str]:
    """Read a page; its name in sentences apart."""
    recording, said = load(path, limit)
    assert recording.where == str(path)
    return Recording(recording.body, recording.answers, recording.time, recording.seconds, recording.type), said


@pytest.mark.parametrize("name", ["page.prom", "page.prom.gz"])
def test_there_and_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert save(WHOLE, path) == [path, tmp_path / (name + SUFFIX)]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, name + SUFFIX])
    assert (path.read_bytes() == BODY) is (not name.endswith(".gz"))
    assert read(path) == (WHOLE, "")


@given(st.binary(), st.dictionaries(st.text(), st.none() | st.text()))
def test_whatever_was_answered(body: bytes, answers: dict[str, str | None]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        save(Recording(body, answers), Path(folder, "x"))
        if body[:2] != b"\x1f\x8b":
            assert read(Path(folder, "x")) == (Recording(body, answers), "")


def test_what_was_not_utf8_comes_back(tmp_path: Path) -> None:
    answers = {"/federate": b"a \xff\n".decode(errors="surrogateescape")}
    save(Recording(BODY, answers), tmp_path / "x")
    assert read(tmp_path / "x")[0].answers == answers


def test_a_bare_page_has_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(BODY)
    assert read(tmp_path / "page") == (Recording(BODY), "")


def test_gzip_is_known_by_how_it_begins(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_bytes(gzip.compress(BODY) + gzip.compress(BODY))
    assert read(tmp_path / "page.txt")[0].body == 2 * BODY
    (tmp_path / "page.gz").write_bytes(BODY)
    assert read(tmp_path / "page.gz")[0].body == BODY


def test_a_page_that_was_exchanged_is_read_without_what_is_beside(tmp_path: Path) -> None:
    save(WHOLE, tmp_path / "page")
    (tmp_path / "page").write_bytes(b"up 0\n")
    recording, said = read(tmp_path / "page")
    assert recording == Recording(b"up 0\n")
    assert said == f"{tmp_path}/page.json belongs to another page; this one is read without it"


@pytest.mark.parametrize(
    "beside",
    [
        b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"ebbtide": {"recording": 2}}', b'{"ebbtide": {"recording": 1}}',
        *(
            json.dumps({"ebbtide": {"recording": 1}, "type": "", "time": 0, "seconds": 0, "sha256": "", "answers": {}, **wrong}).encode()
            for wrong in ({"time": True}, {"time": -1}, {"time": 2**63}, {"time": "1"}, {"answers": []}, {"answers": {"a": 1}},
                          {"type": None}, {"sha256": 1}, {"seconds": "1"})
        ),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_left_alone(beside: bytes, tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(BODY)
    (tmp_path / "page.json").write_bytes(beside)
    assert read(tmp_path / "page") == (
        Recording(BODY), f"{tmp_path}/page.json is not of ebbtide record; the page is read without it"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none", None, "No such file or directory; check the path and who may read it"),
        (".", None, "Is a directory; check the path and who may read it"),
        ("a\0b", None, "its name is not a path; check the path and who may read it"),
        ("x" * 300, None, "File name too long; check the path and who may read it"),
        ("large", b"a" * (LIMIT + 1), "it is larger than 1000B; raise `max_body` of its receiver"),
        ("bomb", gzip.compress(bytes(10**6), mtime=0), "it is larger than 1000B; raise `max_body` of its receiver"),
        ("cut", gzip.compress(BODY, mtime=0)[:-3],
         "it begins like gzip and does not end like it: it was cut short, or is something else; save it again"),
        ("odd", b"\x1f\x8b" + b"x" * 99,
         "it begins like gzip and does not end like it: it was cut short, or is something else; save it again"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(name: str, content: bytes | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError) as caught:
        load(path, LIMIT)
    assert str(caught.value) == f"cannot read the page {path}: {sentence}"


def test_a_page_of_just_the_limit(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"a" * LIMIT)
    assert len(load(tmp_path / "page", LIMIT)[0].body) == LIMIT


@pytest.mark.parametrize("there", ["page", "page.json"])
def test_nothing_is_overwritten_unless_forced(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(RecordingError, match=f"cannot write .*{there}: it exists; choose another name, or add --force"):
        save(WHOLE, tmp_path / "page")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(there, "mine")]
    save(WHOLE, tmp_path / "page", force=True)
    assert read(tmp_path / "page") == (WHOLE, "")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (".", "it is a directory"), ("folder", "it is a directory"), ("none/page", "its folder is not there"),
        ("beside", "it is a directory"), ("a\0b", "its name is not a path"), ("x" * 252, "File name too long"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_leaves_nothing(path: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "beside.json").mkdir()
    with pytest.raises(RecordingError) as caught:
        save(WHOLE, tmp_path / path, force=True)
    assert str(caught.value).startswith("cannot write ")
    assert str(caught.value).endswith(f": {why}; choose another place")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["beside.json", "folder"]


def test_a_path_without_a_name() -> None:
    with pytest.raises(RecordingError, match="it names no file; name one"):
        place(Path(""))


def test_the_second_file_fails_and_neither_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name.endswith(".1.tmp"):
            raise OSError(28, "No space left on device")
        return written(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RecordingError, match=r"cannot write .*page: No space left on device; choose another place"):
        save(WHOLE, tmp_path / "page")
    assert list(tmp_path.iterdir()) == []
