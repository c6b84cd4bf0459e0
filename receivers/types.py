"""Giving types back to series that came through Prometheus, which forgets them.

Strategy. Sources are asked in the order of their authority, and the first that knows the series' kind decides:

1. ``operator``: the receiver's option ``types``; keys are names of families or of samples.
2. ``label``: ``__type__`` on the series itself (Prometheus' feature type-and-unit-labels).
3. ``metadata``: the server's /api/v1/metadata, by the name on the target's TYPE line; where the entries of one name
   differ in type, ``targets``: /api/v1/targets/metadata of the series' own job.
4. ``linkerd``: the built-in table of Linkerd's metrics.
5. ``suffix``: what the name and the labels show. Names with a colon are left out, because they are recording rules':
   there the suffix tells what went in, not what came out.
6. ``none``: unknown, a Gauge for OTLP.

A source is believed only where the series can be what it says: under histogram x come ``x_bucket`` with a numeric
``le``, ``x_sum`` and ``x_count``; under summary x come ``x`` with a numeric ``quantile``, ``x_sum`` and ``x_count``;
under counter x come ``x`` and ``x_total``; under info x come ``x`` and ``x_info``. Elsewhere the next source is asked.

``Family.name`` is the name that the deciding source gives the family: for histograms and summaries always without
suffix, for counters and info as the TYPE line has it (``x`` or ``x_total``), else the sample's own. (OTLP names
metrics by their samples, histograms and summaries apart.) Unit: ``__unit__``, then metadata, then the table, and none
is invented; help: metadata, then the table.

A decision is kept by sample name, job and evidence, and never changed but from unknown to known (``revise``). All parts
of a histogram share one ``Family``: the first part's, whichever source speaks for the later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from ebbtide import Family, Kind, number_of, pairs
from receivers.exposition import kind_of
from receivers.linkerd_table import LINKERD_FAMILIES, Entry

MAX_HELP = 1024  # characters kept of a family's help
MAX_UNIT = 63  # characters kept of a unit, as OpenTelemetry bounds an instrument's
MAX_FAMILIES = 200_000  # families remembered of a server's metadata, and as many of its jobs'; more are not taken in

# Source: OpenTelemetry, "Prometheus and OpenMetrics compatibility", the table of units.
_UCUM = {
    "days": "d",
    "hours": "h",
    "minutes": "min",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
    "bytes": "By",
    "kibibytes": "KiBy",
    "mebibytes": "MiBy",
    "gibibytes": "GiBy",
    "tebibytes": "TiBy",
    "kilobytes": "kBy",
    "megabytes": "MBy",
    "gigabytes": "GBy",
    "terabytes": "TBy",
    "meters": "m",
    "volts": "V",
    "amperes": "A",
    "joules": "J",
    "watts": "W",
    "grams": "g",
    "celsius": "Cel",
    "hertz": "Hz",
    "percent": "%",
}

_TYPE_LABEL = "__type__"
_UNIT_LABEL = "__unit__"
_COMPOUND = ("histogram", "summary", "gaugehistogram")

# What a sample's name may add to its family's, by kind.
_ENDINGS: Mapping[Kind, frozenset[str]] = {
    "counter": frozenset(("", "_total")),
    "gauge": frozenset(("",)),
    "info": frozenset(("", "_info")),
    "stateset": frozenset(("",)),
    "unknown": frozenset(("",)),
    "histogram": frozenset(("_bucket", "_sum", "_count")),
    "gaugehistogram": frozenset(("_bucket", "_gsum", "_gcount", "_sum", "_count")),
    "summary": frozenset(("", "_sum", "_count")),
}
_ALL_ENDINGS = frozenset().union(*_ENDINGS.values()) - {""}

_NOTHING_KNOWN = Entry("unknown")

_Key = TypeVar("_Key", bound=Hashable)


def ucum(unit: str) -> str:
    """Translate a UNIT word to UCUM by OpenTelemetry's table; other words pass as they are."""
    return _UCUM.get(unit, unit[:MAX_UNIT])


