"""Each promise about options and constructors is broken by a plugin that deserves it, and by no other."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

import pytest
from pydantic import ConfigDict, Field

from agent.batch import Batch
from agent.plugin import Context, Processor
from agent.settings import Duration, Secret, Settings, option
from agent.testing import shortcomings


class Good(Settings):
    """Options."""

    wait: Duration = option("1m30s", "How long.")
    names: list[str] = option([], "Which.")
    token: Secret | None = option(None, "A secret.")
    token_file: str | None = option(None, "Where it is.")


class Inner(Settings):
    """Inner options."""

    depth: int = Field(default=1)


class NoHelp(Settings):
    """Options."""

    inner: Inner = option(Inner(), "A table.")
    bare: int = 3


class Lax(Settings):
    """Options."""

    model_config = ConfigDict(extra="ignore", frozen=False)


class Open(Settings):
    """Options."""

    api_key: str = option("", "A secret that is not typed as one.")


class Telling(Good):
    """Options."""

    token: Secret | None = option(None, "A secret.")

    def __repr__(self) -> str:
        return self.token.get_secret_value() if self.token else ""


class Odd(Settings):
    """Options whose default is not what the reference shows."""

    wait: Any = option("10s", "How long.", json_schema_extra={"default": "20s"})


def plugin(settings: type[Settings], does: Any = lambda: None, about: str = "Passes everything on.") -> type[Any]:
    class Plugin(Processor[Any]):
        Settings = settings

        def __init__(self, settings: Any = None, context: Context | None = None):
            super().__init__(settings, context)
            does()

        def process(self, batch: Batch) -> Batch | None:
            return batch

    Plugin.__doc__ = about
    return Plugin


def writes() -> None:
    with tempfile.NamedTemporaryFile("w"):
        pass


def connects() -> None:
    with socket.socket() as it, pytest.raises(OSError):
        it.connect(("127.0.0.1", 1))


def reads() -> None:
    with open(__file__):
        pass


class Jealous(plugin(Good)):  # type: ignore[misc]
    """Takes nothing from others."""

    def inherit(self, old: Any) -> None:
        self.remembered = old.remembered


@pytest.mark.parametrize(
    ("broken", "promise", "said"),
    [
        (plugin(Good, about=""), "says_what_it_is", "has no docstring"),
        (plugin(NoHelp), "options_have_help", "inner.depth, bare of Plugin have no help"),
        (plugin(Lax), "accepts_no_unknown_option", "ignores unknown options"),
        (plugin(Open), "secrets_stay_hidden", "options api_key of Plugin are shown in logs"),
        (plugin(Telling), "secrets_stay_hidden", "show their secrets"),
        (plugin(Odd), "defaults_can_be_written", "defaults written out"),
        (Jealous, "takes_over_from_its_like", "inherit raises AttributeError"),
        (plugin(Good, writes), "constructor_opens_nothing", "for writing"),
        (plugin(Good, connects), "constructor_opens_nothing", "socket.connect"),
        (plugin(Good, lambda: os.system("true")), "constructor_opens_nothing", "os.system"),
    ],
)
def test_a_broken_promise_is_told(broken: type[Any], promise: str, said: str) -> None:
    (sentence,) = shortcomings(broken)
    assert sentence.startswith(f"{promise}: ")
    assert said in sentence


@pytest.mark.parametrize("kept", [plugin(Good), plugin(Settings), plugin(Good, reads)])
def test_a_kept_promise_is_not(kept: type[Any]) -> None:
    assert shortcomings(kept) == []
