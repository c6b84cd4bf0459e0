"""Relabelling as Prometheus does it: its own tables of cases, Linkerd's configuration, laws, refusals."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.relabelling import Draft, Relabelling, RelabelRule, mistake_in


def relabel(labels: dict[str, str], *rules: dict[str, Any]) -> dict[str, str] | None:
    return Relabelling(RelabelRule.model_validate(rule) for rule in rules)(labels)


def refusal(**rule: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        RelabelRule.model_validate(rule)
    (error,) = refused.value.errors()
    option = getattr(error["ctx"]["error"], "option", "") or ".".join(map(str, error["loc"]))
    return f"{option}: {error['ctx']['error']}"


# -- Prometheus' tables ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(vectors: Path) -> dict[str, Any]:
    return json.loads((vectors / "prometheus_relabel/relabel.json").read_text())  # type: ignore[no-any-return]


def test_the_cases_of_prometheus(tables: dict[str, Any]) -> None:
    for case in tables["cases"]:
        output = case["output"]
        expected = None if output is None else {name: value for name, value in output.items() if value}
        for rules in ("relabel_configs_as_written", "relabel_configs"):
            # What is spelled out there as a default is no default for the actions that allow nothing else.
            given_rules = [_as_given(rule) for rule in case[rules]]
            assert relabel(case["input"], *given_rules) == expected, case["id"]


def _as_given(rule: dict[str, Any]) -> dict[str, Any]:
    if rule["action"] in ("keepequal", "dropequal"):
        return {name: value for name, value in rule.items() if name != "regex"}
    return rule


def test_what_prometheus_refuses_and_takes(tables: dict[str, Any]) -> None:
    for case in tables["validate"]:
        rule = {"action": ""} | case["config"]
        try:
            mistake = mistake_in(RelabelRule.model_validate(rule), case["name_validation"])
            said = "" if mistake is None else str(mistake)
        except ValidationError as error:
            said = str(error)
        if case["error_contains"] is None:
            assert said == "", case["id"]
        else:
            assert case["error_contains"] in said


def test_names_of_target_labels_before_utf8(tables: dict[str, Any]) -> None:
    for case in tables["target_label_legacy_validity"]:
        rule = RelabelRule(target_label=case["target_label"])
        assert (mistake_in(rule, "legacy") is None) is case["valid"], case


def _yaml(text: str) -> list[dict[str, Any]]:
    """Read rules as Prometheus' YAML has them: what is null is empty text."""
    rules = yaml.safe_load(text)
    rules = rules if isinstance(rules, list) else [rules]
    return [{name: "" if value is None else value for name, value in rule.items()} for rule in rules]


def test_rules_written_in_full_and_in_part_are_read(tables: dict[str, Any]) -> None:
    for case in tables["yaml_roundtrip"]:
        (written,) = _yaml(case["inputYaml"])
        rule = RelabelRule.model_validate(written)
        assert rule.model_dump(exclude_unset=True) == written
        assert RelabelRule.model_validate(rule.model_dump(exclude_unset=True)) == rule


BENCHMARKS = {
    "example": {"job": "foo", "abc": "static", "cde": "def"},
    "kubernetes": {
        "__scheme__": "http", "job": "loki-boltdb-shipper/promtail-loki-boltdb-shipper", "container": "promtail",
        "namespace": "loki-boltdb-shipper", "cluster": "dev-us-central-0",
        "instance": "promtail-loki-boltdb-shipper-jgtr7:promtail:http-metrics",
    },
    "static label pair": {"wwwwww": "wwwwww", "xxxxxxxxx": "yyyyyyyyyyyy", "yyyyyyyyyyyy": "xxxxxxxxx"},
}  # fmt: skip


def test_the_rule_sets_prometheus_measures_with(tables: dict[str, Any]) -> None:
    for benchmark in tables["benchmarks"]:
        # The last rules keep a third of all targets; which one this is shows the hash.
        rules = [rule for rule in _yaml(benchmark["config_yaml"]) if rule.get("regex") != "^0$"]
        assert len(rules) > 3
        found = relabel(benchmark["labels"], *rules)
        assert found is not None
        assert BENCHMARKS[benchmark["name"]].items() <= found.items()
        assert "__tmp_hash" not in found


