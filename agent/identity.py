"""What identity is made of: families, labels, resources, scopes, targets; interned, and remembering what follows from them.

Strategy. A scrape is a form filled in again and again: series stay, numbers move. Identity is therefore interned (equal
means identical), immutable, and the only place where anything is remembered: ``derive`` computes what follows from
identity on first request and keeps it on the object that it follows from. Drop the table, and all of it goes. There is
no other cache in the program, hence no eviction.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

Kind = Literal["counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"]
AttributeValue = str | bool | int | float

_T = TypeVar("_T")


class Derivable:
    """Something immutable that remembers what was derived from it.

    Owners are held weakly and compared by identity: when the last user of an owner is gone (after a reload, say),
    what it had derived is dropped at the next ``derive`` of another owner on the same object.
    """

    __slots__ = ("__weakref__", "_derived")

    _derived: tuple[Any, ...]  # owner reference, value, owner reference, value, ...

    def derive(self, owner: Any, make: Callable[[Self], _T]) -> _T:
        """Return ``make(self)``, computed once for ``owner`` (any object that can be weakly referenced)."""
        key = weakref.ref(owner)
        derived = self._derived
        for index in range(0, len(derived), 2):
            if derived[index] is key:
                return cast(_T, derived[index + 1])
        value = make(self)
        derived = self._derived  # `make` may have derived something else in turn
        alive = [
            item for i in range(0, len(derived), 2) if derived[i]() is not None for item in (derived[i], derived[i + 1])
        ]
        self._derived = (*alive, key, value)
        return value


class Owner:
    """A key for ``derive`` that is the same object for equal words, so that a reload finds what it had derived."""

    __slots__ = ("__weakref__", "words")

    _known: ClassVar[weakref.WeakValueDictionary[Hashable, Owner]] = weakref.WeakValueDictionary()

    words: Hashable

    @classmethod
    def of(cls, *words: Hashable) -> Owner:
        """Return the owner named by ``words``; equal words give the identical owner while anyone holds it."""
        owner = cls._known.get(words)
        if owner is None:
            owner = cls()
            owner.words = words
            cls._known[words] = owner
        return owner


class Family:
    """What a metric family says of its series: kind, unit, help, and the rule that decided the kind.

    ``name`` is the name on the TYPE line (histograms without ``_bucket``). ``typed_by`` is one of "operator",
    "label", "metadata", "targets", "linkerd", "suffix", "page", "agent" or "none". Only ``name``, ``kind`` and
    ``unit`` are identity: they are what an OTLP stream is identified by.
    """

    __slots__ = ("help", "identity", "kind", "name", "typed_by", "unit")

    def __init__(self, name: str, kind: Kind = "unknown", unit: str = "", help: str = "", typed_by: str = "none"):
        self.name = name
        self.kind: Kind = kind
        self.unit = unit
        self.help = help
        self.typed_by = typed_by
        self.identity = (name, kind, unit)

    def renamed(self, old: str, new: str) -> Family:
        """Return the family of a sample once called ``old`` and now called ``new``.

        A part of a histogram or summary that keeps its suffix belongs to the whole of the new name; one that loses it is
        a part no more, and of unknown kind.
        """
        suffix = old.removeprefix(self.name) if old.startswith(self.name) else ""
        if self.kind not in ("histogram", "gaugehistogram", "summary"):
            return Family(new, self.kind, self.unit, self.help, self.typed_by)
        if new.endswith(suffix):
            return Family(new.removesuffix(suffix), self.kind, self.unit, self.help, self.typed_by)
        return Family(new, "unknown", self.unit, self.help, self.typed_by)

    def __repr__(self) -> str:
        return f"Family({self.name!r}, {self.kind!r}, unit={self.unit!r}, typed_by={self.typed_by!r})"


def _value_key(attributes: Sequence[tuple[str, AttributeValue]]) -> Hashable:
    """A key in which 1, 1.0 and True differ, as they do in OTLP."""
    return tuple((name, type(value), value) for name, value in attributes)


class Resource(Derivable):
    """Who speaks: an interned, sorted list of attributes; ``EMPTY_RESOURCE`` before a resource processor."""

    __slots__ = ("attributes",)

    _known: ClassVar[weakref.WeakValueDictionary[Hashable, Resource]] = weakref.WeakValueDictionary()

    attributes: tuple[tuple[str, AttributeValue], ...]

    @classmethod
    def of(cls, attributes: Mapping[str, AttributeValue] | Iterable[tuple[str, AttributeValue]] = ()) -> Resource:
        """Intern a resource of these attributes (any order)."""
        pairs = tuple(sorted(dict(attributes).items()))
        key = _value_key(pairs)
        resource = cls._known.get(key)
        if resource is None:
            resource = cls()
            resource.attributes = pairs
            resource._derived = ()
            cls._known[key] = resource
        return resource

    def get(self, name: str, default: AttributeValue = "") -> AttributeValue:
        """Return the attribute's value, or the default."""
        return dict(self.attributes).get(name, default)

    def __repr__(self) -> str:
        return f"Resource({dict(self.attributes)!r})"


