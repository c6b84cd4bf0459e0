import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import Family, Series, part_of
from receivers.exposition import family_of, parse_page
from receivers.types import MAX_HELP, TypeBook, strip_type_labels, ucum

Flat = tuple[str, ...]


def flat(**labels: str) -> Flat:
    return tuple(text for pair in sorted(labels.items()) for text in pair)


def decide(book: TypeBook, name: str, **labels: str) -> Family:
    return book.decide([(name, flat(**labels))])[0]


def said(family: Family) -> str:
    unit = f" [{family.unit}]" if family.unit else ""
    return f"{family.kind} {family.name}{unit} by {family.typed_by}"


def about(kind: str, help: str = "", unit: str = "") -> list[dict[str, str]]:
    return [{"type": kind, "help": help, "unit": unit}]


METADATA = {
    "things": about("counter", "Things.", ""),
    "age_seconds": about("histogram", "Ages.", "seconds"),
    "delay": about("summary"),
    "build": about("info"),
    "state": about("stateset"),
    "spread": about("gaugehistogram"),
    "level_total": about("gauge", "A gauge with a counter's name."),
    "dark": about("unknown", "Dark matter.", "grams"),
    "tcp_open_connections": about("gauge", "The server's own words."),
}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("things_total", {}, "counter things by metadata"),
        ("things", {}, "counter things by metadata"),
        ("age_seconds_bucket", {"le": "1.0"}, "histogram age_seconds [s] by metadata"),
        ("age_seconds_bucket", {"le": "+Inf"}, "histogram age_seconds [s] by metadata"),
        ("age_seconds_bucket", {}, "unknown age_seconds_bucket by none"),
        ("age_seconds_bucket", {"le": "wide"}, "unknown age_seconds_bucket by none"),
        ("age_seconds_bucket", {"le": "nan"}, "unknown age_seconds_bucket by none"),
        ("age_seconds_sum", {}, "histogram age_seconds [s] by metadata"),
        ("age_seconds_count", {}, "histogram age_seconds [s] by metadata"),
        ("age_seconds", {}, "unknown age_seconds [s] by none"),
        ("age_seconds_total", {}, "counter age_seconds_total by suffix"),
        ("delay", {"quantile": "0.5"}, "summary delay by metadata"),
        ("delay", {}, "unknown delay by none"),
        ("delay_sum", {}, "summary delay by metadata"),
        ("delay_count", {}, "summary delay by metadata"),
        ("build_info", {}, "info build by metadata"),
        ("state", {"state": "on"}, "stateset state by metadata"),
        ("spread_bucket", {"le": "2"}, "gaugehistogram spread by metadata"),
        ("spread_gsum", {}, "gaugehistogram spread by metadata"),
        ("level_total", {}, "gauge level_total by metadata"),
        ("dark", {}, "unknown dark [g] by none"),
        ("stack_poll_total_ms", {}, "counter stack_poll_total_ms by linkerd"),
        ("inbound_http_statuses_total", {}, "counter inbound_http_statuses by linkerd"),
        ("process_cpu_seconds_total", {}, "counter process_cpu_seconds [s] by linkerd"),
        ("response_latency_ms_bucket", {"le": "1"}, "histogram response_latency_ms by linkerd"),
        ("response_latency_ms", {}, "unknown response_latency_ms by none"),
        ("go_gc_duration_seconds", {"quantile": "0"}, "summary go_gc_duration_seconds by linkerd"),
        ("mine_bucket", {"le": "1e3"}, "histogram mine by suffix"),
        ("mine_bucket", {}, "unknown mine_bucket by none"),
        ("mine_count", {}, "unknown mine_count by none"),
        ("mine", {"quantile": "0.9"}, "summary mine by suffix"),
        ("mine", {"quantile": "most"}, "unknown mine by none"),
        ("mine_total", {}, "counter mine_total by suffix"),
        ("mine_info", {}, "info mine_info by suffix"),
        ("mine", {}, "unknown mine by none"),
        ("_total", {}, "unknown _total by none"),
        ("job:mine_total", {}, "unknown job:mine_total by none"),
        ("job:mine:quantile", {"quantile": "0.9"}, "unknown job:mine:quantile by none"),
        ("mine", {"__type__": "counter"}, "counter mine by label"),
        ("mine_total", {"__type__": "gauge", "__unit__": "bytes"}, "gauge mine_total [By] by label"),
        ("mine_bucket", {"le": "1", "__type__": "histogram", "__unit__": "seconds"}, "histogram mine [s] by label"),
        ("mine_sum", {"__type__": "summary"}, "summary mine by label"),
        ("mine", {"__type__": "summary", "quantile": "1"}, "summary mine by label"),
        ("mine", {"__type__": "histogram"}, "unknown mine by none"),
        ("mine_total", {"__type__": "wonder"}, "counter mine_total by suffix"),
        ("mine_total", {"__type__": "unknown"}, "counter mine_total by suffix"),
        ("things_total", {"__type__": "gauge"}, "gauge things_total by label"),
        ("age_seconds_sum", {"__unit__": "days"}, "histogram age_seconds [d] by metadata"),
    ],
)
def test_the_first_source_that_knows_decides(name: str, labels: dict[str, str], expected: str) -> None:
    book = TypeBook()
    assert book.learn(METADATA) == frozenset()
    assert said(decide(book, name, **labels)) == expected


