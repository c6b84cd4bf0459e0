import re
from pathlib import Path

import pytest
import tomli

from agent.config import Config, load
from agent.reference import OWN, Subject, subjects
from agent.sample import EXAMPLES, Example, example_of, sample

ROOT = Path(__file__).resolve().parents[2]

# What may be uncommented: no space behind the #.
CODE = re.compile(r"^#(?! |$|-)", re.MULTILINE)

# Options without a default have an example instead, which need not fit beside the others: a file that is not there,
# a second way to say who we are, a cluster for a URL that leads into none, a name that librdkafka does not take.
ALONE = re.compile(
    r"^#[\w.]*(?:_file|kubeconfig|context|server_name|basic_auth[\w.]*|bearer_token)\s*=.*\n", re.MULTILINE
)


def loaded(folder: Path, text: str, env: dict[str, str] | None = None) -> Config:
    file = folder / "agent.toml"
    file.write_text(text)
    return load(file, env or {})


def everything(config: Config) -> object:
    kinds = (config.receivers, config.processors, config.exporters)
    return [
        config.agent,
        config.pipelines,
        [[(d.id, d.type, d.settings, d.outbox) for d in kind.values()] for kind in kinds],
    ]


@pytest.fixture
def fakes(plugins: object, monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    """The fake plugins with an example each."""
    monkeypatch.setitem(EXAMPLES, ("receivers", "poll"), Example("r", active=True, options={"url": "http://u"}))
    monkeypatch.setitem(EXAMPLES, ("exporters", "print"), Example("e", active=True))
    return subjects()


def test_a_sample_of_fakes(fakes: list[Subject], tmp_path: Path) -> None:
    text = sample(fakes)
    assert '\n[receivers.r]\ntype = "poll"\n\n# Base address. Required.\nurl = "http://u"\n' in text
    assert '\n# Time between polls.\n#interval = "10s"\n' in text
    assert '\n# Password.\n#basic_auth.password = "..."\n' in text
    assert '\n#[processors.pass]\n#type = "pass"\n' in text
    assert text.endswith('[pipelines.metrics]\nreceivers = ["r"]\n#processors = []\nexporters = ["e"]\n')
    assert list(loaded(tmp_path, text).pipelines) == ["metrics"]


def test_frame_options_are_explained_once(plugins, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(EXAMPLES, ("exporters", "print"), Example("e", active=True))
    plugins("exporters", "another", next(s for s in subjects() if s.name == "print").plugin.load())
    text = sample(subjects())
    assert text.count("#queue.max_age") == 1
    assert text.index("[exporters.e]") < text.index("#[exporters.another]")
    assert "# queue, batch, retry: as in [exporters.e].\n" in text


def test_the_default_pipeline() -> None:
    document = tomli.loads(sample(subjects(OWN)))
    assert document == {
        "agent": {},
        "receivers": {
            "linkerd": {
                "type": "federate",
                "url": "${LINKERD_PROMETHEUS_URL:-http://prometheus.linkerd-viz.svc.cluster.local:9090}",
                "match": ['{job="linkerd-proxy"}', '{job="linkerd-controller"}'],
            }
        },
        "exporters": {"console": {"type": "stdout"}},
        "pipelines": {"metrics": {"receivers": ["linkerd"], "exporters": ["console"]}},
    }


def test_every_option_stands_in_the_file() -> None:
    text = sample(subjects(OWN))
    for subject in subjects(OWN):
        if subject.plugin is not None:
            header = f"[{subject.kind}.{example_of(subject).id}]"
            own = text[text.index(f"\n{header}" if f"\n{header}" in text else f"\n#{header}") :]
            for option in subject.own_options:
                assert re.search(rf"^#?{option.name}(?:\.[\w.]+)? = ", own, re.MULTILINE), (subject.name, option.name)


def test_the_defaults_written_are_the_defaults(tmp_path: Path) -> None:
    """Uncommenting a line that shows a default changes nothing."""
    text = sample(subjects(OWN))
    plain = everything(loaded(tmp_path, text))
    defaults = {
        f"{name} = " for subject in subjects(OWN) for name, option in subject.rows() if option.default is not None
    }
    lines = text.splitlines()
    active = [n for n, line in enumerate(lines) if CODE.match(line) and any(line[1:].startswith(d) for d in defaults)]
    header = ""
    for number, line in enumerate(lines):
        if re.match(r"#?\[", line):
            header = line
        if number in active and not header.startswith("#"):
            changed = "\n".join([*lines[:number], line[1:], *lines[number + 1 :]])
            assert everything(loaded(tmp_path, changed)) == plain, line


def test_everything_uncommented_is_a_right_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, CODE.sub("", ALONE.sub("", sample(subjects(OWN))).replace("#processors = []\n", "")))
    assert {declared.type for declared in config.exporters.values()} == {
        s.name for s in subjects(OWN) if s.kind == "exporters"
    }
