"""The text format, version 0.0.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from receivers.exposition import (
    BadPage,
    Metadata,
    ends_whole,
    family_of,
    kind_of,
    lines_of,
    parse_comment,
    parse_page,
    parse_sample,
)
from tests.conformance.vectors import Point, body_of, labels_of, load, point, point_of

Cases = Iterator[tuple[str, bool]]


def refused(body: bytes) -> bool:
    """Whether the page is refused."""
    try:
        parse_page(body)
    except BadPage:
        return True
    return False


def entries_of(body: bytes) -> Iterator[dict[str, Any]]:
    """Walk a page as the list of entries that Prometheus' parser gives."""
    for line in filter(bytes.strip, lines_of(body)):
        if not line.startswith(b"#"):
            sample = parse_sample(line)
            text = line[: sample.value_at].decode().rstrip()
            yield {"kind": "sample", "series_text": text, "point": point_of(sample)}
            continue
        keyword, name, text = parse_comment(line)
        if keyword:
            yield {"kind": keyword.lower(), "family": name, keyword.lower(): text}
        else:
            yield {"kind": "comment", "text": text}


def expected_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of the vectors in our shape."""
    if entry["kind"] != "sample":
        return entry
    labels = dict(entry["labels"])
    said = point(labels.pop("__name__"), labels, entry["value"], entry.get("timestamp_ms"))
    return {"kind": "sample", "series_text": entry["series_text"], "point": said}


def textparse_entries(vectors: Path) -> Cases:
    """Every entry of the pages of Prometheus' own parser."""
    for case in load(vectors / "prometheus_textparse/text.json")["cases"]:
        if case["format"] == "text/plain":
            ours = list(entries_of(body_of(case)))
            assert len(ours) == len(case["entries"])
            for index, (one, other) in enumerate(zip(ours, case["entries"], strict=True)):
                yield f"{case['test']}/{index}", one == expected_entry(other)


def textparse_inputs(vectors: Path) -> Cases:
    """Inputs that Prometheus' own parser refuses, and some beside them that it takes."""
    for case in load(vectors / "prometheus_textparse/text.json")["errors"]:
        if case["format"] == "text/plain":
            yield f"{case['test']}/{case['id']}", refused(body_of(case)) is not case["must_parse"]


def dto_points(family: dict[str, Any]) -> Counter[Point]:
    """The samples of a client model's family; parts of histograms and summaries without their (shared) timestamp."""
    points: Counter[Point] = Counter()
    name = family["Name"]
    for metric in family.get("Metric", []):
        labels = {label["Name"]: label.get("Value", "") for label in metric.get("Label", [])}
        for simple in ("Counter", "Gauge", "Untyped"):
            if simple in metric:
                points[point(name, labels, metric[simple].get("Value", 0), metric.get("TimestampMs"))] += 1
        whole = metric.get("Histogram") or metric.get("Summary") or {}
        for q in whole.get("Quantile", []):
            points[point(name, {**labels, "quantile": str(q.get("Quantile", 0))}, q["Value"], None)] += 1
        for b in whole.get("Bucket", []):
            count = b.get("CumulativeCountFloat", b.get("CumulativeCount"))
            points[point(f"{name}_bucket", {**labels, "le": str(b["UpperBound"])}, count, None)] += 1
        if "SampleSum" in whole:
            points[point(f"{name}_sum", labels, whole["SampleSum"], None)] += 1
        if "SampleCount" in whole or "SampleCountFloat" in whole:
            count = whole.get("SampleCountFloat", whole.get("SampleCount"))
            points[point(f"{name}_count", labels, count, None)] += 1
    return points


def common_pages(vectors: Path) -> Cases:
    """The pages of prometheus/common, family by family."""
    for case in load(vectors / "prometheus_common/text_parse.json")["cases"]:
        page = parse_page(body_of(case))
        expected: Counter[Point] = Counter()
        same = True
        for family in case["families"]:
            expected += dto_points(family)
            ours = page.metadata.get(family["Name"], Metadata())
            same = same and (ours.kind, ours.help) == (kind_of(family["Type"].lower()), family.get("Help", ""))
        points: Counter[Point] = Counter()
        for sample in page.samples:
            found = family_of(sample.name, page.metadata)
            simple = found is None or found[1].kind in ("counter", "gauge", "unknown")
            time = sample.timestamp_ms if simple else None
            points[point(sample.name, labels_of(sample.labels), sample.value, time)] += 1
        yield str(case["id"]), same and points == expected


def common_errors(vectors: Path) -> Cases:
    """What prometheus/common refuses; a page that ends within a line is told by ``ends_whole``."""
    for case in load(vectors / "prometheus_common/text_parse_errors.json")["cases"]:
        body = body_of(case)
        if "unexpected end of input stream" in (case["error_prefix_utf8_validation"] or ""):
            yield str(case["id"]), not ends_whole(body)
        else:
            yield str(case["id"]), refused(body) is bool(case["rejected_with_utf8_names"])


def client_python(vectors: Path) -> Cases:
    """client_python's tests of its text parser."""
    for number, case in enumerate(load(vectors / "client_python/text_parser.json")["cases"]):
        body = body_of(case)
        yield str(case.get("id", number)), refused(body) if "error" in case else _same_families(body, case["families"])


def _same_families(body: bytes, families: list[dict[str, Any]]) -> bool:
    page = parse_page(body)
    expected: Counter[Point] = Counter()
    for family in families:
        names = [name for name in (family["name"], family["name"] + "_total") if name in page.metadata]
        ours = page.metadata[names[-1]] if names else Metadata()
        if (ours.kind, ours.help) != (kind_of(family["type"]), family["help"]):
            return False
        for s in family["samples"]:
            time = round(s["timestamp"] * 1000) if "timestamp" in s else None
            expected[point(s["name"], s["labels"], s["value"], time)] += 1
    points: Counter[Point] = Counter()
    for sample in page.samples:
        found, name = family_of(sample.name, page.metadata), sample.name
        if found and found[1].kind == "counter" and not name.endswith("_total"):
            name += "_total"  # client_python gives every counter's sample its OpenMetrics name
        points[point(name, labels_of(sample.labels), sample.value, sample.timestamp_ms)] += 1
    return points == expected
