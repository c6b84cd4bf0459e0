"""The careful parser against what other projects wrote down."""

from __future__ import annotations

import json
import math
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from receivers.exposition import (
    BadContentType,
    BadPage,
    Metadata,
    Page,
    Sample,
    belongs,
    ends_whole,
    family_of,
    format_of,
    kind_of,
    lines_of,
    parse_comment,
    parse_page,
    parse_sample,
)

# Inputs on which we differ from the project that wrote them down, each with the reason.
DEVIATIONS = {
    ("common error", 1): "an unknown escape stays as it is written, as in Prometheus' own parser and client_python",
    ("common error", 7): "le and quantile are compared where histograms are built; Prometheus' parser takes any text",
    ("common error", 12): "Prometheus' parser takes a second HELP line; the last counts",
    ("common error", 13): "Prometheus' parser takes a second TYPE line; the last counts",
    ("common error", 14): "Prometheus' parser takes a TYPE line after samples: membership is asked by name, not order",
    ("common error", 19): "see 7",
    ("common error", 32): "see 7",
    ("common error", 33): "see 7",
    ("common error", 36): "see 1",
    ("common error", 38): "see 1",
    ("common error", 43): "numbers are judged where histograms are built; Prometheus' parser takes any number",
    ("common error", 44): "see 43",
    ("common error", 45): "see 43",
    ("common error", 46): "see 43",
    ("common help", 8): r"a HELP text knows \\ and \n only, as in Prometheus and client_python: \" stays",
}


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def body_of(case: dict[str, Any]) -> bytes:
    text = case.get("text")
    if isinstance(text, str):
        return text.encode()
    return bytes.fromhex(text["$bytes_hex"] if text else case["text_hex"])


def refused(body: bytes) -> bool:
    try:
        parse_page(body)
    except BadPage:
        return True
    return False


def number(value: Any) -> str:
    """A number in one spelling; labels that hold numbers may be spelled in many."""
    try:
        return repr(float(value))
    except ValueError:
        return str(value)


def point(name: str, labels: dict[str, str], value: Any, timestamp: int | None) -> tuple[Any, ...]:
    spelled = {k: number(v) if k in ("le", "quantile") else v for k, v in labels.items() if v}
    return name, tuple(sorted(spelled.items())), number(value), timestamp


def labels_of(sample: Sample) -> dict[str, str]:
    return dict(zip(sample.labels[::2], sample.labels[1::2], strict=True))


def points_of(page: Page) -> Counter[tuple[Any, ...]]:
    return Counter(point(s.name, labels_of(s), s.value, s.timestamp_ms) for s in page.samples)


def entries_of(body: bytes) -> list[dict[str, Any]]:
    """A page as the list of entries that Prometheus' parser gives."""
    entries: list[dict[str, Any]] = []
    for line in filter(bytes.strip, lines_of(body)):
        if line.startswith(b"#"):
            keyword, name, text = parse_comment(line)
            if keyword:
                entries.append({"kind": keyword.lower(), "family": name, keyword.lower(): text})
            else:
                entries.append({"kind": "comment", "text": text})
        else:
            sample = parse_sample(line)
            entries.append(
                {"kind": "sample", "series_text": line[: sample.value_at].decode().rstrip(), "sample": sample}
            )
    return entries


def test_prometheus_textparse_pages(vectors: Path) -> None:
    cases = [c for c in load(vectors / "prometheus_textparse/text.json")["cases"] if c["format"] == "text/plain"]
    assert cases
    for case in cases:
        entries = entries_of(body_of(case))
        assert len(entries) == len(case["entries"])
        for ours, theirs in zip(entries, case["entries"], strict=True):
            sample = ours.pop("sample", None)
            if sample is None:
                assert ours == theirs
                continue
            labels = dict(theirs["labels"])
            expected = point(labels.pop("__name__"), labels, theirs["value"], theirs.get("timestamp_ms"))
            assert point(sample.name, labels_of(sample), sample.value, sample.timestamp_ms) == expected
            assert ours["series_text"] == theirs["series_text"]


def test_prometheus_textparse_errors(vectors: Path) -> None:
    cases = [c for c in load(vectors / "prometheus_textparse/text.json")["errors"] if c["format"] == "text/plain"]
    assert len(cases) > 20
    for case in cases:
        assert refused(body_of(case)) is not case["must_parse"], case


