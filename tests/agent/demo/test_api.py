"""What the demo answers over HTTP, without a socket."""

import gzip
import json
from urllib.parse import parse_qsl

import pytest

from agent.demo.api import DemoApi
from agent.demo.mesh import Mesh
from agent.demo.storage import Storage
from agent.httpserver import Request, Response

PROXIES = '{job="linkerd-proxy"}'


@pytest.fixture
def ask(mesh: Mesh, storage: Storage, origin: float):
    api = DemoApi(mesh, storage, clock=lambda: origin + 100.5)

    async def ask(
        path: str, *query: tuple[str, str], method: str = "GET", body: bytes = b"", **headers: str
    ) -> Response:
        pairs = [(key.replace("_", "-"), value) for key, value in headers.items()]
        return await api(Request(method, path, list(query), pairs, body))

    return ask


def data(response: Response):
    answer = json.loads(response.body)
    assert (response.status, response.content_type, answer["status"]) == (200, "application/json", "success")
    return answer["data"]


@pytest.mark.parametrize(
    ("accepted", "zipped"),
    [("gzip", True), ("deflate, gzip;q=0", True), ("x-gzip", True), ("GZIP", False), ("", False)],
)
async def test_a_proxys_page_is_zipped_wherever_the_word_stands(
    ask, mesh: Mesh, origin: float, accepted: str, zipped: bool
) -> None:
    response = await ask("/proxies/0/metrics", accept_encoding=accepted)
    assert (response.status, response.content_type) == (200, "text/plain")
    assert dict(response.headers).get("Content-Encoding") == ("gzip" if zipped else None)
    page = gzip.decompress(response.body) if zipped else response.body
    assert page == mesh.page(mesh.targets[0], origin + 100.5)


@pytest.mark.parametrize("path", ["/nothing", "/proxies/999/metrics", "/proxies/x/metrics", "/api/v1/nothing"])
async def test_unknown_paths(ask, path: str) -> None:
    assert (await ask(path)).status == 404


async def test_federate_without_a_selector_is_empty(ask) -> None:
    response = await ask("/federate")
    assert (response.status, response.body) == (200, b"")


async def test_federate_joins_its_selectors(ask) -> None:
    both = await ask("/federate", ("match[]", PROXIES), ("match[]", '{job="linkerd-controller"}'), ("match[]", "up"))
    assert both.content_type.startswith("text/plain; version=0.0.4")
    assert b"# TYPE go_gc_duration_seconds untyped" in both.body
    assert b"# TYPE request_total untyped" in both.body
    assert both.body.count(b"\nup{") == 23


@pytest.mark.parametrize(("accepted", "zipped"), [("br, gzip", True), ("x-gzip", False)])
async def test_prometheus_zips_for_the_word_alone(ask, accepted: str, zipped: bool) -> None:
    response = await ask("/federate", ("match[]", "up"), accept_encoding=accepted)
    body = gzip.decompress(response.body) if zipped else response.body
    assert body.startswith(b"# TYPE up untyped\n")


@pytest.mark.parametrize("text", ["x{", "rate(x[5m])", "up[5m]", "{}"])
async def test_bad_selectors_are_refused_in_plain_text(ask, text: str) -> None:
    response = await ask("/federate", ("match[]", "up"), ("match[]", text))
    assert response.status == 400
    assert response.content_type.startswith("text/plain")
    assert b"parse error" in response.body


async def test_instant_queries_carry_the_time_of_the_evaluation(ask, origin: float) -> None:
    answer = data(await ask("/api/v1/query", ("query", "up"), ("time", str(origin - 1000.25))))
    assert answer["resultType"] == "vector"
    assert {item["value"][0] for item in answer["result"]} == {origin - 1000.25}
    assert len(answer["result"]) == 23


