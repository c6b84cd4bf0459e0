import json
from pathlib import Path
from typing import Any

import pytest
import tomli

from agent.reference import OWN, subjects
from agent.schema import DIALECT, file_schema

ROOT = Path(__file__).resolve().parents[2]


def references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {ref for item in schema for ref in references(item)}
    if isinstance(schema, dict):
        own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
        return own.union(*map(references, schema.values()))
    return set()


@pytest.mark.usefixtures("plugins")
def test_the_shape() -> None:
    schema = file_schema()
    assert schema["$schema"] == DIALECT
    assert list(schema["properties"]) == ["agent", "receivers", "processors", "exporters", "pipelines"]
    assert schema["properties"]["exporters"]["additionalProperties"] == {"oneOf": [{"$ref": "#/$defs/exporters.print"}]}
    poll = schema["$defs"]["receivers.poll"]
    assert poll["required"] == ["type", "url"]
    assert poll["additionalProperties"] is False
    assert poll["properties"]["type"] == {"const": "poll", "description": "Polls a thing."}
    assert poll["properties"]["interval"]["default"] == "10s"
    assert poll["properties"]["interval"]["description"] == "Time between polls."
    assert poll["properties"]["bearer_token_file"] == {"type": "string", "description": "File of the token."}
    assert set(schema["$defs"]["exporters.print"]["properties"]) == {
        "type",
        "format",
        "password",
        "queue",
        "batch",
        "retry",
    }
    assert {ref.removeprefix("#/$defs/") for ref in references(schema)} <= set(schema["$defs"])


def test_no_plugins_of_a_kind_means_no_component_is_right() -> None:
    assert file_schema([])["properties"]["receivers"]["additionalProperties"] is False


@pytest.fixture
def judge():  # type: ignore[no-untyped-def]
    """A validator of draft 2020-12 that is not ours."""
    jsonschema = pytest.importorskip(
        "jsonschema", reason="the package jsonschema is not installed: the schema has no judge"
    )
    schema = json.loads(json.dumps(file_schema(subjects(OWN))))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_shipped_file_is_valid(judge: Any) -> None:
    assert list(judge.iter_errors(tomli.loads((ROOT / "agent.toml").read_text()))) == []


@pytest.mark.parametrize(
    ("change", "right"),
    [
        ("", True),
        ('[agent]\nlog_level = "loud"', False),
        ('[agent]\nlog_level = "${LEVEL}"', True),
        ('[agent]\nsurprise = 1', False),
        ('[surprise]', False),
        ('[receivers.x]\ntype = "nothing"', False),
        ('[receivers."a/b"]\ntype = "federate"', False),
        ('[exporters.x]\ntype = "stdout"\nqueue = { max_bytes = "1MiB" }', True),
        ('[exporters.x]\ntype = "stdout"\nqueue = { max_bytes = 1 }', False),
        ('[exporters.x]\nqueue = { max_bytes = "1MiB" }', False),
        ('[pipelines.x]\nreceivers = ["a"]', False),
    ],
)  # fmt: skip
def test_what_is_right_and_wrong(change: str, right: bool, judge: Any) -> None:
    text = '[pipelines.m]\nreceivers = ["a"]\nexporters = ["b"]\n'
    assert judge.is_valid(tomli.loads(text + change)) is right
