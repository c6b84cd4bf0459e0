"""SIGHUP under load: the file changes again and again while polls and requests are under way, and no sample is lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.real.judge import Judge
from tests.real.processes import Agent
from tests.real.test_life import Counting, counting, values  # noqa: F401 - a fixture
from tests.real.waiting import free_port, until

pytestmark = pytest.mark.timeout(180)


def file(url: str, exporters: dict[str, str], receiver: str = "", processors: str = "", agent: str = "") -> str:
    """A pipeline file; ``exporters``: the options of each by id."""
    tables = "\n".join(
        f'[exporters.{id}]\ntype = "otlp"\nretry = {{ initial = "100ms", max = "300ms" }}\n{options}'
        for id, options in exporters.items()
    )
    return f"""
[agent]
{agent or 'admin = "127.0.0.1:0"'}
[receivers.linkerd]
type = "federate"
url = "{url}"
interval = "100ms"
{receiver}
{tables}
[processors.who]
type = "resource"
{processors}
[pipelines.metrics]
receivers = ["linkerd"]
processors = ["who"]
exporters = {list(exporters)}
"""


class Reloading(Agent):
    """The agent, and its file."""

    def __init__(self, folder: Path, text: str):
        super().__init__(folder, text)
        self.file = folder / "agent.toml"
        self.said = 0

    def reload(self, text: str, expected: str) -> None:
        """Put the text into the file, tell the agent, and wait until it has said what came of it."""
        self.file.write_text(text, encoding="utf-8")
        self.process.send_signal(signal.SIGHUP)
        until(lambda: expected in self.stderr[self.said :], f"{expected}; it said {self.stderr[self.said :]!r}")
        self.said = len(self.stderr)


def options(judge: Judge, more: str = "") -> str:
    return f'endpoint = "{judge.endpoint}"\nprotocol = "{judge.protocol}"\n{more}'


def test_nothing_is_lost_whatever_changes(counting: Counting, tmp_path: Path) -> None:  # noqa: F811
    url = counting.server.url
    with (
        Judge("http/protobuf") as first,
        Judge("grpc") as second,
        Judge("http/json") as third,
        Reloading(tmp_path, file(url, {"a": options(first)})) as agent,
    ):

        def polls(number: int) -> None:
            goal = counting.polls + number
            until(lambda: counting.polls >= goal, f"{number} more polls")

        polls(5)
        agent.reload(agent.file.read_text(), "no component has changed")
        agent.reload(file(url, {"a": options(first, 'compression = "none"')}), "exporters.a changed")
        polls(3)
        agent.reload(
            file(url, {"a": options(first)}, 'stale_after = "10m"\ntimeout = "9s"'), "receivers.linkerd changed"
        )
        polls(3)
        agent.reload(file(url, {"a": "endpoint = 1"}), "nothing has changed:\n    ")
        polls(3)
        first.behaviour = "503"  # what cannot be delivered here waits
        polls(5)
        agent.reload(file(url, {"a": options(second)}), "exporters.a changed")  # and is delivered there
        polls(5)
        agent.reload(file(url, {"b": options(third)}), "exporters.b new, exporters.a removed")
        until(lambda: "exporter a: drained and removed" in agent.stderr, "the removed one has drained")
        polls(5)
        agent.reload(file(url, {"b": options(third)}, agent=f'admin = "127.0.0.1:{free_port()}"'), "no component")
        polls(3)
        balanced = agent.ledger  # at the port as it was: closed by now
        with pytest.raises(OSError):
            balanced()
        assert agent.stop() == 0, agent.stderr
        assert "does not balance" not in agent.stderr
        assert "Traceback" not in agent.stderr
        arrived = [values(judge.points()) for judge in (first, second, third)]
    streams = {stream for one in arrived for stream in one}
    assert len(streams) == counting.series
    together = {tuple(value for one in arrived for value in one.get(stream, ())) for stream in streams}
    assert len(together) == 1, "all series alike"
    (sequence,) = together
    assert sequence == tuple(float(n + 1) for n in range(len(sequence)))  # each once and in order, over all three
    assert counting.polls - 1 <= len(sequence) <= counting.polls
    assert all(one for one in arrived)


def test_reload_after_reload_loses_nothing(counting: Counting, tmp_path: Path) -> None:  # noqa: F811
    url = counting.server.url
    with Judge("grpc") as judge, Reloading(tmp_path, file(url, {"a": options(judge)})) as agent:
        until(lambda: counting.polls >= 3, "some polls")
        for number in range(40):
            text = file(url, {"a": options(judge, f'timeout = "{number + 1}s"')}, f'timeout = "{number + 1}s"')
            agent.file.write_text(text, encoding="utf-8")
            agent.process.send_signal(signal.SIGHUP)
            until(lambda goal=counting.polls + 1: counting.polls >= goal, "a poll")  # type: ignore[misc]
        assert agent.stop() == 0, agent.stderr
        assert "does not balance" not in agent.stderr
        assert agent.stderr.count("reloaded") > 5
        found = {tuple(one) for one in values(judge.points()).values()}
    (sequence,) = found
    assert sequence == tuple(float(n + 1) for n in range(len(sequence)))