@pytest.mark.parametrize(
    ("types", "name", "labels", "expected"),
    [
        ({"things": "gauge"}, "things", {}, "gauge things by operator"),
        ({"things": "counter"}, "things_total", {}, "counter things by operator"),
        ({"things": "gauge"}, "things_total", {}, "counter things by metadata"),
        ({"things_total": "gauge"}, "things_total", {}, "gauge things_total by operator"),
        ({"things_total": "unknown"}, "things_total", {}, "unknown things_total by operator"),
        ({"things_total": "gauge"}, "things_total", {"__type__": "counter"}, "gauge things_total by operator"),
        ({"x": "histogram"}, "x_bucket", {"le": "1"}, "histogram x by operator"),
        ({"x": "histogram"}, "x_sum", {}, "histogram x by operator"),
        ({"x": "histogram"}, "x", {}, "unknown x by none"),
        ({"x": "histogram", "x_count": "counter"}, "x_count", {}, "counter x_count by operator"),
        ({"x_bucket": "histogram"}, "x_sum", {}, "histogram x by operator"),
        ({"age_seconds": "histogram"}, "age_seconds_sum", {}, "histogram age_seconds [s] by operator"),
    ],
)
def test_the_operators_word_is_the_first(types: Any, name: str, labels: dict[str, str], expected: str) -> None:
    book = TypeBook(types)
    book.learn(METADATA)
    assert said(decide(book, name, **labels)) == expected


def test_help_comes_from_metadata_then_from_the_table() -> None:
    book = TypeBook()
    book.learn(METADATA)
    assert decide(book, "things_total").help == "Things."
    assert decide(book, "tcp_open_connections").help == "The server's own words."
    assert decide(book, "request_total").help == "Total count of HTTP requests."
    assert decide(book, "dark").help == "Dark matter."


# -- disagreement -------------------------------------------------------------------------------------------------------


def target(job: str, kind: str, metric: str | None = "x", **more: str) -> dict[str, Any]:
    return {"target": {"job": job, "instance": "i"}, "type": kind, "help": "", "unit": ""} | (
        {"metric": metric} if metric else {}
    ) | more  # fmt: skip


DISPUTED = {"x": [*about("counter"), *about("gauge")]}


def test_where_entries_differ_the_job_decides() -> None:
    book = TypeBook()
    assert book.learn(DISPUTED) == {"x"}
    book.learn_targets([target("a", "counter", unit="bytes"), target("b", "gauge"), target("c", "unknown")])
    assert said(decide(book, "x", job="a")) == "counter x [By] by targets"
    assert said(decide(book, "x", job="b")) == "gauge x by targets"
    assert said(decide(book, "x", job="c")) == "unknown x by none"
    assert said(decide(book, "x")) == "unknown x by none"


def test_the_name_asked_for_stands_for_entries_without_one() -> None:
    book = TypeBook()
    book.learn(DISPUTED)
    book.learn_targets([target("a", "counter", None)])
    assert said(decide(book, "x", job="a")) == "unknown x by none"
    book.learn_targets([target("b", "counter", None)], "x")
    assert said(decide(book, "x", job="b")) == "counter x by targets"


def test_a_job_that_disagrees_with_itself_has_no_word() -> None:
    book = TypeBook()
    book.learn({"x_total": [*about("counter"), *about("gauge")]})
    book.learn_targets([target("a", "counter", "x_total"), target("a", "gauge", "x_total")])
    assert said(decide(book, "x_total", job="a")) == "counter x_total by suffix"