async def test_range_queries_give_raw_samples_by_get_and_post(ask, origin: float) -> None:
    answer = data(await ask("/api/v1/query", ("query", PROXIES + "[35s]"), ("time", str(origin))))
    form = f"query=request_total%5B35s%5D&time={origin}".encode()
    posted = data(
        await ask("/api/v1/query", method="POST", body=form, content_type="application/x-www-form-urlencoded")
    )
    assert answer["resultType"] == posted["resultType"] == "matrix"
    assert all(origin - 35 <= time <= origin for series in answer["result"] for time, _ in series["values"])
    found = [series for series in answer["result"] if series["metric"]["__name__"] == "request_total"]
    assert sorted(map(str, found)) == sorted(map(str, posted["result"]))
    assert max(len(series["values"]) for series in found) in (3, 4)


async def test_nothing_is_known_of_the_future_or_before_history(ask, origin: float) -> None:
    for time in (origin + 500, origin - 4000, 0, 1e300, -1e300):
        assert data(await ask("/api/v1/query", ("query", "up"), ("time", str(time))))["result"] == []
    near = data(await ask("/api/v1/query", ("query", "up"), ("time", str(origin + 300))))
    assert len(near["result"]) == 23


async def test_times_may_be_rfc_3339(ask) -> None:
    answer = data(await ask("/api/v1/query", ("query", "up"), ("time", "2027-01-15T08:00:00Z")))
    assert {item["value"][0] for item in answer["result"]} == {1_800_000_000}


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [("query=rate(x[5m])", 400, "bad_data"), ("", 400, "bad_data"), ("query=up&time=noon", 400, "bad_data"),
     ("query=up&time=nan", 400, "bad_data")],
)  # fmt: skip
async def test_errors_have_the_api_s_own_form(ask, query: str, status: int, kind: str) -> None:
    response = await ask("/api/v1/query", *parse_qsl(query))
    answer = json.loads(response.body)
    assert (response.status, answer["status"], answer["errorType"]) == (status, "error", kind)
    assert answer["error"]


async def test_too_many_samples_are_refused(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.demo.api.MAX_SAMPLES", 100)
    response = await ask("/api/v1/query", ("query", "up[1h]"))
    assert response.status == 422
    assert json.loads(response.body)["errorType"] == "execution"


async def test_metadata_is_keyed_by_the_name_on_the_type_line(ask) -> None:
    found = data(await ask("/api/v1/metadata"))
    assert found["request_total"] == [{"type": "counter", "help": "Total count of HTTP requests.", "unit": ""}]
    assert found["process_cpu_seconds"][0]["type"] == "counter"
    assert "outbound_http_route_request_statuses_total" not in found
    assert found["go_gc_duration_seconds"][0]["type"] == "summary"
    assert len(found["process_max_fds"]) == 2  # the proxy's HELP and Go's
    assert data(await ask("/api/v1/metadata", ("metric", "up"))) == {}
    assert list(data(await ask("/api/v1/metadata", ("metric", "request_total")))) == ["request_total"]
    assert len(data(await ask("/api/v1/metadata", ("limit", "3")))) == 3


async def test_metadata_by_target(ask) -> None:
    query = ("match_target", '{component="identity"}')
    found = data(await ask("/api/v1/targets/metadata", query))
    assert {item["target"]["component"] for item in found} == {"identity"}
    assert {"metric", "type", "help", "unit", "target"} == set(found[0])
    bad = await ask("/api/v1/targets/metadata", ("match_target", "{"))
    assert (bad.status, json.loads(bad.body)["errorType"]) == (400, "bad_data")


async def test_targets(ask) -> None:
    active = data(await ask("/api/v1/targets", host="127.0.0.1:1234"))["activeTargets"]
    assert len(active) == 23
    assert active[0]["scrapeUrl"] == "http://127.0.0.1:1234/proxies/0/metrics"
    assert active[0]["labels"]["job"] == active[0]["scrapePool"] == "linkerd-proxy"
    assert active[0]["discoveredLabels"]["__meta_kubernetes_namespace"] == "shop"
    assert {target["health"] for target in active} <= {"up", "down"}


async def test_the_rest(ask) -> None:
    assert data(await ask("/api/v1/status/buildinfo"))["version"].startswith("2.55")
    assert (await ask("/-/ready")).status == 200
    assert b"simulated" in (await ask("/")).body
    assert (await ask("/federate", method="DELETE")).status == 405
    assert (await ask("/federate", method="HEAD")).status == 200
