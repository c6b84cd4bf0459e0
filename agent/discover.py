"""Which plugins there are: entry points -> kind -> name -> class, loaded only when asked for.

The built-ins register through the same entry points as a stranger's package; the frame names none of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import (
    Distribution,
    EntryPoint,
    EntryPoints,
    PackageNotFoundError,
    distribution,
    entry_points,
)
from typing import TYPE_CHECKING, Any

from agent.settings import Settings

if TYPE_CHECKING:
    from agent.plugin import Component

KINDS = ("receivers", "processors", "exporters")
GROUPS = {kind: f"ebbtide.{kind}" for kind in KINDS}


class PluginError(Exception):
    """A plugin that is registered but cannot be used; the text says why and what to try."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One registered plugin. ``name`` is the `type` in the file, ``kind`` one of ``KINDS``, ``rivals`` who else claims it."""

    name: str
    kind: str
    entry_point: EntryPoint
    rivals: tuple[str, ...] = ()

    @property
    def distribution(self) -> str:
        """The name of the distribution that it comes from."""
        return _origin(self.entry_point)

    @property
    def origin(self) -> str:
        """The distribution and its version, as people write it."""
        dist = self.entry_point.dist
        return _origin(self.entry_point) if dist is None else f"{dist.name} {dist.version}"

    def load(self) -> type[Component[Any]]:
        """Import the plugin and return its class. Raises PluginError when it cannot be had or is of another kind."""
        if self.rivals:
            claims = " and ".join((self.distribution, *self.rivals))
            raise PluginError(
                f"cannot tell which {self.name} is meant: {claims} both provide it; uninstall all but one"
            )
        try:
            cls = self.entry_point.load()
        except ImportError as error:
            raise PluginError(self._missing(error)) from error
        except AttributeError as error:
            raise PluginError(f"cannot find {self.entry_point.value} of {self.origin}; reinstall it") from error
        except Exception as error:
            raise PluginError(
                f"cannot load {self.entry_point.value} of {self.origin}: importing it raised {type(error).__name__}; "
                f"ask its author"
            ) from error
        base = base_of(self.kind)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise PluginError(
                f"cannot use {self.entry_point.value} of {self.origin}: it is not a subclass of ebbtide.{base.__name__}; "
                f"register it under the group of its own kind"
            )
        if not issubclass(getattr(cls, "Settings", object), Settings):
            raise PluginError(
                f"cannot use {self.entry_point.value} of {self.origin}: its Settings do not extend ebbtide.Settings; "
                f"derive them from it"
            )
        return cls

    def _missing(self, error: ImportError) -> str:
        """Say what to install, when an import failed."""
        module = error.name or "a module it needs"
        top = module.partition(".")[0]
        if top == self.entry_point.module.partition(".")[0]:
            return f"cannot find {module} of {self.origin}; reinstall it"
        extra = extra_for(self, top)
        what = f"'{self.distribution}[{extra}]'" if extra else top.replace("_", "-")
        return f"cannot load {self.name}: it needs the Python module {top}; run: pip install {what}"


def base_of(kind: str) -> type[Component[Any]]:
    """Return the base class that plugins of this kind extend."""
    from agent import plugin  # here, because it imports numpy, which listing the plugins does not need

    return {"receivers": plugin.Receiver, "processors": plugin.Processor, "exporters": plugin.Exporter}[kind]


def plugins() -> dict[str, dict[str, Plugin]]:
    """Return every registered plugin by kind and name; nothing is imported yet."""
    registered = entry_points()  # once, for it opens files of every distribution there is
    return {kind: _by_name(kind, registered.select(group=GROUPS[kind])) for kind in KINDS}


def _by_name(kind: str, registered: EntryPoints) -> dict[str, Plugin]:
    claims: dict[str, list[EntryPoint]] = {}
    for entry_point in registered:
        claims.setdefault(entry_point.name, []).append(entry_point)
    return {name: _plugin(kind, name, found) for name, found in sorted(claims.items())}


def _plugin(kind: str, name: str, found: list[EntryPoint]) -> Plugin:
    if len(found) == 1:  # whose it is need not be known: finding out parses the metadata of its distribution
        return Plugin(name, kind, found[0])
    claims = sorted(((_origin(entry_point), entry_point) for entry_point in found), key=lambda claim: claim[0])
    own, entry_point = claims[0]
    return Plugin(name, kind, entry_point, tuple(dict.fromkeys(other for other, _ in claims if other != own)))


def _origin(entry_point: EntryPoint) -> str:
    return "an unnamed distribution" if entry_point.dist is None else entry_point.dist.name


def extra_for(plugin: Plugin, module: str) -> str | None:
    """Return the extra of the plugin's distribution that brings ``module``, as far as its metadata tells."""
    dist = _distribution(plugin.distribution)
    if dist is None:
        return None
    wanted = _normal(module)
    for requirement in dist.requires or ():
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra\s*==\s*['\"]([\w.-]+)", requirement)
        if name and extra and _normal(name[0]) == wanted:
            return extra[1]
    extras = dist.metadata.get_all("Provides-Extra") or []
    return next((extra for extra in (*plugin.entry_point.extras, plugin.name) if extra in extras), None)


def _distribution(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except (PackageNotFoundError, ValueError):
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
