"""How the commands of the documents are tried: a scratch folder, the demo mesh, and a word on each tool.

Strategy. A line is taken apart as a shell would (`|`, `&&`, `;`, `>`, quotes). Where each of its commands is one of
``RUN`` it is really run, as it stands. Any other command must be one of ``CHECKED``, which says why it cannot be run here
and what is looked at instead: files that it names are there, subcommands and flags are known. All else fails.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tomli

from agent.admin import Admin
from agent.cli import _parser
from agent.ledger import Ledger
from tests.documents import ROOT

SECONDS = 60
READ = ("agent.toml", "docs", "deploy", "pyproject.toml")  # what is copied, so that commands may write beside it

# Commands that are run as they stand, in the scratch folder.
RUN = {
    "ebbtide", "jq", "head", "tail", "grep", "wc", "sort", "uniq", "cut", "cat", "ls", "less", "zcat", "gzip", "tee", "echo",
    "printf", "cp", "mv", "mkdir", "diff", "cd", "export", "true", "python", "sed",
}  # fmt: skip

# Subcommands that the documents may use of tools that need what is not there.
SUBCOMMANDS: dict[str, set[str]] = {
    "kubectl": {"apply", "get", "logs", "describe", "create", "delete", "rollout", "port-forward", "exec", "label",
                "annotate", "kustomize", "diff", "set", "scale", "wait", "auth", "patch", "edit", "run", "config"},
    "systemctl": {"daemon-reload", "enable", "disable", "start", "stop", "restart", "reload", "status", "edit", "show",
                  "cat", "is-active"},
    "systemd-analyze": {"verify", "security", "cat-config"},
    "systemd-creds": {"encrypt", "decrypt", "list"},
    "podman": {"build", "run", "push", "pull", "logs", "stop", "rm", "tag", "kill", "save", "load", "image", "volume"},
    "docker": {"build", "run", "push", "pull", "logs", "stop", "rm", "tag", "kill", "save", "load", "image", "volume"},
    "linkerd": {"check", "viz", "inject", "diagnostics", "install", "version", "identity"},
    "git": {"clone", "checkout", "pull", "fetch"},
    "helm": {"install", "upgrade", "template", "repo", "rollback", "uninstall"},
}  # fmt: skip

# Flags that the documents may use of the tools that speak to Kafka's brokers.
FLAGS: dict[str, set[str]] = {
    "kafka-topics.sh": {"--bootstrap-server", "--create", "--describe", "--topic", "--partitions", "--replication-factor",
                        "--config"},
    "kafka-acls.sh": {"--bootstrap-server", "--add", "--allow-principal", "--operation", "--topic"},
    "kafka-console-consumer.sh": {"--bootstrap-server", "--topic", "--from-beginning", "--max-messages", "--property"},
    "kafka-consumer-groups.sh": {"--bootstrap-server", "--describe", "--group"},
    "kcat": {"-b", "-t", "-C", "-e", "-q", "-f", "-c", "-o", "-p"},
}  # fmt: skip

_STARTS = ("run", "demo")  # commands of ebbtide that do not end by themselves
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


class Shell:
    """A scratch copy of what the commands read, in which the blocks of one page are tried in order."""

    def __init__(self, folder: Path, prometheus: str, kubeconfig: str = ""):
        self.folder = folder
        self.here = folder
        self.prometheus = prometheus
        self.environment = {**os.environ, "LINKERD_PROMETHEUS_URL": prometheus, "NO_COLOR": "1"}
        self.environment["KUBECONFIG"] = kubeconfig or str(folder / "no-kubeconfig")
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        for name in READ:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)

    def run(self, line: str) -> str:
        """Try one line and return what it wrote, where it was run; fails for one that is not known."""
        if re.fullmatch(r"export \w+=.*", line):
            return self._export(line)
        commands = [without_assignments(command) for command in simple_commands(line)]
        if not commands:
            return ""
        endless = [
            command for command in commands if command[0] == "ebbtide" and command[1:2] and command[1] in _STARTS
        ]
        if not endless and all(command[0] in RUN and self._local(command) for command in commands):
            return self._really(line)
        for command in commands:
            self._check(command)
        return ""

    # -- run -----------------------------------------------------------------------------------------------------

    def _export(self, line: str) -> str:
        """Keep it for the lines that follow; but Prometheus is the demo's, and so is the cluster of ``kubernetes://``."""
        (assignment,) = shlex.split(line)[1:]
        name, _, value = assignment.partition("=")
        if name == "LINKERD_PROMETHEUS_URL" and not value.startswith("kubernetes://"):
            value = self.prometheus
        self.environment[name] = value
        return ""

    def _local(self, command: list[str]) -> bool:
        """Whether it stays in the scratch folder; tools that are not installed are not run."""
        outside = [
            word for word in command[1:] if word.startswith(("/", "~")) and command[0] in ("cp", "mv", "mkdir", "tee")
        ]
        return not outside and (command[0] in ("ebbtide", "cd", "export") or shutil.which(command[0]) is not None)

    def _really(self, line: str) -> str:
        line = re.sub(r"\bLINKERD_PROMETHEUS_URL=\S+", f"LINKERD_PROMETHEUS_URL={self.prometheus}", line)
        shell = ["bash", "-o", "pipefail", "-c"] if shutil.which("bash") else ["sh", "-c"]
        done = subprocess.run(
            [*shell, line.replace("ebbtide ", f"{shlex.quote(sys.executable)} -m ebbtide ", 1)],
            cwd=self.here, env=self.environment, capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: exit status {done.returncode}\n{done.stderr}"
        if line.startswith("cd "):
            self.here = (self.here / shlex.split(line)[1]).resolve()
        return done.stdout

    # -- checked -------------------------------------------------------------------------------------------------

    def _check(self, command: list[str]) -> None:
        if command[0] in RUN and command[0] not in CHECKED:
            self.files(command[1:])
            return
        check = CHECKED.get(command[0])
        if check is None:
            pytest.fail(f"tests/shell.py does not know how to try: {shlex.join(command)}")
        check(self, command)

    def ebbtide(self, words: list[str]) -> None:
        """``run`` and ``demo`` do not end: their flags are parsed, and their file is checked."""
        options = parsed(words[1:])
        if words[1] in _STARTS and not any(word.startswith("-") and word != "--no-agent" for word in words[2:]):
            file = getattr(options, "file", None)
            self._really(shlex.join(["ebbtide", "check", *([str(file)] if file else [])]))

    def make(self, words: list[str]) -> None:
        """Let make say what it would do: the target is there, and all that it needs."""
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True, timeout=SECONDS)

    def curl(self, words: list[str]) -> None:
        """The path is one that the admin port answers, or Prometheus."""
        (url,) = (urlsplit(word) for word in words if word.startswith("http"))
        known = Admin(Ledger(), lambda: True, str)._answers if url.port == 9464 else ("/federate", "/api/v1/query")
        assert url.path in known, f"nobody answers {url.path}"

    def pip(self, words: list[str]) -> None:
        """What it installs is a folder with a project, or this project with extras that there are."""
        assert words[1] == "install", words
        project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for word in words[2:]:
            path, _, extras = word.partition("[")
            assert path in ("-e", "--upgrade", "ebbtide") or (self.here / path / "pyproject.toml").is_file(), word
            assert {extra for extra in extras.strip("]").split(",") if extra} <= set(project["optional-dependencies"])

    def python(self, words: list[str]) -> None:
        """The module or file is there."""
        if words[1:3] == ["-m", "venv"]:
            return
        assert words[1] != "-m" or words[2] in ("ebbtide", "pytest", "agent.reference", "bench", "pip"), words
        self.files(words[1:])

    def elsewhere(self, words: list[str]) -> None:
        """A cluster, an installed unit, a builder of images: the subcommand is known, and the files that it names are there."""
        given = [word for word in words[1:] if not word.startswith("-")]
        known = SUBCOMMANDS.get(words[0])
        assert known is None or known & set(given), f"unknown subcommand: {shlex.join(words)}"
        self.files(words[1:])
        if "--" in words and "ebbtide" in words[words.index("--") :]:
            parsed(words[words.index("ebbtide") + 1 :])

    def brokers(self, words: list[str]) -> None:
        """There are none here: the flags are known."""
        assert {word for word in words[1:] if word.startswith("-")} <= FLAGS[words[0]], shlex.join(words)

    def files(self, words: list[str]) -> None:
        """Every word that names a file of the repository names one that is there."""
        before = ""
        for word in words:
            path = word.partition("=")[2] if word.startswith("--") and "=" in word else word
            path = path.rpartition("=")[2] if path.startswith("--from-file") else path
            ours = path.split("/")[0] in ("deploy", "docs", "bench", "tests") or (
                path.endswith(".toml") and "/" not in path
            )
            flagged = before in ("-f", "-k", "--filename", "--kustomize") and path != "-" and "://" not in path
            if (ours or flagged) and not path.startswith(("/", "-")):
                assert (self.here / path).exists() or (ROOT / path).exists(), f"{path} is not there"
            before = word

    def nothing(self, words: list[str]) -> None:
        """What only prepares the shell."""


