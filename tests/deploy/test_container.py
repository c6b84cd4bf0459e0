"""The Containerfile: what it copies exists, what it installs is locked, and how the image is to run."""

from __future__ import annotations

import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest
import tomli

from tests.deploy.tools import DEPLOY, ROOT

FILE = DEPLOY / "container/Containerfile"
KNOWN = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


class Instruction(NamedTuple):
    """One instruction; ``stage`` counts the FROMs before it, itself included."""

    stage: int
    name: str
    text: str


def instructions(text: str) -> list[Instruction]:
    """Read the instructions; lines that are continued are joined, comments left out."""
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found: list[Instruction] = []
    stage = 0
    for line in filter(None, re.sub(r"\\\n\s*", "", kept).splitlines()):
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, rest.strip()))
    return found


ALL = instructions(FILE.read_text(encoding="utf-8"))
LAST = max(one.stage for one in ALL)


def of(name: str, stage: int = LAST) -> list[str]:
    return [one.text for one in ALL if one.name == name and one.stage == stage]


def test_the_instructions_are_known_and_in_order() -> None:
    assert {one.name for one in ALL} == KNOWN
    assert [one.name for one in ALL[:2]] == ["ARG", "FROM"]
    assert [one.text for one in ALL if one.name == "FROM"] == ["${BASE} AS build", "${BASE}"]
    names = [one.name for one in ALL if one.stage == LAST]
    assert names.index("RUN") < names.index("USER") < names.index("ENTRYPOINT") < names.index("CMD")
    assert "RUN" not in names[names.index("USER") :]


def test_the_base_can_be_pinned_and_is_a_python_that_the_project_takes() -> None:
    (base,) = (one.text for one in ALL if one.name == "ARG" and one.stage == 0)
    assert (version := re.fullmatch(r"BASE=docker\.io/library/python:3\.(\d+)-slim-\w+(@sha256:\w{64})?", base))
    assert int(version[1]) >= 11


def test_everything_that_is_installed_is_locked() -> None:
    installs = re.findall(r"pip(?: --python \S+)? install ([^&]*)", " && ".join(of("RUN", 1)))
    assert len(installs) == 3
    for arguments in map(shlex.split, installs):
        own = arguments[-1].startswith("/dist/")
        assert ("--no-deps" in arguments) if own else ("--require-hashes" in arguments)
        if not own:
            assert (ROOT / arguments[-1]).is_file()
    assert any("--no-build-isolation" in run for run in of("RUN", 1))


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path of the repository out of the build: the last rule that matches decides."""
    verdict = False
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = rule.removeprefix("!")
        if rule and not rule.startswith("#"):
            parents = [path, *map(str, Path(path).parents)]
            if pattern == "**" or any(fnmatch(parent, pattern.removeprefix("**/")) for parent in parents) or (
                pattern.startswith("**/") and pattern[3:] in Path(path).parts
            ):  # fmt: skip
                verdict = not rule.startswith("!")
    return verdict


def sources() -> list[str]:
    return [source for copy in of("COPY", 1) for source in copy.split()[:-1]]


def test_what_is_copied_exists_and_is_let_through() -> None:
    for source in sources():
        assert (ROOT / source).exists(), source
        assert not ignored(source)
    assert of("COPY") == ["--from=build /opt/ebbtide /opt/ebbtide"]


def test_what_the_wheel_is_made_of_is_copied() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["only-include"], *wheel["force-include"], "pyproject.toml", project["project"]["readme"]}
    assert needed <= set(sources())


@pytest.mark.parametrize("path", [".git/config", ".venv/bin/python", "tests/conftest.py", "agent/__pycache__/run.pyc"])
def test_nothing_else_is_sent_to_the_builder(path: str) -> None:
    assert ignored(path)


def test_it_runs_without_rights_without_a_shell_and_writes_nothing() -> None:
    assert of("USER") == ["65532:65532"]  # a number: Kubernetes cannot tell from a name that it is not root
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(of("ENTRYPOINT")[0]) == ["/opt/ebbtide/bin/ebbtide"]
    assert json.loads(of("CMD")[0]) == ["run", "/etc/ebbtide/agent.toml"]
    assert "PYTHONDONTWRITEBYTECODE=1" in of("ENV")[0].split()
    assert all("compileall" in " ".join(of("RUN", stage)) for stage in (1, LAST))


def test_it_is_labelled_with_the_version_of_the_project() -> None:
    version = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"VERSION={version}" in of("ARG")
    assert 'org.opencontainers.image.version="${VERSION}"' in of("LABEL")[0]
