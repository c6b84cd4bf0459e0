import io
import json
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from agent import cli
from agent.config import ConfigErrors
from agent.plugin import ConfigError

GOOD = """\
[receivers.a]
type = "poll"
url = "http://u:hunter2@host/${PART:-x}"
headers = { Authorization = "hunter2" }
basic_auth = { username = "me", password = "${HUNTER:-hunter2}" }
match = ['{job="a"}']
[processors.p]
type = "pass"
[exporters.e]
type = "print"
password = "hunter2"
queue.max_bytes = "1MiB"
[exporters.idle]
type = "print"
[pipelines.m]
receivers = ["a"]
processors = ["p"]
exporters = ["e"]
[pipelines.n]
receivers = ["a"]
exporters = ["e"]
"""

Capture = pytest.CaptureFixture[str]
Main = Callable[..., int]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The good file, in a folder of its own which is the present one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "agent.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def quiet_log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Leave the logging of the test runner alone; the list tells how it was set up."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("agent.log.setup", lambda *args: calls.append(args))
    return calls


def module(monkeypatch: pytest.MonkeyPatch, name: str, **names: object) -> None:
    """Stand in for a module that would start something."""
    fake = types.ModuleType(name)
    vars(fake).update(names)
    monkeypatch.setitem(sys.modules, name, fake)
    package, _, leaf = name.rpartition(".")
    monkeypatch.setattr(sys.modules[package], leaf, fake, raising=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from agent.cli import main; status = main(['--help'])\n"
        "heavy = {'numpy', 'trio', 'grpc', 'opentelemetry', 'pydantic', 'httpx', 'tomli'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("run", "check", "once", "components", "docs", "schema", "demo"):
        assert f"\n    {command}" in done.stdout


def test_version(capsys: Capture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ebbtide {version('ebbtide')}\n"


def test_python_m_ebbtide_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ebbtide", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"ebbtide {version('ebbtide')}\n")


@pytest.mark.parametrize(
    "argv",
    [
        [], ["fly"], ["run", "a", "b"], ["run", "--ledger", "x"], ["docs"], ["check", "--wat"], ["demo", "--proxies", "0"], ["record"], ["preview", "--pairs", "-1"],
        ["demo", "--port", "70000"], ["demo", "--port", "-1"], ["demo", "--history", "six hours"], ["demo", "--routes", "x"],
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_2(argv: list[str], capsys: Capture) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: ebbtide" in err


@pytest.mark.usefixtures("plugins")
def test_check_prints_what_would_run_without_secrets(file: Path, capsys: Capture) -> None:
    assert cli.main(["check", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == (
        'receivers.a: poll url="http://***@host/${PART:-x}" headers={ Authorization = "***" } '
        'basic_auth={ username = "me", password = "***" } match=[\'{job="a"}\']\n'
        "processors.p: pass\n"
        'exporters.e: print password="***" queue={ max_bytes = "1MiB" }\n'
        "pipelines.m: a -> p -> e\n"
        "pipelines.n: a -> e\n"
    )
    assert err == (
        f"warning: {file}:13: exporters.idle: no pipeline uses this exporter, so it will not run; "
        "name it in one, or remove it\n"
    )


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("command", ["check", "run", "once"])
def test_mistakes_are_78(command: str, file: Path, capsys: Capture) -> None:
    file.write_text('[receivers.a]\ntype = "pol"\nurl = "hunter2"\n')
    assert cli.main([command]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "agent.toml:1: pipelines: no pipeline is declared; add [pipelines.ID] with its receivers and exporters\n"
        'agent.toml:2: receivers.a.type: unknown type of receiver; did you mean "poll"? All of them: ebbtide components\n'
    )


def test_no_file_is_78(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "DEFAULT_FILES", (Path("agent.toml"), tmp_path / "etc" / "agent.toml"))
    assert cli.main(["check"]) == 78
    assert capsys.readouterr().err.startswith("cannot find a pipeline file: there is neither of agent.toml and ")
    assert cli.main(["check", "none.toml"]) == 78
    assert capsys.readouterr().err.startswith("none.toml: cannot read the file: No such file or directory")


@pytest.mark.usefixtures("plugins")
def test_the_second_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "etc" / "agent.toml").write_text(GOOD)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(cli, "DEFAULT_FILES", (Path("agent.toml"), tmp_path / "etc" / "agent.toml"))
    assert cli.main(["check"]) == 0


@pytest.mark.usefixtures("plugins", "file")
@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["run"], {"once": False, "ledger_path": None}),
        (["once"], {"once": True, "ledger_path": None}),
        (["once", "agent.toml", "--ledger", "l.json"], {"once": True, "ledger_path": Path("l.json")}),
    ],
)
def test_run_and_once(
    argv: list[str], expected: dict[str, Any], quiet_log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    module(monkeypatch, "agent.run", run=lambda config, **more: calls.append((config.path, more)) or 1)
    assert cli.main(argv) == 1
    assert calls == [(Path("agent.toml"), expected)]
    assert quiet_log == [("info", "text")]


@pytest.mark.usefixtures("plugins", "file", "quiet_log")
@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ConfigError("cannot do both"), 78, "cannot do both\n"),
        (ConfigErrors(["x:1: y"]), 78, "x:1: y\n"),
        (KeyboardInterrupt(), 0, ""),
    ],
)
def test_what_starting_may_raise(
    error: BaseException, status: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def run(config: object, **more: object) -> int:
        raise error

    module(monkeypatch, "agent.run", run=run)
    assert cli.main(["run"]) == status
    assert capsys.readouterr().err == text


@pytest.mark.usefixtures("quiet_log")
def test_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    module(
        monkeypatch, "agent.demo", DemoOptions=types.SimpleNamespace, main=lambda options: calls.append(options) or 0
    )
    calls: list[types.SimpleNamespace] = []
    assert cli.main(["demo"]) == 0
    assert cli.main(["demo", "--proxies=3", "--routes=0", "--port=9", "--history=1h30m", "--no-agent", "f.toml"]) == 0
    assert (calls[0].history, calls[0].port, calls[0].no_agent, calls[0].file) == (21600.0, 0, False, None)
    assert calls[1] == types.SimpleNamespace(
        proxies=3, routes=0, port=9, history=5400.0, no_agent=True, file=Path("f.toml")
    )


@pytest.mark.usefixtures("plugins", "file")
@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["preview"], (None, None, 3, False)),
        (
            ["preview", "agent.toml", "--page", "p", "--receiver", "a", "--pairs", "0", "--json"],
            (Path("p"), "a", 0, True),
        ),
    ],
)
def test_preview(argv: list[str], expected: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    module(
        monkeypatch,
        "agent.preview",
        PreviewOptions=lambda *options: options,
        preview=lambda config, options: calls.append((config.path, options)) or 1,
    )
    assert cli.main(argv) == 1
    assert calls == [(Path("agent.toml"), expected)]


@pytest.mark.usefixtures("plugins", "file")
def test_record(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    module(monkeypatch, "agent.preview", record=lambda *args, **more: calls.append((*args[1:], more)) or 1)
    assert cli.main(["record", "--page", "p"]) == 1
    assert cli.main(["record", "agent.toml", "--page", "p", "--receiver", "a", "--force"]) == 1
    assert calls == [(Path("p"), None, {"force": False}), (Path("p"), "a", {"force": True})]


def test_components(plugins: Callable[..., None], capsys: Capture) -> None:
    plugins("exporters", "gone", "no_such_module_anywhere:X", "theirs")
    assert cli.main(["components"]) == 0
    assert capsys.readouterr().out == (
        "receivers:\n  poll   ebbtide 1.0  Polls a thing.\n"
        "processors:\n  pass   ebbtide 1.0  Passes everything.\n"
        "exporters:\n  gone   theirs 1.0  cannot find no_such_module_anywhere of theirs 1.0; reinstall it\n"
        "  print  ebbtide 1.0  Prints points.\n"
    )


def test_docs(plugins: Callable[..., None], capsys: Capture) -> None:
    from agent.discover import plugins as registered

    plugins("processors", "print", registered()["processors"]["pass"].load())
    assert cli.main(["docs", "print"]) == 0
    out = capsys.readouterr().out
    assert "print · processor · ebbtide 1.0\nPasses everything.\n\n  no options\n" in out
    assert "\nprint · exporter · ebbtide 1.0\n" in out
    assert '\n  queue.max_age  duration, default "24h"\n' in out
    assert cli.main(["docs", "agent"]) == 0
    assert "\n  admin  string, default" in capsys.readouterr().out


@pytest.mark.usefixtures("plugins")
def test_docs_of_nothing_is_2(capsys: Capture) -> None:
    assert cli.main(["docs", "prnt"]) == 2
    assert 'did you mean "print"?' in capsys.readouterr().err


def test_docs_of_what_cannot_be_loaded_is_78(plugins: Callable[..., None], capsys: Capture) -> None:
    plugins("exporters", "gone", "no_such_module_anywhere:X")
    assert cli.main(["docs", "gone"]) == 78
    assert "reinstall it" in capsys.readouterr().err


def test_schema_leaves_out_what_cannot_be_loaded(plugins: Callable[..., None], capsys: Capture) -> None:
    plugins("exporters", "gone", "no_such_module_anywhere:X")
    assert cli.main(["schema"]) == 0
    out, err = capsys.readouterr()
    assert {"receivers.poll", "processors.pass", "exporters.print"} <= set(json.loads(out)["$defs"])
    assert "exporters.gone" not in json.loads(out)["$defs"]
    assert err.startswith("left out: exporters.gone: cannot find no_such_module_anywhere")


@pytest.mark.parametrize("buffered", [[], ["-u"]])
@pytest.mark.parametrize("argv", [["--version"], ["docs", "agent"], ["--help"]])
def test_a_closed_stdout_ends_quietly(argv: list[str], buffered: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, *buffered, "-m", "agent.cli", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        said = process.stderr.read()
    assert (process.wait(), said) == (0, "")


def test_stdout_is_flushed_before_the_status_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        flushed = False

        def flush(self) -> None:
            self.flushed = True

    monkeypatch.setattr(sys, "stdout", stream := Full())
    assert cli.main(["--version"]) == 0
    assert stream.flushed


@pytest.mark.usefixtures("plugins", "file", "quiet_log")
@pytest.mark.parametrize("command", ["check", "run", "once"])
def test_what_a_constructor_refuses_has_its_place(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from agent.discover import plugins as registered

    def refuse(self: object, *args: object) -> None:
        raise ConfigError("cannot be had; take another", "password")

    cls = registered()["exporters"]["print"].load()
    monkeypatch.setattr(cls, "__init__", refuse)
    module(monkeypatch, "agent.run", run=lambda config, **more: cls())
    assert cli.main([command]) == 78
    assert capsys.readouterr().err == (
        "agent.toml:11: exporters.e.password: cannot be had; take another\n"
        "agent.toml:13: exporters.idle.password: cannot be had; take another\n"
    )
