"""Kubeconfig files: what they say, how they merge, and every mistake by its sentence."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from agent.http_fault import Fault
from agent.kubernetes.exec_plugin import ExecPlugin
from agent.kubernetes.kubeconfig import read_kubeconfig
from tests.clusters import kubeconfig

HTTPS = {"server": "https://host:6443/"}
PEM = base64.b64encode(b"some pem").decode()


def of(folder: Path, cluster: dict, user: dict, context: str | None = None, **place: str):
    path = folder / "config"
    path.write_text(json.dumps(kubeconfig(cluster, user, **place)))
    return read_kubeconfig([path], context, "`kubeconfig`")


def fault_of(folder: Path, cluster: dict, user: dict, context: str | None = None) -> str:
    with pytest.raises(Fault) as caught:
        of(folder, cluster, user, context)
    assert caught.value.kind == "credentials"
    assert str(caught.value).startswith("cannot ")
    return str(caught.value)


def test_all_of_a_cluster(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("authority")
    cluster = {
        **HTTPS, "certificate-authority": "ca.pem", "tls-server-name": "kubernetes", "proxy-url": "http://p:3128",
    }  # fmt: skip
    access = of(tmp_path, cluster, {"client-certificate-data": PEM, "client-key-data": PEM}, namespace="shop")
    assert (access.server, access.proxy, access.namespace) == ("https://host:6443", "http://p:3128", "shop")
    assert access.tls.server_name == "kubernetes"
    assert Path(access.tls.ca_file).read_text() == "authority"
    assert Path(access.tls.cert_file).read_bytes() == Path(access.tls.key_file).read_bytes() == b"some pem"
    assert not access.outdated()
    (tmp_path / "ca.pem").write_text("another authority")
    assert access.outdated()


def test_data_beats_files_and_the_server_may_have_a_path(tmp_path: Path):
    cluster = {"server": "host/k8s/c-1", "certificate-authority-data": PEM, "certificate-authority": "missing.pem"}
    access = of(tmp_path, cluster, {})
    assert access.server == "https://host/k8s/c-1"
    assert Path(access.tls.ca_file).read_bytes() == b"some pem"
    assert of(tmp_path, {**HTTPS, "insecure-skip-tls-verify": True}, {}).tls.insecure_skip_verify


def test_the_proxy_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://environment:3128")
    assert of(tmp_path, HTTPS, {}).proxy == "http://environment:3128"
    assert of(tmp_path, {**HTTPS, "proxy-url": "http://own:3128"}, {}).proxy == "http://own:3128"
    monkeypatch.setenv("NO_PROXY", "host")
    assert of(tmp_path, HTTPS, {}).proxy is None
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://p")
    assert "cannot use the proxy given by HTTPS_PROXY" in fault_of(tmp_path, HTTPS, {})


@pytest.mark.parametrize(
    ("server", "user", "authorization"),
    [
        ("https://host", {"token": "abc"}, "Bearer abc"),
        ("https://host", {"tokenFile": "token", "token": "abc"}, "Bearer of the file"),
        ("https://host", {"username": "me", "password": "p"}, "Basic " + base64.b64encode(b"me:p").decode()),
        ("https://host", {}, ""),
        ("https://host", {"token": "abc", "exec": {"command": "never run"}}, "Bearer abc"),
        ("http://127.0.0.1:8001", {"token": "abc"}, "Bearer abc"),
        ("http://localhost:8001", {"token": "abc"}, "Bearer abc"),
        ("http://host", {"token": "abc"}, ""),
    ],
)
async def test_users(tmp_path: Path, server, user, authorization):
    (tmp_path / "token").write_text("of the file\n")
    assert (await of(tmp_path, {"server": server}, user).credentials()).authorization == authorization


def test_an_exec_plugin(tmp_path: Path):
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "provideClusterInfo": True}
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    cluster = {**HTTPS, "certificate-authority-data": PEM, "extensions": [extension], "tls-server-name": "n"}
    credentials = of(tmp_path, cluster, {"exec": plugin}).credentials
    assert isinstance(credentials, ExecPlugin)
    assert credentials._options.command == str(tmp_path / "plugin")
    assert credentials._cluster == {
        "server": "https://host:6443", "certificate-authority-data": PEM, "tls-server-name": "n",
        "config": {"audience": "x"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        ({}, {}, "server is missing"),
        ({"server": "ftp://x"}, {}, "server is missing, or is no HTTP URL"),
        ({"server": "https://h:x"}, {}, "server is missing, or is no HTTP URL"),
        ({"server": "https://[::"}, {}, "server is missing, or is no HTTP URL"),
        ({"server": 3}, {}, "server is not a string"),
        ({**HTTPS, "proxy-url": "http://p:0"}, {}, "proxy-url http://p is of a kind that is not supported"),
        (
            {**HTTPS, "proxy-url": "socks5://user:secret@p"},
            {},
            "proxy-url socks5://p is of a kind that is not supported",
        ),
        ({**HTTPS, "certificate-authority": "none.pem"}, {}, "none.pem of cluster 'c': No such file"),
        ({**HTTPS, "certificate-authority-data": "%%"}, {}, "certificate-authority-data is not base64"),
        ({**HTTPS, "insecure-skip-tls-verify": "yes"}, {}, "insecure-skip-tls-verify is neither true nor false"),
        ({**HTTPS, "certificate-authority-data": PEM, "insecure-skip-tls-verify": True}, {}, "keep one of them"),
        (HTTPS, {"client-certificate-data": PEM}, "a client certificate goes with a client key"),
        (HTTPS, {"auth-provider": {"name": "gcp"}}, "auth-provider is not supported"),
        (HTTPS, {"as": "somebody", "token": "t"}, "impersonation"),
        (HTTPS, {"token": "t", "username": "u"}, "it has a token, and a user name beside it"),
        (HTTPS, {"exec": []}, "exec is not a mapping"),
        (HTTPS, {"exec": {"command": "x"}}, "its apiVersion is not supported"),
    ],
)
def test_mistakes(tmp_path: Path, cluster, user, words):
    sentence = fault_of(tmp_path, cluster, user)
    assert words in sentence
    assert "secret" not in sentence


def test_contexts(tmp_path: Path):
    assert "no context is named 'south'; there are north" in fault_of(tmp_path, HTTPS, {}, "south")
    path = tmp_path / "config"
    path.write_text("apiVersion: v1\n")
    with pytest.raises(Fault, match="it has no current context; set `context`"):
        read_kubeconfig([path], None, "KUBECONFIG")
    path.write_text("current-context: x\ncontexts:\n- name: x\n  context: {cluster: gone}\n")
    with pytest.raises(Fault, match="no cluster is named 'gone'; there is none at all"):
        read_kubeconfig([path], None, "KUBECONFIG")


async def test_the_first_file_that_names_one_wins(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("current-context: a\nusers:\n- {name: u, user: {tokenFile: t}}\n")
    two.mkdir()
    (two / "config").write_text(
        "current-context: b\nusers:\n- {name: u, user: {token: two}}\nclusters:\n- {name: c, cluster: {server: 'https://two'}}\n"
        "contexts:\n- {name: a, context: {cluster: c, user: u}}\n- {name: b, context: {cluster: c, user: none}}\n"
    )
    (tmp_path / "t").write_text("one")
    access = read_kubeconfig([one, two / "config"], None, "KUBECONFIG")
    assert access.server == "https://two"
    assert (await access.credentials()).authorization == "Bearer one"
    assert access.told_by == f"context 'a' of {one}, {two / 'config'}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "it is not YAML (line"),
        ("[" * 100_000, "it is not YAML"),
        ("- a", "it is no kubeconfig"),
        ("", "it is no kubeconfig"),
        ("current-context: 3", "it has no current context"),
        ("contexts: 3\ncurrent-context: x", "no context is named 'x'"),
        ("contexts: [3, {name: x}]\ncurrent-context: x", "no cluster is named ''"),
        ("!!python/object:os.system {}", "it is not YAML"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text, words):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(Fault, match="cannot use the kubeconfig") as caught:
        read_kubeconfig([path], None, "`kubeconfig`")
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(Fault, match=r"missing of `kubeconfig`: No such file or directory; check the path"):
        read_kubeconfig([tmp_path / "missing"], None, "`kubeconfig`")
