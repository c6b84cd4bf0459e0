import errno
import io
import os
import subprocess
import sys

import pytest

from agent import streams


def commanded(shell: str, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a shell that has done ``shell`` before."""
    run = [sys.executable, "-m", "agent.cli", *argv]
    return subprocess.run(
        ["sh", "-c", f'{shell} "$@"', "sh", *run], capture_output=True, text=True, check=False, env=os.environ | env
    )


def test_a_closed_stream_is_no_place_for_another_file() -> None:
    ask = (
        "import os, sys; from agent import streams; streams.prepare(); found = os.open('/etc/hostname', os.O_RDONLY); "
        "print(found > 2, file=sys.stderr)\ntry: os.write(1, b'x')\nexcept OSError as error: print(error.errno, file=sys.stderr)"
    )
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- >&-', "sh", sys.executable, "-c", ask], stderr=subprocess.PIPE, text=True, check=True
    )
    assert done.stderr.split() == ["True", str(errno.EBADF)]


@pytest.mark.parametrize("argv", [["--version"], ["docs", "agent"], ["components"]])
@pytest.mark.parametrize("shell", ["exec >&-;", "exec <&- >&- 2>&-;"])
def test_commands_that_print_need_no_streams(shell: str, argv: list[str]) -> None:
    done = commanded(shell, *argv)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("argv", [["--version"], ["docs", "agent"]])
def test_a_full_disk_is_said(argv: list[str]) -> None:
    done = commanded("exec > /dev/full;", *argv)
    said = f"cannot write to standard output: {os.strerror(errno.ENOSPC)}; free some space\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_letters_that_the_locale_has_not() -> None:
    done = commanded("", "docs", "agent", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert r"agent \xb7" in done.stdout


def test_a_stream_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    streams.prepare()
    streams.flush()
    monkeypatch.setattr(sys, "stdout", None)
    streams.prepare()
    streams.flush()


@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EFBIG, True), (errno.EACCES, False)])
def test_no_room(number: int, full: bool) -> None:
    assert streams.no_room(OSError(number, "")) is full
