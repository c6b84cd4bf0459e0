"""What must not be shown, and how it is hidden.

A value is secret when its option is of type ``Secret``, when its name says so (strangers' plugins may know no better),
when it is a header, or when it stands before the host of a URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from agent.options import options_of

MASK = "***"

# Shorter ones protect nothing, and hiding each "a" of a sentence would hide the sentence.
_SHORTEST = 4

_SECRET_NAME = re.compile(
    r"(?:^|[._-])(?:headers|password|passwd|passphrase|secret|token|credentials?|api[._-]?key|authorization)$", re.I
)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def secret_names(model: type[BaseModel]) -> set[str]:
    """Return the names of all options of type Secret, in nested tables too, and of tables of such."""
    return {option.name for top in options_of(model) for _, option in top.walk() if option.secret}


def masked(given: Any, names: set[str]) -> Any:
    """Return a table as it may be shown: the values of secret options, and user names and passwords in URLs, as ``***``."""
    if isinstance(given, dict):
        return {
            key: _all_masked(value) if _secret(key, names) else masked(value, names) for key, value in given.items()
        }
    if isinstance(given, list):
        return [masked(item, names) for item in given]
    return _USERINFO.sub(MASK, given) if isinstance(given, str) else given


def _secret(key: str, names: set[str]) -> bool:
    return key in names or bool(_SECRET_NAME.search(key))


def _all_masked(value: Any) -> Any:
    return {key: _all_masked(item) for key, item in value.items()} if isinstance(value, dict) else MASK


def secret_texts(given: Any, names: set[str]) -> set[str]:
    """Return every text in a table that ``masked`` would hide."""
    found: set[str] = set()
    if isinstance(given, dict):
        for key, value in given.items():
            found |= set(_texts(value)) if _secret(key, names) else secret_texts(value, names)
    elif isinstance(given, list):
        for item in given:
            found |= secret_texts(item, names)
    elif isinstance(given, str):
        found |= set(_USERINFO.findall(given))
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def blot(text: str, secrets: Iterable[str]) -> str:
    """Return the text with every secret in it hidden."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    return text
