"""One question to Prometheus' query API, and what its failures mean.

Source: Prometheus, docs/querying/api.md; web/api/v1/api.go.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import time_ns
from typing import Any
from urllib.parse import urlencode

from ebbtide import Client, Fault, ReceiveError, Response, deadline, safe_url
from receivers.excerpt import excerpt
from receivers.matrix import Answer, AnswerReader, BadAnswer, Metrics
from receivers.policy import forbidden

LONGEST_QUERY = 2_000
"""Bytes of a question that goes into the URL; a longer one is sent as a form."""
MOST_SAMPLES = 2_000_000
"""Samples of one window at most, some 100 MB of ours, a bucket of a native histogram counting as one; more halve it."""
_EXCERPT = 64 << 10  # bytes of an error answer that are read
_SHOWN = 300  # characters of the server's own words that are shown
_TOO_HEAVY = ("execution", "timeout")
_MS = 10**6  # ns


class TooHeavy(ReceiveError):
    """The server could not answer in time, or within its bounds, or the answer is beyond ours: ask for less."""


class TooSlow(TooHeavy):
    """Nothing came in time: the server is overloaded, or it does not answer at all."""


class QueryServer:
    """``/api/v1/query`` of one server. ``ahead``: by how many ms our clock ``now`` (ns) is ahead of its own, 0 if not at all."""

    def __init__(
        self,
        client: Client,
        base: str,
        timeout: float,
        max_body: int,
        *,
        sample_limit: int = 0,
        now: Callable[[], int] = time_ns,
    ):
        self.ahead = 0
        self._client = client
        self._base = base
        self._url = base + "/api/v1/query"
        self._timeout = timeout
        self._max_body = max_body
        self._sample_limit = sample_limit
        self._now = now

    async def greet(self) -> str:
        """Return the server's version, "" where it does not tell; learn how late it is there."""
        url = self._base + "/api/v1/status/buildinfo"
        try:
            with deadline(self._timeout, url):
                async with self._client.get(url, (), {"accept": "application/json"}) as response:
                    self._note_time(response)
                    body = await response.read(_EXCERPT)
            version = json.loads(body)["data"]["version"]
        except (Fault, ValueError, KeyError, TypeError, RecursionError):
            return ""
        return version[:40] if isinstance(version, str) else ""

    async def ask(self, query: str, time: int, metrics: Metrics, *, beside: int = 0) -> Answer:
        """Return the answer to ``query`` at ``time`` (ms), read as it comes. Raises ReceiveError, TooHeavy among them.

        ``beside``: the weight of other answers, which are kept together with this one.
        """
        reader = AnswerReader(metrics)
        where = safe_url(self._url)
        params = [("query", query), ("time", f"{time / 1000:.3f}"), ("timeout", f"{self._timeout:.3f}")]
        try:
            with deadline(self._timeout, self._url):
                async with self._question(params) as response:
                    where = response.url
                    self._note_time(response)
                    if response.status != 200:
                        raise await _refusal(response)
                    async for chunk in response.chunks(self._max_body):
                        reader.feed(chunk)
                        self._check(reader, beside, where)
            answer = reader.finish()
            self._check(reader, beside, where)
        except BadAnswer as bad:
            raise ReceiveError(f"cannot read the answer of {where}: {bad}; check `url`") from bad
        except Fault as fault:
            kinds = {"timeout": TooSlow, "too_large": TooHeavy}
            raise kinds.get(fault.kind, ReceiveError)(str(fault)) from fault
        if answer.status != "success":
            raise _failure(where, 200, answer.error_type, answer.error)
        return answer

    def _check(self, reader: AnswerReader, beside: int, where: str) -> None:
        samples, limit = reader.samples, self._sample_limit
        if limit and samples > limit:
            raise TooHeavy(
                f"cannot take the answer of {where}: it has {samples} samples or more, sample_limit is {limit}"
            )
        if (weight := reader.weight + beside) > MOST_SAMPLES:
            raise TooHeavy(
                f"cannot take the answer of {where}: it has {samples} samples or more, with their buckets and the answers "
                f"beside it {weight}, at most {MOST_SAMPLES} are taken at once"
            )

    def _note_time(self, response: Response) -> None:
        """Compare clocks by the answer's ``Date``, which leaves out the fraction of the second."""
        try:
            date = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
        except (ValueError, TypeError, OverflowError):
            return
        self.ahead = max(self._now() // _MS - round(date * 1000) - 1000, 0)

    @asynccontextmanager
    async def _question(self, params: list[tuple[str, str]]) -> AsyncIterator[Response]:
        accept = {"accept": "application/json"}
        short = len(urlencode(params)) <= LONGEST_QUERY
        exchange = self._client.get if short else self._client.post_form
        async with exchange(self._url, params, accept) as response:
            yield response


async def _refusal(response: Response) -> ReceiveError:
    """Return what an answer that is not 200 means."""
    body = await excerpt(response, _EXCERPT)
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
    if kind in _TOO_HEAVY or status == 504:
        return TooHeavy(f"cannot query {where}: {said}; correct the query, ask for less, or raise the server's limits")
    if status in (400, 422):
        return ReceiveError(f"cannot query {where}: {said}; correct `match` or `queries`")
    if status in (401, 403):
        return ReceiveError(
            f"cannot query {where}: {said}; check bearer_token, basic_auth or tls, and what the server allows"
        )
    if status == 404:
        return ReceiveError(f"cannot query {where}: {said}; `url` must be the base URL of a Prometheus server")
    if status == 429:
        return ReceiveError(f"cannot query {where}: {said}; ask less often, by a longer interval")
    if status >= 500:
        return ReceiveError(f"cannot query {where}: {said}; look into the server's own log, polling goes on")
    return ReceiveError(f"cannot query {where}: {said}; check `url`")
