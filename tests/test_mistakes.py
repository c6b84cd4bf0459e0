"""What an operator is told of mistakes in the built-in components' options: one line each, with place and cure.

The files go through all that ``ebbtide check`` does: loading, and the constructors.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from agent.config import ConfigErrors, load

REST = '\n[exporters.o]\ntype = "stdout"\n[pipelines.m]\nreceivers = ["r"]\nexporters = ["o"]\n'


def told(folder: Path, options: str) -> list[str]:
    """What is said of a receiver with these options, each line without the name of the file."""
    file = folder / "agent.toml"
    file.write_text(f"[receivers.r]\n{options}{REST}", encoding="utf-8")
    try:
        load(file, {}).try_out()
    except ConfigErrors as errors:
        return [problem.removeprefix(f"{file}:") for problem in errors.problems]
    return []


PROXY, QUERY, WRITE = 'type = "proxy"\n', 'type = "query"\nurl = "http://a:1"\n', 'type = "remote_write"\n'
FEDERATE = 'type = "federate"\nurl = "kubernetes://linkerd-viz/service/prometheus:9090"\n'
TARGETS = PROXY + 'targets = ["a:4191"]\n'


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (TARGETS + 'shard = "2/x"', '4: receivers.r.shard: not a shard; write one such as "2/5", or "ordinal/5" in a StatefulSet'),
        (TARGETS + 'shard = "7/5"', "4: receivers.r.shard: there is no shard 7 of 5; count from 0 or from 1, or make more of them"),
        (TARGETS + 'path = "/m?a=b"', "4: receivers.r.path: a path has no query and no fragment; write whole URLs in `targets`"),
        (PROXY, "1: receivers.r.targets: no targets; name some in `targets`, or let them be found by `discovery`"),
        (PROXY + 'targets = ["http://a:99999/m"]',
         "3: receivers.r.targets[0]: 'http://a:99999/m' is no target; write host:port, or http://host:port/metrics"),
        (PROXY + 'targets = ["http://u:geheim@a/"]',
         "3: receivers.r.targets[0]: a target has no user and no fragment; write http://host:port/metrics, and basic_auth"),
        (PROXY + 'discovery = [{ kind = "kubernets" }]',
         '3: receivers.r.discovery[0].kind: expected one of "kubernetes", "file", "dns" or "prometheus"; did you mean "kubernetes"?'),
        (PROXY + 'discovery = [{ files = ["a.json"] }]',
         '3: receivers.r.discovery[0].kind: required, and missing; add kind = "kubernetes" | "file" | "dns" | "prometheus"'),
        (PROXY + '[receivers.r.discovery]\nkind = "kubernetes"',
         "3: receivers.r.discovery: expected a list, not a table; write for instance discovery = [{"),
        (PROXY + '[[receivers.r.discovery]]\nkind = "kubernetes"\nnamespace = ["x"]',
         '5: receivers.r.discovery[0].namespace: unknown option; did you mean "namespaces"?'),
        (PROXY + 'discovery = [{ kind = "dns", names = ["a.b"] }]',
         "3: receivers.r.discovery[0].record: needs a port with record A; add port = 4191, say"),
        (PROXY + 'discovery = [{ kind = "dns", names = ["http://a"], port = 1 }]',
         "3: receivers.r.discovery[0].names[0]: 'http://a' is no domain name; write one such as proxies.mesh.svc.cluster.local"),
        (PROXY + 'discovery = [{ kind = "file", files = ["a.txt"] }]',
         "3: receivers.r.discovery[0].files: 'a.txt' does not end in .json, .yml or .yaml; write one such as targets/*.json"),
        (PROXY + 'discovery = [{ kind = "kubernetes", kubeconfig = "/nowhere/config" }]',
         "3: receivers.r.discovery: cannot use the kubeconfig: /nowhere/config of `kubeconfig`: No such file or directory; check"),
        (FEDERATE + 'kubeconfig = "/nowhere/config"',
         "4: receivers.r.kubeconfig: cannot use the kubeconfig: /nowhere/config of `kubeconfig`: No such file or directory; check"),
        (FEDERATE.replace(":9090", ""), "3: receivers.r.url: not a URL of something in Kubernetes; write kubernetes://"),
        (QUERY + "match = []\nqueries = []",
         "4: receivers.r.match: nothing to read; name selectors here, or expressions in `queries`"),
        (QUERY + 'match = [\n"up",\n""]', "6: receivers.r.match[1]: an empty selector; write one such as '{job=\"linkerd-proxy\"}'"),
        (QUERY + """match = ['{job="x"']""",
         "4: receivers.r.match[0]: not a selector: 1:9: parse error: unexpected end of input inside braces; write one such as"),
        (QUERY + """match = ['{job=~".*"}']""",
         "4: receivers.r.match[0]: not a selector: 1:1: parse error: vector selector must contain at least one non-empty matcher;"),
        (QUERY + """match = ['sum(up)']""",
         '4: receivers.r.match[0]: not a selector: 1:4: parse error: unexpected "(" after the selector: one is expected, not an'),
        (FEDERATE + """match = ['up', '{job="x",']""",
         "4: receivers.r.match[1]: not a selector: 1:10: parse error: unexpected end of input inside braces; write one such as"),
        (FEDERATE + """match = ['{job=~"("}']""",
         "4: receivers.r.match[0]: not a selector: 1:2: parse error: error parsing regexp: missing closing ): `(`; write one such"),
        (FEDERATE + "match = []", "4: receivers.r.match: no selector; write at least one, such as '{job=\"linkerd-proxy\"}'"),
        (FEDERATE + "match = ['']", "4: receivers.r.match[0]: an empty selector; write one such as '{job=\"linkerd-proxy\"}'"),
        (QUERY + 'queries = [{ name = "a", query = "" }]', "4: receivers.r.queries[0].query: must not be empty; write some text"),
        (QUERY + 'queries = [{ name = "a", query = " \\n" }]', "4: receivers.r.queries[0].query: must not be empty; write some text"),
        (QUERY + f'queries = [{{ name = "{"a" * 300}", query = "up" }}]',
         "4: receivers.r.queries[0].name: too long; write at most 255 characters"),
        (QUERY + 'chunk = "0s"', '4: receivers.r.chunk: must be more than zero; write one such as "10s"'),
        (WRITE + 'listen = "9201"', '3: receivers.r.listen: not an address; write one such as "127.0.0.1:9201" or "[::1]:9201"'),
        (WRITE + 'listen = ""', '3: receivers.r.listen: not an address; write one such as "127.0.0.1:9201" or "[::1]:9201"'),
        (WRITE + 'path = "api"', "3: receivers.r.path: not a path; write one such as /api/v1/write"),
        (WRITE + 'tls = { key_file = "/nowhere/key.pem" }', "3: receivers.r.tls.key_file: key_file is set without cert_file; set both"),
        (WRITE + 'tls = { cert_file = "/nowhere/cert.pem" }',
         "3: receivers.r.tls: cannot load the certificates to listen with: No such file or directory (/nowhere/cert.pem); expected"),
        (WRITE + 'bearer_token_file = "/nowhere/token"',
         "3: receivers.r.bearer_token_file: cannot read `bearer_token_file` /nowhere/token: No such file or directory; check that"),
        (WRITE + 'basic_auth = { username = "u", password_file = "/nowhere/password" }',
         "3: receivers.r.basic_auth: cannot read `password_file` /nowhere/password: No such file or directory; check that"),
        (WRITE + 'bearer_token = "geheim"\nbasic_auth = { username = "u", password = "geheim" }',
         "4: receivers.r.basic_auth: bearer_token and basic_auth are both set; keep one of them"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(tmp_path: Path, options: str, line: str) -> None:
    (said,) = told(tmp_path, options)
    assert said.startswith(line)
    assert "; " in said
    assert "geheim" not in said


@pytest.mark.parametrize(
    ("library", "options", "extra"),
    [
        ("dns", PROXY + 'discovery = [{ kind = "dns", names = ["a.b"], port = 1 }]', "dns"),
        ("yaml", PROXY + 'discovery = [{ kind = "file", files = ["a.yml"] }]', "yaml"),
        ("yaml", PROXY + 'discovery = [{ kind = "kubernetes", kubeconfig = "KUBECONFIG" }]', "kubernetes"),
        ("wsproto", FEDERATE, "kubernetes"),
    ],
)
def test_a_missing_extra_is_told_with_the_words_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, options: str, extra: str
) -> None:
    (tmp_path / "kubeconfig").touch()
    for name in [one for one in sys.modules if one.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    (said,) = told(tmp_path, options.replace("KUBECONFIG", str(tmp_path / "kubeconfig")))
    assert re.match(r"3: receivers\.r\.(discovery|url): cannot ", said)
    assert f"ebbtide[{extra}]" in said


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = told(tmp_path, TARGETS + 'shard = "x"\non_bad_line = "keep"\nfallback_format = "html"')
    assert [line.partition(":")[0] for line in lines] == ["4", "5", "6"]


def test_what_is_right_is_silent(tmp_path: Path) -> None:
    assert told(tmp_path, TARGETS + 'shard = "5/5"\nlabels = { cluster = "north" }') == []
    assert told(tmp_path, WRITE + 'listen = ":9201"') == []
    assert told(tmp_path, QUERY + 'queries = [{ name = "a", query = "up" }]') == []
    assert told(tmp_path, QUERY + """match = ['{"a.b", c!~"d"}', 'up # all']""") == []
    assert told(tmp_path, FEDERATE + """match = ['{}', 'up{__name__="x"}']""") == []
