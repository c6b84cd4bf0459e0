"""Prometheus' configurations, good and bad, said in our settings: what it refuses is refused here for the same mistake.

Strategy. Rules for relabelling have the same options there and here, so they are translated as they stand. Every other
case has its translation in a table: a file of ours with the same mistake, and the place that must be blamed for it, so
that nothing passes by being wrong in another way. Cases about what is not here are listed with the reason.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from agent.config import ConfigErrors, load
from agent.demo.cluster_objects import kubeconfig
from tests.conformance import vectors
from tests.conformance.configurations_absent import absent
from tests.conformance.text import Cases

_ENVIRONMENT = {"TEST": "value"}
_KUBECONFIG = "KUBECONFIG"
"""Stands in the table for the path of a kubeconfig that can be read."""

_WITHOUT_RECEIVER = '[exporters.x]\ntype = "stdout"\n[pipelines.p]\nreceivers = ["r"]\nexporters = ["x"]\n'
_WITHOUT_EXPORTER = """\
[receivers.r]
type = "federate"
url = "http://a"
[pipelines.p]
receivers = ["r"]
exporters = ["x"]
"""


class Ours(NamedTuple):
    """A file of ours, and the beginning of what must be said of it behind the line: the place and, where that is none, the mistake."""

    text: str
    blamed: str = ""


def _receiver(type_: str, options: str, blamed: str = "") -> Ours:
    return Ours(f'{_WITHOUT_RECEIVER}[receivers.r]\ntype = "{type_}"\n{options}', f"receivers.r.{blamed}")


def _proxy(options: str, blamed: str = "") -> Ours:
    return _receiver("proxy", f'targets = ["localhost:8080"]\n{options}', blamed)


def _discovery(kind: str, options: str, blamed: str = "") -> Ours:
    text = f'[[receivers.r.discovery]]\nkind = "{kind}"\n{options}'
    return _receiver("proxy", text, f"discovery[0].{blamed}")


def _exporter(options: str, blamed: str = "") -> Ours:
    return Ours(f'{_WITHOUT_EXPORTER}[exporters.x]\ntype = "otlp"\n{options}', f"exporters.x.{blamed}")


def _resource(attributes: str, blamed: str = "") -> Ours:
    text = f'{_WITHOUT_EXPORTER}processors = ["q"]\n[exporters.x]\ntype = "stdout"\n[processors.q]\ntype = "resource"\n'
    return Ours(f"{text}attributes = {attributes}", blamed)


_TWICE = "not valid TOML: "
_NOT_UTF8 = "cannot read the file: it is not UTF-8 text"

BAD: Mapping[str, Ours] = {
    "jobname.bad.yml": _proxy('labels = {job = ""}', "labels"),
    "jobname_dup.bad.yml": Ours(_proxy("").text + '[receivers.r]\ntype = "proxy"', _TWICE),
    "scrape_interval.bad.yml": _proxy('interval = "5s"\ntimeout = "6s"', "timeout"),
    "labelname.bad.yml": _resource('{"\udcff" = "value"}', _NOT_UTF8),
    "labelvalue.bad.yml": _resource('{name = "\udcff"}', _NOT_UTF8),
    "labelmap.bad.yml": Ours(_proxy('relabel = [{action = "labelmap", replacement = "\udcff$1"}]').text, _NOT_UTF8),
    "unknown_attr.bad.yml": _discovery("consul", 'server = "localhost:1234"', "kind"),
    "unknown_global_attr.bad.yml": Ours(_proxy("").text + '[agent]\nnonexistent_field = "test"', "agent.nonexistent_field"),
    "bearertoken.bad.yml": _proxy('bearer_token = "1234"\nbearer_token_file = "somefile"', "bearer_token_file"),
    "bearertoken_basicauth.bad.yml": _proxy(
        'bearer_token = "1234"\nbasic_auth = {username = "user", password = "password"}', "basic_auth"
    ),
    "kubernetes_http_config_without_api_server.bad.yml": _discovery("kubernetes", 'bearer_token = "1234"', "bearer_token"),
    "kubernetes_kubeconfig_with_own_namespace.bad.yml": _discovery(
        "kubernetes", f'kubeconfig = "{_KUBECONFIG}"\nown_namespace = true', "own_namespace"
    ),
    "kubernetes_kubeconfig_with_apiserver.bad.yml": _discovery(
        "prometheus", f'url = "https://localhost:1234"\nkubeconfig = "{_KUBECONFIG}"', "kubeconfig"
    ),
    "kubernetes_kubeconfig_with_http_config.bad.yml": _discovery(
        "kubernetes",
        f'kubeconfig = "{_KUBECONFIG}"\nbasic_auth = {{username = "user", password = "password"}}',
        "basic_auth",
    ),
    "kubernetes_role.bad.yml": _discovery("kubernetes", 'role = "vacation"', "role"),
    "kubernetes_selectors_pod.bad.yml": _discovery("kubernetes", 'service_selector = "baz=que"', "service_selector"),
    "kubernetes_namespace_discovery.bad.yml": _discovery("kubernetes", 'namespaces = {foo = "bar"}', "namespaces"),
    "kubernetes_selectors_duplicated_role.bad.yml": Ours(
        _discovery("kubernetes", 'label_selector = "foo=bar"\nlabel_selector = "foo=bar"').text, _TWICE
    ),
    "kubernetes_selectors_incorrect_selector.bad.yml": _discovery(
        "kubernetes", 'label_selector = "metadata.status Running"', "label_selector"
    ),
    "url_in_targetgroup.bad.yml": _receiver("proxy", 'targets = ["http://bad"]', "targets"),
    "section_key_dup.bad.yml": Ours('[receivers]\nr = {type = "proxy"}\n[receivers]\n', _TWICE),
    "empty_scrape_config.bad.yml": Ours(f"{_WITHOUT_RECEIVER}[receivers.r]\n", "receivers.r.type"),
    "empty_rw_config.bad.yml": Ours(f"{_WITHOUT_EXPORTER}[exporters.x]\n", "exporters.x.type"),
    "empty_static_config.bad.yml": _receiver("proxy", "targets = []", "targets"),
    "scrape_body_size_limit.bad.yml": _proxy("max_body = 100", "max_body"),
    "http_url_no_scheme.bad.yml": _discovery("prometheus", 'url = "invalid"', "url"),
    "http_url_no_host.bad.yml": _discovery("prometheus", 'url = "http://"', "url"),
    "http_url_bad_scheme.bad.yml": _discovery("prometheus", 'url = "ftp://example.com"', "url"),
    "http_token_file.bad.yml": _receiver(
        "query", 'url = "http://foo"\nbearer_token = "foo"\nbearer_token_file = "foo"', "bearer_token_file"
    ),
    "scrape_config_files_glob.bad.yml": _discovery("file", 'files = ["scrape_configs/*/*.yml"]', "files"),
    "scrape_config_files_fallback_scrape_protocol1.bad.yml": _proxy('fallback_format = "prometheusproto"', "fallback_format"),
    "scrape_config_files_fallback_scrape_protocol2.bad.yml": _proxy(
        'fallback_format = ["openmetrics", "text"]', "fallback_format"
    ),
    "remote_read_url_missing.bad.yml": _receiver("query", "", "url"),
    "remote_write_url_missing.bad.yml": _receiver("federate", "", "url"),
    "remote_write_header.bad.yml": _exporter('headers = {"Content-Type" = "somehack"}', "headers"),
    "remote_read_header.bad.yml": _receiver("query", 'url = "http://a"\nheaders = {Accept = "somehack"}', "headers"),
    "remote_write_authorization_header.bad.yml": _receiver(
        "federate", 'url = "http://a"\nbearer_token = "x"\nheaders = {authorization = "Basic QWx"}', "headers"
    ),
    "remote_write_wrong_msg.bad.yml": _exporter('protocol = "http/protobuff"', "protocol"),
    "remote_write_dup.bad.yml": Ours(_exporter("").text + '[exporters.x]\ntype = "otlp"', _TWICE),
    "remote_read_dup.bad.yml": Ours(_receiver("query", 'url = "http://a"\n').text + "[receivers.r]\n", _TWICE),
    "remote_write_queue_max_samples_per_send_zero.bad.yml": _exporter('batch.max_bytes = "0B"', "batch.max_bytes"),
    "remote_write_queue_capacity_zero.bad.yml": _exporter('queue.max_bytes = "0B"', "queue.max_bytes"),
    "remote_write_queue_max_backoff_less_than_min.bad.yml": _exporter('retry = {initial = "10s", max = "1s"}', "retry.max"),
    "tracing_missing_endpoint.bad.yml": _exporter('endpoint = ""', "endpoint"),
    "tracing_invalid_header.bad.yml": _exporter('headers = {"content-encoding" = "foo"}', "headers"),
    "tracing_invalid_compression.bad.yml": _exporter('compression = "foo"', "compression"),
    "tsdb_retention_time.bad.yml": _exporter('queue.max_age = "-1h"', "queue.max_age"),
    "tsdb_retention_size.bad.yml": _exporter('queue.max_bytes = "-1GB"', "queue.max_bytes"),
}  # fmt: skip
"""What Prometheus refuses, by the name of its test's file."""

