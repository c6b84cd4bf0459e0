from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from agent.mistakes import did_you_mean, nearest, of_settings, of_validation, toml_name
from ebbtide import Settings, option


class Kubernetes(Settings):
    kind: Literal["kubernetes"] = option(..., "Kind.")
    role: Literal["pod", "service"] = option("pod", "Role.")


class Dns(Settings):
    kind: Literal["dns"] = option(..., "Kind.")
    names: list[str] = option(..., "Names.", min_length=1)


class Empty(Settings):
    """Has no options."""


class Example(Settings):
    level: Literal["low", "high"] = option("low", "A choice.")
    discovery: list[Annotated[Kubernetes | Dns, Field(discriminator="kind")]] = option([], "Tables.")
    word: str = option("w", "A word.", min_length=1, max_length=9)
    number: int = option(1, "A number.", le=9)
    empty: Empty = option(Empty(), "Nothing.")
    mixed: dict[str, str | bool | int] = option({}, "A table of several sorts.")

    @model_validator(mode="after")
    def _together(self) -> "Example":
        if self.word == "hidden":
            raise ValueError(f"{self.word} is not a word; write another")
        return self


def said(given: dict[str, Any], **more: Any) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate(given)
    return list(of_validation(caught.value, Example, given, **more))


@pytest.mark.parametrize(
    ("given", "path", "text"),
    [
        ({"level": "hihg"}, ("level",), 'expected one of "low" or "high"; did you mean "high"?'),
        ({"level": 3}, ("level",), 'expected one of "low" or "high", not a whole number; write it in quotes'),
        ({"word": ""}, ("word",), "must not be empty; write some text"),
        ({"word": "a" * 10}, ("word",), "too long; write at most 9 characters"),
        ({"word": "hidden"}, (), "*** is not a word; write another"),
        ({"number": 10}, ("number",), "expected at most 9; change the number"),
        ({"number": True}, ("number",), "expected a whole number, not true or false; write for instance number = 1"),
        ({"empty": {"a": 1}}, ("empty", "a"), "unknown option; there are no options here, so remove it"),
        ({"leval": 1}, ("leval",), 'unknown option; did you mean "level"?'),
        ({"typ": 1}, ("typ",), 'unknown option; did you mean "type"?'),
        ({"discovery": [{"kind": "dns", "names": []}]}, ("discovery", 0, "names"), "must not be empty; name at least one"),
        ({"discovery": [{"kind": "dns"}]}, ("discovery", 0, "names"), 'required, and missing; add names = ["..."]'),
        ({"discovery": [{"kind": "dns", "names": [], "role": "x"}]}, ("discovery", 0, "role"), 'unknown option; did you mean'),
        ({"discovery": [{"kind": "kubernetes", "role": "x"}]}, ("discovery", 0, "role"), 'expected one of "pod" or "service"; did'),
        ({"discovery": [{"kind": "kubernets"}]}, ("discovery", 0, "kind"),
         'expected one of "kubernetes" or "dns"; did you mean "kubernetes"?'),
        ({"discovery": [{}]}, ("discovery", 0, "kind"), 'required, and missing; add kind = "kubernetes" | "dns"'),
        ({"discovery": [3]}, ("discovery", 0), "expected a table"),
        ({"level": "LOWW"}, ("level",), 'expected one of "low" or "high"; did you mean "low"?'),
        ({"mixed": {"a": [1]}}, ("mixed", "a"),
         "expected a string in quotes, true or false or a whole number, not a list; change its form"),
    ],
)  # fmt: skip
def test_wording(given: dict[str, Any], path: tuple[str | int, ...], text: str) -> None:
    found = said(given, also=("type",), secrets=("hidden",))
    assert [where for where, _ in found if where == path]
    assert any(sentence.startswith(text) for where, sentence in found if where == path), found


def test_a_union_is_one_mistake() -> None:
    given = {"mixed": {"a": [1], "b": {}, "c": 1}, "word": 1}
    assert [path for path, _ in said(given)] == [("word",), ("mixed", "a"), ("mixed", "b")]


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"word": "hidden"}, [()]),
        ({"word": "hidden", "number": 10, "leval": 1}, [("number",), ("leval",), ()]),
        ({"word": 1, "number": 10}, [("word",), ("number",)]),
        ({"word": "hidden", "discovery": [{"kind": "dns"}]}, [("discovery", 0, "names"), ()]),
    ],
)
def test_what_options_do_to_each_other_is_said_beside_other_mistakes(
    given: dict[str, Any], paths: list[tuple[str | int, ...]]
) -> None:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate(given)
    assert sorted(path for path, _ in of_settings(caught.value, Example, given, (), ())) == sorted(paths)


def test_nearest() -> None:
    assert nearest("INFO", ["debug", "info"]) == "info"
    assert nearest("plain", ["PLAIN", "OTHER"]) == "PLAIN"
    assert nearest("intervall", ["url", "interval", "match"]) == "interval"
    assert nearest("zzz", ["a", "b"]) in ("a", "b")
    assert nearest("x", []) is None
    assert did_you_mean("x", [], "nothing.") == "nothing."


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("a", "a string"),
        (True, "true or false"),
        (1, "a whole number"),
        (0.5, "a number"),
        ([], "a list"),
        ({}, "a table"),
        (None, "a date or time"),
    ],
)
def test_toml_name(value: object, name: str) -> None:
    assert toml_name(value) == name
