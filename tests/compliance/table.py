"""docs/otlp-compliance.md: which tests pass which rule, gathered from what pytest collects.

Strategy. The mark ``otlp`` (``rules.rule``) on a collected test is an entry of the table; a rule without a test is found
because the rules are listed apart from the tests. A test is named by its module and function, so that its parameters may
change without changing the table. ``python -m tests.compliance`` runs the marked tests and writes the page if they pass.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compliance.rules import CHAPTERS, PROTOCOLS, RULES, Rule

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/otlp-compliance.md"
FOLDERS = ("tests/compliance", "tests/exporters", "tests/agent/test_http.py", "tests/agent/test_outbox.py")

Found = dict[tuple[str, str], set[str]]  # (rule, protocol) -> tests

HEAD = """# OTLP to the letter

What the exporter [`otlp`](reference/exporter-otlp.md) does by each rule for senders of OTLP, and the tests that pass it
against scripted servers. Written by `make compliance`, which runs these tests; a test fails where this page is out of
step, or where a rule has no test. A test `retry::backoff` is `test_backoff` in a file `test_retry.py` below `tests/`.
Words in capitals are the specification's; "ours" is what it leaves open.
"""


class Gatherer:
    """A plugin of pytest that remembers what was collected under which rule."""

    def __init__(self) -> None:
        self.found: Found = defaultdict(set)
        self.mistakes: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Take note of every marked test."""
        for item in items:
            for mark in item.iter_markers("otlp"):
                self._note(item, *mark.args)

    def _note(self, item: pytest.Item, name: str, protocols: tuple[str, ...]) -> None:
        params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        chosen = protocols or tuple(filter(None, [params.get("protocol")]))
        if not chosen:
            self.mistakes.append(f"{item.nodeid}: the mark of rule {name} says no protocol, nor does a parameter")
        test = (
            f"{item.path.stem.removeprefix('test_')}::{getattr(item, 'originalname', item.name).removeprefix('test_')}"
        )
        for protocol in chosen:
            if protocol in RULES[name].apart:
                self.mistakes.append(f"{item.nodeid}: rule {name} does not apply to {protocol}")
            self.found[name, protocol].add(test)


def gather() -> Gatherer:
    """Collect, without running anything."""
    gatherer = Gatherer()
    arguments = ["--collect-only", "-q", "--no-header", "--no-summary", "-p", "no:cacheprovider"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = pytest.main([*arguments, *(str(ROOT / folder) for folder in FOLDERS)], plugins=[gatherer])
    if status:
        gatherer.mistakes.append(said.getvalue())
        gatherer.mistakes.append(f"cannot collect the tests: pytest ended with status {status}")
    return gatherer


def missing(found: Found) -> Iterator[str]:
    """Each rule that has no test by a protocol to which it applies."""
    for one in RULES.values():
        for protocol in PROTOCOLS:
            if protocol not in one.apart and not found.get((one.name, protocol)):
                yield f"rule {one.name} ({one.says}) has no test by {protocol}"


def page(found: Found) -> str:
    """Return the whole page."""
    parts = [HEAD]
    for title, rules in CHAPTERS.items():
        rows = "\n".join(_row(one, found) for one in rules)
        parts.append(
            f"## {title}\n\n| | rule | | HTTP/protobuf | HTTP/JSON | gRPC |\n|---|---|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def _row(one: Rule, found: Found) -> str:
    cells = (_cell(one, protocol, found) for protocol in PROTOCOLS)
    name = f"`{one.name}`" if "_" in one.name else one.name
    return f"| {name} | {one.says} | {one.level} | {' | '.join(cells)} |"


def _cell(one: Rule, protocol: str, found: Found) -> str:
    if protocol in one.apart:
        return f"- ({one.apart[protocol]})"
    tests = sorted(found.get((one.name, protocol), ()))
    return ", ".join(f"`{test}`" for test in tests) or "**missing**"
