"""The reference of all options, from the settings classes: for the terminal, as Markdown, and the files made of it.

``python -m agent.reference`` writes ``docs/reference/*.md`` and ``agent.toml``; a test holds them in step.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.discover import KINDS, Plugin, PluginError, plugins
from agent.options import Option, options_of
from agent.settings import AgentSettings, OutboxSettings, PipelineSettings
from agent.toml_text import written

OWN = "ebbtide"  # our distribution: only its plugins are in the files that are checked in

_WIDTH = 80
_FRAME = {"agent": AgentSettings, "pipelines": PipelineSettings}


@dataclass(frozen=True)
class Subject:
    """Something with options: a component type, or a table of the frame (``plugin`` None)."""

    name: str
    kind: str
    plugin: Plugin | None = None

    @property
    def origin(self) -> str:
        """Whose it is."""
        return OWN if self.plugin is None else self.plugin.origin

    def check(self) -> None:
        """Raise PluginError if its plugin cannot be loaded."""
        if self.plugin is not None:
            self.plugin.load()

    @property
    def about(self) -> str:
        """What it does, by the docstring of its class. Raises PluginError."""
        source: Any = _FRAME[self.name] if self.plugin is None else self.plugin.load()
        return inspect.cleandoc(source.__doc__ or "")

    @property
    def options(self) -> tuple[Option, ...]:
        """All its options; those that the frame adds come last. Raises PluginError."""
        return self.own_options + self.frame_options

    @property
    def own_options(self) -> tuple[Option, ...]:
        """The options of its settings class, those first that must be set. Raises PluginError."""
        options = options_of(_FRAME[self.name] if self.plugin is None else self.plugin.load().Settings)
        return tuple(sorted(options, key=lambda option: not option.required))

    @property
    def frame_options(self) -> tuple[Option, ...]:
        """The options that every component of its kind has."""
        return options_of(OutboxSettings) if self.kind == "exporters" else ()

    def rows(self) -> Iterator[tuple[str, Option]]:
        """Every option with its dotted name, nested ones below their table."""
        for option in self.options:
            yield from option.walk()

    def as_text(self) -> str:
        """The reference for a terminal of 80 columns."""
        heading = " · ".join([self.name, *([self.kind[:-1]] if self.plugin else []), self.origin])
        rows = [(name, option.sort, _default(option), option.help) for name, option in self.rows()]
        parts = [heading, *_filled(self.about, ""), ""]
        for name, sort, default, help in rows:
            parts += [f"  {name}  {sort}{f', {default}' if default else ''}", *_filled(help, "      ")]
        return "\n".join(parts if rows else [*parts, "  no options"])

    def as_markdown(self) -> str:
        """The reference as a Markdown page."""
        kind = f"{self.kind[:-1]} " if self.plugin else ""
        rows = [
            f"| `{name}` | {_cell(option.sort)} | {_cell(_default(option, code=True))} | {_cell(option.help)} |"
            for name, option in self.rows()
        ]
        table = ["| option | type | default | |", "|---|---|---|---|", *rows] if rows else ["It has no options."]
        return "\n".join([f"# {kind}`{self.name}`", "", self.about, "", *table, ""])


def subjects(only: str | None = None) -> list[Subject]:
    """Return all that can be asked about; of one distribution's plugins where ``only`` names it."""
    registered = plugins()
    return [Subject(name, "frame") for name in _FRAME] + [
        Subject(name, kind, plugin)
        for kind in KINDS
        for name, plugin in registered[kind].items()
        if only in (None, plugin.distribution)
    ]


def _default(option: Option, *, code: bool = False) -> str:
    if option.required:
        return "required"
    if option.default is None:
        return ""
    text = written(option.default)
    return f"`{text}`" if code else f"default {text}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _filled(text: str, indent: str) -> list[str]:
    """Paragraphs wrapped to the terminal, with blank lines between them."""
    paragraphs = [
        textwrap.fill(" ".join(part.split()), _WIDTH, initial_indent=indent, subsequent_indent=indent)
        for part in text.split("\n\n")
    ]
    return "\n\n".join(paragraphs).split("\n") if text else []


def pages() -> dict[str, str]:
    """Return every generated file by its path below the repository."""
    from agent.sample import sample

    known = subjects(OWN)
    found = {f"docs/reference/{_page(subject)}": subject.as_markdown() for subject in known}
    found["docs/reference/README.md"] = _index(known)
    found["agent.toml"] = sample(known)
    return found


def _page(subject: Subject) -> str:
    return f"{subject.kind[:-1]}-{subject.name}.md" if subject.plugin else f"{subject.name}.md"


def _index(known: list[Subject]) -> str:
    lines = [
        f"- [{subject.kind[:-1] + ' ' if subject.plugin else ''}`{subject.name}`]({_page(subject)}): "
        f"{subject.about.partition(chr(10))[0]}"
        for subject in known
    ]
    return "\n".join(
        ["# Reference", "", "Every option of every table of the file. Written by `make docs`.", "", *lines, ""]
    )


def main() -> int:
    """Write the generated files below the present folder; remove pages of what is no more."""
    try:
        made = pages()
    except PluginError as error:
        print(error, file=sys.stderr)
        return 1
    folder = Path("docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for stale in set(folder.glob("*.md")) - set(map(Path, made)):
        stale.unlink()
    for name, text in made.items():
        Path(name).write_text(text, encoding="utf-8")
        print(name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
