"""A library that is missing is a mistake of the configuration, said at the start."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from agent.kubernetes.extra import check_kubeconfig, need_kubernetes
from agent.plugin import ConfigError

URL = "kubernetes://a/pod/b:80"


@pytest.mark.parametrize(
    ("missing", "kubeconfig", "url", "words"),
    [
        ("wsproto", None, URL, "cannot open a port-forward into Kubernetes: .*ebbtide\\[kubernetes\\]"),
        ("yaml", "x", "", "cannot read a kubeconfig"),
        ("yaml", None, URL, None),
        ("wsproto", "x", "http://a", None),
        ("", "x", URL, None),
    ],
)
def test_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, missing: str, kubeconfig: str | None, url: str, words: str | None
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    if words is None:
        need_kubernetes(kubeconfig, None, url)
        return
    with pytest.raises(ConfigError, match=words) as caught:
        need_kubernetes(kubeconfig, None, url)
    assert caught.value.option == "url"


CONFIG = """
clusters: [{name: c, cluster: {server: https://127.0.0.1:1}}]
contexts: [{name: here, context: {cluster: c}}]
current-context: here
"""


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        (None, None, "cannot use the kubeconfig: .*missing of `kubeconfig`: No such file"),
        ("a: [", None, "it is not YAML"),
        (CONFIG, "there", "no context is named 'there'; there are here"),
        (CONFIG, None, None),
        (CONFIG, "here", None),
    ],
)
def test_a_kubeconfig_that_is_named_leads_somewhere(
    tmp_path: Path, text: str | None, context: str | None, words: str | None
) -> None:
    file = tmp_path / ("missing" if text is None else "config")
    if text is not None:
        file.write_text(text, encoding="utf-8")
    if words is None:
        check_kubeconfig(str(file), context)
        return
    with pytest.raises(ConfigError, match=words) as caught:
        check_kubeconfig(str(file), context, "discovery")
    assert caught.value.option == "discovery"


def test_without_a_word_of_it_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    check_kubeconfig(None, None)
