"""``docs/conformance.md``: what was asked, what came of it, and why some of it differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.conformance.configurations import untold
from tests.conformance.deviations import DEVIATIONS
from tests.conformance.suites import SUITES, outcome

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance.md"

ELSEWHERE = {
    "prometheus_relabel": ("tests/agent/test_relabelling.py",),
    "prometheus_k8s_sd": ("tests/receivers/test_kubernetes_pods.py",),
    "prometheus_scrape": ("tests/receivers/test_page_memory_vectors.py", "tests/receivers/test_target_set.py"),
    "prometheusreceiver": ("tests/receivers/test_page_memory_vectors.py",),
    "prometheus_api/json_codec": ("tests/receivers/test_matrix.py",),
    "otel_spec": ("tests/exporters/test_otlp_answers.py", "tests/exporters/test_otlp_json.py"),
    "otlp_proto_examples": ("tests/exporters/test_otlp_json.py",),
}
"""Vectors about other things than pages, and the tests that hold them."""

_HEAD = """\
# Pages to the letter

What other projects wrote down about pages of metrics, as inputs with expected results, and what comes of it here.
Written by `make conformance`; a test fails where this page is out of step, where a case differs that is not listed, and
where one is listed that does not differ.

| suite | whose | asks | cases | differ |
|---|---|---|---|---|
"""

_CHOICES = """
## Text

Version 0.0.4 is read as Prometheus reads it, but for this:

- OpenMetrics' words for types are taken (`unknown`, `info`, `stateset`, `gaugehistogram`), and blanks around them; `# UNIT`
  is read. The proxies' own pages have them.
- Blanks before a metric's name are no part of it, nor those before the text of HELP.
- A line ends at its line break, also within quotation marks: there the line is bad, as in prometheus/common.
- A timestamp may be negative, as in prometheus/common. A NUL is a character as any other.
- A quoted name on a TYPE or HELP line is unescaped, so that its samples find it.
- Of a series that stands twice the first line counts, also where a later one has another timestamp; in any format.

## OpenMetrics, leniently and strictly

Leniently, which is the default, a page is read as Prometheus reads it, but for this:

- A page on which not one sample can be right is refused: a lone histogram whose buckets fall, a summary without a
  quantile. Beside one good sample such rows stay.
- An exemplar whose labels have more than 128 characters makes its line bad, and so does a comma behind the last label.
- A timestamp that is NaN or infinite counts as none. Others are cut to milliseconds from their digits, not from a float.
- A blank may stand beside a comma in braces, as client_python writes it.
- A `_created` line dates its samples from any place in the page. One of a known family that dates none is left out.
- An exemplar without a time has that of its sample, as in Prometheus; of lines that stand twice, the first one's counts.

Strictly, each rule of OpenMetrics 1.0 on order, grouping, names, labels and values is asked for as well.
"""


def page(vectors: Path) -> str:
    """Return the text of the page."""
    return (
        _HEAD
        + "".join(_rows(vectors))
        + _CHOICES
        + "".join(_reasons())
        + "".join(_untold(vectors))
        + "".join(_elsewhere())
    )


def _rows(vectors: Path) -> Iterator[str]:
    for name, suite in SUITES.items():
        found = outcome(name, vectors)
        differ = str(len(found.differing)) if found.differing else ""
        yield f"| {name} | {suite.source} | {suite.asks} | {found.cases} | {differ} |\n"


def _reasons() -> Iterator[str]:
    yield "\n## What differs, and why\n"
    for name, cases in DEVIATIONS.items():
        yield f"\n**{name}**\n\n"
        by_reason: dict[str, list[str]] = {}
        for case, reason in cases.items():
            by_reason.setdefault(reason, []).append(case)
        for reason, numbers in by_reason.items():
            yield f"- {', '.join(f'`{number}`' for number in numbers)}: {reason}.\n"


def _untold(vectors: Path) -> Iterator[str]:
    yield "\n## Configurations of what is not here\n\nCases about what has no counterpart in our options:\n\n"
    by_reason: dict[str, list[str]] = {}
    for case, reason in untold(vectors):
        by_reason.setdefault(reason, []).append(case)
    for reason, cases in by_reason.items():
        yield f"- {', '.join(f'`{case}`' for case in cases)}: {reason}.\n"


def _elsewhere() -> Iterator[str]:
    yield "\n## Other vectors\n\nHeld by tests of their own:\n\n| vectors | tests |\n|---|---|\n"
    for folder, tests in ELSEWHERE.items():
        yield f"| {folder} | {', '.join(f'`{test}`' for test in tests)} |\n"
