"""What became different about a row: its parts, lost, gained and kept. Works on rows as the document has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

AttributeValue = str | bool | int | float


class Part(NamedTuple):
    """One thing that is said of a row: ``of`` is "name", "type", "unit", "label", "resource", "scope" or "value"."""

    of: str
    key: str
    text: str


class Difference(NamedTuple):
    """What a row has lost, what it has gained, and what stayed; what has another value is in both of the first."""

    lost: tuple[Part, ...]
    gained: tuple[Part, ...]
    kept: tuple[Part, ...]

    @property
    def changed(self) -> frozenset[tuple[str, str]]:
        """What is there on both sides, with different values: ``of`` and ``key`` of the parts."""
        return frozenset((part.of, part.key) for part in self.lost) & {(part.of, part.key) for part in self.gained}


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
    """Compare two rows that are one."""
    old, new = ({(part.of, part.key): part for part in parts(row)} for row in (before, after))
    return Difference(
        tuple(part for key, part in old.items() if new.get(key) != part),
        tuple(part for key, part in new.items() if old.get(key) != part),
        tuple(part for key, part in new.items() if old.get(key) == part),
    )


def parts(row: Mapping[str, Any]) -> Iterator[Part]:
    """Walk all that is said of a row but its times."""
    yield Part("name", "__name__", row["name"])
    yield Part("type", "type", row["type"])
    if row["unit"]:
        yield Part("unit", "unit", row["unit"])
    for name, value in row["labels"].items():
        yield Part("label", name, value)
    for name, value in row["resource"].items():
        yield Part("resource", name, attribute(value))
    scope = row["scope"]
    for name in ("name", "version", "schema_url"):
        if scope[name]:
            yield Part("scope", name, scope[name])
    for name, value in scope["attributes"].items():
        yield Part("scope", name, attribute(value))
    yield Part("value", "value", "ended" if row["value"] is None else row["value"])


def attribute(value: AttributeValue) -> str:
    """Write an attribute's value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """Write a number as Prometheus does: ``NaN``, ``+Inf``, no point where it is whole."""
    if value != value:
        return "NaN"
    if abs(value) == float("inf"):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
