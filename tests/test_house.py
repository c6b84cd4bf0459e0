"""The rules of the house, as tests: which way imports point, twins, sizes, docstrings, what text must not hold."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FRAME = "agent"
PLUGINS = ("receivers", "processors", "exporters")
FACE = "ebbtide"

MAX_LINES = 400
MAX_FUNCTION = 70
MOST_FUNCTION = 40  # nine in ten stay below

# Modules without a test file of their own, and why. A package's docstring alone needs none.
NO_TWIN: dict[str, str] = {}

# Text in which machine paths, hosts of registries and the like have a reason.
NOT_SEARCHED = {"tests/test_house.py"}
BINARY = {".png", ".gz", ".pb", ".bin", ".ico", ".svg", ".zst"}

_MACHINE_PATH = re.compile(r"(?<![\w$/.-])/(?:home|root|Users|work)/[\w.-]+|\b[A-Z]:\\Users\\")
_REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|--(?:extra-)?index-url[ =]\S|--find-links[ =]\S|artifactory|/simple/", re.IGNORECASE
)


def modules(*folders: str) -> list[Path]:
    """Every module below these folders, as paths below the root."""
    found = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if "__pycache__" not in path.parts)


EVERY = modules(FRAME, *PLUGINS)


def named(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=str)


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, also inside its functions."""
    package = path.with_suffix("").parts[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def wrong_imports(path: Path) -> list[str]:
    """Imports against the direction: plugins -> the public face and their own folder; the frame -> itself."""
    home = path.parts[0]
    forbidden = {FRAME, FACE, *PLUGINS, "tests", "bench"} - ({FRAME} if home == FRAME else {home, FACE})
    return [name for name in imported(path) if name.partition(".")[0] in forbidden]


@named(EVERY)
def test_imports_point_one_way(path: Path) -> None:
    assert not wrong_imports(path)


def test_the_public_face_only_passes_on() -> None:
    allowed = (ast.ImportFrom, ast.Import, ast.Expr, ast.Assign, ast.If)
    body = tree(Path("ebbtide.py")).body
    assert all(isinstance(node, allowed) for node in body)
    assert [target.id for node in body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)] == ["__all__"]  # fmt: skip
    assert all(name.startswith("agent.") for name in imported(Path("ebbtide.py")))


@named(EVERY)
def test_every_module_has_its_twin(path: Path) -> None:
    package = path.name == "__init__.py"
    if str(path) in NO_TWIN or (package and len(tree(path).body) == 1):
        return
    name = f"test_{path.parent.name}.py" if package else f"test_{path.name}"
    assert (ROOT / "tests" / path.parent / name).is_file(), f"no tests/{path.parent / name}"


def test_every_twin_has_its_module() -> None:
    """A test file that outlived its module tests nothing, or something under a wrong name.

    A module may have several: ``test_skeleton.py``, ``test_skeleton_vectors.py``.
    """
    for test in modules(*(f"tests/{kind}" for kind in (FRAME, *PLUGINS))):
        if test.name.startswith("test_"):
            folder = Path(*test.parts[1:-1])
            stems = {path.stem for path in modules(str(folder)) if path.parent == folder} | {folder.name}
            words = test.stem.removeprefix("test_").split("_")
            names = {"_".join(words[:length]) for length in range(1, len(words) + 1)}
            assert names & stems, f"{test} is the twin of no module in {folder}"


def test_exceptions_are_still_needed() -> None:
    for name in NO_TWIN:
        assert (ROOT / name).is_file(), f"{name} is gone; so should be its exception"
    for name in NOT_SEARCHED:
        assert (ROOT / name).is_file(), f"{name} is gone; so should be its exception"


@named(EVERY)
def test_files_stay_small(path: Path) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length in lines of every function, its docstring apart."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None and first.end_lineno is not None:
                length -= first.end_lineno - first.lineno + 1
            yield node.name, length


