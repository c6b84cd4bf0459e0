"""Prometheus' relabelling: rules that rewrite a set of labels, one after the other, or drop its owner.

Strategy. Each rule is compiled once into a step, a function of the labels in the making (``Draft``) that returns whether
they stay; a ``Relabelling`` runs the steps. Nothing here knows what the labels belong to: series (with their name as
``__name__``) and targets (with ``__meta_*`` labels) are relabelled alike. Names, defaults, order, checks and their words
are those of Prometheus 3, model/relabel/relabel.go. Two things differ: a rule that names a label "" is passed over
(Prometheus lets ``labelmap`` make such a label, and fails later), and an action need not be named: it is ``replace``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, model_validator

from agent.mistakes import did_you_mean
from agent.regex import ANYTHING, REMEMBERED, Regex, RegexError, Template
from agent.settings import OptionError, Settings, option

Action = Literal[
    "replace", "keep", "drop", "keepequal", "dropequal", "hashmod",
    "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase",
]  # fmt: skip

NameScheme = Literal["utf8", "legacy"]
"""Which names labels may have: any text, or letters, digits and underscores (before Prometheus 3)."""

SEPARATOR = ";"
REPLACEMENT = "$1"

_LARGEST_MODULUS = 2**64 - 1
_LEGACY_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_LEGACY_TEMPLATE = re.compile(r"(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+", re.ASCII)
_WITH_TARGET = ("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal")
_WITHOUT_REPLACEMENT = ("lowercase", "uppercase", "keepequal", "dropequal")

# The actions that refuse all options but these, and how Prometheus says so.
_USES: dict[str, tuple[tuple[str, ...], str]] = {
    "keepequal": (("source_labels", "target_label"), "'source_labels' and `target_label`"),
    "dropequal": (("source_labels", "target_label"), "'source_labels' and `target_label`"),
    "labeldrop": (("regex",), "'regex'"),
    "labelkeep": (("regex",), "'regex'"),
}


def _action(action: Any) -> Any:
    if not isinstance(action, str):
        return action
    known = get_args(Action)
    if not action:
        raise ValueError("relabel action cannot be empty; leave the option out for replace")
    if action.lower() not in known:
        raise ValueError(f"unknown relabel action {_quoted(action)}; {did_you_mean(action.lower(), known, '')}")
    return action.lower()


def _label(name: str) -> str:
    if not name:
        raise ValueError('"" is not a valid label name; write one, such as "pod"')
    return name


def _regex(pattern: str) -> str:
    try:
        Regex(pattern)
    except RegexError as error:
        raise ValueError(f"{error}; correct the pattern, which is of RE2's syntax") from None
    return pattern


class RelabelRule(Settings):
    """One rule, as in Prometheus' configuration."""

    source_labels: list[Annotated[str, AfterValidator(_label)]] = option(
        [], "Labels whose values, joined, are looked at. The name of a series is `__name__`.", examples=[["pod"]]
    )
    separator: str = option(SEPARATOR, "What the values are joined with.")
    regex: Annotated[str, AfterValidator(_regex)] = option(
        ANYTHING, "RE2 pattern that must match the whole of the values (`label...` actions: of a label's name)."
    )
    modulus: int = option(0, "`hashmod`: divisor of the hash.", ge=0, le=_LARGEST_MODULUS)
    target_label: str = option("", "Label that is written; with `replace` it may hold `$1`.", examples=["pod"])
    replacement: str = option(REPLACEMENT, "What is written; `$1`, `${1}`, `${name}` are groups of the pattern.")
    action: Annotated[Action, BeforeValidator(_action)] = option("replace", "What the rule does.")

    @model_validator(mode="after")
    def _as_in_prometheus(self) -> Self:
        if (mistake := mistake_in(self)) is not None:
            raise mistake
        return self


