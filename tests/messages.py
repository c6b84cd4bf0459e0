"""What the agent can say when something is wrong, read off the source: every sentence, with … where data stands.

Strategy. A message is a string that is logged as a warning or an error, printed on stderr, raised, returned as an
exception, or noted as a mistake of the file. Some sentences are put together elsewhere than they are said; those are
known by how sentences are made here: they begin with "cannot" (or one of ``OPENINGS``), or say a mistake and its cure
with "; " between. Reasons that are filled into a sentence are messages, too (a name ``why``, the pairs of ``PAIRS``),
since they are what an operator searches for; cures and words that are filled in are not. Debug and info lines, help
texts and documentation are no problems.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("agent", "receivers", "processors", "exporters")
HOLE = "…"

LEFT_OUT = ("agent/demo/", "agent/testing/", "agent/scripted.py")
"""Modules that are not what an operator runs."""

PAIRS = ("agent/http_fault.py", "exporters/otlp_grpc_faults.py")
"""Modules whose tuples of strings end in a reason and what to try."""

LEVELS = ("warning", "error", "exception", "critical")
NOTED = ("problem", "refused", "_warn", "_say", "_bad", "_broken", "_Refused", "LogRecord")
QUIET = ("debug", "info", "recovered", "option", "add_argument", "command", "compile", "unexpected")
"""Calls whose strings are no problems: quiet levels, help texts, patterns, words that are filled in."""
INTERNAL = ("AssertionError", "KeyError", "StopIteration", "NotImplementedError", "SystemExit")

OPENINGS = (
    "cannot ",
    "expected ",
    "unexpected ",
    "not a ",
    "unknown ",
    "must ",
    "does not ",
    "the answer of ",
    "warning: ",
)
CURE = "; "
CURES = ("cure", "guess", "hint", "_CURES", "_GRPC_CURES", "_CLIENT_CERTIFICATE", "_TLS_ALONE", "_PLAIN_ALONE")
"""Names of what is to be tried, where that stands by itself."""
SHORT = (f"{HOLE} says: {HOLE}", f"unknown {HOLE}; {HOLE}", f"cannot {HOLE} {HOLE}: {HOLE}; {HOLE}")
"""Messages that could be anything, by their form alone."""

NO_MESSAGES = {
    "no stderr": "raised and caught in the writing of the log",
    "nobody reads stderr": "raised and caught in the writing of the log",
    "the client did not read the answer": "raised and caught in the admin port",
    "none is installed; see ebbtide components": "filled into a list of types",
    "the agent's own telemetry:": "the beginning of a sentence that is listed with its end",
    f"cannot read the line {HOLE}: {HOLE}": "said with the number of the line instead",
    (
        f"cannot choose a parser for Content-Type {HOLE}: {HOLE}; set fallback_format if the body is known to be "
        '"text" or "openmetrics"'
    ): "no built-in receiver has a choice of parsers",
}
"""What reads like a message and is none that anybody sees -> why."""


def messages() -> dict[str, list[str]]:
    """Every message -> the modules that say it."""
    return {text: where for text, where in clauses().items() if text not in NO_MESSAGES}


def clauses() -> dict[str, list[str]]:
    """Everything that reads like a message -> the modules in which it stands."""
    found: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(LEFT_OUT):
                for text in messages_of(path.read_text(encoding="utf-8"), pairs=name in PAIRS):
                    where = found.setdefault(text, [])
                    if name not in where:
                        where.append(name)
    return found


def messages_of(source: str, *, pairs: bool = False) -> Iterator[str]:
    """The messages of one module, in no order. ``pairs``: its tuples end in a reason and what to try."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    said = {id(text) for node in nodes for text in _said_by(node, pairs)}
    cures = {id(part) for node in nodes for text in _cure_of(node, pairs) for part in ast.walk(text)}
    quiet = {id(part) for node in nodes if _is_quiet(node) for part in ast.walk(node)}
    documented = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    inside = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if id(node) in documented | quiet | cures | inside:
            continue
        text = _template(node)
        if text in SHORT or (_speaks(text) and (id(node) in said or _reads_like_one(text))):
            yield text


