"""One question to Prometheus' query API, and what its failures mean.

Source: Prometheus, docs/querying/api.md; web/api/v1/api.go.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from ebbtide import Client, Fault, ReceiveError, Response, deadline, safe_url
from receivers.matrix import Answer, AnswerReader, BadAnswer, Metrics
from receivers.policy import forbidden

LONGEST_QUERY = 2_000
"""Bytes of a question that goes into the URL; a longer one is sent as a form."""
_EXCERPT = 64 << 10  # bytes of an error answer that are read
_SHOWN = 300  # characters of the server's own words that are shown
_TOO_HEAVY = ("execution", "timeout")


class TooHeavy(ReceiveError):
    """The server could not answer in time, or within its bounds, or the answer is beyond ours: ask for less."""


class QueryServer:
    """``/api/v1/query`` of one server."""

    def __init__(self, client: Client, base: str, timeout: float, max_body: int, most_samples: int):
        self._client = client
        self._url = base + "/api/v1/query"
        self._timeout = timeout
        self._max_body = max_body
        self._most_samples = most_samples

    async def ask(self, query: str, time: int, metrics: Metrics) -> Answer:
        """Return the answer to ``query`` at ``time`` (ms), read as it comes. Raises ReceiveError, TooHeavy among them."""
        reader = AnswerReader(metrics)
        where = safe_url(self._url)
        try:
            with deadline(self._timeout, self._url):
                async with self._question([("query", query), ("time", f"{time / 1000:.3f}")]) as response:
                    where = response.url
                    if response.status != 200:
                        raise await _refusal(response)
                    async for chunk in response.chunks(self._max_body):
                        reader.feed(chunk)
                        if reader.samples > self._most_samples:
                            raise TooHeavy(
                                f"cannot take the answer of {where}: it has more than {self._most_samples} samples"
                            )
            answer = reader.finish()
        except BadAnswer as bad:
            raise ReceiveError(f"cannot read the answer of {where}: {bad}; check `url`") from bad
        except Fault as fault:
            raise (TooHeavy if fault.kind in ("timeout", "too_large") else ReceiveError)(str(fault)) from fault
        if answer.status != "success":
            raise _failure(where, 200, answer.error_type, answer.error)
        return answer

    @asynccontextmanager
    async def _question(self, params: list[tuple[str, str]]) -> AsyncIterator[Response]:
        accept = {"accept": "application/json"}
        short = len(urlencode(params)) <= LONGEST_QUERY
        exchange = self._client.get if short else self._client.post_form
        async with exchange(self._url, params, accept) as response:
            yield response


async def _refusal(response: Response) -> ReceiveError:
    """Return what an answer that is not 200 means."""
    body = await _excerpt(response)
    try:
        tree: Any = json.loads(body)
        kind, error = str(tree["errorType"]), str(tree["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        if response.status == 403 and "prometheus" not in body.lower():
            return ReceiveError(forbidden(response.url))
        return _failure(response.url, response.status, "", " ".join(body.split()))
    return _failure(response.url, response.status, kind, error)


def _failure(where: str, status: int, kind: str, error: str) -> ReceiveError:
    said = f"the server answered {status}" + (f", {error[:_SHOWN]!r}" if error else "")
    if kind in _TOO_HEAVY:
        return TooHeavy(f"cannot query {where}: {said}; ask for less, or raise the server's limits")
    if status in (400, 422):
        return ReceiveError(f"cannot query {where}: {said}; correct `match` or `queries`")
    if status in (401, 403):
        return ReceiveError(
            f"cannot query {where}: {said}; check bearer_token, basic_auth or tls, and what the server allows"
        )
    if status == 404:
        return ReceiveError(f"cannot query {where}: {said}; `url` must be the base URL of a Prometheus server")
    if status >= 500:
        return ReceiveError(f"cannot query {where}: {said}; look into the server's own log, polling goes on")
    return ReceiveError(f"cannot query {where}: {said}; check `url`")


async def _excerpt(response: Response) -> str:
    """Return how the body of an error answer begins; as much of it as came, where it breaks off."""
    body = b""
    try:
        async for chunk in response.chunks(_EXCERPT):
            body += chunk
    except Fault:  # the status says enough
        pass
    return body[:_EXCERPT].decode(errors="replace")
