from typing import Annotated, Literal

import pytest
from pydantic import ConfigDict, Field, ValidationError

from agent.options import Option, at, inside, options_of
from ebbtide import BasicAuth, Duration, Secret, Settings, Size, Tls, option


class Kubernetes(Settings):
    kind: Literal["kubernetes"] = option(..., "Kind.")
    role: Literal["pod", "service"] = option("pod", "Role.")


class Dns(Settings):
    kind: Literal["dns"] = option(..., "Kind.")
    names: list[str] = option(..., "Names.")


class Example(Settings):
    text: str = option(..., "Some text.")
    wait: Duration = option("10s", "A duration.")
    room: Size | None = option(None, "A size or none.", examples=["64MiB"])
    level: Literal["low", "high"] = option("low", "A choice.")
    number: int = option(0, "A number.")
    ratio: float | None = option(None, "A ratio.")
    on: bool = option(True, "A switch.")
    names: list[str] = option([], "Names.", examples=[["a", "b"]])
    token: Secret | None = option(None, "A secret.")
    headers: dict[str, Secret] = option({}, "Headers.")
    mixed: str | int = option("a", "Text or number.")
    levels: list[Literal["low", "high"]] = option([], "Choices.")
    auth: BasicAuth | None = option(None, "A table or none.")
    tls: Tls = option(Tls(), "A table.")
    discovery: list[Annotated[Kubernetes | Dns, Field(discriminator="kind")]] = option([], "Tables.")


OPTIONS = {name: found for top in options_of(Example) for name, found in top.walk()}


@pytest.mark.parametrize(
    ("name", "sort", "default", "example"),
    [
        ("text", "string", None, "..."),
        ("wait", "duration", "10s", "10s"),
        ("room", "size", None, "64MiB"),
        ("level", '"low" | "high"', "low", "low"),
        ("number", "whole number", 0, 0),
        ("ratio", "number", None, 1.0),
        ("on", "true or false", True, True),
        ("names", "list of strings", [], ["a", "b"]),
        ("token", "secret string", None, "..."),
        ("headers", "table of secret strings", {}, {}),
        ("mixed", "string or whole number", "a", "a"),
        ("levels", 'list of "low" | "high"', [], []),
        ("auth", "table", None, {"username": "..."}),
        ("auth.password_file", "string", None, "..."),
        ("tls", "table", None, {"ca_file": "..."}),
        ("tls.insecure_skip_verify", "true or false", False, False),
        ("discovery", "list of tables", [], [{"kind": "kubernetes"}]),
        ("discovery[].kind", '"kubernetes" | "dns"', None, "kubernetes"),
        ("discovery[].role", '"pod" | "service"', "pod", "pod"),
        ("discovery[].names", "list of strings", None, ["..."]),
    ],
)
def test_options(name: str, sort: str, default: object, example: object) -> None:
    found = OPTIONS[name]
    assert (found.sort, found.default, found.example) == (sort, default, example)
    assert found.help


def test_required_and_secret() -> None:
    required = {"text", "auth.username", "discovery[].kind", "discovery[].names"}
    assert {name for name, found in OPTIONS.items() if found.required} == required
    assert {name for name, found in OPTIONS.items() if found.secret} == {"token", "headers", "auth.password"}


def test_an_option_of_some_tables_says_of_which() -> None:
    assert OPTIONS["discovery[].names"].help == 'With kind = "dns": Names.'
    assert OPTIONS["discovery[].kind"].help == "Kind."


def test_paths() -> None:
    options = options_of(Example)
    assert [found.name for found in inside(options, ("discovery", 3))] == ["kind", "role", "names"]
    assert inside(options, ("text",)) == ()
    assert inside(options, ("none", "x")) == ()
    found = at(options, ("discovery", 0, "role"))
    assert found is not None
    assert found.name == "role"
    assert at(options, ()) is None
    assert at(options, ("tls", "none")) is None


class Tree(Settings):
    branches: "list[Tree]" = option([], "Smaller trees.")


def test_settings_that_contain_themselves_end() -> None:
    (top,) = options_of(Tree)
    assert 1 < len(list(top.walk())) < 20


class Opaque:
    """A type without a JSON schema."""


class Strange(Settings):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    thing: Opaque = option(..., "A stranger's type.")


def test_types_without_a_schema_are_treated_as_secret() -> None:
    assert options_of(Strange) == (Option("thing", "secret string", "A stranger's type.", example="...", secret=True),)


def test_examples_are_right() -> None:
    """What an error message proposes must be accepted."""
    for name, found in OPTIONS.items():
        if "." not in name and name not in ("discovery", "auth"):
            try:
                Example.model_validate({"text": "x", name: found.example})
            except ValidationError as error:
                pytest.fail(f"{name}: {error}")