def test_the_configurations_prometheus_refuses(vectors: Path) -> None:
    """Those of its bad files that are about a rule and can be said in TOML."""
    cases = json.loads((vectors / "prometheus_config/config.json").read_text())["bad"]
    seen = 0
    for case in cases:
        if (
            not case["relevant_to_agent"]
            or "relabel_configs:\n      - " not in case["yaml"]
            or "!!binary" in case["yaml"]
        ):
            continue
        (scrape,) = yaml.safe_load(case["yaml"])["scrape_configs"]
        (rule,) = scrape["relabel_configs"]
        seen += 1
        with pytest.raises(ValidationError) as refused:
            RelabelRule.model_validate({name: "" if value is None else value for name, value in rule.items()})
        assert case["error_contains"] in str(refused.value)
    assert seen >= 20


# -- Linkerd -------------------------------------------------------------------------------------------------------

_POD = "__meta_kubernetes_pod_"
LINKERD_PROXY = [
    {"action": "keep", "source_labels": [f"{_POD}phase"], "regex": "(Pending|Running)"},
    {
        "action": "keep",
        "source_labels": [
            f"{_POD}container_name",
            f"{_POD}container_port_name",
            f"{_POD}label_linkerd_io_control_plane_ns",
        ],
        "regex": "^linkerd-proxy;linkerd-admin;linkerd$",
    },
    {"action": "replace", "source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
    {"action": "replace", "source_labels": [f"{_POD}name"], "target_label": "pod"},
    {"action": "replace", "source_labels": [f"{_POD}label_linkerd_io_proxy_job"], "target_label": "k8s_job"},
    {"action": "labeldrop", "regex": f"{_POD}label_linkerd_io_proxy_job"},
    {"action": "labelmap", "regex": f"{_POD}label_linkerd_io_proxy_(.+)"},
    {"action": "labeldrop", "regex": f"{_POD}label_linkerd_io_proxy_(.+)"},
    {"action": "labelmap", "regex": f"{_POD}label_linkerd_io_(.+)"},
    {"action": "labelmap", "regex": f"{_POD}label_(.+)", "replacement": "__tmp_pod_label_$1"},
    {"action": "labelmap", "regex": "__tmp_pod_label_linkerd_io_(.+)", "replacement": "__tmp_pod_label_$1"},
    {"action": "labeldrop", "regex": "__tmp_pod_label_linkerd_io_(.+)"},
    {"action": "labelmap", "regex": "__tmp_pod_label_(.+)"},
]
LINKERD_CONTROLLER = [
    {"action": "keep", "source_labels": [f"{_POD}container_port_name"], "regex": ".*admin$"},
    {"action": "drop", "source_labels": [f"{_POD}container_port_name"], "regex": "linkerd-admin"},
    {"action": "replace", "source_labels": [f"{_POD}container_name"], "target_label": "component"},
]
META = {
    "__address__": "10.42.0.7:4191",
    "__meta_kubernetes_namespace": "emojivoto",
    f"{_POD}phase": "Running",
    f"{_POD}name": "web-6d4-x2",
    f"{_POD}container_name": "linkerd-proxy",
    f"{_POD}container_port_name": "linkerd-admin",
    f"{_POD}label_app": "web",
    f"{_POD}label_app_kubernetes_io_name": "web",
    f"{_POD}label_pod_template_hash": "6d4",
    f"{_POD}label_linkerd_io_control_plane_ns": "linkerd",
    f"{_POD}label_linkerd_io_workload_ns": "emojivoto",
    f"{_POD}label_linkerd_io_proxy_deployment": "web",
    "job": "linkerd-proxy",
}
SERIES_LABELS = {
    "job": "linkerd-proxy", "namespace": "emojivoto", "pod": "web-6d4-x2", "deployment": "web", "app": "web",
    "app_kubernetes_io_name": "web", "pod_template_hash": "6d4", "control_plane_ns": "linkerd",
    "workload_ns": "emojivoto",
}  # fmt: skip


def proxy_target(**more: str) -> dict[str, str] | None:
    found = relabel(META | {_POD + name: value for name, value in more.items()}, *LINKERD_PROXY)
    return None if found is None else {name: value for name, value in found.items() if not name.startswith("__")}


def test_the_labels_of_a_linkerd_proxy() -> None:
    assert proxy_target() == SERIES_LABELS


def test_a_job_of_kubernetes_does_not_pass_for_prometheus_job() -> None:
    assert proxy_target(label_linkerd_io_proxy_job="nightly") == SERIES_LABELS | {"k8s_job": "nightly"}


def test_a_label_of_the_pod_may_overwrite_the_job() -> None:
    assert proxy_target(label_job="mine", label_namespace="mine") == SERIES_LABELS | {
        "job": "mine",
        "namespace": "mine",
    }


@pytest.mark.parametrize(
    "other",
    [{"phase": "Succeeded"}, {"container_name": "web"}, {"label_linkerd_io_control_plane_ns": "l5d"}, {"phase": ""}],
)
def test_other_pods_are_no_targets(other: dict[str, str]) -> None:
    assert proxy_target(**other) is None


@pytest.mark.parametrize(
    ("port", "component"),
    [("admin", "destination"), ("dest-admin", "destination"), ("linkerd-admin", None), ("grpc", None)],
)
def test_controllers(port: str, component: str | None) -> None:
    meta = META | {f"{_POD}container_port_name": port, f"{_POD}container_name": "destination"}
    found = relabel(meta, *LINKERD_CONTROLLER)
    assert (found and found["component"]) == component


# -- one by one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "labels", "expected"),
    [
        ({"target_label": "x", "replacement": "y"}, {"a": "1"}, {"a": "1", "x": "y"}),
        ({"target_label": "a", "replacement": ""}, {"a": "1"}, {}),
        ({"source_labels": ["b"], "target_label": "a"}, {"a": "1"}, {}),
        ({"source_labels": ["b"], "regex": "(.+)", "target_label": "a"}, {"a": "1"}, {"a": "1"}),
        ({"source_labels": ["a", "b"], "target_label": "c"}, {"a": "1", "b": "2"}, {"a": "1", "b": "2", "c": "1;2"}),
        ({"source_labels": ["a", "z"], "target_label": "c"}, {"a": "1"}, {"a": "1", "c": "1;"}),
        ({"source_labels": ["a"], "regex": "(.)(.)", "target_label": "$2", "replacement": "$1"}, {"a": "xy"}, {"a": "xy", "y": "x"}),
        ({"source_labels": ["a"], "regex": "(.)", "target_label": "$2", "replacement": "x"}, {"a": "1"}, {"a": "1"}),
        ({"source_labels": ["a"], "target_label": "dots.and spaces"}, {"a": "1"}, {"a": "1", "dots.and spaces": "1"}),
        ({"source_labels": ["a"], "target_label": "b", "replacement": "$1x"}, {"a": "1", "b": "2"}, {"a": "1"}),
        ({"source_labels": ["a"], "target_label": "b", "replacement": "$$1"}, {"a": "1"}, {"a": "1", "b": "$1"}),
        ({"action": "KEEP", "source_labels": ["a"], "regex": "1|2"}, {"a": "2"}, {"a": "2"}),
        ({"action": "keep", "source_labels": ["a"], "regex": "1|2"}, {"a": "12"}, None),
        ({"action": "keep", "source_labels": ["a"], "regex": ""}, {"b": "1"}, {"b": "1"}),
        ({"action": "drop", "source_labels": ["a"], "regex": ""}, {"b": "1"}, None),
        ({"action": "drop"}, {"b": "1"}, None),
        ({"action": "keepequal", "source_labels": ["a"], "target_label": "b"}, {"a": "1", "b": "1"}, {"a": "1", "b": "1"}),
        ({"action": "keepequal", "source_labels": ["a"], "target_label": "b"}, {"a": "1"}, None),
        ({"action": "dropequal", "source_labels": ["a"], "target_label": "b"}, {"c": "1"}, None),
        ({"action": "dropequal", "source_labels": ["a"], "target_label": "b"}, {"a": "1"}, {"a": "1"}),
        ({"action": "hashmod", "source_labels": ["a"], "modulus": 1000, "target_label": "h"}, {"a": "foo"}, {"a": "foo", "h": "696"}),
        ({"action": "hashmod", "modulus": 2**64 - 1, "target_label": "h"}, {}, {"h": "16825458760271544958"}),
        ({"action": "labelmap", "regex": "m_(.+)"}, {"m_a": "1", "b": "2"}, {"m_a": "1", "a": "1", "b": "2"}),
        ({"action": "labelmap", "regex": "._(x)"}, {"b_x": "2", "a_x": "1"}, {"a_x": "1", "b_x": "2", "x": "2"}),
        ({"action": "labelmap", "regex": "a", "replacement": "b"}, {"a": "1", "b": "2"}, {"a": "1", "b": "1"}),
        ({"action": "labelmap", "regex": "(a)(b)?", "replacement": "$2"}, {"a": "1"}, {"a": "1"}),
        ({"action": "labeldrop", "regex": "a.*"}, {"a": "1", "ab": "2", "ba": "3"}, {"ba": "3"}),
        ({"action": "labelkeep", "regex": "a.*"}, {"a": "1", "ab": "2", "ba": "3"}, {"a": "1", "ab": "2"}),
        ({"action": "lowercase", "source_labels": ["a"], "target_label": "a"}, {"a": "ÄΣİẞ"}, {"a": "äσiß"}),
        ({"action": "uppercase", "source_labels": ["a"], "target_label": "a"}, {"a": "äßŉᾳ"}, {"a": "Äßŉᾼ"}),
        ({"action": "uppercase", "source_labels": ["b"], "target_label": "a"}, {"a": "x"}, {}),
        ({"target_label": "x", "replacement": "y"}, {"a": ""}, {"x": "y"}),
    ],
)  # fmt: skip
def test_actions(rule: dict[str, Any], labels: dict[str, str], expected: dict[str, str] | None) -> None:
    assert relabel(labels, rule) == expected


