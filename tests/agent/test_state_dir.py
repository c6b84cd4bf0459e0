import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent import state_dir
from agent.state_dir import LOCK, StateDir, StateDirError

# Takes the directory in another process, says so, and keeps it until its stdin ends.
_TAKE = """\
import pathlib, sys
from agent.state_dir import StateDir
held = StateDir.take(pathlib.Path(sys.argv[1]))
print("taken", flush=True)
sys.stdin.read()
"""


def refused(path: Path) -> str:
    with pytest.raises(StateDirError) as caught:
        StateDir.take(path)
    return str(caught.value).replace(str(path), "DIR")


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    held = StateDir.take(tmp_path / "state")
    assert held.path == tmp_path / "state"
    assert held.path.stat().st_mode & 0o777 == 0o700
    assert (held.path / LOCK).stat().st_mode & 0o777 == 0o600
    assert (held.path / LOCK).read_text().strip() == str(os.getpid())
    held.close()


def test_one_that_is_there_keeps_its_mode_and_what_is_in_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    (tmp_path / "ebbtide.sqlite").write_text("state")
    (tmp_path / LOCK).write_text("123456789012345\nleft behind by one that died")
    held = StateDir.take(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "ebbtide.sqlite").read_text() == "state"
    assert (tmp_path / LOCK).read_text().split() == [str(os.getpid())]
    held.close()


def test_it_is_held_until_closed(tmp_path: Path) -> None:
    held = StateDir.take(tmp_path)
    assert refused(tmp_path) == (
        f"cannot use state_dir DIR: another ebbtide (pid {os.getpid()}) holds it; stop it or choose another state_dir"
    )
    assert refused(tmp_path)  # to be refused lets go of nothing
    held.close()
    held.close()
    StateDir.take(tmp_path).close()


@pytest.mark.parametrize(("written", "shown"), [("", "unknown"), ("12", "12"), ("x\0\x1b[31m", "unknown")])
def test_who_holds_it_is_said_as_far_as_it_is_known(written: str, shown: str, tmp_path: Path) -> None:
    held = StateDir.take(tmp_path)
    (tmp_path / LOCK).write_text(written)
    assert f"(pid {shown}) holds it" in refused(tmp_path)
    held.close()


def test_another_process_holds_it_until_it_dies(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _TAKE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"taken\n"
        assert f"another ebbtide (pid {other.pid}) holds it" in refused(tmp_path)
        other.send_signal(signal.SIGKILL)
        other.wait()
    StateDir.take(tmp_path).close()


def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    held = StateDir.take(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        held.close()
        StateDir.take(tmp_path).close()
        assert child.poll() is None
        child.communicate(b"")


def test_what_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert refused(file) == "cannot use state_dir DIR: File exists; it is a file; name a directory"
    assert refused(file / "x") == (
        "cannot use state_dir DIR: Not a directory; a part of it is a file; name a directory"
    )  # fmt: skip
    assert refused(tmp_path / "a" / "b") == (
        "cannot use state_dir DIR: No such file or directory; make the directory above it, or correct the path"
    )
    assert refused(Path("a\0b")).endswith("its name is not a path; it must be a directory that the user who runs ebbtide may write to")  # fmt: skip


def test_the_lock_is_no_link_and_no_directory(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    assert "`lock` in it must be a file of its own, not a link" in refused(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).mkdir()
    assert "remove the directory `lock` in it" in refused(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_one_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert refused(tmp_path).endswith("Permission denied; let the user that runs ebbtide write to it")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_directory_above_need_not_be_writable(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    tmp_path.chmod(0o500)
    StateDir.take(tmp_path / "state").close()


@pytest.mark.parametrize(
    ("call", "number", "cure"),
    [
        ("open", errno.EACCES, "let the user that runs ebbtide write to it"),
        ("open", errno.EROFS, "mount it writable, or choose another state_dir"),
        ("pwrite", errno.ENOSPC, "make room on its file system"),
        ("pwrite", errno.EIO, "it must be a directory that the user who runs ebbtide may write to"),
    ],
)
def test_what_the_file_system_refuses(
    call: str, number: int, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        assert refused(tmp_path) == f"cannot use state_dir DIR: {os.strerror(number)}; {cure}"
    StateDir.take(tmp_path).close()  # and nothing is held


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(state_dir.fcntl, "flock", fail)
    assert refused(tmp_path).endswith("its file system has no lock service; choose a state_dir on a local disk")
