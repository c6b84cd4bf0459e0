"""What OpenMetrics 1.0 forbids beyond the grammar of single lines.

Strategy. ``Rules`` is told of the lines in order and speaks up at the first that may not stand where it stands, or that
makes the whole before it impossible. A family is one run of lines, a metric (a group of labels) one run within it.
``first_fault`` asks less: whether anything on a page can be right, in whatever order it stands.

Source: OpenMetrics 1.0, "Data Model" and "Text Format"; where it speaks in general terms, prometheus/client_python,
openmetrics/parser.py, whose suite of pages is the specification's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isnan, nan

from receivers.exposition import Kind, Metadata, family_of
from receivers.text import BadLine, Comment, Sample

_SUFFIXES: Mapping[Kind, tuple[str, ...]] = {
    "counter": ("_total", "_created"),
    "summary": ("", "_count", "_sum", "_created"),
    "histogram": ("_count", "_sum", "_bucket", "_created"),
    "gaugehistogram": ("_gcount", "_gsum", "_bucket"),
    "info": ("_info",),
}
_COUNTS = frozenset(("_count", "_gcount"))
_NOT_NAN = frozenset(("_total", "_sum", "_count", "_bucket", "_gcount", "_gsum"))
_NOT_NEGATIVE = _NOT_NAN - {"_gsum"}
_HISTOGRAMS = ("histogram", "gaugehistogram")

Group = tuple[str, ...]


@dataclass(slots=True)
class Whole:
    """A histogram as it stands on a page, at one time."""

    gauge: bool
    bounds: list[float] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)
    count: float | None = None
    sum: float | None = None

    def add(self, suffix: str, labels: Group, value: float) -> None:
        """Add a sample, by what its name has beyond the family's."""
        if suffix == "_bucket":
            self.bounds.append(bound_of(labels, "le"))
            self.counts.append(value)
        elif suffix in _COUNTS:
            self.count = value
        elif suffix in ("_sum", "_gsum"):
            self.sum = value

    def contradiction(self) -> str:
        """Say which two parts of it cannot both be right; empty where none. What is missing is no contradiction."""
        bounds, counts = self.bounds, self.counts
        if bounds and not (self.gauge and isnan(bounds[-1])):
            if any(isnan(bound) for bound in bounds) or bounds[-1] != inf:
                return 'its buckets do not end with le="+Inf"'
            if any(not low < high for low, high in pairwise(bounds)):
                return "its buckets are out of order"
        if any(low > high for low, high in pairwise(counts)):
            return "the counts of its buckets fall"
        if not self.gauge and any(isnan(count) or count < 0 for count in counts):
            return "a bucket's count is no count"
        if counts and self.count is not None and self.count != counts[-1]:
            return "its count is not that of its last bucket"
        # Only what is a difference of two may have no sum, and a negative count is one.
        if self.gauge and self.count is not None and self.count >= 0 and self.sum is None:
            return "it has a count and no sum"
        if self.count is None and self.sum is not None and self._below_zero():
            return "it has a sum of negative observations and no count"
        return ""

    def offence(self) -> str:
        """Say which rule it offends; empty where none."""
        negative = any(bound < 0 for bound in self.bounds)
        if not self.bounds:
            return 'it has no bucket of le="+Inf"'
        if (self.count is None) != (self.sum is None):
            return "it has only one of sum and count"
        if negative and not self.gauge and self.sum is not None:
            return "it has a sum, and buckets below zero"
        if self.gauge and not negative and self.sum is not None and self.sum < 0:
            return "it has a negative sum, and no bucket below zero"
        return self.contradiction()

    def _below_zero(self) -> bool:
        return any(bound < 0 and count > 0 for bound, count in zip(self.bounds, self.counts, strict=True))


def first_fault(samples: Iterable[Sample], metadata: Mapping[str, Metadata]) -> str:
    """Return what is wrong with the first sample, empty as soon as one sample or histogram can be right."""
    first = ""
    for fault in _faults(samples, metadata):
        if not fault:
            return ""
        first = first or fault
    return first


