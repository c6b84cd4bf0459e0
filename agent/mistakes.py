"""What is wrong with a value, in words: pydantic's errors without the values that they hold.

Strategy. Pydantic's messages and inputs may contain a secret, so only the place, the type of the error and what comes
from the settings class itself are used. The texts of our own validators are shown, with secrets blotted out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.masking import blot
from agent.options import at, inside, options_of
from agent.toml_lines import Path
from agent.toml_text import written

_TOML_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}

_EXPECTED = {
    "string_type": "a string in quotes",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}

_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}

_TAGS = ("union_tag_invalid", "union_tag_not_found")


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the word most like ``word``, in capitals or not; None when there are none."""
    known = {one.lower(): one for one in sorted(words)}
    found = difflib.get_close_matches(word.lower(), known, 1, 0.0)
    return known[found[0]] if found else None


def did_you_mean(word: str, words: Iterable[str], otherwise: str) -> str:
    """Return the question after the nearest word, or ``otherwise`` when there is none."""
    found = nearest(word, words)
    return otherwise if found is None else f'did you mean "{found}"?'


def toml_name(value: Any) -> str:
    """What sort of value this is, as TOML calls it."""
    return _TOML_NAMES.get(type(value), "a date or time")


def of_settings(
    error: ValidationError, model: type[BaseModel], given: dict[str, Any], also: Iterable[str], secrets: Iterable[str]
) -> Iterator[tuple[Path, str]]:
    """``of_validation``, and then what options do to each other.

    A settings class compares its options once each is right in itself. So those that are wrong are left out, and the
    others validated again, until nothing more comes.
    """
    told: set[tuple[Path, str]] = set()
    rest = given
    while True:
        found = [
            (path, text)
            for path, text in of_validation(error, model, rest, also, secrets)
            if (path, text) not in told and not (path and path[0] in given and path[0] not in rest)
        ]
        yield from found
        told.update(found)
        wrong = {path[0] for path, _ in found if path}
        if not wrong & rest.keys():
            return
        rest = {key: value for key, value in rest.items() if key not in wrong}
        try:
            model.model_validate(rest)
        except ValidationError as further:
            error = further
        else:
            return


def of_validation(
    error: ValidationError, model: type[BaseModel], given: Any, also: Iterable[str] = (), secrets: Iterable[str] = ()
) -> Iterator[tuple[Path, str]]:
    """Return each mistake as its path inside ``given`` (the table that was validated) and what is wrong with it.

    ``also`` names the keys that are right beside those of the model; ``secrets`` are blotted out wherever they appear.
    """
    unions = _unions(error, given)
    for detail in error.errors(include_url=False):
        path = _place(detail["loc"], given, detail["type"] == "missing")
        if path in unions and detail["type"] in _EXPECTED:
            if sorts := unions[path]:
                yield path, _unfit(sorts, detail["input"], "change its form")
            unions[path] = []
            continue
        text = _wording(detail, path, model, also)
        if detail["type"] in _TAGS:
            path = (*path, _tag(detail))
        if detail["type"] in ("value_error", "assertion_error"):
            option = getattr(detail.get("ctx", {}).get("error"), "option", "")
            path = (*path, option) if option else path
            text = blot(text, secrets)
        yield path, text


def _unions(error: ValidationError, given: Any) -> dict[Path, list[str]]:
    """What could stand at a path, where it is several sorts: pydantic says of each that it is missed."""
    sorts: dict[Path, list[str]] = {}
    for detail in error.errors(include_url=False):
        if expected := _EXPECTED.get(detail["type"]):
            sorts.setdefault(_place(detail["loc"], given, False), []).append(expected)
    return {path: found for path, found in sorts.items() if len(found) > 1}


def _place(loc: tuple[int | str, ...], given: Any, missing: bool) -> Path:
    """The path in the file: pydantic's without the tags of unions and the like, which the file does not contain."""
    path: Path = ()
    for depth, key in enumerate(loc):
        in_table = isinstance(given, dict) and isinstance(key, str) and key in given
        in_list = isinstance(given, list) and isinstance(key, int) and 0 <= key < len(given)
        if in_table or in_list:
            given = given[key]
        elif not (missing and depth == len(loc) - 1):
            continue
        path = (*path, key)
    return path


def _wording(detail: ErrorDetails, path: Path, model: type[BaseModel], also: Iterable[str]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        names = {option.name for option in inside(options_of(model), path[:-1])}
        names |= set(also) if len(path) == 1 else set()
        return f"unknown option; {did_you_mean(str(path[-1]), names, 'there are no options here, so remove it')}"
    if kind == "missing":
        option = at(options_of(model), path)
        return f"required, and missing; add {path[-1]} = {written(option.example) if option else '...'}"
    if kind in _EXPECTED:
        return _unfit([_EXPECTED[kind]], detail["input"], _try(model, path, kind))
    if kind == "literal_error":
        return _one_of(detail["input"], str(context["expected"]))
    if kind == "string_pattern_mismatch":
        return f"does not have the right form; it must match {context['pattern']}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"expected {words} {context[key]}; change the number"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty; name at least one" if kind == "too_short" else "must not be empty; write some text"
    if kind == "string_too_long":
        return f"too long; write at most {context['max_length']} characters"
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", "")) or "not a valid value"
    if kind == "union_tag_invalid":
        return _one_of(str(context["tag"]), _in_words(str(context["expected_tags"]).replace("'", '"').split(", ")))
    if kind == "union_tag_not_found":
        option = at(options_of(model), (*path, _tag(detail)))
        return f"required, and missing; add {_tag(detail)} = {option.sort if option else '...'}"
    return f"not a valid value ({kind}); see the reference of this component: ebbtide docs"


def _unfit(sorts: list[str], given: Any, cure: str) -> str:
    return f"expected {_in_words(sorts)}, not {toml_name(given)}; {cure}"


def _tag(detail: ErrorDetails) -> str:
    """The key by which a table tells what sort of table it is."""
    return str(detail.get("ctx", {}).get("discriminator", "kind")).strip("'")


def _in_words(choices: list[str]) -> str:
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)


def _one_of(given: Any, expected: str) -> str:
    """``expected`` is pydantic's list of the literals, ``'a', 'b' or 'c'``: it holds nothing of the input."""
    words = expected.replace("'", '"')
    if not isinstance(given, str):
        return f"expected one of {words}, not {toml_name(given)}; write it in quotes"
    choices = [word for word in words.split('"')[1::2] if word]
    return f"expected one of {words}; {did_you_mean(given, choices, 'choose one of them')}"


def _try(model: type[BaseModel], path: Path, kind: str) -> str:
    option = at(options_of(model), path) if path and isinstance(path[-1], str) else None
    if option is not None:
        return f"write for instance {path[-1]} = {written(option.example)}"
    return "put it in quotes" if kind == "string_type" else "change its form"
