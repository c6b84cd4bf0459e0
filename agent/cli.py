"""The command `ebbtide`.

Strategy. Nothing but the command line is imported before it is understood: ``ebbtide --help`` must answer at once.
Exit status: 0 well · 1 failed at run time · 2 the command line · 78 the configuration (EX_CONFIG of sysexits).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import held_signals, streams

if TYPE_CHECKING:
    from agent.config import Config, Declared

WELL, FAILED, USAGE, CONFIG = 0, 1, 2, 78

DEFAULT_FILES = (Path("agent.toml"), Path("/etc/ebbtide/agent.toml"))

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no linear algebra here: threads of numpy's would only idle
    streams.prepare()
    try:
        status = _commanded(argv)
        streams.flush()
        return status
    except BrokenPipeError:  # nobody reads any more
        streams.give_up()
        return WELL
    except OSError as error:
        if not streams.no_room(error):
            raise
        streams.give_up()
        _say(f"cannot write to standard output: {error.strerror}; free some space")
        return FAILED
    except KeyboardInterrupt:  # before anything was started
        return WELL


def _commanded(argv: Sequence[str] | None) -> int:
    try:
        options = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has said what it had to say
        return end.code if isinstance(end.code, int) else USAGE
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ebbtide",
        description="Carries Linkerd's metrics out before they are gone.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, does: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
        sub.set_defaults(command=does)
        return sub

    for name, does, help in (
        ("run", _run, "run the pipelines of a file until told to stop"),
        ("check", _check, "check a file, open nothing, and print what would run"),
        ("once", _once, "poll every receiver once, send what came, and end"),
    ):
        sub = command(name, does, help)
        sub.add_argument("file", nargs="?", type=Path, metavar="FILE", help=_FILE_HELP)
        if name == "once":
            sub.add_argument("--ledger", type=Path, metavar="PATH", help="write the ledger there, as JSON")
    _preview_arguments(command("preview", _preview, "show what one poll would become, and send nothing"))
    _record_arguments(command("record", _record, "save the page of one poll, for preview --page"))
    command("components", _components, "list the plugins that are installed")
    command("docs", _docs, "print the options of a component").add_argument(
        "name", metavar="NAME", help="its type, or: agent, pipelines"
    )
    command("schema", _schema, "print the JSON schema of the file")
    _demo_arguments(command("demo", _demo, "simulate a mesh on 127.0.0.1 and run a pipeline on it"))
    return parser


_FILE_HELP = "the pipeline file (default: " + ", then ".join(map(str, DEFAULT_FILES)) + ")"


def _preview_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=_FILE_HELP)
    parser.add_argument("--page", type=Path, metavar="PAGE", help="read this saved page instead of polling")
    parser.add_argument("--receiver", metavar="ID", help="poll this receiver only; whom the page is for")
    parser.add_argument(
        "--pairs",
        type=_at_least(0),
        default=3,
        metavar="N",
        help="rows to show of each processor, before and after (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print all of it as one JSON document")


def _record_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=_FILE_HELP)
    parser.add_argument(
        "--page", type=Path, metavar="PAGE", required=True, help="where to save it; gzip where the name ends in .gz"
    )
    parser.add_argument("--receiver", metavar="ID", help="which receiver polls, where there are several")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--proxies", type=_at_least(1), default=12, metavar="N", help="simulated proxies (%(default)s)")
    parser.add_argument("--routes", type=_at_least(0), default=3, metavar="N", help="routes per service (%(default)s)")
    parser.add_argument("--port", type=_port, default=0, metavar="P", help="port of the mesh (a free one)")
    parser.add_argument(
        "--history", type=_seconds, default=_seconds("6h"), metavar="6h", help="history made up at start (6h)"
    )
    parser.add_argument("--no-agent", action="store_true", help="the mesh alone, without a pipeline")
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="the pipeline file (default: the shipped one)"
    )


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"ebbtide {_version()}")
        parser.exit(WELL)


def _version() -> str:
    from importlib.metadata import version

    return version("ebbtide")


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more")
        return int(text)

    return number


def _port(text: str) -> int:
    port = _at_least(0)(text)
    if port > 65535:
        raise argparse.ArgumentTypeError("expected a port, at most 65535")
    return port


def _seconds(text: str) -> float:
    """A duration of the command line; the file's own reader would import too much before ``--help`` is answered."""
    if not re.fullmatch(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d))+", text):
        raise argparse.ArgumentTypeError('expected a duration such as "30m" or "6h"')
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)([a-z]+)", text))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _chosen(file: Path | None) -> Path:
    from agent.config import ConfigErrors

    if file is not None:
        return file
    for candidate in DEFAULT_FILES:
        if candidate.exists():
            return candidate
    tried = " and ".join(map(str, DEFAULT_FILES))
    raise ConfigErrors([f"cannot find a pipeline file: there is neither of {tried}; name one behind the command"])