@named(EVERY)
def test_functions_stay_short(path: Path) -> None:
    assert [(name, length) for name, length in functions(path) if length > MAX_FUNCTION] == []


def test_nine_functions_in_ten_are_below_forty_lines() -> None:
    lengths = [length for path in EVERY for _, length in functions(path)]
    assert sum(length < MOST_FUNCTION for length in lengths) >= 0.9 * len(lengths)


@named([*EVERY, Path("ebbtide.py")])
def test_public_things_are_documented(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), "the module has no docstring"
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@named(EVERY)
def test_nothing_is_swallowed(path: Path) -> None:
    """No ``except`` that catches everything and does nothing."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            wide = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            empty = all(isinstance(inner, ast.Pass) for inner in node.body)
            assert not (wide and empty), f"line {node.lineno}"


def test_no_drawer_for_everything() -> None:
    assert [str(path) for path in EVERY if path.stem in ("utils", "util", "helpers", "common", "misc")] == []


def tracked() -> list[str]:
    """The text files that git knows or would add; all files of a copy without git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout.decode()  # fmt: skip
        names = [name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        hidden = re.compile(r"(?:^|/)(?:\.|__pycache__|build/|dist/)")
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
        names = [name for name in names if not hidden.search(name)]
    return sorted(name for name in names if Path(name).suffix not in BINARY and (ROOT / name).is_file())


def test_text_knows_no_machine_and_no_registry() -> None:
    found = []
    for name in tracked():
        if name not in NOT_SEARCHED:
            text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), 1):
                if _MACHINE_PATH.search(line) or _REGISTRY.search(line):
                    found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["requirements/run.txt", "requirements/dev.txt", "requirements/build.txt"])
def test_every_requirement_is_pinned_by_hash(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    wanted = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert wanted
    assert [line for line in wanted if not re.match(r"[\w.\[\]-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []


def test_the_locks_answer_the_project() -> None:
    """Every dependency that pyproject.toml names is in the lock that it belongs to."""
    tomli = pytest.importorskip("tomli")
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    def names(requirements: list[str]) -> set[str]:
        return {re.sub(r"[-_.]+", "-", match[0]).lower() for r in requirements if (match := re.match(r"[\w.-]+", r))}

    run = names(re.findall(r"^[\w.-]+(?===)", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE))
    dev = names(re.findall(r"^[\w.-]+(?===)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE))
    assert names(project["project"]["dependencies"]) <= run
    assert names(project["dependency-groups"]["dev"]) <= dev
    assert run <= dev


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("agent/x.py", "from receivers import y", ["receivers.y"]),
        ("agent/x.py", "def f():\n    import exporters.otlp", ["exporters.otlp"]),
        ("agent/x.py", "from agent.y import z\nimport trio", []),
        ("agent/x.py", "import ebbtide", ["ebbtide"]),
        ("receivers/x.py", "from ebbtide import Batch\nfrom receivers.y import z\nfrom . import w", []),
        ("receivers/x.py", "from agent.batch import Batch", ["agent.batch.Batch"]),
        ("exporters/x/y.py", "from ...receivers import z", ["receivers.z"]),
        ("exporters/x/y.py", "from .. import wire", []),
        ("processors/x.py", "import tests.conftest", ["tests.conftest"]),
    ],
)
def test_the_rule_of_imports_itself(path: str, source: str, wrong: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "tree", lambda _: ast.parse(source))
    assert wrong_imports(Path(path)) == wrong


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cd /home/somebody/x", True), ("path = '/work/x'", True), ("see /root/.cache", True), ("https://host/home/x", False),
        ("/var/lib/ebbtide", False), ("a/root/b", False), ("--index-url https://x", True), ("--no-emit-index-url", False),
        ("files.pythonhosted.org", True), ("PyPI", False),
    ],
)  # fmt: skip
def test_the_search_itself(line: str, found: bool) -> None:
    assert bool(_MACHINE_PATH.search(line) or _REGISTRY.search(line)) is found
