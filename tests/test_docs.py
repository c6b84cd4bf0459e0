"""What the documents say is tried: commands are run, files are loaded, examples balance, links resolve.

Conventions. ```toml is a whole file. ```toml fragment is part of one: what a pipeline lacks is added. ```sh is run line
by line as ``SHELL`` says, and a line that it does not know fails. ```python is run. ```json with receivers is a ledger.
```text is not looked at.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli
import trio

import agent.demo
from agent.admin import Admin
from agent.cli import main
from agent.config import load
from agent.demo import DemoOptions, Urls
from agent.ledger import ExporterCounts, Ledger, PipelineCounts, ReceiverCounts
from receivers.policy import PROMETHEUS_POLICY

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 60

KUBECTL = {
    "kubectl -n linkerd-viz port-forward svc/prometheus 9090:9090",
    "kubectl apply -f deploy/linkerd-policy.yaml",
}


class Block(NamedTuple):
    """A fenced block: where it begins, what it calls itself, what it holds."""

    page: Path
    line: int
    language: str
    text: str


_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["text"].splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, match.start()) + 1, match["language"], body)


EVERY = [block for page in PAGES for block in blocks(page)]


def among(*languages: str) -> pytest.MarkDecorator:
    chosen = [block for block in EVERY if block.language in languages]
    assert chosen
    return pytest.mark.parametrize(
        "block", chosen, ids=[f"{block.page.relative_to(ROOT)}:{block.line}" for block in chosen]
    )


def test_every_block_is_of_a_known_kind() -> None:
    known = {"sh", "toml", "toml fragment", "python", "json", "text"}
    assert [block for block in EVERY if block.language not in known] == []


# -- files -----------------------------------------------------------------------------------------------------------


def completed(fragment: str) -> str:
    """Add what a whole file needs: a receiver, an exporter, a pipeline of all that there is."""
    document = tomli.loads(fragment)
    text = fragment
    for kind, table in (
        ("receivers", '[receivers.added]\ntype = "federate"\nurl = "http://127.0.0.1:9090"\n'),
        ("exporters", '[exporters.added]\ntype = "stdout"\n'),
    ):
        if kind not in document:
            text += "\n" + table
    if "pipelines" not in document:
        ids = {kind: [*document.get(kind, {"added": {}})] for kind in ("receivers", "exporters")}
        ids["processors"] = [*document.get("processors", {})]
        text += "\n[pipelines.added]\n" + "".join(f"{kind} = {json.dumps(names)}\n" for kind, names in ids.items())
    return text


@among("toml", "toml fragment")
def test_a_file_loads_without_a_warning(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(completed(block.text) if block.language == "toml fragment" else block.text, encoding="utf-8")
    config = load(file, {})
    assert config.pipelines
    assert config.warnings == []
    config.try_out()


def test_the_file_of_the_picture_loads() -> None:
    assert load(ROOT / "docs/pictures/shop.toml", {}).warnings == []


# -- commands --------------------------------------------------------------------------------------------------------


class Shell:
    """A scratch copy of what the commands read, and how each command is tried there."""

    def __init__(self, folder: Path, prometheus: str):
        self.folder = folder
        self.prometheus = prometheus
        for name in ("agent.toml", "docs", "deploy"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)

    def run(self, line: str) -> None:
        """Try one line; fails for one that is not known."""
        words = shlex.split(line)
        for pattern, does in SHELL.items():
            if re.fullmatch(pattern, line):
                does(self, words)
                return
        pytest.fail(f"tests/test_docs.py does not know how to try: {line}")

    def make(self, words: list[str]) -> None:
        """Let make say what it would do: the target is there, and all that it needs."""
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True, timeout=SECONDS)

    def ebbtide(self, words: list[str]) -> None:
        """Run it, against the demo mesh."""
        self._main(words[1:])

    def ebbtide_once(self, words: list[str]) -> None:
        """Run it, and look at the ledger that it wrote."""
        self._main(words[1:])
        if "--ledger" in words:
            ledger = json.loads((self.folder / words[words.index("--ledger") + 1]).read_text(encoding="utf-8"))
            balances(ledger)
            assert sum(receiver["samples"] for receiver in ledger["receivers"].values()) > 100

    def ebbtide_run(self, words: list[str]) -> None:
        """It would not end: check its file instead, which is given or the default."""
        self._main(["check", *words[2:]])

    def _main(self, words: list[str]) -> None:
        environment = {**os.environ, "LINKERD_PROMETHEUS_URL": self.prometheus}
        done = subprocess.run(
            [sys.executable, "-m", "ebbtide", *words],
            cwd=self.folder, env=environment, capture_output=True, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout

    def curl(self, words: list[str]) -> None:
        """The path is one that the admin port answers."""
        path = words[-1].removeprefix("http://127.0.0.1:9464")
        assert path in Admin(Ledger(), lambda: True, str)._answers

    def kubectl(self, words: list[str]) -> None:
        """There is no cluster: the line is one that was tried by hand, and the file that it names is there."""
        assert shlex.join(words) in KUBECTL
        if "-f" in words:
            assert (self.folder / words[words.index("-f") + 1]).is_file()

    def nothing(self, words: list[str]) -> None:
        """What only prepares the shell."""


SHELL: dict[str, Callable[[Shell, list[str]], None]] = {
    r"make [a-z]+": Shell.make,
    r"ebbtide (check|docs|components|schema)\b.*": Shell.ebbtide,
    r"ebbtide once\b.*": Shell.ebbtide_once,
    r"ebbtide run\b.*": Shell.ebbtide_run,
    r"curl -s http://127\.0\.0\.1:9464/[a-z]+": Shell.curl,
    r"kubectl .*": Shell.kubectl,
    r"export LINKERD_PROMETHEUS_URL=http://127\.0\.0\.1:9090": Shell.nothing,
    r"\. \.venv/bin/activate": Shell.nothing,
}


@among("sh")
async def test_commands(block: Block, tmp_path: Path, nursery: trio.Nursery) -> None:
    prometheus = "http://127.0.0.1:9"  # nobody listens there, and most commands open nothing
    if "ebbtide once" in block.text:
        options = DemoOptions(proxies=2, routes=1, seed=1, history=60.0)
        urls: Urls = await nursery.start(agent.demo.serve, options)
        prometheus = urls.prometheus
    shell = Shell(tmp_path, prometheus)
    for line in filter(None, map(str.strip, block.text.splitlines())):
        await trio.to_thread.run_sync(shell.run, line)
    nursery.cancel_scope.cancel()


def test_an_unknown_command_fails(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "http://127.0.0.1:9")
    for line in (
        "rm -rf agent.toml",
        "kubectl delete namespace linkerd",
        "make nonsense",
        "ebbtide check nowhere.toml",
    ):
        with pytest.raises((pytest.fail.Exception, AssertionError, subprocess.CalledProcessError)):
            shell.run(line)


def test_the_commands_of_the_table_are_those_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert main(["--help"]) == 0
    listed = re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    listed += [name for name in ("components",) if name not in listed]  # argparse breaks the line behind a long one
    assert set(re.findall(r"`ebbtide ([a-z]+)[^`]*`", readme)) == set(listed)


@among("python")
def test_python_runs(block: Block, tmp_path: Path) -> None:
    """A measurement prints its lines; what they say is the machine's."""
    done = subprocess.run([sys.executable, "-c", block.text], cwd=tmp_path, capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout


# -- examples --------------------------------------------------------------------------------------------------------


def balances(ledger: dict[str, Any]) -> None:
    """Check the equations that docs/ledger.md gives."""
    for receiver in ledger["receivers"].values():
        came = receiver["samples"] + sum(receiver["added"].values())
        assert came == receiver["out"] + sum(receiver["dropped"].values())
    for pipeline in ledger["pipelines"].values():
        for processor in pipeline["processors"].values():
            went = processor["out"] + processor["merged"] + sum(processor["dropped"].values())
            assert processor["in"] + processor["added"] == went
    assert sum(r["out"] for r in ledger["receivers"].values()) == sum(p["in"] for p in ledger["pipelines"].values())
    for exporter in ledger["exporters"].values():
        went = exporter["sent"] + exporter["held"] + sum(exporter["dropped"].values())
        assert exporter["in"] + exporter["restored"] == went


@among("json")
def test_a_ledger_balances_and_has_the_fields_of_today(block: Block) -> None:
    shown = json.loads(block.text)
    balances(shown)
    ledger = Ledger()
    ledger.receivers = {name: ReceiverCounts() for name in shown["receivers"]}
    ledger.pipelines = {name: PipelineCounts() for name in shown["pipelines"]}
    ledger.exporters = {name: ExporterCounts() for name in shown["exporters"]}
    for kind, components in ledger.as_dict().items():
        for name, counts in components.items():
            assert list(shown[kind][name]) == list(counts)


def test_every_reason_is_explained() -> None:
    """The reasons in the code are those in the table of docs/ledger.md."""
    explained = set(re.findall(r"`(\w+)`", "\n".join(
        line.split("|")[1] for line in (ROOT / "docs/ledger.md").read_text(encoding="utf-8").splitlines()
        if line.count("|") >= 5
    )))  # fmt: skip
    written: set[tuple[str, str]] = set()
    for folder in ("agent", "receivers", "processors", "exporters"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            written |= set(re.findall(r'dropped\["(\w+)"\]|(?:drop|drop_all|refuse|abandon)\([^)]*"(\w+)"', text))
    reasons = {one or other for one, other in written}
    assert reasons >= {"torn", "overflow", "closed", "shutdown"}
    assert reasons <= explained


def test_the_policy_is_the_one_that_is_printed() -> None:
    text = (ROOT / "deploy/linkerd-policy.yaml").read_text(encoding="utf-8")
    header = re.match(r"(?:#.*\n)+", text)
    assert header
    assert text[header.end() :] == PROMETHEUS_POLICY


# -- links -----------------------------------------------------------------------------------------------------------

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = target.partition("#")
        if "://" in path:
            assert path.startswith("https://")
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT), target
        assert file.is_file(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(file), f"{target}: there is no such heading"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs/decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    for page in sorted(folder.glob("[0-9]*.md")):
        assert f"({page.name})" in listed
        assert page.read_text(encoding="utf-8").startswith(f"# {page.name[:4]}: ")


@pytest.mark.parametrize("name", ["once", "federate"])
def test_pictures_are_drawings(name: str) -> None:
    """They parse, and show the command that make.py runs."""
    from xml.etree import ElementTree

    root = ElementTree.fromstring((ROOT / f"docs/pictures/{name}.svg").read_text(encoding="utf-8"))
    command = (root.get("aria-label") or "").replace('"', '\\"')
    assert command in (ROOT / "docs/pictures/make.py").read_text(encoding="utf-8")
    assert len(list(root.iter("{http://www.w3.org/2000/svg}text"))) > 5