def test_of_two_labels_for_one_name_the_one_written_last_counts() -> None:
    """Those given come in the order of their names, then those that rules wrote in the order of writing."""
    write_z, write_a = ({"target_label": f"{name}_x", "replacement": name} for name in "za")
    assert (relabel({"m_x": "m"}, write_z, write_a, {"action": "labelmap", "regex": "._(x)"}) or {})["x"] == "a"
    assert (relabel({"m_x": "m"}, write_a, write_z, {"action": "labelmap", "regex": "._(x)"}) or {})["x"] == "z"
    again = {"target_label": "m_x", "replacement": "written"}
    assert (relabel({"m_x": "m", "n_x": "n"}, again, {"action": "labelmap", "regex": "._(x)"}) or {})["x"] == "written"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({}, "target_label: relabel configuration for replace action requires 'target_label' value; name the label to write"),
        ({"action": ""}, "action: relabel action cannot be empty; leave the option out for replace"),
        ({"action": "label_map"}, 'action: unknown relabel action "label_map"; did you mean "labelmap"?'),
        ({"regex": "abc(def"}, "regex: error parsing regexp: missing closing ): `abc(def`; correct the pattern, which is of RE2's syntax"),
        ({"source_labels": ["a", ""]}, 'source_labels.1: "" is not a valid label name; write one, such as "pod"'),
        ({"action": "hashmod", "target_label": "x"}, "modulus: relabel configuration for hashmod requires non-zero modulus; write one, such as 8"),
        ({"action": "hashmod", "modulus": 8}, "target_label: relabel configuration for hashmod action requires 'target_label' value; name the label to write"),
        ({"action": "keepequal"}, "target_label: relabel configuration for keepequal action requires 'target_label' value; name the label to write"),
        ({"action": "uppercase", "target_label": "x", "replacement": "y"}, "replacement: 'replacement' can not be set for uppercase action; remove it"),
        ({"action": "labelmap", "replacement": ""}, "replacement: \"\" is invalid 'replacement' for labelmap action; write one such as $1"),
        ({"action": "dropequal", "target_label": "x", "regex": "(.*)"}, "regex: dropequal action requires only 'source_labels' and `target_label`, and no other fields; remove regex"),
        ({"action": "keepequal", "target_label": "x", "separator": ","}, "separator: keepequal action requires only 'source_labels' and `target_label`, and no other fields; remove separator"),
        ({"action": "labeldrop", "source_labels": []}, "source_labels: labeldrop action requires only 'regex', and no other fields; remove source_labels"),
        ({"action": "labelkeep", "target_label": "x"}, "target_label: labelkeep action requires only 'regex', and no other fields; remove target_label"),
        ({"action": "labelkeep", "modulus": 8}, "modulus: labelkeep action requires only 'regex', and no other fields; remove modulus"),
    ],
)  # fmt: skip
def test_refusals(rule: dict[str, Any], said: str) -> None:
    assert refusal(**rule) == said


