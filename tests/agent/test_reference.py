import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.reference import OWN, main, pages, subjects

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("plugins")
def test_text_for_a_terminal() -> None:
    text = next(subject.as_text() for subject in subjects() if subject.name == "poll")
    assert text.startswith(
        "poll · receiver · ebbtide 1.0\n"
        "Polls a thing.\n"
        "\n"
        "More about polling | things.\n"
        "\n"
        "  url  string, required\n"
        "      Base address.\n"
        "  match  list of strings, default ['{job=\"linkerd-proxy\"}']\n"
        "      Selectors.\n"
    )
    assert '\n  interval  duration, default "10s"\n' in text
    assert '\n  max_body  size, default "512MiB"\n' in text
    assert "\n  headers  table of secret strings, default {}\n" in text
    assert "\n  basic_auth.password  secret string\n      Password.\n" in text
    assert "\n  queries[].name  string, required\n" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.usefixtures("plugins")
def test_markdown() -> None:
    made = pages()
    page = made["docs/reference/receiver-poll.md"]
    assert page.startswith(
        "# receiver `poll`\n\nPolls a thing.\n\nMore about polling | things.\n\n| option | type | default | |\n"
    )
    assert '| `interval` | duration | `"10s"` | Time between polls. |\n' in page
    assert "| `url` | string | required | Base address. |\n" in page
    assert "It has no options.\n" in made["docs/reference/processor-pass.md"]
    assert '| `queue.kind` | "memory" \\| "disk" |  | Where it waits.' in made["docs/reference/exporter-print.md"]
    index = made["docs/reference/README.md"]
    links = set(re.findall(r"\]\(([\w.-]+)\)", index))
    assert {f"docs/reference/{link}" for link in links} | {"docs/reference/README.md", "agent.toml"} == set(made)


def test_other_distributions_are_not_in_our_files(plugins: Callable[..., None]) -> None:
    plugins("exporters", "theirs", "nowhere:Nothing", "theirs")
    assert "docs/reference/exporter-theirs.md" not in pages()
    assert "theirs" in {subject.name for subject in subjects()}


@pytest.mark.usefixtures("plugins")
def test_main_writes_the_files_and_removes_stale_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs/reference").mkdir(parents=True)
    (tmp_path / "docs/reference/exporter-old.md").write_text("old")
    assert main() == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == set(pages())
    assert (tmp_path / "agent.toml").read_text() == pages()["agent.toml"]


def test_main_writes_nothing_when_a_plugin_cannot_be_loaded(
    plugins: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plugins("exporters", "gone", "nowhere_at_all:Nothing")
    assert main() == 1
    assert "cannot find nowhere_at_all of ebbtide" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_option_of_every_built_in_has_help() -> None:
    for subject in subjects(OWN):
        assert subject.about, f"{subject.kind} {subject.name} has no docstring"
        for name, option in subject.rows():
            assert option.help, f"{subject.kind} {subject.name}: {name} has no help"
            assert not option.help[0].islower(), f"{subject.kind} {subject.name}: {name}"
            assert option.help.endswith("."), f"{subject.kind} {subject.name}: {name}"


def test_the_files_are_in_step_with_the_settings() -> None:
    made = pages()
    stale = [name for name, text in made.items() if not (ROOT / name).exists() or (ROOT / name).read_text() != text]
    stale += [str(page) for page in (ROOT / "docs/reference").glob("*.md") if f"docs/reference/{page.name}" not in made]
    assert not stale, "out of step with the settings; run: make docs"