def _configured(file: Path | None, use: Callable[[Config], int]) -> int:
    """Load the file and use it; print what is wrong with it instead, all at once."""
    from agent import heap

    heap.prepare()  # before the imports, through which the collector would look again and again
    from agent.config import ConfigErrors, load
    from agent.plugin import ConfigError

    try:
        config = load(_chosen(file))
        try:
            return use(config)
        except ConfigError:
            config.try_out()  # says the same again, with its place in the file, and all of its kind
            raise
    except (ConfigErrors, ConfigError) as error:
        _say(str(error))
        return CONFIG


def _run(options: argparse.Namespace) -> int:
    held_signals.hold()
    return _configured(options.file, lambda config: _started(config))


def _once(options: argparse.Namespace) -> int:
    held_signals.hold()
    return _configured(options.file, lambda config: _started(config, once=True, ledger_path=options.ledger))


def _started(config: Config, *, once: bool = False, ledger_path: Path | None = None) -> int:
    import logging

    from agent import log
    from agent.run import run

    log.setup(config.agent.log_level, config.agent.log_format)
    for warning in config.warnings:
        logging.getLogger("ebbtide").warning("%s", warning)
    return run(config, once=once, ledger_path=ledger_path)


def _preview(options: argparse.Namespace) -> int:
    def use(config: Config) -> int:
        from agent.preview import PreviewOptions, preview

        return preview(config, PreviewOptions(options.page, options.receiver, options.pairs, options.json))

    return _configured(options.file, use)


def _record(options: argparse.Namespace) -> int:
    def use(config: Config) -> int:
        from agent.preview import record

        return record(config, options.page, options.receiver, force=options.force)

    return _configured(options.file, use)


def _check(options: argparse.Namespace) -> int:
    return _configured(options.file, _print_plan)


def _print_plan(config: Config) -> int:
    from agent.discover import KINDS

    config.try_out()
    for kind in KINDS:
        used = {id for pipeline in config.pipelines.values() for id in getattr(pipeline, kind)}
        for declared in config.of_kind(kind).values():
            if declared.id in used:  # of the others a warning tells
                print(_shown(declared))
    for name, pipeline in config.pipelines.items():
        stages = [", ".join(getattr(pipeline, kind)) for kind in KINDS]
        print(f"pipelines.{name}: " + " -> ".join(stage for stage in stages if stage))
    for warning in config.warnings:
        _say(f"warning: {warning}")
    return WELL


def _shown(declared: Declared) -> str:
    """One line for a component: its options as written, variables unresolved, secrets hidden."""
    from agent.masking import masked, secret_names
    from agent.toml_text import written

    given = {key: value for key, value in declared.given.items() if key != "type"}
    shown = masked(given, secret_names(declared.cls.Settings))
    options = " ".join(f"{key}={written(value)}" for key, value in shown.items())
    return f"{declared.kind}.{declared.id}: {declared.type} {options}".rstrip()


def _components(options: argparse.Namespace) -> int:
    from agent.discover import KINDS, PluginError, plugins

    found = plugins()
    width = max((len(name) for kind in KINDS for name in found[kind]), default=0)
    for kind in KINDS:
        print(f"{kind}:")
        for name, plugin in found[kind].items():
            try:
                about = (plugin.load().__doc__ or "").strip().partition("\n")[0]
            except PluginError as error:
                about = str(error)
            print(f"  {name:<{width}}  {plugin.origin}  {about}".rstrip())
    return WELL


def _docs(options: argparse.Namespace) -> int:
    from agent.discover import PluginError
    from agent.mistakes import did_you_mean
    from agent.reference import subjects

    known = subjects()
    asked = [subject for subject in known if subject.name == options.name]
    if not asked:
        guess = did_you_mean(options.name, (subject.name for subject in known), "")
        _say(f"ebbtide docs: no component of this name is installed; {guess} All of them: ebbtide components")
        return USAGE
    for position, subject in enumerate(asked):
        try:
            print(("\n" if position else "") + subject.as_text())
        except PluginError as error:
            _say(str(error))
            return CONFIG
    return WELL


def _schema(options: argparse.Namespace) -> int:
    from agent.discover import PluginError
    from agent.reference import Subject, subjects
    from agent.schema import file_schema

    known: list[Subject] = []
    for subject in subjects():
        try:
            subject.check()
            known.append(subject)
        except PluginError as error:
            _say(f"left out: {subject.kind}.{subject.name}: {error}")
    print(json.dumps(file_schema(known), indent=2, ensure_ascii=False))
    return WELL


def _demo(options: argparse.Namespace) -> int:
    from agent import log
    from agent.config import ConfigErrors
    from agent.demo import DemoOptions, main
    from agent.plugin import ConfigError

    log.setup()
    try:
        return main(
            DemoOptions(
                proxies=options.proxies,
                routes=options.routes,
                port=options.port,
                history=options.history,
                no_agent=options.no_agent,
                file=options.file,
            )
        )
    except (ConfigErrors, ConfigError) as error:
        _say(str(error))
        return CONFIG


if __name__ == "__main__":
    raise SystemExit(main())
