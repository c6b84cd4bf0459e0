"""Whole pages as real programs wrote them, and what is asked and told about formats."""

from __future__ import annotations

import base64
import math
import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from receivers import exposition, openmetrics, protobuf_page
from receivers.exposition import Metadata, Page, belongs, ends_whole, family_of, lines_of
from receivers.negotiation import PROTOBUF_FIRST, TEXT_FIRST, BadContentType, accept_header, format_of
from tests.conformance.text import Cases
from tests.conformance.vectors import Point, load, point, points_of

_OTLP_NAMES = {"counter": "sum(monotonic)", "gauge": "gauge", "unknown": "gauge"}
_FORMATS = {"prometheus-text": "text", "openmetrics-text": "openmetrics", "protobuf": "protobuf"}

# step: the pages of one recording resemble each other
_RECORDINGS = {"denied_A": 3, "idle_expiry_A": 20, "startup_A": 8, "steady_A": 20, "via_prometheus": 12}


def otlp_counts(page: Page) -> dict[str, dict[str, int]]:
    """How many OTLP metrics and points a page makes, by kind; a histogram or summary point is a label set with a count."""
    points: dict[str, dict[str, set[Any]]] = {}
    for sample in page.samples:
        name, metadata = family_of(sample.name, page.metadata) or (sample.name, Metadata())
        kind = _OTLP_NAMES.get(metadata.kind, metadata.kind)
        if kind in ("histogram", "summary") and not sample.name.endswith("_count"):
            continue
        points.setdefault(kind, {}).setdefault(name, set()).add(sample.labels)
    return {kind: {"metrics": len(names), "points": sum(map(len, names.values()))} for kind, names in points.items()}


def real_pages(vectors: Path) -> Cases:
    """Pages of real programs: lines, timestamps, NaN, and OTLP points by kind, as counted."""
    for name, counts in load(vectors / "real_pages/counts.json")["pages"].items():
        body = (vectors / "real_pages" / name).read_bytes()
        parse: Callable[[bytes], Page] = openmetrics.parse_page if ".om." in name else exposition.parse_page
        page = parse(body)
        found = (
            len(page.samples),
            ends_whole(body),
            sum(math.isnan(sample.value) for sample in page.samples),
            sum(sample.timestamp_ms is not None for sample in page.samples),
        )
        same = found == (counts["sample_lines"], counts["ends_newline"], counts["nan"], counts["timestamps"])
        yield name, same and counts["otlp_derived"] in (None, otlp_counts(page))


def protobuf_pages(vectors: Path) -> Cases:
    """A page in protobuf says what its twin in text says; and the messages of the Collector's own test."""
    folder = vectors / "real_pages"
    read = protobuf_page.parse_page((folder / "prometheus_common-protobuf.delimited.pb").read_bytes())
    twin = exposition.parse_page((folder / "prometheus_common-text.prom.txt").read_bytes())
    yield "prometheus_common", points_of(read) == points_of(twin) and read.metadata == twin.metadata
    for case in load(vectors / "prometheusreceiver/e2e.json")["cases"]:
        for number, page in enumerate(case["pages"]):
            if "body_base64" in page:
                read = protobuf_page.parse_page(base64.b64decode(page["body_base64"]))
                families = {family[0] for s in read.samples if (family := family_of(s.name, read.metadata))}
                told = case["expected_scrapes"][number]["metrics"]
                yield f"{case['id']}/{number}", families == {one["name"] for one in told}


def content_types(vectors: Path) -> Cases:
    """Which parser a Content-Type chooses, with a fallback or without."""
    for case in load(vectors / "prometheus_textparse/text.json")["content_types"]:
        fallback = case["fallback"] and format_of(case["fallback"])
        try:
            found: str | None = format_of(case["content_type"], fallback)
        except BadContentType:
            found = None
        yield case["name"], found == _FORMATS.get(case["parser"])


