"""Where in a TOML file each key stands: key path -> line number.

Strategy. The TOML reader gives line numbers for syntax errors only, yet every mistake is reported with its line. So
the source, once the reader has accepted it, is walked a second time by a scanner that knows just enough TOML to skip
values and to note keys: it may trust the syntax. A path is a tuple of keys and of positions in arrays.
"""

from __future__ import annotations

import re
from bisect import bisect_right

import tomli

Path = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})', re.DOTALL),
    re.compile(r"'''.*?'''(?:'{0,2})", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


class Lines:
    """The lines of the keys of one TOML document (counted from 1), which must be valid."""

    def __init__(self, source: str):
        self._known: dict[Path, int] = {}
        _Scanner(source.replace("\r\n", "\n"), self._known).document()

    def of(self, path: Path) -> int:
        """Return the line of the key, or of the innermost table around it that the file names; else 1."""
        while path and path not in self._known:
            path = path[:-1]
        return self._known.get(path, 1)


class _Scanner:
    def __init__(self, source: str, known: dict[Path, int]):
        self.source = source
        self.known = known
        self.at = 0
        self.starts = [0, *(match.end() for match in re.finditer("\n", source))]
        self.arrays: dict[Path, int] = {}  # array of tables -> position of its last table

    def document(self) -> None:
        """Walk all statements: headers and key/value pairs."""
        table: Path = ()
        self.space()
        while self.at < len(self.source):
            if self.source.startswith("[[", self.at):
                table = self.array_header()
            elif self.source[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            self.space()

    def header(self) -> Path:
        """``[a.b]`` -> its path."""
        line = self.line()
        self.at += 1
        path = self.inside_last(self.keys())
        self.at += 1  # the bracket
        self.note(path, line, explicit=True)
        return path

    def array_header(self) -> Path:
        """``[[a.b]]`` -> the path of the new table in it."""
        line = self.line()
        self.at += 2
        keys = self.keys()
        self.at += 2
        path = (*self.inside_last(keys[:-1]), keys[-1])
        self.arrays[path] = self.arrays.get(path, -1) + 1
        self.note(path, line)
        path = (*path, self.arrays[path])
        self.note(path, line, explicit=True)
        return path

    def inside_last(self, keys: list[str]) -> Path:
        """Resolve keys that lead through arrays of tables: the last table of each is meant."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self.arrays:
                path = (*path, self.arrays[path])
        return path

    def pair(self, table: Path) -> None:
        """``a.b = value``."""
        line = self.line()
        path = (*table, *self.keys())
        self.at += 1  # the equals sign
        self.space()
        self.note(path, line, explicit=True)
        self.value(path)

    def keys(self) -> list[str]:
        """A dotted key; leaves the position at what follows it."""
        keys = []
        while True:
            self.space()
            bare = _BARE_KEY.match(self.source, self.at)
            if bare:
                self.at = bare.end()
                keys.append(bare[0])
            else:
                keys.append(next(iter(tomli.loads(f"{self.string()} = 0"))))
            self.space()
            if not self.source.startswith(".", self.at):
                return keys
            self.at += 1

    def value(self, path: Path) -> None:
        """Skip one value, noting the keys and positions inside it."""
        first = self.source[self.at]
        if first in "\"'":
            self.string()
        elif first == "[":
            self.array(path)
        elif first == "{":
            self.inline_table(path)
        else:
            self.at = self.match(_SCALAR).end()

    def array(self, path: Path) -> None:
        """Skip an array, noting where each item begins."""
        position = 0
        self.at += 1
        while self.more("]"):
            item = (*path, position)
            self.note(item, self.line())
            self.value(item)
            position += 1

    def inline_table(self, path: Path) -> None:
        """Skip an inline table, noting its keys."""
        self.at += 1
        while self.more("}"):
            self.pair(path)

    def more(self, closing: str) -> bool:
        """Pass separators; tell whether another item comes, or pass the closing bracket."""
        self.space()
        if self.source[self.at] == ",":
            self.at += 1
            self.space()
        if self.source[self.at] != closing:
            return True
        self.at += 1
        return False

    def string(self) -> str:
        """Skip a string of any of the four forms and return it with its quotes."""
        for form in _STRINGS:
            if match := form.match(self.source, self.at):
                self.at = match.end()
                return match[0]
        raise ValueError("cannot scan a TOML string that the reader accepted")

    def note(self, path: Path, line: int, *, explicit: bool = False) -> None:
        """Remember the line of a key and, unless they have lines of their own, of the tables it implies."""
        for length in range(1, len(path)):
            self.known.setdefault(path[:length], line)
        if explicit:
            self.known[path] = line
        else:
            self.known.setdefault(path, line)

    def space(self) -> None:
        """Skip blanks, newlines and comments."""
        self.at = self.match(_SPACE).end()

    def match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self.source, self.at)
        if match is None:
            raise ValueError("cannot scan TOML that the reader accepted")
        return match

    def line(self) -> int:
        """The line of the present position."""
        return bisect_right(self.starts, self.at)
