"""What the documents say is tried: commands are run, files are loaded, examples balance, links resolve.

How to write a page that passes. The words behind a fence say how its block is tried; any other words fail.

| behind the fence | how it is tried |
|---|---|
| `sh` | line by line, in order through the whole page, in a scratch copy, against the demo mesh; tests/shell.py says which commands are run and which only checked, with the reason. A line that it does not know fails |
| `toml` | a whole pipeline file: it loads without a warning |
| `toml fragment` | part of one: what a pipeline lacks is added first |
| `toml file=NAME` | the same, and the commands further down the page find it under this name |
| `toml pyproject` | a plugin's pyproject.toml: its entry points are of our groups |
| `python` | a program: it ends well |
| `python plugin` | the plugins that it defines keep all their promises, by the conformance kit |
| `json` | it parses, as one document or line by line; a ledger balances and has the fields of today |
| `LANGUAGE of PATH` | a quotation, word for word, of a file in the repository; a line `...` leaves lines out |
| `yaml`, `ini`, `dockerfile` | the same, of any file under deploy/ |
| `text` | not looked at: output, notation |

Links must lead somewhere, and every page must be reachable from docs/README.md.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from inspect import isabstract
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import tomli
import trio
import trustme

import agent.demo
from agent.cli import main
from agent.config import load
from agent.demo import DemoOptions, Urls
from agent.demo.cluster_objects import kubeconfig
from agent.discover import GROUPS
from agent.ledger import ExporterCounts, Ledger, PipelineCounts, ReceiverCounts
from agent.plugin import Component
from agent.testing import shortcomings
from exporters import kafka_answers
from receivers.policy import PROMETHEUS_POLICY
from tests.documents import EVERY, FENCE, PAGES, ROOT, Block
from tests.shell import SECONDS, Shell, lines, simple_commands

KINDS = {
    "sh", "toml", "toml fragment", "toml pyproject", "python", "python plugin", "json", "text", "yaml", "ini", "dockerfile",
}  # fmt: skip
POLLS = ("ebbtide once", "ebbtide preview", "ebbtide record")
SAMPLE_VALUE = "http://127.0.0.1:9"  # of ${NAME} that a file in a page reads from the environment
QUEUES = "this version keeps queues in memory only"  # a warning that every file with a `state_dir` has
KUBECONFIG = """
clusters: [{name: north, cluster: {server: https://127.0.0.1:9}}]
contexts: [{name: north, context: {cluster: north}}]
current-context: north
"""  # that a file in a page names; its context is that of the pages
_PAPERS = "(?:ca|cert|key)_file"  # options that name a file of certificates or keys; one file can be all of them


def among(*kinds: str) -> pytest.MarkDecorator:
    """Every block of these kinds that is no quotation."""
    chosen = [block for block in EVERY if block.kind in kinds and not block.source]
    assert chosen
    return pytest.mark.parametrize("block", chosen, ids=map(str, chosen))


def test_every_block_is_of_a_known_kind() -> None:
    assert [f"{block}: {block.info}" for block in EVERY if block.kind not in KINDS and not block.source] == []


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


def loadable(block: Block, folder: Path) -> str:
    """The file of a block, whole, with files where it names some, by ``${file:PATH}`` or by options such as ``ca_file``."""
    text = completed(block.text) if block.kind == "toml fragment" else block.text
    secret, papers = folder / "secret", folder / "papers.pem"
    secret.write_text("secret", encoding="utf-8")
    text = re.sub(r"\$\{file:[^}]+\}", f"${{file:{secret}}}", text)
    text = re.sub(r'\b(password_file|bearer_token_file) = "[^"]+"', rf'\1 = "{secret}"', text)
    cluster = folder / "kubeconfig"
    cluster.write_text(KUBECONFIG, encoding="utf-8")
    text = re.sub(r'\bkubeconfig = "[^"]+"', f'kubeconfig = "{cluster}"', text)
    if re.search(rf"\b{_PAPERS} = ", text):
        issued = trustme.CA().issue_cert("localhost")
        papers.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return re.sub(rf'\b({_PAPERS}) = "[^"]+"', rf'\1 = "{papers}"', text)


@among("toml", "toml fragment")
def test_a_file_loads_without_a_warning(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(loadable(block, tmp_path), encoding="utf-8")
    config = load(file, dict.fromkeys(re.findall(r"\$\{(\w+)\}", block.text), SAMPLE_VALUE))
    assert config.pipelines
    assert [warning for warning in config.warnings if QUEUES not in warning] == []
    config.try_out()


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "docs/pictures").glob("*.toml")))
def test_the_file_of_a_picture_loads(name: str) -> None:
    assert load(ROOT / "docs/pictures" / name, {}).warnings == []


@among("toml pyproject")
def test_a_project_of_plugins_registers_them_where_we_look(block: Block) -> None:
    project = tomli.loads(block.text)["project"]
    assert project["name"]
    for group, plugins in project["entry-points"].items():
        assert group in GROUPS.values()
        assert all(re.fullmatch(r"[\w.]+:\w+", value) for value in plugins.values())


# -- quotations ------------------------------------------------------------------------------------------------------


def quotes(text: str, source: str) -> bool:
    """Whether the parts of a text between its lines ``...`` stand in the source, word for word and in order."""
    at = 0
    for part in re.split(r"^ *\.\.\.\n", text, flags=re.MULTILINE):
        at = source.find(part.strip("\n"), at)
        if at < 0:
            return False
    return True


QUOTED = [block for block in EVERY if block.source or block.kind in ("yaml", "ini", "dockerfile")]


@pytest.mark.parametrize("block", QUOTED, ids=map(str, QUOTED))
def test_what_is_quoted_stands_there(block: Block) -> None:
    sources = (
        [ROOT / block.source] if block.source else [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    )
    assert any(quotes(block.text, path.read_text(encoding="utf-8")) for path in sources), (
        "it is not quoted word for word"
    )


def test_the_rule_of_quotations_itself() -> None:
    assert quotes("a\n...\nc\n", "a\nb\nc\n")
    assert not quotes("c\n...\na\n", "a\nb\nc\n")
    assert not quotes("a\nc\n", "a\nb\nc\n")


# -- commands --------------------------------------------------------------------------------------------------------

SESSIONS = [page for page in PAGES if any(block.kind == "sh" for block in EVERY if block.page == page)]


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: str(page.relative_to(ROOT)))
async def test_the_commands_of_a_page(page: Path, tmp_path: Path, nursery: trio.Nursery) -> None:
    """They are tried in the order in which a reader would type them."""
    prometheus = "http://127.0.0.1:9"  # nobody listens there, and most commands open nothing
    if any(command in block.text for block in EVERY if block.page == page and block.kind == "sh" for command in POLLS):
        options = DemoOptions(proxies=2, routes=1, seed=1, history=60.0)
        urls: Urls = await nursery.start(agent.demo.serve, options)
        prometheus = urls.prometheus
        (tmp_path / "demo.kubeconfig").write_text(kubeconfig(urls.kubernetes), encoding="utf-8")
    shell = Shell(tmp_path, prometheus, str(tmp_path / "demo.kubeconfig"))
    for block in (block for block in EVERY if block.page == page):
        if block.named:
            (tmp_path / block.named).write_text(block.text, encoding="utf-8")
        for line in lines(block.text) if block.kind == "sh" else ():
            await trio.to_thread.run_sync(shell.run, line)
            check_ledgers(tmp_path, line)
    nursery.cancel_scope.cancel()


def check_ledgers(folder: Path, line: str) -> None:
    """A ledger that a command wrote balances, and is about something."""
    for command in simple_commands(line):
        if command[:2] == ["ebbtide", "once"] and "--ledger" in command:
            ledger = json.loads((folder / command[command.index("--ledger") + 1]).read_text(encoding="utf-8"))
            balances(ledger)
            assert sum(receiver["samples"] for receiver in ledger["receivers"].values()) > 100


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf agent.toml /nowhere; frobnicate",
        "kubectl frobnicate pods",
        "kubectl apply -f deploy/nowhere.yaml",
        "kubectl -n metrics exec deploy/ebbtide -- ebbtide chekc",
        "make nonsense",
        "ebbtide check nowhere.toml",
        "ebbtide demo --proxy 3",
        "ebbtide run nowhere.toml",
        "ebbtide components | frobnicate",
        "curl -s http://127.0.0.1:9464/nonsense",
        "pip install 'ebbtide[nonsense]'",
        "sudo cp deploy/nowhere.service /etc/systemd/system/",
        "pytest docs/nowhere",
    ],
)
def test_a_wrong_command_fails(line: str, tmp_path: Path) -> None:
    with pytest.raises((pytest.fail.Exception, AssertionError, subprocess.CalledProcessError)):
        Shell(tmp_path, "http://127.0.0.1:9").run(line)


def test_lines_of_a_block() -> None:
    assert lines("a \\\n  b\n\n# c\nd # e\n") == ["a b", "d # e"]
    assert simple_commands("A=1 x --y='a b' | z > w && v & # c") == [["A=1", "x", "--y=a b"], ["z"], ["v"]]


def test_the_commands_of_the_table_are_those_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert main(["--help"]) == 0
    listed = re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    listed += [name for name in ("components",) if name not in listed]  # argparse breaks the line behind a long one
    assert set(re.findall(r"`ebbtide ([a-z]+)[^`]*`", readme)) == set(listed)


# -- programs --------------------------------------------------------------------------------------------------------


@among("python")
def test_python_runs(block: Block, tmp_path: Path) -> None:
    """What a measurement prints is the machine's affair."""
    done = subprocess.run([sys.executable, "-c", block.text], cwd=tmp_path, capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr.decode()


@among("python plugin")
def test_a_plugin_keeps_its_promises(block: Block) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block.text, str(block), "exec", dont_inherit=True), names)
    plugins = [
        one for one in names.values()
        if isinstance(one, type) and issubclass(one, Component) and one.__module__ == "page" and not isabstract(one)
    ]  # fmt: skip
    assert plugins
    assert [sentence for plugin in plugins for sentence in shortcomings(plugin)] == []


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


def documents(text: str) -> list[Any]:
    """One JSON document, or one a line."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


@among("json")
def test_a_ledger_balances_and_has_the_fields_of_today(block: Block) -> None:
    shown, *more = documents(block.text)
    if more or not isinstance(shown, dict) or not {"receivers", "pipelines", "exporters"} <= set(shown):
        return  # another example: that it parses is all that is known of it here
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


SOURCES = [
    path for folder in ("agent", "receivers", "processors", "exporters") for path in (ROOT / folder).rglob("*.py")
]


def sentences() -> list[str]:
    """Every text in the program; what is filled in at run time is a hole."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[sd]", "\0", node.value))
    return found