def test_entries_that_know_nothing_disagree_with_nobody() -> None:
    book = TypeBook()
    assert book.learn({"x": [*about("unknown"), *about("untyped"), *about("gauge", unit="bytes")]}) == frozenset()
    assert said(decide(book, "x")) == "gauge x [By] by metadata"


def test_units_that_differ_are_none() -> None:
    book = TypeBook()
    book.learn({"x": [*about("gauge", unit="bytes"), *about("gauge", unit="seconds")]})
    assert said(decide(book, "x")) == "gauge x by metadata"


# -- partners -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_partners_are_one_family_whatever_their_order(order: tuple[int, ...]) -> None:
    heads = [("h_bucket", flat(le="1", job="a")), ("h_sum", flat(job="a")), ("h_count", flat(job="a"))]
    first, *others = TypeBook().decide([heads[index] for index in order])
    assert said(first) == "histogram h by suffix"
    assert all(other is first for other in others)


def test_partners_of_an_earlier_call() -> None:
    book = TypeBook()
    whole = decide(book, "s", quantile="0.5", job="a")
    assert decide(book, "s_count", job="a") is whole
    assert said(decide(book, "s_count", job="b")) == "unknown s_count by none"


def test_parts_that_come_after_the_metadata_join_the_family_that_stands() -> None:
    book = TypeBook()
    bucket = decide(book, "age_seconds_bucket", le="1")
    book.learn(METADATA)
    assert decide(book, "age_seconds_sum") is bucket
    assert bucket.unit == ""


def test_the_same_family_for_the_same_series_again() -> None:
    book = TypeBook()
    first = decide(book, "request_total", direction="inbound")
    assert decide(book, "request_total", direction="outbound") is first


# -- revision -----------------------------------------------------------------------------------------------------------


def test_unknown_becomes_known_and_nothing_else_changes() -> None:
    book = TypeBook()
    unknown, counter = decide(book, "level"), decide(book, "level_total")
    assert book.revise() == {}
    book.learn(METADATA | {"level": about("gauge")})
    revised = book.revise()
    assert list(revised) == [unknown]
    assert said(revised[unknown]) == "gauge level by metadata"
    assert decide(book, "level") is revised[unknown]
    assert decide(book, "level_total") is counter
    assert book.revise() == {}


def test_a_count_that_came_before_its_buckets_is_revised() -> None:
    book = TypeBook()
    count = decide(book, "h_count", job="a")
    bucket = decide(book, "h_bucket", le="1", job="a")
    assert book.revise() == {count: bucket}


def test_metadata_of_an_unknown_summary_reveals_all_its_parts() -> None:
    book = TypeBook()
    parts = [decide(book, "delay_sum"), decide(book, "delay_count")]
    book.learn(METADATA)
    revised = book.revise()
    assert set(revised) == set(parts)
    assert len(set(revised.values())) == 1


def test_a_known_type_outlives_other_metadata() -> None:
    book = TypeBook()
    book.learn({"x": about("counter")})
    counter = decide(book, "x", a="1")
    book.learn({"x": about("gauge")})
    assert book.revise() == {}
    assert decide(book, "x", a="2") is counter


def test_the_operators_unknown_stays() -> None:
    book = TypeBook({"things_total": "unknown"})
    decide(book, "things_total")
    book.learn(METADATA)
    assert book.revise() == {}


# -- hostile answers ----------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["x", "counter", "gauge", "job", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "type", "help", "unit", "target", "metric", "job"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_answers_of_any_shape_are_survived(metadata: Any, entries: Any) -> None:
    book = TypeBook()
    book.learn(metadata)
    book.learn_targets(entries)
    assert decide(book, "x", job="x").kind in ("counter", "gauge", "unknown")


def test_help_and_unit_are_bounded() -> None:
    book = TypeBook()
    book.learn({"x": about("gauge", "h" * 10**6, "u" * 10**6)})
    family = decide(book, "x")
    assert len(family.help) == MAX_HELP
    assert len(family.unit) < 100


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["x", "x_bucket", "x_sum", "x_count", "x_total", "x_info", "y_sum", "x_gsum"]),
            st.dictionaries(
                st.sampled_from(["le", "quantile", "job", "__type__", "__unit__"]),
                st.sampled_from(["1", "a", "histogram", "summary", "counter", "unknown"]),
            ),
        ),
        max_size=12,
    ),
    st.sampled_from(["counter", "gauge", "histogram", "summary", "info", "gaugehistogram", "stateset", "unknown"]),
)
def test_a_compound_holds_only_what_can_be_its_part(series: list[tuple[str, dict[str, str]]], kind: str) -> None:
    book = TypeBook()
    book.learn({"x": about(kind)})
    heads = [(name, flat(**labels)) for name, labels in series]
    for (name, labels), family in zip(heads, book.decide(heads), strict=True):
        if family.kind in ("histogram", "summary"):
            part = part_of(Series.flat_of(name, strip_type_labels(labels), family))
            assert part is not None
            assert part.name == family.name