def strip_type_labels(flat: tuple[str, ...]) -> tuple[str, ...]:
    """Return flat labels without ``__type__`` and ``__unit__``: they say what a series is, not whose it is."""
    if not flat or flat[0] >= "a":  # sorted by name: there is none that begins with "_"
        return flat
    return tuple(text for pair in pairs(flat) if pair[0] not in (_TYPE_LABEL, _UNIT_LABEL) for text in pair)


class _Head(NamedTuple):
    """All that a decision rests on. ``role``: "le" on a bucket, "quantile" elsewhere, where that label is a number."""

    name: str
    job: str
    role: str
    type_word: str
    unit_word: str


class _Found(NamedTuple):
    """A source's word on a sample: under which family name, and what it says of it."""

    name: str
    entry: Entry


class TypeBook:
    """The types of one receiver's series. Sans-IO: the receiver asks the server and hands over what it answers."""

    def __init__(self, operator: Mapping[str, Kind] | None = None):
        self._operator = _operators_word(operator or {})
        self._server: dict[str, Entry] = {}
        self._jobs: dict[tuple[str, str], Entry] = {}  # by job and family name
        self._decided: dict[tuple[str, ...], Family] = {}
        self._families: dict[tuple[str, ...], Family] = {}
        self._compounds: dict[tuple[str, str], Family] = {}  # histograms and summaries by (family name, job)
        self._unknown: dict[_Head, Family] = {}
        self._news = False  # something was learned since the unknown ones were last looked at
        self._doubted = False  # the operator has changed his word since

    def obey(self, operator: Mapping[str, Kind]) -> None:
        """Take the operator's word, which may have changed: what it decides otherwise the next ``revise`` tells."""
        word = _operators_word(operator)
        self._doubted = self._doubted or word != self._operator
        self._operator = word

    def learn(self, metadata: Mapping[str, list[dict[str, Any]]]) -> frozenset[str]:
        """Take in the ``data`` of /api/v1/metadata; return the names whose entries disagree in type.

        For those ``learn_targets`` should be given the entries by target. What has the wrong shape is passed over.
        """
        disputed = set()
        for name, entries in metadata.items() if isinstance(metadata, Mapping) else ():
            if isinstance(name, str) and isinstance(entries, list):
                agreed = _agree(entries)
                if agreed is None:
                    disputed.add(name)
                _enter(self._server, name, agreed or _NOTHING_KNOWN)
        self._news = True
        return frozenset(disputed)

    def learn_targets(self, entries: list[dict[str, Any]], metric: str = "") -> None:
        """Take in the ``data`` of /api/v1/targets/metadata: types by job, where jobs disagree.

        ``metric`` is the family that was asked for: Prometheus leaves the name out of the entries then.
        Where the targets of one job disagree among themselves, the job has no word on the name.
        """
        told: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for entry in entries if isinstance(entries, list) else ():
            target = entry.get("target") if isinstance(entry, dict) else None
            job = target.get("job", "") if isinstance(target, dict) else None
            name = (entry.get("metric") or metric) if isinstance(entry, dict) else None
            if isinstance(job, str) and isinstance(name, str) and name:
                told.setdefault((job, name), []).append(entry)
        for key, words in told.items():
            _enter(self._jobs, key, _agree(words) or _NOTHING_KNOWN)
        self._news = True

    def decide(self, heads: Iterable[tuple[str, tuple[str, ...]]]) -> list[Family]:
        """Return the families of series never seen before: (sample name, flat sorted labels with ``__type__``) each.

        Give all new ones of a poll at once: ``x_sum`` without a type of its own is decided by its partners, which
        may stand behind it or have come in an earlier call.
        """
        keys = [_head(name, flat) for name, flat in heads]
        decided = self._decided
        self._decide(dict.fromkeys(key for key in keys if key not in decided))
        return [decided[key] for key in keys]

    def native(self, name: str, flat: tuple[str, ...]) -> Family:
        """Return the family of a native histogram, which shows by itself what it is; else as ``decide``."""
        head = _Head(*_head(name, flat))
        about = self._described(head, _find(self._server.get, head), None)
        return self._family(head, _Found(name, Entry("histogram")), "page", about)

    def revise(self) -> dict[Family, Family]:
        """Return the families that were unknown and are known by now: old object -> new.

        Others never change, unless the operator's word does.
        """
        revised = self._decide_again() if self._doubted else {}
        while self._news:
            self._news = False
            for head in sorted(self._unknown, key=_partners_last):
                family = self._resolve(head)
                if family.typed_by != "none":
                    revised[self._unknown.pop(head)] = family
                    self._decided[head] = family
        return revised

    def _decide(self, heads: Iterable[tuple[str, ...]]) -> None:
        for key in sorted(heads, key=_partners_last):
            head = _Head(*key)
            family = self._decided[key] = self._resolve(head)
            if family.typed_by == "none":
                self._unknown[head] = family

    def _decide_again(self) -> dict[Family, Family]:
        """Decide anew all that was decided; return what came out as something else."""
        self._doubted = False
        before, self._decided = self._decided, {}
        for known in (self._families, self._compounds, self._unknown):
            known.clear()
        self._decide(before)
        return {old: new for key, old in before.items() if (new := self._decided[key]).identity != old.identity}

    def _resolve(self, head: _Head) -> Family:
        server = _find(self._server.get, head)
        job = _find(lambda name: self._jobs.get((head.job, name)), head)
        linkerd = _find(LINKERD_FAMILIES.get, head)
        sources = (
            ("operator", _find(self._operator.get, head, with_unknown=True)),
            ("label", _by_label(head)),
            ("metadata", server),
            ("targets", job),
            ("linkerd", linkerd),
            ("suffix", self._by_suffix(head)),
            ("none", _Found(head.name, _NOTHING_KNOWN)),
        )
        typed_by, found = next((source, found) for source, found in sources if found is not None)
        return self._family(head, found, typed_by, self._described(head, job or server, linkerd))

    def _described(self, head: _Head, metadata: _Found | None, linkerd: _Found | None) -> Entry:
        """Return what is said beside the kind: the unit in UCUM, and the help."""
        told = metadata.entry if metadata else self._server.get(head.name, _NOTHING_KNOWN)
        table = linkerd.entry if linkerd else _NOTHING_KNOWN
        return Entry("unknown", ucum(head.unit_word or told.unit or table.unit), told.help or table.help)

    def _family(self, head: _Head, found: _Found, typed_by: str, about: Entry) -> Family:
        """Return the family of that name and kind in the job; the first that speaks of it names its unit and help."""
        name, kind = found.name, found.entry.kind
        key = (name, kind, head.job, head.unit_word, head.role if kind == "unknown" else "")
        family = self._families.get(key)
        if family is None:
            family = self._families[key] = Family(name, kind, about.unit, about.help, typed_by)
            if kind in _COMPOUND and self._compounds.setdefault((name, head.job), family) is family:
                self._news = self._news or bool(self._unknown)  # partners seen before may be known now
        return family

    def _by_suffix(self, head: _Head) -> _Found | None:
        """Return what name and labels show."""
        name, _, role, _, _ = head
        stem, ending = _cut(name)
        if ":" in name:
            return None
        if ending == "_bucket" and role == "le":
            return _Found(stem, Entry("histogram"))
        if ending in ("_sum", "_count") and (partner := self._compounds.get((stem, head.job))) is not None:
            return _Found(stem, Entry(partner.kind))
        if role == "quantile" and ending not in ("_bucket", "_sum", "_count"):
            return _Found(name, Entry("summary"))
        if ending == "_total":
            return _Found(name, Entry("counter"))
        return _Found(name, Entry("info")) if ending == "_info" else None


