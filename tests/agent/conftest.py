"""Plugins that are not there: registered for one test, so that the frame is tested without the real ones."""

import sys
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from pydantic import Field, model_validator

import ebbtide
from agent import discover


class QuerySettings(ebbtide.Settings):
    """One query."""

    name: str = ebbtide.option(..., "Name of the query.")
    depth: int = ebbtide.option(1, "Depth.", ge=1)


class PollSettings(ebbtide.Settings):
    """How to poll."""

    url: str = ebbtide.option(..., "Base address.", examples=["http://localhost:9090"])
    match: list[str] = ebbtide.option(['{job="linkerd-proxy"}'], "Selectors.", min_length=1)
    interval: ebbtide.Duration = ebbtide.option("10s", "Time between polls.")
    max_body: ebbtide.Size = ebbtide.option("512MiB", "Largest answer.")
    headers: dict[str, ebbtide.Secret] = ebbtide.option({}, "Headers of each request.")
    types: dict[str, str] = ebbtide.option({}, "Types by name.")
    mode: str = ebbtide.option("track", "Mode of starts.", pattern="^(track|none)$")
    ratio: float = ebbtide.option(0.5, "A ratio.", gt=0, le=1)
    tries: int = ebbtide.option(0, "Tries.", ge=0)
    enabled: bool = ebbtide.option(True, "Whether it runs.")
    bearer_token: ebbtide.Secret | None = ebbtide.option(None, "Token.")
    bearer_token_file: str | None = ebbtide.option(None, "File of the token.")
    basic_auth: ebbtide.BasicAuth | None = ebbtide.option(None, "Basic authentication.")
    tls: ebbtide.Tls = ebbtide.option(ebbtide.Tls(), "TLS.")
    queries: list[QuerySettings] = ebbtide.option([], "Queries.")

    @model_validator(mode="after")
    def _leaky(self) -> "PollSettings":
        if self.mode == "none" and self.bearer_token is not None:
            raise ValueError(f"mode and {self.bearer_token.get_secret_value()} do not go together; change mode")
        return self


class Poll(ebbtide.Receiver[PollSettings]):
    """Polls a thing.

    More about polling | things.
    """

    Settings = PollSettings

    async def run(self, emit: ebbtide.Emit) -> None:
        raise NotImplementedError


class Pass(ebbtide.SeriesProcessor[ebbtide.Settings]):
    """Passes everything."""

    def map_series(self, series: ebbtide.Series) -> ebbtide.Series | None:
        return series


class PrintSettings(ebbtide.Settings):
    """How to print."""

    format: str = ebbtide.option("text", "Form.", json_schema_extra={"enum": ["text", "json"]})
    password: str = Field(default="", description="A secret that is not typed as one.")


class Print(ebbtide.Exporter[PrintSettings]):
    """Prints points."""

    Settings = PrintSettings

    def encode(self, batch: ebbtide.Batch) -> list[ebbtide.Payload]:
        raise NotImplementedError

    async def send(self, payload: ebbtide.Payload) -> None:
        raise NotImplementedError


class FakeDistribution:
    """What discovery asks a distribution for."""

    def __init__(self, name: str, version: str = "1.0"):
        self.name, self.version = name, version


Register = Callable[..., None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Start with no plugins at all; the returned function registers one class under a kind and a name."""
    registered: list[EntryPoint] = []
    module = types.ModuleType("ebbtide_test_plugins")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(discover, "entry_points", lambda: EntryPoints(registered))

    def add(kind: str, name: str, what: object, distribution: str = "ebbtide") -> None:
        value = what if isinstance(what, str) else f"{module.__name__}:x{len(vars(module))}"
        if not isinstance(what, str):
            setattr(module, value.partition(":")[2], what)
        entry_point = EntryPoint(name, value, discover.GROUPS[kind])
        vars(entry_point)["dist"] = FakeDistribution(distribution)
        registered.append(entry_point)

    return add


@pytest.fixture
def plugins(register: Register) -> Register:
    """A receiver `poll`, a processor `pass`, an exporter `print`."""
    register("receivers", "poll", Poll)
    register("processors", "pass", Pass)
    register("exporters", "print", Print)
    return register