_NODES = 'node_selector = "foo=bar"\nattach_metadata = {node = true}'

GOOD: Mapping[str, Ours] = {
    "external_labels.good.yml": _resource(
        '{bar = "foo", foo = "${TEST}", baz = "foo${TEST}bar", qux = "foo$${TEST}", xyz = "foo$$bar"}'
    ),
    "global_disable_extra_scrape_metrics.good.yml": _proxy("scrape_metrics = false"),
    "global_enable_extra_scrape_metrics.good.yml": _proxy("scrape_metrics = true"),
    "local_disable_extra_scrape_metrics.good.yml": _proxy("scrape_metrics = false"),
    "local_enable_extra_scrape_metrics.good.yml": _proxy("scrape_metrics = true"),
    "global_timeout.good.yml": _proxy('interval = "1h"\ntimeout = "1h"'),
    "kubernetes_empty_apiserver.good.yml": _discovery("kubernetes", ""),
    "kubernetes_kubeconfig_without_apiserver.good.yml": _discovery("kubernetes", f'kubeconfig = "{_KUBECONFIG}"'),
    "kubernetes_selectors_pod.good.yml": _discovery(
        "kubernetes",
        'label_selector = "foo=bar"\n[[receivers.r.discovery]]\nkind = "kubernetes"\nlabel_selector = "foo in (bar,baz)"\n'
        f'[[receivers.r.discovery]]\nkind = "kubernetes"\n{_NODES}',
    ),
    "scrape_config_files.good.yml": _proxy(""),
    "scrape_config_files2.good.yml": _proxy(""),
    "scrape_config_files_combined.good.yml": _proxy(
        '[[receivers.r.discovery]]\nkind = "file"\nfiles = ["a.yml", "b.yml"]'
    ),
    "scrape_config_files_glob.good.yml": _discovery("file", 'files = ["scrape_configs/*.yml"]'),
    "scrape_config_files_only.good.yml": _discovery("file", 'files = ["scrape_config_files.good.yml"]'),
    "scrape_interval_larger.good.yml": _receiver(
        "proxy",
        'interval = "5s"\n[[receivers.r.discovery]]\nkind = "dns"\nrecord = "SRV"\nrefresh = "15s"\n'
        'names = ["first.dns.address.domain.com", "second.dns.address.domain.com"]\n'
        '[[receivers.r.discovery]]\nkind = "dns"\nrecord = "SRV"\nnames = ["first.dns.address.domain.com"]',
    ),
}
"""What Prometheus takes."""

