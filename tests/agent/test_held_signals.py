import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent import held_signals


@pytest.fixture(autouse=True)
def not_held() -> Iterator[None]:
    yield
    held_signals.let_in()


@pytest.mark.parametrize("number", held_signals.HELD)
def test_a_signal_waits(number: signal.Signals) -> None:
    came = []
    before = signal.signal(number, lambda number, frame: came.append(number))
    try:
        held_signals.hold()
        signal.raise_signal(number)  # to this thread; the test runner may have others
        assert came == []
        held_signals.let_in()
        assert came == [number]
    finally:
        signal.signal(number, before)


def test_a_stop_while_the_agent_starts_is_a_stop(tmp_path: object) -> None:
    file = os.path.join(str(tmp_path), "agent.toml")
    with open(file, "w") as stream:
        stream.write(
            '[agent]\nadmin = ""\n[receivers.a]\ntype = "remote_write"\nlisten = "127.0.0.1:0"\n'
            '[exporters.b]\ntype = "otlp"\n[pipelines.m]\nreceivers = ["a"]\nexporters = ["b"]\n'
        )
    start = (
        "import os, signal, sys; from agent import cli, held_signals; hold = held_signals.hold\n"
        "def signalled():\n hold()\n os.kill(os.getpid(), signal.SIGHUP)\n os.kill(os.getpid(), signal.SIGTERM)\n"
        "held_signals.hold = signalled; sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", start, "run", file], capture_output=True, text=True, check=False)
    assert (done.returncode, "stopping (SIGTERM)" in done.stderr) == (0, True), done.stderr
