"""``${NAME}``, ``${NAME:-default}`` and ``${file:PATH}`` inside the string values of a parsed file.

Keys are never touched, and what was put in is not looked at again. Anything else with a dollar stays as it is:
``$1``, ``${1}`` and ``$$`` belong to relabel rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.toml_lines import Path as KeyPath

VARIABLE = re.compile(r"\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?|file:(?P<file>[^}]*))\}")

# A password, a token or a list of names; more is a slip of the pen (a device, a database).
MAX_FILE = 1 << 20


class Substitution:
    """Replaces variables in a document; afterwards ``problems`` and ``secrets`` tell what was met.

    ``problems`` path -> what is wrong with that value · ``secrets`` every text that came from outside the file, none of
    which may be shown. Relative paths of files are taken from ``folder``.
    """

    def __init__(self, env: Mapping[str, str], folder: Path):
        self._env = env
        self._folder = folder
        self.problems: dict[KeyPath, str] = {}
        self.secrets: set[str] = set()

    def __call__(self, value: Any, path: KeyPath = ()) -> Any:
        """Return the value with every string in it substituted."""
        if isinstance(value, dict):
            return {key: self(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self(item, (*path, position)) for position, item in enumerate(value)]
        if isinstance(value, str):
            return VARIABLE.sub(lambda match: self._replace(match, path), value)
        return value

    def _replace(self, match: re.Match[str], path: KeyPath) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            return self._outside(self._read(match["file"], path))
        text = self._env.get(name)
        if default is not None and not text:
            return default
        if text is None:
            self._problem(path, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
            return ""
        return self._outside(text)

    def _read(self, name: str, path: KeyPath) -> str:
        try:
            with (self._folder / name).open("rb") as file:
                content = file.read(MAX_FILE + 1)
            if len(content) <= MAX_FILE:
                return re.sub(r"(?:\r?\n)+\Z", "", content.decode())
            why = f"it is larger than {MAX_FILE} bytes"
        except OSError as error:
            why = error.strerror or type(error).__name__
        except ValueError:  # not UTF-8, or a NUL in the path
            why = "it is not UTF-8 text" if "\0" not in name else "its name is not a path"
        self._problem(path, f"cannot read the file {name!r} of ${{file:}}: {why}; check the path and who may read it")
        return ""

    def _outside(self, text: str) -> str:
        self.secrets.add(text)
        return text

    def _problem(self, path: KeyPath, text: str) -> None:
        self.problems.setdefault(path, text)