def test_prometheus_textparse_content_types(vectors: Path) -> None:
    formats = {"prometheus-text": "text", "openmetrics-text": "openmetrics", "protobuf": "protobuf"}
    for case in load(vectors / "prometheus_textparse/text.json")["content_types"]:
        fallback = case["fallback"] and format_of(case["fallback"])
        if case["parser"] is None:
            with pytest.raises(BadContentType):
                format_of(case["content_type"], fallback)
        else:
            assert format_of(case["content_type"], fallback) == formats[case["parser"]], case


def test_prometheus_scrape_family_membership(vectors: Path) -> None:
    for case in load(vectors / "prometheus_scrape/scrape.json")["is_series_part_of_family"]:
        assert belongs(case["series"], case["family"], case["type"]) is case["member"], case
        named = family_of(case["series"], {case["family"]: Metadata(case["type"])})
        assert (named is not None) is case["member"], case


def dto_points(family: dict[str, Any]) -> Counter[tuple[Any, ...]]:
    """The samples of a client model's family; parts of histograms and summaries without their (shared) timestamp."""
    points: Counter[tuple[Any, ...]] = Counter()
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


def test_prometheus_common_pages(vectors: Path) -> None:
    cases = load(vectors / "prometheus_common/text_parse.json")["cases"]
    for case in cases:
        page = parse_page(body_of(case))
        expected: Counter[tuple[Any, ...]] = Counter()
        for family in case["families"]:
            expected += dto_points(family)
            ours = page.metadata.get(family["Name"], Metadata())
            assert ours.kind == kind_of(family["Type"].lower()), case["id"]
            assert (ours.help == family.get("Help", "")) is (("common help", case["id"]) not in DEVIATIONS), case["id"]
        points: Counter[tuple[Any, ...]] = Counter()
        for sample in page.samples:
            found = family_of(sample.name, page.metadata)
            simple = found is None or found[1].kind in ("counter", "gauge", "unknown")
            points[point(sample.name, labels_of(sample), sample.value, sample.timestamp_ms if simple else None)] += 1
        assert points == expected, case["id"]


def test_prometheus_common_errors(vectors: Path) -> None:
    for case in load(vectors / "prometheus_common/text_parse_errors.json")["cases"]:
        body = body_of(case)
        if "unexpected end of input stream" in (case["error_prefix_utf8_validation"] or ""):
            assert not ends_whole(body), case
            continue
        must_fail = case["rejected_with_utf8_names"] and ("common error", case["id"]) not in DEVIATIONS
        assert refused(body) is must_fail, case


def test_client_python(vectors: Path) -> None:
    for case in load(vectors / "client_python/text_parser.json")["cases"]:
        body = body_of(case)
        if "error" in case:
            assert refused(body), case
            continue
        page = parse_page(body)
        expected: Counter[tuple[Any, ...]] = Counter()
        for family in case["families"]:
            names = [n for n in (family["name"], family["name"] + "_total") if n in page.metadata]
            ours = page.metadata[names[-1]] if names else Metadata()
            assert (ours.kind, ours.help) == (kind_of(family["type"]), family["help"]), case
            for s in family["samples"]:
                time = round(s["timestamp"] * 1000) if "timestamp" in s else None
                expected[point(s["name"], s["labels"], s["value"], time)] += 1
        points: Counter[tuple[Any, ...]] = Counter()
        for sample in page.samples:
            found, name = family_of(sample.name, page.metadata), sample.name
            if found and found[1].kind == "counter" and not name.endswith("_total"):
                name += "_total"  # client_python gives every counter's sample its OpenMetrics name
            points[point(name, labels_of(sample), sample.value, sample.timestamp_ms)] += 1
        assert points == expected, case


def naive_points(body: bytes) -> Counter[tuple[Any, ...]]:
    """What the plain lines of a page say, read in the simplest way that is right for lines without escapes."""
    points: Counter[tuple[Any, ...]] = Counter()
    for line in body.decode().splitlines():
        if line and not line.startswith("#"):
            constant, _, numbers = line.rpartition("}") if "{" in line else line.partition(" ")
            fields = numbers.split()
            labels = dict(re.findall(r'(\w+)="([^"]*)"', constant))
            points[
                point(
                    constant.split("{")[0] or line.split()[0], labels, fields[0], int(fields[1]) if fields[1:] else None
                )
            ] += 1
    return points


