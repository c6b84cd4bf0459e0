"""A library that is missing is a mistake of the configuration, said at the start."""

from __future__ import annotations

import importlib.util

import pytest

from agent.kubernetes.extra import need_kubernetes
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
def test_what_is_needed(monkeypatch: pytest.MonkeyPatch, missing, kubeconfig, url, words):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    if words is None:
        need_kubernetes(kubeconfig, None, url)
        return
    with pytest.raises(ConfigError, match=words) as caught:
        need_kubernetes(kubeconfig, None, url)
    assert caught.value.option == "url"