def test_an_option_at_its_default_may_be_written() -> None:
    RelabelRule(action="keepequal", target_label="x", separator=";", replacement="$1")
    RelabelRule(action="labeldrop", separator=";", replacement="$1", modulus=0, target_label="")


@pytest.mark.parametrize("modulus", [-1, 2**64, 1.5, "8"])
def test_a_modulus_fits_64_bits(modulus: Any) -> None:
    with pytest.raises(ValidationError):
        RelabelRule(action="hashmod", target_label="x", modulus=modulus)


# -- laws ----------------------------------------------------------------------------------------------------------

_names = st.sampled_from(["a", "b", "ab", "ba", "__name__", "le"])
_labels = st.dictionaries(_names, st.text("abX", max_size=3), max_size=5)
_patterns = st.sampled_from(["(.*)", "a", "a|b", "(a)(.*)", "(.+)b?", "[ab]+", "", "_.*|l(e)"])
_templates = st.sampled_from(["$1", "x$1", "${2}y", "", "z", "le", "$$"])


@st.composite
def _rules(draw: st.DrawFn) -> dict[str, Any]:
    action = draw(
        st.sampled_from(["replace", "keep", "drop", "keepequal", "dropequal", "labelmap", "labeldrop", "labelkeep"])
    )
    sources = draw(st.lists(_names, max_size=2))
    if action in ("keepequal", "dropequal"):
        return {"action": action, "source_labels": sources, "target_label": draw(_names)}
    rule: dict[str, Any] = {"action": action, "regex": draw(_patterns)}
    if action in ("replace", "keep", "drop"):
        rule |= {"source_labels": sources}
    if action == "replace":
        rule |= {"target_label": draw(st.one_of(_names, _templates.filter(bool))), "replacement": draw(_templates)}
    elif action == "labelmap":
        rule |= {"replacement": draw(_templates.filter(bool))}
    return rule