def _head(name: str, flat: tuple[str, ...]) -> tuple[str, str, str, str, str]:
    """Return what decides about a series, as the plain tuple that equals its ``_Head``."""
    names = flat[::2]
    job = flat[2 * names.index("job") + 1] if "job" in names else ""
    label = "le" if name.endswith("_bucket") else "quantile"
    role = label if label in names and number_of(flat[2 * names.index(label) + 1]) is not None else ""
    type_word = unit_word = ""
    if names and names[0] < "a":  # names are sorted: without one below "a" there is none that begins with "_"
        type_word = flat[2 * names.index(_TYPE_LABEL) + 1] if _TYPE_LABEL in names else ""
        unit_word = flat[2 * names.index(_UNIT_LABEL) + 1] if _UNIT_LABEL in names else ""
    return name, job, role, type_word, unit_word


def _partners_last(head: tuple[str, ...]) -> bool:
    return not head[2]


def _cut(name: str) -> tuple[str, str]:
    """``x_bucket`` -> (``x``, ``_bucket``); a name without an ending of note -> (name, "")."""
    stem, underscore, word = name.rpartition("_")
    ending = underscore + word
    return (stem, ending) if stem and ending in _ALL_ENDINGS else (name, "")


def _can_be(kind: Kind, ending: str, role: str) -> bool:
    """Tell whether a sample whose name adds ``ending`` to its family's can belong to a family of this kind."""
    if ending not in _ENDINGS[kind]:
        return False
    if ending == "_bucket":
        return role == "le"
    return role == "quantile" if kind == "summary" and ending == "" else True


