"""The annotated `agent.toml`: every option of every built-in with its help, the default pipeline as its active part.

Prose is commented with ``# ``, what may be uncommented with a bare ``#``; every such line stands for itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.discover import KINDS
from agent.options import Option, options_of
from agent.settings import AgentSettings
from agent.toml_text import key, written

if TYPE_CHECKING:
    from agent.reference import Subject

_WIDTH = 100

_HEAD = """\
The pipeline file of ebbtide: receivers -> processors -> exporters. Check it with: ebbtide check

Every option stands here with its default, commented out: take away the # to change it. Durations are written "250ms" \
"30s" "5m" "6h", sizes "500KB" "64MiB". In any string ${NAME} is an environment variable, ${NAME:-default} one with a \
default, ${file:PATH} the content of a file. Written by `make docs`."""

_KINDS = {
    "receivers": "Receivers: where metrics come from. The name of the table is the component's id, of your choice.",
    "processors": "Processors: what happens to metrics on their way, in the order in which a pipeline names them.",
    "exporters": "Exporters: where metrics go.",
}


@dataclass(frozen=True)
class Example:
    """How a component type appears in the sample: under which id, with which options set, and whether it runs."""

    id: str
    active: bool = False
    options: dict[str, Any] = field(default_factory=dict)


# The default pipeline. This is data, as in the file it makes: the frame itself knows no plugin.
EXAMPLES = {
    ("receivers", "federate"): Example(
        "linkerd",
        active=True,
        options={
            "url": "${LINKERD_PROMETHEUS_URL:-http://prometheus.linkerd-viz.svc.cluster.local:9090}",
            "match": ['{job="linkerd-proxy"}', '{job="linkerd-controller"}'],
        },
    ),
    ("receivers", "query"): Example(
        "history",
        options={"url": "${LINKERD_PROMETHEUS_URL:-http://prometheus.linkerd-viz.svc.cluster.local:9090}"},
    ),
    ("receivers", "proxy"): Example(
        "proxies",
        options={
            "discovery": [{"kind": "kubernetes"}],
            "relabel": [{"source_labels": ["__meta_kubernetes_namespace"], "regex": "kube-.*", "action": "drop"}],
        },
    ),
    ("receivers", "remote_write"): Example("prometheus"),
    ("processors", "filter"): Example(
        "quiet", options={"drop": ['{__name__=~"stack_.*|tokio_rt_.*"}', '{target_port="4191"}']}
    ),
    ("processors", "relabel"): Example(
        "tidy", options={"rules": [{"action": "labeldrop", "regex": "pod_template_hash"}]}
    ),
    ("processors", "resource"): Example("workload"),
    ("exporters", "stdout"): Example("console", active=True),
    ("exporters", "kafka"): Example(
        "topic", options={"sasl.mechanism": "OAUTHBEARER", "sasl.token_url": "https://login.example.com/token"}
    ),
    ("exporters", "otlp"): Example("backend", options={"endpoint": "http://localhost:4318"}),
}


def sample(known: Iterable[Subject]) -> str:
    """Return the text of the annotated file for these plugins."""
    known = [subject for subject in known if subject.plugin]
    blocks = [_prose(_HEAD), _agent()]
    for kind in KINDS:
        of_kind = sorted((subject for subject in known if subject.kind == kind), key=_active_first)
        blocks.append(_banner(_KINDS[kind]))
        blocks += [_component(subject, of_kind[0]) for subject in of_kind]
    blocks += [_banner("Pipelines: which receivers feed which exporters, through which processors."), _pipeline(known)]
    return "\n\n".join(blocks) + "\n"


def example_of(subject: Subject) -> Example:
    """How this component type appears; one that has no entry is shown under its own name, commented out."""
    return EXAMPLES.get((subject.kind, subject.name), Example(subject.name))


def _active_first(subject: Subject) -> tuple[bool, str]:
    return not example_of(subject).active, subject.name


def _banner(text: str) -> str:
    return "# " + "-" * (_WIDTH - 2) + "\n" + _prose(text)


def _prose(text: str) -> str:
    """Paragraphs as comments."""
    paragraphs = [
        textwrap.fill(
            " ".join(part.split()),
            _WIDTH,
            initial_indent="# ",
            subsequent_indent="# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for part in text.split("\n\n")
    ]
    return "\n#\n".join(paragraphs)


def _agent() -> str:
    lines = [_prose(AgentSettings.__doc__ or ""), "[agent]"]
    for option in options_of(AgentSettings):
        lines += _option(option, {}, "")
    return "\n".join(lines)


def _component(subject: Subject, first: Subject) -> str:
    """One table. What every component of the kind has beside its own is explained at the first of them."""
    example = example_of(subject)
    off = "" if example.active else "#"
    lines = [
        _prose(subject.about),
        f"{off}[{subject.kind}.{key(example.id)}]",
        f"{off}type = {written(subject.name)}",
    ]
    options = subject.options if subject is first else subject.own_options
    for option in sorted(options, key=lambda option: option.name not in example.options):
        lines += _option(option, example.options, off)
    if subject is not first and subject.frame_options:
        names = ", ".join(option.name for option in subject.frame_options)
        lines.append("\n" + _prose(f"{names}: as in [{first.kind}.{example_of(first).id}]."))
    return "\n".join(lines)


def _option(option: Option, values: dict[str, Any], off: str) -> Iterator[str]:
    """The lines of one option: help, then the option set, or commented out with its default."""
    for name, inner in _leaves(option, ""):
        yield "\n" + _prose(_help(inner))
        if name in values:
            yield f"{off}{name} = {written(values[name])}"
        elif inner.required and not off and inner is option:
            yield f"{name} = {written(inner.example)}"
        else:
            yield f"#{name} = {written(_value(inner))}"


def _leaves(option: Option, above: str) -> Iterator[tuple[str, Option]]:
    """What can be set on a line of its own: the options of a table by dotted names, a list of tables as a whole."""
    name = above + key(option.name)
    if option.inside and not option.many:
        for inner in option.inside:
            yield from _leaves(inner, name + ".")
    else:
        yield name, option


def _help(option: Option) -> str:
    """The help, the type where the value does not show it, and the options of each table of a list."""
    text = option.help
    if option.required:
        text += " Required."
    text += _choices(option)
    for name, inner in option.walk() if option.many else ():
        if inner is not option:
            text += f"\n\n{name}: {inner.help}{_choices(inner)}"
    return text.strip()


def _choices(option: Option) -> str:
    if "|" not in option.sort:
        return ""
    return f" {'One of ' if option.sort.startswith(chr(34)) else 'A '}{option.sort}."


def _value(option: Option) -> Any:
    """What stands on a commented line: the default, or where nothing is set an example."""
    if option.many and not option.default:
        return option.example
    return option.example if option.default is None else option.default


def _pipeline(known: list[Subject]) -> str:
    ids = {
        kind: [example_of(subject).id for subject in known if subject.kind == kind and example_of(subject).active]
        for kind in KINDS
    }
    lines = ["[pipelines.metrics]"]
    for kind in KINDS:
        lines.append(f"{'' if ids[kind] else '#'}{kind} = {written(ids[kind])}")
    return "\n".join(lines)