def mistake_in(rule: RelabelRule, names: NameScheme = "utf8") -> OptionError | None:
    """Return what Prometheus would say against a rule whose options are right one by one; None for nothing."""
    action, target = rule.action, rule.target_label
    if not rule.modulus and action == "hashmod":
        return OptionError(
            "relabel configuration for hashmod requires non-zero modulus; write one, such as 8", "modulus"
        )
    if action in _WITH_TARGET and not target:
        text = f"relabel configuration for {action} action requires 'target_label' value; name the label to write"
        return OptionError(text, "target_label")
    is_name = _is_template if action == "replace" and "$" in target else _is_name
    if action in _WITH_TARGET and not is_name(target, names):
        text = f"{_quoted(target)} is invalid 'target_label' for {action} action; write the name of a label"
        return OptionError(text, "target_label")
    if action in _WITHOUT_REPLACEMENT and rule.replacement != REPLACEMENT:
        return OptionError(f"'replacement' can not be set for {action} action; remove it", "replacement")
    if action == "labelmap" and not _is_template(rule.replacement, names):
        text = f"{_quoted(rule.replacement)} is invalid 'replacement' for labelmap action; write one such as $1"
        return OptionError(text, "replacement")
    return _surplus(rule)


def _surplus(rule: RelabelRule) -> OptionError | None:
    """Return the mistake of an option that the action has no use for, where Prometheus minds."""
    if rule.action not in _USES:
        return None
    allowed, text = _USES[rule.action]
    # As there: the pattern and the labels must not be given at all, of the others the default may be.
    surplus: list[str] = [name for name in ("regex", "source_labels") if name in rule.model_fields_set]
    defaults = {"modulus": 0, "separator": SEPARATOR, "replacement": REPLACEMENT, "target_label": ""}
    surplus += [name for name, default in defaults.items() if getattr(rule, name) != default]
    surplus = [name for name in surplus if name not in allowed]
    if not surplus:
        return None
    return OptionError(
        f"{rule.action} action requires only {text}, and no other fields; remove {surplus[0]}", surplus[0]
    )


def _is_name(text: str, names: NameScheme) -> bool:
    return bool(text) if names == "utf8" else _LEGACY_NAME.fullmatch(text) is not None


def _is_template(text: str, names: NameScheme) -> bool:
    return bool(text) if names == "utf8" else _LEGACY_TEMPLATE.fullmatch(text) is not None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class Draft:
    """Labels in the making. A value "" is no label.

    ``given`` holds what is left of the labels at the beginning, ``written`` what rules wrote since, in that order:
    where ``labelmap`` finds two labels for one name it is the order that decides.
    """

    __slots__ = ("given", "written")

    def __init__(self, given: dict[str, str], written: dict[str, str] | None = None):
        self.given = given
        self.written = {} if written is None else written

    def get(self, name: str) -> str:
        """Return a label's value."""
        return self.written.get(name) or self.given.get(name, "")

    def put(self, name: str, value: str) -> None:
        """Write a label; none without a name."""
        if not value:
            self.drop(name)
        elif name:
            self.given.pop(name, None)
            self.written[name] = value

    def drop(self, name: str) -> None:
        """Take a label away."""
        self.given.pop(name, None)
        self.written.pop(name, None)

    def items(self) -> list[tuple[str, str]]:
        """Return the labels: those given by name, then those written by age."""
        return [*sorted(self.given.items()), *self.written.items()]

    def labels(self) -> dict[str, str]:
        """Return the labels, in no order."""
        return self.given | self.written


Step = Callable[[Draft], bool]
"""Changes a draft, and returns whether its owner stays."""


