"""What the agent can say when something is wrong, read off the source: every sentence, with … where data stands.

Strategy. A message is a string that is logged as a warning or an error, raised, or noted as a mistake of the file; or one
that begins with "cannot", wherever it stands, since that is how sentences begin here that are put together elsewhere.
Words that are put in as data (`{why}`) are no messages of their own. Debug and info lines are not problems.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("agent", "receivers", "processors", "exporters")
LEFT_OUT = ("agent/demo/", "agent/testing/", "agent/scripted.py")  # not what an operator runs
LEVELS = ("warning", "error", "exception", "critical")
NOTED = ("problem", "refused", "_warn", "_say", "_bug")
INTERNAL = ("TypeError", "AssertionError", "KeyError", "StopIteration", "NotImplementedError", "SystemExit")
HOLE = "…"


def messages() -> dict[str, list[str]]:
    """Every message -> the modules that say it."""
    found: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(LEFT_OUT):
                for text in messages_of(path.read_text(encoding="utf-8")):
                    where = found.setdefault(text, [])
                    if name not in where:
                        where.append(name)
    return found


def messages_of(source: str) -> Iterator[str]:
    """The messages of one module, in its order."""
    tree = ast.parse(source)
    said = {id(node) for call in ast.walk(tree) for node in _said_by(call)}
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in documented or (id(node) in inside and not isinstance(node, ast.JoinedStr)):
            continue
        text = _template(node)
        if text and (id(node) in said or text.startswith("cannot ")) and _speaks(text):
            yield text


def _said_by(node: ast.AST) -> Iterator[ast.AST]:
    """The strings that a statement or call says."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        if _name(node.exc.func) not in INTERNAL:
            yield from _strings(node.exc)
    elif isinstance(node, ast.Call):
        name = _name(node.func)
        first = node.args[0] if node.args else None
        folded = isinstance(first, ast.Attribute) and first.attr in ("WARNING", "ERROR", "CRITICAL")
        if folded:
            yield from (one for argument in node.args[2:3] for one in _flat(argument))
        elif name in LEVELS or name in NOTED:
            yield from _strings(node)


def _strings(call: ast.Call) -> Iterator[ast.AST]:
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        yield from _flat(argument)


def _flat(node: ast.AST) -> Iterator[ast.AST]:
    """A string, or those of a choice or a list."""
    if isinstance(node, ast.IfExp):
        yield from (*_flat(node.body), *_flat(node.orelse))
    elif isinstance(node, ast.List | ast.Tuple):
        for element in node.elts:
            yield from _flat(element)
    elif isinstance(node, ast.Constant | ast.JoinedStr):
        yield node


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _template(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        text = node.value if isinstance(node.value, str) else ""
    elif isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
        text = "".join(map(str, parts))
    else:
        return ""
    return re.sub(r"%(?:[-.0-9]*[sdrgf])", HOLE, text).replace("%%", "%")


def _speaks(text: str) -> bool:
    """Whether it is a sentence: two words at least beside the holes."""
    return len(re.findall(r"[A-Za-z]{2,}", text.replace(HOLE, " "))) >= 2
