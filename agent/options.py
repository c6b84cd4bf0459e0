"""The options of a settings class, as an operator sees them: the one source of docs, schema hints and examples.

Strategy. Pydantic's JSON schema already says all there is to say of a class: names, types, defaults, help, nesting.
It is read once into a tree of ``Option``; nothing else in the program looks at annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

# Settings may refer to themselves; a file never does so more deeply than this.
_MAX_DEPTH = 8

_SORTS = {
    "string": "string",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "table",
}
_PLACEHOLDERS = {"string": "...", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}


@dataclass(frozen=True)
class Option:
    """One option. ``sort`` is its type in words; ``default`` as written in the file, None where nothing is set.

    ``inside`` holds the options of a table, or of each table of a list (``many``).
    """

    name: str
    sort: str
    help: str
    required: bool = False
    default: Any = None
    example: Any = None
    secret: bool = False
    many: bool = False
    inside: tuple[Option, ...] = ()

    def walk(self, above: str = "") -> Iterator[tuple[str, Option]]:
        """Yield this option and all inside it with their dotted names; ``x[].y`` for those in a list of tables."""
        name = above + self.name
        yield name, self
        for option in self.inside:
            yield from option.walk(name + ("[]." if self.many else "."))


class _Quiet(GenerateJsonSchema):
    """Says nothing where a stranger's default has no JSON form: the docs then show none."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012 (the base class declares it so)