CHECKED: dict[str, Callable[[Shell, list[str]], None]] = {
    "ebbtide": Shell.ebbtide,
    "make": Shell.make,
    "curl": Shell.curl,
    "pip": Shell.pip,
    "python": Shell.python,
    "python3": Shell.python,
    "pytest": lambda shell, words: shell.files(words[1:]),
    ".": Shell.nothing,
    "kill": Shell.nothing,
    "pgrep": Shell.nothing,
    "journalctl": Shell.nothing,
    "sudo": lambda shell, words: shell._check(words[1:]),
    **dict.fromkeys(("install", "useradd", "chown", "chmod", "rm", "ln", "cosign"), Shell.elsewhere),
    **dict.fromkeys(SUBCOMMANDS, Shell.elsewhere),
    **dict.fromkeys(FLAGS, Shell.brokers),
}


def lines(text: str) -> list[str]:
    """The lines of a block: those that go on behind a backslash are one, comments and blank ones are none."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def simple_commands(line: str) -> list[list[str]]:
    """Take a line apart at its operators; what is behind ``>`` and ``<`` are files, not commands."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    skip = False
    for token in lexer:
        if skip:
            skip = False
        elif token in (">", ">>", "<"):
            skip = True
        elif token in ("|", "||", "&&", ";", "&"):
            commands.append([])
        else:
            commands[-1].append(token)
    return [command for command in commands if command]


def without_assignments(words: list[str]) -> list[str]:
    """Leave out the assignments before a command."""
    while len(words) > 1 and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    return words


def parsed(words: list[str]) -> object:
    """Parse a command line of ebbtide; fails for one that the program would refuse."""
    parser: ArgumentParser = _parser()
    try:
        return parser.parse_args(words)
    except SystemExit:
        return pytest.fail(f"ebbtide does not understand: {shlex.join(words)}")
