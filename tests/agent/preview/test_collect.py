"""The document: balanced, whole, and as docs/preview.md says."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.batch import Batch, Row
from agent.cli import main
from agent.config import Config, load
from agent.folded import FoldedLog
from agent.identity import Family
from agent.ledger import PipelineCounts
from agent.pipeline import Pipeline
from agent.plugin import Processor
from agent.preview.collect import Collector, Followed, row_as_dict
from agent.series import Series
from agent.wiring import Wiring, wire

DOCS = Path(__file__).resolve().parents[3] / "docs" / "preview.md"
LOG = FoldedLog(logging.getLogger("ebbtide.test"))

TWO = """\
[receivers.a]
type = "federate"
url = "http://127.0.0.1:9"
[receivers.b]
type = "federate"
url = "http://127.0.0.1:9"
[exporters.e]
type = "otlp"
[exporters.f]
type = "otlp"
[pipelines.one]
receivers = ["a"]
exporters = ["e"]
[pipelines.both]
receivers = ["a", "b"]
exporters = ["e", "f"]
"""


def wired(path: Path, text: str) -> tuple[Config, Wiring]:
    path.write_text(text)
    config = load(path, {})
    return config, wire(config, once=True)


def batch(*names: str) -> Batch:
    return Batch.of(Row(Series.of(name, {"job": "j"}, Family(name, "gauge")), 1.0, 5, 0, False) for name in names)


async def test_each_pipeline_and_exporter_sees_its_own(tmp_path: Path) -> None:
    config, wiring = wired(tmp_path / "f.toml", TWO)
    collector = Collector(config, wiring, LOG)
    await collector.emit("a")(batch("x", "y"))
    await collector.emit("b")(batch("z"))
    await collector.emit("b")(Batch.of([]))
    document = collector.document()
    assert {name: receiver["out"] for name, receiver in document["receivers"].items()} == {"a": 2, "b": 1}
    assert {name: (one["in"], one["out"]) for name, one in document["pipelines"].items()} == {
        "one": (2, 2),
        "both": (3, 3),
    }
    assert {name: one["in"] for name, one in document["exporters"].items()} == {"e": 5, "f": 3}


async def test_of_one_receiver_only_what_it_feeds(tmp_path: Path) -> None:
    config, wiring = wired(tmp_path / "f.toml", TWO)
    document = Collector(config, wiring, LOG, "b").document()
    assert (list(document["receivers"]), list(document["pipelines"]), list(document["exporters"])) == (
        ["b"],
        ["both"],
        ["e", "f"],
    )


async def test_it_fails_with_a_poll_or_a_bug(tmp_path: Path) -> None:
    config, wiring = wired(tmp_path / "f.toml", TWO)
    collector = Collector(config, wiring, LOG)
    assert not collector.failed
    wiring.exporters["f"].counts.dropped["bug"] += 1
    assert collector.failed
    wiring.exporters["f"].counts.dropped["bug"] = 0
    wiring.receivers["b"].counts.failed_polls += 1
    assert collector.failed
    assert collector.silent == ["a"]


class Held(Processor[Any]):
    """Lets every second row pass, and gives the others at the end under another name."""

    held: Batch | None = None

    def process(self, batch: Batch) -> Batch | None:
        self.held = batch.take(np.arange(1, len(batch), 2))
        return batch.take(np.arange(0, len(batch), 2))

    def flush(self, now: int) -> Batch | None:
        assert self.held is not None
        return Batch.of(Row(row.series.but(name="late"), row.value, now, 0, False) for row in self.held.rows())


async def test_what_was_held_back_follows_at_the_end() -> None:
    followed = Followed(Pipeline(PipelineCounts(), [("held", Held())], [], None), [])
    followed.run(batch("a", "b", "c", "d"))
    assert (followed.received, followed.out) == (4, 2)
    followed.flush(9)
    assert followed.out == 4
    assert [(metric["name"], metric["series"]) for metric in followed.cardinality.metrics()] == [
        ("late", 2), ("a", 1), ("c", 1)
    ]  # fmt: skip
    assert [(pair.outcome, pair.rows) for pair in followed.changes[0].pairs(9)] == [
        ("added", 2), ("dropped", 1), ("dropped", 1)
    ]  # fmt: skip


async def test_cardinality_is_told_under_the_names_that_came(folder: Path) -> None:
    config = load(folder / "agent.toml", {})
    collector = Collector(config, wire(config, once=True), LOG)
    series = Series.of(
        "a_total", {"job": "j", "instance": "i:1", "pod_template_hash": "5"}, Family("a_total", "counter")
    )
    stack = Series.of("stack_x", {"job": "j", "only": "here"}, Family("stack_x", "counter"))
    await collector.emit("linkerd")(Batch.of(Row(one, 1.0, 5, 0, False) for one in (series, stack)))
    pipeline = collector.document()["pipelines"]["metrics"]
    assert [metric["name"] for metric in pipeline["metrics"]] == ["a_total"]
    assert [label["name"] for label in pipeline["labels"]] == ["instance", "job", "pod_template_hash"]


@pytest.mark.parametrize(
    ("value", "stale", "told"), [(1.5, False, "1.5"), (float("nan"), False, "NaN"), (0.0, True, None)]
)
def test_values_are_texts_and_the_end_of_a_stream_is_none(value: float, stale: bool, told: str | None) -> None:
    row = row_as_dict(Row(Series.of("a"), value, 2, 1, stale))
    assert (row["value"], row["time_unix_nano"], row["start_time_unix_nano"]) == (told, "2", "1")
    json.dumps(row, allow_nan=False)


def paths(value: object, at: str = "") -> Iterator[str]:
    """Walk the fields of a document; ids, positions and names that are data are written as ID, [] and NAME."""
    if isinstance(value, list):
        for item in value[:1]:
            yield from paths(item, at + "[]")
    elif isinstance(value, dict):
        data = {"receivers": "ID", "pipelines": "ID", "exporters": "ID"}.get(at) or (
            "NAME" if at.endswith((".labels", ".resource", ".attributes", ".added", ".dropped")) else None
        )
        for key, item in value.items():
            path = f"{at}.{data or key}".lstrip(".")
            yield path
            yield from paths(item, path)


def test_the_document_is_as_it_is_described(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", "--page", "page.prom", "--json"]) == 0
    found = {path for path in paths(json.loads(capsys.readouterr().out)) if not path.endswith(("NAME", "ID"))}
    rows = {path for path in found if ".pairs[].before." in path or ".pairs[].after." in path}
    described = set(re.findall(r"^\| `([^`]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    described = {path.replace("*", "ID") for path in described}
    of_rows = {path.partition(".before.")[2] or path.partition(".after.")[2] for path in rows}
    assert found - rows == {path for path in described if not path.startswith("ROW.")}
    assert of_rows == {path.removeprefix("ROW.") for path in described if path.startswith("ROW.")}
