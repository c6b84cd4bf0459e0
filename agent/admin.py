"""The admin port: is it alive, is it ready, its metrics, its ledger."""

from __future__ import annotations

import json
from collections.abc import Callable

from agent.httpserver import Request, Response
from agent.ledger import Ledger

LOOPBACK = "127.0.0.1"
"""Where it listens unless told otherwise."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of Prometheus' text format."""


def parse_address(text: str) -> tuple[str, int] | None:
    """``"host:port"``, ``":port"`` (loopback), ``"[::1]:port"`` -> host and port; ``""`` -> None, which is off."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "[" in host or "]" in host:
        raise ValueError('not an address; write an IPv6 address in brackets, such as "[::1]:9464"')
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError('not an address; write one such as "127.0.0.1:9464", or "" to do without')
    return host or LOOPBACK, int(port)


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
