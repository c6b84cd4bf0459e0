"""Reading the vectors, and putting both sides into one shape."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from receivers.exposition import Page, Sample

Point = tuple[Any, ...]


def load(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def body_of(case: dict[str, Any]) -> bytes:
    """The body of a case: text, or bytes in hex where it is no UTF-8."""
    text = case.get("text")
    if isinstance(text, str):
        return text.encode()
    return bytes.fromhex(text["$bytes_hex"] if text else case.get("text_hex", ""))


def number(value: Any) -> str:
    """A number in one spelling; labels that hold numbers may be spelled in many."""
    try:
        return repr(float(value))
    except ValueError:
        return str(value)


def point(name: str, labels: dict[str, str], value: Any, timestamp: int | None) -> Point:
    """A sample as both sides would say it. Empty labels are none."""
    spelled = {k: number(v) if k in ("le", "quantile") else v for k, v in labels.items() if v}
    return name, tuple(sorted(spelled.items())), number(value), timestamp


def labels_of(flat: tuple[str, ...]) -> dict[str, str]:
    """Flat labels as a mapping."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def point_of(sample: Sample) -> Point:
    """A sample of ours."""
    return point(sample.name, labels_of(sample.labels), sample.value, sample.timestamp_ms)


def points_of(page: Page) -> Counter[Point]:
    """All samples of a page."""
    return Counter(map(point_of, page.samples))
