"""A page of OpenMetrics text 1.0, read carefully: leniently as Prometheus does, or strictly by the specification.

Strategy. Lines are read by ``openmetrics_lines``. Leniently each line stands for itself, and families are asked for by
name afterwards, as for version 0.0.4: order and grouping do not matter. Strictly the lines also go through
``openmetrics_rules``, which knows what may follow what. The page must end with ``# EOF``: one without it was cut short.

Prometheus takes any number from any family. The page of which not one sample can be right (a lone histogram whose
buckets fall, a summary without quantiles) is refused all the same: whatever made it, it is no page of metrics.

Source: OpenMetrics 1.0; prometheus/prometheus, model/textparse/openmetricsparse.go (3.x).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

from receivers.exposition import BadPage, Metadata, OnBadLine, Page, apply_comment, family_of, lines_of
from receivers.openmetrics_lines import EOF, Line, parse_comment, parse_line
from receivers.openmetrics_rules import Rules, first_fault, without
from receivers.text import BadLine, Sample

_CREATED = "_created"
_DATED = frozenset(("counter", "histogram", "gaugehistogram", "summary"))
_OWN_LABEL = {"histogram": "le", "gaugehistogram": "le", "summary": "quantile"}


def parse_page(body: bytes, *, strict: bool = False, on_bad_line: OnBadLine = "refuse") -> Page:
    """Read a whole page. Raises BadPage, also where it does not end with ``# EOF``.

    Times are milliseconds, as in Prometheus: what is finer is cut off. A ``_created`` of a known counter, histogram or
    summary stands among the samples, but its index in ``folded``, and what it dates in ``created``.
    """
    page, rules, number, ended = Page(), Rules() if strict else None, 0, False
    for number, line in enumerate(lines_of(body), 1):
        if ended:
            refuse_more(number, line)
        if line == EOF:
            ended = True
            continue
        try:
            _read_line(page, line, rules)
        except BadLine as bad:
            if on_bad_line == "refuse":
                raise BadPage(number, bad.reason, bad.line) from None
            page.skip(number, bad.reason)
    if not ended:
        refuse_cut_short(number, body[-40:])
    _finish(page, rules, number, on_bad_line)
    return page


def refuse_cut_short(last_line: int, excerpt: bytes) -> NoReturn:
    """Raise BadPage: the last line is not the end."""
    raise BadPage(max(last_line, 1), "the page does not end with `# EOF`: it was cut short", excerpt)


def refuse_more(line_number: int, excerpt: bytes) -> NoReturn:
    """Raise BadPage: a line follows the end."""
    raise BadPage(line_number, "something stands behind `# EOF`", excerpt)


def refuse_nonsense(samples: Iterable[Sample], metadata: Mapping[str, Metadata], line_number: int) -> None:
    """Raise BadPage where not one of the samples can be right. Stops at the first that can."""
    fault = first_fault(samples, metadata)
    if fault:
        raise BadPage(line_number, f"no sample of the page can be right: {fault}", EOF)


def fold_created(page: Page) -> None:
    """Enter into ``created`` what the ``_created`` lines of known families say, and into ``folded`` where they stand."""
    starts: dict[tuple[str, tuple[str, ...]], int] = {}
    for index, sample in enumerate(page.samples):
        name = _dates(sample.name, page.metadata)
        if name:
            page.folded.add(index)
            starts[name, sample.labels] = round(sample.value * 1e6) * 1000 if 0 < sample.value < 9e9 else 0
    if not starts:
        return
    for index, sample in enumerate(page.samples):
        family = None if index in page.folded else family_of(sample.name, page.metadata)
        if family is not None:
            labels = without(sample.labels, _OWN_LABEL.get(family[1].kind, ""))
            if start := starts.get((family[0], labels), 0):
                page.created[index] = start


def _read_line(page: Page, line: bytes, rules: Rules | None) -> None:
    if line.startswith(b"#"):
        comment = parse_comment(line)
        if rules is not None:
            rules.comment(comment, line)
        apply_comment(page.metadata, comment, line)
        return
    parsed = parse_line(line, strict=rules is not None)
    if rules is not None:
        rules.sample(parsed.sample, parsed.exemplar is not None, line)
    _enter(page, parsed)


def _enter(page: Page, parsed: Line) -> None:
    if parsed.exemplar is not None:
        page.exemplars[len(page.samples)] = (parsed.exemplar,)
    page.samples.append(parsed.sample)


def _finish(page: Page, rules: Rules | None, last_line: int, on_bad_line: OnBadLine) -> None:
    if rules is not None:
        try:
            rules.end()
        except BadLine as bad:
            if on_bad_line == "refuse":
                raise BadPage(last_line, bad.reason, EOF) from None
            page.skip(last_line, bad.reason)
    elif on_bad_line == "refuse":
        refuse_nonsense(page.samples, page.metadata, last_line)
    fold_created(page)


def _dates(name: str, metadata: Mapping[str, Metadata]) -> str:
    """Return the family whose streams a sample of this name dates, empty where it dates none."""
    if not name.endswith(_CREATED):
        return ""
    family = name.removesuffix(_CREATED)
    for candidate in (family, family + "_total"):  # some name the counter's family by its sample
        found = metadata.get(candidate)
        if found is not None and found.kind in _DATED and name not in metadata:
            return candidate
    return ""
