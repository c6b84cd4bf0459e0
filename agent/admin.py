"""The admin port: is it alive, is it ready, its metrics, its ledger."""

from __future__ import annotations

import json
from collections.abc import Callable

from agent.httpserver import Request, Response
from agent.ledger import Ledger

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of Prometheus' text format."""


class Admin:
    """Answers the requests of the admin port."""

    def __init__(self, ledger: Ledger, ready: Callable[[], bool], metrics: Callable[[], str]):
        self._answers: dict[str, Callable[[], Response]] = {
            "/healthz": lambda: Response(200, b"ok\n"),
            "/readyz": lambda: Response(200, b"ready\n") if ready() else Response(503, b"not ready\n"),
            "/metrics": lambda: Response(200, metrics().encode(), METRICS_TYPE),
            "/ledger": lambda: Response(200, json.dumps(ledger.as_dict()).encode() + b"\n", "application/json"),
        }

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        answer = self._answers.get(request.path)
        if answer is None:
            return Response(404, f"not found; there are {', '.join(self._answers)}\n".encode())
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"only GET is served here\n", headers=(("Allow", "GET, HEAD"),))
        return answer()
