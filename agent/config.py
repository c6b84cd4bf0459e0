"""The pipeline file: TOML -> checked settings of every component, or all of its mistakes at once.

Strategy. Five passes, each of which leaves what it could not make sense of to none of the later ones: read and parse;
put in the variables; check the settings of each component with its own class; check the ids that pipelines name; look
for what is right but surely not meant (warnings). Every mistake knows its key path, and ``Lines`` its line. No value of
the file is ever shown: it may be a secret in the wrong place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import tomli
import trio
from pydantic import ValidationError

from agent import mistakes
from agent.discover import KINDS, Plugin, PluginError, plugins
from agent.masking import blot, secret_names, secret_texts
from agent.mistakes import did_you_mean, toml_name
from agent.options import Option, options_of
from agent.plugin import Component, ConfigError, Context
from agent.settings import AgentSettings, OutboxSettings, PipelineSettings, Settings, clashes
from agent.toml_lines import Lines
from agent.toml_lines import Path as KeyPath
from agent.toml_text import dotted
from agent.variables import Substitution

TABLES = ("agent", *KINDS, "pipelines")

# An id becomes a label of metrics and a name in logs and in the state file.
ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")

ComponentClass = type[Component[Any]]

_M = TypeVar("_M", bound=Settings)


class ConfigErrors(Exception):
    """Everything that is wrong with a file, one line each, in the file's order; exit status 78."""

    def __init__(self, problems: Iterable[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Declared:
    """One component of the file. ``given`` is its table as written, variables unresolved: only for showing."""

    id: str
    kind: str
    type: str
    cls: ComponentClass
    settings: Settings
    outbox: OutboxSettings | None
    line: int
    given: dict[str, Any] = field(default_factory=dict, repr=False)

    def same_as(self, other: Declared) -> bool:
        """Whether the other declares the same component, wherever it stands in the file."""
        mine = (self.id, self.kind, self.cls, self.settings, self.outbox)
        return mine == (other.id, other.kind, other.cls, other.settings, other.outbox)


@dataclass(frozen=True)
class Config:
    """A file that is right."""

    path: Path
    agent: AgentSettings
    receivers: dict[str, Declared]
    processors: dict[str, Declared]
    exporters: dict[str, Declared]
    pipelines: dict[str, PipelineSettings]
    warnings: list[str] = field(default_factory=list)
    lines: Lines = field(default_factory=lambda: Lines(""), repr=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)  # what variables brought into the file

    def of_kind(self, kind: str) -> dict[str, Declared]:
        """Return the components of "receivers", "processors" or "exporters" by id."""
        found: dict[str, Declared] = getattr(self, kind)
        return found

    def refused(self, declared: Declared, error: ConfigError) -> ConfigErrors:
        """Return what a component's constructor said, with the place in the file that it is about."""
        path, text = _refused(declared, error, self.secrets)
        return ConfigErrors([said(self.path, self.lines.of(path), path, text)])

    def try_out(self) -> None:
        """Make every component once, and let go of it: what constructors refuse is raised, all at once, as ConfigErrors.

        Constructors open no connection. Not to be called inside a trio run.
        """
        declared = [one for kind in KINDS for one in self.of_kind(kind).values()]
        if problems := refusals(declared, self.secrets):
            raise ConfigErrors(told(self.path, self.lines, problems))


def refusals(declared: Iterable[Declared], secrets: frozenset[str]) -> list[tuple[KeyPath, str]]:
    """Make components once, and let go of them; return what constructors refuse. Not to be called inside a trio run."""
    refused: list[tuple[KeyPath, str]] = []
    made: list[Component[Any]] = []
    for one in declared:
        try:
            made.append(one.cls(one.settings, Context(id=one.id)))
        except ConfigError as error:
            refused.append(_refused(one, error, secrets))
    trio.run(_close, made)
    return refused


def _refused(declared: Declared, error: ConfigError, secrets: frozenset[str]) -> tuple[KeyPath, str]:
    path: KeyPath = (declared.kind, declared.id, *((error.option,) if error.option else ()))
    return path, blot(str(error), secrets | secret_texts(declared.given, secret_names(declared.cls.Settings)))


async def _close(made: list[Component[Any]]) -> None:
    for component in made:
        if close := getattr(component, "aclose", None):
            await close()


def load(path: Path, env: Mapping[str, str] = os.environ) -> Config:
    """Read and check the file; opens nothing but it and the files of its ``${file:}``. Raises ConfigErrors."""
    source = _read(path)
    document = _parse(path, source)
    return _Loader(path, document, Lines(source), env).config()


def told(file: Path, lines: Lines, problems: Iterable[tuple[KeyPath, str]]) -> list[str]:
    """The problems as lines of text, in the order of the file."""
    numbered = [(line, said(file, line, path, text)) for path, text in problems for line in [lines.of(path)]]
    return [text for _, text in sorted(numbered, key=lambda item: item[0])]


def said(file: Path, line: int, path: KeyPath, text: str) -> str:
    """``FILE:LINE: path.to.key: text``."""
    return f"{file}:{line}: {dotted(path)}: {text}" if path else f"{file}:{line}: {text}"


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigErrors([f"{path}:{line}: cannot read the file: it is not UTF-8 text; save it as UTF-8"]) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its name is not a path"
        raise ConfigErrors([f"{path}: cannot read the file: {why}; check the path and who may read it"]) from None


def _parse(path: Path, source: str) -> dict[str, Any]:
    try:
        return tomli.loads(source)
    except tomli.TOMLDecodeError as error:
        problem = f"{path}:{error.lineno}: not valid TOML: {error.msg} (column {error.colno}); correct the syntax here"
    except RecursionError:
        problem = f"{path}:1: cannot read the file: its arrays or tables are nested too deeply; flatten them"
    except ValueError:
        problem = f"{path}:1: not valid TOML: a number has too many digits; shorten it"
    raise ConfigErrors([problem]) from None


class _Loader:
    """One reading of one file; collects what is wrong with it."""

    def __init__(self, path: Path, document: dict[str, Any], lines: Lines, env: Mapping[str, str]):
        self.path = path
        self.lines = lines
        self.written = document
        self.substitution = Substitution(env, path.parent)
        self.document = self.substitution(document)
        self.problems: dict[tuple[KeyPath, str], None] = {}
        self.warnings: list[tuple[int, str]] = []
        self.plugins = plugins()
        for where, text in self.substitution.problems.items():
            self.problem(where, text)

    def config(self) -> Config:
        """Return the checked file, or raise all that is wrong with it."""
        if not self.document:
            self.problem((), "the file is empty; declare receivers, exporters and a pipeline: see ebbtide docs")
        self.top_level()
        agent = self.validated(AgentSettings, self.table("agent"), ("agent",))
        components = {kind: self.components(kind) for kind in KINDS}
        pipelines = self.pipelines()
        if self.problems:
            self.try_out(one for kind in components.values() for one in kind.values())
            raise ConfigErrors(told(self.path, self.lines, self.problems))
        assert agent is not None
        self.warn(agent)
        warnings = [text for _, text in sorted(self.warnings)]
        return Config(
            self.path,
            agent,
            **components,
            pipelines=pipelines,
            warnings=warnings,
            lines=self.lines,
            secrets=frozenset(self.substitution.secrets),
        )

    def problem(self, path: KeyPath, text: str) -> None:
        """Note what is wrong with a key; once, and not where the variable in it is what is wrong."""
        self.problems[path, text] = None

    def try_out(self, components: Iterable[Declared]) -> None:
        """Note what constructors refuse beside all that is wrong already; while the agent runs they cannot be asked."""
        if not trio.lowlevel.in_trio_run():
            for path, text in refusals(components, frozenset(self.substitution.secrets)):
                self.problem(path, text)

    def broken(self, path: KeyPath) -> bool:
        """Whether the variables in the value at ``path`` could not be resolved: then nothing more is said of it."""
        return any(bad[: len(path)] == path for bad in self.substitution.problems)

    def top_level(self) -> None:
        """Report what the file must not contain."""
        for name in self.document:
            if name not in TABLES:
                self.problem((name,), f"unknown table; {did_you_mean(name, TABLES, '')}")

    def table(self, *path: str) -> dict[str, Any]:
        """Return the table at ``path``; an absent one is empty, anything else is reported."""
        value: Any = self.document
        for key in path:
            value = value.get(key, {})
        if isinstance(value, dict):
            return value
        self.problem(path, f"expected a table, not {toml_name(value)}; write [{dotted(path)}]")
        return {}

    def ids(self, kind: str) -> list[str]:
        """Return the ids of a kind whose tables are tables; report the others."""
        found = []
        for name, value in self.table(kind).items():
            path = (kind, name)
            if not isinstance(value, dict):
                self.problem(
                    path, f"expected the table of one component; write [{kind}.ID] with an id of your choice above it"
                )
            elif not ID.fullmatch(name):
                self.problem(path, "not an id; use letters, digits, _ and -, at most 63 of them")
            else:
                found.append(name)
        return found

    def components(self, kind: str) -> dict[str, Declared]:
        """Check every component of a kind; those with mistakes are left out."""
        declared = {name: self.component(kind, name) for name in self.ids(kind)}
        return {name: found for name, found in declared.items() if found is not None}

    def component(self, kind: str, name: str) -> Declared | None:
        """Check one component: its type, what the frame takes of it, and its own settings."""
        path = (kind, name)
        given = dict(self.table(kind, name))
        cls = self.component_class(path, given.pop("type", None))
        if cls is None:
            return None
        frame = OutboxSettings if kind == "exporters" else None
        outbox = None
        if frame is not None:
            taken = {key: given.pop(key) for key in frame.model_fields if key in given}
            outbox = self.validated(frame, taken, path)
            self.no_disk(taken, path)
        also = ("type", *(frame.model_fields if frame else ()))
        settings = self.validated(cls.Settings, given, path, also)
        if settings is None or (frame and outbox is None):
            return None
        written = self.written[kind][name]
        return Declared(
            name, kind, self.document[kind][name]["type"], cls, settings, outbox, self.lines.of(path), written
        )

    def component_class(self, path: tuple[str, str], type_: Any) -> type[Component[Any]] | None:
        """Find the class that `type` names."""
        kind, where = path[0], (*path, "type")
        known: dict[str, Plugin] = self.plugins[kind]
        if self.broken(where):
            return None
        if type_ is None:
            self.problem(where, f'required, and missing; add type = "NAME": {_listed(known)}')
        elif not isinstance(type_, str):
            self.problem(where, f"expected a string in quotes, not {toml_name(type_)}; write one of: {_listed(known)}")
        elif type_ not in known:
            guess = did_you_mean(type_, known, "none is installed.")
            elsewhere = [other for other in KINDS if other != kind and type_ in self.plugins[other]]
            if elsewhere:
                guess = f"it is one of the {elsewhere[0]}, so declare it there; else {guess}"
            self.problem(where, f"unknown type of {kind[:-1]}; {guess} All of them: ebbtide components")
        else:
            try:
                return known[type_].load()
            except PluginError as error:
                self.problem(where, str(error))
        return None

    def validated(self, model: type[_M], given: dict[str, Any], path: KeyPath, also: Iterable[str] = ()) -> _M | None:
        """Return the settings, or note all that is wrong with them and return None."""
        try:
            return model.model_validate(given)
        except ValidationError as error:
            secrets = self.substitution.secrets | secret_texts(given, secret_names(model))
            for inner, text in mistakes.of_settings(error, model, given, also, secrets):
                if not self.broken((*path, *inner)):
                    self.problem((*path, *inner), text)
            self.clashes(options_of(model), given, path)
        return None

    def clashes(self, options: Iterable[Option], given: dict[str, Any], path: KeyPath) -> None:
        """Report what cannot be set together: the settings class does not get so far where single options are wrong."""
        known = {option.name: option.inside for option in options}
        for clash in clashes(name for name in given if name in known):
            self.problem((*path, clash.option), str(clash))
        for name, value in given.items():
            if isinstance(value, dict) and known.get(name):
                self.clashes(known[name], value, (*path, name))

    def no_disk(self, outbox: dict[str, Any], path: KeyPath) -> None:
        """Refuse what this version cannot do, instead of quietly losing at a restart what was to be kept."""
        queue = outbox.get("queue")
        if isinstance(queue, dict) and queue.get("kind") == "disk":
            self.problem((*path, "queue", "kind"), 'disk queues are not built yet in this version; use "memory"')

    def pipelines(self) -> dict[str, PipelineSettings]:
        """Check every pipeline and the ids that it names."""
        found = {}
        for name in self.ids("pipelines"):
            path = ("pipelines", name)
            settings = self.validated(PipelineSettings, self.table(*path), path)
            if settings is not None:
                found[name] = settings
            for kind in KINDS:
                ids = self.table(*path).get(kind)
                self.references((*path, kind), kind, ids if isinstance(ids, list) else [])
        if self.document and self.document.get("pipelines", {}) == {}:
            self.problem(("pipelines",), "no pipeline is declared; add [pipelines.ID] with its receivers and exporters")
        return found

    def references(self, path: tuple[str, str, str], kind: str, ids: list[Any]) -> None:
        """Report the ids of a list that name nothing, or the same thing twice."""
        known = self.table(kind)
        for position, name in enumerate(ids):
            where = (*path, position)
            if self.broken(where) or not isinstance(name, str):
                continue
            if name not in known:
                others = [other for other in KINDS if other != kind and name in self.table(other)]
                hint = (
                    f"it is one of the {others[0]}, so name it there"
                    if others
                    else did_you_mean(name, known, f"none is declared, so add [{kind}.ID]")
                )
                self.problem(where, f"unknown {kind[:-1]}; {hint}")
            elif name in ids[:position]:
                self.problem(where, "named twice in this list; remove one of them")

    def warn(self, agent: AgentSettings) -> None:
        """Note what is right but surely not meant."""
        used = {
            (kind, name)
            for pipeline in self.table("pipelines").values()
            for kind in KINDS
            for name in pipeline.get(kind, ())
        }
        for kind in KINDS:
            for name in self.table(kind):
                if (kind, name) not in used:
                    self.warning(
                        (kind, name),
                        f"no pipeline uses this {kind[:-1]}, so it will not run; name it in one, or remove it",
                    )
        if agent.state_dir is not None:
            self.warning(
                ("agent", "state_dir"),
                "this version keeps queues in memory only: what is held when the process ends is lost; only the "
                "checkpoints of receivers are kept on disk",
            )

    def warning(self, path: KeyPath, text: str) -> None:
        line = self.lines.of(path)
        self.warnings.append((line, said(self.path, line, path, text)))


def _listed(known: Iterable[str]) -> str:
    return ", ".join(sorted(known)) or "none is installed; see ebbtide components"