def _expanded(match: re.Match[str], template: str) -> str:
    """Go's expansion, as far as the templates above need it."""
    groups = [text or "" for text in (match[0], *match.groups(), "", "")]
    return re.sub(r"\$\$|\$\{?(\d)\}?", lambda found: groups[int(found[1])] if found[1] else "$", template)


def model(labels: dict[str, str], rule: dict[str, Any]) -> dict[str, str] | None:
    """One rule in plain Python, after the prose of Prometheus' documentation."""
    labels = {name: value for name, value in sorted(labels.items()) if value}
    action, regex = rule["action"], re.compile(rule.get("regex", "(.*)"), re.DOTALL)
    value = ";".join(labels.get(name, "") for name in rule.get("source_labels", []))
    target = labels.get(rule.get("target_label", ""), "")
    if action in ("keep", "drop"):
        return labels if bool(regex.fullmatch(value)) is (action == "keep") else None
    if action in ("keepequal", "dropequal"):
        return labels if (value == target) is (action == "keepequal") else None
    if action in ("labeldrop", "labelkeep"):
        return {n: v for n, v in labels.items() if bool(regex.fullmatch(n)) is (action == "labelkeep")}
    found = dict(labels)
    if action == "labelmap":
        found |= {_expanded(m, rule["replacement"]): v for n, v in labels.items() if (m := regex.fullmatch(n))}
    elif match := regex.fullmatch(value):
        found[_expanded(match, rule["target_label"])] = _expanded(match, rule["replacement"])
    return {name: value for name, value in found.items() if name and value}


@given(_labels, _rules())
def test_a_rule_does_what_its_model_does(labels: dict[str, str], rule: dict[str, Any]) -> None:
    assert relabel(labels, rule) == model(labels, rule)


@given(_labels, st.lists(_rules(), max_size=4))
def test_the_order_in_which_labels_are_given_does_not_matter(
    labels: dict[str, str], rules: list[dict[str, Any]]
) -> None:
    assert relabel(dict(reversed(labels.items())), *rules) == relabel(labels, *rules)


@given(_labels, st.lists(_rules(), max_size=4), st.integers(0, 4))
def test_rules_may_be_applied_in_two_goes(labels: dict[str, str], rules: list[dict[str, Any]], cut: int) -> None:
    whole = Relabelling(RelabelRule.model_validate(rule) for rule in rules)
    draft = Draft({name: value for name, value in labels.items() if value})
    stays = whole.apply(draft, end=cut) and whole.apply(draft, cut)
    assert (draft.labels() if stays else None) == whole(labels)


@given(_labels, st.lists(_rules(), max_size=4), st.sampled_from(["le", "__name__", "a"]), st.text("ab", max_size=2))
def test_rules_that_do_not_touch_a_label_do_the_same_without_it(
    labels: dict[str, str], rules: list[dict[str, Any]], name: str, value: str
) -> None:
    relabelling = Relabelling(RelabelRule.model_validate(rule) for rule in rules)
    end = relabelling.untouched([name])
    rest = {key: text for key, text in labels.items() if key != name and text}
    without, with_it = Draft(dict(rest)), Draft(rest | ({name: value} if value else {}))
    stays = relabelling.apply(with_it, end=end)
    assert relabelling.apply(without, end=end) is stays
    if stays and not without.get(name):  # else they wrote it, which is for the caller to see
        assert with_it.labels() == without.labels() | ({name: value} if value else {})
