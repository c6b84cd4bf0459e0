"""The text and the JSON of a Prometheus."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.demo.answers import federate_number, federate_text, json_number, json_time, matrix_json, vector_json
from agent.demo.storage import Storage
from agent.selectors import parse_selector


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (5.0, "5"), (999999.0, "999999"), (1e6, "1e+06"), (346544041.0, "3.46544041e+08"), (1500000.0, "1.5e+06"),
     (1795361510.2033246, "1.7953615102033246e+09"), (0.0001, "0.0001"), (0.00001, "1e-05"), (-2.5, "-2.5"),
     (1e21, "1e+21"), (1e100, "1e+100"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN")],
)  # fmt: skip
def test_numbers_of_the_text(value: float, text: str) -> None:
    assert federate_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1e6, "1000000"), (1795361510.2033246, "1795361510.2033246"), (1e-05, "0.00001"), (1e-07, "1e-07"),
     (1e20, "100000000000000000000"), (1e21, "1e+21"), (0.25, "0.25"), (math.inf, "+Inf"), (math.nan, "NaN")],
)  # fmt: skip
def test_numbers_of_the_json(value: float, text: str) -> None:
    assert json_number(value) == text


@given(st.floats(allow_nan=False))
def test_numbers_come_back(value: float) -> None:
    assert float(federate_number(value)) == value
    assert float(json_number(value)) == value


@pytest.mark.parametrize(("ms", "text"), [(1795362127542, "1795362127.542"), (5000, "5"), (5020, "5.020")])
def test_times_of_the_json(ms: int, text: str) -> None:
    assert json_time(ms) == text


def test_federate_declares_each_name_once_untyped_with_times(storage: Storage, origin: float) -> None:
    selection = storage.select((parse_selector('{job="linkerd-proxy"}'),))
    now_ms = round(origin * 1000)
    for at in (now_ms, now_ms + 10_000, now_ms + 1_500_000):  # same series, then others
        lines = federate_text(storage, selection, at).decode().splitlines()
        declared = [line.split()[2] for line in lines if line.startswith("#")]
        assert declared == sorted(set(declared))
        assert all(line.split()[3] == "untyped" for line in lines if line.startswith("#"))
        current = ""
        for line in lines:
            if line.startswith("#"):
                current = line.split()[2]
            else:
                assert line.startswith((current + "{", current + " "))
                assert at - 10_000 < int(line.rpartition(" ")[2]) <= at


def test_a_name_whose_first_series_is_gone_is_still_declared(storage: Storage, origin: float) -> None:
    selection = storage.select((parse_selector("request_total"),))
    bodies = [federate_text(storage, selection, round(origin * 1000) + 60_000 * minute) for minute in range(40)]
    assert len({body.count(b"\n") for body in bodies}) > 1
    assert all(body.startswith(b"# TYPE request_total untyped\nrequest_total{") for body in bodies)
    assert all(body.count(b"# TYPE") == 1 for body in bodies)


def test_vectors_and_matrices_are_json_with_the_same_numbers(storage: Storage, origin: float) -> None:
    selection = storage.select((parse_selector('up{namespace="shop"}'),))
    now_ms = round(origin * 1000)
    vector = json.loads(vector_json(selection, storage.samples(selection, storage.last_scrapes(now_ms)), now_ms))
    matrix = json.loads(matrix_json(selection, storage.samples(selection, storage.scrapes(now_ms - 29_999, now_ms))))
    assert vector["resultType"] == "vector"
    assert {len(series["values"]) for series in matrix["result"]} == {3}
    last = {series["metric"]["instance"]: series["values"][-1][1] for series in matrix["result"]}
    assert {item["metric"]["instance"]: item["value"][1] for item in vector["result"]} == last
    assert {item["value"][0] for item in vector["result"]} == {now_ms / 1000}