_OF_TARGETS, _OF_SERIES = ("relabel_configs",), ("metric_relabel_configs", "write_relabel_configs")


def bad(folder: Path) -> Cases:
    """What Prometheus refuses, said in our options: refused for the same mistake, whose place is named."""
    for case in _cases(folder)["bad"]:
        ours = BAD.get(case["file"]) or _relabelling(case["yaml"])
        if ours is not None:
            yield case["file"], _is_blamed(ours)


def good(folder: Path) -> Cases:
    """What Prometheus takes, said in our options: taken."""
    for case in _cases(folder)["good"]:
        if case["file"] in GOOD:
            yield case["file"], not _problems(GOOD[case["file"]].text)


def untold(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the cases that are not translated, and why; "" where nothing is known of one."""
    cases = _cases(folder)
    told = {name for name, _ in (*bad(folder), *good(folder))}
    for case in (*cases["bad"], *cases["good"]):
        if case["file"] not in told:
            yield case["file"], absent(case["file"])


def _cases(folder: Path) -> Any:
    return vectors.load(folder / "prometheus_config" / "config.json")


def _relabelling(text: str) -> Ours | None:
    """A configuration whose point is one rule, as a target's or as a processor's; None for any other."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # not base64
        return None
    for table in (*document.get("scrape_configs", ()), *document.get("remote_write", ())):
        for name in (*_OF_TARGETS, *_OF_SERIES):
            if table and name in table:
                return _rules(table[name], name in _OF_TARGETS)
    return None


def _rules(rules: list[dict[str, Any] | None], of_targets: bool) -> Ours:
    said = ", ".join(_inline(rule or {}) for rule in rules)
    if of_targets:
        return _proxy(f"relabel = [{said}]", "relabel[0].")
    text = f'{_WITHOUT_EXPORTER}processors = ["q"]\n[exporters.x]\ntype = "stdout"\n[processors.q]\ntype = "relabel"\n'
    return Ours(f"{text}rules = [{said}]", "processors.q.rules[0].")


def _inline(rule: Mapping[str, Any]) -> str:
    """A rule as a table of TOML; null is said as ""."""
    said = (f"{name} = {json.dumps('' if value is None else value)}" for name, value in rule.items())
    return f"{{{', '.join(said)}}}"


def _is_blamed(ours: Ours) -> bool:
    """Whether one thing alone is wrong with a file, and it is this one."""
    problems = _problems(ours.text)
    return len(problems) == 1 and problems[0].startswith(ours.blamed)


def _problems(text: str) -> list[str]:
    """What ``ebbtide check`` says of a file, each without the file and the line."""
    with tempfile.TemporaryDirectory() as name:
        file, cluster = Path(name) / "agent.toml", Path(name) / "kubeconfig"
        cluster.write_text(kubeconfig("http://127.0.0.1:9"), encoding="utf-8")
        file.write_bytes(text.replace(_KUBECONFIG, str(cluster)).encode(errors="surrogateescape"))
        try:
            load(file, _ENVIRONMENT).try_out()
        except ConfigErrors as errors:
            return [problem.removeprefix(f"{file}:").partition(": ")[2] for problem in errors.problems]
    return []
