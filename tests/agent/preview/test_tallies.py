from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest

from agent.batch import Batch, Row
from agent.folded import FoldedLog
from agent.identity import Family, Resource
from agent.plugin import Exporter, Payload
from agent.preview.tallies import Cardinality, Outgoing, Resources, Types, selector
from agent.selectors import parse_selector
from agent.series import Series
from agent.settings import OutboxSettings


def batch(*series: Series) -> Batch:
    return Batch.of(Row(one, 1.0, 0, 0, False) for one in series)


def test_types_by_rule() -> None:
    types = Types()
    counter, guessed = Family("a", "counter", typed_by="metadata"), Family("b", "histogram", typed_by="suffix")
    types.note(batch(Series.of("a", {"x": "1"}, counter), Series.of("a", {"x": "2"}, counter)))
    types.note(
        batch(
            *(Series.of(f"b_{part}", family=guessed) for part in ("sum", "count")),
            Series.of("z", family=Family("z", typed_by="oracle")),
        )
    )
    assert types.as_list() == [
        {"rule": "metadata", "families": 1, "series": 2, "names": ["a"]},
        {"rule": "suffix", "families": 1, "series": 2, "names": ["b"]},
        {"rule": "oracle", "families": 1, "series": 1, "names": ["z"]},
    ]  # fmt: skip


def test_families_of_one_name_in_two_jobs_are_one() -> None:
    types = Types()
    types.note(
        batch(
            *(
                Series.of("a", {"job": job}, Family("a", "counter", unit, typed_by="metadata"))
                for job, unit in (("x", ""), ("y", "s"))
            )
        )
    )
    assert types.as_list()[0]["families"] == 1


def test_cardinality() -> None:
    cardinality = Cardinality()
    histogram = Family("h", "histogram")
    parts = [Series.of("h_bucket", {"le": str(n), "pod": "p"}, histogram) for n in range(3)]
    parts += [Series.of(f"h_{part}", {"pod": "p"}, histogram) for part in ("sum", "count")]
    cardinality.note(
        [*parts, Series.of("a", {"pod": "q", "zone": "z"}, Family("a", "counter")), Series.of("b"), Series.of("c")]
    )
    assert cardinality.metrics() == [
        {"name": "h", "type": "histogram", "series": 5, "share": 0.625, "names": ["h_bucket", "h_count", "h_sum"],
         "selector": '{__name__=~"h_(bucket|count|sum)"}'},
        {"name": "a", "type": "counter", "series": 1, "share": 0.125, "names": ["a"], "selector": '{__name__="a"}'},
        {"name": "b", "type": "unknown", "series": 1, "share": 0.125, "names": ["b"], "selector": '{__name__="b"}'},
        {"name": "c", "type": "unknown", "series": 1, "share": 0.125, "names": ["c"], "selector": '{__name__="c"}'},
    ]  # fmt: skip
    assert cardinality.labels() == [
        {"name": "le", "values": 3, "series": 3}, {"name": "pod", "values": 2, "series": 6},
        {"name": "zone", "values": 1, "series": 1},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [["a"], ["x", "x_count", "x_sum"], ["h_bucket", "h_count", "h_sum"], ["abc", "abd"], ["a.b", 'a"b', "a\\b"], ["a\nb"],
     ["job:a:rate", "job:b:rate"], ["bücket", "b"], ["a_b_c", "a_b_d", "a_b"], ["(", ")"]],
)  # fmt: skip
def test_a_selector_takes_these_names_and_no_others(names: list[str]) -> None:
    matchers = parse_selector(selector(names)).matchers
    others = ["", "h_", "x_", "axb", "xa", "a_b_", "abcd", "job:a:rate2", "h_buckets"]
    taken = [name for name in [*names, *others] if all(matcher(name) for matcher in matchers)]
    assert taken == names


def test_resources() -> None:
    resources = Resources()
    web, db = Resource.of({"service.name": "web"}), Resource.of({"service.name": "db", "server.port": 80})
    resources.note([Series.of("a", {"n": str(n)}, resource=db if n else web) for n in range(3)])
    assert resources.as_list() == [
        {"attributes": {"server.port": 80, "service.name": "db"}, "samples": 2},
        {"attributes": {"service.name": "web"}, "samples": 1},
    ]


class Half(Exporter[Any]):
    """Ten bytes a row; compresses to half; cannot encode "bad", and breaks on "bug"."""

    def encode(self, batch: Batch) -> Iterable[Payload]:
        for series in batch.table:
            if series.name == "bug":
                raise ZeroDivisionError
            if series.name == "bad":
                self.counts.dropped["incomplete"] += 1
            else:
                yield Payload(b"", b"0123456789", 1, 1)

    def seal(self, body: bytes) -> bytes:
        return body[: len(body) // 2]

    async def send(self, payload: Payload) -> None:
        raise AssertionError("nothing is sent")


async def test_outgoing_joins_cuts_and_seals_as_the_outbox_does() -> None:
    settings = OutboxSettings.model_validate({"batch": {"max_bytes": "25B"}})
    outgoing = Outgoing(Half(), settings, FoldedLog(logging.getLogger("ebbtide.test")))
    outgoing.note(batch(*(Series.of(name) for name in ("a", "b", "bad"))))
    outgoing.note(batch(Series.of("c")))
    assert outgoing.as_dict() == {
        "in": 4, "samples": 3, "points": 3, "dropped": {"incomplete": 1}, "requests": 2, "bytes": 30, "sealed_bytes": 15,
        "largest_request": 20,
    }  # fmt: skip
    assert outgoing.bugs == 0
    outgoing.note(batch(Series.of("bug")))
    assert outgoing.bugs == 1
