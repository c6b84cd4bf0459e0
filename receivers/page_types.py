"""Types from the page's own TYPE lines: there nothing is guessed.

Rules. The operator's word comes first, then the TYPE line of the family that the sample is a member of
(``exposition.family_of``); a sample without one is unknown. A family is believed only where the sample can be what it
says: a bucket needs a numeric ``le``, a quantile a numeric ``quantile``. UNIT in UCUM, where it is in OpenTelemetry's
table; HELP is bounded. A family whose samples are no parts of a whole has the sample's name: OpenMetrics calls it ``x``
where the other formats say ``x_total``, and it is the same stream.
"""

from __future__ import annotations

from collections.abc import Mapping

from ebbtide import Family, Kind, number_of
from receivers.exposition import Metadata, family_of
from receivers.types import MAX_HELP, ucum

_COMPOUND = ("histogram", "summary", "gaugehistogram")
_PARTS = ("_bucket", "_sum", "_count")
_CREATED = "_created"
# What a sample's name has instead of ``_created``, where its stream may be dated so.
_DATED: Mapping[str, tuple[Kind, ...]] = {"_total": ("counter",), "": ("counter",), "_count": ("histogram", "summary")}

Own = tuple[str, ...]  # the pair ``le`` or ``quantile`` of a sample, or nothing


class PageTypes:
    """The families of all pages of one receiver, shared between its targets."""

    def __init__(self, operator: Mapping[str, Kind] | None = None):
        self._families: dict[tuple[str, Kind, str, str, str], Family] = {}
        self._operator: dict[str, Metadata] = {}
        self.obey(operator or {})

    def obey(self, operator: Mapping[str, Kind]) -> None:
        """Take the operator's word: ``x_bucket = "histogram"`` means the histogram x as well."""
        self._operator = {name: Metadata(kind) for name, kind in operator.items()}
        for name, kind in operator.items():
            for suffix in _PARTS:
                if kind in _COMPOUND and name.endswith(suffix):
                    self._operator.setdefault(name.removesuffix(suffix), Metadata(kind))

    def family(self, name: str, own: Own, page: Mapping[str, Metadata], *, native: bool = False) -> Family:
        """Return the family of a sample; ``page``: what its page says of families, ``native``: a native histogram."""
        told = _found(name, own, page, native)
        for typed_by, found in (("operator", _found(name, own, self._operator, native)), ("page", told)):
            if found is not None and (typed_by == "operator" or found[1].kind != "unknown"):
                about, kind = told[1] if told else found[1], found[1].kind
                return self._family(found[0] if kind in _COMPOUND else name, kind, about, typed_by)
        return self._family(name, "unknown", told[1] if told else Metadata(), "none")

    def only_dates(self, name: str, page: Mapping[str, Metadata]) -> bool:
        """Tell whether ``x_created`` belongs to a family x with start times, and is nobody's metric of its own."""
        stem = name.removesuffix(_CREATED)
        if stem == name or _kind_of(name, self._operator, page) != "unknown":
            return False
        return any(_kind_of(stem + suffix, self._operator, page) in kinds for suffix, kinds in _DATED.items())

    def _family(self, name: str, kind: Kind, about: Metadata, typed_by: str) -> Family:
        key = name, kind, ucum(about.unit), about.help[:MAX_HELP], typed_by
        family = self._families.get(key)
        if family is None:
            family = self._families[key] = Family(*key)
        return family


def _kind_of(name: str, *told: Mapping[str, Metadata]) -> Kind:
    """Return what the first says who knows the family that a sample of this name belongs to."""
    kinds = (found[1].kind for metadata in told if (found := family_of(name, metadata)) is not None)
    return next((kind for kind in kinds if kind != "unknown"), "unknown")


def _found(name: str, own: Own, metadata: Mapping[str, Metadata], native: bool) -> tuple[str, Metadata] | None:
    if not metadata:
        return None
    found = family_of(name, metadata)
    if found is None or _can_be(name, own, found[0], found[1].kind, native):
        return found
    for suffix in _PARTS:  # what cannot be a family of its own name may be a part of another
        stem = name.removesuffix(suffix)
        whole = metadata.get(stem)
        if (
            stem != name
            and whole is not None
            and whole.kind in _COMPOUND
            and _can_be(name, own, stem, whole.kind, native)
        ):
            return stem, whole
    return None


def _can_be(name: str, own: Own, family: str, kind: Kind, native: bool) -> bool:
    """Tell whether a sample can be a part of its family."""
    if kind not in _COMPOUND:
        return True
    if name == family:
        return native if kind == "histogram" else kind == "summary" and _numbered(own, "quantile")
    return _numbered(own, "le") if name.endswith("_bucket") else True


def _numbered(own: Own, label: str) -> bool:
    return bool(own) and own[0] == label and number_of(own[1]) is not None
