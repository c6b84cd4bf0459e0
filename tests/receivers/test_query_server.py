"""One question to the query API: how it is asked, and what its failures mean."""

from __future__ import annotations

import json
from contextlib import aclosing, nullcontext
from email.utils import formatdate
from itertools import repeat
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from agent.scripted import Connection, Request, Step, answer, serve, then_close, then_hang, then_reset
from ebbtide import Client, ReceiveError
from receivers.matrix import Answer, Metrics
from receivers.query_server import LONGEST_QUERY, QueryServer, TooHeavy

JSON = {"Content-Type": "application/json"}
GOOD = json.dumps(
    {
        "status": "success",
        "data": {"resultType": "matrix", "result": [{"metric": {"a": "b"}, "values": [[1, "2"]] * 9}]},
    }
).encode()


async def asked(step: Step, query: str = "up[1ms]", **more: int) -> Answer:
    async with trio.open_nursery() as nursery:
        server = await serve(nursery, repeat(step))
        async with aclosing(Client()) as client:
            options = {"max_body": 10**6, "sample_limit": 100, **more}
            found = await QueryServer(client, server.url, 0.5, **options).ask(query, 1_500, Metrics(lambda _: 0))
        nursery.cancel_scope.cancel()
    return found


@pytest.mark.parametrize("length", [10, LONGEST_QUERY + 1])
async def test_a_long_question_is_a_form(length: int) -> None:
    seen: list[Request] = []

    async def step(connection: Connection, request: Request) -> None:
        seen.append(request)
        await connection.send_all(answer(200, GOOD, JSON))

    query = "x" * (length - 5) + '{é="&"}'
    found = await asked(step, query)
    assert (found.result_type, len(found.slots)) == ("matrix", 9)
    (request,) = seen
    parts = urlsplit(request.target)
    given = request.body.decode() if length > LONGEST_QUERY else parts.query
    assert parts.path == "/api/v1/query"
    assert parse_qs(given) == {"query": [query], "time": ["1.500"], "timeout": ["0.500"]}


def error(status: int, kind: str, words: str) -> Step:
    return answer(status, json.dumps({"status": "error", "errorType": kind, "error": words}).encode(), JSON)


@pytest.mark.parametrize(
    ("step", "words", "heavy"),
    [
        (
            error(400, "bad_data", "1:5: parse error"),
            "answered 400, '1:5: parse error'; correct `match` or `queries`",
            False,
        ),
        (
            error(422, "execution", "too many samples"),
            "answered 422, 'too many samples'; correct the query, ask for less",
            True,
        ),
        (error(503, "timeout", "query timed out"), "answered 503, 'query timed out'; correct the query, ask", True),
        (
            error(500, "unavailable", "TSDB not ready"),
            "answered 500, 'TSDB not ready'; look into the server's own log",
            False,
        ),
        (error(200, "execution", "odd"), "answered 200, 'odd'; correct the query", True),
        (answer(503, b"Service Unavailable\n"), "answered 503, 'Service Unavailable'; look into", False),
        (answer(403, b""), "Linkerd's policy lets nobody but its own metrics-api in", False),
        (answer(401, b"prometheus says no"), "check bearer_token", False),
        (answer(404, b"404 page not found"), "must be the base URL", False),
        (answer(504, b"upstream"), "answered 504, 'upstream'; correct the query, ask for less", True),
        (answer(418, b""), "answered 418; check `url`", False),
        (answer(200, b"<html>"), "cannot read the answer of .*: it is cut short, or not JSON", False),
        (answer(200, GOOD[:-9], JSON), "cut short", False),
        (then_hang(), "it took more than 500ms", True),
        (answer(429, b"slow down"), "answered 429, 'slow down'; ask less often", False),
        (answer(200, b"<html>" + b"please log in " * 10_000), "cut short, or not JSON", False),
        (
            answer(503, b"<html><h1>no healthy upstream"),
            "answered 503, '<html><h1>no healthy upstream'; look into",
            False,
        ),
        (then_close(answer(200, GOOD, JSON)[:-9]), "cannot", False),
        (then_reset(answer(200, GOOD, JSON)[:-9]), "cannot", False),
    ],
)
async def test_what_failures_mean(step: Step, words: str, heavy: bool) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ReceiveError, match=words)) as caught:
        await asked(step)
    assert isinstance(caught.value.exceptions[0], TooHeavy) == heavy


@pytest.mark.parametrize("limits", [{"sample_limit": 8}, {"max_body": 20}])
async def test_what_is_beyond_our_bounds_is_too_heavy(limits: dict[str, int]) -> None:
    with pytest.RaisesGroup(TooHeavy):
        await asked(answer(200, GOOD, JSON), **limits)


NATIVE = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": [
    {"metric": {"a": "b"}, "histograms": [[1, {"count": "2", "sum": "3", "buckets": [[0, "1", "2", "1"], [0, "2", "4", "1"]]}]]},
]}}).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("body", "beside", "heavy"), [(GOOD, 91, False), (GOOD, 92, True), (NATIVE, 97, False), (NATIVE, 98, True)]
)
async def test_what_is_held_at_once_is_bounded_whatever_holds_it(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, body: bytes, beside: int, heavy: bool
) -> None:
    monkeypatch.setattr("receivers.query_server.MOST_SAMPLES", 100)
    server = await serve(nursery, repeat(answer(200, body, JSON)))
    async with aclosing(Client()) as client:
        one = QueryServer(client, server.url, 0.5, 10**6)
        with pytest.raises(TooHeavy, match="at most 100 are taken at once") if heavy else nullcontext():
            found = await one.ask("up[1ms]", 1_500, Metrics(lambda _: 0), beside=beside)
            assert found.weight == 100 - beside


NOW = 1_800_000_000
VERSION = b'{"status":"success","data":{"version":"2.42.0"}}'


@pytest.mark.parametrize(
    ("step", "version", "ahead"),
    [
        (answer(200, VERSION, {"Date": formatdate(NOW - 60, usegmt=True)}), "2.42.0", 59_500),
        (answer(200, VERSION, {"Date": formatdate(NOW, usegmt=True)}), "2.42.0", 0),
        (answer(404, b"no", {"Date": formatdate(NOW + 60, usegmt=True)}), "", 0),
        (answer(200, VERSION, {"Date": "yesterday"}), "2.42.0", 0),
        (answer(200, b'{"data":{"version":7}}'), "", 0),
        (answer(200, b"[" * 10**5), "", 0),
        (answer(500, b"x" * 10**5), "", 0),
        (then_hang(), "", 0),
    ],
)
async def test_what_the_server_is_and_how_late_it_is_there(
    nursery: trio.Nursery, step: Step, version: str, ahead: int
) -> None:
    server = await serve(nursery, repeat(step))
    async with aclosing(Client()) as client:
        one = QueryServer(client, server.url, 0.5, 10**6, now=lambda: NOW * 10**9 + 10**9 // 2)
        assert await one.greet() == version
        assert one.ahead == ahead
