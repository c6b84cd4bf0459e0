"""The labels of a series as remote write sends them, and what may be learned of it. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple, Protocol

NAME = "__name__"

TYPES: Mapping[int, str] = {
    1: "counter",
    2: "gauge",
    3: "histogram",
    4: "gaugehistogram",
    5: "summary",
    6: "info",
    7: "stateset",
}
"""MetricType of both versions; 0 is unknown."""


Flat = tuple[str, ...]


class BadLabels(Exception):
    """A series that cannot be: no name, a label twice, or text that is no UTF-8. The text says which."""


class About(NamedTuple):
    """What a request says of a series beside its labels: a type's word ("" unknown), unit and help."""

    type: str = ""
    unit: str = ""
    help: str = ""


NOTHING = About()


class Learn(Protocol):
    """Numbers a series: its name, its flat sorted labels but for its own (``split_own``), its own, whether its points are
    native histograms (which have none of their own), what is said of it. Labels that are shared had best be one object.
    """

    def __call__(self, name: str, rest: Flat, own: Flat, native: bool, about: About, /) -> int:
        """Return the series' slot, the same for equal series."""


def series_of(labels: Iterable[tuple[bytes, bytes]]) -> tuple[str, Flat]:
    """Return a series' name and its flat labels, sorted, empty ones left out. Raises BadLabels."""
    try:
        texts = [(name.decode(), value.decode()) for name, value in labels]
    except UnicodeDecodeError:
        raise BadLabels("a label is not UTF-8") from None
    texts.sort()
    names = [name for name, _ in texts]
    name = dict(texts).get(NAME, "")
    if not name:
        raise BadLabels(f"a series has no name: {_shown(texts)}")
    if not names[0]:
        raise BadLabels(f"{name[:80]!r} has a label without a name")
    for before, after in pairwise(names):
        if before == after:
            raise BadLabels(f"{name[:80]!r} has the label {after[:80]!r} twice")
    return name, tuple(text for pair in texts if pair[0] != NAME and pair[1] for text in pair)


def _shown(texts: list[tuple[str, str]]) -> str:
    return repr(dict(texts[:4]))[:200]
