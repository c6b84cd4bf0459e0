"""Regular expressions as Prometheus has them: RE2, matching the whole text, the dot matching newlines, too.

Strategy. Prometheus is written in Go, and reads patterns by Go's package regexp; RE2 is the library that package was
made after, so syntax, matches and groups are the same, and no pattern takes more than linear time. Where the two differ
it is Go's way that holds here: ``\\C`` and groups with names beyond ASCII are refused; a name may be given to several
groups; replacements are expanded by Go's rules (``Regexp.Expand``). What RE2 alone refuses stays refused: the names of
Unicode classes that Go 1.25 added, such as ``\\p{Letter}``. Messages are Go's, so that they can be searched for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

ANYTHING = "(.*)"
"""Prometheus' default pattern: everything, as group 1."""

# Bytes that one pattern may take, compiled. RE2's own 8 MiB refuse patterns that Prometheus takes, such as \pL{1000}.
MAX_MEMORY = 64 << 20

# Texts that one pattern remembers its answers about: more than there are names of labels or metrics in a mesh.
REMEMBERED = 1024

_META = frozenset("\\.+*?()|[]{}^$")

# Go's words for what RE2 says in its own.
_GO_SAYS = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "pattern too large - compile failed": "expression too large",
}

# What tells groups apart from parentheses that are none: quotations, escapes, classes, then the groups themselves.
_TOKEN = re.compile(
    r"\\Q.*?(?:\\E|\Z) | (?P<escape>\\.) | \[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\] | \((?:\?P?<(?P<name>[^>]*)>|(?!\?))",
    re.DOTALL | re.VERBOSE,
)


class RegexError(ValueError):
    """A pattern that Prometheus refuses, too (or one of the few that only RE2 does)."""

    def __init__(self, reason: str, pattern: str, part: str = ""):
        super().__init__(f"error parsing regexp: {reason}: `{pattern}`" + (f", at `{part}`" if part else ""))


Groups = tuple[str | None, ...]
"""What was matched, and each group of it; None for a group that took no part."""


class Regex:
    """One pattern, for whole texts. ``names`` holds the name of each group, "" for those that have none and group 0.

    ``matches(text)`` tells whether the pattern matches the whole text, ``groups(text)`` returns the groups, or None for
    no match. Both remember their last answers: they are asked about the same names and values again and again.
    """

    __slots__ = ("_compiled", "_literals", "groups", "matches", "names", "pattern")

    pattern: str
    names: tuple[str, ...]
    matches: Callable[[str], bool]
    groups: Callable[[str], Groups | None]

    def __init__(self, pattern: str):
        self.pattern = pattern
        self._literals = _literals(pattern)
        self._compiled = _compile(pattern, f"^(?s:{pattern})$")
        self.names = ("", *_group_names(pattern))
        self.matches = lru_cache(REMEMBERED)(self._matches)
        self.groups = lru_cache(REMEMBERED)(self._groups)

    @classmethod
    def alone(cls, pattern: str) -> Regex:
        """Return the regex of a pattern that is sound without its anchors, as matchers of selectors must be.

        Rules of relabelling need not be: ``a)|(?:b`` is taken there, and means what it means with the anchors.
        """
        _compile(pattern, pattern)
        return cls(pattern)

    def _matches(self, text: str) -> bool:
        if self._literals is not None:
            return text in self._literals
        return self.pattern == ANYTHING or self._compiled.search(text) is not None

    def _groups(self, text: str) -> Groups | None:
        if self._literals is not None:
            return (text,) if text in self._literals else None
        if self.pattern == ANYTHING:
            return text, text
        match = self._compiled.search(text)
        return None if match is None else (match.group(), *match.groups())

    def replaced(self, text: str, template: Template) -> str:
        """Return the text with each match replaced (there can be several only where the pattern breaks its anchors)."""
        out, end = "", 0
        for match in self._compiled.finditer(text):
            out += text[end : match.start()]
            if match.end() > end or match.start() == 0:  # Go replaces no empty match right after another
                out += template.expand((match.group(), *match.groups()))
            end = match.end()
        return out + text[end:]


class Template:
    """A replacement by the rules of Go's ``Regexp.Expand``: ``$1``, ``${1}``, ``$name``, ``${name}``, ``$$``.

    A name is as long as possible: ``$1x`` is the group named "1x". A group that is not there, or took no part, is
    empty; a ``$`` that nothing of the kind follows is itself.
    """

    __slots__ = ("_parts", "text")

    def __init__(self, text: str, regex: Regex):
        self.text = text
        self._parts = tuple(_parts(text, regex.names)) if "$" in text else ()

    def expand(self, groups: Groups) -> str:
        """Return the text with what the groups matched."""
        if not self._parts:
            return self.text
        return "".join([part if isinstance(part, str) else _first(part, groups) for part in self._parts])


def _first(numbers: tuple[int, ...], groups: Groups) -> str:
    return next((text for number in numbers if (text := groups[number]) is not None), "")


def _parts(text: str, names: tuple[str, ...]) -> Iterator[str | tuple[int, ...]]:
    """Yield pieces of text, and for each reference the groups that it may mean."""
    while True:
        before, dollar, text = text.partition("$")
        yield before
        if not dollar:
            return
        if text.startswith("$"):
            yield "$"
            text = text[1:]
        elif name := _name(text):
            yield _numbers(name, names)
            text = text[len(name) + 2 if text.startswith("{") else len(name) :]
        else:
            yield "$"


def _name(text: str) -> str:
    """Return the name, bare or in braces, that a text begins with; "" where there is none."""
    start = end = int(text.startswith("{"))
    while end < len(text) and (text[end] == "_" or unicodedata.category(text[end])[0] == "L" or text[end].isdecimal()):
        end += 1
    if start and not text.startswith("}", end):
        return ""
    return text[start:end]


def _numbers(name: str, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the groups that a name means: one by number, or all those of that name."""
    if name.isascii() and name.isdigit() and (name == "0" or name[0] != "0"):
        return (int(name),) if len(name) < 9 and int(name) < len(names) else ()
    return tuple(number for number, known in enumerate(names) if known == name)


def _literals(pattern: str) -> frozenset[str] | None:
    """Return the texts of a pattern like ``a|b|c``, which needs no engine; None for any other."""
    words = pattern.split("|")
    return None if any(not _META.isdisjoint(word) for word in words) else frozenset(words)


def _compile(pattern: str, whole: str) -> Any:
    """Compile ``whole``; what is wrong is said of ``pattern``. Raises RegexError."""
    import re2

    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    try:
        compiled = re2.compile(whole, options)
    except UnicodeEncodeError:
        raise RegexError("invalid UTF-8", pattern.encode("utf-8", "backslashreplace").decode()) from None
    except re2.error as error:
        raise _refused(error.args[0], pattern) from None
    for token in _TOKEN.finditer(pattern):
        if token["escape"] == "\\C":
            raise RegexError("invalid escape sequence", pattern, "\\C")
        if token["name"] and not token["name"].isascii():
            raise RegexError("invalid named capture", pattern, token[0])
    return compiled


def _refused(said: bytes, pattern: str) -> RegexError:
    reason, _, part = said.decode("utf-8", "replace").partition(": ")
    return RegexError(_GO_SAYS.get(reason, reason), pattern, part if part in pattern and part != pattern else "")


def _group_names(pattern: str) -> Iterator[str]:
    for token in _TOKEN.finditer(pattern):
        if token[0][0] == "(":
            yield token["name"] or ""
