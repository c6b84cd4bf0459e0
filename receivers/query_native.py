"""Native histograms as the query API writes them: buckets between boundaries, the empty ones left out, without a schema.

Strategy. What the boundaries say (``query_bounds``) is worked out once for all histograms that show the same ones. What is
remembered of a series is what it was: its schema, or the custom boundaries that have shown so far.

Counts that are no whole numbers are rates, or other results, for which OTLP has no form: a series that has shown one is one
of those from then on, also where its counts happen to be whole.

Source: prometheus/prometheus, util/jsonutil (MarshalHistogram).
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from ebbtide import CUSTOM_BUCKETS, Extra, NativeHistogram
from receivers.query_bounds import Form, Known, form_of

MOST_FORMS = 1024
"""Sets of boundaries of which it is remembered what they say; of more, of the last ones."""

CUSTOM_END = Extra(NativeHistogram.of(count=0.0, sum=0.0, schema=CUSTOM_BUCKETS))
"""What hangs on the end of a stream of histograms with custom boundaries, to tell it from the end of an exponential one."""

_NOTHING_KNOWN = Known()
_PARTS = 4  # of a bucket: rule, lower and upper boundary, count


@dataclass(slots=True)
class Written:
    """A histogram as an answer has it. ``shape``: rule, lower and upper boundary of each bucket, as doubles."""

    count: float
    sum: float
    shape: bytes
    counts: array[float]


class Reading(NamedTuple):
    """A histogram. ``renewed``: its boundaries are others than before, so all began anew."""

    native: NativeHistogram
    renewed: bool = False


def written_of(tree: Any) -> Written | None:
    """Return a histogram of an answer in little memory; None for JSON that is none."""
    try:
        buckets = tree.get("buckets") or ()
        flat = array("d", map(float, chain.from_iterable(buckets)))
        if any(len(bucket) != _PARTS for bucket in buckets):
            return None
        counts = flat[_PARTS - 1 :: _PARTS]
        del flat[_PARTS - 1 :: _PARTS]
        return Written(float(tree["count"]), float(tree["sum"]), flat.tobytes(), counts)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


@dataclass(slots=True)
class Histograms:
    """What is remembered of histograms by the slot of their series."""

    fractional: set[int] = field(default_factory=set)
    """Those that have shown counts that are no whole numbers."""
    _known: dict[int, Known] = field(default_factory=dict)
    _forms: dict[tuple[bytes, Known], Form] = field(default_factory=dict)

    def read(self, slot: int, written: Written | None) -> Reading | None:
        """Return the histogram that comes next of a series; None for one that OTLP has no form for, or that is none."""
        if written is None or slot in self.fractional:
            return None
        try:
            form = self._form(written.shape, self._known.get(slot, _NOTHING_KNOWN))
            native = form.filled(written.count, written.sum, written.counts)
        except (ValueError, OverflowError):
            return None
        if not native.has_otlp_form:
            counts = (native.count, *written.counts)
            if all(map(math.isfinite, counts)) and not all(map(float.is_integer, counts)):
                self.fractional.add(slot)
            return None
        self._known[slot] = Known(bounds=form.bounds) if native.is_custom else Known(schema=native.schema)
        return Reading(native, form.renewed)

    def forget(self, slot: int) -> None:
        """The series is gone."""
        self.fractional.discard(slot)
        self._known.pop(slot, None)

    def _form(self, shape: bytes, known: Known) -> Form:
        key = shape, known
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= MOST_FORMS:
                self._forms.clear()
            form = self._forms[key] = form_of(shape, known)
        return form
