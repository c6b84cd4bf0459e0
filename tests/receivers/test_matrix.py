"""The query API's answers, in any pieces, are what json.loads gives."""

from __future__ import annotations

import json
import math
import os
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receivers.matrix import LATEST_MS, MOST_ELEMENT, Answer, AnswerReader, BadAnswer, Metrics
from receivers.query_native import Written

VECTORS = Path(os.environ.get("EBBTIDE_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))

LABELS = st.dictionaries(
    st.sampled_from(["__name__", "job", "le", "ü", 'a"b', "values"]),
    st.one_of(st.text(max_size=6), st.sampled_from(['},"values":[[', '"]]}', '"result":[{', '\\', '{}', "},", ""])),
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-5, 10**17).map(str), st.floats().map(repr), st.sampled_from(["NaN", "+Inf", "-Inf", "1e+06"])
)
PAIRS = st.tuples(st.integers(0, 2 * 10**12).map(lambda ms: ms / 1000), NUMBERS).map(list)
ELEMENTS = st.lists(st.fixed_dictionaries({"metric": LABELS, "values": st.lists(PAIRS, max_size=4)}), max_size=6)


class Slots:
    """Slots by labels, as a receiver gives them."""

    def __init__(self) -> None:
        self.by_labels: dict[str, int] = {}
        self.asked = 0
        self.metrics = Metrics(self.learn)

    def learn(self, labels: dict[str, str]) -> int:
        self.asked += 1
        return self.by_labels.setdefault(json.dumps(labels, sort_keys=True), len(self.by_labels))


def written_answer(elements: list[Any], kind: str = "matrix", compact: bool = True, **more: Any) -> bytes:
    tree = {"status": "success", "data": {"resultType": kind, "result": elements}, **more}
    return json.dumps(tree, separators=(",", ":") if compact else None, ensure_ascii=False).encode()


def read(body: bytes, slots: Slots | None = None, step: int = 10**9) -> Answer:
    reader = AnswerReader((slots or Slots()).metrics)
    for at in range(0, len(body), step):
        reader.feed(body[at : at + step])
    answer = reader.finish()
    assert reader.samples == len(answer.slots) + len(answer.natives)
    return answer


def rows(answer: Answer) -> list[tuple[int, int, float]]:
    return list(zip(answer.slots.tolist(), answer.times.tolist(), answer.values.tolist(), strict=True))


def same(one: list[tuple[int, int, float]], other: list[tuple[int, int, float]]) -> bool:
    return repr(one) == repr(other)  # NaN is not equal to itself


@settings(max_examples=300, deadline=None)
@given(ELEMENTS, st.booleans(), st.integers(1, 60), st.booleans())
def test_any_answer_in_any_pieces(elements: list[Any], compact: bool, step: int, again: bool) -> None:
    slots = Slots()
    body = written_answer(elements, compact=compact, warnings=["w"], infos=["i"])
    if again:
        read(body, slots)
    expected = [
        (slots.learn(one["metric"]), round(time * 1000), float(value))
        for one in elements
        for time, value in one["values"]
    ]
    answer = read(body, slots, step)
    assert same(rows(answer), expected)
    assert (answer.status, answer.result_type, answer.notes) == ("success", "matrix", ["w", "i"])


def test_known_metrics_are_not_read_again_and_absent_ones_are_forgotten() -> None:
    slots = Slots()
    two = [{"metric": {"__name__": name, "x": "}{"}, "values": [[1, "2"]]} for name in ("a", "b")]
    read(written_answer(two), slots)
    read(written_answer(two), slots)
    assert slots.asked == 2
    read(written_answer(two[:1]), slots)
    read(written_answer(two), slots)
    assert slots.asked == 3


def test_a_failed_answer_forgets_nothing() -> None:
    slots = Slots()
    read(written_answer([{"metric": {"__name__": "a"}, "values": [[1, "2"]]}]), slots)
    read(b'{"status":"error","errorType":"execution","error":"too many samples"}', slots)
    read(written_answer([{"metric": {"__name__": "a"}, "values": [[1, "2"]]}]), slots)
    assert slots.asked == 1


def test_vectors_scalars_and_strings() -> None:
    answer = read(written_answer([{"metric": {"a": "b"}, "value": [1.5, "NaN"]}], "vector"))
    assert (answer.result_type, answer.times.tolist()) == ("vector", [1500])
    assert math.isnan(answer.values[0])
    assert read(written_answer([1435781451.781, "1"], "scalar")).scalar == (1435781451.781, "1")
    assert read(written_answer([1.0, "x"], "string")).scalar == (1.0, "x")
    assert read(written_answer([], "vector")).scalar is None


def test_native_histograms_are_handed_over_with_their_times() -> None:
    native = {"count": "3", "sum": "1.5", "buckets": [[0, "1", "2", "3"]]}
    written = Written(3, 1.5, array("d", [0, 1, 2]).tobytes(), array("d", [3]))
    elements = [
        {"metric": {"a": "1"}, "histograms": [[1, native], [2.5, native]]},
        {"metric": {"a": "2"}, "values": [[1, "5"]], "histograms": [[2, native]]},
        {"metric": {"a": "3"}, "values": [[1, "6"]]},
        {"metric": {"a": "4"}, "histogram": [1, native]},
        {"metric": {"a": "5"}, "histogram": [1, {"count": "3"}]},
    ]
    for step in (3, 10**6):
        answer = read(written_answer(elements), step=step)
        found = [(0, 1000, written), (0, 2500, written), (1, 2000, written), (3, 1000, written), (4, 1000, None)]
        assert answer.natives == found
        assert rows(answer) == [(1, 1000, 5.0), (2, 1000, 6.0)]
        assert answer.weight == 2 + 4 * 2 + 1  # a bucket weighs as much as a sample


def test_what_has_no_samples_is_not_remembered() -> None:
    slots = Slots()
    assert len(read(written_answer([{"metric": {"a": "1"}, "values": []}, {"metric": {"a": "2"}}]), slots).slots) == 0
    assert slots.by_labels == {}
    assert read(b'{"status":"success","data":{"resultType":"matrix","result":null}}').result_type == "matrix"


def test_times_are_brought_to_what_can_be_said_in_ns() -> None:
    native = {"count": "0", "sum": "0"}
    values, natives = ([[time, what] for time in (-5, 1e30, 9e15)] for what in ("1", native))
    answer = read(
        written_answer([{"metric": {"a": "1"}, "values": values[2:]}, {"metric": {"a": "2"}, "histograms": natives}])
    )
    assert answer.times.tolist() == [LATEST_MS]
    assert [time for _, time, _ in answer.natives] == [0, LATEST_MS, LATEST_MS]
    assert LATEST_MS * 10**6 < 2**63


def test_more_different_times_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receivers.matrix.MOST_TIMES", 3)
    elements = [{"metric": {"a": "1"}, "values": [[at, str(at)] for at in range(50)]}]
    assert read(written_answer(elements)).times.tolist() == [1000 * at for at in range(50)]


def test_errors_and_notes_of_the_server() -> None:
    answer = read(b'{"status":"error","errorType":"bad_data","error":"parse error"}')
    assert (answer.status, answer.error_type, answer.error) == ("error", "bad_data", "parse error")
    assert (
        read(b'{"status":"success","warnings":NaN,"infos":"x","data":{"resultType":"vector","result":[]}}').notes == []
    )
    assert read(b'{"status":"success","isPartial":true,"data":{"resultType":"matrix","result":[]}}').notes == [
        "the answer is partial"
    ]


GOOD = written_answer([{"metric": {"__name__": "a", "b": "c"}, "values": [[1, "2"], [3, "4"]]}] * 3)


@pytest.mark.parametrize("end", range(len(GOOD)))
def test_an_answer_that_is_cut_short_is_refused(end: int) -> None:
    with pytest.raises(BadAnswer, match="cut short"):
        read(GOOD[:end])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "cut short, or not JSON"),
        (b"<html>", "not JSON"),
        (b"[1]", "it is no object"),
        (b"\xff", "not UTF-8"),
        (b'{"a":"' + b"[" * 10**6 + b'"', "not JSON"),
        (b'{"data":' + b"[" * 10**6, "not JSON"),
        (GOOD + b"{}", "not JSON"),
        (GOOD.replace(b'"2"', b'"two"'), "a sample cannot be read"),
        (GOOD.replace(b'[1,"2"]', b'["2"]'), "cannot be read|no pair"),
        (GOOD.replace(b'[1,"2"]', b'[1,"2","3","4"]'), "no pair|cannot be read"),
        (written_answer([{"metric": {"a": 1}, "values": []}]), "the labels of an element cannot be read"),
        (written_answer([{"values": []}]), "an element of its result cannot be read"),
        (written_answer([{"metric": {}, "values": [[1]]}]), "an element of its result cannot be read"),
        (written_answer([{"metric": {}, "values": [["x", "1"]]}]), "no pair of time and value"),
        (GOOD.replace(b"[1,", b"[1-1,"), "a sample cannot be read"),
        (GOOD.replace(b"[1,", b"[1e999,"), "a sample cannot be read"),
        (written_answer([{}, 5]), "an element of its result cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_answer(body: bytes, words: str) -> None:
    with pytest.raises(BadAnswer, match=words):
        read(body)


def test_one_part_is_bounded() -> None:
    reader = AnswerReader(Slots().metrics)
    piece, pieces = b"x" * (1 << 20), MOST_ELEMENT // (1 << 20)
    for _ in range(pieces):
        reader.feed(piece)
    with pytest.raises(BadAnswer, match="one part of it is larger than"):
        reader.feed(piece)


def test_prometheus_own_cases() -> None:
    file = VECTORS / "prometheus_api" / "json_codec.json"
    if not file.is_file():
        pytest.skip(f"no test vectors at {file}: set EBBTIDE_VECTORS")
    tried = 0
    for case in json.loads(file.read_text(encoding="utf-8"))["cases"]:
        if case.get("result_type") not in ("matrix", "vector"):
            continue
        slots = Slots()
        answer = read(case["json"].encode(), slots, step=7)
        expected = []
        for one in case["model"]["Result"]:
            slot = slots.learn(one["Metric"])
            floats = one.get("Floats", [one] if "F" in one else [])
            expected += [(slot, point["T"], float(str(point["F"]).replace("StaleNaN", "NaN"))) for point in floats]
        assert answer.result_type == case["result_type"]
        if not any("H" in one for one in case["model"]["Result"]):
            assert same(rows(answer), expected), case
        tried += 1
    assert tried > 3
