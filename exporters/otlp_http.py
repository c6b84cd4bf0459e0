"""Sending OTLP requests over HTTP."""

from __future__ import annotations

import time

from ebbtide import (
    Client,
    Fault,
    Payload,
    Rejected,
    Retry,
    Secret,
    Tls,
    safe_url,
)
from exporters.otlp_answers import judge_http


class HttpSender:
    """One destination: POSTs sealed bodies over kept connections and judges the answers."""

    def __init__(
        self,
        url: str,
        *,
        content_type: str,
        content_encoding: str,
        headers: dict[str, Secret],
        tls: Tls,
        timeout: float,
        max_response: int,
        user_agent: str,
        proxy: str | None = None,
    ):
        self.where = safe_url(url)
        self._url = url
        self._headers = {"content-type": content_type}
        if content_encoding:
            self._headers["content-encoding"] = content_encoding
        self._timeout = timeout
        self._max_response = max_response
        self._client = Client(
            headers=headers,
            tls=tls,
            proxy=proxy,
            connect_timeout=timeout,
            user_agent=user_agent,
        )

    async def send(self, payload: Payload) -> str | None:
        """Send one request; return a sentence to warn of, if any. Raises ``Retry``, ``Rejected``, ``TooLarge``."""
        try:
            answer = await self._client.post(self._url, payload.body, self._headers, self._max_response, self._timeout)
        except Fault as fault:
            if fault.kind == "too_large":  # the specification: a failure that is not to be retried
                raise Rejected(None, str(fault)) from fault
            raise Retry(None, str(fault)) from fault
        warning = judge_http(answer.status, answer.headers, answer.body, payload.points, self.where, time.time())
        return f"{answer.fault}; it is taken for success, as its status says" if answer.fault else warning

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