# -- labels and units ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "left"),
    [
        ((), ()),
        (("a", "1"), ("a", "1")),
        (("__type__", "gauge", "__unit__", "s", "a", "1"), ("a", "1")),
        (("Zone", "z", "__unit__", "s", "a", "__type__"), ("Zone", "z", "a", "__type__")),
        (("Zone", "__unit__"), ("Zone", "__unit__")),
    ],
)
def test_type_labels_are_stripped(labels: Flat, left: Flat) -> None:
    assert strip_type_labels(labels) == left


@pytest.mark.parametrize(
    ("word", "unit"), [("seconds", "s"), ("bytes", "By"), ("percent", "%"), ("ratio", "ratio"), ("", "")]
)
def test_units_are_translated(word: str, unit: str) -> None:
    assert ucum(word) == unit


# -- the operator changes his mind ---------------------------------------------------------------------------------------


def test_another_word_of_the_operator_decides_again_what_it_touches() -> None:
    book = TypeBook({"a": "counter"})
    heads = [("a", ()), ("b", ()), ("c_total", ())]
    before = book.decide(heads)
    assert [family.kind for family in before] == ["counter", "unknown", "counter"]
    book.obey({"b": "gauge"})
    revised = book.revise()
    assert {old.name: new.kind for old, new in revised.items()} == {"a": "unknown", "b": "gauge"}
    assert [family.kind for family in book.decide(heads)] == ["unknown", "gauge", "counter"]
    assert book.revise() == {}


def test_the_same_word_again_decides_nothing_anew() -> None:
    book = TypeBook({"a": "counter"})
    (family,) = book.decide([("a", ())])
    book.obey({"a": "counter"})
    assert book.revise() == {}
    assert book.decide([("a", ())]) == [family]


def test_what_the_server_told_outlives_a_new_word() -> None:
    book = TypeBook()
    book.learn({"a": [{"type": "summary", "unit": "", "help": "h"}]})
    book.decide([("a_count", ())])
    book.obey({"b": "gauge"})
    assert book.revise() == {}
    assert [family.kind for family in book.decide([("a_count", ()), ("a_sum", ())])] == ["summary", "summary"]


def test_an_unknown_one_can_still_become_known_after_a_new_word() -> None:
    book = TypeBook()
    book.decide([("a", ()), ("b", ())])
    book.obey({"b": "gauge"})
    assert {old.name for old in book.revise()} == {"b"}
    book.learn({"a": [{"type": "gauge", "unit": "", "help": ""}]})
    assert {old.name: new.kind for old, new in book.revise().items()} == {"a": "gauge"}


# -- the recorded proxies through a real Prometheus ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(vectors: Path) -> dict[str, bytes]:
    wanted = ("federate.txt", "metadata.json", "targets_metadata.json", "page_A.prom")
    with tarfile.open(vectors / "linkerd_proxy_recorded" / "via_prometheus.tar.xz") as tar:
        found = {Path(member.name).name: tar.extractfile(member) for member in tar if member.name.endswith(wanted)}
        return {name: file.read() for name, file in found.items() if file is not None}


@pytest.mark.parametrize("source", ["metadata", "targets", "linkerd"])
def test_federated_series_get_the_types_of_their_own_page(recorded: dict[str, bytes], source: str) -> None:
    book = TypeBook()
    if source == "metadata":
        assert book.learn(json.loads(recorded["metadata.json"])["data"]) == frozenset()
    if source == "targets":
        book.learn_targets(json.loads(recorded["targets_metadata.json"])["data"])
    page = parse_page(recorded["page_A.prom"]).metadata
    samples = parse_page(recorded["federate.txt"]).samples
    compared = 0
    for sample, family in zip(samples, book.decide([(s.name, s.labels) for s in samples]), strict=True):
        own = family_of(sample.name, page)
        if own is not None:
            name, declared = own
            compared += 1
            assert (family.name, family.kind, family.unit, family.help, family.typed_by) == (
                name, declared.kind, ucum(declared.unit), declared.help, source,
            )  # fmt: skip
    assert compared > 3500