def json_schema(model: type[BaseModel], ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
    """Return pydantic's schema of a settings class; an open one where a stranger's types have none."""
    try:
        return model.model_json_schema(ref_template=ref_template, schema_generator=_Quiet)
    except PydanticUserError:
        hidden = {"writeOnly": True}  # what cannot be described may be a secret
        return {
            "properties": {
                name: {"description": f.description or "", **hidden} for name, f in model.model_fields.items()
            }
        }


@cache
def options_of(model: type[BaseModel]) -> tuple[Option, ...]:
    """Return the options of a settings class, in its order."""
    schema = json_schema(model)
    return _Reader(schema.get("$defs", {})).properties(schema, _MAX_DEPTH)


def inside(options: Iterable[Option], path: Iterable[str | int]) -> tuple[Option, ...]:
    """Return the options of the table at ``path``; none where there is no such table."""
    found = tuple(options)
    for key in path:
        if isinstance(key, str):
            found = next((option.inside for option in found if option.name == key), ())
    return found


def at(options: Iterable[Option], path: tuple[str | int, ...]) -> Option | None:
    """Return the option at ``path`` (positions in lists do not count)."""
    names = [key for key in path if isinstance(key, str)]
    return next((option for option in inside(options, names[:-1]) if names and option.name == names[-1]), None)


class _Reader:
    def __init__(self, definitions: dict[str, Any]):
        self.definitions = definitions

    def properties(self, schema: dict[str, Any], depth: int) -> tuple[Option, ...]:
        """The options of an object schema; of all its forms, where there are several."""
        found: dict[str, Option] = {}
        for form in self.forms(schema):
            required = form.get("required", ())
            for name, inner in form.get("properties", {}).items():
                found.setdefault(name, self.option(name, inner, name in required, depth))
        return tuple(found.values())

    def option(self, name: str, schema: dict[str, Any], required: bool, depth: int) -> Option:
        """One property as an option."""
        forms = self.forms(schema)
        tables, many = self.tables(forms)
        tag = self.tag(schema)
        within = self.inside(tables, tag, depth - 1) if tables and depth else ()
        shown = self.properties(tables[0], depth - 1) if within and tag else within
        default = None if tables and not many else schema.get("default")
        return Option(
            name=name,
            sort=" or ".join(dict.fromkeys(map(self.sort, forms))),
            help=schema.get("description", ""),
            required=required,
            default=default,
            example=_table_example(shown, many)
            if within and not default and not schema.get("examples")
            else self.example(schema, forms, default),
            secret=any(map(self.is_secret, forms)),
            many=many,
            inside=within,
        )

    def inside(self, tables: list[dict[str, Any]], tag: str, depth: int) -> tuple[Option, ...]:
        """The options of tables; where ``tag`` tells them apart, each says in which of them it is."""
        if not tag:
            return self.properties({"anyOf": tables}, depth)
        found: list[tuple[Option, list[str]]] = []
        for table in tables:
            sort = self.sort(table["properties"][tag])
            for option in self.properties(table, depth):
                known = next((sorts for one, sorts in found if one == option and one.name != tag), None)
                if known is None:
                    found.append((option, [sort]))
                else:
                    known.append(sort)
        tags = [option for option, _ in found if option.name == tag]
        first = replace(tags[0], sort=" | ".join(option.sort for option in tags), required=True, default=None)
        others = [
            option
            if len(sorts) == len(tables)
            else replace(option, help=f"With {tag} = {' or '.join(sorts)}: {option.help}")
            for option, sorts in found
            if option.name != tag
        ]
        return first, *others

    def tag(self, schema: dict[str, Any]) -> str:
        """The key that tells the tables of a value apart, directly or as the items of a list; "" for none."""
        of = schema.get("discriminator") or (schema.get("items") or {}).get("discriminator") or {}
        return str(of.get("propertyName", ""))

    def forms(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        """The schema without references: one entry per form that a value may have, null apart."""
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
        if choices:
            return [form for choice in choices for form in self.forms(choice)]
        return [] if schema.get("type") == "null" else [schema]

    def tables(self, forms: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
        """The forms with properties of their own, directly or as the items of a list; and whether it is a list."""
        direct = [form for form in forms if "properties" in form]
        if direct:
            return direct, False
        items = [item for form in forms for item in self.forms(form.get("items") or {}) if "properties" in item]
        return items, bool(items)

    def sort(self, form: dict[str, Any]) -> str:
        """The type in an operator's words."""
        if "const" in form:
            return f'"{form["const"]}"'
        if "enum" in form:
            return " | ".join(f'"{choice}"' for choice in form["enum"])
        if form.get("writeOnly"):
            return "secret string"
        if form.get("format") in ("duration", "size"):
            return str(form["format"])
        kind = form.get("type", "any value")
        if kind == "array" and form.get("items"):
            return "list of " + self.plural(form["items"])
        if kind == "object" and isinstance(form.get("additionalProperties"), dict):
            return "table of " + self.plural(form["additionalProperties"])
        return _SORTS.get(kind, str(kind))

    def plural(self, schema: dict[str, Any]) -> str:
        sorts = dict.fromkeys(map(self.sort, self.forms(schema)))
        return " or ".join(sort if '"' in sort or sort == "true or false" else f"{sort}s" for sort in sorts) or "values"

    def is_secret(self, form: dict[str, Any]) -> bool:
        """Whether values of this form are secrets, or lists or tables of them."""
        inner = [form.get("items"), form.get("additionalProperties")]
        within = [one for schema in inner if isinstance(schema, dict) for one in self.forms(schema)]
        return bool(form.get("writeOnly")) or any("properties" not in one and self.is_secret(one) for one in within)

    def example(self, schema: dict[str, Any], forms: list[dict[str, Any]], default: Any) -> Any:
        """Something one could write: the declared example, the default, else a placeholder of the right type."""
        if default:
            return default
        for source in (schema, *forms):
            if source.get("examples"):
                return source["examples"][0]
        if default is not None:
            return default
        form = forms[0] if forms else {}
        if "enum" in form or "const" in form:
            return form.get("const", form.get("enum", [None])[0])
        if form.get("type") == "array":
            return ["..."] if self.sort(form) == "list of strings" else []
        return _PLACEHOLDERS.get(form.get("type", ""), "...")


def _table_example(options: tuple[Option, ...], many: bool) -> Any:
    """A table with what it must have, or else with its first option; in a list, where a list of them is meant."""
    shown = [option for option in options if option.required] or options[:1]
    table = {option.name: option.example for option in shown}
    return [table] if many else table
