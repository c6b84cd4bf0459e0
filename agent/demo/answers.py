"""How a Prometheus writes what it found: the text of ``/federate`` and the JSON of ``/api/v1/query``.

Formats: prometheus/common expfmt (text 0.0.4) and prometheus web/api/v1/json_codec.go.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from itertools import chain, compress, pairwise
from typing import cast

import numpy as np

from agent.demo.storage import Samples, Selection, Storage
from agent.demo.traffic import Indices

_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_NOT_FINITE = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}


def federate_text(storage: Storage, selection: Selection, now_ms: int) -> bytes:
    """Return the newest sample of every series of a selection that has one and is not stale."""
    times = storage.last_scrapes(now_ms)
    samples = storage.samples(selection, times)
    there = samples.there[:, 0]
    stamps = [f" {time}\n" for time in times[:, 0].tolist()]
    lines = list(compress(_lines(selection), there.tolist()))
    found = there.nonzero()[0]
    for at in _first_of_names(selection, found):
        lines[at] = f"# TYPE {selection.names[found[at]]} untyped\n{lines[at]}"
    numbers = map(federate_number, samples.values[found, 0].tolist())
    stamped = map(stamps.__getitem__, selection.targets[found].tolist())
    return "".join(chain.from_iterable(zip(lines, numbers, stamped, strict=True))).encode()


def _lines(selection: Selection) -> list[str]:
    """Return each series as the text of its line up to the number, kept with the selection."""
    known = selection.memory.get("lines")
    if known is None:
        labels = selection.texts(_exposed)
        known = selection.memory["lines"] = [
            f"{name}{{{text}}} " for name, text in zip(selection.names, labels, strict=True)
        ]
    return cast("list[str]", known)


def _exposed(label: tuple[str, str]) -> str:
    return f'{label[0]}="{label[1].translate(_ESCAPES)}"'


def _quoted(label: tuple[str, str]) -> str:
    return f"{json.dumps(label[0])}:{json.dumps(label[1], ensure_ascii=False)}"


def _first_of_names(selection: Selection, found: Indices) -> list[int]:
    """Return the places in ``found`` (rows in the order of their names) where another name begins."""
    runs = cast("Indices | None", selection.memory.get("runs"))
    if runs is None:
        changes = [name != before for name, before in pairwise(("", *selection.names))]
        runs = selection.memory["runs"] = np.cumsum(changes)
    here = runs[found]
    return np.flatnonzero(np.diff(here, prepend=-1)).tolist()


def federate_number(value: float) -> str:
    """Write a float as Go's ``strconv.FormatFloat(v, 'g', -1, 64)``: with an exponent below 1e-4, and from 1e21.

    Where the shortest digits are fewer than the number is long, Go counts from 1e+06 on: 1.5e+06, but never 1500000.
    """
    if -1e6 < value < 1e6 and value.is_integer():
        return str(int(value))
    if not math.isfinite(value):
        return _NOT_FINITE[repr(value)]
    text = repr(value)
    return text if 1e-4 <= abs(value) < 1e6 else _exponent(text)


def _exponent(text: str) -> str:
    sign, digits, exponent = Decimal(text).as_tuple()
    plain = "".join(map(str, digits)).rstrip("0") or "0"
    power = int(exponent) + len(digits) - 1
    fraction = f".{plain[1:]}" if len(plain) > 1 else ""
    return f"{'-' if sign else ''}{plain[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"


def json_number(value: float) -> str:
    """Write a float as Prometheus' JSON does: plain digits, an exponent only below 1e-6 and from 1e21."""
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if not math.isfinite(value):
        return _NOT_FINITE[repr(value)]
    text = repr(value)
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f").removesuffix(".0")
    return _exponent(text)


def json_time(time_ms: int) -> str:
    """Write milliseconds as seconds, with three decimals where there are any."""
    seconds, rest = divmod(time_ms, 1000)
    return f"{seconds}.{rest:03d}" if rest else str(seconds)


def _metrics(selection: Selection) -> list[str]:
    """Return each series as the JSON of its ``metric``, kept with the selection."""
    known = selection.memory.get("metrics")
    if known is None:
        labels = selection.texts(_quoted)
        known = selection.memory["metrics"] = [
            f'{{"__name__":"{name}",{text}}}' for name, text in zip(selection.names, labels, strict=True)
        ]
    return cast("list[str]", known)


def vector_json(selection: Selection, samples: Samples, time_ms: int) -> str:
    """Return the result of an instant selector: newest samples, all at the time of the evaluation."""
    there = samples.there[:, 0]
    stamp = json_time(time_ms)
    numbers = map(json_number, samples.values[there, 0].tolist())
    found = compress(_metrics(selection), there.tolist())
    items = [
        f'{{"metric":{metric},"value":[{stamp},"{number}"]}}' for metric, number in zip(found, numbers, strict=True)
    ]
    return f'{{"resultType":"vector","result":[{",".join(items)}]}}'


def matrix_json(selection: Selection, samples: Samples) -> str:
    """Return the result of a range selector: raw samples at their own times; series without any are left out."""
    stamps = [[f"[{json_time(time)}," for time in row] for row in samples.times.tolist()]
    metrics, items = _metrics(selection), []
    for at in np.flatnonzero(samples.there.any(axis=1)).tolist():
        there = samples.there[at].tolist()
        times = compress(stamps[selection.targets[at]], there)
        numbers = compress(samples.values[at].tolist(), there)
        values = ",".join([f'{time}"{json_number(number)}"]' for time, number in zip(times, numbers, strict=True)])
        items.append(f'{{"metric":{metrics[at]},"values":[{values}]}}')
    return f'{{"resultType":"matrix","result":[{",".join(items)}]}}'
