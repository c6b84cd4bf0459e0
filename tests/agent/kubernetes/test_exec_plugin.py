"""Exec plugins: run once, run again when they must, and every way in which they fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import trio

from agent.http_fault import Fault
from agent.kubernetes import exec_plugin
from agent.kubernetes.exec_plugin import ExecPlugin, read_exec

VERSION = "client.authentication.k8s.io/v1"
PLUGIN = """\
import json, os, sys
with open({runs!r}, "a") as file:
    file.write(os.environ["KUBERNETES_EXEC_INFO"] + os.environ.get("EXTRA", "") + sys.argv[-1] + "\\n")
{body}
"""


def given(**status: str) -> str:
    return f"print({json.dumps({'apiVersion': VERSION, 'kind': 'ExecCredential', 'status': status})!r})"


class Fixture:
    """A plugin in a folder: what it does, how often it ran, what time it is."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.now = 1_000_000.0

    def plugin(self, body: str, **more: object) -> ExecPlugin:
        path = self.folder / "plugin.py"
        path.write_text(PLUGIN.format(runs=str(self.folder / "runs"), body=body))
        table = {"apiVersion": VERSION, "command": sys.executable, "args": [str(path), "last"], **more}
        return ExecPlugin(read_exec(table, self.folder, 'user "u"'), {"server": "https://c"}, lambda: self.now)

    @property
    def runs(self) -> list[str]:
        path = self.folder / "runs"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def fixture(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


async def test_a_token_is_asked_for_once(fixture: Fixture):
    plugin = fixture.plugin(given(token="abc"), env=[{"name": "EXTRA", "value": "more"}])
    assert [(await plugin()).authorization for _ in range(3)] == ["Bearer abc"] * 3
    info = {"apiVersion": VERSION, "kind": "ExecCredential", "spec": {"interactive": False}}
    assert fixture.runs == [json.dumps(info) + "morelast"]
    assert plugin.refused()
    await plugin()
    assert len(fixture.runs) == 2


async def test_what_expires_is_asked_for_again(fixture: Fixture):
    plugin = fixture.plugin(given(token="abc", expirationTimestamp="1970-01-12T13:46:50Z"))
    await plugin()
    fixture.now += 9
    await plugin()
    assert len(fixture.runs) == 1
    fixture.now += 1
    await plugin()
    assert len(fixture.runs) == 2


async def test_a_certificate_and_the_cluster(fixture: Fixture):
    plugin = fixture.plugin(given(clientCertificateData="cert", clientKeyData="key"), provideClusterInfo=True)
    shown = await plugin()
    assert shown.authorization == ""
    assert await trio.Path(shown.certificate.path).read_text() == "cert\nkey\n"
    assert '"cluster": {"server": "https://c"}' in fixture.runs[0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit('no: go away')", "it ended with status 1 and said: no: go away"),
        ("print('{')", "its output is no ExecCredential; run it by hand"),
        ("print('[]')", "its output is no ExecCredential"),
        ('print(\'{"status": 3, "kind": 1, "apiVersion": 1}\')', "its output is no ExecCredential"),
        (given(), "it gave neither a token nor a certificate"),
        (given(clientCertificateData="secret"), f"its output is no ExecCredential of {VERSION}"),
        (given(token=3), f"its output is no ExecCredential of {VERSION}"),
        (given(token="secret", expirationTimestamp="tomorrow"), "its expirationTimestamp is not one of RFC 3339"),
        (given(token="secret").replace("/v1", "/v2"), "correct apiVersion"),
    ],
)
async def test_plugins_that_fail(fixture: Fixture, body, words):
    with pytest.raises(Fault) as caught:
        await fixture.plugin(body)()
    sentence = str(caught.value)
    assert sentence.startswith(f'cannot get credentials by the exec plugin of user "u": {sys.executable}: ')
    assert words in sentence
    assert "secret" not in sentence


async def test_a_plugin_that_is_not_there(fixture: Fixture):
    with pytest.raises(Fault, match="No such file or directory; install it, or name its path"):
        await fixture.plugin("", command="./missing")()
    with pytest.raises(Fault, match="No such file or directory; apt install it"):
        await fixture.plugin("", command="./missing", installHint="apt install it")()


async def test_a_plugin_that_takes_too_long(fixture: Fixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exec_plugin, "TIMEOUT", 0.2)
    with pytest.raises(Fault, match="it took more than 200ms"):
        await fixture.plugin("import time; time.sleep(60)")()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"command": ""}, "it names no command"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "its apiVersion is not supported"),
        ({"interactiveMode": "Always"}, "it must be run at a terminal"),
        ({"args": "x"}, "its args are not a list of strings"),
        ({"env": [{"name": "x"}]}, "its env is not a list of names and values"),
    ],
)
def test_mistakes(tmp_path: Path, table, words):
    with pytest.raises(Fault, match="cannot get credentials by the exec plugin of me: ") as caught:
        read_exec({"command": "x", "apiVersion": VERSION, **table}, tmp_path, "me")
    assert words in str(caught.value)


def test_a_bare_command_is_looked_for_in_the_path(tmp_path: Path):
    options = read_exec({"command": "aws", "apiVersion": VERSION, "args": None, "env": None}, tmp_path, "me")
    assert (options.command, options.args, options.env) == ("aws", (), {})