def _faults(samples: Iterable[Sample], metadata: Mapping[str, Metadata]) -> Iterator[str]:
    """Walk what is wrong with each sample, or with each histogram as a whole; empty where nothing is."""
    key, whole = None, Whole(False)
    for sample in samples:
        name, kind, suffix = _place(sample.name, metadata)
        if kind not in _HISTOGRAMS or not suffix:
            lacks = kind == "summary" and not suffix and not _has_number(sample.labels, "quantile")
            yield f"{name[:80]} has a quantile that is no number" if lacks else ""
            continue
        here = (name, without(sample.labels, "le"), sample.timestamp_ms)
        if here != key:
            if key is not None:
                yield _said(key[0], whole)
            key, whole = here, Whole(kind == "gaugehistogram")
        whole.add(suffix, sample.labels, sample.value)
    if key is not None:
        yield _said(key[0], whole)


def _said(name: str, whole: Whole) -> str:
    fault = whole.contradiction()
    return f"of the histogram {name[:80]}, {fault}" if fault else ""


def bound_of(labels: Group, name: str) -> float:
    """Read a label that holds a number, NaN where there is none. Infinity is spelled ``+Inf`` and in no other way."""
    for key, text in zip(labels[::2], labels[1::2], strict=True):
        if key == name:
            try:
                number = float(text)
            except ValueError:
                return nan
            spelled = text == "+Inf" if number == inf else "_" not in text and text == text.strip()
            return number if spelled else nan
    return nan


def _has_number(labels: Group, name: str) -> bool:
    return not isnan(bound_of(labels, name)) or (name, "NaN") in zip(labels[::2], labels[1::2], strict=True)


def without(labels: Group, name: str) -> Group:
    """Return flat labels without one of them."""
    if name not in labels[::2]:
        return labels
    at = 2 * labels[::2].index(name)
    return labels[:at] + labels[at + 2 :]


def _place(sample_name: str, metadata: Mapping[str, Metadata]) -> tuple[str, Kind, str]:
    """Return (family, its kind, the sample's suffix)."""
    found = family_of(sample_name, metadata)
    if found is None:
        return sample_name, "unknown", ""
    return found[0], found[1].kind, sample_name[len(found[0]) :]