def test_federate_bodies_and_present_day_proxies(vectors: Path) -> None:
    bodies = [c["body"].encode() for c in load(vectors / "prometheus_api/federate.json")["cases"] if c["status"] == 200]
    bodies += [path.read_bytes() for path in sorted((vectors / "linkerd").glob("*.txt"))]
    assert len(bodies) > 10
    for body in bodies:
        page = parse_page(body)
        assert points_of(page) == naive_points(body)
        for sample in page.samples:
            assert "" not in sample.labels
            found = family_of(sample.name, page.metadata)
            assert found is None or found == (sample.name, Metadata("unknown"))


OTLP_NAMES = {"counter": "sum(monotonic)", "gauge": "gauge", "unknown": "gauge"}


def otlp_counts(page: Page) -> dict[str, dict[str, int]]:
    """How many OTLP metrics and points a page makes, by kind; a histogram or summary point is a label set with a count."""
    points: dict[str, dict[str, set[Any]]] = {}
    for sample in page.samples:
        name, metadata = family_of(sample.name, page.metadata) or (sample.name, Metadata())
        kind = OTLP_NAMES.get(metadata.kind, metadata.kind)
        if kind in ("histogram", "summary") and not sample.name.endswith("_count"):
            continue
        points.setdefault(kind, {}).setdefault(name, set()).add(sample.labels)
    return {
        kind: {"metrics": len(families), "points": sum(map(len, families.values()))}
        for kind, families in points.items()
    }


def test_real_pages(vectors: Path) -> None:
    pages = load(vectors / "real_pages/counts.json")["pages"]
    read = 0
    for name, counts in pages.items():
        if not name.endswith(".prom.txt"):
            continue
        body = (vectors / "real_pages" / name).read_bytes()
        page = parse_page(body)
        read += 1
        assert len(page.samples) == counts["sample_lines"], name
        assert ends_whole(body) is counts["ends_newline"]
        assert sum(math.isnan(sample.value) for sample in page.samples) == counts["nan"]
        assert sum(sample.timestamp_ms is not None for sample in page.samples) == counts["timestamps"]
        assert otlp_counts(page) == counts["otlp_derived"], name
    assert read > 5


def recorded(vectors: Path, archive: str, step: int = 1) -> list[tuple[str, bytes]]:
    """Every ``step``-th page of a recording, in order."""
    with tarfile.open(vectors / "linkerd_proxy_recorded" / f"{archive}.tar.xz") as tar:
        members = sorted((m for m in tar if m.name.endswith((".prom", "federate.txt"))), key=lambda m: m.name)
        files = [(m.name, tar.extractfile(m)) for m in members[::step]]
        return [(name, file.read()) for name, file in files if file is not None]


# step: the pages of one recording resemble each other
@pytest.mark.parametrize(
    ("archive", "step"),
    [("denied_A", 3), ("idle_expiry_A", 20), ("startup_A", 8), ("steady_A", 20), ("via_prometheus", 12)],
)
def test_recorded_proxies(vectors: Path, archive: str, step: int) -> None:
    pages = recorded(vectors, archive, step)
    assert pages
    for name, body in pages:
        page = parse_page(body)
        assert ends_whole(body)
        assert points_of(page) == naive_points(body), name
        kinds = {(family_of(s.name, page.metadata) or ("", Metadata()))[1].kind for s in page.samples}
        # /federate has forgotten all types; a proxy's page names the family of every line
        assert (
            kinds == {"unknown"}
            if name.endswith("federate.txt")
            else kinds <= {"counter", "gauge", "histogram", "info"}
        )


def test_recorded_pages_with_raw_quotation_marks_and_line_breaks(vectors: Path) -> None:
    """A service profile's route name comes out unescaped: its lines are lost, alone or with their page."""
    for name, body in recorded(vectors, "odd_A", 6):
        page = parse_page(body, on_bad_line="skip")
        lines = {number: line for number, line in enumerate(lines_of(body), 1) if line and not line.startswith(b"#")}
        odd = [number for number, line in lines.items() if re.search(rb'rt_route="odd "|rt_route="line$|^break', line)]
        assert [number for number, _ in page.bad_lines] == odd, name
        assert len(page.samples) == len(lines) - len(odd) > 300
        if odd:
            with pytest.raises(BadPage) as caught:
                parse_page(body)
            assert caught.value.line_number == odd[0]