def _said_by(node: ast.AST, pairs: bool) -> Iterator[ast.AST]:
    """The strings that a statement or call says."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        if _name(node.exc.func) not in INTERNAL:
            yield from _strings(node.exc)
    elif isinstance(node, ast.Call):
        yield from _said_by_call(node)
    elif isinstance(node, ast.Assign) and [_name(target) for target in node.targets] == ["why"]:
        yield from _flat(node.value)
    elif isinstance(node, ast.Assign) and _name(node.targets[0]) == "_GO_SAYS" and isinstance(node.value, ast.Dict):
        yield from node.value.values
    elif pairs:
        yield from (one for pair in _pairs(node) for one in _flat(pair.elts[-2]))


def _said_by_call(call: ast.Call) -> Iterator[ast.AST]:
    level = call.args[0] if call.args else None
    if isinstance(level, ast.Attribute) and level.attr in ("WARNING", "ERROR", "CRITICAL"):  # a FoldedLog's
        yield from (one for argument in call.args[2:3] for one in _flat(argument))
    elif _says(call, _name(call.func)):
        yield from _strings(call)


def _says(call: ast.Call, name: str) -> bool:
    if name == "append":
        return isinstance(call.func, ast.Attribute) and _name(call.func.value).endswith(("warnings", "problems"))
    if name == "print":
        return any(keyword.arg == "file" for keyword in call.keywords)
    if name == "Response":  # of the admin port
        status = call.args[0] if call.args else None
        return isinstance(status, ast.Constant) and status.value not in (200, 204)
    return name in (*LEVELS, *NOTED, "__init__") or (name.endswith("Error") and name not in INTERNAL)


def _cure_of(node: ast.AST, pairs: bool) -> Iterator[ast.AST]:
    """What is to be tried, where it stands by itself."""
    if isinstance(node, ast.Assign) and _name(node.targets[0]) in CURES:
        yield node.value
    elif pairs:
        yield from (pair.elts[-1] for pair in _pairs(node))


def _pairs(node: ast.AST) -> Iterator[ast.Tuple]:
    """The tuples that a statement returns, or lists, which end in a reason and what to try."""
    value = node.value if isinstance(node, ast.Return | ast.AnnAssign) else None
    if isinstance(value, ast.Tuple):
        for one in value.elts if isinstance(node, ast.AnnAssign) else [value]:
            if isinstance(one, ast.Tuple) and len(one.elts) > 1:
                yield one


def _is_quiet(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and (
        _name(node.func) in QUIET or (_name(node.func) == "print" and not node.keywords)
    )


def _strings(call: ast.Call) -> Iterator[ast.AST]:
    for argument in (*call.args, *(keyword.value for keyword in call.keywords if keyword.arg != "headers")):
        yield from _flat(argument)


def _flat(node: ast.AST) -> Iterator[ast.AST]:
    """A string, or those of a choice or a list; of a sum, how it begins."""
    if isinstance(node, ast.IfExp):
        yield from (*_flat(node.body), *_flat(node.orelse))
    elif isinstance(node, ast.BoolOp):
        yield from (one for value in node.values for one in _flat(value))
    elif isinstance(node, ast.List | ast.Tuple):
        for element in node.elts:
            yield from _flat(element)
    elif isinstance(node, ast.BinOp):
        yield from _flat(node.left)
    elif isinstance(node, ast.Constant | ast.JoinedStr):
        yield node


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _template(node: ast.AST) -> str:
    """A string on one line, with ``HOLE`` for each thing that is filled in; "" for what is no string."""
    if isinstance(node, ast.Constant):
        value = node.value.decode() if isinstance(node.value, bytes) and node.value.isascii() else node.value
        text = value if isinstance(value, str) else ""
    elif isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
    else:
        return ""
    return " ".join(re.sub(r"%(?:[-.0-9]*[sdrgf])", HOLE, text).replace("%%", "%").split())


def _speaks(text: str) -> bool:
    """Whether it is a clause: two words at least beside the holes."""
    return len(re.findall(r"[A-Za-z]{2,}[^\s]*(?:\s|$)", text)) >= 2


def _reads_like_one(text: str) -> bool:
    if text.lstrip(f"{HOLE} (:1").startswith(OPENINGS):
        return True
    mistake, cure, _ = text.partition(CURE)
    words = " " in mistake or mistake == HOLE
    return bool(cure) and words and not text.endswith(".") and not mistake[0].isupper()
