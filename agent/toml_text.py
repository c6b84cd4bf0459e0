"""Values as TOML writes them, for the generated file, the reference and ``check``."""

from __future__ import annotations

import json
import re
from typing import Any


def written(value: Any) -> str:
    """Return a value as TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, dict):
        inside = ", ".join(f"{key(name)} = {written(item)}" for name, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return str(value)


def key(name: str) -> str:
    """Return a key, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _basic(name)


def dotted(path: tuple[str | int, ...]) -> str:
    """Return a key path, with positions in lists in brackets: ``a."b c".d[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + key(part)
    return text


def _text(value: str) -> str:
    """A string; literal where quotes or backslashes would need escapes."""
    if ('"' in value or "\\" in value) and "'" not in value and value.isprintable():
        return f"'{value}'"
    return _basic(value)


def _basic(value: str) -> str:
    """A basic string; what a terminal could obey is escaped."""
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}" for c in quoted
    )
