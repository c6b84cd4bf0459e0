"""From a file to connected components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

import agent.wiring
from agent.batch import Batch, Row
from agent.config import Config, ConfigErrors, Declared
from agent.discover import PluginError
from agent.plugin import ConfigError, Emit, Exporter, Payload, Processor, Receiver
from agent.series import Series
from agent.settings import AgentSettings, PipelineSettings, Settings
from agent.wiring import wire


class Source(Receiver[Any]):
    """Does nothing."""

    async def run(self, emit: Emit) -> None:
        await trio.sleep_forever()


class Passes(Processor[Any]):
    """Passes on."""

    def process(self, batch: Batch) -> Batch | None:
        return batch


class Resources(Passes):
    """Stands for the processor that closes pipelines."""


class Sink(Exporter[Any]):
    """Takes everything."""

    def encode(self, batch: Batch) -> list[Payload]:
        return [Payload(b"", b"x", 1, len(batch))]

    async def send(self, payload: Payload) -> None:
        await trio.lowlevel.checkpoint()


class Refuses(Passes):
    """Cannot be made."""

    def __init__(self, *arguments: Any) -> None:
        raise ConfigError("cannot keep and drop nothing; name a selector", "keep")


class Registered:
    """A registered plugin."""

    def load(self) -> type:
        return Resources


@pytest.fixture(autouse=True)
def resource_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.wiring, "plugins", lambda: {"processors": {"resource": Registered()}})


def config(pipelines: dict[str, tuple[str, str, str]], **processors: tuple[str, type[Processor[Any]]]) -> Config:
    """Pipelines as strings of one-letter ids."""

    def declared(kind: str, id: str, type_: str, cls: type) -> Declared:
        return Declared(id, kind, type_, cls, Settings(), None, 3)

    return Config(
        Path("agent.toml"),
        AgentSettings(),
        {id: declared("receivers", id, "source", Source) for id in "rst"},
        {id: declared("processors", id, type_, cls) for id, (type_, cls) in processors.items()},
        {id: declared("exporters", id, "sink", Sink) for id in "efg"},
        {
            name: PipelineSettings(receivers=list(r), processors=list(p), exporters=list(e))
            for name, (r, p, e) in pipelines.items()
        },
    )


def emitted() -> Batch:
    return Batch.of([Row(Series.of("a"), 1.0, 1, 0, False)])


async def test_only_what_a_pipeline_uses_is_made() -> None:
    wiring = wire(config({"one": ("r", "", "e"), "two": ("rs", "", "ef")}))
    assert (list(wiring.receivers), list(wiring.exporters), list(wiring.outboxes)) == (
        ["r", "s"],
        ["e", "f"],
        ["e", "f"],
    )
    assert list(wiring.ledger.as_dict()["receivers"]) == ["r", "s"]


async def test_each_receiver_feeds_its_pipelines_and_the_ledger_is_theirs() -> None:
    wiring = wire(config({"one": ("r", "p", "e"), "two": ("rs", "", "ef")}, p=("passes", Passes)))
    await wiring.emits["r"](emitted())
    await wiring.emits["s"](emitted())
    ledger = wiring.ledger.as_dict()
    assert {name: counts["out"] for name, counts in ledger["receivers"].items()} == {"r": 1, "s": 1}
    assert {name: counts["in"] for name, counts in ledger["pipelines"].items()} == {"one": 1, "two": 2}
    assert {name: counts["in"] for name, counts in ledger["exporters"].items()} == {"e": 3, "f": 2}
    assert list(ledger["pipelines"]["one"]["processors"]) == ["p"]
    assert wiring.exporters["e"].counts is wiring.ledger.exporters["e"]
    assert wiring.receivers["r"].context.log.name == "ebbtide.receivers.r"


async def test_processors_are_made_once_per_pipeline() -> None:
    made: list[object] = []

    class Counted(Passes):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    wire(config({"one": ("r", "p", "e"), "two": ("s", "p", "e")}, p=("counted", Counted)))
    assert len(made) == 2


async def test_the_default_processor_closes_pipelines_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(Resources, "process", lambda self, batch: seen.append(self.context.id) or batch)
    wiring = wire(config({"one": ("r", "", "e"), "two": ("s", "x", "e")}, x=("resource", Resources)))
    await wiring.emits["r"](emitted())
    await wiring.emits["s"](emitted())
    assert seen == ["resource", "x"]


async def test_all_refusals_are_reported_at_once_and_each_once() -> None:
    with pytest.raises(ConfigErrors) as error:
        wire(config({"one": ("r", "p", "e"), "two": ("s", "p", "e")}, p=("refuses", Refuses)), once=True)
    assert error.value.problems == [
        "agent.toml:1: receivers.r: cannot be run once: it does not poll; use ebbtide run",
        "agent.toml:1: receivers.s: cannot be run once: it does not poll; use ebbtide run",
        "agent.toml:1: processors.p.keep: cannot keep and drop nothing; name a selector",
    ]


async def test_a_default_processor_that_cannot_be_loaded_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Registered) -> type:
        raise PluginError("cannot find processors.resource of ebbtide; reinstall it")

    monkeypatch.setattr(Registered, "load", broken)
    with pytest.raises(ConfigErrors, match="reinstall it"):
        wire(config({"one": ("r", "", "e")}))


async def test_without_a_default_processor_there_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent.wiring, "plugins", lambda: {"processors": {}})
    wire(config({"one": ("r", "", "e")}))
    assert "resources stay empty" in caplog.text