def _find(look_up: Callable[[str], Entry | None], head: _Head, with_unknown: bool = False) -> _Found | None:
    """Look a sample up: by its own name, then by its family's. Only what it can be counts as found."""
    stem, ending = _cut(head.name)
    for name, rest in ((head.name, ""), (stem, ending)):
        entry = look_up(name)
        if entry is not None and (with_unknown or entry.kind != "unknown") and _can_be(entry.kind, rest, head.role):
            return _Found(name, entry)
    return None


def _by_label(head: _Head) -> _Found | None:
    kind = kind_of(head.type_word) if head.type_word else None
    if kind is None or kind == "unknown":
        return None
    stem, ending = _cut(head.name) if kind in _COMPOUND else (head.name, "")
    for name, rest in ((stem, ending), (head.name, "")):
        if _can_be(kind, rest, head.role):
            return _Found(name, Entry(kind))
    return None


def _operators_word(types: Mapping[str, Kind]) -> dict[str, Entry]:
    """``x_bucket = "histogram"`` means the histogram x as well, unless something else is said of x."""
    catalogue = {name: Entry(kind) for name, kind in types.items()}
    for name, kind in types.items():
        stem, ending = _cut(name)
        if kind in _COMPOUND and ending in _ENDINGS[kind]:
            catalogue.setdefault(stem, Entry(kind))
    return catalogue


def _agree(entries: list[Any]) -> Entry | None:
    """Return what these entries say together, None where their types differ; those that know nothing do not count.

    Of several units only an agreed one is kept; the first help stands for all.
    """
    words = [entry for entry in entries if isinstance(entry, dict)]
    kinds = {kind for word in words if (kind := kind_of(_text(word, "type"))) and kind != "unknown"}
    if len(kinds) > 1:
        return None
    units = {unit for word in words if (unit := _text(word, "unit"))}
    helps = [text for word in words if (text := _text(word, "help"))]
    return Entry(kinds.pop() if kinds else "unknown", units.pop() if len(units) == 1 else "", *helps[:1])


def _text(word: dict[str, Any], key: str) -> str:
    value = word.get(key)
    return value[:MAX_HELP] if isinstance(value, str) else ""


def _enter(catalogue: dict[_Key, Entry], key: _Key, entry: Entry) -> None:
    if key in catalogue or len(catalogue) < MAX_FAMILIES:
        catalogue[key] = entry