class Scope(Derivable):
    """What measured: an interned instrumentation scope."""

    __slots__ = ("attributes", "name", "schema_url", "version")

    _known: ClassVar[weakref.WeakValueDictionary[Hashable, Scope]] = weakref.WeakValueDictionary()

    name: str
    version: str
    schema_url: str
    attributes: tuple[tuple[str, AttributeValue], ...]

    @classmethod
    def of(
        cls,
        name: str = "",
        version: str = "",
        schema_url: str = "",
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Scope:
        """Intern a scope."""
        pairs = tuple(sorted((attributes or {}).items()))
        key = (name, version, schema_url, _value_key(pairs))
        scope = cls._known.get(key)
        if scope is None:
            scope = cls()
            scope.name, scope.version, scope.schema_url, scope.attributes = name, version, schema_url, pairs
            scope._derived = ()
            cls._known[key] = scope
        return scope

    def __repr__(self) -> str:
        return f"Scope({self.name!r}, {self.version!r})"


class Labels(Derivable):
    """A set of labels, interned: flat, sorted by name, ``(name, value, name, value, ...)``, without empty values.

    Dozens of series share one: all buckets, the sum and the count of a histogram, and every metric of the same subject.
    """

    __slots__ = ("flat",)

    _known: ClassVar[weakref.WeakValueDictionary[Hashable, Labels]] = weakref.WeakValueDictionary()

    flat: tuple[str, ...]

    @classmethod
    def of(cls, flat: tuple[str, ...]) -> Labels:
        """Intern labels that are flat, sorted and without empty values."""
        labels = cls._known.get(flat)
        if labels is None:
            labels = cls()
            labels.flat = flat
            labels._derived = ()
            cls._known[flat] = labels
        return labels

    def __repr__(self) -> str:
        return f"Labels({self.flat!r})"


class Target(Derivable):
    """Whom a series was scraped from: the labels that the scraping side put on every series of one target.

    They are what ``up`` of the same job and instance carries; a resource processor moves them to the resource and
    leaves the rest, which the target itself wrote, on the point. Not part of what a series says, but of how it is read.
    ``attributes``, flat and sorted, is what is known of it beside its labels, under OpenTelemetry's names.
    """

    __slots__ = ("attributes", "flat", "names")

    _known: ClassVar[weakref.WeakValueDictionary[Hashable, Target]] = weakref.WeakValueDictionary()

    flat: tuple[str, ...]
    names: frozenset[str]
    attributes: tuple[str, ...]

    @classmethod
    def of(cls, labels: Mapping[str, str], attributes: Mapping[str, str] | None = None) -> Target:
        """Intern a target by its labels (job and instance among them), and what is known beside them."""
        flat, beside = flatten(labels), flatten(attributes or {})
        key = flat, beside
        target = cls._known.get(key)
        if target is None:
            target = cls()
            target.flat = flat
            target.names = frozenset(flat[::2])
            target.attributes = beside
            target._derived = ()
            cls._known[key] = target
        return target


def pairs(flat: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Walk flat labels as (name, value)."""
    texts = iter(flat)
    return zip(texts, texts, strict=True)


def flatten(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return labels as a flat tuple sorted by name, empty values left out."""
    return tuple(s for pair in sorted(labels.items()) if pair[1] for s in pair)


EMPTY_RESOURCE = Resource.of()
AGENT_SCOPE = Scope.of()  # the converter itself: the exporters write the agent's name and version for it


OWN_LABELS = ("le", "quantile")
"""The labels that a part of a histogram or summary has of its own; all others it shares with the whole."""


def split_own(name: str, flat: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the flat labels of a sample ``name`` into those that it shares with the other parts of its whole, and its own.

    ``x_bucket`` has its ``le`` of its own, ``x_count`` and ``x_sum`` have nothing, any other its ``quantile``.
    """
    label = "le" if name.endswith("_bucket") else "quantile"
    if label not in flat or name.endswith(("_count", "_sum")):
        return flat, ()
    index = flat.index(label)
    if index % 2:  # a value that reads like the label's name
        names = flat[::2]
        if label not in names:
            return flat, ()
        index = 2 * names.index(label)
    return flat[:index] + flat[index + 2 :], flat[index : index + 2]


def join_own(base: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    """Undo ``split_own``: all labels, flat and sorted."""
    if not own:
        return base
    at = 2 * bisect_left(base[::2], own[0])
    return base[:at] + own + base[at:]