def test_the_errors_of_the_guide_are_those_of_the_program() -> None:
    """Each `cannot ... ...` of the table begins a sentence of the program; ``...`` stands for what is filled in."""
    quoted = re.findall(r"^\| `(cannot [^`]+)`", (ROOT / "docs/guide.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(quoted) > 8
    known = sentences()
    missing = []
    for text in quoted:
        pattern = ".*".join(re.escape(part.strip()) for part in text.split("..."))
        if not any(re.match(pattern, one, re.DOTALL) for one in known):
            missing.append(text)
    assert missing == []


def test_the_failures_of_kafka_are_those_of_the_program() -> None:
    """Each sentence of the page's table stands in the program, and each cure of the program in the table."""
    page = (ROOT / "docs/kafka.md").read_text(encoding="utf-8")
    table = page[page.index("| what the log says |") :]
    quoted = [one or other for one, other in re.findall(r"^\| (?:`` (.+?) ``|`([^`]+)`) \|", table, re.MULTILINE)]
    patterns = [".*".join(re.escape(part.strip()) for part in text.split("...")) for text in quoted]
    known = sentences()
    assert [text for text, like in zip(quoted, patterns, strict=True)
            if not any(re.search(like, one, re.DOTALL) for one in known)] == []  # fmt: skip
    cures = {cure.format(topic="T") for cure in kafka_answers._CURES.values()}
    assert [cure for cure in cures if not any(re.match(like, cure) for like in patterns)] == []


# -- links -----------------------------------------------------------------------------------------------------------

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for target in _LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
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


def linked(page: Path) -> Iterable[Path]:
    """The pages that a page links to."""
    for target in _LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        file = (page.parent / target.partition("#")[0]).resolve()
        if "://" not in target and file.suffix == ".md":
            yield file


def test_every_page_can_be_reached() -> None:
    start = ROOT / "docs/README.md"
    reached, ahead = {start}, [start]
    while ahead:
        new = [page for page in linked(ahead.pop()) if page not in reached and page.is_file()]
        reached.update(new)
        ahead += new
    missing = [
        str(page.relative_to(ROOT)) for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in reached
    ]
    assert missing == [], "add them to docs/README.md"


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "docs/pictures").glob("*.svg")))
def test_pictures_are_drawings(name: str) -> None:
    """They parse, and show the command that make.py runs."""
    root = ElementTree.fromstring((ROOT / f"docs/pictures/{name}.svg").read_text(encoding="utf-8"))
    command = (root.get("aria-label") or "").replace('"', '\\"')
    assert command in (ROOT / "docs/pictures/make.py").read_text(encoding="utf-8")
    assert len(list(root.iter("{http://www.w3.org/2000/svg}text"))) > 5
