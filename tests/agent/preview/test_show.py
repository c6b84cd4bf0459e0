"""The text is golden at 80 columns: read preview.txt when it changes, as an operator would."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.preview.layout import Style
from agent.preview.show import show

GOLDEN = Path(__file__).with_name("preview.txt")
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
RED, GREEN, YELLOW, END = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"


@pytest.fixture
def document(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["preview", "--page", "page.prom", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_golden(document: dict[str, Any]) -> None:
    assert show(document, Style()) == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 57, 80, 132])
def test_no_line_is_wider_than_told(document: dict[str, Any], width: int) -> None:
    lines = show(document, Style(width=width)).splitlines()
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)


def test_colours_say_nothing_that_signs_do_not(document: dict[str, Any]) -> None:
    coloured = show(document, Style(colour=True))
    assert ESCAPE.sub("", coloured) == show(document, Style())
    assert f'{RED}    - pod_template_hash="5f8d7"{END}\n' in coloured
    assert f'{YELLOW}    - tls="true"{END}\n' in coloured
    assert f'{YELLOW}    + tls="yes"{END}\n' in coloured
    assert f'{GREEN}    + resource: k8s.pod.name="web-5f8d7-1"{END}\n' in coloured
    assert f"{RED}2 rows dropped as filtered{END}" in coloured


def test_text_from_strangers_moves_no_cursor(document: dict[str, Any]) -> None:
    evil = "\x1b[2Ja\nb"
    document["page"] = document["file"] = evil
    for pipeline in document["pipelines"].values():
        for processor in pipeline["processors"]:
            for pair in processor["pairs"]:
                for row in filter(None, (pair["before"], pair["after"])):
                    row["name"] = evil
                    row["labels"] = {evil: evil}
                    row["resource"] = {evil: evil}
        for table in ("metrics", "labels"):
            for one in pipeline[table]:
                one["name"] = evil
        pipeline["metrics"][0]["selector"] = evil
        pipeline["resources"] = [{"attributes": {"service.name": evil}, "samples": 1}]
    for rule in document["receivers"]["linkerd"]["types"]:
        rule["names"] = [evil]
    text = show(document, Style())
    assert "\x1b" not in text
    assert "b" not in [line.strip() for line in text.splitlines()]


def pair(outcome: str, **changes: Any) -> dict[str, Any]:
    scope = {"name": "", "version": "", "schema_url": "", "attributes": {}}
    row = {"name": "a", "type": "gauge", "unit": "", "labels": {}, "resource": {}, "scope": scope, "value": "1"}
    sides = {"before": row, "after": {**row, **changes}}
    if outcome != "changed":
        sides["before" if outcome == "added" else "after"] = None  # type: ignore[assignment]
    return {"outcome": outcome, "reason": "", "rows": 1, **sides}


@pytest.mark.parametrize(
    ("pair", "lines"),
    [
        (pair("changed", value="2"), ["a  1 row changed like this", "- value=1", "+ value=2"]),
        (pair("changed", value=None), ["a  1 row changed like this", "- value=1", "+ value=ended"]),
        (pair("changed", name="b", type="counter"),
         ["a  1 row changed like this", '- __name__="a" type="gauge"', '+ __name__="b" type="counter"']),
        (pair("changed", unit="By", scope={"name": "s", "version": "1", "schema_url": "", "attributes": {}}),
         ["a  1 row changed like this", '+ unit="By"', '+ scope: name="s" version="1"']),
        (pair("added"), ["a  1 row added", "+ value=1"]),
        (pair("added", resource={"x": 1}), ["a  1 row added", '+ x="1"']),
        (pair("dropped"), ["a  1 row dropped", "- value=1"]),
    ],
)  # fmt: skip
def test_pairs(pair: dict[str, Any], lines: list[str], document: dict[str, Any]) -> None:
    (pipeline,) = document["pipelines"].values()
    pipeline["processors"] = [{**pipeline["processors"][0], "pairs": [pair], "merged": 3, "added": 1}]
    shown = show(document, Style()).splitlines()
    at = shown.index("  quiet (filter): 26 in, 22 out, 4 dropped (filtered 4), 3 merged, 1 added")
    assert [line.strip() for line in shown[at + 1 : shown.index("", at)]] == lines


def test_nothing_left_and_nobody_speaking(document: dict[str, Any]) -> None:
    (pipeline,) = document["pipelines"].values()
    pipeline["resources"] = [{"attributes": {}, "samples": 2}, {"attributes": {"a": 1}, "samples": 1},
                             {"attributes": {"service.name": "x", "service.namespace": "n"}, "samples": 1}]  # fmt: skip
    text = show(document, Style())
    assert all(
        re.search(rf"^  {name} +1 +\d$", text, re.MULTILINE) for name in ("no resource", "no service.name", "n/x")
    )
    pipeline["out"] = 0
    document["receivers"]["linkerd"]["failed_polls"] = 1
    text = show(document, Style())
    assert "  nothing is left to be sent\n\nexporter backend" in text
    assert "1 poll, 1 failed, 21 samples" in text


def test_an_exporter_of_many_requests(document: dict[str, Any]) -> None:
    document["exporters"]["backend"] |= {
        "requests": 3, "bytes": 4096, "sealed_bytes": 1024, "largest_request": 2048, "dropped": {"too_large": 1},
    }  # fmt: skip
    assert " ".join(show(document, Style()).split("exporter backend  otlp\n")[1].split()) == (
        "would send 22 samples as 14 points in 3 requests: 4 KiB, 1 KiB as sent (25.0%), the largest request 2 KiB, "
        "1 dropped (too_large 1)"
    )