def accept_headers(vectors: Path) -> Cases:
    """The Accept header, to the letter."""
    for case in load(vectors / "prometheus_scrape/scrape.json")["accept_headers"]:
        protocols = TEXT_FIRST if case["protocols"] == "default" else PROTOBUF_FIRST
        yield case["name"], accept_header(protocols, case["escaping"]) == case["header"]


def membership(vectors: Path) -> Cases:
    """Which samples belong to a family."""
    for number, case in enumerate(load(vectors / "prometheus_scrape/scrape.json")["is_series_part_of_family"]):
        named = family_of(case["series"], {case["family"]: Metadata(case["type"])})
        member = belongs(case["series"], case["family"], case["type"])
        yield str(number), member is case["member"] and (named is not None) is case["member"]


def naive_points(body: bytes) -> Counter[Point]:
    """What the plain lines of a page say, read in the simplest way that is right for lines without escapes."""
    points: Counter[Point] = Counter()
    for line in body.decode().splitlines():
        if line and not line.startswith("#"):
            constant, _, numbers = line.rpartition("}") if "{" in line else line.partition(" ")
            fields = numbers.split()
            labels = dict(re.findall(r'(\w+)="([^"]*)"', constant))
            name = constant.split("{")[0] or line.split()[0]
            points[point(name, labels, fields[0], int(fields[1]) if fields[1:] else None)] += 1
    return points


def federate(vectors: Path) -> Cases:
    """What Prometheus answers at /federate: all samples, and no types."""
    bodies = {
        str(number): case["body"].encode()
        for number, case in enumerate(load(vectors / "prometheus_api/federate.json")["cases"])
        if case["status"] == 200
    }
    bodies |= {path.name: path.read_bytes() for path in sorted((vectors / "linkerd").glob("*.txt"))}
    for name, body in bodies.items():
        page = exposition.parse_page(body)
        found = [family_of(sample.name, page.metadata) for sample in page.samples]
        untyped = all(family is None or family[1].kind == "unknown" for family in found)
        yield name, untyped and points_of(page) == naive_points(body)


def recorded(vectors: Path, archive: str, step: int = 1) -> list[tuple[str, bytes]]:
    """Every ``step``-th page of a recording, in order."""
    with tarfile.open(vectors / "linkerd_proxy_recorded" / f"{archive}.tar.xz") as tar:
        members = sorted((m for m in tar if m.name.endswith((".prom", "federate.txt"))), key=lambda m: m.name)
        files = [(m.name, tar.extractfile(m)) for m in members[::step]]
        return [(name, file.read()) for name, file in files if file is not None]


def recordings(vectors: Path) -> Cases:
    """Pages of a real proxy under traffic, and of a Prometheus that scraped it: all samples, each line of a known family."""
    for archive, step in _RECORDINGS.items():
        for name, body in recorded(vectors, archive, step):
            page = exposition.parse_page(body)
            kinds = {(family_of(s.name, page.metadata) or ("", Metadata()))[1].kind for s in page.samples}
            typed = {"unknown"} if name.endswith("federate.txt") else {"counter", "gauge", "histogram", "info"}
            yield f"{archive}/{name}", points_of(page) == naive_points(body) and kinds <= typed


def odd_recordings(vectors: Path) -> Cases:
    """A route whose name holds quotation marks and line breaks comes out unescaped: its lines are lost, and no other."""
    for name, body in recorded(vectors, "odd_A", 6):
        page = exposition.parse_page(body, on_bad_line="skip")
        lines = {number: line for number, line in enumerate(lines_of(body), 1) if line and not line.startswith(b"#")}
        odd = [number for number, line in lines.items() if re.search(rb'rt_route="odd "|rt_route="line$|^break', line)]
        held = [number for number, _ in page.bad_lines] == odd and len(page.samples) == len(lines) - len(odd)
        try:
            exposition.parse_page(body)
        except exposition.BadPage as bad:
            held = held and bad.line_number == odd[0]
        else:
            held = held and not odd
        yield name, held
