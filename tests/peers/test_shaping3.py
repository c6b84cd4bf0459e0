"""Random relabel rules and selectors: what a Prometheus 3 makes of a page is what the processors make of it.

Its `metric_relabel_configs` and its queries are the judges. Each sample has a value of its own, by which it is found again.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from pydantic import ValidationError

from ebbtide import Batch, Family, Series, SeriesTable
from processors.filter import Filter, FilterSettings
from processors.relabel import Relabel, RelabelSettings
from tests.real.processes import fetch
from tests.real.prometheus import Prometheus
from tests.real.servers import HttpServer, Reply
from tests.real.waiting import until

pytestmark = pytest.mark.timeout(240)

CASES, SELECTORS, ROWS = 150, 400, 10
UTF8 = {"Content-Type": "text/plain; version=1.0.0; escaping=allow-utf-8"}
METRICS = ("m", "m_total", "x_bucket", "x_count", "b", "http.requests", "by", "inf")
NAMES = ("a", "b", "c", "x_a", "x_b", "le", "quantile", "__tmp", "utf-8.ü", "A B", "on")
VALUES = (
    "foo",
    "bar",
    "Foo-Bar",
    "1",
    "10.0.0.1:4191",
    "a;b",
    "$1",
    "x\ny",
    "İß",
    "ǅ",
    "ﬁx",
    "a\\b",
    'q"q',
    "`",
    "ſK",
    "😀z",
)
PATTERNS = (
    "(.*)", "(.+)", "f(.*)", "(?i)foo.*", r"([^.]+)\.([^.]+)\..*", "(?P<n>[a-z]+)(.*)", r"(?<second>\w+).*", "a|b", "(a|b)?(.*)",
    "", r"(\pL+).*", "x.y", "[^a]*", "(a*)(a*)(.*)", "foo$|^bar", "(?U)(.+)(.*)", "[[:upper:]].*", r"\bfoo\b", "(?i)k.*|(?i)ſ.*",
)  # fmt: skip
TEMPLATES = (
    "$1",
    "${1}",
    "$2$1",
    "it",
    "",
    "x_$1",
    "${1}_x",
    "$1x",
    "$$",
    "${n}",
    "$n",
    "${second}!",
    "$",
    "${1",
    "$0",
    "$10",
)
TARGETS = ("a", "b", "new", "$1", "x_${1}", "utf.é", "${1}_$2", "le", "__tmp", "__name__", "${3}")

Labels = dict[str, str]
Rules = list[dict[str, Any]]


def rule(rnd: random.Random) -> dict[str, Any]:
    action = rnd.choice(
        ("replace",) * 5 + ("keep", "drop", "hashmod", "labelmap", "labeldrop", "lowercase", "uppercase", "dropequal")
    )
    if action == "labeldrop":
        return {
            "action": action,
            "regex": rnd.choice(("a|b", "x_.*", "[^_i]", ".*[ ü].*", "|".join(NAMES), "|".join(NAMES[:9]))),
        }
    if action == "labelmap":
        regex = rnd.choice(("x_(.+)", "(?P<n>[abc])", "(x)_(a)", "(le|on)"))
        return {"action": action, "regex": regex, "replacement": rnd.choice(("${0}_$1", "é$0-$2", "$0$n"))}
    found: dict[str, Any] = {"action": action, "source_labels": rnd.sample((*NAMES, "__name__"), rnd.randint(0, 3))}
    if action not in ("keep", "drop"):
        found["target_label"] = rnd.choice(TARGETS if action == "replace" else ("a", "new", "utf.é", "${1}"))
    if action in ("replace", "keep", "drop"):
        found |= {"regex": rnd.choice(PATTERNS), "separator": rnd.choice((";", "", "--"))}
    if action == "replace":
        found["replacement"] = rnd.choice(TEMPLATES)
    if action == "hashmod":
        found["modulus"] = rnd.choice((1, 2, 1000, 2**63, 2**64 - 1))
    return found


class Page:
    """Random samples; the first has the value ``first``, the next one more."""

    def __init__(self, rnd: random.Random, rows: int, first: int):
        self.first = first
        self.samples: list[tuple[str, Labels]] = []
        for _ in range(rows):
            sample = rnd.choice(METRICS), {name: rnd.choice(VALUES) for name in rnd.sample(NAMES, rnd.randint(0, 4))}
            if sample not in self.samples:
                self.samples.append(sample)

    def text(self) -> str:
        lines = []
        for value, (name, labels) in enumerate(self.samples, self.first):
            pairs = "".join(f",{quoted(label)}={quoted(text)}" for label, text in labels.items())
            lines.append(f"{{{quoted(name)}{pairs}}} {value}\n")
        return "".join(lines)

    def batch(self, target: Labels) -> Batch:
        table = SeriesTable(Series.of(name, labels | target, Family("f")) for name, labels in self.samples)
        return Batch(table, self.first + np.arange(float(len(table))), np.zeros(len(table), np.int64))


def quoted(text: str) -> str:
    return '"{}"'.format(text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"'))


def shown(batch: Batch | None) -> dict[float, Labels]:
    return (
        {} if batch is None else {row.value: {"__name__": row.series.name} | row.series.labels for row in batch.rows()}
    )


class Judge:
    """A Prometheus that scrapes a page each for every case, relabelled by the rules of the case."""

    def __init__(self, program: Path, folder: Path, cases: dict[str, tuple[Page, Rules]]):
        self.pages = {f"/{name}": page.text().encode() for name, (page, _) in cases.items()}
        self.server = HttpServer(lambda request: Reply(200, self.pages[request.path], UTF8))
        self.instance = self.server.url.removeprefix("http://")
        jobs = [
            {"job_name": name, "metrics_path": f"/{name}", "static_configs": [{"targets": [self.instance]}],
             "metric_relabel_configs": rules}
            for name, (_, rules) in cases.items()
        ]  # fmt: skip
        config = {"global": {"scrape_interval": "3s", "scrape_timeout": "3s"}, "scrape_configs": jobs}
        self.prometheus = Prometheus(program, folder, config)

    def __enter__(self) -> Judge:
        self.prometheus.start()
        until(self._has_read_all, "every page was read")
        return self

    def _has_read_all(self) -> bool:
        targets = self.targets()
        return len(targets) == len(self.pages) and all(target["health"] != "unknown" for target in targets)

    def __exit__(self, *_: object) -> None:
        self.prometheus.stop()
        self.server.close()

    def targets(self) -> list[dict[str, Any]]:
        status, body = fetch(self.prometheus.url + "/api/v1/targets?state=active")
        assert status == 200
        found: list[dict[str, Any]] = json.loads(body)["data"]["activeTargets"]
        return found

    def samples(self, expression: str) -> dict[float, Labels] | None:
        """The samples that a query selects, by their values, but those of the scrape itself; None where it is refused."""
        status, body = fetch(f"{self.prometheus.url}/api/v1/query?query={quote(expression)}")
        answer = json.loads(body)
        if status != 200 or answer["data"]["resultType"] != "vector":
            return None
        own = ("up", "scrape_")
        rows = [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]
        return {value: labels for labels, value in rows if not labels["__name__"].startswith(own)}


@pytest.fixture
def rnd() -> random.Random:
    return random.Random(20)


def test_random_rules(prometheus3_program: Path, tmp_path: Path, rnd: random.Random) -> None:
    cases = {
        f"case{n}": (Page(rnd, ROWS, 1 + n * ROWS), [rule(rnd) for _ in range(rnd.randint(1, 4))]) for n in range(CASES)
    }
    collisions = compared = 0
    with Judge(prometheus3_program, tmp_path, cases) as judge:
        up = {target["scrapePool"] for target in judge.targets() if target["health"] == "up"}
        for name in up:
            page, rules = cases[name]
            processor = Relabel(RelabelSettings.model_validate({"rules": rules}))
            found = shown(processor.process(page.batch({"job": name, "instance": judge.instance})))
            assert found == judge.samples(f'{{job="{name}"}}'), rules
            collisions += processor.counts.dropped["collision"]
            compared += len(page.samples)
    assert len(up) > CASES / 2  # the other pages were refused, for a sample without a name
    assert collisions > 10
    assert compared > ROWS * CASES / 2


def selector(rnd: random.Random) -> str:
    """Return a selector, or what only looks like one."""
    matchers = []
    for _ in range(rnd.randint(0, 3)):
        operator, name = rnd.choice(("=", "!=", "=~", "!~")), rnd.choice((*NAMES, "job", "__name__"))
        value = rnd.choice(PATTERNS).replace("\\", "\\\\") if "~" in operator else rnd.choice((*VALUES, ""))
        text = f'"{value}"' if "~" in operator else quoted(value)
        matchers.append(f"{name if rnd.random() < 0.5 else quoted(name)} {operator}{text}")
    metric = rnd.choice((*METRICS, "", "", ""))
    if metric and rnd.random() < 0.5:
        matchers, metric = [*matchers, quoted(metric)], ""
    text = f"{metric}{{{','.join(matchers)}}}"
    if rnd.random() < 0.1:
        at = rnd.randrange(len(text))
        text = text[:at] + rnd.choice("{}(),=!~\"'` \\#[]@x0") + text[at + 1 :]
    return text


def test_random_selectors(prometheus3_program: Path, tmp_path: Path, rnd: random.Random) -> None:
    page = Page(rnd, 300, 1)
    selected = refused = 0
    with Judge(prometheus3_program, tmp_path, {"case": (page, [])}) as judge:
        batch = page.batch({"job": "case", "instance": judge.instance})
        everything = judge.samples('{job="case"}')
        assert everything == shown(batch)
        for text in [selector(rnd) for _ in range(SELECTORS)]:
            expected = judge.samples(text)
            if expected is None:
                refused += 1
                with pytest.raises(ValidationError):
                    FilterSettings(keep=[text])
                continue
            selected += len(expected) > 0
            assert shown(Filter(FilterSettings(keep=[text])).process(batch)) == expected, text
            left = {value: labels for value, labels in everything.items() if value not in expected}
            assert shown(Filter(FilterSettings(drop=[text])).process(batch)) == left, text
    assert min(selected, refused) > SELECTORS / 20