class Rules:
    """Watches one page, line by line. Each method raises BadLine at the line that breaks a rule."""

    def __init__(self) -> None:
        self._claimed: set[str] = set()  # names of samples and families that may not be used again
        self._name = ""  # the family that is open
        self._kind: Kind = "unknown"
        self._said: set[str] = set()  # the keywords of its comments
        self._names: frozenset[str] = frozenset()  # of the samples that it may have
        self._has_samples = False
        self._groups: set[Group] = set()
        self._group: Group | None = None
        self._time: int | None = None
        self._whole: Whole | None = None

    def comment(self, comment: Comment, line: bytes) -> None:
        """Note a TYPE, HELP or UNIT line."""
        if comment.name != self._name:
            self._open(comment.name, line)
        elif self._has_samples:
            raise BadLine(f"the {comment.keyword} of a family stands behind its samples", line)
        if comment.keyword in self._said:
            raise BadLine(f"a family has more than one {comment.keyword}", line)
        self._said.add(comment.keyword)
        if comment.keyword == "TYPE":
            self._set_kind(comment.text, line)
        if comment.keyword == "UNIT" and comment.text:
            self._said.add("a unit")
        if "a unit" in self._said and self._kind in ("info", "stateset"):
            raise BadLine(f"a family of type {self._kind} has a unit", line)

    def sample(self, sample: Sample, has_exemplar: bool, line: bytes) -> None:
        """Note a sample."""
        if sample.name not in self._names:
            self._open(sample.name, line)
        suffix = sample.name[len(self._name) :]
        fault = self._fault_of_labels(suffix, sample) or self._fault_of_value(suffix, sample.value)
        if has_exemplar and (self._kind, suffix) not in (
            ("counter", "_total"),
            ("histogram", "_bucket"),
            ("gaugehistogram", "_bucket"),
        ):
            fault = "only totals and buckets have exemplars"
        if fault:
            raise BadLine(fault, line)
        self._follow(suffix, sample, line)
        self._has_samples = True

    def end(self) -> None:
        """Note the page's end."""
        self._close_whole(b"")

    def _open(self, name: str, line: bytes) -> None:
        """Begin a family; until a TYPE line says otherwise it has one sample name, its own."""
        self._close_whole(line)
        self._claim((name,), line)
        self._name, self._kind, self._names = name, "unknown", frozenset((name,))
        self._said, self._groups = set(), set()
        self._has_samples, self._group, self._time = False, None, None

    def _set_kind(self, word: str, line: bytes) -> None:
        self._kind = next((kind for kind in _SUFFIXES if kind == word), "stateset" if word == "stateset" else "unknown")
        suffixes = _SUFFIXES.get(self._kind, ("",))
        self._names = frozenset(self._name + suffix for suffix in suffixes)
        self._claim((self._name + suffix for suffix in suffixes if suffix), line)

    def _claim(self, names: Iterable[str], line: bytes) -> None:
        for name in names:
            if name in self._claimed:
                raise BadLine(f"the name {name[:80]!r} belongs to a family before", line)
            self._claimed.add(name)

    def _fault_of_labels(self, suffix: str, sample: Sample) -> str:
        if self._kind == "stateset" and self._name not in sample.labels[::2]:
            return "the state has no label of its family's name"
        if self._kind in _HISTOGRAMS and suffix == "_bucket" and isnan(bound_of(sample.labels, "le")):
            return "the label le is missing, or no number"
        if self._kind == "summary" and not suffix and not 0 <= bound_of(sample.labels, "quantile") <= 1:
            return "the label quantile is missing, or no number from 0 to 1"
        return ""

    def _fault_of_value(self, suffix: str, value: float) -> str:
        if self._kind == "stateset" and value not in (0, 1):
            return "a state is neither 0 nor 1"
        if self._kind == "info" and value != 1:
            return "the value of an info is not 1"
        if self._kind == "summary" and not suffix and value < 0:
            return "a quantile is negative"
        if suffix in _NOT_NAN and isnan(value):
            return "a value that is counted is not a number"
        if suffix in _NOT_NEGATIVE and value < 0:
            return "a value that is counted is negative"
        if (suffix == "_bucket" or suffix in _COUNTS) and not value.is_integer():
            return "a count is not a whole number"
        return ""

    def _follow(self, suffix: str, sample: Sample, line: bytes) -> None:
        """See whether a sample may follow the one before it."""
        group, time = self._group_of(suffix, sample.labels), sample.timestamp_ms
        if group != self._group:
            if group in self._groups:
                raise BadLine("the lines of a metric do not stand together", line)
            self._groups.add(group)
        elif (time is None) != (self._time is None):
            raise BadLine("some samples of a metric have a timestamp, and some have none", line)
        elif time is not None and self._time is not None and time < self._time and self._kind != "info":
            raise BadLine("the timestamps of a metric go backwards", line)
        if self._kind in _HISTOGRAMS:
            if group != self._group or time != self._time or self._whole is None:
                self._close_whole(line)
                self._whole = Whole(self._kind == "gaugehistogram")
            self._whole.add(suffix, sample.labels, sample.value)
        self._group, self._time = group, time

    def _group_of(self, suffix: str, labels: Group) -> Group:
        if self._kind == "info":
            return ()  # which of its labels tell metrics apart is not said
        if self._kind == "stateset":
            return without(labels, self._name)
        if self._kind == "summary" and not suffix:
            return without(labels, "quantile")
        return without(labels, "le") if suffix == "_bucket" else labels

    def _close_whole(self, line: bytes) -> None:
        whole, self._whole = self._whole, None
        if whole is not None and (fault := whole.offence()):
            raise BadLine(f"of the histogram {self._name[:80]}, {fault}", line)
