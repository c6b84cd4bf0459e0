"""The JSON schema (draft 2020-12) of the whole file, for editors and linters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from agent.config import ID
from agent.discover import KINDS
from agent.options import json_schema
from agent.reference import Subject, subjects
from agent.settings import AgentSettings, OutboxSettings, PipelineSettings

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Wherever only certain strings are right, a variable may stand for one of them.
_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]*\}", "description": "A variable."}


def file_schema(known: Iterable[Subject] | None = None) -> dict[str, Any]:
    """Return the schema of a file that may use the plugins ``known`` (default: all that are installed)."""
    found = [subject for subject in (subjects() if known is None else known) if subject.plugin]
    definitions: dict[str, Any] = {}
    tables: dict[str, Any] = {"agent": _placed(AgentSettings, "agent", definitions)}
    for kind in KINDS:
        types = [_component(subject, definitions) for subject in found if subject.kind == kind]
        tables[kind] = _by_id(f"The {kind}, by id.", {"oneOf": types} if types else False)
    tables["pipelines"] = _by_id("The pipelines, by id.", _placed(PipelineSettings, "pipelines", definitions))
    return {
        "$schema": DIALECT,
        "title": "ebbtide",
        "type": "object",
        "properties": tables,
        "required": ["pipelines"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _by_id(description: str, item: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "propertyNames": {"pattern": f"^{ID.pattern}$"},
        "additionalProperties": item,
    }


def _component(subject: Subject, definitions: dict[str, Any]) -> dict[str, str]:
    """Define the table of one component type, with `type` and what the frame adds; return a reference to it."""
    assert subject.plugin is not None
    name = f"{subject.kind}.{subject.name}"
    reference = _placed(subject.plugin.load().Settings, name, definitions)
    table = definitions[name]
    frame = definitions[_placed(OutboxSettings, "outbox", definitions)["$ref"].rpartition("/")[2]]
    added = dict(frame["properties"]) if subject.kind == "exporters" else {}
    kind = {"const": subject.name, "description": subject.about.partition("\n")[0]}
    table["properties"] = {"type": kind, **table.get("properties", {}), **added}
    table["required"] = ["type", *table.get("required", ())]
    table["description"] = subject.about
    return reference


def _placed(model: type[BaseModel], name: str, definitions: dict[str, Any]) -> dict[str, str]:
    """Define a settings class under ``name``, its inner classes under ``name.CLASS``; return a reference to it."""
    schema = json_schema(model, f"#/$defs/{name}.{{model}}")
    for inner, definition in schema.pop("$defs", {}).items():
        definitions[f"{name}.{inner}"] = _adapted(definition)
    definitions[name] = _adapted(schema)
    return {"$ref": f"#/$defs/{name}"}


def _adapted(schema: Any) -> Any:
    """Turn pydantic's schema into that of a file: TOML has no null, and a variable may stand for any word."""
    if not isinstance(schema, dict):
        return schema  # true or false
    schema = {key: _adapted_part(key, value) for key, value in schema.items() if key not in ("title", "discriminator")}
    if schema.get("default", 0) is None:
        del schema["default"]
    if "anyOf" in schema:
        forms = [form for form in schema.pop("anyOf") if form != {"type": "null"}]
        schema |= forms[0] if len(forms) == 1 else {"anyOf": forms}
    if "enum" in schema:
        schema.pop("type", None)
        schema["anyOf"] = [{"enum": schema.pop("enum")}, _VARIABLE]
    return schema


def _adapted_part(keyword: str, value: Any) -> Any:
    """Adapt what stands under one keyword, where that holds schemas."""
    if keyword in ("properties", "patternProperties"):
        return {name: _adapted(inner) for name, inner in value.items()}
    if keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [_adapted(inner) for inner in value]
    return _adapted(value) if keyword in ("items", "additionalProperties", "not", "propertyNames") else value
