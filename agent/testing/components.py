"""What every component promises, whatever its kind: options with help, secrets that stay hidden, a constructor without IO."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from agent.masking import secret_texts
from agent.options import Option, options_of
from agent.settings import Settings
from agent.testing.candidate import Candidate, Nonconformance, demand

_PLANTED = "planted-by-the-conformance-kit"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_DEEDS = {
    "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.fork",
    "os.mkdir", "os.remove", "os.rename",
}  # fmt: skip


def says_what_it_is(candidate: Candidate) -> None:
    """The class has a docstring: its first line is what ``ebbtide components`` prints."""
    own = (candidate.cls.__doc__ or "").strip()
    demand(own, f"{candidate.name} has no docstring; say in one line what it does, for `ebbtide components`")


def options_have_help(candidate: Candidate) -> None:
    """Every option, nested ones too, has a help text, for ``ebbtide docs`` and the reference."""
    settings = candidate.cls.Settings
    demand(issubclass(settings, Settings), f"{settings.__name__} does not extend ebbtide.Settings; derive it from that")
    bare = [name for name, option in _options(candidate) if not option.help.strip()]
    demand(not bare, f"the options {', '.join(bare)} of {candidate.name} have no help; declare each by ebbtide.option")


def defaults_can_be_written(candidate: Candidate) -> None:
    """An operator who writes the defaults of the reference into the file gets what one who writes nothing gets."""
    settings = candidate.settings()
    written = {option.name: option.default for option in _top(candidate) if option.default is not None}
    again = candidate.settings({**written, **candidate.options})
    demand(again == settings, f"{candidate.name} with its defaults written out is not {candidate.name} without them")


def secrets_stay_hidden(candidate: Candidate) -> None:
    """What is called a secret is typed as one, and the text of the settings does not hold it."""
    open_ones = [name for name, o in _options(candidate) if secret_texts({o.name: "x"}, set()) and not o.secret]
    listed = ", ".join(open_ones)
    demand(not open_ones, f"the options {listed} of {candidate.name} are shown in logs; type them as ebbtide.Secret")
    settings = candidate.settings()
    planted = {
        name: SecretStr(_PLANTED)
        for name, value in settings
        if isinstance(value, SecretStr) or _secret(candidate, name)
    }
    shown = settings.model_copy(update=planted)
    for text in (repr(shown), str(shown), shown.model_dump_json()):
        demand(_PLANTED not in text, f"the settings of {candidate.name} show their secrets; leave their __repr__ alone")


def constructor_opens_nothing(candidate: Candidate) -> None:
    """A constructor checks options and no more: ``ebbtide check`` calls it, on machines where nothing else is there."""
    with _watched() as deeds:
        candidate.made()
    done = ", ".join(deeds)
    demand(not deeds, f"the constructor of {candidate.name} does IO ({done}); do it in run, once or send")


def accepts_no_unknown_option(candidate: Candidate) -> None:
    """A slip of the pen in the file is a mistake, never ignored."""
    config = candidate.cls.Settings.model_config
    demand(config.get("extra") == "forbid", f"{candidate.name} ignores unknown options; keep the model_config of ebbtide.Settings")  # fmt: skip
    demand(config.get("frozen"), f"the settings of {candidate.name} can be changed; keep the model_config of ebbtide.Settings")  # fmt: skip


def takes_over_from_its_like(candidate: Candidate) -> None:
    """At a reload it takes over from one of other options, and from one that has done nothing yet."""
    try:
        candidate.made().inherit(candidate.made())
    except Exception as error:
        raise Nonconformance(
            f"{candidate.name}.inherit raises {type(error).__name__}: {error}; take what can be taken, and leave the rest"
        ) from error


PROMISES = (
    says_what_it_is,
    options_have_help,
    accepts_no_unknown_option,
    defaults_can_be_written,
    secrets_stay_hidden,
    constructor_opens_nothing,
    takes_over_from_its_like,
)


def _top(candidate: Candidate) -> tuple[Option, ...]:
    return options_of(candidate.cls.Settings)


def _options(candidate: Candidate) -> Iterator[tuple[str, Option]]:
    for option in _top(candidate):
        yield from option.walk()


def _secret(candidate: Candidate, name: str) -> bool:
    """Whether the option is a single secret, so that one can be planted."""
    return any(option.name == name and option.sort == "secret string" for option in _top(candidate))


_listeners: list[list[str]] = []


@contextmanager
def _watched() -> Iterator[list[str]]:
    """Collect what is done to the outside world meanwhile, by the names of Python's audit events."""
    if not _hooked:
        sys.addaudithook(_hear)  # for the life of the process: hooks cannot be removed
        _hooked.append(True)
    deeds: list[str] = []
    _listeners.append(deeds)
    try:
        yield deeds
    finally:
        _listeners.remove(deeds)


_hooked: list[bool] = []


def _hear(event: str, details: tuple[Any, ...]) -> None:
    if not _listeners or (event not in _DEEDS and event != "open"):
        return
    if event == "open":
        path, _, flags = details
        if not isinstance(flags, int) or not flags & _WRITES or "__pycache__" in str(path):
            return
        event = f"open {path} for writing"
    for deeds in _listeners:
        deeds.append(event)