class Relabelling:
    """Rules, ready to be applied."""

    def __init__(self, rules: Iterable[RelabelRule]):
        self.rules = tuple(rules)
        self._steps = tuple(map(_step, self.rules))

    def __call__(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """Return the labels after all rules; None where a rule drops their owner."""
        draft = Draft({name: value for name, value in labels.items() if value})
        return draft.labels() if self.apply(draft) else None

    def apply(self, draft: Draft, first: int = 0, end: int | None = None) -> bool:
        """Apply the rules from ``first`` to before ``end``; returns whether the owner stays."""
        return all(step(draft) for step in self._steps[first:end])

    def untouched(self, names: Collection[str]) -> int:
        """Return how many of the first rules neither look at the labels of these names nor take them away.

        Such rules may still write them (``labelmap``): whoever relies on this looks whether they did.
        """
        touching = (number for number, rule in enumerate(self.rules) if _touches(rule, names))
        return next(touching, len(self.rules))


def _touches(rule: RelabelRule, names: Collection[str]) -> bool:
    if not set(names).isdisjoint(rule.source_labels):
        return True
    if rule.action in _WITH_TARGET:
        return rule.target_label in names or "$" in rule.target_label
    if rule.action in ("labelmap", "labeldrop"):
        return any(map(Regex(rule.regex).matches, names))
    return rule.action == "labelkeep" and not all(map(Regex(rule.regex).matches, names))


def _step(rule: RelabelRule) -> Step:
    return _STEPS[rule.action](rule)


def _reader(rule: RelabelRule) -> Callable[[Draft], str]:
    """Return the function that reads the values a rule looks at."""
    names, separator = tuple(rule.source_labels), rule.separator
    if len(names) == 1:
        return lambda draft: draft.get(names[0])
    return lambda draft: separator.join([draft.get(name) for name in names])


def _keep(rule: RelabelRule) -> Step:
    read, regex = _reader(rule), Regex(rule.regex)
    return lambda draft: regex.matches(read(draft))


def _drop(rule: RelabelRule) -> Step:
    read, regex = _reader(rule), Regex(rule.regex)
    return lambda draft: not regex.matches(read(draft))


def _keepequal(rule: RelabelRule) -> Step:
    read = _reader(rule)
    return lambda draft: draft.get(rule.target_label) == read(draft)


def _dropequal(rule: RelabelRule) -> Step:
    read = _reader(rule)
    return lambda draft: draft.get(rule.target_label) != read(draft)


def _replace(rule: RelabelRule) -> Step:
    read, regex = _reader(rule), Regex(rule.regex)
    target, replacement = Template(rule.target_label, regex), Template(rule.replacement, regex)

    def replace(draft: Draft) -> bool:
        groups = regex.groups(read(draft))
        if groups is not None:
            draft.put(target.expand(groups), replacement.expand(groups))
        return True

    return replace


def _writing(convert: Callable[[str, RelabelRule], str]) -> Callable[[RelabelRule], Step]:
    """Make the steps of an action that writes what a function makes of the values."""

    def step(rule: RelabelRule) -> Step:
        read = _reader(rule)

        def write(draft: Draft) -> bool:
            draft.put(rule.target_label, convert(read(draft), rule))
            return True

        return write

    return step


def _hash(value: str, rule: RelabelRule) -> str:
    """The last 8 bytes of the MD5, as Prometheus has always had it."""
    digest = hashlib.md5(value.encode(), usedforsecurity=False).digest()
    return str(int.from_bytes(digest[8:], "big") % rule.modulus)


def _lower(value: str, rule: RelabelRule) -> str:
    """Map each letter by itself, to one letter, as Go does; Python would look at words and may make two of one."""
    return value.lower() if value.isascii() else "".join([char.lower()[0] for char in value])


def _upper(value: str, rule: RelabelRule) -> str:
    return value.upper() if value.isascii() else "".join(map(_upper_letter, value))


def _upper_letter(char: str) -> str:
    candidates = (char.upper(), char.title(), char)  # some have a title case of one letter, and no such upper case
    return next(candidate for candidate in candidates if len(candidate) == 1)


def _labelmap(rule: RelabelRule) -> Step:
    regex = Regex(rule.regex)
    template = Template(rule.replacement, regex)
    renamed = lru_cache(REMEMBERED)(lambda name: regex.replaced(name, template))

    def copy(draft: Draft) -> bool:
        for name, value in draft.items():
            if regex.matches(name):
                draft.put(renamed(name), value)
        return True

    return copy


def _labeldrop(rule: RelabelRule) -> Step:
    regex = Regex(rule.regex)
    return lambda draft: _drop_names(draft, [name for name, _ in draft.items() if regex.matches(name)])


def _labelkeep(rule: RelabelRule) -> Step:
    regex = Regex(rule.regex)
    return lambda draft: _drop_names(draft, [name for name, _ in draft.items() if not regex.matches(name)])


def _drop_names(draft: Draft, names: list[str]) -> bool:
    for name in names:
        draft.drop(name)
    return True


_STEPS: dict[Action, Callable[[RelabelRule], Step]] = {
    "replace": _replace,
    "keep": _keep,
    "drop": _drop,
    "keepequal": _keepequal,
    "dropequal": _dropequal,
    "hashmod": _writing(_hash),
    "labelmap": _labelmap,
    "labeldrop": _labeldrop,
    "labelkeep": _labelkeep,
    "lowercase": _writing(_lower),
    "uppercase": _writing(_upper),
}
