"""The demo's HTTP side: pages of the simulated processes, and a small Prometheus beside them.

What it answers, and the form of its errors, follow Prometheus 2.55 (web/federate.go, web/api/v1/api.go). It knows
selectors, not PromQL, and says so.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from agent.demo.answers import federate_text, matrix_json, vector_json
from agent.demo.mesh import Mesh, Target
from agent.demo.query import parse_query
from agent.demo.storage import LOOKBACK_MS, Samples, Selection, Storage
from agent.httpserver import Request, Response
from agent.inflate import fast_zlib
from agent.selectors import Selector, SelectorError, parse_selector

MAX_SAMPLES = 50_000_000
"""Samples one query may load (``query.max-samples``)."""
VERSION = "2.55.1"

_TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=values"
_JSON_TYPE = "application/json"
_GZIP_LEVEL = 1
_TIME_LIMIT_MS = 2**53  # far beyond all history, and still exact


class BadQueryError(Exception):
    """A query that is answered with an error of the API's own form."""

    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.kind, self.reason = status, kind, reason


class DemoApi:
    """Answers requests; ``clock`` returns seconds since the epoch."""

    def __init__(self, mesh: Mesh, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        self.mesh, self.storage, self._clock = mesh, storage, clock
        self._pages = {target.path: target for target in mesh.targets}
        self._routes: dict[str, Callable[[Request], Response]] = {
            "/": self._index,
            "/federate": self._federate,
            "/api/v1/query": self._query,
            "/api/v1/metadata": self._metadata,
            "/api/v1/targets": self._targets,
            "/api/v1/targets/metadata": self._targets_metadata,
            "/api/v1/status/buildinfo": self._buildinfo,
            "/-/ready": lambda request: Response(200, b"Prometheus Server is Ready.\n"),
            "/-/healthy": lambda request: Response(200, b"Prometheus Server is Healthy.\n"),
        }

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        target = self._pages.get(request.path)
        if target is not None:
            return self._page(target, request)
        route = self._routes.get(request.path)
        if route is None:
            return Response(404, b"404 page not found\n")
        if request.method not in ("GET", "HEAD") and not (request.method == "POST" and request.path == "/api/v1/query"):
            return Response(405, b"Method Not Allowed\n", headers=(("Allow", "GET, HEAD"),))
        try:
            return _zipped(route(request), request)
        except BadQueryError as error:
            body = {"status": "error", "errorType": error.kind, "error": error.reason}
            return Response(error.status, json.dumps(body).encode(), _JSON_TYPE)

    def page_alone(self, target: Target) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers at a pod's own port: its page, at the path that every proxy has."""

        async def handle(request: Request) -> Response:
            if request.path != "/metrics":
                return Response(404, b"")
            return self._page(target, request)

        return handle

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _page(self, target: Target, request: Request) -> Response:
        body = self.mesh.page(target, self._clock())
        if body is None:
            return Response(503, b"the simulated process is restarting\n", "text/plain")
        if not target.openmetrics_tail:
            return _zipped(Response(200, body, "text/plain; version=0.0.4; charset=utf-8"), request)
        if "gzip" not in request.header("accept-encoding"):  # as the proxy has it: wherever the word stands
            return Response(200, body, "text/plain")
        return Response(200, _gzip(body), "text/plain", (("Content-Encoding", "gzip"),))

    def _index(self, request: Request) -> Response:
        lines = ["ebbtide demo: a simulated mesh. Nothing here is real.", "", '/federate?match[]={job="linkerd-proxy"}']
        return Response(200, "\n".join([*lines, *self._routes, *self._pages, ""]).encode())

    def _federate(self, request: Request) -> Response:
        try:
            selectors = tuple(parse_selector(text) for key, text in request.query if key == "match[]")
        except SelectorError as error:
            return Response(400, f"{error}\n".encode(), headers=(("X-Content-Type-Options", "nosniff"),))
        body = b"" if not selectors else federate_text(self.storage, self.storage.select(selectors), self._now_ms())
        return Response(200, body, _TEXT_TYPE)

    def _query(self, request: Request) -> Response:
        parameters = dict(reversed(request.parameters()))
        at_ms = _time_ms(parameters.get("time"), self._now_ms())
        try:
            query = parse_query(parameters.get("query", ""))
        except SelectorError as error:
            raise BadQueryError(400, "bad_data", f'invalid parameter "query": {error}') from error
        selection = self.storage.select((query.selector,))
        if query.range_ms is None:
            data = vector_json(selection, self._newest(selection, at_ms), at_ms)
        else:
            data = matrix_json(selection, self._window(selection, at_ms - query.range_ms, at_ms))
        return Response(200, f'{{"status":"success","data":{data}}}'.encode(), _JSON_TYPE)

    def _newest(self, selection: Selection, at_ms: int) -> Samples:
        samples = self.storage.samples(selection, self.storage.last_scrapes(min(at_ms, self._now_ms())))
        samples.there &= (at_ms - samples.times <= LOOKBACK_MS)[selection.targets]
        return samples

    def _window(self, selection: Selection, from_ms: int, to_ms: int) -> Samples:
        to_seen = min(to_ms, self._now_ms())
        scrapes = (to_seen - max(from_ms, self.storage.oldest_ms)) // self.storage.interval_ms + 1
        if scrapes * len(selection.rows) > MAX_SAMPLES:
            raise BadQueryError(
                422, "execution", "query processing would load too many samples into memory in query execution"
            )
        times = self.storage.scrapes(from_ms, to_seen)
        samples = self.storage.samples(selection, times)
        samples.there &= ((times >= from_ms) & (times <= to_ms))[selection.targets]
        return samples

    def _metadata(self, request: Request) -> Response:
        parameters = dict(request.query)
        wanted, limit = parameters.get("metric", ""), _count(parameters, "limit")
        found: dict[str, list[dict[str, str]]] = {}
        for index in range(len(self.mesh.targets)):
            for block in self.storage.families(index, self._now_ms()):
                family = block.family
                entry = {"type": family.kind, "help": family.help, "unit": ""}
                if wanted in ("", family.name) and entry not in found.setdefault(family.name, []):
                    found[family.name].append(entry)
        return _json(dict(sorted(found.items())[:limit]))

    def _targets_metadata(self, request: Request) -> Response:
        parameters = dict(request.query)
        wanted, limit = parameters.get("metric", ""), _count(parameters, "limit")
        selector = _parameter_selector("match_target", parameters.get("match_target", ""))
        found = []
        for index, target in enumerate(self.mesh.targets):
            if selector is None or selector.matches(target.labels):
                for block in self.storage.families(index, self._now_ms()):
                    family = block.family
                    named = {} if wanted else {"metric": family.name}
                    if wanted in ("", family.name):
                        entry = {"target": target.labels, **named, "type": family.kind, "help": family.help, "unit": ""}
                        found.append(entry)
        return _json(found[:limit])

    def _targets(self, request: Request) -> Response:
        times = self.storage.last_scrapes(self._now_ms())
        health = self.storage.health(times)[:, 0]
        host = request.header("host") or "127.0.0.1"
        active = [
            self._target(target, host, int(times[index, 0]), bool(health[index]))
            for index, target in enumerate(self.mesh.targets)
        ]
        return _json({"activeTargets": active, "droppedTargets": [], "droppedTargetCounts": {}})

    def _target(self, target: Target, host: str, scraped_ms: int, up: bool) -> dict[str, object]:
        interval = f"{self.mesh.options.scrape_interval:g}s"
        url = f"http://{host}{target.path}"
        discovered = {
            "__address__": host, "__metrics_path__": target.path, "__scheme__": "http",
            "__scrape_interval__": interval, "__scrape_timeout__": interval, **target.discovered,
        }  # fmt: skip
        return {
            "discoveredLabels": discovered, "labels": target.labels, "scrapePool": target.labels["job"],
            "scrapeUrl": url, "globalUrl": url,
            "lastError": "" if up else "server returned HTTP status 503 Service Unavailable",
            "lastScrape": datetime.fromtimestamp(scraped_ms / 1000, UTC).isoformat().replace("+00:00", "Z"),
            "lastScrapeDuration": 0.004, "health": "up" if up else "down",
            "scrapeInterval": interval, "scrapeTimeout": interval,
        }  # fmt: skip

    def _buildinfo(self, request: Request) -> Response:
        return _json({"version": VERSION, "revision": "simulation", "branch": "ebbtide-demo", "buildUser": "",
                      "buildDate": "", "goVersion": ""})  # fmt: skip


def _parameter_selector(name: str, text: str) -> Selector | None:
    try:
        return parse_selector(text) if text else None
    except SelectorError as error:
        raise BadQueryError(400, "bad_data", f'invalid parameter "{name}": {error}') from error


def _count(parameters: dict[str, str], name: str) -> int | None:
    text = parameters.get(name)
    if text is None:
        return None
    try:
        return None if int(text) < 0 else int(text)
    except ValueError:
        raise BadQueryError(400, "bad_data", f"{name} must be a number") from None


def _time_ms(text: str | None, now_ms: int) -> int:
    """Read a time as Prometheus does: seconds with decimals, or RFC 3339."""
    if not text:
        return now_ms
    try:
        return max(-_TIME_LIMIT_MS, min(round(float(text) * 1000), _TIME_LIMIT_MS))
    except (ValueError, OverflowError):
        pass
    try:
        parsed = datetime.fromisoformat(text)
        return round(parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp() * 1000)
    except ValueError:
        reason = f'invalid parameter "time": cannot parse "{text}" to a valid timestamp'
        raise BadQueryError(400, "bad_data", reason) from None


def _json(data: object) -> Response:
    body = json.dumps({"status": "success", "data": data}, separators=(",", ":"), ensure_ascii=False)
    return Response(200, body.encode(), _JSON_TYPE)


def _gzip(body: bytes) -> bytes:
    packer = fast_zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    packed: bytes = packer.compress(body) + packer.flush()
    return packed


def _zipped(response: Response, request: Request) -> Response:
    """Compress where the client lists gzip; like Prometheus 2, without understanding ``q``."""
    accepted = [item.strip() for item in request.header("accept-encoding").split(",")]
    if "gzip" not in accepted or not response.body:
        return response
    headers = (*response.headers, ("Content-Encoding", "gzip"))
    return Response(response.status, _gzip(response.body), response.content_type, headers)
