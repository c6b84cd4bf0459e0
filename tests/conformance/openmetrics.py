"""OpenMetrics text 1.0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from receivers.exposition import BadPage, Metadata, Page, kind_of, lines_of
from receivers.openmetrics import parse_page
from receivers.openmetrics_lines import parse_comment, parse_line
from tests.conformance.text import Cases, expected_entry
from tests.conformance.vectors import Point, body_of, labels_of, load, number, point, point_of

_MS = 10**6


def refused(body: bytes, *, strict: bool) -> bool:
    """Whether the page is refused."""
    try:
        parse_page(body, strict=strict)
    except BadPage:
        return True
    return False


def suite_strict(vectors: Path) -> Cases:
    """The specification's own pages, read strictly: the good ones parse, all others are refused."""
    for case in load(vectors / "openmetrics/parsers.json")["cases"]:
        yield case["name"], refused(body_of(case), strict=True) is not case["should_parse"]


def suite_lenient(vectors: Path) -> Cases:
    """The same read leniently: refused is what even Prometheus' scraper refuses, and nothing else."""
    for case in load(vectors / "openmetrics/parsers.json")["cases"]:
        taken = case["should_parse"] or case["prometheus_scraper_accepts"]
        yield case["name"], refused(body_of(case), strict=False) is not taken


def client_python(vectors: Path) -> Cases:
    """client_python's tests of its parser, errors among them; read strictly, as it does."""
    for case in load(vectors / "client_python/openmetrics_parser.json")["cases"]:
        body = body_of(case)
        bad = refused(body, strict=True)
        yield str(case["id"]), bad if "error" in case else not bad and _same_families(body, case["families"])


def _same_families(body: bytes, families: list[dict[str, Any]]) -> bool:
    """Compare with the families of client_python; leniently must give what strictly gives."""
    page = parse_page(body, strict=True)
    if repr(page) != repr(parse_page(body)):
        return False
    expected: Counter[Point] = Counter()
    for family in families:
        ours = page.metadata.get(family["name"], Metadata())
        if (ours.kind, ours.help, ours.unit) != (kind_of(family["type"]), family["help"], family["unit"]):
            return False
        for s in family["samples"]:
            said = point(s["name"], s["labels"], s["value"], _client_time(s.get("timestamp")))
            expected[(*said, _client_exemplar(s.get("exemplar")))] += 1
    return expected == Counter((*point_of(s), _exemplar(page, row)) for row, s in enumerate(page.samples))


def _client_time(time: Any) -> int | None:
    if time is None:
        return None
    if isinstance(time, dict):
        return min(int(time["sec"]) * 1000 + int(time["nsec"]) // _MS, 2**63 - 1)
    return int(time * 1000)


def _client_exemplar(exemplar: Any) -> Point | None:
    if exemplar is None:
        return None
    return point("", exemplar["labels"], exemplar["value"], _client_time(exemplar["timestamp"]) or 0)


def _exemplar(page: Page, row: int) -> Point | None:
    found = page.exemplars.get(row)
    return point("", labels_of(found[0].labels), found[0].value, found[0].time // _MS) if found else None


def textparse_entries(vectors: Path) -> Cases:
    """Every entry of the pages of Prometheus' own parser; a start time stands at each sample that it dates."""
    for case in load(vectors / "prometheus_textparse/text.json")["cases"]:
        if case["format"] != "text/plain":
            native = any(entry["kind"] == "histogram" for entry in case["entries"])
            ours = list(entries_of(body_of(case), classic=not native))
            theirs = [entry for entry in case["entries"] if entry["kind"] != "histogram"]
            assert len(ours) == len(theirs)
            for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                yield f"{case['test']}/{index}", _same_entry(one, other)
            page = parse_page(body_of(case))
            for entry in case["entries"]:
                if entry["kind"] == "histogram":
                    yield f"{case['test']}/{entry['series_text']}", _same_histogram(page, entry)


def _same_histogram(page: Page, entry: dict[str, Any]) -> bool:
    """Compare classic rows with the histogram of custom buckets that Prometheus makes of them where it is told to."""
    labels = dict(entry["labels"])
    name = labels.pop("__name__")
    told = entry["int_histogram"]
    counts, deltas = [0.0] * (len(told.get("CustomValues", ())) + 1), iter(accumulate(told["PositiveBuckets"]))
    place = 0
    for span in told["PositiveSpans"]:
        place += span.get("Offset", 0)
        for _ in range(span["Length"]):
            counts[place] = next(deltas)
            place += 1
    buckets = zip([*map(str, told.get("CustomValues", ())), "+Inf"], accumulate(counts), strict=True)
    expected = [point(f"{name}_bucket", {**labels, "le": bound}, count, None) for bound, count in buckets]
    expected.append(point(f"{name}_count", labels, told["Count"], None))
    expected.append(point(f"{name}_sum", labels, told.get("Sum", 0), None))
    mine = {row: point_of(sample) for row, sample in enumerate(page.samples) if row not in page.folded}
    rows = [row for row, said in mine.items() if said in expected]
    found = {mine[row] for row in rows}
    # A count or sum that the page leaves out is made up from the buckets, or 0.
    missing = {said for said in expected if said not in found and not said[0].endswith("_bucket")}
    starts = {page.created.get(row, 0) // _MS for row in rows}
    exemplars = sorted(filter(None, (_exemplar(page, row) for row in rows)))
    carried = sorted(
        point("", one["labels"], one["value"], one.get("timestamp_ms", 0)) for one in entry.get("exemplars", [])
    )
    made_up = not {said[:2] for said in missing} & {said[:2] for said in mine.values()}
    return (
        found | missing == set(expected)
        and made_up
        and starts == {entry.get("start_timestamp_ms", 0)}
        and exemplars == carried
    )


def entries_of(body: bytes, *, classic: bool) -> Iterator[dict[str, Any]]:
    """Walk a page as Prometheus' parser does, with the rows of classic histograms or without."""
    page, row = parse_page(body), -1
    for line in lines_of(body):
        if line.startswith(b"# EOF"):
            return
        if line.startswith(b"#"):
            keyword, name, text = parse_comment(line)
            yield {"kind": keyword.lower(), "family": name, keyword.lower(): text}
            continue
        row += 1
        sample = page.samples[row]
        family = sample.name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        rebuilt = page.metadata.get(family, Metadata()).kind == "histogram"
        if row not in page.folded and (classic or not rebuilt):
            text = line[: parse_line(line).sample.value_at].decode().rstrip()
            start, exemplar = page.created.get(row), _exemplar(page, row)
            yield {
                "kind": "sample",
                "series_text": text,
                "point": point_of(sample),
                "start": start and start // _MS,
                "exemplar": exemplar,
            }


def _same_entry(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    if theirs["kind"] != "sample":
        return ours == theirs
    if "labels" not in theirs:  # upstream asserts no more of it
        return bool(ours["series_text"] == theirs["series_text"])
    exemplars = [
        point("", one["labels"], number(one["value"]), one.get("timestamp_ms", 0))
        for one in theirs.get("exemplars", [None])
        if one
    ]
    more = {"start": theirs.get("start_timestamp_ms"), "exemplar": exemplars[0] if exemplars else None}
    return ours == {**expected_entry(theirs), **more}


def textparse_inputs(vectors: Path) -> Cases:
    """Inputs that Prometheus' own parser refuses, and some beside them that it takes."""
    for case in load(vectors / "prometheus_textparse/text.json")["errors"]:
        if case["format"] != "text/plain":
            key = f"{case['test']}/{case['id']}"
            yield key, refused(body_of(case), strict=False) is not case["must_parse"]
